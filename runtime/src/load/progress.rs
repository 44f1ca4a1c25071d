//! How the load is doing while it runs.

use std::collections::VecDeque;

use super::record::{Counts, Outcome, Record};

/// Seconds behind the recent numbers.
const RECENT_S: usize = 10;

/// The load at one second.
#[derive(Clone, Debug, Default)]
pub struct Progress {
    /// Seconds since the load began.
    pub elapsed_s: f64,
    /// Seconds it will take.
    pub duration_s: f64,
    /// One entry per tenant, in the plan's order.
    pub tenants: Vec<TenantProgress>,
}

/// One tenant at one second.
#[derive(Clone, Debug, Default)]
pub struct TenantProgress {
    /// Name.
    pub tenant: String,
    /// Requests that ended so far.
    pub total: Counts,
    /// Requests sent and not ended.
    pub in_flight: u64,
    /// Requests sent in the last second.
    pub sent_rps: u64,
    /// SLO attainment of the last 10 s; `None` without requests.
    pub slo_attainment: Option<f64>,
    /// Accuracy of the last 10 s; `None` without answers.
    pub accuracy: Option<f64>,
    /// 99th percentile of the last second's answers, milliseconds.
    pub p99_ms: Option<f64>,
}

/// Counts while the load runs.
#[derive(Debug, Default)]
pub(super) struct Live {
    total: Counts,
    sent: u64,
    sent_before: u64,
    /// The last seconds, the current one last.
    recent: VecDeque<Counts>,
    latencies_us: Vec<u32>,
}

impl Live {
    /// One request has been sent.
    pub(super) fn sent(&mut self) {
        self.sent += 1;
    }

    /// One request has ended.
    pub(super) fn ended(&mut self, record: &Record) {
        self.total.add(record);
        if self.recent.is_empty() {
            self.recent.push_back(Counts::default());
        }
        if let Some(current) = self.recent.back_mut() {
            current.add(record);
        }
        if matches!(record.outcome, Outcome::Ok | Outcome::Late) {
            self.latencies_us.push(record.latency_us);
        }
    }

    /// Requests sent and not ended.
    pub(super) fn in_flight(&self) -> u64 {
        self.sent - self.total.requests
    }

    /// What the last second was like; begins the next.
    pub(super) fn tick(&mut self, tenant: &str) -> TenantProgress {
        let sum = |part: fn(&Counts) -> u64| self.recent.iter().map(part).sum::<u64>();
        let ratio = |part: u64, whole: u64| (whole > 0).then(|| part as f64 / whole as f64);
        self.latencies_us.sort_unstable();
        let index = (self.latencies_us.len() * 99).div_ceil(100).saturating_sub(1);
        let progress = TenantProgress {
            tenant: tenant.to_owned(),
            total: self.total,
            in_flight: self.in_flight(),
            sent_rps: self.sent - self.sent_before,
            slo_attainment: ratio(sum(|c| c.ok), sum(|c| c.requests)),
            accuracy: ratio(sum(|c| c.correct), sum(Counts::answered)),
            p99_ms: self.latencies_us.get(index).map(|&us| f64::from(us) / 1e3),
        };
        self.sent_before = self.sent;
        self.latencies_us.clear();
        self.recent.push_back(Counts::default());
        if self.recent.len() > RECENT_S {
            self.recent.pop_front();
        }
        progress
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(outcome: Outcome) -> Record {
        Record { intended_us: 0, latency_us: 2000, lag_us: 0, outcome, correct: outcome.answered() }
    }

    #[test]
    fn recent_numbers_forget_and_totals_do_not() {
        let mut live = Live::default();
        live.sent();
        live.sent();
        live.ended(&record(Outcome::Ok));
        let first = live.tick("t");
        assert_eq!((first.sent_rps, first.in_flight, first.slo_attainment, first.p99_ms), (2, 1, Some(1.0), Some(2.0)));
        live.ended(&record(Outcome::Lost));
        assert_eq!(live.tick("t").slo_attainment, Some(0.5));
        let last = (0..RECENT_S).map(|_| live.tick("t")).last().unwrap();
        assert_eq!((last.slo_attainment, last.total.requests, last.p99_ms), (None, 2, None));
    }
}
