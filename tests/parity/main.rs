//! One trace through the live actors, on a paused clock with workers and a device in memory, and through the simulator: both must decide
//! the same at the same moments, to the byte.
#![allow(clippy::unwrap_used, reason = "clippy sees #[test] functions as tests, their helpers not")]

mod case;
mod device;
mod live;
mod log;
mod simulated;
mod train;
mod weather;
mod worker;

use case::Case;

fn decides_the_same(case: &Case) {
    let (live, simulated) = (live::run(case), simulated::run(case));
    assert_eq!(live.log.complaints(), [""; 0]);
    assert_eq!(simulated.violations, [""; 0]);
    let simulated_log: Vec<String> = simulated.decisions.iter().map(ToString::to_string).collect();
    for (number, (live, simulated)) in live.log.decisions().iter().zip(&simulated_log).enumerate() {
        assert_eq!(live, simulated, "decision {number}");
    }
    assert_eq!(live.log.decisions(), simulated_log);
    assert!(simulated.reconfigurations > 5, "{} reconfigurations prove little", simulated.reconfigurations);
    let served: Vec<u64> = simulated.tenants.iter().map(|tenant| tenant.ok + tenant.late).collect();
    assert_eq!(live.served, served);
}

#[test]
fn live_and_simulated_decide_the_same_when_demand_shifts() {
    decides_the_same(&case::shifting());
}

#[test]
fn live_and_simulated_decide_the_same_when_models_are_retrained() {
    decides_the_same(&case::drifting());
}

#[test]
fn the_live_server_decides_the_same_twice() {
    let case = case::shifting();
    let (one, two) = (live::run(&case).log.decisions(), live::run(&case).log.decisions());
    for (one, two) in one.iter().zip(&two) {
        assert_eq!(one, two);
    }
}
