//! From "these instances on these GPUs" to positions, and from positions to the plan of now.

use std::collections::BTreeSet;

use migrator_mig::{Geometry, Placement, ProfileId, Site};

use super::room::pinned;
use crate::plan::{Allocation, Generation, GpuPlan, Plan};
use crate::problem::{GpuState, InstanceState, Problem, Task, TaskKind, TenantId};

/// What an instance is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Use {
    /// A tenant's inference.
    Serve(TenantId),
    /// Retrainings: `first` if it is due, then others that are due and have no instance, by hand-over; when none is, `then`'s inference.
    Train { first: Option<TenantId>, then: Option<TenantId> },
}

/// What is to be on each GPU, positions left open.
pub(super) type Layout = Vec<Vec<Wanted>>;

/// An instance of this profile for this use.
pub(super) type Wanted = (ProfileId, Use);

/// An instance that a policy has decided to have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Seat {
    pub site: Site,
    pub to: Use,
}

/// The seats of each GPU, by start.
pub(super) type Seats = Vec<Vec<Seat>>;

/// Finds positions so that much of what is in force stays. What cannot be cut together is left out, the last of a GPU first.
pub(super) fn place(problem: &Problem, layout: Layout) -> Seats {
    let layout = settle(problem, layout);
    layout.into_iter().enumerate().map(|(gpu, wanted)| seats(problem, gpu, wanted)).collect()
}

/// Gives alike GPUs their parts of the layout so that tasks stay on their GPUs.
fn settle(problem: &Problem, layout: Layout) -> Layout {
    let alike = |a: usize, b: usize| problem.gpus[a].model == problem.gpus[b].model && pinned(problem, a) == pinned(problem, b);
    let mut open: Vec<(usize, usize, usize)> = Vec::new();
    for (part, wanted) in layout.iter().enumerate() {
        let gpus = (0..problem.gpus.len()).filter(|&gpu| alike(part, gpu));
        open.extend(gpus.map(|gpu| (affinity(&problem.gpus[gpu], wanted), part, gpu)));
    }
    // The most first; of equals, parts stay where the policy put them.
    open.sort_by_key(|&(worth, part, gpu)| (std::cmp::Reverse(worth), part != gpu, part, gpu));
    let mut settled: Vec<Option<Vec<Wanted>>> = vec![None; problem.gpus.len()];
    let mut given = vec![false; layout.len()];
    for (_, part, gpu) in open {
        if !given[part] && settled[gpu].is_none() {
            (given[part], settled[gpu]) = (true, Some(layout[part].clone()));
        }
    }
    settled.into_iter().map(Option::unwrap_or_default).collect()
}

fn affinity(gpu: &GpuState, wanted: &[Wanted]) -> usize {
    let mut wanted: Vec<Wanted> = wanted.to_vec();
    let mut take = |old: &&InstanceState| {
        let found = wanted.iter().position(|(profile, to)| *profile == old.site.profile && old.task.is_some_and(|task| to.suits(task)));
        found.map(|index| wanted.swap_remove(index)).is_some()
    };
    gpu.instances.iter().filter(|old| !old.pinned).filter(&mut take).count()
}

impl Use {
    /// Whether an instance of this use may go on with the task.
    fn suits(self, task: Task) -> bool {
        match self {
            Use::Serve(tenant) => task == Task::inference(tenant),
            Use::Train { first, .. } => task.kind == TaskKind::Retraining && first.is_none_or(|first| first == task.tenant),
        }
    }
}

fn seats(problem: &Problem, gpu: usize, mut wanted: Vec<Wanted>) -> Vec<Seat> {
    let shares = problem.catalog(gpu).is_shares();
    loop {
        let seats = if shares { portion(problem, gpu, &wanted) } else { cut(problem, gpu, &wanted) };
        if let Some(mut seats) = seats {
            seats.sort_by_key(|seat| seat.site);
            return seats;
        }
        wanted.pop();
    }
}

/// The partition of this geometry in which most of what is in force stays.
fn cut(problem: &Problem, gpu: usize, wanted: &[Wanted]) -> Option<Vec<Seat>> {
    let (catalog, state) = (problem.catalog(gpu), &problem.gpus[gpu]);
    let mut counts = vec![0; catalog.profiles.len()];
    wanted.iter().for_each(|(profile, _)| counts[profile.index()] += 1);
    let there = |site: &Site| state.instances.iter().find(|old| old.site == *site);
    let stays = |old: &InstanceState| {
        let task = wanted.iter().any(|(profile, to)| *profile == old.site.profile && old.task.is_some_and(|task| to.suits(task)));
        1 + 4 * usize::from(task)
    };
    let worth = |sites: &[Site]| sites.iter().filter_map(there).map(stays).sum::<usize>();
    let partitions = catalog.partitions_around(&pinned(problem, gpu));
    let fitting = partitions.iter().filter(|partition| Geometry::of(catalog, partition).0 == counts);
    // The first of equals, so that equal problems get equal plans.
    let best = fitting.rev().max_by_key(|partition| worth(partition.sites()))?;
    let (mut seats, mut free) = (Vec::new(), best.sites().to_vec());
    let mut take = |site: Site| free.iter().position(|at| *at == site).map(|index| free.remove(index));
    let rest = keep_in_place(state, wanted, &mut take, &mut seats);
    for (profile, to) in rest {
        let index = free.iter().position(|site| site.profile == profile)?;
        seats.push(Seat { site: free.remove(index), to });
    }
    Some(seats)
}

/// Shares beside each other: those in force stay where they are, new ones go into the first gap.
fn portion(problem: &Problem, gpu: usize, wanted: &[Wanted]) -> Option<Vec<Seat>> {
    let (catalog, state) = (problem.catalog(gpu), &problem.gpus[gpu]);
    let fixed = pinned(problem, gpu);
    let slices = |site: &ProfileId| u32::from(catalog.profile(*site).compute_slices);
    let sum = fixed.iter().map(|site| slices(&site.profile)).sum::<u32>() + wanted.iter().map(|(profile, _)| slices(profile)).sum::<u32>();
    if sum > u32::from(catalog.compute_slices) {
        return None;
    }
    let mut seats = Vec::new();
    let mut rest = keep_in_place(state, wanted, |site| (!fixed.contains(&site)).then_some(site), &mut seats);
    // The largest first: gaps are for them.
    rest.sort_by_key(|(profile, _)| std::cmp::Reverse(*profile));
    for (profile, to) in rest {
        // Where what is to go still is, nothing new can begin before it has gone: other gaps come first.
        let taken: Vec<Placement> = seats.iter().map(|seat| seat.site).chain(fixed.iter().copied()).map(|site| site.placement).collect();
        let going = state.instances.iter().map(|old| old.site.placement);
        let all: Vec<Placement> = taken.iter().copied().chain(going).collect();
        let starts = &catalog.profile(profile).starts;
        let size = catalog.profile(profile).memory_slices;
        let gap = |taken: &[Placement]| {
            starts.iter().map(|&start| Placement { start, size }).find(|at| !taken.iter().any(|other| other.overlaps(*at)))
        };
        match gap(&all).or_else(|| gap(&taken)) {
            Some(placement) => seats.push(Seat { site: Site { placement, profile }, to }),
            None => return Some(side_by_side(problem, gpu, wanted)),
        }
    }
    Some(seats)
}

/// Everything anew from the first gap on: for the rare case that kept shares leave no gap that is long enough.
fn side_by_side(problem: &Problem, gpu: usize, wanted: &[Wanted]) -> Vec<Seat> {
    let (catalog, fixed) = (problem.catalog(gpu), pinned(problem, gpu));
    let mut seats: Vec<Seat> = Vec::new();
    for &(profile, to) in wanted {
        let of = catalog.profile(profile);
        let taken = |at: &Placement| fixed.iter().chain(seats.iter().map(|seat| &seat.site)).any(|site| site.placement.overlaps(*at));
        let mut places = of.starts.iter().map(|&start| Placement { start, size: of.memory_slices });
        if let Some(placement) = places.find(|at| !taken(at)) {
            seats.push(Seat { site: Site { placement, profile }, to });
        }
    }
    seats
}

/// Seats for what is wanted and in force at a site that `take` gives away; returns the rest of what is wanted.
fn keep_in_place(state: &GpuState, wanted: &[Wanted], mut take: impl FnMut(Site) -> Option<Site>, seats: &mut Vec<Seat>) -> Vec<Wanted> {
    let mut rest = wanted.to_vec();
    let mut ready: Vec<&InstanceState> = state.instances.iter().filter(|old| !old.pinned).collect();
    ready.sort_by(|a, b| a.ready_in_s.total_cmp(&b.ready_in_s).then(a.site.cmp(&b.site)));
    for old in ready {
        let found = rest.iter().position(|(profile, to)| *profile == old.site.profile && old.task.is_some_and(|task| to.suits(task)));
        if let Some(index) = found
            && let Some(site) = take(old.site)
        {
            seats.push(Seat { site, to: rest.remove(index).1 });
        }
    }
    rest
}

/// Which of several retrainings that are due comes first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Order {
    /// The one with the least work on that instance.
    Shortest,
    /// The one whose turn is longest ago.
    InTurn,
}

/// The plan that has these seats: instances that are there stay, the others are made, retrainings that are due share the training seats.
///
/// `turns` says when each tenant was last seen retraining, by tenant.
pub(super) fn plan(problem: &Problem, seats: &Seats, order: Order, turns: &[u64], generation: Generation) -> Plan {
    let mut taken: BTreeSet<TenantId> = BTreeSet::new();
    let mut gpus: Vec<Vec<Allocation>> = Vec::new();
    for (state, seats) in problem.gpus.iter().zip(seats) {
        let fixed = state.instances.iter().filter(|old| old.pinned);
        let fixed = fixed.map(|old| Allocation { site: old.site, instance: Some(old.id), task: old.task });
        let seated = seats.iter().map(|seat| {
            let old = state.instances.iter().find(|old| old.site == seat.site);
            Allocation { site: seat.site, instance: old.map(|old| old.id), task: None }
        });
        gpus.push(fixed.chain(seated).collect());
    }
    let retrains = |task: &Option<Task>| task.filter(|task| task.kind == TaskKind::Retraining).map(|task| task.tenant);
    taken.extend(gpus.iter().flatten().filter_map(|new| retrains(&new.task)));
    fill(&mut gpus, seats, |gpu, seat| goes_on(problem, gpu, seat, &mut taken));
    fill(&mut gpus, seats, |gpu, seat| begins(problem, gpu, seat, &mut taken, order, turns));
    fill(&mut gpus, seats, |gpu, seat| instead(problem, gpu, seat));
    gpus.iter_mut().for_each(|allocations| allocations.sort_by_key(|new| new.site));
    Plan { generation, gpus: gpus.into_iter().map(|allocations| GpuPlan { allocations }).collect() }
}

/// Asks for the task of every seat that has none yet.
fn fill(gpus: &mut [Vec<Allocation>], seats: &Seats, mut task: impl FnMut(usize, &Seat) -> Option<Task>) {
    for (gpu, (allocations, seats)) in gpus.iter_mut().zip(seats).enumerate() {
        for seat in seats {
            if let Some(new) = allocations.iter_mut().find(|new| new.site == seat.site && new.task.is_none()) {
                new.task = task(gpu, seat);
            }
        }
    }
}

fn there(problem: &Problem, gpu: usize, seat: &Seat) -> Option<Task> {
    problem.gpus[gpu].instances.iter().find(|old| old.site == seat.site)?.task
}

/// Inference, and a retraining that is under way on the instance.
fn goes_on(problem: &Problem, gpu: usize, seat: &Seat, taken: &mut BTreeSet<TenantId>) -> Option<Task> {
    let there = there(problem, gpu, seat);
    match seat.to {
        Use::Serve(tenant) => {
            let task = Task::inference(tenant);
            let fits = problem.rate(tenant, problem.gpus[gpu].model, seat.site.profile) > 0.0;
            (fits || there == Some(task)).then_some(task)
        }
        Use::Train { .. } => there.filter(|task| {
            let due = task.kind == TaskKind::Retraining && problem.tenants[task.tenant.index()].retraining.is_some();
            due && taken.insert(task.tenant)
        }),
    }
}

/// The next retraining for an instance that has none.
fn begins(problem: &Problem, gpu: usize, seat: &Seat, taken: &mut BTreeSet<TenantId>, order: Order, turns: &[u64]) -> Option<Task> {
    let Use::Train { first, .. } = seat.to else { return None };
    let work_s = |tenant: TenantId| problem.work_s(tenant, problem.gpus[gpu].model, seat.site.profile);
    let all = (0..problem.tenants.len() as u16).map(TenantId).filter(|tenant| !taken.contains(tenant));
    let mut open: Vec<(TenantId, f64)> = all.filter_map(|tenant| Some((tenant, work_s(tenant)?))).collect();
    open.sort_by(|(a, work_a), (b, work_b)| {
        let turn = |tenant: &TenantId| if order == Order::InTurn { turns.get(tenant.index()).copied().unwrap_or(0) } else { 0 };
        (Some(*b) == first).cmp(&(Some(*a) == first)).then(turn(a).cmp(&turn(b))).then(work_a.total_cmp(work_b)).then(a.cmp(b))
    });
    let (tenant, _) = open.first()?;
    taken.insert(*tenant);
    Some(Task::retraining(*tenant))
}

/// What an instance for retrainings does when none is due: the inference meant for it, or what it did.
fn instead(problem: &Problem, gpu: usize, seat: &Seat) -> Option<Task> {
    let Use::Train { then, .. } = seat.to else { return None };
    let serves = |tenant: &TenantId| problem.rate(*tenant, problem.gpus[gpu].model, seat.site.profile) > 0.0;
    let over = |task: &Task| task.kind == TaskKind::Retraining && problem.tenants[task.tenant.index()].retraining.is_none();
    then.filter(serves).map(Task::inference).or_else(|| there(problem, gpu, seat).filter(over))
}
