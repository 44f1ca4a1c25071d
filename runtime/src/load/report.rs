//! What came of a load: numbers per tenant, as a table for people and as JSON.

use std::fmt;

use serde::Serialize;

use super::plan::LoadPlan;
use super::record::{Counts, Latency, Record};
use super::target::Reconfiguration;

/// What came of a load.
#[derive(Clone, Debug, Serialize)]
pub struct LoadReport {
    /// The server.
    pub url: String,
    /// Seconds in which requests were due.
    pub duration_s: f64,
    /// One entry per tenant, in the plan's order.
    pub tenants: Vec<TenantReport>,
    /// Reconfigurations during the load, as the server tells them.
    pub reconfigurations: Vec<Reconfiguration>,
    /// Every request, per tenant, by intended time.
    #[serde(skip)]
    pub records: Vec<Vec<Record>>,
}

/// One tenant's numbers.
#[derive(Clone, Debug, Serialize)]
pub struct TenantReport {
    /// Name.
    pub tenant: String,
    /// SLO, milliseconds.
    pub slo_ms: f64,
    /// Requests by outcome.
    #[serde(flatten)]
    pub counts: Counts,
    /// Requests sent per second.
    pub sent_rps: f64,
    /// Answered within the SLO ÷ requests; `None` without requests.
    pub slo_attainment: Option<f64>,
    /// True answers ÷ answers, from the labels of the samples; `None` without answers.
    pub accuracy: Option<f64>,
    /// True answers within the SLO, per second.
    pub goodput_rps: f64,
    /// Latency of the answered ones, from the intended send time.
    pub latency: Option<Latency>,
    /// The same, of requests that were in flight during a reconfiguration.
    pub during_reconfiguration: Option<Latency>,
    /// The same, of all others.
    pub rest: Option<Latency>,
    /// Requests in flight during a reconfiguration, by outcome.
    pub during_counts: Counts,
    /// 99th percentile of what the generator itself, or a lack of connections, added, milliseconds.
    pub generator_lag_p99_ms: f64,
    /// The most it added, milliseconds.
    pub generator_lag_max_ms: f64,
    /// Labelled samples that the server took.
    pub labels_taken: u64,
    /// Labelled samples that it did not.
    pub labels_refused: u64,
    /// The first error, in the server's words.
    pub first_error: Option<String>,
}

/// What a tenant's lane hands over.
pub(super) struct TenantRecords {
    pub tenant: String,
    pub slo_ms: f64,
    pub records: Vec<Record>,
    pub labels: (u64, u64),
    pub trouble: Option<String>,
}

impl LoadReport {
    pub(super) fn new(plan: &LoadPlan, lanes: Vec<TenantRecords>, reconfigurations: Vec<Reconfiguration>) -> Self {
        let last = lanes.iter().filter_map(|lane| lane.records.last()).map(|record| record.intended_us).max();
        let planned = plan.duration.as_secs_f64();
        let duration_s = if plan.stop.raised() { planned.min(last.map_or(0.0, |us| us as f64 / 1e6)) } else { planned };
        let spans = spans(&reconfigurations);
        let tenants = lanes.iter().map(|lane| TenantReport::new(lane, duration_s.max(1e-6), &spans)).collect();
        let records = lanes.into_iter().map(|lane| lane.records).collect();
        LoadReport { url: plan.url.clone(), duration_s, tenants, reconfigurations, records }
    }

    /// Requests that got no answer for another reason than overload: errors and lost ones.
    pub fn failed(&self) -> u64 {
        self.tenants.iter().map(|tenant| tenant.counts.error + tenant.counts.lost).sum()
    }
}

impl TenantReport {
    fn new(lane: &TenantRecords, duration_s: f64, spans: &[(u64, u64)]) -> Self {
        let counts: Counts = lane.records.iter().collect();
        let (during, rest): (Vec<&Record>, Vec<&Record>) = lane.records.iter().partition(|record| overlaps(record, spans));
        let mut lags: Vec<u32> = lane.records.iter().map(|record| record.lag_us).collect();
        lags.sort_unstable();
        let lag = |index: usize| lags.get(index).map_or(0.0, |&us| f64::from(us) / 1e3);
        TenantReport {
            tenant: lane.tenant.clone(),
            slo_ms: lane.slo_ms,
            counts,
            sent_rps: counts.requests as f64 / duration_s,
            slo_attainment: counts.slo_attainment(),
            accuracy: counts.accuracy(),
            goodput_rps: counts.good as f64 / duration_s,
            latency: Latency::of(&lane.records),
            during_counts: during.iter().copied().collect(),
            during_reconfiguration: Latency::of(during.iter().copied()),
            rest: Latency::of(rest.iter().copied()),
            generator_lag_p99_ms: lag((lags.len() * 99).div_ceil(100).saturating_sub(1)),
            generator_lag_max_ms: lag(lags.len().saturating_sub(1)),
            labels_taken: lane.labels.0,
            labels_refused: lane.labels.1,
            first_error: lane.trouble.clone(),
        }
    }
}

/// Begin and end of each reconfiguration, microseconds.
fn spans(reconfigurations: &[Reconfiguration]) -> Vec<(u64, u64)> {
    let us = |seconds: f64| (seconds.max(0.0) * 1e6) as u64;
    reconfigurations.iter().map(|r| (us(r.at_s), us(r.at_s + r.took_s))).collect()
}

fn overlaps(record: &Record, spans: &[(u64, u64)]) -> bool {
    spans.iter().any(|&(begin, end)| record.intended_us <= end && record.end_us() >= begin)
}

impl fmt::Display for LoadReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.table(f)?;
        self.lags(f)?;
        self.overlaps(f)
    }
}

impl LoadReport {
    fn table(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "{:<12} {:>8} {:>8} {:>7} {:>7} {:>7} {:>7} {:>7} {:>7} {:>8} {:>9} {:>7} {:>6} {:>6} {:>6}",
            "tenant",
            "requests",
            "sent/s",
            "SLO ms",
            "in SLO",
            "p50",
            "p90",
            "p99",
            "p99.9",
            "max ms",
            "accuracy",
            "good/s",
            "shed",
            "error",
            "lost"
        )?;
        for tenant in &self.tenants {
            let (counts, latency) = (&tenant.counts, tenant.latency.unwrap_or_default());
            writeln!(
                f,
                "{:<12} {:>8} {:>8.1} {:>7.0} {:>7} {:>7.1} {:>7.1} {:>7.1} {:>7.1} {:>8.1} {:>9} {:>7.1} {:>6} {:>6} {:>6}",
                tenant.tenant,
                counts.requests,
                tenant.sent_rps,
                tenant.slo_ms,
                percent(tenant.slo_attainment),
                latency.p50_ms,
                latency.p90_ms,
                latency.p99_ms,
                latency.p999_ms,
                latency.max_ms,
                percent(tenant.accuracy),
                tenant.goodput_rps,
                counts.shed,
                counts.error,
                counts.lost
            )?;
        }
        Ok(())
    }

    /// What a reader must know before believing the latencies.
    fn lags(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for tenant in &self.tenants {
            let (name, lag) = (&tenant.tenant, tenant.generator_lag_p99_ms);
            write!(f, "{name}: generator lag p99 {lag:.1} ms, max {:.1} ms", tenant.generator_lag_max_ms)?;
            if tenant.labels_taken + tenant.labels_refused > 0 {
                write!(f, "; labels taken {}, refused {}", tenant.labels_taken, tenant.labels_refused)?;
            }
            writeln!(f)?;
            if let Some(error) = &tenant.first_error {
                writeln!(f, "{name}: first error: {error}")?;
            }
        }
        Ok(())
    }

    /// Latencies during reconfigurations beside the rest.
    fn overlaps(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.reconfigurations.is_empty() {
            return writeln!(f, "reconfigurations: none during the load");
        }
        let total = |part: fn(&Reconfiguration) -> f64| self.reconfigurations.iter().map(part).sum::<f64>();
        let (took, lost, idle) = (total(|r| r.took_s), total(|r| r.lost_s), total(|r| r.idle_slice_s));
        writeln!(
            f,
            "reconfigurations: {}, {took:.2} s in all, {lost:.2} s of service lost, {idle:.2} slice-seconds idle",
            self.reconfigurations.len()
        )?;
        for tenant in &self.tenants {
            let p99 = |latency: Option<Latency>| latency.map_or("-".to_owned(), |l| format!("{:.1} ms", l.p99_ms));
            let (during, rest) = (p99(tenant.during_reconfiguration), p99(tenant.rest));
            let counts = &tenant.during_counts;
            let failed = counts.error + counts.lost;
            writeln!(
                f,
                "{}: p99 during reconfigurations {during} ({} requests, {failed} failed, {} shed), rest {rest}",
                tenant.tenant, counts.requests, counts.shed
            )?;
        }
        Ok(())
    }
}

/// `97.3 %`, or `-` where there is nothing to count.
pub(crate) fn percent(share: Option<f64>) -> String {
    share.map_or("-".to_owned(), |share| format!("{:.1} %", share * 100.0))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::load::record::Outcome;

    #[test]
    fn a_request_in_flight_during_a_reconfiguration_overlaps_it() {
        let spans = [(1_000_000, 2_000_000)];
        let record = |intended_us, latency_us| Record { intended_us, latency_us, lag_us: 0, outcome: Outcome::Ok, correct: true };
        assert!(overlaps(&record(900_000, 100_000), &spans));
        assert!(overlaps(&record(2_000_000, 1), &spans));
        assert!(!overlaps(&record(900_000, 99_999), &spans));
        assert!(!overlaps(&record(2_000_001, 5), &spans));
    }
}
