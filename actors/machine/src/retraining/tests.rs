use std::time::Duration;

use migrator_models::Course;
use proptest::prelude::*;

use super::*;

const HERE: InstanceId = InstanceId(1);
const THERE: InstanceId = InstanceId(2);

fn s(seconds: u64) -> Time {
    Time(seconds * 1_000_000)
}

fn polled(machine: &mut RetrainingMachine) -> Vec<RetrainingWish> {
    assert_eq!(machine.check(), []);
    std::iter::from_fn(|| machine.poll(s(0))).collect()
}

fn better() -> Trained {
    Trained { before: 0.6, after: 0.9, held_out: 200, core_s: 8.0, ..Trained::default() }
}

/// Exported window 0, waiting for an instance.
fn waiting() -> RetrainingMachine {
    let mut machine = RetrainingMachine::new(RetrainingConfig::default());
    machine.window_started(s(0), 0);
    machine.samples(s(0), 100);
    assert_eq!(polled(&mut machine), [RetrainingWish::Export { window: 0 }]);
    machine.exported(s(1), 0, Ok(160));
    machine
}

fn running() -> RetrainingMachine {
    let mut machine = waiting();
    machine.placed(s(2), HERE);
    assert_eq!(polled(&mut machine), [RetrainingWish::Start { instance: HERE, window: 0, resume: false }]);
    machine.progress(s(3), 10, 40, 2.0);
    machine
}

#[test]
fn a_window_goes_from_samples_to_service() {
    let mut machine = running();
    assert_eq!(machine.text(), "running 25 %");
    machine.trained(s(9), better());
    assert_eq!(polled(&mut machine), [RetrainingWish::Publish { window: 0 }]);
    machine.published(s(10), Ok(7));
    assert_eq!(polled(&mut machine), [RetrainingWish::Swap { version: 7, accuracy: 0.9, held_out: 200 }]);
    machine.swapped(s(11), Ok(()));
    assert_eq!((machine.state(), machine.timeout()), (RetrainingState::Idle, None));
    assert_eq!(machine.status().validated, Some(0.9));
    assert_eq!(machine.history().next().unwrap().published, Some(7));
    assert_eq!(machine.text(), "idle (window 0 in service)");
}

#[test]
fn too_few_samples_are_waited_for() {
    let mut machine = RetrainingMachine::new(RetrainingConfig::default());
    machine.window_started(s(0), 0);
    machine.samples(s(1), 12);
    assert_eq!((polled(&mut machine).len(), machine.text().as_str()), (0, "waiting for samples (12 of 64)"));
    machine.samples(s(2), 64);
    assert_eq!(polled(&mut machine), [RetrainingWish::Export { window: 0 }]);
}

#[test]
fn every_window_needs_samples_of_its_own() {
    let mut machine = running();
    machine.trained(s(9), better());
    machine.published(s(10), Ok(7));
    machine.swapped(s(11), Ok(()));
    polled(&mut machine);
    machine.window_started(s(200), 1);
    assert_eq!((polled(&mut machine).len(), machine.text().as_str()), (0, "waiting for samples (0 of 64)"));
    machine.samples(s(201), 5);
    assert_eq!(polled(&mut machine), []);
    machine.samples(s(300), 64);
    assert_eq!(polled(&mut machine), [RetrainingWish::Export { window: 1 }]);
}

#[test]
fn a_tenant_that_is_not_retrained_stays_off() {
    let mut machine = RetrainingMachine::new(RetrainingConfig { enabled: false, ..RetrainingConfig::default() });
    machine.window_started(s(0), 0);
    machine.samples(s(0), 1000);
    assert_eq!((polled(&mut machine).len(), machine.text().as_str()), (0, "off"));
}

#[test]
fn the_coordinator_learns_what_is_left() {
    assert!(waiting().status().due);
    assert!((waiting().status().core_s_left - 160.0 * 5.0 * 0.01).abs() < 1e-9);
    assert!((running().status().core_s_left - 6.0).abs() < 1e-9);
    let mut machine = running();
    machine.trained(s(9), better());
    assert!(!machine.status().due && machine.status().core_s_left == 0.0);
    assert_eq!(machine.status().reach, Some(0.9));
}

#[test]
fn a_retraining_taken_away_pauses_and_resumes_elsewhere() {
    let mut machine = running();
    machine.take_away(s(4), HERE);
    assert_eq!(polled(&mut machine), [RetrainingWish::Pause { instance: HERE }]);
    machine.paused(s(5), 12, 40);
    assert_eq!(polled(&mut machine), [RetrainingWish::Drained { instance: HERE }]);
    assert_eq!(machine.text(), "paused at 30 %");
    assert!(machine.status().due && machine.status().begun);
    machine.placed(s(6), THERE);
    assert_eq!(polled(&mut machine), [RetrainingWish::Start { instance: THERE, window: 0, resume: true }]);
}

#[test]
fn a_pause_without_an_answer_is_taken_as_done() {
    let mut machine = running();
    machine.take_away(s(4), HERE);
    polled(&mut machine);
    let deadline = machine.timeout().unwrap();
    machine.handle_timeout(deadline);
    assert_eq!(polled(&mut machine), [RetrainingWish::Drained { instance: HERE }]);
    machine.paused(deadline, 12, 40);
    assert_eq!(machine.state(), RetrainingState::Paused);
}

#[test]
fn one_that_ends_while_it_is_to_pause_is_not_lost() {
    let mut machine = running();
    machine.take_away(s(4), HERE);
    machine.trained(s(4), better());
    let wishes = polled(&mut machine);
    assert!(wishes.contains(&RetrainingWish::Drained { instance: HERE }));
    assert_eq!(machine.state(), RetrainingState::Publishing);
}

#[test]
fn an_instance_on_which_nothing_runs_is_given_back_at_once() {
    let mut machine = running();
    machine.take_away(s(4), THERE);
    assert_eq!(polled(&mut machine), [RetrainingWish::Drained { instance: THERE }]);
    machine.trained(s(5), better());
    polled(&mut machine);
    machine.take_away(s(6), HERE);
    assert_eq!(polled(&mut machine), [RetrainingWish::Drained { instance: HERE }]);
}

#[test]
fn a_lost_worker_resumes_from_the_checkpoint_and_a_third_ends_the_window() {
    let mut machine = running();
    for at in 4..6 {
        machine.instance_lost(s(at), HERE);
        assert_eq!((machine.state(), polled(&mut machine).len()), (RetrainingState::Paused, 0));
        machine.placed(s(at), HERE);
        assert_eq!(polled(&mut machine), [RetrainingWish::Start { instance: HERE, window: 0, resume: true }]);
    }
    machine.instance_lost(s(7), HERE);
    assert!(matches!(polled(&mut machine)[0], RetrainingWish::Discard { window: 0, .. }));
    machine.window_started(s(8), 1);
    assert_eq!(machine.state(), RetrainingState::Collecting);
}

#[test]
fn a_worker_that_falls_silent_is_given_up() {
    let mut machine = running();
    let deadline = machine.timeout().unwrap();
    machine.handle_timeout(deadline);
    assert_eq!(polled(&mut machine), [RetrainingWish::Stalled { instance: HERE }]);
    assert_eq!(machine.state(), RetrainingState::Paused);
}

#[test]
fn a_version_that_is_not_better_is_thrown_away_and_told_of() {
    let mut machine = running();
    machine.trained(s(9), Trained { after: 0.61, ..better() });
    assert!(matches!(polled(&mut machine)[0], RetrainingWish::Discard { reason: DiscardReason::NotBetter { .. }, .. }));
    assert_eq!((machine.status().reach, machine.status().validated), (Some(0.61), Some(0.6)));
    assert_eq!(machine.history().next().unwrap().published, None);
}

#[test]
fn nan_is_thrown_away_and_not_recorded() {
    let mut machine = running();
    machine.trained(s(9), Trained { after: f64::NAN, ..better() });
    let discard = RetrainingWish::Discard { window: 0, reason: DiscardReason::Unusable };
    assert_eq!((polled(&mut machine), machine.history().count()), (vec![discard], 0));
}

/// Exported window 1 at 201 s, waiting for an instance.
fn waiting_again() -> RetrainingMachine {
    let mut machine = running();
    machine.trained(s(9), better());
    machine.published(s(10), Ok(7));
    machine.swapped(s(11), Ok(()));
    machine.take_away(s(12), HERE);
    machine.window_started(s(200), 1);
    machine.samples(s(200), 100);
    machine.exported(s(201), 1, Ok(160));
    polled(&mut machine);
    machine
}

#[test]
fn a_data_set_that_waited_is_written_anew_before_it_is_learnt_from() {
    let mut machine = waiting_again();
    machine.placed(s(260), HERE);
    assert_eq!(polled(&mut machine), [RetrainingWish::Export { window: 1 }]);
    assert!(machine.status().due, "the planner would take its instance away");
    machine.exported(s(261), 1, Ok(160));
    assert_eq!(polled(&mut machine), [RetrainingWish::Start { instance: HERE, window: 1, resume: false }]);
}

#[test]
fn an_instance_taken_away_while_the_data_set_is_written_anew_is_given_back() {
    let mut machine = waiting_again();
    machine.placed(s(260), HERE);
    machine.take_away(s(260), HERE);
    machine.exported(s(261), 1, Ok(160));
    let wishes = polled(&mut machine);
    assert_eq!(wishes, [RetrainingWish::Export { window: 1 }, RetrainingWish::Drained { instance: HERE }]);
    assert_eq!(machine.state(), RetrainingState::Waiting);
}

#[test]
fn exports_publications_and_swaps_end_by_themselves() {
    let mut machine = RetrainingMachine::new(RetrainingConfig::default());
    machine.window_started(s(0), 0);
    machine.samples(s(0), 100);
    machine.handle_timeout(machine.timeout().unwrap());
    assert_eq!(machine.text(), "idle (failed: the export took too long)");
    let mut machine = running();
    machine.trained(s(9), better());
    machine.handle_timeout(machine.timeout().unwrap());
    assert_eq!(machine.state(), RetrainingState::Idle);
    let mut machine = running();
    machine.trained(s(9), better());
    machine.published(s(9), Ok(3));
    machine.handle_timeout(machine.timeout().unwrap());
    assert_eq!((machine.state(), machine.status().validated), (RetrainingState::Idle, None));
}

#[test]
fn what_an_earlier_window_comes_to_late_is_not_taken_for_this_windows() {
    let mut machine = RetrainingMachine::new(RetrainingConfig::default());
    machine.window_started(s(0), 0);
    machine.samples(s(0), 100);
    machine.handle_timeout(machine.timeout().unwrap());
    machine.window_started(s(200), 1);
    machine.samples(s(200), 100);
    machine.exported(s(201), 0, Ok(160));
    assert_eq!(machine.state(), RetrainingState::Exporting);
    machine.exported(s(202), 1, Ok(160));
    assert_eq!(machine.state(), RetrainingState::Waiting);

    let mut machine = choosing();
    machine.handle_timeout(machine.timeout().unwrap());
    machine.window_started(s(200), 1);
    machine.samples(s(200), 100);
    machine.exported(s(201), 1, Ok(1000));
    machine.profiled(s(202), 0, Ok(tried(0.5, [0.6; 4])));
    assert_eq!(machine.state(), RetrainingState::Profiling);
}

fn choosing() -> RetrainingMachine {
    let configurations = usual(&TrainSpec::default());
    let mut machine = RetrainingMachine::new(RetrainingConfig { configurations, cores: 2.0, ..RetrainingConfig::default() });
    machine.window_started(s(0), 0);
    machine.samples(s(0), 100);
    polled(&mut machine);
    machine.exported(s(1), 0, Ok(1000));
    machine
}

/// Both kinds of [`usual`] configurations come to these accuracies after each epoch.
fn tried(before: f64, accuracy: [f64; 4]) -> Microprofile {
    let course = Course { accuracy: accuracy.to_vec(), samples: 100, sample_s: 0.001 };
    Microprofile { before, held_out: 400, courses: vec![course; 2], measure_s: 0.05, core_s: 1.0 }
}

#[test]
fn a_window_that_promises_much_is_retrained_as_foretold() {
    let mut machine = choosing();
    assert!(matches!(&polled(&mut machine)[..], [RetrainingWish::Profile { window: 0, tries }] if tries.len() == 2));
    assert!(!machine.status().due, "an instance would be of no use yet");
    machine.profiled(s(2), 0, Ok(tried(0.5, [0.6, 0.66, 0.7, 0.72])));
    let (status, foretold) = (machine.status(), machine.foretold().unwrap());
    assert!(status.due && status.foretold.is_some_and(|gain| gain > 0.2) && status.core_s_left == foretold.core_s);
    assert_eq!(machine.configuration().map(|train| train.frozen), Some(0.0));
    machine.placed(s(3), HERE);
    assert_eq!(polled(&mut machine), [RetrainingWish::Start { instance: HERE, window: 0, resume: false }]);
    machine.trained(s(9), better());
    machine.published(s(10), Ok(2));
    assert_eq!(machine.history().next().unwrap().foretold, Some(foretold));
}

#[test]
fn a_window_without_drift_is_not_retrained_once_the_foretelling_is_known_to_be_right() {
    let mut machine = choosing();
    for window in 0..6 {
        let at = s(200 * window);
        polled(&mut machine);
        machine.profiled(at, window, Ok(tried(0.9, [0.9, 0.9, 0.9, 0.9])));
        if machine.state() == RetrainingState::Idle {
            let wishes = polled(&mut machine);
            assert!(matches!(wishes[..], [RetrainingWish::Discard { reason: DiscardReason::NotWorth { .. }, .. }]), "{wishes:?}");
            assert!(machine.text().contains("not worth it"));
            return;
        }
        machine.placed(at, HERE);
        machine.trained(at, Trained { before: 0.9, after: 0.9, held_out: 400, core_s: 5.0, ..Trained::default() });
        machine.take_away(at, HERE);
        machine.window_started(s(200 * (window + 1)), window + 1);
        machine.samples(s(200 * (window + 1)), 100);
        machine.exported(s(200 * (window + 1)), window + 1, Ok(1000));
    }
    panic!("six windows in a row were worth it");
}

#[test]
fn without_a_microprofile_it_is_retrained_as_ever() {
    for result in [Err("no worker".to_owned()), Ok(tried(0.5, [f64::NAN; 4]))] {
        let mut machine = choosing();
        machine.profiled(s(2), 0, result);
        assert_eq!((machine.state(), machine.status().foretold, machine.configuration()), (RetrainingState::Waiting, None, None));
    }
    let mut machine = choosing();
    machine.handle_timeout(machine.timeout().unwrap());
    assert_eq!(machine.state(), RetrainingState::Waiting);
}

#[test]
fn a_newer_window_supersedes_a_microprofile() {
    let mut machine = choosing();
    polled(&mut machine);
    machine.window_started(s(200), 1);
    machine.profiled(s(201), 0, Ok(tried(0.5, [0.6; 4])));
    machine.samples(s(202), 100);
    let superseded = RetrainingWish::Discard { window: 0, reason: DiscardReason::Superseded(1) };
    assert_eq!(polled(&mut machine), [superseded, RetrainingWish::Export { window: 1 }]);
}

#[derive(Clone, Debug)]
enum Event {
    Window,
    Samples(u64),
    Exported(bool),
    Profiled(bool, f64),
    Placed(u64),
    TakeAway(u64),
    Lost(u64),
    Progress(u64),
    Paused,
    Live(u32, u64),
    Trial(u64, u64),
    Canaried(bool),
    Trained(f64, f64),
    Published(bool),
    Swapped(bool),
    Failed,
    Wait(u64),
}

fn event() -> impl Strategy<Value = Event> {
    prop_oneof![
        Just(Event::Window),
        (0u64..200).prop_map(Event::Samples),
        any::<bool>().prop_map(Event::Exported),
        (any::<bool>(), 0.0..1.0).prop_map(|(good, accuracy)| Event::Profiled(good, accuracy)),
        (1u64..4).prop_map(Event::Placed),
        (1u64..4).prop_map(Event::TakeAway),
        (1u64..4).prop_map(Event::Lost),
        (0u64..50).prop_map(Event::Progress),
        Just(Event::Paused),
        (1u32..4, 0u64..100).prop_map(|(version, right)| Event::Live(version, right)),
        (0u64..100, 0u64..100).prop_map(|(new, old)| Event::Trial(new, old)),
        any::<bool>().prop_map(Event::Canaried),
        (0.0..1.2, 0.0..1.2).prop_map(|(before, after)| Event::Trained(before, after)),
        any::<bool>().prop_map(Event::Published),
        any::<bool>().prop_map(Event::Swapped),
        Just(Event::Failed),
        (1u64..100).prop_map(Event::Wait),
    ]
}

fn said<T>(good: bool, value: T) -> Result<T, String> {
    if good { Ok(value) } else { Err("no".to_owned()) }
}

proptest! {
    #[test]
    fn invariants_hold_after_every_event_and_every_drain_is_answered(choosy in any::<bool>(), canary in any::<bool>(), events in prop::collection::vec(event(), 1..150)) {
        let configurations = if choosy { usual(&TrainSpec::default()) } else { Vec::new() };
        let mut machine = RetrainingMachine::new(RetrainingConfig { configurations, canary_share: if canary { 0.2 } else { 0.0 }, ..RetrainingConfig::default() });
        let (mut now, mut window, mut asked) = (s(0), 0, std::collections::BTreeSet::new());
        for event in events {
            match event {
                Event::Window => { machine.window_started(now, window); window += 1; }
                Event::Samples(count) => machine.samples(now, count),
                Event::Exported(good) => machine.exported(now, machine.job.window, said(good, 100)),
                Event::Profiled(good, accuracy) => machine.profiled(now, machine.job.window, said(good, tried(accuracy, [0.3, 0.4, 0.5, 0.6]))),
                Event::Placed(id) => machine.placed(now, InstanceId(id)),
                Event::TakeAway(id) => { asked.insert(InstanceId(id)); machine.take_away(now, InstanceId(id)); }
                Event::Lost(id) => machine.instance_lost(now, InstanceId(id)),
                Event::Progress(step) => machine.progress(now, step, 40, step as f64),
                Event::Paused => machine.paused(now, 3, 40),
                Event::Live(version, right) => machine.live(now, Live { version, right, of: 100 }, None),
                Event::Trial(new, old) => {
                    let side = |version, right| Live { version, right, of: 100 };
                    machine.live(now, side(1, old), Some(Trial { canary: side(2, new), service: side(1, old), failed: 0 }));
                }
                Event::Canaried(good) => machine.canaried(now, said(good, ())),
                Event::Trained(before, after) => machine.trained(now, Trained { before, after, held_out: 100, core_s: 3.0, ..Trained::default() }),
                Event::Published(good) => machine.published(now, said(good, 2)),
                Event::Swapped(good) => machine.swapped(now, said(good, ())),
                Event::Failed => machine.failed(now, "failed"),
                Event::Wait(seconds) => {
                    now = now + Duration::from_secs(seconds);
                    machine.handle_timeout(now);
                }
            }
            for wish in polled(&mut machine) {
                if let RetrainingWish::Drained { instance } = wish {
                    prop_assert!(asked.remove(&instance), "a drain that nobody asked for");
                }
            }
            prop_assert_eq!(machine.check(), vec![]);
        }
        now = now + Duration::from_secs(1000);
        machine.handle_timeout(now);
        for wish in polled(&mut machine) {
            if let RetrainingWish::Drained { instance } = wish {
                asked.remove(&instance);
            }
        }
        prop_assert!(asked.is_empty(), "{:?} never drained", asked);
    }
}
