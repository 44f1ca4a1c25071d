//! From what is known to the problem that is solved.

use migrator_models::OnProfile;
use migrator_solver::{GpuModel, GpuState, Problem, RetrainingState, TaskKind, TenantState};

use super::CoordinatorMachine;
use super::types::{GpuConfig, TenantPlanning, TenantTick};
use crate::Time;

/// How far service times may move the planned capacity, either way.
const RATIO_BOUND: f64 = 4.0;
/// Weight of one second's service times.
const RATIO_ALPHA: f64 = 0.1;
/// Seconds from which arrivals are shown to a forecaster.
const WHOLE_S: f64 = 0.5;
/// Share of a second's requests missed from which its answers are taken for all that the tenant's instances give.
const OVERLOADED: f64 = 0.05;
/// Weight of an overloaded second in what the instances are believed to give.
const YIELD_ALPHA: f64 = 0.3;
/// Weight of a second without overload, which shows nothing: the belief fades back to the curve's.
const YIELD_FADES: f64 = 0.01;
/// Least yield believed.
const LEAST_YIELD: f64 = 0.2;

/// Most accuracy that a loss of confidence is believed to cost.
const MOST_LOST: f64 = 0.3;
/// Share of the way back to its first accuracy that a tenant's first retraining is hoped to go.
const RECOVERY: f64 = 0.5;

impl CoordinatorMachine {
    /// Takes in one second.
    pub(super) fn observe(&mut self, ticks: &[TenantTick]) {
        let believed = self.capacity_rps();
        for (index, tick) in ticks.iter().enumerate().take(self.forecasters.len()) {
            let telemetry = &tick.telemetry;
            let seconds = if telemetry.seconds > 0.0 { telemetry.seconds } else { 1.0 };
            self.foretell(index, telemetry.arrivals as f64, telemetry.seconds);
            if telemetry.batches > 0 && telemetry.service_ratio.is_finite() {
                let seen = telemetry.service_ratio.clamp(1.0 / RATIO_BOUND, RATIO_BOUND);
                self.ratios[index] += RATIO_ALPHA * (seen - self.ratios[index]);
            }
            let missed = (telemetry.late + telemetry.shed) as f64;
            let yields = &mut self.yields[index];
            if missed > OVERLOADED * telemetry.arrivals as f64 && believed[index] > 0.0 && telemetry.lanes_up > 0 {
                // Whatever the curve says: this is what was answered in time while more was asked for.
                let seen = *yields * telemetry.ok as f64 / seconds / believed[index];
                *yields += YIELD_ALPHA * (seen.clamp(LEAST_YIELD, 1.0) - *yields);
            } else {
                *yields += YIELD_FADES * (1.0 - *yields);
            }
        }
    }

    /// Lets the forecaster see whole seconds: a look right after a migration covers a part of one, whose few arrivals say little, and the
    /// first look none.
    fn foretell(&mut self, tenant: usize, arrivals: f64, seconds: f64) {
        if seconds <= 0.0 && arrivals <= 0.0 {
            return;
        }
        let part = &mut self.parts[tenant];
        (part.0, part.1) = (part.0 + arrivals, part.1 + if seconds > 0.0 { seconds } else { 1.0 });
        if part.1 >= WHOLE_S {
            self.forecasters[tenant].observe(part.0 / part.1);
            *part = (0.0, 0.0);
        }
    }

    /// The problem at `now`.
    pub(super) fn problem(&self, now: Time) -> Problem {
        let (_, gone, length) = self.window(now);
        Problem {
            models: self.models(),
            gpus: self.gpus(),
            tenants: (0..self.config.tenants.len()).map(|tenant| self.tenant(tenant)).collect(),
            window_left_s: (length - gone).max(0.0),
            beyond_window_s: self.config.beyond_window_s,
            costs: self.costs.transition(),
        }
    }

    /// The GPUs and what the last tick found on them.
    pub(super) fn gpus(&self) -> Vec<GpuState> {
        let models = self.distinct();
        let model = |gpu: &GpuConfig| models.iter().position(|of| of.catalog == gpu.catalog).unwrap_or(0);
        let gpus = self.config.gpus.iter().zip(&self.tick.instances);
        gpus.map(|(gpu, instances)| GpuState { model: model(gpu), instances: instances.clone() }).collect()
    }

    /// One GPU of each model, in the order of the GPUs.
    fn distinct(&self) -> Vec<&GpuConfig> {
        let mut models: Vec<&GpuConfig> = Vec::new();
        for gpu in &self.config.gpus {
            if !models.iter().any(|of| of.catalog == gpu.catalog) {
                models.push(gpu);
            }
        }
        models
    }

    /// The GPU models of this host and what cutting them takes.
    fn models(&self) -> Vec<GpuModel> {
        self.distinct().into_iter().map(|gpu| self.costs.model(&gpu.catalog)).collect()
    }

    /// Requests/s of a tenant by GPU model and profile: its curve, corrected by what its lanes measured.
    pub(super) fn capacity_by_profile(&self, tenant: usize) -> Vec<Vec<f64>> {
        self.distinct().into_iter().map(|gpu| self.capacity_on(gpu, tenant)).collect()
    }

    fn capacity_on(&self, gpu: &GpuConfig, tenant: usize) -> Vec<f64> {
        let planning = &self.config.tenants[tenant];
        let ratio = self.ratios[tenant];
        let capacity = |(index, profile): (usize, &migrator_mig::Profile)| {
            if self.gone[tenant] || profile.memory_mib < planning.memory_mib {
                return 0.0;
            }
            let on = match planning.on_profile.get(index) {
                Some(on) => OnProfile { curve: on.curve.slowed(ratio), executors: on.executors },
                None => OnProfile::scaled(&planning.curve.slowed(ratio), f64::from(profile.compute_slices) * gpu.cores_per_slice),
            };
            let rps = on.capacity_rps(planning.slo_ms, self.config.utilisation) * self.yields[tenant];
            if rps.is_finite() { rps.max(0.0) } else { 0.0 }
        };
        gpu.catalog.profiles.iter().enumerate().map(capacity).collect()
    }

    fn tenant(&self, tenant: usize) -> TenantState {
        let planning = &self.config.tenants[tenant];
        let tick = self.tick.tenants.get(tenant).cloned().unwrap_or_default();
        let accuracy = self.accuracy(planning, &tick);
        TenantState {
            name: planning.name.clone(),
            weight: planning.weight,
            demand: self.forecasters[tenant].scenarios(self.config.horizon_s.clamp(1.0, 3600.0).ceil() as usize),
            capacity_rps: self.capacity_by_profile(tenant),
            memory_mib: planning.memory_mib,
            backlog: tick.telemetry.queue_depth as f64,
            accuracy,
            load_s: self.costs.load_s(tenant),
            retraining: self.retraining(tenant, &tick, accuracy),
            floor_rps: planning.floor_rps,
        }
    }

    /// The running accuracy, as far as its samples go; for the rest what validation or the configuration says, less what the answers'
    /// confidence has lost since.
    fn accuracy(&self, planning: &TenantPlanning, tick: &TenantTick) -> f64 {
        let lost = tick.telemetry.drift.map_or(0.0, |drift| drift.confidence.clamp(-MOST_LOST, 0.0));
        let assumed = tick.retraining.validated.unwrap_or(planning.prior_accuracy) + lost;
        let wanted = self.config.min_accuracy_samples.max(1.0);
        let value = match tick.telemetry.accuracy {
            Some(seen) => assumed + (seen.value - assumed) * (seen.samples / wanted).clamp(0.0, 1.0),
            None => assumed,
        };
        if value.is_finite() { value.clamp(0.0, 1.0) } else { planning.prior_accuracy.clamp(0.0, 1.0) }
    }

    fn retraining(&self, tenant: usize, tick: &TenantTick, accuracy: f64) -> Option<RetrainingState> {
        let (status, planning) = (&tick.retraining, &self.config.tenants[tenant]);
        if !status.due {
            return None;
        }
        let seconds = |gpu: &GpuConfig, (index, profile): (usize, &migrator_mig::Profile)| {
            let by_cores = || f64::from(profile.compute_slices) * gpu.cores_per_slice;
            let speed = planning.retrain_speeds.get(index).copied().unwrap_or_else(by_cores);
            let fits = speed > 0.0 && profile.memory_mib >= planning.retrain_memory_mib;
            if fits { status.core_s_left.max(0.0) / speed.max(1e-6) } else { f64::INFINITY }
        };
        // A microprofile of the samples at hand knows better than what the last ones came to.
        let foretold = status.foretold.map(|gain| accuracy + gain);
        // The longer ago the last one, the more the next one gains, whatever the last ones gained.
        let reach = status.reach.unwrap_or(accuracy + RECOVERY * (planning.prior_accuracy - accuracy));
        Some(RetrainingState {
            seconds_left: self
                .distinct()
                .iter()
                .map(|gpu| gpu.catalog.profiles.iter().enumerate().map(|profile| seconds(gpu, profile)).collect())
                .collect(),
            accuracy_after: foretold.unwrap_or((accuracy + status.expected_gain).max(reach)).clamp(accuracy, 1.0),
            restore_s: self.costs.load_s(tenant),
            memory_mib: planning.retrain_memory_mib,
        })
    }

    /// Capacity of each tenant on the instances of the last tick that serve it, requests/s.
    pub fn capacity_rps(&self) -> Vec<f64> {
        let mut sums = vec![0.0; self.config.tenants.len()];
        let tables: Vec<Vec<Vec<f64>>> = (0..sums.len()).map(|tenant| self.capacity_by_profile(tenant)).collect();
        for gpu in self.gpus() {
            for instance in gpu.instances.iter().filter(|instance| instance.ready_in_s <= 0.0) {
                if let Some(task) = instance.task.filter(|task| task.kind == TaskKind::Inference)
                    && let Some(table) = tables.get(task.tenant.index()).and_then(|models| models.get(gpu.model))
                    && let Some(rps) = table.get(instance.site.profile.index())
                {
                    sums[task.tenant.index()] += rps;
                }
            }
        }
        sums
    }
}
