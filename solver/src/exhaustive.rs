//! Every partition and every owner, for tests on one GPU with few tenants: the truth that the planners are measured by.

use crate::evaluate::{Value, value};
use crate::plan::{Allocation, Generation, GpuPlan, Plan};
use crate::problem::{Task, TenantId};
use crate::shape::Shape;
use crate::view::View;

/// Most plans looked at: above it the answer would take seconds.
const MOST_PLANS: f64 = 300_000.0;

/// The best of all plans of inference that are held to the horizon, or `None` beyond the limits of this search (one GPU, no
/// retraining due or running).
pub(crate) fn exhaustive(view: &View, shape: &Shape, generation: Generation) -> Option<(Plan, Value)> {
    let [gpu] = &view.problem.gpus[..] else { return None };
    let owners = view.problem.tenants.len() as f64 + 1.0;
    let partitions = &shape.classes()[0].partitions;
    let plans: f64 = partitions.iter().map(|partition| owners.powi(partition.sites().len() as i32)).sum();
    if plans > MOST_PLANS || view.problem.tenants.iter().any(|tenant| tenant.retraining.is_some()) {
        return None;
    }
    let mut best: Option<(Plan, Value)> = None;
    for partition in partitions {
        let there = |site| gpu.instances.iter().find(|old| old.site == site).map(|old| old.id);
        let allocations = partition.sites().iter().map(|&site| Allocation { site, instance: there(site), task: None }).collect();
        let mut plan = Plan { generation, gpus: vec![GpuPlan { allocations }] };
        assign(view, shape, &mut plan, 0, &mut best);
    }
    best
}

fn assign(view: &View, shape: &Shape, plan: &mut Plan, index: usize, best: &mut Option<(Plan, Value)>) {
    let Some(allocation) = plan.gpus[0].allocations.get(index).copied() else {
        let value = value(view, shape, plan, None);
        if best.as_ref().is_none_or(|(_, most)| value.score > most.score) {
            *best = Some((plan.clone(), value));
        }
        return;
    };
    let gpu = &view.problem.gpus[0];
    let pinned = gpu.instances.iter().find(|old| old.pinned && Some(old.id) == allocation.instance);
    let fits = |id: &TenantId| view.rate(*id, gpu.model, allocation.site.profile) > 0.0;
    let owners = view.tenants().map(|(id, _)| id).filter(fits).map(|id| Some(Task::inference(id)));
    let tasks: Vec<Option<Task>> = pinned.map_or_else(|| std::iter::once(None).chain(owners).collect(), |old| vec![old.task]);
    for task in tasks {
        plan.gpus[0].allocations[index].task = task;
        assign(view, shape, plan, index + 1, best);
    }
    plan.gpus[0].allocations[index].task = None;
}
