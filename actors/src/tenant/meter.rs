//! One tenant's series.

use std::time::Duration;

use metrics::{Counter, Gauge, Histogram, counter, gauge, histogram};
use migrator_machine::tenant::{Accuracy, Answer, Drift, ShedReason, Telemetry, Totals};

/// Handles of a tenant's series, so that an answer costs no look-up.
pub(super) struct Meter {
    ok: Counter,
    late: Counter,
    error: Counter,
    shed: [Counter; 4],
    latency: Histogram,
    queue_depth: Gauge,
    arrival_rps: Gauge,
    slo_attainment: Gauge,
    accuracy: Gauge,
    accuracy_low: Gauge,
    accuracy_high: Gauge,
    output_drift: Gauge,
    confidence_change: Gauge,
    goodput: Gauge,
    good: Counter,
    service_ratio: Gauge,
    mean_batch: Gauge,
    version: Gauge,
    hedges: Rising,
    hedges_won: Rising,
}

/// A counter of what is told as a total that begins at 0 whenever a tenant of this name comes, and must not run backwards then.
struct Rising {
    counter: Counter,
    told: u64,
}

impl Rising {
    fn new(counter: Counter) -> Rising {
        Rising { counter, told: 0 }
    }

    fn tell(&mut self, total: u64) {
        self.counter.increment(total.saturating_sub(self.told));
        self.told = total;
    }
}

impl Meter {
    pub fn new(tenant: &str) -> Meter {
        let outcome = |outcome: &'static str, reason: &'static str| counter!("migrator_requests_total", "tenant" => tenant.to_owned(), "outcome" => outcome, "reason" => reason);
        let series = |name: &'static str| gauge!(name, "tenant" => tenant.to_owned());
        Meter {
            ok: outcome("ok", ""),
            late: outcome("late", ""),
            error: outcome("error", ""),
            shed: [ShedReason::QueueFull, ShedReason::Deadline, ShedReason::NoInstance, ShedReason::Closing]
                .map(|reason| outcome("shed", reason.text())),
            latency: histogram!("migrator_request_seconds", "tenant" => tenant.to_owned()),
            queue_depth: series("migrator_queue_depth"),
            arrival_rps: series("migrator_arrival_rps"),
            slo_attainment: series("migrator_slo_attainment"),
            accuracy: series("migrator_accuracy"),
            accuracy_low: series("migrator_accuracy_low"),
            accuracy_high: series("migrator_accuracy_high"),
            output_drift: series("migrator_output_drift"),
            confidence_change: series("migrator_confidence_change"),
            goodput: series("migrator_goodput_ratio"),
            good: counter!("migrator_goodput_millirequests_total", "tenant" => tenant.to_owned()),
            service_ratio: series("migrator_service_time_ratio"),
            mean_batch: series("migrator_batch_rows_mean"),
            version: series("migrator_model_version"),
            hedges: Rising::new(counter!("migrator_hedges_total", "tenant" => tenant.to_owned())),
            hedges_won: Rising::new(counter!("migrator_hedges_won_total", "tenant" => tenant.to_owned())),
        }
    }

    pub fn answered(&self, answer: &Answer, took: Duration) {
        match answer {
            Answer::Served { late, .. } => {
                if *late { &self.late } else { &self.ok }.increment(1);
                self.latency.record(took.as_secs_f64());
            }
            Answer::Shed { reason, .. } => self.shed[*reason as usize].increment(1),
            Answer::WorkerLost | Answer::Failed => self.error.increment(1),
        }
    }

    pub fn version(&self, version: u32) {
        self.version.set(f64::from(version));
    }

    pub fn second(&mut self, second: &Telemetry, totals: &Totals, accuracy: Option<Accuracy>) {
        self.hedges.tell(totals.hedged);
        self.hedges_won.tell(totals.hedges_won);
        self.queue_depth.set(second.queue_depth as f64);
        self.arrival_rps.set(second.arrivals as f64 / second.seconds.max(0.1));
        self.service_ratio.set(second.service_ratio);
        self.mean_batch.set(second.mean_batch);
        let drift = second.drift.unwrap_or(Drift { distance: 0.0, confidence: 0.0 });
        self.output_drift.set(drift.distance);
        self.confidence_change.set(drift.confidence);
        let attainment = crate::meter::attainment(totals);
        self.slo_attainment.set(attainment);
        if let Some(accuracy) = accuracy {
            self.accuracy.set(accuracy.value);
            let (low, high) = accuracy.interval();
            self.accuracy_low.set(low);
            self.accuracy_high.set(high);
            self.goodput.set(attainment * accuracy.value);
            // A counter of correct answers cannot run backwards when the accuracy falls: it adds up second by second.
            self.good.increment((second.ok as f64 * accuracy.value * 1000.0) as u64);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicU64, Ordering};

    use super::*;

    #[test]
    fn a_tenant_that_comes_again_counts_on() {
        let series = Arc::new(AtomicU64::new(0));
        let come = || Rising::new(Counter::from_arc(Arc::clone(&series)));
        let mut first = come();
        [3, 3, 5].into_iter().for_each(|total| first.tell(total));
        assert_eq!(series.load(Ordering::Relaxed), 5);
        come().tell(2);
        assert_eq!(series.load(Ordering::Relaxed), 7);
    }
}
