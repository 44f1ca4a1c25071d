//! Whole simulations.

use migrator_solver::{Planner, PolicyName, TaskKind};
use proptest::prelude::*;

use crate::example::example;
use crate::run::Occupancy;
use crate::setup::{Drift, Fault, FaultKind, Foresight, Interference};
use crate::{Run, Setup, Unwatched, Watch, simulate};

/// Runs it; nothing may be violated, nothing lost and nothing answered twice.
fn run(setup: &Setup) -> Run {
    let run = simulate(setup, &mut Planner::default(), &mut Unwatched);
    assert_eq!(run.violations, [""; 0]);
    for tenant in &run.tenants {
        assert_eq!(tenant.arrived, tenant.ok + tenant.late + tenant.shed + tenant.error, "{}", tenant.name);
        let by_second: u64 = tenant.seconds.iter().map(|second| u64::from(second.ok + second.missed)).sum();
        assert_eq!(by_second, tenant.arrived, "{}", tenant.name);
        assert_eq!(tenant.latency.iter().map(|bin| bin.1).sum::<u64>(), tenant.ok + tenant.late, "{}", tenant.name);
    }
    run
}

/// Requests missed in the seconds from `from` on.
fn missed_from(run: &Run, from: usize) -> u64 {
    run.tenants.iter().flat_map(|tenant| tenant.seconds.iter().skip(from)).map(|second| u64::from(second.missed)).sum()
}

/// Two tenants whose demands change places twice.
fn shifting() -> Setup {
    let mut setup = example(&[0, 0], 180);
    for (index, tenant) in setup.tenants.iter_mut().enumerate() {
        let high = |second: usize| (second / 60) % 2 == index;
        tenant.arrivals = (0..180).map(|second| if high(second) { 500 } else { 40 }).collect();
        tenant.learning.enabled = false;
    }
    setup
}

#[test]
fn all_that_arrives_is_answered_once() {
    let mut setup = example(&[100, 50, 20], 120);
    setup.check_always = true;
    let run = run(&setup);
    assert_eq!(run.arrived(), 170 * 120);
    assert!(run.slo_attainment() > 0.99, "{}", run.slo_attainment());
}

#[test]
fn the_same_seed_gives_the_same_run() {
    let setup = shifting();
    assert_eq!(run(&setup), run(&setup));
    let other = Setup { seed: 2, ..setup.clone() };
    assert_ne!(run(&setup).tenants[0].latency, run(&other).tenants[0].latency);
}

#[test]
fn overload_sheds_and_underload_does_not() {
    let over = run(&example(&[4000], 40));
    assert!(over.slo_attainment() < 0.6 && over.tenants[0].shed > over.tenants[0].late, "{:?}", over.tenants[0].shed);
    let under = run(&example(&[20], 40));
    assert_eq!(missed_from(&under, 10), 0);
}

#[test]
fn a_retraining_brings_back_what_a_drift_took() {
    let mut setup = example(&[60], 500);
    setup.tenants[0].learning.drift = Drift::Steps(vec![(50.0, 1.0)]);
    setup.tenants[0].learning.label_share = 0.5;
    let trained = run(&setup);
    let accuracy = |run: &Run, second: usize| run.tenants[0].seconds[second].accuracy;
    assert!(trained.tenants[0].published > 0);
    assert!(accuracy(&trained, 60) < 0.5 && accuracy(&trained, 499) > 0.7, "{}", accuracy(&trained, 499));
    setup.tenants[0].learning.enabled = false;
    let untrained = run(&setup);
    assert!(accuracy(&untrained, 499) < 0.5 && untrained.goodput() < trained.goodput());
}

#[test]
fn a_planner_that_hears_of_no_accuracy_retrains_nothing() {
    let mut setup = example(&[60], 250);
    setup.planning.accuracy = false;
    assert_eq!(run(&setup).tenants[0].published, 0);
}

#[test]
fn shifting_demand_is_followed_without_an_error() {
    let followed = run(&shifting());
    assert!(followed.reconfigurations >= 3, "{}", followed.reconfigurations);
    assert!(followed.tenants.iter().all(|tenant| tenant.error == 0));
    let mut fixed = shifting();
    fixed.planning.policy = PolicyName::Keep;
    assert!(followed.slo_attainment() > run(&fixed).slo_attainment());
}

#[test]
fn preloading_loses_less_than_loading_on_the_instance() {
    let with = run(&shifting());
    let mut setup = shifting();
    setup.planning.preload = false;
    let without = run(&setup);
    assert!(with.slo_attainment() > without.slo_attainment(), "{} {}", with.slo_attainment(), without.slo_attainment());
}

#[test]
fn knowing_the_arrivals_to_come_is_no_loss() {
    let mut setup = shifting();
    let forecast = run(&setup);
    setup.planning.foresight = Foresight::Perfect;
    let known = run(&setup);
    assert!(known.goodput() > forecast.goodput() - 0.005, "{} {}", known.goodput(), forecast.goodput());
}

#[test]
fn others_on_the_same_gpu_slow_a_tenant_down_where_nothing_keeps_them_apart() {
    let mean_ms = |run: &Run| {
        let (sum, count) = run.tenants[0].latency.iter().fold((0.0, 0), |(sum, count), &(ms, n)| (sum + ms * n as f64, count + n));
        sum / count as f64
    };
    let mut setup = example(&[100, 300], 60);
    let alone = mean_ms(&run(&setup));
    setup.interference = Interference { inference: 3.0, retraining: 1.0 };
    let beside = mean_ms(&run(&setup));
    assert!(beside > 1.2 * alone, "{alone} {beside}");
}

#[test]
fn every_fault_is_survived_and_service_recovers() {
    let kinds = [
        FaultKind::WorkerDies { tenant: 0 },
        FaultKind::CreateFails { gpu: 0, times: 3 },
        FaultKind::DestroyInUse { gpu: 0, times: 5 },
        FaultKind::SolveFails { times: 3 },
    ];
    for kind in kinds {
        // At the start, where the first plan meets it, and amidst.
        for at_s in [0.0, 20.0] {
            let mut setup = example(&[60, 40], 90);
            setup.check_always = true;
            setup.faults = vec![Fault { at_s, kind }];
            let run = run(&setup);
            assert_eq!(missed_from(&run, 70), 0, "{kind:?} at {at_s}");
        }
    }
}

#[test]
fn a_worker_that_dies_is_missed_until_it_is_loaded_again() {
    let mut setup = example(&[20], 60);
    setup.faults = vec![Fault { at_s: 30.0, kind: FaultKind::WorkerDies { tenant: 0 } }];
    let run = run(&setup);
    assert!(run.occupancy.iter().any(|held| held.from_s == 30.0 && !held.working && held.task.is_some()), "{:?}", run.occupancy);
}

#[test]
fn an_instance_that_a_retraining_keeps_when_it_is_over_is_shown_as_spare() {
    let mut setup = example(&[60], 300);
    setup.tenants[0].learning.drift = Drift::Steps(vec![(50.0, 1.0)]);
    setup.tenants[0].learning.label_share = 0.5;
    let run = run(&setup);
    let retrains = |held: &&Occupancy| held.working && held.task.is_some_and(|task| task.kind == TaskKind::Retraining);
    let last = run.occupancy.iter().filter(retrains).max_by(|a, b| a.to_s.total_cmp(&b.to_s)).expect("it was retrained");
    let next = run.occupancy.iter().find(|held| held.site == last.site && held.from_s == last.to_s);
    assert!(next.is_some_and(|held| held.task.is_none() && !held.working), "{:?}", run.occupancy);
}

#[test]
fn odd_setups_are_survived() {
    assert_eq!(run(&example(&[], 10)).arrived(), 0);
    assert_eq!(run(&example(&[0, 0], 10)).arrived(), 0);
    assert_eq!(run(&example(&[5], 0)).arrived(), 0);
    let mut nowhere = example(&[5, 5], 10);
    nowhere.tenants[0].speed.iter_mut().for_each(|curve| curve.points.clear());
    assert_eq!(run(&nowhere).tenants[0].shed, 50);
    let without = Setup { gpus: Vec::new(), ..example(&[5], 10) };
    assert_eq!(run(&without).tenants[0].shed, 50);
    let mut strange = example(&[5], 30);
    strange.planning.solve_s = 0.0;
    strange.times.create_s = vec![f64::NAN];
    strange.tenants[0].learning.sample_s = Vec::new();
    strange.tenants[0].learning.first = f64::NAN;
    strange.tenants[0].jitter = f64::NAN;
    run(&strange);
}

#[test]
fn whoever_watches_may_end_it() {
    struct Five;
    impl Watch for Five {
        fn second(&mut self, second: u64) -> bool {
            second < 5
        }
    }
    let run = simulate(&example(&[50], 100), &mut Planner::default(), &mut Five);
    assert_eq!(run.tenants[0].seconds.len(), 5);
    assert_eq!(run.arrived(), 250);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(12))]

    #[test]
    fn whatever_goes_wrong_nothing_is_lost_and_nothing_violated(
        seed in 0u64..1000,
        rates in prop::collection::vec(0u32..400, 1..4),
        faults in prop::collection::vec((0.0..60.0f64, 0u8..4, 0usize..4, 1u32..6), 0..8),
        (window_s, solve_s, load_s, preload) in (10.0..40.0f64, 0.0..3.0f64, 0.0..8.0f64, any::<bool>()),
        (drift, samples, interference) in (0.0..0.02f64, 50u64..800, 0.0..2.0f64),
    ) {
        let mut setup = example(&rates, 60);
        (setup.seed, setup.window_s, setup.check_always) = (seed, window_s, true);
        (setup.planning.solve_s, setup.planning.preload, setup.planning.dwell_s) = (solve_s, preload, 3.0);
        setup.interference = Interference { inference: interference, retraining: interference };
        for (index, tenant) in setup.tenants.iter_mut().enumerate() {
            tenant.load_s = load_s;
            (tenant.learning.samples, tenant.learning.drift) = (samples, Drift::Steady { rate: drift });
            let shift = |(second, rps): (usize, &mut u32)| if (second / 15 + index) % 2 == 0 { *rps /= 8 };
            tenant.arrivals.iter_mut().enumerate().for_each(shift);
        }
        setup.faults = faults.into_iter().map(|(at_s, kind, on, times)| Fault { at_s, kind: match kind {
            0 => FaultKind::WorkerDies { tenant: on },
            1 => FaultKind::CreateFails { gpu: on, times },
            2 => FaultKind::DestroyInUse { gpu: on, times },
            _ => FaultKind::SolveFails { times },
        } }).collect();
        run(&setup);
    }
}
