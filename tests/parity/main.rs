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
use live::Live;
use migrator_sim::Run;

/// Gives both for more to be asked of them.
fn decides_the_same(case: &Case) -> (Live, Run) {
    let (live, (simulated, stopped)) = (live::run(case), simulated::run(case));
    assert_eq!(live.log.complaints(), [""; 0]);
    assert_eq!(simulated.violations, [""; 0]);
    // A solve that did not prove its plan would go on live: there it has a clock, and with time left microlp gets some of it.
    assert_eq!(stopped.keys().collect::<Vec<_>>(), ["gap"], "{stopped:?}: change the case");
    let simulated_log: Vec<String> = simulated.decisions.iter().map(ToString::to_string).collect();
    for (number, (live, simulated)) in live.log.decisions().iter().zip(&simulated_log).enumerate() {
        assert_eq!(live, simulated, "decision {number}");
    }
    assert_eq!(live.log.decisions(), simulated_log);
    assert!(simulated.reconfigurations > 5, "{} reconfigurations prove little", simulated.reconfigurations);
    let served: Vec<u64> = simulated.tenants.iter().map(|tenant| tenant.ok + tenant.late).collect();
    assert_eq!(live.served, served);
    let right: Vec<f64> = simulated.tenants.iter().map(|tenant| tenant.correct).collect();
    assert_eq!(live.right.iter().map(|&right| right as f64).collect::<Vec<f64>>(), right);
    (live, simulated)
}

#[test]
fn live_and_simulated_decide_the_same_when_demand_shifts() {
    decides_the_same(&case::shifting());
}

#[test]
fn live_and_simulated_decide_the_same_when_models_are_retrained() {
    let (live, simulated) = decides_the_same(&case::drifting());
    let published: Vec<u32> = simulated.tenants.iter().map(|tenant| tenant.published).collect();
    assert!(published.iter().all(|&versions| versions > 0), "{published:?} versions published prove nothing");
    assert_eq!(live.versions, published.iter().map(|versions| 1 + versions).collect::<Vec<u32>>());
    // The first version knows nothing by now: whoever is right serves a later one.
    let accuracy: Vec<f32> = simulated.tenants.iter().filter_map(|tenant| tenant.seconds.last()).map(|second| second.accuracy).collect();
    assert_eq!(accuracy, [1.0; 3]);
    assert!(live.swaps.values().any(|&lanes| lanes > 1), "no version was swapped on several lanes: {:?}", live.swaps);
}

#[test]
fn the_live_server_decides_the_same_twice() {
    let case = case::shifting();
    let (one, two) = (live::run(&case).log.decisions(), live::run(&case).log.decisions());
    for (one, two) in one.iter().zip(&two) {
        assert_eq!(one, two);
    }
    assert_eq!(one.len(), two.len());
}
