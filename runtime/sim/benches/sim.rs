//! Speed of the simulator: requests per second of wall time, at once, twice and four times the load. Fixed seed, one thread.
//!
//! `cargo bench -p migrator-sim`. The first of these is without solves but for the first one: what is left is the simulator and the
//! machines. The hour is with them, once a second.
#![allow(clippy::unwrap_used)]

use std::hint::black_box;
use std::time::Duration;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use migrator_mig::Catalog;
use migrator_sim::example::example;
use migrator_sim::setup::Foresight;
use migrator_sim::{Setup, Unwatched, simulate};
use migrator_solver::{Planner, PolicyName};

/// Requests/s of six tenants, 600 in all.
const RATES: [u32; 6] = [200, 150, 100, 80, 50, 20];

fn setup(load: u32, seconds: u64, policy: PolicyName) -> Setup {
    let mut setup = example(&RATES.map(|rps| rps * load), seconds);
    setup.planning.policy = policy;
    // Or the first plan, made before the first request, would give every tenant the smallest instance for ever.
    setup.planning.foresight = Foresight::Perfect;
    setup.gpus = vec![Catalog::seven_slices("example", 81_920); 4];
    setup
}

fn requests(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("requests");
    group.sample_size(10).measurement_time(Duration::from_secs(10));
    for load in [1, 2, 4] {
        let mut setup = setup(load, 600, PolicyName::Greedy);
        setup.planning.solve_every_s = 1e6;
        let run = simulate(&setup, &mut Planner::default(), &mut Unwatched);
        println!("{load}x: {:.3} of {} requests answered in time, {} events", run.slo_attainment(), run.arrived(), run.events);
        group.throughput(Throughput::Elements(u64::from(load) * 600 * 600));
        group.bench_function(format!("{load}x"), |bencher| {
            bencher.iter(|| black_box(simulate(&setup, &mut Planner::default(), &mut Unwatched)));
        });
    }
    group.finish();
}

fn hour(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("hour");
    group.sample_size(10).measurement_time(Duration::from_secs(60));
    for (name, policy) in [("keep", PolicyName::Keep), ("greedy", PolicyName::Greedy), ("migrator", PolicyName::Migrator)] {
        let setup = setup(1, 3600, policy);
        // Simulated seconds.
        group.throughput(Throughput::Elements(3600));
        group.bench_function(name, |bencher| {
            bencher.iter(|| black_box(simulate(&setup, &mut Planner::default(), &mut Unwatched)));
        });
    }
    group.finish();
}

criterion_group!(benches, requests, hour);
criterion_main!(benches);
