//! Claims about ELSA. `LANE` has a quarter of a core (40 ms for one row, 100 for sixteen), `FAST` one.

use super::*;

fn elsa(alpha: f64, beta: f64) -> TenantMachine {
    let mut machine = TenantMachine::new(TenantConfig { dispatch: Dispatch::Elsa { alpha, beta }, ..config() });
    machine.lane_up(Time(0), LANE, LaneSpec::cores(0.25));
    machine.lane_up(Time(0), FAST, LaneSpec::cores(1.0));
    machine
}

fn lanes(machine: &mut TenantMachine, now: Time) -> Vec<(InstanceId, u32)> {
    dispatched(&polled(machine, now)).into_iter().map(|(lane, _, rows)| (lane, rows)).collect()
}

#[test]
fn a_request_goes_to_the_smallest_lane_that_is_in_time() {
    let mut machine = elsa(1.0, 1.0);
    arrive(&mut machine, 0..1, ms(0));
    assert_eq!(lanes(&mut machine, ms(0)), [(LANE, 1)]);
    // By default it would go to the one that answers first.
    let mut soonest = TenantMachine::new(config());
    soonest.lane_up(Time(0), LANE, LaneSpec::cores(0.25));
    soonest.lane_up(Time(0), FAST, LaneSpec::cores(1.0));
    arrive(&mut soonest, 0..1, ms(0));
    assert_eq!(lanes(&mut soonest, ms(0)), [(FAST, 1)]);
}

#[test]
fn what_the_small_lane_can_answer_in_time_waits_for_it_and_the_rest_overflows() {
    let mut machine = elsa(1.0, 1.0);
    arrive(&mut machine, 0..1, ms(0));
    assert_eq!(lanes(&mut machine, ms(0)), [(LANE, 1)]);
    // At 20 ms the small lane begins in 20 ms; its next batch may take 80: of best size, 4 rows in 52 ms.
    arrive(&mut machine, 1..3, ms(20));
    assert_eq!(lanes(&mut machine, ms(20)), []);
    arrive(&mut machine, 3..12, ms(21));
    let overflow = lanes(&mut machine, ms(21));
    assert!(matches!(overflow[..], [(FAST, rows)] if rows < 11), "{overflow:?}");
}

#[test]
fn without_slack_anywhere_the_earliest_end_counts() {
    // alpha 5: 40 ms weigh 200 and 10 ms 50, so that only the fast lane has slack; alpha 20: none has.
    for alpha in [5.0, 20.0] {
        let mut machine = elsa(alpha, 1.0);
        arrive(&mut machine, 0..1, ms(0));
        assert_eq!(lanes(&mut machine, ms(0)), [(FAST, 1)], "alpha {alpha}");
    }
}

#[test]
fn beta_weighs_the_service_time_alone() {
    let mut machine = elsa(1.0, 3.0);
    arrive(&mut machine, 0..1, ms(0));
    // 3 x 40 ms are more than the SLO.
    assert_eq!(lanes(&mut machine, ms(0)), [(FAST, 1)]);
}

#[test]
fn only_paris_comes_with_elsa() {
    use migrator_solver::PolicyName;
    for policy in PolicyName::ALL {
        assert_eq!(matches!(Dispatch::of(policy), Dispatch::Elsa { .. }), policy == PolicyName::Paris);
    }
}
