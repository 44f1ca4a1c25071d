//! From counts to positions: which partition, which task where, so that most of what is in force stays.

use std::collections::BTreeMap;

use migrator_mig::{Partition, Site};

use crate::plan::{Allocation, Generation, GpuPlan, Plan};
use crate::problem::{GpuState, InstanceState, Task, TaskKind, TenantId};
use crate::shape::{KindId, Shape, free_counts};
use crate::view::View;

/// How many instances of which kind each task gets, pinned ones left out.
pub(crate) type Need = BTreeMap<(Task, KindId), u32>;

/// Value of a retraining that goes on where it is: more than all inference of a GPU, for its work since the checkpoint is at stake.
const RETRAINING_STAYS: f64 = 1e6;

/// Value of an instance that only changes its owner: above re-cutting, below staying, whatever its size.
const HAND_OVER: f64 = 1.0;

/// Spare slices are filled until every tenant can answer this multiple of its peak; beyond, an idle slice is as good.
const AMPLE: f64 = 2.0;

/// The plan that meets `need` with the least change, or `None` when the counts cannot be cut.
///
/// Instances in force that nobody needs the slices of stay as they are. With `fill`, slices that are then still free go to the
/// inference with the least headroom: preloading needs no free slices (workers are staged outside any instance), nothing in
/// force yields for it, and once filled nothing is free, so the next solve changes nothing.
pub(crate) fn realise(view: &View, shape: &Shape, need: &Need, generation: Generation, fill: bool) -> Option<Plan> {
    let mut gpus: Vec<Vec<Allocation>> = vec![Vec::new(); view.problem.gpus.len()];
    for (index, class) in shape.classes().iter().enumerate() {
        let mut counts = vec![0; class.geometries.first()?.len()];
        for ((_, kind), n) in need.iter().filter(|((_, kind), _)| shape.kind(*kind).class == index) {
            counts[shape.kind(*kind).profile.index()] += n;
        }
        let cuts: Vec<Cuts> = class.gpus.iter().map(|&gpu| cuts(view, shape, need, gpu)).collect();
        let (_, chosen) = best_split(&cuts, &counts, &mut BTreeMap::new())?;
        class.gpus.iter().zip(&chosen).for_each(|(&gpu, partition)| gpus[gpu] = place(&view.problem.gpus[gpu], partition));
    }
    assign(view, shape, need, &mut gpus);
    spare(view, &mut gpus);
    if fill {
        fill_up(view, &mut gpus);
    }
    gpus.iter_mut().for_each(|allocations| allocations.sort_by_key(|allocation| allocation.site));
    Some(Plan { generation, gpus: gpus.into_iter().map(|allocations| GpuPlan { allocations }).collect() })
}

/// The best partition of one GPU for every geometry, and its kept value.
type Cuts<'a> = BTreeMap<Vec<u32>, (f64, &'a Partition)>;

fn cuts<'a>(view: &View, shape: &'a Shape, need: &Need, gpu: usize) -> Cuts<'a> {
    let mut cuts: Cuts = BTreeMap::new();
    let class = &shape.classes()[shape.class_of(gpu)];
    for partition in &class.partitions {
        let kept = kept_value(view, shape, need, gpu, partition);
        let geometry = free_counts(view.problem.catalog(gpu), partition, &class.pinned);
        // Ties go to the first in the catalog's order, so that equal problems get equal plans.
        if cuts.get(&geometry).is_none_or(|(best, _)| kept > *best) {
            cuts.insert(geometry, (kept, partition));
        }
    }
    cuts
}

fn kept_value(view: &View, shape: &Shape, need: &Need, gpu: usize, partition: &Partition) -> f64 {
    let value = |old: &InstanceState| {
        if partition.sites().contains(&old.site) {
            let wanted = old.task.filter(|&task| need.contains_key(&(task, shape.kind_of(gpu, old.site.profile))));
            return wanted.map_or(HAND_OVER, |task| HAND_OVER + stay_value(view, task, gpu, old));
        }
        // What is not in the partition may still stay as a spare, unless something is cut over it.
        let lost = partition.sites().iter().any(|site| site.placement.overlaps(old.site.placement));
        if lost { -0.01 - old.task.map_or(0.0, |task| 0.01 * stay_value(view, task, gpu, old)) } else { 0.0 }
    };
    view.problem.gpus[gpu].instances.iter().map(value).sum()
}

fn stay_value(view: &View, task: Task, gpu: usize, old: &InstanceState) -> f64 {
    match task.kind {
        TaskKind::Retraining => RETRAINING_STAYS,
        // What is ready is kept before what still warms up.
        TaskKind::Inference => {
            1.0 + view.answer_worth(task.tenant) * view.rate_on(task.tenant, gpu, old.site.profile) / (1.0 + old.ready_in_s)
        }
    }
}

type Split<'a> = Option<(f64, Vec<&'a Partition>)>;

/// Exact dynamic programme over the GPUs; state = what is still needed. It exists whenever the counts fit (`reference/ilp.md` section 1).
fn best_split<'a>(cuts: &[Cuts<'a>], need: &[u32], known: &mut BTreeMap<(usize, Vec<u32>), Split<'a>>) -> Split<'a> {
    let Some((first, others)) = cuts.split_first() else {
        return need.iter().all(|&n| n == 0).then(|| (0.0, Vec::new()));
    };
    let key = (cuts.len(), need.to_vec());
    if let Some(split) = known.get(&key) {
        return split.clone();
    }
    let mut best: Split = None;
    for (geometry, (kept, partition)) in first {
        let Some(rest) = need.iter().zip(geometry).map(|(n, part)| n.checked_sub(*part)).collect::<Option<Vec<u32>>>() else { continue };
        let Some((value, mut split)) = best_split(others, &rest, known) else { continue };
        if best.as_ref().is_none_or(|(most, _)| value + kept > *most) {
            split.insert(0, partition);
            best = Some((value + kept, split));
        }
    }
    known.insert(key, best.clone());
    best
}

fn place(gpu: &GpuState, partition: &Partition) -> Vec<Allocation> {
    let there = |site: Site| gpu.instances.iter().find(|old| old.site == site);
    let allocation = |&site: &Site| {
        let old = there(site);
        Allocation { site, instance: old.map(|old| old.id), task: old.filter(|old| old.pinned).and_then(|old| old.task) }
    };
    partition.sites().iter().map(allocation).collect()
}

fn in_force<'a>(view: &View<'a>, gpu: usize, allocation: &Allocation) -> Option<&'a InstanceState> {
    view.problem.gpus[gpu].instances.iter().find(|old| Some(old.id) == allocation.instance)
}

/// Gives every needed task its instances: where it is, then by hand-over, then anew.
fn assign(view: &View, shape: &Shape, need: &Need, gpus: &mut [Vec<Allocation>]) {
    let mut left = need.clone();
    let mut stays: Vec<(f64, usize, usize, Task)> = Vec::new();
    for (gpu, allocations) in gpus.iter().enumerate() {
        for (index, allocation) in allocations.iter().enumerate() {
            let old = in_force(view, gpu, allocation).filter(|old| !old.pinned).and_then(|old| Some((old, old.task?)));
            stays.extend(old.map(|(old, task)| (old.ready_in_s, gpu, index, task)));
        }
    }
    stays.sort_by(|a, b| a.0.total_cmp(&b.0));
    for (_, gpu, index, task) in stays {
        let allocation = &mut gpus[gpu][index];
        if let Some(n) = left.get_mut(&(task, shape.kind_of(gpu, allocation.site.profile))).filter(|n| **n > 0) {
            *n -= 1;
            allocation.task = Some(task);
        }
    }
    // Hand-overs are sooner ready than new instances, so inference of most worth comes first, retraining last.
    let worth = |task: Task, kind: KindId| match task.kind {
        TaskKind::Inference => view.answer_worth(task.tenant) * view.kind_rate(shape, task.tenant, kind),
        TaskKind::Retraining => -1.0,
    };
    let mut rest: Vec<((Task, KindId), u32)> = left.into_iter().filter(|(_, n)| *n > 0).collect();
    rest.sort_by(|a, b| worth(b.0.0, b.0.1).total_cmp(&worth(a.0.0, a.0.1)));
    for ((task, kind), n) in rest {
        for _ in 0..n {
            let all = gpus.iter_mut().enumerate().flat_map(|(gpu, allocations)| allocations.iter_mut().map(move |new| (gpu, new)));
            let free = all.filter(|(gpu, new)| idle(view, *gpu, new) && shape.kind_of(*gpu, new.site.profile) == kind);
            if let Some((_, new)) = free.min_by_key(|(_, new)| new.instance.is_none()) {
                new.task = Some(task);
            }
        }
    }
}

/// Whether nobody has it and it may be given to somebody.
fn idle(view: &View, gpu: usize, new: &Allocation) -> bool {
    new.task.is_none() && !in_force(view, gpu, new).is_some_and(|old| old.pinned)
}

/// Keeps what is in force and in nobody's way.
fn spare(view: &View, gpus: &mut [Vec<Allocation>]) {
    let retrains =
        |gpus: &[Vec<Allocation>], task: Task| task.kind == TaskKind::Retraining && gpus.iter().flatten().any(|a| a.task == Some(task));
    for (gpu, old) in view.instances() {
        if gpus[gpu].iter().any(|new| new.site.placement.overlaps(old.site.placement)) {
            continue;
        }
        // A tenant retrains once: where the plan puts its retraining elsewhere, only the empty instance stays.
        let task = old.task.filter(|&task| !retrains(gpus, task));
        gpus[gpu].push(Allocation { site: old.site, instance: Some(old.id), task });
    }
}

fn fill_up(view: &View, gpus: &mut [Vec<Allocation>]) {
    let mut served: Vec<f64> = view.tenants().map(|(id, _)| held(view, gpus, id)).collect();
    let mut open: Vec<TenantId> = view.tenants().map(|(id, _)| id).filter(|&id| view.peak_demand(id) > 0.0).collect();
    let headroom = |served: &[f64], id: TenantId| served[id.index()] / view.peak_demand(id);
    while let Some(&thinnest) = open.iter().min_by(|&&a, &&b| headroom(&served, a).total_cmp(&headroom(&served, b))) {
        let room = if headroom(&served, thinnest) < AMPLE { best_room(view, gpus, thinnest) } else { None };
        let Some((gpu, site)) = room else {
            open.retain(|&id| id != thinnest);
            continue;
        };
        served[thinnest.index()] += view.rate_on(thinnest, gpu, site.profile);
        let task = Some(Task::inference(thinnest));
        match gpus[gpu].iter_mut().find(|new| new.site == site) {
            Some(idle) => idle.task = task,
            None => gpus[gpu].push(Allocation { site, instance: None, task }),
        }
    }
}

fn held(view: &View, gpus: &[Vec<Allocation>], id: TenantId) -> f64 {
    let all = gpus.iter().enumerate().flat_map(|(gpu, allocations)| allocations.iter().map(move |new| (gpu, new)));
    all.filter(|(_, new)| new.task == Some(Task::inference(id))).map(|(gpu, new)| view.rate_on(id, gpu, new.site.profile)).sum()
}

/// The idle instance or free site that gives a tenant most; the earliest of equals.
fn best_room(view: &View, gpus: &[Vec<Allocation>], id: TenantId) -> Option<(usize, Site)> {
    let mut best: Option<(f64, usize, Site)> = None;
    for (gpu, allocations) in gpus.iter().enumerate() {
        let idle = allocations.iter().filter(|new| idle(view, gpu, new)).map(|new| new.site);
        let clear = |site: &Site| !allocations.iter().any(|new| new.site.placement.overlaps(site.placement));
        for site in idle.chain(view.problem.catalog(gpu).sites().into_iter().filter(clear)) {
            let rate = view.rate_on(id, gpu, site.profile);
            if rate > 0.0 && best.is_none_or(|(most, _, _)| rate > most) {
                best = Some((rate, gpu, site));
            }
        }
    }
    best.map(|(_, gpu, site)| (gpu, site))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::audit::audit;
    use crate::options::SolveOptions;
    use crate::problem::Problem;
    use crate::testing::{due, instance, problem, site, tenant};

    const A: Task = Task { tenant: TenantId(0), kind: TaskKind::Inference };
    const B: Task = Task { tenant: TenantId(1), kind: TaskKind::Inference };
    const A_RETRAINS: Task = Task { tenant: TenantId(0), kind: TaskKind::Retraining };

    fn host(instances: Vec<InstanceState>) -> Problem {
        let mut problem = problem(vec![tenant("vision", 40.0), tenant("speech", 10.0)]);
        problem.tenants[0].retraining = due(60.0, 0.9);
        problem.gpus[0].instances = instances;
        problem
    }

    fn realised(problem: &Problem, need: &[(Task, u8, u32)], fill: bool) -> Option<Vec<Allocation>> {
        let view = View::new(problem, &SolveOptions::default());
        let shape = Shape::new(problem);
        let need: Need = need.iter().map(|&(task, profile, n)| ((task, KindId(u16::from(profile))), n)).collect();
        let plan = realise(&view, &shape, &need, Generation(2), fill)?;
        assert_eq!(audit(problem, &plan), Vec::new());
        Some(plan.gpus[0].allocations.clone())
    }

    #[test]
    fn what_is_needed_where_it_is_stays_there() {
        let problem = host(vec![instance(1, 1, 2, Some(A)), instance(2, 1, 4, Some(B))]);
        let plan = realised(&problem, &[(A, 1, 1), (B, 1, 1)], false).unwrap();
        assert_eq!(plan.iter().map(|a| (a.instance.unwrap().0, a.task.unwrap())).collect::<Vec<_>>(), [(1, A), (2, B)]);
    }

    #[test]
    fn an_instance_changes_its_owner_rather_than_being_cut_anew() {
        let problem = host(vec![instance(1, 2, 4, Some(A))]);
        let plan = realised(&problem, &[(B, 2, 1)], false).unwrap();
        assert_eq!((plan[0].site, plan[0].instance, plan[0].task), (site(2, 4), Some(problem.gpus[0].instances[0].id), Some(B)));
    }

    #[test]
    fn a_running_retraining_stays_put_and_others_are_cut_around_it() {
        let problem = host(vec![instance(1, 2, 0, Some(A)), instance(2, 2, 4, Some(A_RETRAINS))]);
        let plan = realised(&problem, &[(A_RETRAINS, 2, 1), (B, 1, 1), (A, 1, 1)], false).unwrap();
        assert!(plan.iter().any(|a| a.instance.is_some() && a.site == site(2, 4) && a.task == Some(A_RETRAINS)));
    }

    #[test]
    fn counts_that_cannot_be_cut_are_no_plan() {
        assert_eq!(realised(&host(Vec::new()), &[(A, 3, 2)], false), None);
    }

    #[test]
    fn what_nobody_needs_stays_when_it_is_in_nobodys_way() {
        let problem = host(vec![instance(1, 0, 6, Some(B)), instance(2, 0, 0, Some(B))]);
        let plan = realised(&problem, &[(A, 2, 1)], false).unwrap();
        assert_eq!(plan.iter().map(|a| a.site).collect::<Vec<_>>().len(), 2);
        assert!(plan.iter().filter(|a| a.task == Some(B)).count() == 1);
    }

    #[test]
    fn free_slices_go_to_the_thinnest_headroom_until_it_is_ample() {
        let plan = realised(&host(Vec::new()), &[(A, 2, 1)], true).unwrap();
        let view_held = |task: Task| plan.iter().filter(|a| a.task == Some(task)).count();
        assert!(view_held(A) >= 2 || view_held(B) >= 1);
        assert!(plan.iter().all(|a| a.task.is_some()));
    }
}
