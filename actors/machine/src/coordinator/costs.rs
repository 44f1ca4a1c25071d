//! What steps take, from what migrations measured.

use migrator_mig::{Catalog, ProfileId};
use migrator_solver::{GpuModel, Step, TaskKind, TransitionCosts};

use super::types::CoordinatorConfig;
use crate::migration::{MigrationReport, StepTook};

/// Weight of one measurement.
const ALPHA: f64 = 0.3;

/// Expected seconds by kind of step.
#[derive(Debug)]
pub(super) struct Costs {
    create_s: Vec<f64>,
    destroy_s: Vec<f64>,
    drain_s: f64,
    bind_s: f64,
    admit_s: f64,
    /// By tenant.
    load_s: Vec<f64>,
    preload: bool,
}

impl Costs {
    pub fn new(config: &CoordinatorConfig) -> Costs {
        let profiles = config.gpus.iter().map(|gpu| gpu.catalog.profiles.len()).max().unwrap_or(0);
        Costs {
            create_s: vec![config.create_s; profiles],
            destroy_s: vec![config.destroy_s; profiles],
            drain_s: config.drain_s,
            bind_s: config.handover_s / 2.0,
            admit_s: config.handover_s / 2.0,
            load_s: config.tenants.iter().map(|tenant| tenant.load_s).collect(),
            preload: config.preload,
        }
    }

    /// As the solver wants them.
    pub fn transition(&self) -> TransitionCosts {
        TransitionCosts { drain_s: self.drain_s, handover_s: self.bind_s + self.admit_s, preload: self.preload }
    }

    /// A GPU model as the solver wants it; what was measured counts for every model.
    pub fn model(&self, catalog: &Catalog) -> GpuModel {
        let table = |table: &[f64]| (0..catalog.profiles.len()).map(|q| table.get(q).copied().unwrap_or(0.0)).collect();
        GpuModel { catalog: catalog.clone(), create_s: table(&self.create_s), destroy_s: table(&self.destroy_s) }
    }

    /// What a new tenant's model takes to load; the number is an old one, or the next.
    pub fn join(&mut self, tenant: usize, load_s: f64) {
        self.load_s.resize(self.load_s.len().max(tenant + 1), 0.0);
        self.load_s[tenant] = load_s;
    }

    /// Seconds to start a worker and load a tenant's model.
    pub fn load_s(&self, tenant: usize) -> f64 {
        self.load_s.get(tenant).copied().unwrap_or(0.0)
    }

    pub fn learn(&mut self, report: &MigrationReport) {
        for StepTook { step, seconds } in &report.steps {
            self.learn_step(step, *seconds);
        }
    }

    fn learn_step(&mut self, step: &Step, seconds: f64) {
        let by_profile = |table: &mut Vec<f64>, profile: ProfileId| {
            if let Some(cost) = table.get_mut(profile.index()) {
                follow(cost, seconds);
            }
        };
        match step {
            Step::Create { key } => by_profile(&mut self.create_s, key.site.profile),
            Step::Destroy { site, .. } => by_profile(&mut self.destroy_s, site.profile),
            // A retraining's drain writes a checkpoint, during which no service is lost.
            Step::Drain { task, .. } if task.kind == TaskKind::Inference => follow(&mut self.drain_s, seconds),
            Step::Bind { task, .. } if !self.preload => self.learn_load(task.tenant.index(), seconds),
            Step::Preload { task, .. } => self.learn_load(task.tenant.index(), seconds),
            Step::Bind { .. } => follow(&mut self.bind_s, seconds),
            Step::Admit { .. } => follow(&mut self.admit_s, seconds),
            Step::Drain { .. } | Step::Release { .. } => {}
        }
    }

    fn learn_load(&mut self, tenant: usize, seconds: f64) {
        if let Some(cost) = self.load_s.get_mut(tenant) {
            follow(cost, seconds);
        }
    }
}

fn follow(cost: &mut f64, seconds: f64) {
    if seconds.is_finite() && seconds >= 0.0 {
        *cost += ALPHA * (seconds - *cost);
    }
}
