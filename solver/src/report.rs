//! A plan in an operator's words.

use std::fmt;

use crate::evaluate::{TenantValue, Value};
use crate::name;
use crate::plan::{Plan, Report, TenantOutlook};
use crate::problem::{InstanceState, Problem, Task, TaskKind, TenantId};
use crate::shape::Shape;
use crate::view::View;

/// More than this no plan can be worth: every arrival answered by the better of both models.
pub(crate) fn most(view: &View) -> f64 {
    let tenant = |id: TenantId| {
        let state = view.tenant(id);
        let arrivals: f64 = view.demand[id.index()].iter().sum();
        state.weight * (state.accuracy * arrivals + view.accuracy_gain(id) * view.arrivals_after(id, 0.0))
    };
    view.tenants().map(|(id, _)| tenant(id)).sum()
}

/// What the plan means for each tenant.
pub(crate) fn tenants(view: &View, shape: &Shape, plan: &Plan, value: &Value) -> Vec<TenantOutlook> {
    view.tenants().zip(&value.tenants).map(|((id, state), worth)| outlook(view, shape, plan, id, &state.name, worth)).collect()
}

fn outlook(view: &View, shape: &Shape, plan: &Plan, id: TenantId, name: &str, worth: &TenantValue) -> TenantOutlook {
    let slo_attainment = if worth.arrivals > 0.0 { worth.on_time / worth.arrivals } else { 1.0 };
    TenantOutlook {
        name: name.to_owned(),
        demand_rps: view.mean_demand(id, 0, view.horizon),
        capacity_rps: capacity(view, plan, id),
        slo_attainment,
        accuracy: worth.accuracy,
        goodput: worth.correct,
        retraining: retraining(view, shape, plan, id, worth),
    }
}

/// By `fold`, for the sum of no floats is -0.
fn capacity(view: &View, plan: &Plan, id: TenantId) -> f64 {
    let all = plan.gpus.iter().enumerate().flat_map(|(gpu, plan)| plan.allocations.iter().map(move |new| (gpu, new)));
    let own = all.filter(|(_, new)| new.task == Some(Task::inference(id)));
    own.map(|(gpu, new)| view.rate_on(id, gpu, new.site.profile)).fold(0.0, |sum, rps| sum + rps)
}

fn retraining(view: &View, shape: &Shape, plan: &Plan, id: TenantId, worth: &TenantValue) -> Option<String> {
    let (kind, finish_s) = worth.retraining?;
    let allocations = plan.gpus.iter().enumerate().flat_map(|(gpu, p)| p.allocations.iter().map(move |a| (gpu, a)));
    let mut now = allocations.filter(|(_, new)| new.task == Some(Task::retraining(id)));
    let place = now.next().map(|(gpu, new)| format!("on {}", name::site(view.problem, gpu, new.site)));
    let slices = view.problem.models[shape.kind(kind).model].catalog.profile(shape.kind(kind).profile).compute_slices;
    let place = place.unwrap_or_else(|| format!("later, on {slices}g"));
    Some(format!("{place}, done in {finish_s:.0} s"))
}

/// What changes and why, a sentence each.
pub(crate) fn changes(view: &View, plan: &Plan) -> Vec<String> {
    view.tenants().flat_map(|(id, _)| [inference_change(view, plan, id), retraining_change(view, plan, id)]).flatten().collect()
}

/// `3g@4 and 1g@6`, or `nothing`.
fn list(mut parts: Vec<String>) -> String {
    let Some(last) = parts.pop() else { return "nothing".to_owned() };
    if parts.is_empty() { last } else { format!("{} and {last}", parts.join(", ")) }
}

fn before(view: &View, task: Task) -> Vec<String> {
    let old = view.instances().filter(|(_, old)| old.task == Some(task));
    old.map(|(gpu, old): (usize, &InstanceState)| name::site(view.problem, gpu, old.site)).collect()
}

fn after(problem: &Problem, plan: &Plan, task: Task) -> Vec<String> {
    let gpus = plan.gpus.iter().enumerate();
    gpus.flat_map(|(gpu, p)| p.allocations.iter().filter(|new| new.task == Some(task)).map(move |new| name::site(problem, gpu, new.site)))
        .collect()
}

fn inference_change(view: &View, plan: &Plan, id: TenantId) -> Option<String> {
    let task = Task::inference(id);
    let (old, new) = (before(view, task), after(view.problem, plan, task));
    if old == new {
        return None;
    }
    let owned = view.instances().filter(|(_, old)| old.task == Some(task));
    let could = owned.map(|(gpu, old)| view.rate_on(id, gpu, old.site.profile)).fold(0.0, |sum, rps| sum + rps);
    let (can, peak) = (capacity(view, plan, id), view.peak_demand(id));
    let why = if peak > could && can > could {
        format!("forecast {peak:.0} req/s exceeds the {could:.0} req/s it can answer in time")
    } else if can > could {
        format!("slices nobody else needs raise it from {could:.0} to {can:.0} req/s, forecast {peak:.0} req/s")
    } else if can >= peak {
        format!("forecast {peak:.0} req/s needs no more than {can:.0} req/s")
    } else {
        format!("others use the slices better; it can answer {can:.0} of a forecast {peak:.0} req/s")
    };
    let verb = if can < could { "goes down to" } else { "gets" };
    Some(format!("{} {verb} {} (was {}): {why}", view.tenant(id).name, list(new), list(old)))
}

fn retraining_change(view: &View, plan: &Plan, id: TenantId) -> Option<String> {
    let task = Task { tenant: id, kind: TaskKind::Retraining };
    let (old, new) = (before(view, task), after(view.problem, plan, task));
    if old == new {
        return None;
    }
    let tenant = view.tenant(id);
    let Some(due) = &tenant.retraining else { return Some(format!("{} no longer retrains: none is due", tenant.name)) };
    let hope = format!("accuracy {:.2} is expected to become {:.2}", tenant.accuracy, due.accuracy_after);
    Some(match (old.is_empty(), new.is_empty()) {
        (_, true) => format!("{} pauses its retraining on {}: others use the slices better now", tenant.name, list(old)),
        (true, false) => format!("{} retrains on {}: {hope}", tenant.name, list(new)),
        (false, false) => format!("{} moves its retraining to {} (was {}): {hope}", tenant.name, list(new), list(old)),
    })
}

impl Report {
    /// The report as a compact table and the sentences; the same as its `Display`.
    pub fn to_text(&self) -> String {
        self.to_string()
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let verdict = if self.worth_it { "change" } else { "keep" };
        let status = format!("{:?}", self.status).to_lowercase();
        write!(f, "{verdict} ({status}): goodput {:.0}, keeping {:.0}, ", self.objective, self.keep_objective)?;
        writeln!(f, "bound {:.0}, gap {:.1} %, {:.0} ms", self.bound, 100.0 * self.gap, self.solve_ms)?;
        if let Some(reason) = &self.reason {
            writeln!(f, "because: {reason}")?;
        }
        let width = self.tenants.iter().map(|tenant| tenant.name.chars().count()).max().unwrap_or(0).max(6);
        writeln!(f, "{:width$}  {:>7}  {:>8}  {:>6}  {:>8}  retraining", "tenant", "demand", "capacity", "SLO", "accuracy")?;
        for tenant in &self.tenants {
            let TenantOutlook { name, demand_rps, capacity_rps, accuracy, .. } = tenant;
            write!(f, "{name:width$}  {demand_rps:>7.1}  {capacity_rps:>8.1}  {:>5.1}%  ", 100.0 * tenant.slo_attainment)?;
            writeln!(f, "{accuracy:>8.3}  {}", tenant.retraining.as_deref().unwrap_or("-"))?;
        }
        self.changes.iter().try_for_each(|change| writeln!(f, "- {change}"))
    }
}
