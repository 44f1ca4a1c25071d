//! What policies may know beforehand.

use migrator_sim::Setup;
use migrator_sim::setup::TenantSetup;
use migrator_solver::policy::{Facts, TenantFacts, TrainingFacts};

use super::Scenario;

impl Scenario {
    /// What policies know beforehand in a simulation of `setup`.
    pub fn facts(&self, setup: &Setup) -> Facts {
        let tenants = setup.tenants.iter().map(|tenant| TenantFacts {
            slo_ms: tenant.slo_ms,
            latency_ms: vec![tenant.speed.iter().map(|curve| curve.points.iter().map(|p| (p.batch, p.core_ms)).collect()).collect()],
            future_rps: tenant.arrivals.iter().map(|&count| f64::from(count)).collect(),
            training: tenant.learning.enabled.then(|| training(tenant, setup.window_s)),
        });
        Facts { tenants: tenants.collect(), window_s: setup.window_s }
    }
}

/// Accuracy with a version per window, made of the window before and published as soon as the fastest profile can, and with the first version for
/// ever; means over the arrivals.
fn training(tenant: &TenantSetup, window_s: f64) -> TrainingFacts {
    let learning = &tenant.learning;
    let work = learning.samples as f64 * f64::from(learning.epochs);
    let fastest_s = work * learning.fastest_s().unwrap_or(f64::INFINITY);
    let first = learning.first_version();
    let (mut arrived, mut trained, mut untrained) = (0.0, 0.0, 0.0);
    for (second, &count) in tenant.arrivals.iter().enumerate() {
        let (at_s, count) = (second as f64, f64::from(count));
        let window = ((at_s - fastest_s) / window_s).floor();
        let stale = learning.accuracy(first, at_s);
        let fresh = if window < 1.0 {
            stale
        } else {
            learning.accuracy(learning.trained((window - 0.5) * window_s, f64::from(learning.epochs)), at_s)
        };
        arrived += count;
        untrained += count * stale;
        trained += count * fresh;
    }
    let mean = |sum: f64| if arrived > 0.0 { sum / arrived } else { 0.0 };
    let seconds = vec![learning.sample_s.iter().map(|sample_s| work * sample_s).collect()];
    TrainingFacts { seconds, trained: mean(trained), untrained: mean(untrained) }
}
