//! From counts to positions: which partition, which task where, so that most of what is in force stays.
//!
//! [`worth`] says what staying is worth, [`split`] cuts the GPUs, [`assign`] gives the instances to tasks, [`fill`] uses up what is left.

mod assign;
mod fill;
mod split;
#[cfg(test)]
mod tests;
mod worth;

use std::collections::BTreeMap;

use migrator_mig::{Partition, Site};

use crate::plan::{Allocation, Generation, GpuPlan, Plan};
use crate::problem::{GpuState, InstanceState, Task};
use crate::shape::{KindId, Shape};
use crate::view::View;
use worth::Worth;

/// How many instances of which kind each task gets, pinned ones left out.
pub(crate) type Need = BTreeMap<(Task, KindId), u32>;

/// [`realise_ahead`] without a view to what comes.
#[cfg(test)]
pub(crate) fn realise(view: &View, shape: &Shape, need: &Need, generation: Generation, fill: bool) -> Option<Plan> {
    realise_ahead(view, shape, need, &[], generation, fill)
}

/// The plan that meets `need` with the least change, or `None` when the counts cannot be cut.
///
/// In order of worth: a running retraining goes on where it is, inference stays where it is, instances change their owner rather than being
/// cut anew, and positions leave room for what comes. Instances in force that nobody needs the slices of stay as they are. With `fill`,
/// idle instances and slices that are then still free go to the inference with the least headroom: preloading needs no free slices
/// (workers are staged outside any instance), nothing in force yields for it, and once filled nothing is free, so the next solve changes nothing.
///
/// `ahead` are the needs of the next blocks, the nearest first: positions leave room for them, and what is filled is cut as they will want it.
pub(crate) fn realise_ahead(view: &View, shape: &Shape, need: &Need, ahead: &[Need], generation: Generation, fill: bool) -> Option<Plan> {
    let worth = Worth::new(view, shape, need, ahead);
    let mut gpus: Vec<Vec<Allocation>> = vec![Vec::new(); view.problem.gpus.len()];
    for class in 0..shape.classes().len() {
        for (gpu, partition) in split::split(&worth, class)? {
            gpus[gpu] = place(&view.problem.gpus[gpu], partition);
        }
    }
    assign::assign(&worth, &mut gpus);
    spare(view, &mut gpus, fill);
    if fill {
        fill::fill(&worth, &mut gpus);
    }
    gpus.iter_mut().for_each(|allocations| allocations.sort_by_key(|allocation| allocation.site));
    Some(Plan { generation, gpus: gpus.into_iter().map(|allocations| GpuPlan { allocations }).collect() })
}

/// The sites of a partition, with the instances that are there; what is pinned keeps its task.
fn place(gpu: &GpuState, partition: &Partition) -> Vec<Allocation> {
    let allocation = |&site: &Site| {
        let old = gpu.instances.iter().find(|old| old.site == site);
        Allocation { site, instance: old.map(|old| old.id), task: old.filter(|old| old.pinned).and_then(|old| old.task) }
    };
    partition.sites().iter().map(allocation).collect()
}

/// The instance in force that an allocation names.
fn in_force<'a>(view: &View<'a>, gpu: usize, allocation: &Allocation) -> Option<&'a InstanceState> {
    view.problem.gpus[gpu].instances.iter().find(|old| Some(old.id) == allocation.instance)
}

/// Whether nobody has it and it may be given to somebody.
fn idle(view: &View, gpu: usize, new: &Allocation) -> bool {
    new.task.is_none() && !in_force(view, gpu, new).is_some_and(|old| old.pinned)
}

/// Keeps what is in force and in nobody's way; with `fill`, what a retraining that is done or not due leaves behind is free for others.
fn spare(view: &View, gpus: &mut [Vec<Allocation>], fill: bool) {
    let trains = |gpus: &[Vec<Allocation>], task: Task| gpus.iter().flatten().any(|a| a.task == Some(task));
    for (gpu, old) in view.instances() {
        if gpus[gpu].iter().any(|new| new.site.placement.overlaps(old.site.placement)) {
            continue;
        }
        let over = |task: Task| fill && view.tenants().nth(task.tenant.index()).is_some_and(|(_, tenant)| tenant.retraining.is_none());
        // A tenant retrains once: where the plan puts its retraining elsewhere, only the empty instance stays.
        let ends = |task: Task| task == Task::retraining(task.tenant) && (over(task) || trains(gpus, task));
        let task = old.task.filter(|&task| !ends(task));
        gpus[gpu].push(Allocation { site: old.site, instance: Some(old.id), task });
    }
}
