//! From a scenario to what is simulated under one policy and seed.

use migrator_machine::MigrationConfig;
use migrator_mig::{Catalog, Geometry};
use migrator_models::Curve;
use migrator_models::curve::CurvePoint;
use migrator_sim::Setup;
use migrator_sim::setup::{Foresight, Interference, Learning, Planning, StepTimes, TenantSetup};
use migrator_solver::PolicyName;
use migrator_solver::policy::Sharing;

use super::file::Known;
use super::{GpuPart, Load, Scenario, TenantPart, gpu};
use crate::curve::Inference;

impl Scenario {
    /// What is simulated under a policy: for those that share by MPS, shares instead of instances, and interference.
    pub fn setup(&self, policy: PolicyName, seed: u64) -> Setup {
        let cut = self.gpu.cut(policy.sharing());
        let tenants = self.tenants.iter().enumerate();
        let isolated = cut.sharing == Sharing::Mig;
        Setup {
            name: self.name.clone(),
            gpus: vec![cut.catalog.clone(); self.gpu.count as usize],
            tenants: tenants.map(|(index, tenant)| self.tenant(index, tenant, &cut, seed)).collect(),
            seconds: self.seconds,
            window_s: self.window_s,
            seed,
            check_always: false,
            times: self.times(&cut),
            interference: match isolated {
                true => Interference::default(),
                false => Interference { inference: self.interference.inference, retraining: self.interference.retraining },
            },
            planning: self.planning(policy),
            migration: MigrationConfig::default(),
            faults: self.faults.clone(),
        }
    }

    /// How much of the GPUs it asks for.
    pub fn demand(&self) -> Load {
        let whole = f64::from(self.gpu.catalog.compute_slices) * f64::from(self.gpu.count);
        let inference = self.tenants.iter().map(|tenant| {
            let capacity = self.gpu.capacity_rps(&tenant.inference, tenant.entry.slo_ms, tenant.entry.max_batch);
            tenant.arrivals.mean_rps(self.seconds) * tenant.factor / capacity.max(1e-9)
        });
        let retraining = self.tenants.iter().map(|tenant| {
            let work = (tenant.learning.samples * u64::from(tenant.learning.epochs)) as f64;
            work * self.gpu.frugal_slice_s(tenant) / (whole * self.window_s)
        });
        Load { inference: inference.sum(), retraining: retraining.sum() }
    }

    fn tenant(&self, index: usize, tenant: &TenantPart, cut: &Cut, seed: u64) -> TenantSetup {
        let entry = &tenant.entry;
        TenantSetup {
            name: entry.name.clone(),
            slo_ms: entry.slo_ms,
            weight: entry.weight,
            floor_rps: entry.floor_rps,
            max_batch: entry.max_batch,
            queue: entry.queue,
            speed: cut.slices().map(|slices| cut.curve(&tenant.inference, slices, entry.max_batch)).collect(),
            jitter: entry.jitter,
            memory_mib: entry.memory_mib,
            load_s: entry.load_s,
            arrivals: tenant.arrivals.counts(self.seconds, tenant.factor, seed, index),
            moments: Vec::new(),
            learning: Learning { sample_s: cut.slices().map(|slices| cut.sample_s(tenant, slices)).collect(), ..tenant.learning.clone() },
        }
    }

    fn times(&self, cut: &Cut) -> StepTimes {
        let measured = |table: &std::collections::BTreeMap<u8, f64>, fixed: Option<f64>| {
            let one = |slices: u8| fixed.unwrap_or_else(|| table.range(..=slices).next_back().map_or(0.0, |(_, seconds)| *seconds));
            cut.slices().map(|slices| if cut.sharing == Sharing::Mps { 0.0 } else { one(slices) }).collect()
        };
        StepTimes {
            create_s: measured(&self.gpu.instances.create_s, self.steps.create_s),
            destroy_s: measured(&self.gpu.instances.destroy_s, self.steps.destroy_s),
            release_s: self.steps.release_s,
            bind_s: self.steps.bind_s,
            admit_s: self.steps.admit_s,
            checkpoint_s: self.steps.checkpoint_s,
            jitter: self.steps.jitter,
        }
    }

    fn planning(&self, policy: PolicyName) -> Planning {
        let planner = &self.planner;
        Planning {
            policy,
            foresight: match planner.foresight {
                Known::Forecast => Foresight::Forecast(planner.forecast),
                Known::Perfect => Foresight::Perfect,
            },
            beyond_window_s: planner.beyond_window_s,
            horizon_s: planner.horizon_s,
            dwell_s: planner.dwell_s,
            solve_every_s: planner.solve_every_s,
            solve_s: planner.solve_s,
            utilisation: planner.utilisation,
            min_gain: planner.min_gain,
            preload: planner.preload,
            hand_over: planner.hand_over,
            accuracy: planner.accuracy,
        }
    }
}

/// One GPU as a policy sees it.
struct Cut<'g> {
    gpu: &'g GpuPart,
    catalog: Catalog,
    sharing: Sharing,
}

impl GpuPart {
    fn cut(&self, sharing: Sharing) -> Cut<'_> {
        let catalog = if sharing == Sharing::Mps { gpu::shares(&self.catalog) } else { self.catalog.clone() };
        Cut { gpu: self, catalog, sharing }
    }

    /// Requests/s that all GPUs answer within the SLO at full speed when they serve this model alone, cut as suits it best.
    pub(super) fn capacity_rps(&self, inference: &Inference, slo_ms: f64, max_batch: u32) -> f64 {
        let cut = self.cut(Sharing::Mig);
        let each: Vec<f64> = cut.slices().map(|slices| cut.curve(inference, slices, max_batch).capacity_rps(1.0, slo_ms, 1.0)).collect();
        let whole = |geometry: &Geometry| geometry.0.iter().zip(&each).map(|(count, rps)| f64::from(*count) * rps).sum::<f64>();
        f64::from(self.count) * cut.catalog.maximal_geometries(&[]).iter().map(whole).fold(0.0, f64::max)
    }

    /// Least slice-seconds that a sample takes to train; 0 where nothing is retrained or nothing fits.
    fn frugal_slice_s(&self, tenant: &TenantPart) -> f64 {
        let cut = self.cut(Sharing::Mig);
        let least = cut.slices().map(|slices| cut.sample_s(tenant, slices) * f64::from(slices)).fold(f64::INFINITY, f64::min);
        if least.is_finite() && tenant.learning.enabled { least } else { 0.0 }
    }
}

impl Cut<'_> {
    /// Compute slices of each profile; of MPS, twentieths.
    fn slices(&self) -> impl Iterator<Item = u8> {
        self.catalog.profiles.iter().map(|profile| profile.compute_slices)
    }

    fn share(&self, slices: u8) -> f64 {
        f64::from(slices) / f64::from(self.catalog.compute_slices)
    }

    /// Rows and milliseconds up to the largest batch; empty where the model was not measured on the profile.
    fn curve(&self, inference: &Inference, slices: u8, max_batch: u32) -> Curve {
        let points = match self.sharing {
            Sharing::Mig => inference.on(slices).unwrap_or_default().to_vec(),
            Sharing::Mps => inference.on_share(self.share(slices), |slices| self.gpu.instances.share.get(&slices).copied()),
        };
        let all = Curve { points: points.iter().map(|&(batch, ms)| CurvePoint { batch, core_ms: ms / self.gpu.speed }).collect() };
        let mut within = Curve { points: all.points.iter().copied().filter(|point| point.batch <= max_batch).collect() };
        // The largest batch may lie between two measured ones.
        if within.points.len() < all.points.len() && within.points.last().is_none_or(|last| last.batch < max_batch) {
            within.points.push(CurvePoint { batch: max_batch, core_ms: all.core_ms(max_batch) });
        }
        within
    }

    fn sample_s(&self, tenant: &TenantPart, slices: u8) -> f64 {
        let Some(training) = &tenant.training else { return f64::INFINITY };
        let seconds = match self.sharing {
            Sharing::Mig => training.sample_s(slices),
            Sharing::Mps => training.sample_s_on_share(self.share(slices), |slices| self.gpu.instances.share.get(&slices).copied()),
        };
        seconds / self.gpu.speed
    }
}
