//! The same case in the simulator.

use std::collections::BTreeMap;

use migrator_machine::{MigrationConfig, Time};
use migrator_mig::Catalog;
use migrator_models::Curve;
use migrator_models::curve::CurvePoint;
use migrator_sim::setup::{Drift, Foresight, Interference, Learning, Planning, Setup, StepTimes, TenantSetup};
use migrator_sim::{Run, Unwatched, simulate};
use migrator_solver::forecast::ForecastName;
use migrator_solver::{Facts, Outcome, Plan, Policy, PolicyName, Problem, ProblemError, SolveOptions, policy};

use crate::case::{Case, TenantCase};

/// Runs the case; gives what ended the solves too, and how often.
pub fn run(case: &Case) -> (Run, BTreeMap<String, u32>) {
    let setup = setup(case);
    let policy = policy(setup.planning.policy, &Facts::default()).unwrap();
    let mut counted = Counted { policy, stopped: BTreeMap::new() };
    (simulate(&setup, &mut counted, &mut Unwatched), counted.stopped)
}

/// Counts what ended a policy's solves.
struct Counted {
    policy: Box<dyn Policy>,
    stopped: BTreeMap<String, u32>,
}

impl Policy for Counted {
    fn plan(
        &mut self,
        problem: &Problem,
        previous: Option<&Plan>,
        options: &SolveOptions,
        elapsed: Option<&mut dyn FnMut() -> f64>,
    ) -> Result<Outcome, ProblemError> {
        let outcome = self.policy.plan(problem, previous, options, elapsed)?;
        *self.stopped.entry(outcome.report.stopped.clone()).or_default() += 1;
        Ok(outcome)
    }
}

/// What the case is to the simulator: steps that take no time, batches that take what the curve says, nothing left to chance.
fn setup(case: &Case) -> Setup {
    let nothing = vec![0.0; case.gpus[0].profiles.len()];
    Setup {
        name: "parity".to_owned(),
        gpus: case.gpus.clone(),
        tenants: case.tenants.iter().map(|tenant| tenant_setup(case, tenant)).collect(),
        seconds: case.seconds,
        window_s: case.window_s,
        seed: 1,
        times: StepTimes {
            create_s: nothing.clone(),
            destroy_s: nothing,
            release_s: 0.0,
            bind_s: 0.0,
            admit_s: 0.0,
            checkpoint_s: 0.0,
            jitter: 0.0,
        },
        interference: Interference::default(),
        planning: planning(case),
        migration: MigrationConfig::default(),
        faults: Vec::new(),
        check_always: true,
    }
}

fn planning(case: &Case) -> Planning {
    Planning {
        policy: PolicyName::Migrator,
        foresight: Foresight::Forecast(ForecastName::default()),
        beyond_window_s: case.beyond_window_s,
        horizon_s: 300.0,
        dwell_s: case.dwell_s,
        solve_every_s: 1.0,
        solve_s: 0.0,
        utilisation: 0.85,
        min_gain: 0.005,
        preload: true,
        hand_over: true,
        accuracy: true,
    }
}

fn tenant_setup(case: &Case, tenant: &TenantCase) -> TenantSetup {
    let catalog = &case.gpus[0];
    TenantSetup {
        name: tenant.name.to_owned(),
        slo_ms: tenant.slo_ms,
        weight: 1.0,
        floor_rps: 1.0,
        max_batch: tenant.max_batch,
        queue: tenant.queue as usize,
        speed: (0..catalog.profiles.len()).map(|profile| on(case, tenant, catalog, profile)).collect(),
        jitter: 0.0,
        memory_mib: tenant.memory_mib,
        load_s: tenant.load_ms as f64 / 1000.0,
        arrivals: tenant.counts(case.seconds),
        moments: tenant.arrivals_ms.iter().map(|ms| Time(ms * 1000)).collect(),
        learning: Learning { memory_mib: tenant.memory_mib * 2, ..learning(case, tenant, catalog) },
    }
}

/// A version knows all of the weather it was trained in, and nothing of any other.
fn learning(case: &Case, tenant: &TenantCase, catalog: &Catalog) -> Learning {
    let own = case.retraining.as_ref();
    let share = |profile: usize| case.cores_per_slice * f64::from(catalog.profiles[profile].compute_slices);
    Learning {
        enabled: own.is_some(),
        first: 1.0,
        top: 1.0,
        floor: 0.0,
        drift: Drift::Steps(case.changes_s().iter().map(|&at| (at, f64::INFINITY)).collect()),
        curve: (0.0, f64::INFINITY),
        epochs: own.map_or(1, |own| own.epochs),
        samples: own.map_or(1, |own| own.max_samples * 4 / 5),
        sample_s: (0..catalog.profiles.len()).map(|profile| case.sample_core_s(tenant) / share(profile)).collect(),
        memory_mib: 0,
        label_share: own.map_or(0.0, |own| own.label_share),
        estimate_error: 0.0,
        min_gain: own.map_or(0.0, |own| own.min_gain),
    }
}

/// The tenant's curve on one whole instance of a profile.
fn on(case: &Case, tenant: &TenantCase, catalog: &Catalog, profile: usize) -> Curve {
    let share = case.cores_per_slice * f64::from(catalog.profiles[profile].compute_slices);
    let point = |point: &CurvePoint| CurvePoint { batch: point.batch, core_ms: tenant.curve.latency_ms(share, point.batch) };
    Curve { points: tenant.curve.points.iter().map(point).collect() }
}
