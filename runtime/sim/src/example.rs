//! A small host to try things on: tests and benches start from it and change what they are about.

use migrator_machine::MigrationConfig;
use migrator_mig::Catalog;
use migrator_models::Curve;
use migrator_models::curve::CurvePoint;
use migrator_solver::PolicyName;
use migrator_solver::forecast::ForecastName;

use crate::setup::{Drift, Foresight, Interference, Learning, Planning, Setup, StepTimes, TenantSetup};

/// One seven-slice GPU of 80 GiB and as many tenants as rates, each with that many requests every second, for so long.
///
/// A batch of one row takes 8 ms on one slice and 2 ms on seven. MIG calls take about what they take on an A100
/// (`runtime/device/src/cpu/option.rs`).
pub fn example(rates: &[u32], seconds: u64) -> Setup {
    let catalog = Catalog::seven_slices("example", 81_920);
    let profiles = catalog.profiles.len();
    let times = StepTimes {
        create_s: vec![0.25; profiles],
        destroy_s: vec![0.25; profiles],
        release_s: 0.05,
        bind_s: 0.1,
        admit_s: 0.01,
        checkpoint_s: 0.5,
        jitter: 0.1,
    };
    Setup {
        name: "example".to_owned(),
        tenants: rates.iter().enumerate().map(|(index, &rps)| tenant(&catalog, index, vec![rps; seconds as usize])).collect(),
        gpus: vec![catalog],
        seconds,
        window_s: 200.0,
        seed: 1,
        times,
        interference: Interference::default(),
        planning: planning(),
        migration: MigrationConfig::default(),
        faults: Vec::new(),
        check_always: false,
    }
}

/// As the server plans when nothing is configured.
fn planning() -> Planning {
    Planning {
        policy: PolicyName::Greedy,
        foresight: Foresight::Forecast(ForecastName::default()),
        beyond_window_s: 100.0,
        horizon_s: 300.0,
        dwell_s: 10.0,
        solve_every_s: 1.0,
        solve_s: 0.01,
        utilisation: 0.85,
        min_gain: 0.005,
        preload: true,
        hand_over: true,
        accuracy: true,
    }
}

fn tenant(catalog: &Catalog, index: usize, arrivals: Vec<u32>) -> TenantSetup {
    let slices = |profile: usize| f64::from(catalog.profiles[profile].compute_slices);
    let point = |profile: usize, batch: u32, ms: f64| CurvePoint { batch, core_ms: ms * 8.0 / (1.0 + slices(profile).powf(0.75)) };
    let curve = |profile| Curve { points: [(1, 2.0), (4, 4.0), (16, 12.0)].map(|(batch, ms)| point(profile, batch, ms)).to_vec() };
    TenantSetup {
        name: format!("tenant-{index}"),
        slo_ms: 100.0,
        weight: 1.0,
        floor_rps: 1.0,
        max_batch: 16,
        queue: 1024,
        speed: (0..catalog.profiles.len()).map(curve).collect(),
        jitter: 0.1,
        memory_mib: 2048,
        load_s: 3.0,
        arrivals,
        moments: Vec::new(),
        learning: Learning {
            enabled: true,
            first: 0.8,
            top: 0.9,
            floor: 0.2,
            drift: Drift::Steady { rate: 0.001 },
            curve: (1.0, 1.0),
            epochs: 8,
            samples: 1000,
            sample_s: (0..catalog.profiles.len()).map(|profile| 0.01 / slices(profile)).collect(),
            memory_mib: 4096,
            label_share: 0.2,
            estimate_error: 0.2,
            min_gain: 0.002,
        },
    }
}
