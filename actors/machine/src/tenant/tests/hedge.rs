//! Batches that are sent once more.

use super::*;

/// Two lanes of a core each, and a request that the first is slow with; the batches that were sent.
fn slow(hedge: f64) -> (TenantMachine, BatchId) {
    let mut machine = TenantMachine::new(TenantConfig { hedge, ..config() });
    machine.lane_up(Time(0), LANE, LaneSpec::cores(1.0));
    machine.lane_up(Time(0), FAST, LaneSpec::cores(1.0));
    machine.request(Time(0), request(1, Time(0)));
    let (_, batch, _) = dispatched(&polled(&mut machine, Time(0)))[0];
    (machine, batch)
}

/// What is sent when its time has come.
fn sent_again(machine: &mut TenantMachine) -> (Time, Vec<(InstanceId, BatchId, u32)>) {
    let at = machine.timeout().unwrap();
    machine.handle_timeout(at);
    (at, dispatched(&polled(machine, at)))
}

fn served(wishes: &[TenantWish]) -> Vec<u64> {
    answers(wishes).into_iter().filter(|(_, answer)| matches!(answer, Answer::Served { .. })).map(|(id, _)| id).collect()
}

#[test]
fn a_batch_that_an_instance_is_slow_with_is_sent_once_more_in_time() {
    let (mut machine, first) = slow(1.0);
    let (at, again) = sent_again(&mut machine);
    // 10 ms were expected, the SLO is 100 ms, and the other one takes about 10 ms.
    assert!((ms(80)..ms(90)).contains(&at), "{at:?}");
    let (lane, second, rows) = again[0];
    assert_eq!((again.len(), rows), (1, 1));
    assert_ne!(second, first);
    assert!([LANE, FAST].contains(&lane));
    assert_eq!(machine.batch(second).collect::<Vec<_>>(), [(RequestId(1), 1)]);
    machine.finished(ms(95), second, span(10));
    assert_eq!(served(&polled(&mut machine, ms(95))), [1]);
    assert_eq!(machine.batch(first).count(), 0, "statistics go by that: the second answers nothing");
    machine.finished(ms(300), first, span(300));
    assert_eq!(answers(&polled(&mut machine, ms(300))), [], "a request is answered once");
    let Totals { arrived, ok, hedged, hedges_won, batches, .. } = machine.totals();
    assert_eq!((arrived, ok, hedged, hedges_won, batches), (1, 1, 1, 1, 1));
}

#[test]
fn the_first_instance_may_still_be_the_first() {
    let (mut machine, first) = slow(1.0);
    let (_, again) = sent_again(&mut machine);
    machine.finished(ms(90), first, span(90));
    assert_eq!(served(&polled(&mut machine, ms(90))), [1]);
    machine.finished(ms(95), again[0].1, span(10));
    assert_eq!(answers(&polled(&mut machine, ms(95))), []);
    assert_eq!((machine.totals().hedged, machine.totals().hedges_won), (1, 0));
}

#[test]
fn whichever_is_lost_or_fails_the_other_answers() {
    for (lost, by_failure) in [(0, false), (1, false), (0, true), (1, true)] {
        let (mut machine, first) = slow(1.0);
        let (lane, second, _) = sent_again(&mut machine).1[0];
        let batches = [first, second];
        if by_failure {
            machine.failed(ms(91), batches[lost]);
        } else {
            let other = if lane == LANE { FAST } else { LANE };
            machine.lane_lost(ms(91), if lost == 1 { lane } else { other });
        }
        assert_eq!(answers(&polled(&mut machine, ms(91))), [], "{lost} {by_failure}");
        machine.finished(ms(95), batches[1 - lost], span(10));
        assert_eq!(served(&polled(&mut machine, ms(95))), [1], "{lost} {by_failure}");
        assert_eq!(machine.totals().retried, 0);
    }
}

#[test]
fn nothing_is_sent_again_beyond_the_share_or_without_it() {
    for hedge in [0.0, 0.4] {
        let (mut machine, _) = slow(hedge);
        while let Some(at) = machine.timeout().filter(|at| *at < ms(200)) {
            machine.handle_timeout(at);
            assert_eq!(dispatched(&polled(&mut machine, at)), [], "{hedge}");
        }
        assert_eq!(machine.totals().hedged, 0);
    }
}

#[test]
fn an_instance_that_is_busy_gets_nothing_again() {
    let (mut machine, _) = slow(1.0);
    // The other lane is kept busy until nothing can be saved.
    machine.request(ms(40), request(2, ms(40)));
    assert_eq!(dispatched(&polled(&mut machine, ms(40))).len(), 1);
    while let Some(at) = machine.timeout().filter(|at| *at < ms(100)) {
        machine.handle_timeout(at);
        assert_eq!(dispatched(&polled(&mut machine, at)), []);
    }
    assert_eq!(machine.totals().hedged, 0);
}
