use migrator_mig::{Catalog, Site};
use migrator_models::Curve;
use migrator_models::curve::CurvePoint;
use migrator_solver::{InstanceState, SolveOptions, Step, Target, Task, TenantId, Transition, solve};

use super::*;
use crate::migration::{MigrationConfig, MigrationMachine, MigrationWish, StepError, StepOk, StepTook};
use crate::retraining::RetrainingStatus;
use crate::tenant::{Accuracy, Telemetry};

mod chaos;
mod roster;

fn s(seconds: f64) -> Time {
    Time::from_secs(seconds)
}

fn planning(name: &str) -> TenantPlanning {
    let points = [(1, 5.0), (4, 8.0), (16, 20.0)].map(|(batch, core_ms)| CurvePoint { batch, core_ms }).to_vec();
    TenantPlanning { name: name.into(), curve: Curve { points }, slo_ms: 200.0, ..TenantPlanning::default() }
}

fn config() -> CoordinatorConfig {
    CoordinatorConfig {
        gpus: vec![GpuConfig { catalog: Catalog::seven_slices("cpu", 8000), cores_per_slice: 0.25 }],
        tenants: vec![planning("vision"), planning("text")],
        ..CoordinatorConfig::default()
    }
}

fn tenant_tick(arrivals: u64) -> TenantTick {
    let telemetry = Telemetry { seconds: 1.0, arrivals, ..Telemetry::default() };
    TenantTick { telemetry, retraining: RetrainingStatus::default() }
}

fn tick(arrivals: [u64; 2], instances: Vec<InstanceState>) -> Tick {
    Tick { tenants: arrivals.map(tenant_tick).to_vec(), instances: vec![instances] }
}

fn polled(machine: &mut CoordinatorMachine, now: Time) -> Vec<CoordinatorWish> {
    assert_eq!(machine.check(), []);
    std::iter::from_fn(|| machine.poll(now)).collect()
}

fn asked(wishes: &[CoordinatorWish]) -> Option<(Problem, Option<Plan>, SolveOptions)> {
    wishes.iter().find_map(|wish| match wish {
        CoordinatorWish::Solve { problem, previous, options } => Some((*problem.clone(), previous.clone(), options.clone())),
        _ => None,
    })
}

fn executed(wishes: &[CoordinatorWish]) -> Option<(Problem, Plan, Transition)> {
    wishes.iter().find_map(|wish| match wish {
        CoordinatorWish::Execute { problem, plan, transition } => Some((*problem.clone(), plan.clone(), transition.clone())),
        _ => None,
    })
}

fn verdicts(machine: &mut CoordinatorMachine) -> Vec<String> {
    machine.take_decisions().iter().map(ToString::to_string).collect()
}

/// A coordinator whose first solve is under way, and its problem.
fn solving() -> (CoordinatorMachine, Problem, SolveOptions) {
    let mut machine = CoordinatorMachine::new(config(), Generation(0));
    machine.tick(s(1.0), &tick([20, 5], vec![]));
    let (problem, _, options) = asked(&polled(&mut machine, s(1.0))).unwrap();
    (machine, problem, options)
}

/// The same with the answer in and its execution asked for.
fn migrating() -> (CoordinatorMachine, Plan, Transition) {
    let (mut machine, problem, options) = solving();
    let outcome = solve(&problem, None, &options).unwrap();
    machine.solved(s(1.1), options.generation, Ok(outcome), 100.0);
    let (_, plan, transition) = executed(&polled(&mut machine, s(1.1))).unwrap();
    (machine, plan, transition)
}

fn report(generation: Generation) -> MigrationReport {
    MigrationReport {
        generation,
        began_s: 1.1,
        took_s: 2.0,
        lost_s: 0.5,
        idle_slice_s: 1.5,
        steps: vec![],
        failed: vec![],
        abandoned: vec![],
        forced: vec![],
        created: vec![],
    }
}

/// Instances as the plan wants them, numbered from 1.
fn as_planned(plan: &Plan) -> Vec<InstanceState> {
    let allocations = plan.gpus[0].allocations.iter().enumerate();
    allocations
        .map(|(i, a)| InstanceState { id: InstanceId(i as u64 + 1), site: a.site, task: a.task, ready_in_s: 0.0, pinned: false })
        .collect()
}

#[test]
fn the_first_tick_starts_the_window_and_a_solve() {
    let mut machine = CoordinatorMachine::new(config(), Generation(7));
    machine.tick(s(1.0), &tick([20, 5], vec![]));
    let wishes = polled(&mut machine, s(1.0));
    assert_eq!(wishes[0], CoordinatorWish::StartWindow { window: 0 });
    let (problem, previous, options) = asked(&wishes).unwrap();
    assert_eq!((options.generation, previous), (Generation(8), None));
    assert_eq!((problem.window_left_s, problem.tenants.len()), (199.0, 2));
    assert!(problem.tenants[0].demand[0].rps[0] >= 20.0);
}

#[test]
fn a_plan_worth_it_is_executed_and_then_in_force() {
    let (mut machine, plan, transition) = migrating();
    assert!(!transition.is_empty() && machine.plan().is_none());
    assert_eq!(machine.migrating(), Some(Generation(1)));
    machine.migrated(s(4.0), &report(Generation(1)));
    assert_eq!(machine.plan().unwrap().0, &plan);
    let log = verdicts(&mut machine);
    assert!(log[0].starts_with("1.100 g1 execute: ") && log[1].starts_with("4.000 g1 migrated: 0 steps in 2.000 s"), "{log:?}");
}

#[test]
fn only_one_solve_runs_at_a_time_and_none_during_a_migration() {
    let (mut machine, ..) = solving();
    machine.tick(s(2.0), &tick([20, 5], vec![]));
    assert!(asked(&polled(&mut machine, s(2.0))).is_none());
    let (mut machine, ..) = migrating();
    machine.tick(s(30.0), &tick([20, 5], vec![]));
    assert!(asked(&polled(&mut machine, s(30.0))).is_none());
}

#[test]
fn after_a_change_the_dwell_time_is_kept_unless_an_instance_is_lost() {
    let (mut machine, plan, _) = migrating();
    machine.migrated(s(4.0), &report(Generation(1)));
    let there = as_planned(&plan);
    for at in 5..14 {
        machine.tick(s(f64::from(at)), &tick([20, 5], there.clone()));
        assert!(asked(&polled(&mut machine, s(f64::from(at)))).is_none());
    }
    machine.tick(s(14.0), &tick([20, 5], there.clone()));
    assert!(asked(&polled(&mut machine, s(14.0))).is_some());

    let (mut machine, _, _) = migrating();
    machine.migrated(s(4.0), &report(Generation(1)));
    machine.instance_lost(s(4.5), InstanceId(1));
    machine.tick(s(5.0), &tick([20, 5], there[1..].to_vec()));
    let (_, previous, _) = asked(&polled(&mut machine, s(5.0))).unwrap();
    assert_eq!(previous.unwrap().generation, Generation(1));
}

#[test]
fn a_tenant_without_an_instance_does_not_wait_for_the_dwell_time() {
    let (mut machine, ..) = migrating();
    machine.migrated(s(4.0), &report(Generation(1)));
    machine.tick(s(5.0), &tick([20, 5], vec![]));
    assert!(asked(&polled(&mut machine, s(5.0))).is_some());
}

#[test]
fn a_failed_migration_is_not_tried_again_at_once() {
    let (mut machine, ..) = migrating();
    let mut failed = report(Generation(1));
    failed.abandoned = vec![3];
    machine.migrated(s(4.0), &failed);
    machine.tick(s(5.0), &tick([20, 5], vec![]));
    assert!(asked(&polled(&mut machine, s(5.0))).is_none());
    machine.tick(s(14.5), &tick([20, 5], vec![]));
    assert!(asked(&polled(&mut machine, s(14.5))).is_some());
}

#[test]
fn a_failed_solve_leaves_the_plan_in_force_and_says_why() {
    let (mut machine, _, options) = solving();
    machine.solved(s(1.2), options.generation, Err("nan".into()), 3.0);
    assert!(machine.plan().is_none() && polled(&mut machine, s(1.2)).is_empty());
    assert_eq!(verdicts(&mut machine), ["1.200 g1 solve failed: nan"]);
    machine.tick(s(2.0), &tick([20, 5], vec![]));
    assert_eq!(asked(&polled(&mut machine, s(2.0))).unwrap().2.generation, Generation(2));
}

#[test]
fn a_late_solve_is_given_up_and_its_answer_ignored() {
    let (mut machine, problem, options) = solving();
    let timer = machine.timeout().unwrap();
    assert_eq!(timer, s(6.0));
    machine.handle_timeout(timer);
    let outcome = solve(&problem, None, &options).unwrap();
    machine.solved(s(7.0), options.generation, Ok(outcome), 6000.0);
    assert!(polled(&mut machine, s(7.0)).is_empty());
    assert_eq!(verdicts(&mut machine), ["6.000 g1 solve failed: no answer within 5.0 s"]);
}

#[test]
fn a_plan_that_no_longer_fits_the_gpus_is_rejected() {
    let (mut machine, problem, options) = solving();
    let outcome = solve(&problem, None, &options).unwrap();
    let there = as_planned(&outcome.plan);
    machine.tick(s(2.0), &tick([20, 5], there));
    machine.solved(s(2.1), options.generation, Ok(outcome), 1100.0);
    assert!(executed(&polled(&mut machine, s(2.1))).is_none());
    assert!(verdicts(&mut machine)[0].starts_with("2.100 g1 reject: A7"));
}

#[test]
fn a_plan_made_before_an_instance_was_lost_is_rejected() {
    let (mut machine, problem, options) = solving();
    machine.instance_lost(s(1.05), InstanceId(3));
    let outcome = solve(&problem, None, &options).unwrap();
    machine.solved(s(1.1), options.generation, Ok(outcome), 100.0);
    assert_eq!(verdicts(&mut machine)[1], "1.100 g1 reject: an instance was lost meanwhile");
}

#[test]
fn a_refused_transition_leaves_the_plan_in_force() {
    let (mut machine, ..) = migrating();
    machine.refused(s(2.0), Generation(1), "stale");
    assert_eq!((machine.migrating(), machine.plan().is_none()), (None, true));
}

#[test]
fn windows_start_once_each_and_those_slept_through_are_left_out() {
    let mut machine = CoordinatorMachine::new(config(), Generation(0));
    let mut started = Vec::new();
    for at in [0.0, 1.0, 199.9, 200.0, 200.1, 850.0] {
        machine.handle_timeout(s(at));
        started.extend(polled(&mut machine, s(at)));
    }
    let windows = [0, 1, 4].map(|window| CoordinatorWish::StartWindow { window });
    assert_eq!(started, windows);
    assert_eq!(machine.timeout(), Some(s(1000.0)));
    assert_eq!(machine.window(s(850.0)), (4, 50.0, 200.0));
}

#[test]
fn memory_and_slo_decide_which_profiles_have_capacity() {
    let mut config = config();
    config.tenants[0].memory_mib = 2500;
    config.tenants[1].slo_ms = 9.0;
    let machine = CoordinatorMachine::new(config, Generation(0));
    let vision = &machine.capacity_by_profile(0)[0];
    assert!(vision[0] == 0.0 && vision[1] == 0.0 && vision[2] > 0.0 && vision[4] > vision[2], "{vision:?}");
    assert_eq!(machine.capacity_by_profile(1)[0][0], 0.0);
}

#[test]
fn slower_service_lowers_the_planned_capacity() {
    let mut machine = CoordinatorMachine::new(config(), Generation(0));
    let before = machine.capacity_by_profile(0)[0][4];
    let mut slow = tick([20, 5], vec![]);
    slow.tenants[0].telemetry.batches = 5;
    slow.tenants[0].telemetry.service_ratio = 2.0;
    (0..60).for_each(|at| machine.tick(s(f64::from(at)), &slow));
    let after = machine.capacity_by_profile(0)[0][4];
    assert!(after < before * 0.6, "{before} {after}");
}

#[test]
fn accuracy_follows_its_samples_and_the_gain_is_added() {
    let mut machine = CoordinatorMachine::new(config(), Generation(0));
    let mut seen = tick([20, 5], vec![]);
    seen.tenants[0].telemetry.accuracy = Some(Accuracy { value: 0.4, samples: 200.0 });
    seen.tenants[1].telemetry.accuracy = Some(Accuracy { value: 0.4, samples: 15.0 });
    seen.tenants[0].retraining = RetrainingStatus {
        due: true,
        core_s_left: 10.0,
        expected_gain: 0.1,
        reach: Some(0.65),
        validated: Some(0.9),
        ..Default::default()
    };
    machine.tick(s(1.0), &seen);
    let (problem, ..) = asked(&polled(&mut machine, s(1.0))).unwrap();
    assert!((problem.tenants[0].accuracy - 0.4).abs() < 1e-9 && (problem.tenants[1].accuracy - 0.55).abs() < 1e-9);
    let retraining = problem.tenants[0].retraining.as_ref().unwrap();
    assert!((retraining.accuracy_after - 0.65).abs() < 1e-9);
    assert!((retraining.seconds_left[0][0] - 40.0).abs() < 1e-9);
    assert!(problem.tenants[1].retraining.is_none());
}

#[test]
fn measured_steps_move_the_costs() {
    let (mut machine, plan, _) = migrating();
    let site: Site = plan.gpus[0].allocations[0].site;
    let key = migrator_solver::SiteKey { gpu: 0, site };
    let task = Task::inference(TenantId(0));
    let mut told = report(Generation(1));
    told.steps = vec![
        StepTook { step: Step::Create { key }, seconds: 1.3 },
        StepTook { step: Step::Preload { target: Target::New(key), task }, seconds: 13.0 },
        StepTook { step: Step::Drain { instance: InstanceId(1), task: Task::retraining(TenantId(0)) }, seconds: 9.0 },
    ];
    machine.migrated(s(4.0), &told);
    let costs = machine.costs.transition();
    assert!((machine.costs.model(&Catalog::seven_slices("cpu", 8000)).create_s[site.profile.index()] - 0.6).abs() < 1e-9);
    assert!((machine.costs.load_s(0) - 6.0).abs() < 1e-9 && machine.costs.load_s(1) == 3.0);
    assert_eq!(costs.drain_s, 0.2);
}
