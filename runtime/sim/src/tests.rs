//! Whole simulations.

use migrator_solver::{Planner, PolicyName};

use crate::example::example;
use crate::{Run, Setup, Unwatched, simulate};

fn run(setup: &Setup) -> Run {
    let run = simulate(setup, &mut Planner::default(), &mut Unwatched);
    assert_eq!(run.violations, [""; 0]);
    for tenant in &run.tenants {
        assert_eq!(tenant.arrived, tenant.ok + tenant.late + tenant.shed + tenant.error, "{}", tenant.name);
    }
    run
}

#[test]
fn all_that_arrives_is_answered_once() {
    let mut setup = example(&[100, 50, 20], 300);
    setup.check_always = true;
    let run = run(&setup);
    assert_eq!(run.arrived(), 170 * 300);
    for decision in run.decisions.iter().take(30) {
        println!("{decision}");
    }
    for t in &run.tenants {
        println!("{} ok {} late {} shed {} good {} pub {} missed {}", t.name, t.ok, t.late, t.shed, t.good, t.published, t.missed);
    }
    println!("{} events {} solves {} reconf {} overhead", run.events, run.solves, run.reconfigurations, run.overhead_s);
    assert!(run.slo_attainment() > 0.97, "{}", run.slo_attainment());
}

#[test]
fn the_same_seed_gives_the_same_run() {
    let setup = example(&[100, 50], 100);
    assert_eq!(run(&setup), run(&setup));
    let other = Setup { seed: 2, ..setup.clone() };
    assert_ne!(run(&setup).tenants[0].latency, run(&other).tenants[0].latency);
}

#[test]
fn odd_setups_are_survived() {
    let keep = |mut setup: Setup| {
        setup.planning.policy = PolicyName::Keep;
        setup
    };
    assert_eq!(run(&example(&[], 10)).arrived(), 0);
    assert_eq!(run(&example(&[0, 0], 10)).arrived(), 0);
    assert_eq!(run(&example(&[5], 0)).arrived(), 0);
    let nowhere = |mut setup: Setup| {
        setup.tenants[0].speed.iter_mut().for_each(|curve| curve.points.clear());
        setup
    };
    assert_eq!(run(&nowhere(example(&[5, 5], 10))).tenants[0].shed, 50);
    let without = Setup { gpus: Vec::new(), ..example(&[5], 10) };
    assert_eq!(run(&without).tenants[0].shed, 50);
    run(&keep(example(&[5], 10)));
}
