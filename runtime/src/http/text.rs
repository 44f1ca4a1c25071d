//! The view as a person reads it.

use std::fmt::Write;

use migrator_actors::view::{GpuView, TenantView, View};
use migrator_solver::plan::{Allocation, Plan, Report, SolveStatus, TenantOutlook};
use migrator_solver::problem::TaskKind;

/// `/v1/plan`.
pub(super) fn plan(view: &View) -> String {
    let Some((plan, report)) = &view.plan else { return "no plan yet: the first solve is still to come\n".to_owned() };
    let mut out = String::new();
    decision(&mut out, plan, report);
    let _ = writeln!(out, "\nChanges");
    for change in &report.changes {
        let _ = writeln!(out, "  {change}");
    }
    if report.changes.is_empty() {
        let _ = writeln!(out, "  none: everything stays as it is");
    }
    for (index, gpu) in plan.gpus.iter().enumerate() {
        let now = view.partition.get(index);
        let _ = writeln!(out, "\nGPU {}, planned", now.map_or_else(|| index.to_string(), |g| g.uuid.clone()));
        gpu.allocations.iter().for_each(|a| allocation(&mut out, view, now, a));
    }
    let _ = writeln!(out, "\nTenants, expected over the horizon");
    report.tenants.iter().for_each(|t| outlook(&mut out, t));
    out
}

fn decision(out: &mut String, plan: &Plan, report: &Report) {
    let status = match report.status {
        SolveStatus::Optimal => "proven optimal",
        SolveStatus::TimeLimit => "best found within the time limit",
        SolveStatus::Greedy => "greedy, for the solver gave nothing",
        SolveStatus::Kept => "nothing better than leaving everything as it is",
    };
    let _ = writeln!(out, "Plan {}: {status}; solved in {:.1} ms, gap {:.2} %", plan.generation.0, report.solve_ms, report.gap * 100.0);
    if let Some(reason) = &report.reason {
        let _ = writeln!(out, "  because {reason}");
    }
    let gain = (report.objective - report.keep_objective) / report.keep_objective.abs().max(1.0) * 100.0;
    let verdict = if report.worth_it { "worth changing over" } else { "not worth changing over" };
    let _ = writeln!(
        out,
        "Expected goodput {:.0} requests against {:.0} if nothing changed ({gain:+.1} %): {verdict}",
        report.objective, report.keep_objective
    );
}

fn allocation(out: &mut String, view: &View, now: Option<&GpuView>, allocation: &Allocation) {
    let (start, end) = (allocation.site.placement.start, allocation.site.placement.end());
    let slices = if end - start == 1 { format!("memory slice {start}") } else { format!("memory slices {start} to {}", end - 1) };
    let who = match allocation.task {
        Some(task) => {
            let name = view.tenants.get(task.tenant.index()).map_or("?", |t| t.name.as_str());
            let kind = if task.kind == TaskKind::Inference { "inference" } else { "retraining" };
            format!("{kind} of {name}")
        }
        None => "in reserve".to_owned(),
    };
    let existing = allocation.instance.map(|id| match profile_of(now, id.0) {
        Some(profile) => format!("instance {} ({profile})", id.0),
        None => format!("instance {}", id.0),
    });
    let _ = writeln!(out, "  {slices:<22} {who:<28} {}", existing.unwrap_or_else(|| "new".to_owned()));
}

fn profile_of(now: Option<&GpuView>, id: u64) -> Option<&str> {
    now?.instances.iter().find(|i| i.id == id).map(|i| i.profile.as_str())
}

fn outlook(out: &mut String, tenant: &TenantOutlook) {
    let _ = writeln!(
        out,
        "  {:<16} demand {:>8.1}/s  capacity {:>8.1}/s  on time {:>5.1} %  accuracy {:.3}  goodput {:.0}{}",
        tenant.name,
        tenant.demand_rps,
        tenant.capacity_rps,
        tenant.slo_attainment * 100.0,
        tenant.accuracy,
        tenant.goodput,
        tenant.retraining.as_ref().map(|r| format!("  {r}")).unwrap_or_default()
    );
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
