//! Who gets which instance: where it is, then by hand-over, then anew.

use migrator_mig::Site;

use super::worth::Worth;
use super::{Need, idle, in_force};
use crate::plan::Allocation;
use crate::problem::{Task, TaskKind};
use crate::shape::KindId;

/// Gives every needed task its instances.
pub(super) fn assign(worth: &Worth, gpus: &mut [Vec<Allocation>]) {
    let mut left = worth.need.clone();
    let moved = stay(worth, &mut left, gpus);
    let mut rest: Vec<((Task, KindId), u32)> = left.into_iter().filter(|(_, n)| *n > 0).collect();
    // Hand-overs are sooner ready than new instances, so inference of most worth comes first, retraining last.
    let first = |task: Task, kind: KindId| if task.kind == TaskKind::Retraining { -1.0 } else { worth.answers(task, kind) };
    rest.sort_by(|a, b| first(b.0.0, b.0.1).total_cmp(&first(a.0.0, a.0.1)));
    for ((task, kind), n) in &rest {
        take(worth, gpus, (*task, *kind), *n, |_, new| new.instance.is_some());
    }
    // Who loses an instance gets slices that nobody has to leave first: there it can be ready before it goes.
    rest.sort_by_key(|((task, _), _)| !(task.kind == TaskKind::Inference && moved.contains(task)));
    for ((task, kind), n) in &rest {
        take(worth, gpus, (*task, *kind), *n, |gpu, new| !worth.view.problem.gpus[gpu].instances.iter().any(|old| over(old.site, new)));
    }
    for ((task, kind), n) in &rest {
        take(worth, gpus, (*task, *kind), *n, |_, _| true);
    }
}

fn over(old: Site, new: &Allocation) -> bool {
    old.placement.overlaps(new.site.placement)
}

/// Leaves what is needed where it is, the readiest first; gives the tasks that lose an instance.
fn stay(worth: &Worth, left: &mut Need, gpus: &mut [Vec<Allocation>]) -> Vec<Task> {
    let mut stays: Vec<(f64, usize, usize, Task)> = Vec::new();
    for (gpu, allocations) in gpus.iter().enumerate() {
        for (index, allocation) in allocations.iter().enumerate() {
            let old = in_force(worth.view, gpu, allocation).filter(|old| !old.pinned).and_then(|old| Some((old, old.task?)));
            stays.extend(old.map(|(old, task)| (old.ready_in_s, gpu, index, task)));
        }
    }
    stays.sort_by(|a, b| a.0.total_cmp(&b.0));
    for (_, gpu, index, task) in stays {
        let allocation = &mut gpus[gpu][index];
        if let Some(n) = left.get_mut(&(task, worth.shape.kind_of(gpu, allocation.site.profile))).filter(|n| **n > 0) {
            *n -= 1;
            allocation.task = Some(task);
        }
    }
    let gone = |(gpu, instance): (usize, crate::InstanceId), task| {
        let covered =
            |new: &&Allocation| worth.view.problem.gpus[gpu].instances.iter().any(|old| old.id == instance && over(old.site, new));
        gpus[gpu].iter().any(|new| covered(&new) && (new.instance != Some(instance) || new.task != Some(task)))
    };
    worth.view.instances().filter_map(|(gpu, old)| old.task.filter(|&task| gone((gpu, old.id), task))).collect()
}

/// Gives a task up to `n` of the idle instances of a kind that it has not yet, of those that are `fit`.
fn take(worth: &Worth, gpus: &mut [Vec<Allocation>], (task, kind): (Task, KindId), n: u32, fit: impl Fn(usize, &Allocation) -> bool) {
    let given = |gpus: &[Vec<Allocation>]| {
        let own = |gpu: usize, new: &Allocation| {
            new.task == Some(task)
                && worth.shape.kind_of(gpu, new.site.profile) == kind
                && !in_force(worth.view, gpu, new).is_some_and(|old| old.pinned || old.task == Some(task))
        };
        gpus.iter().enumerate().map(|(gpu, all)| all.iter().filter(|new| own(gpu, new)).count() as u32).sum::<u32>()
    };
    for _ in given(gpus)..n {
        let all = gpus.iter_mut().enumerate().flat_map(|(gpu, allocations)| allocations.iter_mut().map(move |new| (gpu, new)));
        let mut free = all.filter(|(gpu, new)| idle(worth.view, *gpu, new) && worth.shape.kind_of(*gpu, new.site.profile) == kind);
        let Some((_, new)) = free.find(|(gpu, new)| fit(*gpu, new)) else { return };
        new.task = Some(task);
    }
}
