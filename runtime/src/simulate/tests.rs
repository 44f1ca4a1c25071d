//! What the tests of this folder have in common: a setup, a run and a report made by hand.

use migrator_machine::MigrationConfig;
use migrator_mig::Catalog;
use migrator_models::Curve;
use migrator_models::curve::CurvePoint;
use migrator_sim::run::{Second, TenantRun};
use migrator_sim::setup::{Drift, Foresight, Interference, Learning, Planning, StepTimes, TenantSetup};
use migrator_sim::{Run, Setup};
use migrator_solver::PolicyName;
use migrator_solver::forecast::ForecastName;

use super::measure::Measures;
use super::report::{Heading, Outcome, Report};

/// Two tenants on one A100 for a minute.
pub fn setup(seed: u64) -> Setup {
    let catalog = Catalog::seven_slices("A100-SXM4-80GB", 80 * 1024);
    let profiles = catalog.profiles.len();
    Setup {
        name: "one".to_owned(),
        gpus: vec![catalog],
        tenants: vec![tenant("vision", profiles), tenant("text", profiles)],
        seconds: 60,
        window_s: 200.0,
        seed,
        times: StepTimes {
            create_s: vec![0.3; profiles],
            destroy_s: vec![0.2; profiles],
            release_s: 0.1,
            bind_s: 0.1,
            admit_s: 0.1,
            checkpoint_s: 0.5,
            jitter: 0.0,
        },
        interference: Interference::default(),
        planning: Planning {
            policy: PolicyName::Migrator,
            foresight: Foresight::Forecast(ForecastName::default()),
            beyond_window_s: 100.0,
            horizon_s: 300.0,
            dwell_s: 10.0,
            solve_every_s: 1.0,
            solve_s: 0.0,
            utilisation: 0.85,
            min_gain: 0.005,
            preload: true,
            hand_over: true,
            accuracy: true,
        },
        migration: MigrationConfig::default(),
        faults: Vec::new(),
        check_always: false,
    }
}

fn tenant(name: &str, profiles: usize) -> TenantSetup {
    let curve = |profile: usize| Curve { points: vec![CurvePoint { batch: 1, core_ms: 8.0 / (profile + 1) as f64 }] };
    TenantSetup {
        name: name.to_owned(),
        slo_ms: 50.0,
        weight: 1.0,
        floor_rps: 1.0,
        max_batch: 8,
        queue: 1024,
        speed: (0..profiles).map(curve).collect(),
        jitter: 0.0,
        memory_mib: 1000,
        load_s: 2.0,
        arrivals: vec![2; 60],
        moments: Vec::new(),
        learning: Learning {
            enabled: false,
            first: 0.9,
            top: 0.95,
            floor: 0.5,
            drift: Drift::Steady { rate: 0.0 },
            curve: (1.0, 1.0),
            epochs: 1,
            samples: 1000,
            sample_s: vec![0.01; profiles],
            memory_mib: 1000,
            label_share: 0.1,
            estimate_error: 0.0,
            min_gain: 0.0,
        },
    }
}

/// A minute of the two, 100 requests each: vision answers 90 on time at 0.9, text 60 at 0.5.
pub fn run() -> Run {
    let seconds = |ok: u32| vec![Second { arrived: 2, ok, missed: 2 - ok, capacity_rps: 3.0, accuracy: 0.9 }; 50];
    let vision = TenantRun {
        name: "vision".to_owned(),
        arrived: 100,
        ok: 90,
        late: 10,
        good: 81.0,
        correct: 90.0,
        published: 1,
        seconds: seconds(2),
        latency: vec![(5.0, 20), (10.0, 60), (40.0, 20)],
        ..TenantRun::default()
    };
    let text = TenantRun {
        name: "text".to_owned(),
        arrived: 100,
        ok: 60,
        shed: 40,
        good: 30.0,
        correct: 30.0,
        missed: 1,
        seconds: seconds(1),
        latency: vec![(20.0, 60)],
        ..TenantRun::default()
    };
    Run { tenants: vec![vision, text], reconfigurations: 3, overhead_s: 0.5, solves: 60, ..Run::default() }
}

/// A scenario of the two tenants with so many seeds.
pub fn heading(name: &str, seeds: u64) -> Heading {
    Heading {
        name: name.to_owned(),
        gpus: "1 × A100-SXM4-80GB".to_owned(),
        tenants: vec!["vision".to_owned(), "text".to_owned()],
        seconds: 60,
        seeds: (1..=seeds).collect(),
    }
}

/// A run with this goodput.
pub fn outcome(scenario: usize, variant: usize, seed: u64, goodput: f64) -> Outcome {
    let mut measures = Measures::of(&run(), 60, 0.01);
    measures.values = [Some(goodput), Some(0.75), Some(0.75), Some(3.0), Some(0.5)];
    Outcome { scenario, variant, seed, result: Ok(measures) }
}

/// Two scenarios of two seeds with migrator, ekya and the oracle.
pub fn report() -> Report {
    let mut outcomes = Vec::new();
    for scenario in 0..2 {
        for seed in 1..=2 {
            let noise = seed as f64 * 0.01 - 0.01;
            outcomes.push(outcome(scenario, 0, seed, 0.8 + noise));
            outcomes.push(outcome(scenario, 1, seed, 0.6 - noise));
            let bound = Measures::bound(1.0, 200, 60, 0.0);
            outcomes.push(Outcome { scenario, variant: 2, seed, result: Ok(bound) });
        }
    }
    Report::new(vec![heading("one", 2), heading("two", 2)], &["migrator", "ekya", "oracle"].map(str::to_owned), outcomes)
}
