use std::time::Duration;

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
    Trained { before: 0.6, after: 0.9, held_out: 200, core_s: 8.0 }
}

/// Exported window 0, waiting for an instance.
fn waiting() -> RetrainingMachine {
    let mut machine = RetrainingMachine::new(RetrainingConfig::default());
    machine.samples(s(0), 100);
    machine.window_started(s(0), 0);
    assert_eq!(polled(&mut machine), [RetrainingWish::Export { window: 0 }]);
    machine.exported(s(1), Ok(160));
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
fn a_tenant_that_is_not_retrained_stays_off() {
    let mut machine = RetrainingMachine::new(RetrainingConfig { enabled: false, ..RetrainingConfig::default() });
    machine.samples(s(0), 1000);
    machine.window_started(s(0), 0);
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
    assert_eq!(machine.state(), RetrainingState::Exporting);
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
    machine.exported(s(201), Ok(160));
    polled(&mut machine);
    machine
}

#[test]
fn a_data_set_that_waited_is_written_anew_before_it_is_learnt_from() {
    let mut machine = waiting_again();
    machine.placed(s(260), HERE);
    assert_eq!(polled(&mut machine), [RetrainingWish::Export { window: 1 }]);
    assert!(machine.status().due, "the planner would take its instance away");
    machine.exported(s(261), Ok(160));
    assert_eq!(polled(&mut machine), [RetrainingWish::Start { instance: HERE, window: 1, resume: false }]);
}

#[test]
fn an_instance_taken_away_while_the_data_set_is_written_anew_is_given_back() {
    let mut machine = waiting_again();
    machine.placed(s(260), HERE);
    machine.take_away(s(260), HERE);
    machine.exported(s(261), Ok(160));
    let wishes = polled(&mut machine);
    assert_eq!(wishes, [RetrainingWish::Export { window: 1 }, RetrainingWish::Drained { instance: HERE }]);
    assert_eq!(machine.state(), RetrainingState::Waiting);
}

#[test]
fn exports_publications_and_swaps_end_by_themselves() {
    let mut machine = RetrainingMachine::new(RetrainingConfig::default());
    machine.samples(s(0), 100);
    machine.window_started(s(0), 0);
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

#[derive(Clone, Debug)]
enum Event {
    Window,
    Samples(u64),
    Exported(bool),
    Placed(u64),
    TakeAway(u64),
    Lost(u64),
    Progress(u64),
    Paused,
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
        (1u64..4).prop_map(Event::Placed),
        (1u64..4).prop_map(Event::TakeAway),
        (1u64..4).prop_map(Event::Lost),
        (0u64..50).prop_map(Event::Progress),
        Just(Event::Paused),
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
    fn invariants_hold_after_every_event_and_every_drain_is_answered(events in prop::collection::vec(event(), 1..150)) {
        let mut machine = RetrainingMachine::new(RetrainingConfig::default());
        let (mut now, mut window, mut asked) = (s(0), 0, std::collections::BTreeSet::new());
        for event in events {
            match event {
                Event::Window => { machine.window_started(now, window); window += 1; }
                Event::Samples(count) => machine.samples(now, count),
                Event::Exported(good) => machine.exported(now, said(good, 100)),
                Event::Placed(id) => machine.placed(now, InstanceId(id)),
                Event::TakeAway(id) => { asked.insert(InstanceId(id)); machine.take_away(now, InstanceId(id)); }
                Event::Lost(id) => machine.instance_lost(now, InstanceId(id)),
                Event::Progress(step) => machine.progress(now, step, 40, step as f64),
                Event::Paused => machine.paused(now, 3, 40),
                Event::Trained(before, after) => machine.trained(now, Trained { before, after, held_out: 100, core_s: 3.0 }),
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
