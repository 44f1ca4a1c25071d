//! What a solve takes; see `README.md` beside this file.

use std::hint::black_box;

use criterion::{BenchmarkId, Criterion, SamplingMode, Throughput, criterion_group, criterion_main};
use migrator_mig::Catalog;
use migrator_solver::{
    Generation, GpuModel, GpuState, InstanceId, InstanceState, PolicyName, Problem, RetrainingState, Scenario, SolveOptions, TenantState,
    TransitionCosts, solve,
};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

/// Decides all problems.
const SEED: u64 = 7;
/// Problems per number of tenants: enough that no single lucky one decides the mean.
const PROBLEMS: usize = 16;
/// Speed of 1, 2, 3, 4 and 7 compute slices relative to one: a little less than proportional, as measured on the `cpu` device.
const SPEEDS: [f64; 5] = [1.0, 1.95, 2.85, 3.75, 6.3];
/// Slots of demand, seconds.
const SLOTS: usize = 60;

/// A tenant whose demand moves between two levels around a third of the machine.
fn tenant(rng: &mut StdRng, index: usize, tenants: usize) -> TenantState {
    let one_slice: f64 = rng.random_range(20.0..400.0);
    let share = 7.0 / tenants as f64 * one_slice;
    let (low, high) = (share * rng.random_range(0.1..0.5), share * rng.random_range(0.5..1.5));
    let turn = rng.random_range(5..20);
    let seconds_on_one = rng.random_range(20.0..300.0);
    let retraining = rng.random_bool(0.6).then(|| RetrainingState {
        seconds_left: vec![SPEEDS.iter().map(|speed| seconds_on_one / speed).collect()],
        memory_mib: 0,
        accuracy_after: rng.random_range(0.8..0.95),
        restore_s: 1.0,
    });
    TenantState {
        name: format!("t{index}"),
        weight: 1.0,
        demand: Scenario::certain((0..SLOTS).map(|slot| if (slot / turn) % 2 == index % 2 { high } else { low }).collect()),
        capacity_rps: vec![SPEEDS.iter().map(|speed| one_slice * speed).collect()],
        memory_mib: 0,
        backlog: 0.0,
        accuracy: rng.random_range(0.5..0.9),
        load_s: 0.5,
        retraining,
        floor_rps: 1.0,
    }
}

fn problem(rng: &mut StdRng, tenants: usize) -> Problem {
    Problem {
        models: vec![GpuModel {
            catalog: Catalog::seven_slices("A100-SXM4-80GB", 80 * 1024),
            create_s: vec![0.3; 5],
            destroy_s: vec![0.2; 5],
        }],
        gpus: vec![GpuState { model: 0, instances: Vec::new() }],
        tenants: (0..tenants).map(|index| tenant(rng, index, tenants)).collect(),
        window_left_s: rng.random_range(20.0..200.0),
        beyond_window_s: 60.0,
        costs: TransitionCosts { drain_s: 0.2, handover_s: 0.3, preload: true },
    }
}

fn options(policy: PolicyName) -> SolveOptions {
    SolveOptions { policy, ..SolveOptions::new(Generation(1)) }
}

/// A problem on a GPU that an earlier plan, for other demand, has cut up: what the coordinator meets every second.
fn under_way(rng: &mut StdRng, tenants: usize) -> Problem {
    let earlier = solve(&problem(rng, tenants), None, &options(PolicyName::Greedy)).expect("the generator makes sound problems").plan;
    let mut now = problem(rng, tenants);
    let inference_only =
        earlier.gpus[0].allocations.iter().filter(|a| a.task.is_some_and(|task| task == migrator_solver::Task::inference(task.tenant)));
    let instance = |(index, a): (usize, &migrator_solver::Allocation)| InstanceState {
        id: InstanceId(index as u64 + 1),
        site: a.site,
        task: a.task,
        ready_in_s: 0.0,
        pinned: false,
    };
    now.gpus[0].instances = inference_only.enumerate().map(instance).collect();
    now
}

fn solves(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("solve");
    // A round over all problems takes up to a third of a second.
    group.sample_size(10).sampling_mode(SamplingMode::Flat).throughput(Throughput::Elements(PROBLEMS as u64));
    for tenants in [3, 4] {
        let mut rng = StdRng::seed_from_u64(SEED);
        let problems: Vec<Problem> = (0..PROBLEMS).map(|_| under_way(&mut rng, tenants)).collect();
        for (name, policy) in [("ilp", PolicyName::Migrator), ("greedy", PolicyName::Greedy)] {
            let options = options(policy);
            let round = || problems.iter().for_each(|problem| drop(black_box(solve(black_box(problem), None, &options))));
            group.bench_function(BenchmarkId::new(name, tenants), |bencher| bencher.iter(round));
        }
    }
    group.finish();
}

criterion_group!(benches, solves);
criterion_main!(benches);
