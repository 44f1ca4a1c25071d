//! A plan in an operator's words: the numbers come from [`Story`], the words are made in the modules below.

mod declined;
mod reason;
mod rival;
mod scarce;

use std::fmt;

use migrator_mig::Site;

use crate::evaluate::{TenantValue, Value};
use crate::name;
use crate::plan::{Plan, Report, SolveStatus, TenantOutlook};
use crate::problem::{Task, TenantId};
use crate::shape::Shape;
use crate::view::View;

/// What a solve knows when it is over.
pub(crate) struct Story<'a> {
    pub view: &'a View<'a>,
    pub shape: &'a Shape,
    pub status: SolveStatus,
    /// The plan and what it is worth.
    pub plan: &'a Plan,
    pub value: &'a Value,
    /// What leaving everything as it is is worth.
    pub keep: &'a Value,
    /// Legal plans that were not chosen, and what they are worth; the chosen one among them is left out.
    pub others: &'a [(&'a Plan, &'a Value)],
    /// Whether changing over is worth its overhead.
    pub worth_it: bool,
    pub reason: Option<String>,
    /// Proven on the objective; infinite when nothing is.
    pub bound: f64,
    /// The plan that pays, when it is put off because it pays no less one block later.
    pub put_off: Option<&'a Plan>,
    /// What the planner says of its own work.
    pub effort: Effort,
    /// See [`SolveOptions::explain`](crate::SolveOptions).
    pub explain: bool,
}

/// What the planner says of its own work.
#[derive(Clone, Debug, Default)]
pub(crate) struct Effort {
    /// See [`Report::proven`].
    pub proven: bool,
    /// See [`Report::model_gap`].
    pub gap: f64,
    /// See [`Report::columns`].
    pub columns: usize,
    /// See [`Report::nodes`].
    pub nodes: u32,
    /// See [`Report::stopped`].
    pub stopped: String,
    /// By block and row, weighted answers per unit of the row for the whole block.
    pub prices: Vec<Vec<f64>>,
}

/// The report of a solve. Its numbers are finite.
pub(crate) fn report(story: Story<'_>) -> Report {
    let Story { view, shape, plan, value, .. } = story;
    let objective = value.goodput;
    let bound = story.bound.min(most(view)).max(objective);
    Report {
        status: story.status,
        objective,
        keep_objective: story.keep.goodput,
        bound,
        gap: (bound - objective) / bound.max(1.0),
        proven: story.effort.proven,
        model_gap: if story.effort.gap.is_finite() { story.effort.gap } else { 1.0 },
        columns: story.effort.columns,
        nodes: story.effort.nodes,
        solve_ms: 0.0,
        worth_it: story.worth_it,
        tenants: tenants(view, shape, plan, value),
        changes: reason::changes(&story),
        declined: if story.explain { declined::declined(&story) } else { Vec::new() },
        binding: if story.explain { scarce::scarce(view, shape, &story.effort.prices) } else { Vec::new() },
        runner_up: if story.explain { rival::runner_up(&story) } else { None },
        reason: story.reason,
        stopped: story.effort.stopped,
    }
}

/// The report of a policy that weighs nothing against anything: what changes and what it means, not why something else does not.
pub(crate) fn brief(story: Story<'_>) -> Report {
    let objective = story.value.goodput;
    let bound = most(story.view).max(objective);
    Report {
        status: story.status,
        objective,
        keep_objective: story.keep.goodput,
        bound,
        gap: (bound - objective) / bound.max(1.0),
        proven: false,
        model_gap: 0.0,
        columns: 0,
        nodes: 0,
        solve_ms: 0.0,
        worth_it: story.worth_it,
        tenants: tenants(story.view, story.shape, story.plan, story.value),
        changes: if story.worth_it { reason::changes(&story) } else { Vec::new() },
        declined: Vec::new(),
        binding: Vec::new(),
        runner_up: None,
        reason: story.reason,
        stopped: String::new(),
    }
}

/// More than this no plan can be worth: every arrival answered by the better of both models.
fn most(view: &View) -> f64 {
    let tenant = |id: TenantId| {
        let state = view.tenant(id);
        let arrivals: f64 = view.demand[id.index()].iter().sum();
        state.weight * (state.accuracy * arrivals + view.accuracy_gain(id) * view.arrivals_after(id, 0.0))
    };
    view.tenants().map(|(id, _)| tenant(id)).sum()
}

/// What the plan means for each tenant.
fn tenants(view: &View, shape: &Shape, plan: &Plan, value: &Value) -> Vec<TenantOutlook> {
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
    let own = allocations(plan).filter(|(_, new)| new.task == Some(Task::inference(id)));
    own.map(|(gpu, new)| view.rate_on(id, gpu, new.site.profile)).fold(0.0, |sum, rps| sum + rps)
}

/// Every allocation with its GPU.
fn allocations(plan: &Plan) -> impl Iterator<Item = (usize, &crate::Allocation)> {
    plan.gpus.iter().enumerate().flat_map(|(gpu, plan)| plan.allocations.iter().map(move |new| (gpu, new)))
}

fn retraining(view: &View, shape: &Shape, plan: &Plan, id: TenantId, worth: &TenantValue) -> Option<String> {
    let (kind, finish_s) = worth.retraining?;
    let mut now = allocations(plan).filter(|(_, new)| new.task == Some(Task::retraining(id)));
    let place = now.next().map(|(gpu, new)| format!("on {}", name::site(view.problem, gpu, new.site)));
    let kind = shape.kind(kind);
    let place = place.unwrap_or_else(|| format!("later, on {}", view.problem.models[kind.model].catalog.short_name(kind.profile)));
    Some(format!("{place}, done at +{finish_s:.0} s"))
}

/// What an operator calls where a task is: `3g@4 and 1g@6`, or, of more than three, `4 x 1g and 3g@4`.
fn places<'a>(view: &View, sites: impl Iterator<Item = (usize, &'a Site)>) -> Vec<String> {
    let sites: Vec<(usize, &Site)> = sites.collect();
    if sites.len() <= MOST_PLACES {
        return sites.into_iter().map(|(gpu, site)| name::site(view.problem, gpu, *site)).collect();
    }
    let profile = |(gpu, site): &(usize, &Site)| view.problem.catalog(*gpu).short_name(site.profile);
    let mut counts: std::collections::BTreeMap<String, usize> = std::collections::BTreeMap::new();
    sites.iter().for_each(|site| *counts.entry(profile(site)).or_default() += 1);
    counts.into_iter().map(|(profile, count)| format!("{count} x {profile}")).collect()
}

/// Beyond this many, places are counted.
const MOST_PLACES: usize = 3;

/// `3g@4 and 1g@6`, or `nothing`.
fn list(mut parts: Vec<String>) -> String {
    let Some(last) = parts.pop() else { return "nothing".to_owned() };
    if parts.is_empty() { last } else { format!("{} and {last}", parts.join(", ")) }
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
