use std::collections::BTreeMap;

use migrator_mig::{Catalog, Placement, ProfileId, Site};
use migrator_solver::{
    Allocation, GpuModel, GpuPlan, GpuState, InstanceState, PlannedStep, Scenario, SiteKey, Target, Task, TenantId, TenantState,
    TransitionCosts,
};
use proptest::prelude::*;

use super::*;
use crate::Invariant;

const OLD: InstanceId = InstanceId(1);
const NEW: InstanceId = InstanceId(9);

fn ms(ms: u64) -> Time {
    Time(ms * 1000)
}

fn task() -> Task {
    Task::inference(TenantId(0))
}

fn whole() -> Site {
    Site { placement: Placement { start: 0, size: 8 }, profile: ProfileId(4) }
}

fn half() -> Site {
    Site { placement: Placement { start: 0, size: 4 }, profile: ProfileId(3) }
}

fn key() -> SiteKey {
    SiteKey { gpu: 0, site: half() }
}

fn tenant() -> TenantState {
    TenantState {
        name: "vision".into(),
        weight: 1.0,
        demand: Scenario::certain(vec![10.0]),
        capacity_rps: vec![vec![10.0, 20.0, 30.0, 40.0, 70.0]],
        memory_mib: 0,
        backlog: 0.0,
        accuracy: 0.8,
        load_s: 2.0,
        retraining: None,
        floor_rps: 0.0,
    }
}

/// One 7g instance that serves, to become one 4g that serves.
fn problem() -> Problem {
    let instance = InstanceState { id: OLD, site: whole(), task: Some(task()), ready_in_s: 0.0, pinned: false };
    Problem {
        models: vec![GpuModel { catalog: Catalog::seven_slices("cpu", 8000), create_s: vec![0.3; 5], destroy_s: vec![0.3; 5] }],
        gpus: vec![GpuState { model: 0, instances: vec![instance] }],
        tenants: vec![tenant()],
        window_left_s: 100.0,
        beyond_window_s: 0.0,
        costs: TransitionCosts { drain_s: 0.1, handover_s: 0.1, preload: true },
    }
}

fn plan() -> Plan {
    let allocation = Allocation { site: half(), instance: None, task: Some(task()) };
    Plan { generation: Generation(1), gpus: vec![GpuPlan { allocations: vec![allocation] }] }
}

/// 0 preload, 1 drain, 2 release, 3 destroy, 4 create, 5 bind, 6 admit.
fn transition(generation: u64) -> Transition {
    let target = Target::New(key());
    let steps = vec![
        (Step::Preload { target, task: task() }, vec![]),
        (Step::Drain { instance: OLD, task: task() }, vec![0]),
        (Step::Release { instance: OLD, task: task() }, vec![1]),
        (Step::Destroy { gpu: 0, instance: OLD, site: whole() }, vec![2]),
        (Step::Create { key: key() }, vec![3]),
        (Step::Bind { target, task: task() }, vec![0, 4]),
        (Step::Admit { target, task: task() }, vec![5]),
    ];
    let planned = steps.into_iter().enumerate().map(|(id, (step, after))| PlannedStep { id, step, after, follows: Vec::new() });
    Transition { generation: Generation(generation), steps: planned.collect() }
}

fn begun() -> MigrationMachine {
    let mut machine = MigrationMachine::new(MigrationConfig::default());
    machine.begin(ms(0), &problem(), &plan(), transition(1)).unwrap();
    machine
}

fn polled(machine: &mut MigrationMachine, now: Time) -> Vec<MigrationWish> {
    let wishes = std::iter::from_fn(|| machine.poll(now)).collect();
    assert_eq!(machine.check(), []);
    wishes
}

fn doing(wishes: &[MigrationWish]) -> Vec<(usize, u32)> {
    let step = |wish: &MigrationWish| if let MigrationWish::Do { id, attempt, .. } = wish { Some((*id, *attempt)) } else { None };
    wishes.iter().filter_map(step).collect()
}

fn report(wishes: &[MigrationWish]) -> MigrationReport {
    let finished = |wish: &MigrationWish| if let MigrationWish::Finished(report) = wish { Some(report.clone()) } else { None };
    wishes.iter().find_map(finished).expect("finished")
}

fn ok(step: usize) -> Result<StepOk, StepError> {
    Ok(StepOk { instance: (step == 4).then_some(NEW) })
}

/// Carries steps out until `last` is running, 100 ms each.
fn run_to(machine: &mut MigrationMachine, last: usize) -> Time {
    let mut now = ms(0);
    for step in 0..=last {
        assert_eq!(doing(&polled(machine, now)), [(step, 0)]);
        if step < last {
            now = now + Duration::from_millis(100);
            machine.done(now, step, ok(step));
        }
    }
    now
}

fn broken() -> Result<StepOk, StepError> {
    Err(StepError::Failed("broken".into()))
}

/// Fails the running step twice.
fn fail_for_good(machine: &mut MigrationMachine, step: usize, now: Time) -> Time {
    machine.done(now, step, broken());
    assert_eq!(polled(machine, now), []);
    let again = machine.timeout().unwrap();
    machine.handle_timeout(again);
    assert_eq!(doing(&polled(machine, again)), [(step, 1)]);
    machine.done(again, step, broken());
    again
}

#[test]
fn steps_run_when_their_predecessors_are_done_and_the_report_tells_each() {
    let mut machine = begun();
    let now = run_to(&mut machine, 6);
    assert_eq!(machine.progress(), (6, 7));
    machine.done(now, 6, ok(6));
    let report = report(&polled(&mut machine, now));
    assert!(report.complete());
    assert_eq!((report.generation, report.created.clone()), (Generation(1), vec![(key(), NEW)]));
    assert!((report.took_s - 0.6).abs() < 1e-9);
    assert_eq!(report.by_kind().len(), 7);
    assert_eq!((machine.running(), machine.timeout()), (None, None));
}

#[test]
fn service_is_lost_from_the_drain_to_the_admit() {
    let mut machine = begun();
    let now = run_to(&mut machine, 6) + Duration::from_millis(100);
    machine.done(now, 6, ok(6));
    let report = report(&polled(&mut machine, now));
    assert!((report.lost_s - 0.6).abs() < 1e-9, "{}", report.lost_s);
    assert!((report.idle_slice_s - 0.5 * 4.0).abs() < 1e-9, "{}", report.idle_slice_s);
}

#[test]
fn new_steps_name_the_instance_that_the_create_made() {
    let mut machine = begun();
    let now = run_to(&mut machine, 4);
    machine.done(now, 4, ok(4));
    let wishes = polled(&mut machine, now);
    assert!(matches!(wishes[0], MigrationWish::Do { id: 5, instance: Some(NEW), .. }), "{wishes:?}");
}

#[test]
fn independent_steps_run_at_the_same_time() {
    let mut transition = transition(1);
    transition.steps[1].after.clear();
    let mut machine = MigrationMachine::new(MigrationConfig::default());
    machine.begin(ms(0), &problem(), &plan(), transition).unwrap();
    assert_eq!(doing(&polled(&mut machine, ms(0))), [(0, 0), (1, 0)]);
}

#[test]
fn an_older_generation_is_refused_and_so_is_a_second_at_the_same_time() {
    let mut machine = begun();
    let again = machine.begin(ms(0), &problem(), &plan(), transition(2));
    assert_eq!(again, Err(Refused::Busy(Generation(1))));
    let now = run_to(&mut machine, 6);
    machine.done(now, 6, ok(6));
    polled(&mut machine, now);
    let stale = machine.begin(now, &problem(), &plan(), transition(1));
    assert_eq!(stale, Err(Refused::Stale { last: Generation(1), found: Generation(1) }));
    assert_eq!(machine.begin(now, &problem(), &plan(), transition(2)), Ok(()));
}

#[test]
fn steps_in_an_impossible_order_are_refused() {
    let mut transition = transition(1);
    transition.steps[2].after = vec![5];
    let mut machine = MigrationMachine::new(MigrationConfig::default());
    assert_eq!(machine.begin(ms(0), &problem(), &plan(), transition), Err(Refused::Malformed(2)));
}

#[test]
fn a_transition_without_steps_is_over_at_once() {
    let mut machine = MigrationMachine::new(MigrationConfig::default());
    machine.begin(ms(0), &problem(), &plan(), Transition { generation: Generation(1), steps: vec![] }).unwrap();
    assert!(report(&polled(&mut machine, ms(0))).complete());
}

#[test]
fn a_preload_that_fails_twice_leaves_the_old_instance_serving() {
    let mut machine = begun();
    let now = run_to(&mut machine, 0);
    let now = fail_for_good(&mut machine, 0, now);
    let report = report(&polled(&mut machine, now));
    assert_eq!((report.failed.len(), report.abandoned.clone(), report.lost_s), (1, vec![1, 2, 3, 4, 5, 6], 0.0));
}

#[test]
fn a_preload_that_fails_beside_a_drain_gets_the_drained_instance_admitted_again() {
    let mut transition = transition(1);
    transition.steps[1].after.clear();
    transition.steps[2].after = vec![0, 1];
    let mut machine = MigrationMachine::new(MigrationConfig::default());
    machine.begin(ms(0), &problem(), &plan(), transition).unwrap();
    assert_eq!(doing(&polled(&mut machine, ms(0))), [(0, 0), (1, 0)]);
    machine.done(ms(10), 1, ok(1));
    let now = fail_for_good(&mut machine, 0, ms(10));
    let wishes = polled(&mut machine, now);
    let again = Step::Admit { target: Target::Existing(OLD), task: task() };
    assert_eq!(wishes, [MigrationWish::Do { id: 7, step: again, instance: Some(OLD), attempt: 0 }]);
    machine.done(now, 7, ok(7));
    let report = report(&polled(&mut machine, now));
    assert!(!report.complete() && (report.lost_s - 0.11).abs() < 1e-9, "{}", report.lost_s);
}

#[test]
fn a_create_that_fails_twice_stops_the_worker_that_was_staged() {
    let mut machine = begun();
    let now = run_to(&mut machine, 4);
    let now = fail_for_good(&mut machine, 4, now);
    let wishes = polled(&mut machine, now);
    assert_eq!(wishes[0], MigrationWish::Unstage { target: Target::New(key()), task: task() });
    assert_eq!(report(&wishes).abandoned, [5, 6]);
}

#[test]
fn a_destroy_in_use_is_tried_until_its_deadline() {
    let mut machine = begun();
    let mut now = run_to(&mut machine, 3);
    let mut tries = 0;
    while machine.running().is_some() {
        machine.done(now, 3, Err(StepError::InUse));
        now = machine.timeout().unwrap_or(now);
        machine.handle_timeout(now);
        tries += doing(&polled(&mut machine, now)).len();
    }
    assert!((90..=100).contains(&tries), "{tries}");
}

#[test]
fn a_drain_that_does_not_end_is_forced() {
    let mut machine = begun();
    run_to(&mut machine, 1);
    let deadline = machine.timeout().unwrap();
    machine.handle_timeout(deadline);
    assert_eq!(doing(&polled(&mut machine, deadline)), [(2, 0)]);
}

#[test]
fn a_step_without_an_answer_fails_and_a_late_answer_changes_nothing() {
    let mut machine = begun();
    run_to(&mut machine, 4);
    let deadline = machine.timeout().unwrap();
    machine.handle_timeout(deadline);
    machine.done(deadline, 4, ok(4));
    let report = report(&polled(&mut machine, deadline));
    assert!(report.failed[0].reason.contains("no answer within 10.0 s") && report.created.is_empty());
}

#[test]
fn a_create_over_an_existing_instance_is_refused_and_counted_as_a_bug() {
    let mut transition = transition(1);
    transition.steps[4].after.clear();
    let mut machine = MigrationMachine::new(MigrationConfig::default());
    machine.begin(ms(0), &problem(), &plan(), transition).unwrap();
    let wishes: Vec<MigrationWish> = std::iter::from_fn(|| machine.poll(ms(0))).collect();
    assert!(doing(&wishes).iter().all(|d| d.0 != 4));
    assert_eq!(machine.check()[0].invariant, Invariant::OneOwnerPerSlice);
}

#[test]
fn a_lost_instance_counts_as_lost_service() {
    let mut machine = begun();
    run_to(&mut machine, 0);
    machine.instance_lost(ms(500), OLD);
    machine.done(ms(1500), 0, ok(0));
    for (step, at) in (1..7).zip(15..) {
        polled(&mut machine, ms(at * 100));
        machine.done(ms(at * 100), step, ok(step));
    }
    let report = report(&polled(&mut machine, ms(2000)));
    assert!((report.lost_s - 1.5).abs() < 1e-9, "{}", report.lost_s);
}

/// Creates two instances on free slices of GPU 0 and one on GPU 1, and a drain that follows the first create.
fn creates() -> Transition {
    let key = |gpu: usize, start: u8| SiteKey { gpu, site: Site { placement: Placement { start, size: 1 }, profile: ProfileId(0) } };
    let step = |id: usize, step: Step, follows: Vec<usize>| PlannedStep { id, step, after: Vec::new(), follows };
    let steps = vec![
        step(0, Step::Create { key: key(0, 4) }, vec![]),
        step(1, Step::Create { key: key(0, 5) }, vec![]),
        step(2, Step::Create { key: key(1, 0) }, vec![]),
        step(3, Step::Drain { instance: OLD, task: task() }, vec![0]),
    ];
    Transition { generation: Generation(1), steps }
}

#[test]
fn device_calls_of_a_gpu_come_one_at_a_time_and_those_of_others_at_once() {
    let mut machine = MigrationMachine::new(MigrationConfig::default());
    machine.begin(ms(0), &Problem { gpus: vec![], ..problem() }, &plan(), creates()).unwrap();
    assert_eq!(doing(&polled(&mut machine, ms(0))), [(0, 0), (2, 0)]);
    machine.done(ms(100), 0, Ok(StepOk { instance: Some(NEW) }));
    assert_eq!(doing(&polled(&mut machine, ms(100))), [(1, 0), (3, 0)]);
}

#[test]
fn what_follows_a_step_begins_even_when_that_fails() {
    let mut machine = MigrationMachine::new(MigrationConfig::default());
    machine.begin(ms(0), &Problem { gpus: vec![], ..problem() }, &plan(), creates()).unwrap();
    polled(&mut machine, ms(0));
    machine.done(ms(0), 0, broken());
    // While the first create waits for its next try, the other takes the device, and the first does not cut in.
    assert_eq!(doing(&polled(&mut machine, ms(0))), [(1, 0)]);
    assert!(machine.timeout() > Some(ms(5000)));
    machine.done(ms(300), 1, Ok(StepOk { instance: Some(NEW) }));
    assert_eq!(doing(&polled(&mut machine, ms(300))), [(0, 1)]);
    machine.done(ms(400), 0, broken());
    assert_eq!(doing(&polled(&mut machine, ms(400))), [(3, 0)]);
}

proptest! {
    #[test]
    fn every_transition_ends_and_never_overlaps_whatever_fails(
        outcomes in prop::collection::vec((0u8..6, 0u64..3000), 0..60),
        edges in prop::collection::vec(any::<bool>(), 2),
    ) {
        let mut transition = transition(1);
        if edges[0] { transition.steps[1].after.clear(); }
        if edges[1] { transition.steps[4].after = vec![0, 3]; }
        let mut machine = MigrationMachine::new(MigrationConfig::default());
        machine.begin(ms(0), &problem(), &plan(), transition).unwrap();
        let (mut now, mut outcomes, mut running, mut ended) = (ms(0), outcomes.into_iter(), BTreeMap::new(), false);
        for _ in 0..5000 {
            for wish in polled(&mut machine, now) {
                match wish {
                    MigrationWish::Do { id, step, .. } => { running.insert(id, step); }
                    MigrationWish::Finished(_) => ended = true,
                    MigrationWish::Unstage { .. } => {}
                }
            }
            if ended { break; }
            let (outcome, wait) = outcomes.next().unwrap_or((0, 10));
            now = now + Duration::from_millis(wait);
            if outcome == 5 {
                now = now.max(machine.timeout().unwrap());
            } else if let Some((id, step)) = running.pop_first() {
                let made = matches!(step, Step::Create { .. }).then_some(InstanceId(100 + id as u64));
                machine.done(now, id, match outcome {
                    3 => Err(StepError::InUse),
                    4 => broken(),
                    _ => Ok(StepOk { instance: made }),
                });
            }
            if let Some(timer) = machine.timeout().filter(|&t| t <= now || running.is_empty()) {
                now = now.max(timer);
                machine.handle_timeout(now);
            }
        }
        prop_assert!(ended);
    }
}
