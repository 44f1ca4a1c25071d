//! What the demo has to tell at its end.

use std::collections::BTreeMap;
use std::fmt::Write;

use super::seen::{Retrained, Seen};
use crate::load::report::percent;
use crate::load::{Counts, LoadReport, Record, TenantReport};

/// Seconds of live requests before and after a new version that its measured accuracy is taken from, and seconds after the switch that
/// are left out: until every instance has the new version and answers of the old one are through.
const MEASURED_S: f64 = 10.0;
const SETTLE_S: f64 = 2.0;

/// Seconds after which a new version has been measured.
pub(super) const ENOUGH_S: f64 = SETTLE_S + MEASURED_S;

/// When a version was first seen in service, on the load's clock, by tenant and version.
pub(super) type Published = BTreeMap<(String, u32), f64>;

/// The whole report.
pub(super) fn tell(report: &LoadReport, seen: &Seen, published: &Published, metrics: &str) -> String {
    let mut text = format!("\n{report}\n");
    for (tenant, records) in report.tenants.iter().zip(&report.records) {
        windows(&mut text, tenant, records, seen, published);
    }
    reconfigurations(&mut text, report);
    solves(&mut text, metrics);
    text
}

fn windows(text: &mut String, tenant: &TenantReport, records: &[Record], seen: &Seen, published: &Published) {
    let Some(server) = seen.tenants.iter().find(|t| t.name == tenant.tenant) else { return };
    let known = percent(server.accuracy);
    let _ = writeln!(text, "{}: accuracy at the end {known} by the server, {} measured over all", tenant.tenant, percent(tenant.accuracy));
    for retrained in &server.windows {
        let _ = writeln!(text, "  {}", window(tenant, records, retrained, published));
    }
    if server.windows.is_empty() {
        let _ = writeln!(text, "  no retraining ended: {}", server.retraining);
    }
}

fn window(tenant: &TenantReport, records: &[Record], retrained: &Retrained, published: &Published) -> String {
    let Retrained { window, accuracy_before, accuracy_after, core_s, .. } = retrained;
    let held_out = format!("window {window}: held-out accuracy {} -> {}", percent(Some(*accuracy_before)), percent(Some(*accuracy_after)));
    let Some(version) = retrained.published else { return format!("{held_out}, kept the old version ({core_s:.1} core s)") };
    let at = published.get(&(tenant.tenant.clone(), version));
    let measured = at.map_or("not seen in service yet".to_owned(), |&at| {
        let (before, after) =
            (accuracy(records, at - SETTLE_S - MEASURED_S, at - SETTLE_S), accuracy(records, at + SETTLE_S, at + SETTLE_S + MEASURED_S));
        format!("measured {} -> {}", percent(before), percent(after))
    });
    format!("{held_out}, {measured}; version {version} published ({core_s:.1} core s)")
}

/// Accuracy of the live requests due in a span of seconds.
fn accuracy(records: &[Record], from_s: f64, to_s: f64) -> Option<f64> {
    let at = |record: &&Record| (from_s..to_s).contains(&(record.intended_us as f64 / 1e6));
    records.iter().filter(at).collect::<Counts>().accuracy()
}

fn reconfigurations(text: &mut String, report: &LoadReport) {
    let all = &report.reconfigurations;
    if all.is_empty() {
        let _ = writeln!(text, "no reconfiguration: the partition fitted all the time");
        return;
    }
    let count = all.len() as f64;
    let took: f64 = all.iter().map(|r| r.took_s).sum();
    let lost: f64 = all.iter().map(|r| r.lost_s).sum();
    let idle: f64 = all.iter().map(|r| r.idle_slice_s).sum();
    let (took, lost, idle) = (took / count, lost / count, idle / count);
    let _ =
        writeln!(text, "reconfigurations: {count}, {took:.2} s each, {lost:.3} s of service lost and {idle:.3} slice-seconds idle each");
    let mut steps: BTreeMap<&str, f64> = BTreeMap::new();
    all.iter().flat_map(|r| &r.steps).for_each(|(step, seconds)| *steps.entry(step).or_default() += seconds);
    let steps: Vec<String> = steps.iter().map(|(step, seconds)| format!("{step} {:.3} s", seconds / count)).collect();
    let _ = writeln!(text, "  per reconfiguration: {}", steps.join(", "));
    for r in all.iter().rev().take(3).rev() {
        let _ = writeln!(text, "  at {:.0} s: {} -> {} in {:.2} s", r.at_s, r.from, r.to, r.took_s);
    }
}

fn solves(text: &mut String, metrics: &str) {
    let name = "migrator_plan_solve_milliseconds";
    let (count, sum) = (value(metrics, &format!("{name}_count")), value(metrics, &format!("{name}_sum")));
    let (Some(count), Some(sum)) = (count.filter(|&n| n > 0.0), sum) else { return };
    let p99 = bucket(metrics, name, count * 0.99).map_or("-".to_owned(), |le| format!("{le} ms"));
    let _ = writeln!(text, "{count} solves: {:.2} ms on average, 99 in 100 within {p99}", sum / count);
}

/// A series without labels.
fn value(metrics: &str, name: &str) -> Option<f64> {
    metrics.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' ')?.trim().parse().ok())
}

/// Bound of the first bucket that holds at least `rank` values.
fn bucket<'m>(metrics: &'m str, name: &str, rank: f64) -> Option<&'m str> {
    metrics.lines().find_map(|line| {
        let (le, count) = line.strip_prefix(name)?.strip_prefix("_bucket{le=\"")?.split_once("\"}")?;
        (count.trim().parse::<f64>().ok()? >= rank).then_some(le)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::load::Outcome;

    const METRICS: &str = "# TYPE migrator_plan_solve_milliseconds histogram\n\
        migrator_plan_solve_milliseconds_bucket{le=\"1\"} 90\n\
        migrator_plan_solve_milliseconds_bucket{le=\"5\"} 100\n\
        migrator_plan_solve_milliseconds_sum 150\n\
        migrator_plan_solve_milliseconds_count 100\n";

    #[test]
    fn solve_times_are_read_from_the_metrics() {
        let mut text = String::new();
        solves(&mut text, METRICS);
        assert_eq!(text, "100 solves: 1.50 ms on average, 99 in 100 within 5 ms\n");
    }

    #[test]
    fn live_accuracy_is_taken_around_the_switch() {
        let record = |s: u64| Record { intended_us: s * 1_000_000, latency_us: 1, lag_us: 0, outcome: Outcome::Ok, correct: s >= 30 };
        let records: Vec<Record> = (0..60).map(record).collect();
        assert_eq!(accuracy(&records, 10.0, 20.0), Some(0.0));
        assert_eq!(accuracy(&records, 32.0, 42.0), Some(1.0));
        assert_eq!(accuracy(&records, 100.0, 110.0), None);
    }
}
