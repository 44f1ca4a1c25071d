//! The machines' configurations, as the server makes them of its own.

use std::time::Duration;

use migrator_machine::coordinator::{CoordinatorConfig, GpuConfig, TenantPlanning};
use migrator_machine::retraining::RetrainingConfig;
use migrator_machine::tenant::{Dispatch, TenantConfig};
use migrator_models::{Curve, OnProfile};

use crate::dice::{Dice, Purpose};
use crate::setup::{Foresight, Setup, TenantSetup};

/// Share of the labelled samples that only measures accuracy (`retraining.held_out_share` of the server).
pub(crate) const HELD_OUT: f64 = 0.2;

/// How the coordinator plans.
pub(crate) fn coordinator(setup: &Setup) -> CoordinatorConfig {
    let planning = &setup.planning;
    let defaults = CoordinatorConfig::default();
    CoordinatorConfig {
        gpus: setup.gpus.iter().map(|catalog| GpuConfig { catalog: catalog.clone(), cores_per_slice: 1.0 }).collect(),
        tenants: setup.tenants.iter().map(|tenant| planned(setup, tenant)).collect(),
        window_s: setup.window_s,
        beyond_window_s: planning.beyond_window_s,
        horizon_s: planning.horizon_s,
        forecast: match planning.foresight {
            Foresight::Forecast(name) => name,
            Foresight::Perfect => defaults.forecast,
        },
        dwell_s: planning.dwell_s,
        solve_every_s: planning.solve_every_s,
        utilisation: planning.utilisation,
        preload: planning.preload,
        policy: planning.policy,
        min_gain: planning.min_gain,
        // What steps take is as little known at the start as to the live server, and learnt as there.
        ..defaults
    }
}

fn planned(setup: &Setup, tenant: &TenantSetup) -> TenantPlanning {
    let profiles = setup.gpus.first().map_or(0, |catalog| catalog.profiles.len());
    TenantPlanning {
        name: tenant.name.clone(),
        weight: tenant.weight,
        slo_ms: tenant.slo_ms,
        floor_rps: tenant.floor_rps,
        curve: Curve::default(),
        on_profile: (0..profiles).map(|profile| OnProfile::one_by_one(tenant.speed.get(profile).cloned().unwrap_or_default())).collect(),
        retrain_speeds: (0..profiles).map(|profile| tenant.retrain_speed(profile)).collect(),
        memory_mib: tenant.memory_mib,
        retrain_memory_mib: tenant.learning.memory_mib,
        load_s: tenant.load_s,
        prior_accuracy: tenant.learning.first,
    }
}

impl TenantSetup {
    /// How fast it retrains on a profile, in units of its fastest; 0 = does not fit.
    fn retrain_speed(&self, profile: usize) -> f64 {
        let (fastest, own) = (self.learning.fastest_s(), self.learning.sample_s.get(profile).copied());
        match (fastest, own) {
            (Some(fastest), Some(own)) if own.is_finite() && own > 0.0 => fastest / own,
            _ => 0.0,
        }
    }

    /// Whether serving it fits on a profile at all.
    pub(crate) fn fits(&self, profile: usize) -> bool {
        self.speed.get(profile).is_some_and(|curve| !curve.points.is_empty())
    }
}

/// How a tenant is served. Its lanes bring the curves of their profiles.
pub(crate) fn serving(setup: &Setup, tenant: &TenantSetup) -> TenantConfig {
    TenantConfig {
        slo: Duration::try_from_secs_f64(tenant.slo_ms / 1000.0).unwrap_or_default(),
        max_batch: tenant.max_batch,
        queue_limit: tenant.queue,
        dispatch: Dispatch::of(setup.planning.policy),
        ..TenantConfig::default()
    }
}

/// When a retraining is worth it; the micro-profile that its work and its gain are first known from errs by chance.
pub(crate) fn retraining(setup: &Setup, index: usize) -> RetrainingConfig {
    let learning = &setup.tenants[index].learning;
    let mut dice = Dice::new(setup.seed, Purpose::Estimates(index));
    let fresh = learning.trained(setup.window_s, f64::from(learning.epochs));
    let gain = learning.accuracy(fresh, setup.window_s) - learning.accuracy(learning.first_version(), setup.window_s);
    RetrainingConfig {
        enabled: learning.enabled && learning.fastest_s().is_some(),
        min_samples: collected(learning.samples).min(labels_of_a_window(setup, &setup.tenants[index])).max(1),
        epochs: learning.epochs,
        min_gain: learning.min_gain,
        prior_gain: (gain * dice.factor(learning.estimate_error)).clamp(0.0, 1.0),
        prior_core_s: learning.fastest_s().unwrap_or(0.0) * dice.factor(learning.estimate_error),
        ..RetrainingConfig::default()
    }
}

/// What nine tenths of a window usually bring, so that a retraining can begin with its window even where labels are few.
fn labels_of_a_window(setup: &Setup, tenant: &TenantSetup) -> u64 {
    let seconds = tenant.arrivals.len().min(setup.seconds as usize).max(1);
    let arrived: u64 = tenant.arrivals.iter().take(seconds).map(|&count| u64::from(count)).sum();
    let rate = arrived as f64 / seconds as f64 * tenant.learning.label_share.clamp(0.0, 1.0);
    (0.9 * rate * setup.window_s.max(0.0)) as u64
}

/// Most labelled samples of a data set: those that are trained on, and those that are held out.
pub(crate) fn collected(samples: u64) -> u64 {
    (samples as f64 / (1.0 - HELD_OUT)).round() as u64
}
