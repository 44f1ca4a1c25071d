//! Claims about steps and their order.

use std::collections::{BTreeMap, BTreeSet};

use super::job::Jobs;
use super::order::{every, order};
use super::schedule::{LATE, Timeline};
use super::*;
use crate::dice::Dice;
use crate::problem::{TaskKind, TenantId};
use crate::testing::mixed;
use crate::testing::{due, instance, problem, site, tenant};
use crate::{Allocation, GpuPlan, audit, keep};

const A: Task = Task { tenant: TenantId(0), kind: TaskKind::Inference };
const B: Task = Task { tenant: TenantId(1), kind: TaskKind::Inference };
const A_RETRAINS: Task = Task { tenant: TenantId(0), kind: TaskKind::Retraining };

fn host() -> Problem {
    let mut problem = problem(vec![tenant("vision", 40.0), tenant("speech", 10.0)]);
    problem.tenants[0].retraining = due(60.0, 0.9);
    problem.gpus[0].instances = vec![instance(1, 2, 0, Some(A)), instance(2, 1, 4, Some(B))];
    problem
}

fn steps(problem: &Problem, allocations: Vec<Allocation>) -> String {
    let plan = Plan { generation: Generation(2), gpus: vec![GpuPlan { allocations }] };
    assert_eq!(audit(problem, &plan), Vec::new());
    transition(problem, &plan).describe(problem)
}

fn at(profile: u8, start: u8, instance: Option<u64>, task: Task) -> Allocation {
    Allocation { site: site(profile, start), instance: instance.map(InstanceId), task: Some(task) }
}

#[test]
fn keeping_everything_takes_no_steps() {
    assert!(transition(&host(), &keep(&host(), Generation(2))).is_empty());
}

#[test]
fn a_hand_over_preloads_while_the_old_task_serves() {
    let text = steps(&host(), vec![at(2, 0, Some(1), A), at(1, 4, Some(2), A)]);
    assert_eq!(
        text,
        "0 preload vision inference for #2 2g@4\n1 drain speech inference from #2 2g@4 (after 0)\n\
         2 release speech inference from #2 2g@4 (after 1)\n3 bind vision inference to #2 2g@4 (after 0, 2)\n\
         4 admit vision inference on #2 2g@4 (after 3)\n"
    );
}

#[test]
fn without_preloading_the_load_comes_after_the_release() {
    let mut problem = host();
    problem.costs.preload = false;
    let text = steps(&problem, vec![at(2, 0, Some(1), A), at(1, 4, Some(2), A)]);
    assert!(!text.contains("preload") && text.contains("2 bind vision inference to #2 2g@4 (after 1)"), "{text}");
}

#[test]
fn new_capacity_on_free_slices_is_admitted_before_the_old_is_drained() {
    // speech moves from 2g@4 to the free 1g@6, and vision gets 2g@4.
    let text = steps(&host(), vec![at(2, 0, Some(1), A), at(1, 4, Some(2), A), at(0, 6, None, B)]);
    let admitted = text.lines().find(|line| line.contains("admit speech")).unwrap().split(' ').next().unwrap().to_owned();
    let drain = text.lines().find(|line| line.contains("drain speech")).unwrap();
    assert!(drain.contains(&format!(", {admitted})")), "{text}");
}

#[test]
fn a_retraining_that_moves_resumes_after_its_release_even_on_free_slices() {
    let mut problem = host();
    problem.gpus[0].instances = vec![instance(1, 2, 0, Some(A_RETRAINS))];
    let text = steps(&problem, vec![at(2, 0, Some(1), A), at(1, 4, None, A_RETRAINS)]);
    let id = |what: &str| text.lines().position(|line| line.contains(what)).unwrap();
    let admit = text.lines().nth(id("admit vision retraining")).unwrap();
    assert!(admit.contains(&format!("(after {}", id("release vision retraining"))), "{text}");
}

#[derive(Clone, Debug, PartialEq)]
struct Slot {
    site: Site,
    bound: Option<Task>,
    admitted: bool,
}

/// The device and the workers as the steps leave them; refuses what hardware refuses.
#[derive(Default)]
struct Host {
    slots: BTreeMap<(usize, Target), Slot>,
    staged: BTreeSet<(Target, Task)>,
    preload: bool,
}

impl Host {
    fn new(problem: &Problem) -> Host {
        let mut host = Host { preload: problem.costs.preload, ..Host::default() };
        for (gpu, state) in problem.gpus.iter().enumerate() {
            for old in &state.instances {
                let slot = Slot { site: old.site, bound: old.task, admitted: old.task.is_some() };
                host.slots.insert((gpu, Target::Existing(old.id)), slot);
            }
        }
        host
    }

    fn slot(&mut self, target: Target) -> &mut Slot {
        self.slots.iter_mut().find(|((_, of), _)| *of == target).map(|(_, slot)| slot).expect("the instance exists")
    }

    fn apply(&mut self, step: &Step) {
        match *step {
            Step::Preload { target, task } => assert!(self.staged.insert((target, task))),
            Step::Drain { instance, task } => {
                let slot = self.slot(Target::Existing(instance));
                assert!(slot.bound == Some(task) && slot.admitted);
                slot.admitted = false;
            }
            Step::Release { instance, task } => {
                let slot = self.slot(Target::Existing(instance));
                assert!(slot.bound == Some(task) && !slot.admitted, "drained before it is released");
                slot.bound = None;
            }
            Step::Destroy { gpu, instance, site } => {
                let slot = self.slots.remove(&(gpu, Target::Existing(instance))).expect("the instance exists");
                assert!(slot.bound.is_none() && slot.site == site);
            }
            Step::Create { key } => {
                let clash = self.slots.iter().any(|((gpu, _), s)| *gpu == key.gpu && s.site.placement.overlaps(key.site.placement));
                assert!(!clash, "two owners of a memory slice");
                self.slots.insert((key.gpu, Target::New(key)), Slot { site: key.site, bound: None, admitted: false });
            }
            Step::Bind { target, task } => {
                assert!(!self.preload || self.staged.contains(&(target, task)));
                let slot = self.slot(target);
                assert_eq!(slot.bound.replace(task), None);
            }
            Step::Admit { target, task } => {
                let twice = self.slots.values().any(|slot| slot.admitted && slot.bound == Some(task));
                assert!(task.kind == TaskKind::Inference || !twice, "a retraining runs once");
                let slot = self.slot(target);
                assert!(slot.bound == Some(task) && !slot.admitted);
                slot.admitted = true;
            }
        }
    }
}

fn waits(step: &PlannedStep) -> impl Iterator<Item = &usize> {
    step.after.iter().chain(&step.follows)
}

fn replay(problem: &Problem, plan: &Plan, pick: &mut impl FnMut(usize) -> usize) {
    let mut left = transition(problem, plan).steps;
    assert!(left.iter().enumerate().all(|(id, step)| step.id == id && waits(step).all(|&before| before < id)));
    let (mut host, mut done) = (Host::new(problem), BTreeSet::new());
    while !left.is_empty() {
        let ready: Vec<usize> = (0..left.len()).filter(|&index| waits(&left[index]).all(|before| done.contains(before))).collect();
        let next = left.remove(ready[pick(ready.len())]);
        host.apply(&next.step);
        done.insert(next.id);
    }
    for (gpu, target) in plan.gpus.iter().enumerate() {
        let count = host.slots.keys().filter(|(of, _)| *of == gpu).count();
        assert_eq!(count, target.allocations.len());
        for new in &target.allocations {
            let key = new.instance.map_or(Target::New(SiteKey { gpu, site: new.site }), Target::Existing);
            assert_eq!(host.slots[&(gpu, key)], Slot { site: new.site, bound: new.task, admitted: new.task.is_some() });
        }
    }
}

/// Orders in which the steps may be carried out: of those that may begin, any.
fn replay_any(problem: &Problem, plan: &Plan, seed: u64) {
    let mut dice = Dice(seed);
    replay(problem, plan, &mut |ready| dice.below(ready));
}

#[test]
fn any_order_that_the_graph_allows_ends_in_the_plan_without_two_owners_of_a_slice() {
    for seed in mixed::seeds(500) {
        let problem = mixed::host(seed, 1 + seed as usize % 3, 3, true);
        let plan = mixed::plan(&problem, seed + 1);
        assert_eq!(audit(&problem, &plan), Vec::new(), "seed {seed}");
        (0..4).for_each(|order| replay_any(&problem, &plan, seed + order));
    }
}

/// Total cost of the order that is found, and that of the best of all.
fn found_and_best(problem: &Problem, plan: &Plan, most: usize) -> Option<(f64, f64)> {
    let jobs = Jobs::new(problem, plan);
    if jobs.all.is_empty() || jobs.all.len() > most {
        return None;
    }
    let cost = |order: &[usize]| Timeline::of(&jobs, order).cost(&jobs).total();
    let mut best = f64::INFINITY;
    every(&jobs, &mut Vec::new(), &mut |order| best = best.min(cost(order)));
    let found = order(&jobs);
    assert!(found.exact);
    Some((cost(&found.order), best))
}

#[test]
fn no_order_of_jobs_loses_less_than_the_one_that_is_found() {
    let mut tried = 0;
    for seed in mixed::seeds(4000) {
        let problem = mixed::host(seed, 1 + seed as usize % 2, 2, false);
        if let Some((found, best)) = found_and_best(&problem, &mixed::plan(&problem, seed + 7), 6) {
            assert!((found - best).abs() < 1e-6, "seed {seed}: {found} against {best}");
            tried += 1;
        }
    }
    assert!(tried > 500, "{tried}");
}

/// Cost of the best schedule there is when each drain may begin at any tenth of a second and device calls come in any order: what no order
/// of jobs can beat.
fn best_by_the_clock(jobs: &Jobs) -> f64 {
    let drains: Vec<usize> = (0..jobs.all.len()).filter(|&index| jobs.all[index].leaves() && jobs.all[index].task.is_some()).collect();
    let mut best = f64::INFINITY;
    every(jobs, &mut Vec::new(), &mut |order| {
        for code in 0..CLOCK.pow(drains.len() as u32) {
            let mut starts = vec![0.0; jobs.all.len()];
            let mut code = code;
            for &drain in &drains {
                starts[drain] = f64::from((code % CLOCK) as u32) / 10.0;
                code /= CLOCK;
            }
            best = best.min(Timeline::by_the_clock(jobs, order, &starts).cost(jobs).total());
        }
    });
    best
}

/// Tenths of a second at which a drain may begin.
const CLOCK: usize = 50;

#[test]
fn waiting_otherwise_than_by_order_gains_no_more_than_a_drain_each() {
    let mut tried = 0;
    for seed in mixed::seeds(300) {
        let problem = mixed::host(seed, 1, 1, false);
        let plan = mixed::plan(&problem, seed + 7);
        let jobs = Jobs::new(&problem, &plan);
        let drains = jobs.all.iter().filter(|job| job.leaves() && job.task.is_some()).count();
        if jobs.all.len() > 4 || !(1..=2).contains(&drains) {
            continue;
        }
        let found = Timeline::of(&jobs, &order(&jobs).order).cost(&jobs).total();
        // By the clock, a drain may end just when the device is free for what comes after it; here, drains of what is cut together begin together.
        let sooner = (1.0 + LATE + 0.1) * problem.costs.drain_s * drains as f64 + 0.02;
        let best = best_by_the_clock(&jobs);
        assert!(found <= best + sooner, "seed {seed}: {found} against {best}");
        tried += 1;
    }
    assert!(tried > 20, "{tried}");
}
