use std::collections::BTreeMap;

use migrator_models::Curve;
use migrator_models::curve::CurvePoint;

use super::*;

mod chaos;
mod elsa;
mod hedge;

const LANE: InstanceId = InstanceId(1);
const FAST: InstanceId = InstanceId(2);

fn ms(ms: u64) -> Time {
    Time(ms * 1000)
}

fn span(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

/// 10 ms for one row, 13 for four, 25 for sixteen, on one core.
fn config() -> TenantConfig {
    let points = [(1, 10.0), (4, 13.0), (16, 25.0)].map(|(batch, core_ms)| CurvePoint { batch, core_ms }).to_vec();
    TenantConfig { slo: span(100), max_batch: 16, queue_limit: 100, eval_limit: 2, curve: Curve { points }, ..TenantConfig::default() }
}

fn request(id: u64, at: Time) -> Request {
    Request { id: RequestId(id), rows: 1, arrived: at, timeout: None, priority: 0 }
}

fn with_lane(share: f64) -> TenantMachine {
    let mut machine = TenantMachine::new(config());
    machine.lane_up(Time(0), LANE, LaneSpec::cores(share));
    machine
}

fn arrive(machine: &mut TenantMachine, ids: std::ops::Range<u64>, at: Time) {
    ids.for_each(|id| machine.request(at, request(id, at)));
}

fn polled(machine: &mut TenantMachine, now: Time) -> Vec<TenantWish> {
    let wishes = std::iter::from_fn(|| machine.poll(now)).collect();
    assert_eq!(machine.check(), []);
    wishes
}

fn dispatched(wishes: &[TenantWish]) -> Vec<(InstanceId, BatchId, u32)> {
    let dispatch = |wish: &TenantWish| match wish {
        TenantWish::Dispatch { lane, batch, rows, .. } => Some((*lane, *batch, *rows)),
        _ => None,
    };
    wishes.iter().filter_map(dispatch).collect()
}

fn answers(wishes: &[TenantWish]) -> Vec<(u64, Answer)> {
    let answer = |wish: &TenantWish| match wish {
        TenantWish::Answer { request, answer } => Some((request.0, *answer)),
        _ => None,
    };
    wishes.iter().filter_map(answer).collect()
}

fn reasons(wishes: &[TenantWish]) -> Vec<ShedReason> {
    let reason = |(_, answer)| match answer {
        Answer::Shed { reason, .. } => Some(reason),
        _ => None,
    };
    answers(wishes).into_iter().filter_map(reason).collect()
}

#[test]
fn a_request_on_a_free_lane_is_dispatched_at_once_and_answered() {
    let mut machine = with_lane(1.0);
    machine.request(ms(5), request(7, ms(5)));
    let (lane, batch, rows) = dispatched(&polled(&mut machine, ms(5)))[0];
    assert_eq!((lane, rows), (LANE, 1));
    assert_eq!(machine.batch(batch).collect::<Vec<_>>(), [(RequestId(7), 1)]);
    machine.finished(ms(15), batch, span(10));
    let served = Answer::Served { batch, first_row: 0, rows: 1, late: false };
    assert_eq!(answers(&polled(&mut machine, ms(15))), [(7, served)]);
    assert_eq!((machine.totals().ok, machine.timeout()), (1, None));
}

#[test]
fn what_arrives_while_the_lane_is_busy_goes_as_one_batch() {
    let mut machine = with_lane(1.0);
    arrive(&mut machine, 0..1, ms(0));
    let first = dispatched(&polled(&mut machine, ms(0)));
    arrive(&mut machine, 1..6, ms(1));
    assert_eq!(polled(&mut machine, ms(1)), []);
    machine.finished(ms(10), first[0].1, span(10));
    let second = dispatched(&polled(&mut machine, ms(10)));
    assert_eq!(second[0].2, 5);
    machine.finished(ms(30), second[0].1, span(15));
    let rows: Vec<u32> = answers(&polled(&mut machine, ms(30)))
        .iter()
        .map(|(_, answer)| if let Answer::Served { first_row, .. } = answer { *first_row } else { 99 })
        .collect();
    assert_eq!(rows, [0, 1, 2, 3, 4]);
}

#[test]
fn a_batch_is_cut_so_that_its_first_deadline_is_met() {
    let mut machine = TenantMachine::new(config());
    for id in 0..16 {
        machine.request(ms(0), request(id, ms(0)));
    }
    assert_eq!(polled(&mut machine, ms(83)), []);
    machine.lane_up(ms(83), LANE, LaneSpec::cores(1.0));
    let (_, _, rows) = dispatched(&polled(&mut machine, ms(83)))[0];
    assert!((4..=6).contains(&rows), "{rows} rows end within 17 ms");
}

#[test]
fn a_short_queue_is_spread_over_the_free_executors() {
    let mut machine = with_lane(2.0);
    arrive(&mut machine, 0..6, ms(0));
    let rows: Vec<u32> = dispatched(&polled(&mut machine, ms(0))).iter().map(|d| d.2).collect();
    assert_eq!(rows, [3, 3]);
}

#[test]
fn the_lane_that_finishes_soonest_gets_the_batch() {
    let mut machine = with_lane(0.5);
    machine.lane_up(Time(0), FAST, LaneSpec::cores(1.0));
    arrive(&mut machine, 0..2, ms(0));
    let lanes: Vec<InstanceId> = dispatched(&polled(&mut machine, ms(0))).iter().map(|d| d.0).collect();
    assert_eq!(lanes, [FAST, LANE]);
}

#[test]
fn a_slow_lane_skips_requests_that_only_a_fast_one_can_still_answer() {
    let mut machine = with_lane(0.2);
    machine.lane_up(Time(0), FAST, LaneSpec::cores(1.0));
    arrive(&mut machine, 0..1, ms(0));
    let fast = dispatched(&polled(&mut machine, ms(0)));
    assert_eq!(fast[0].0, FAST);
    machine.request(ms(0), Request { timeout: Some(span(30)), ..request(1, ms(0)) });
    machine.request(ms(0), request(2, ms(0)));
    let slow = dispatched(&polled(&mut machine, ms(0)));
    assert_eq!((slow[0].0, slow.len()), (LANE, 1));
    assert_eq!(machine.batch(slow[0].1).next(), Some((RequestId(2), 1)));
    assert_eq!(machine.queue_depth(), 1);
}

#[test]
fn without_a_lane_a_request_waits_until_its_deadline_and_no_longer() {
    let mut machine = TenantMachine::new(config());
    arrive(&mut machine, 0..1, ms(0));
    assert_eq!(polled(&mut machine, ms(100)), []);
    let timer = machine.timeout().unwrap();
    machine.handle_timeout(timer);
    assert_eq!(reasons(&polled(&mut machine, timer)), [ShedReason::NoInstance]);
}

#[test]
fn a_request_that_cannot_be_answered_in_time_is_shed_at_the_door() {
    let mut machine = with_lane(1.0);
    arrive(&mut machine, 0..90, ms(0));
    let shed = reasons(&polled(&mut machine, ms(0)));
    assert!(shed.len() > 20 && shed.iter().all(|&r| r == ShedReason::Deadline), "{}", shed.len());
    assert!(machine.queue_depth() > 20, "{}", machine.queue_depth());
}

#[test]
fn what_was_taken_in_under_overload_is_answered_in_time_in_large_batches() {
    let mut machine = with_lane(1.0);
    let mut batch: Option<(BatchId, Time, Duration)> = None;
    let (mut id, mut sizes) = (0, Vec::new());
    for t in 0..2000 {
        let now = ms(t);
        if let Some((done, _, took)) = batch.take_if(|b| b.1 <= now) {
            machine.finished(now, done, took);
        }
        (0..3).for_each(|_| {
            machine.request(now, request(id, now));
            id += 1;
        });
        for (_, next, rows) in dispatched(&polled(&mut machine, now)) {
            let took = span(9 + u64::from(rows));
            batch = Some((next, now + took, took));
            sizes.push(rows);
        }
    }
    let totals = machine.totals();
    assert_eq!(totals.late, 0);
    assert!(totals.ok as f64 > 0.9 * 2000.0 * 16.0 / 25.0, "{totals:?}");
    assert!(sizes[5..].iter().all(|&rows| rows >= 12), "{sizes:?}");
}

#[test]
fn a_full_queue_refuses() {
    let mut machine = TenantMachine::new(TenantConfig { queue_limit: 2, ..config() });
    arrive(&mut machine, 0..3, ms(0));
    assert_eq!(reasons(&polled(&mut machine, ms(0))), [ShedReason::QueueFull]);
}

#[test]
fn a_client_timeout_tighter_than_the_slo_counts() {
    let mut machine = TenantMachine::new(config());
    machine.request(ms(0), Request { timeout: Some(span(20)), ..request(1, ms(0)) });
    machine.request(ms(0), Request { timeout: Some(span(900)), ..request(2, ms(0)) });
    assert_eq!(answers(&polled(&mut machine, ms(50)))[0].0, 1);
    assert_eq!(answers(&polled(&mut machine, ms(101)))[0].0, 2);
}

#[test]
fn a_patient_tenant_is_answered_late_instead_of_being_refused() {
    let patient = TenantConfig { patience: Some(span(10_000)), ..config() };
    let mut machine = TenantMachine::new(patient);
    machine.lane_up(Time(0), LANE, LaneSpec::cores(1.0));
    arrive(&mut machine, 0..80, ms(0));
    let (mut now, mut served) = (ms(0), Vec::new());
    while served.len() < 80 {
        let wishes = polled(&mut machine, now);
        served.extend(answers(&wishes));
        let Some((_, batch, rows)) = dispatched(&wishes).first().copied() else { break };
        let took = Duration::from_micros(9_000 + 1_000 * u64::from(rows));
        now = now + took;
        machine.finished(now, batch, took);
    }
    served.extend(answers(&polled(&mut machine, now)));
    let totals = machine.totals();
    assert_eq!((served.len(), totals.shed), (80, 0));
    assert!(totals.late > 0 && totals.ok > 0, "{totals:?}");
}

#[test]
fn the_less_urgent_are_refused_first() {
    let mut machine = TenantMachine::new(TenantConfig { queue_limit: 8, ..config() });
    arrive(&mut machine, 0..4, ms(0));
    machine.request(ms(0), Request { priority: 2, ..request(4, ms(0)) });
    machine.request(ms(0), Request { priority: 1, ..request(5, ms(0)) });
    assert_eq!(answers(&polled(&mut machine, ms(0))).iter().map(|(id, _)| *id).collect::<Vec<_>>(), [4]);
    // Ten milliseconds of work for an empty lane: more than a sixteenth of the SLO.
    let mut machine = with_lane(1.0);
    arrive(&mut machine, 0..1, ms(0));
    polled(&mut machine, ms(0));
    machine.request(ms(0), Request { priority: 5, ..request(1, ms(0)) });
    machine.request(ms(0), request(2, ms(0)));
    let wishes = polled(&mut machine, ms(0));
    assert_eq!((answers(&wishes)[0].0, reasons(&wishes)), (1, vec![ShedReason::Deadline]));
}

#[test]
fn a_tenant_can_be_retuned_while_it_is_served() {
    let mut machine = TenantMachine::new(config());
    arrive(&mut machine, 0..4, ms(0));
    machine.retune(span(50), None, 2);
    assert!(polled(&mut machine, ms(0)).is_empty(), "what waits keeps its place");
    arrive(&mut machine, 4..5, ms(0));
    assert_eq!(reasons(&polled(&mut machine, ms(0))), [ShedReason::QueueFull]);
    assert_eq!(reasons(&polled(&mut machine, ms(60))), [], "nor its deadline");
    assert_eq!(reasons(&polled(&mut machine, ms(101))).len(), 4);
}

#[test]
fn requests_of_a_lost_lane_are_tried_once_more_and_then_fail() {
    let mut machine = with_lane(1.0);
    machine.lane_up(Time(0), FAST, LaneSpec::cores(2.0));
    arrive(&mut machine, 0..1, ms(0));
    let first = dispatched(&polled(&mut machine, ms(0)))[0].0;
    machine.lane_lost(ms(2), first);
    let second = dispatched(&polled(&mut machine, ms(2)))[0].0;
    assert_ne!(first, second);
    machine.lane_lost(ms(4), second);
    assert_eq!(answers(&polled(&mut machine, ms(4))), [(0, Answer::WorkerLost)]);
    assert_eq!((machine.totals().error, machine.totals().retried), (1, 1));
}

#[test]
fn a_lost_request_without_time_for_another_try_fails() {
    let mut machine = with_lane(1.0);
    arrive(&mut machine, 0..1, ms(0));
    polled(&mut machine, ms(0));
    machine.lane_lost(ms(150), LANE);
    assert_eq!(answers(&polled(&mut machine, ms(150))), [(0, Answer::WorkerLost)]);
}

#[test]
fn an_answer_of_a_lost_lane_is_ignored() {
    let mut machine = with_lane(1.0);
    arrive(&mut machine, 0..1, ms(0));
    let batch = dispatched(&polled(&mut machine, ms(0)))[0].1;
    machine.lane_lost(ms(1), LANE);
    machine.finished(ms(2), batch, span(1));
    assert_eq!(answers(&polled(&mut machine, ms(2))), []);
}

#[test]
fn a_draining_lane_takes_nothing_new_and_reports_when_it_is_empty() {
    let mut machine = with_lane(1.0);
    arrive(&mut machine, 0..1, ms(0));
    let batch = dispatched(&polled(&mut machine, ms(0)))[0].1;
    machine.drain(ms(1), LANE);
    arrive(&mut machine, 1..2, ms(1));
    assert_eq!(polled(&mut machine, ms(1)), []);
    machine.finished(ms(10), batch, span(10));
    assert!(polled(&mut machine, ms(10)).contains(&TenantWish::Drained { lane: LANE }));
    assert_eq!(machine.lanes().count(), 0);
    machine.drain(ms(11), LANE);
    assert_eq!(polled(&mut machine, ms(11)), [TenantWish::Drained { lane: LANE }]);
}

#[test]
fn a_draining_lane_that_is_admitted_again_serves_on() {
    let mut machine = with_lane(1.0);
    arrive(&mut machine, 0..1, ms(0));
    polled(&mut machine, ms(0));
    machine.drain(ms(1), LANE);
    machine.lane_up(ms(2), LANE, LaneSpec::cores(1.0));
    assert_eq!(machine.lanes().collect::<Vec<_>>(), [(LANE, LaneState::Up)]);
}

#[test]
fn a_draining_lane_that_dies_is_drained() {
    let mut machine = with_lane(1.0);
    arrive(&mut machine, 0..1, ms(0));
    polled(&mut machine, ms(0));
    machine.drain(ms(1), LANE);
    machine.lane_lost(ms(2), LANE);
    assert!(polled(&mut machine, ms(2)).contains(&TenantWish::Drained { lane: LANE }));
}

#[test]
fn a_worker_that_hangs_is_given_up() {
    let mut machine = with_lane(1.0);
    arrive(&mut machine, 0..1, ms(0));
    polled(&mut machine, ms(0));
    let timer = machine.timeout().unwrap();
    assert!(timer >= ms(10_000));
    machine.handle_timeout(timer);
    let wishes = polled(&mut machine, timer);
    assert_eq!(wishes[0], TenantWish::Stalled { lane: LANE });
    assert_eq!(answers(&wishes), [(0, Answer::WorkerLost)]);
}

#[test]
fn a_worker_that_answers_with_an_error_fails_its_requests_and_lives_on() {
    let mut machine = with_lane(1.0);
    arrive(&mut machine, 0..2, ms(0));
    let batch = dispatched(&polled(&mut machine, ms(0)))[0].1;
    machine.failed(ms(3), batch);
    assert_eq!(answers(&polled(&mut machine, ms(3))), [(0, Answer::Failed), (1, Answer::Failed)]);
    assert!(machine.ready());
}

#[test]
fn evaluations_wait_for_an_idle_lane_and_the_oldest_is_dropped() {
    let mut machine = with_lane(1.0);
    arrive(&mut machine, 0..1, ms(0));
    let batch = dispatched(&polled(&mut machine, ms(0)))[0].1;
    (0..3).for_each(|eval| machine.evaluate(ms(1), EvalId(eval), 8));
    assert_eq!(polled(&mut machine, ms(1)), [TenantWish::Dropped { eval: EvalId(0) }]);
    machine.finished(ms(10), batch, span(10));
    let wishes = polled(&mut machine, ms(10));
    let (_, batch, rows) = dispatched(&wishes)[0];
    assert_eq!(rows, 8);
    machine.finished(ms(30), batch, span(20));
    assert_eq!(polled(&mut machine, ms(30))[0], TenantWish::Evaluated { eval: EvalId(1), batch });
    assert_eq!((machine.totals().arrived, machine.totals().batches), (1, 1));
}

#[test]
fn an_idle_lane_is_probed_when_its_curve_calls_every_request_too_slow() {
    let mut machine = with_lane(0.05);
    machine.request(ms(0), request(1, ms(0)));
    machine.request(ms(0), request(2, ms(0)));
    let wishes = polled(&mut machine, ms(0));
    assert_eq!((dispatched(&wishes).len(), reasons(&wishes)), (1, vec![ShedReason::Deadline]));
    let batch = dispatched(&wishes)[0].1;
    machine.finished(ms(12), batch, span(12));
    for t in 1..40 {
        machine.request(ms(t * 1000), request(100 + t, ms(t * 1000)));
        if let Some((_, batch, _)) = dispatched(&polled(&mut machine, ms(t * 1000))).first() {
            machine.finished(ms(t * 1000 + 12), *batch, span(12));
        }
    }
    arrive(&mut machine, 1000..1002, ms(50_000));
    assert_eq!(reasons(&polled(&mut machine, ms(50_000))), []);
}

#[test]
fn late_answers_count_as_late() {
    let mut machine = with_lane(1.0);
    arrive(&mut machine, 0..1, ms(0));
    let batch = dispatched(&polled(&mut machine, ms(0)))[0].1;
    machine.finished(ms(101), batch, span(101));
    polled(&mut machine, ms(101));
    assert_eq!((machine.totals().late, machine.totals().ok), (1, 0));
}

#[test]
fn a_closing_tenant_sheds_what_waits_and_finishes_what_runs() {
    let mut machine = with_lane(1.0);
    arrive(&mut machine, 0..1, ms(0));
    let batch = dispatched(&polled(&mut machine, ms(0)))[0].1;
    arrive(&mut machine, 1..2, ms(1));
    machine.close(ms(2));
    arrive(&mut machine, 2..3, ms(3));
    assert_eq!(reasons(&polled(&mut machine, ms(3))), [ShedReason::Closing; 2]);
    machine.finished(ms(10), batch, span(10));
    assert_eq!(answers(&polled(&mut machine, ms(10))).len(), 1);
}

#[test]
fn telemetry_tells_the_second_and_the_ratio() {
    let mut machine = with_lane(1.0);
    for t in 0..20 {
        arrive(&mut machine, t..t + 1, ms(t * 50));
        let batch = dispatched(&polled(&mut machine, ms(t * 50)))[0].1;
        machine.finished(ms(t * 50 + 20), batch, span(20));
        polled(&mut machine, ms(t * 50 + 20));
    }
    let telemetry = machine.second(ms(1000));
    assert_eq!((telemetry.arrivals, telemetry.ok, telemetry.batches, telemetry.mean_batch), (20, 20, 20, 1.0));
    assert!(telemetry.service_ratio > 1.05 && telemetry.service_ratio <= 2.05, "{}", telemetry.service_ratio);
    assert_eq!((telemetry.lanes_up, telemetry.queue_depth), (1, 0));
}

#[test]
fn labels_of_an_older_version_do_not_count() {
    let mut machine = with_lane(1.0);
    machine.labelled(ms(0), 0, 10, 10);
    machine.swapped(ms(1), 3, Some(Accuracy { value: 0.5, samples: 20.0 }));
    machine.labelled(ms(2), 0, 10, 10);
    assert_eq!(machine.accuracy(), Some(Accuracy { value: 0.5, samples: 20.0 }));
}
