//! The view as a person reads it.

use std::fmt::Write;

use migrator_actors::view::{TenantView, View};

/// `/v1/plan`: the last solve, and the last that changed anything.
pub(super) fn plan(view: &View) -> String {
    let Some(solved) = &view.solved else { return "no plan yet: the first solve is still to come\n".to_owned() };
    let mut out = migrator_solver::explain::text(&solved.problem, &solved.outcome, false);
    let last = view.changed.as_ref().filter(|changed| changed.outcome.plan.generation != solved.outcome.plan.generation);
    if let Some(changed) = last {
        let (generation, ago) = (changed.outcome.plan.generation.0, (view.uptime_s - changed.at_s).max(0.0));
        let _ = writeln!(out, "\nThe last change: plan {generation}, {ago:.0} s ago");
        for change in &changed.outcome.report.changes {
            let _ = writeln!(out, "  - {change}");
        }
    }
    out
}

/// `/v1/partition`.
pub(super) fn partition(view: &View) -> String {
    let mut out = String::new();
    for gpu in &view.partition {
        let _ = writeln!(out, "GPU {} ({}): {}", gpu.uuid, gpu.catalog, gpu.text);
        for i in &gpu.instances {
            let who = match (&i.tenant, &i.task) {
                (Some(tenant), Some(task)) => format!("{task} of {tenant}"),
                _ => "in reserve".to_owned(),
            };
            let version = i.version.map(|v| format!(" version {v}")).unwrap_or_default();
            let pid = i.pid.map(|p| format!("process {p}")).unwrap_or_default();
            let at = format!("{}@{}", i.profile, i.start);
            let _ = writeln!(out, "  instance {:<4} {at:<14} {:<9} {who}{version} {pid}", i.id, i.state);
        }
    }
    let _ = writeln!(out, "{} reconfigurations", view.reconfigurations);
    for r in &view.history {
        let (seconds, lost, idle) = (r.took_s, r.lost_s, r.idle_slice_s);
        let _ = writeln!(
            out,
            "  at {:.1} s, plan {}: {} -> {} in {seconds:.2} s, {lost:.3} s of service lost, {idle:.3} slice-seconds idle",
            r.at_s, r.generation, r.from, r.to
        );
    }
    out
}

/// `/v1/tenants`.
pub(super) fn tenants(view: &View) -> String {
    let (window, elapsed, length) = view.window;
    let mut out = format!("Up {:.0} s; retraining window {window}, {elapsed:.0} of {length:.0} s\n", view.uptime_s);
    for t in &view.tenants {
        tenant(&mut out, t);
    }
    out
}

fn tenant(out: &mut String, t: &TenantView) {
    let ready = if t.ready { "serving" } else { "not served" };
    let accuracy = t.accuracy.map_or_else(|| "unknown".to_owned(), |a| format!("{a:.3}"));
    let _ = writeln!(out, "\n{}: model {} version {}, SLO {} ms, {ready}", t.name, t.model, t.version, t.slo_ms);
    let _ = writeln!(
        out,
        "  {} requests: {} on time, {} late, {} shed, {} failed ({:.2} % on time), {} waiting",
        t.requests,
        t.ok,
        t.late,
        t.shed,
        t.error,
        t.slo_attainment * 100.0,
        t.queue_depth
    );
    let _ =
        writeln!(out, "  arrivals {:.1}/s, capacity {:.1}/s; accuracy {accuracy}, goodput {:.0}", t.arrival_rps, t.capacity_rps, t.goodput);
    let _ = writeln!(out, "  retraining: {}", t.retraining);
    for w in &t.windows {
        let published = w.published.map_or_else(|| "kept the old version".to_owned(), |v| format!("published version {v}"));
        let _ = writeln!(out, "    window {}: accuracy {:.3} -> {:.3}, {published}", w.window, w.accuracy_before, w.accuracy_after);
    }
}
