//! What a reconfiguration costs in service.

use std::collections::BTreeMap;

use migrator_mig::Site;
use migrator_solver::TaskKind::Inference;
use migrator_solver::{InstanceId, Plan, Problem, Task, TenantId};

use crate::Time;

/// What a reconfiguration costs: of the tenants' service, and of the GPUs' time.
///
/// - Service lost: `max(0, min(before, after) − now) ÷ min(before, after)` of each tenant's capacity, integrated over time, summed over tenants.
/// - Slices idle: `max(0, min(before, after) − now)` of the compute slices in use by any task, integrated over time. It sees what the other does
///   not: an instance that yields to another tenant and stands still until its heir's model is loaded.
#[derive(Debug, Default)]
pub(super) struct Loss {
    /// Requests/s by tenant, GPU model and profile.
    capacity: Vec<Vec<Vec<f64>>>,
    /// GPU model of each GPU.
    models: Vec<usize>,
    /// Compute slices by GPU and profile.
    slices: Vec<Vec<f64>>,
    /// `min(before, after)` by tenant.
    owed: Vec<f64>,
    /// `min(before, after)` of the compute slices in use.
    in_use: f64,
    admitted: BTreeMap<InstanceId, Admitted>,
    since: Time,
    lost_s: f64,
    idle_slice_s: f64,
}

#[derive(Clone, Copy, Debug)]
struct Admitted {
    tenant: TenantId,
    /// 0 for a retraining, and while draining.
    rps: f64,
    slices: f64,
}

impl Loss {
    pub fn new(now: Time, problem: &Problem, plan: &Plan) -> Loss {
        let capacity = problem.tenants.iter().map(|tenant| tenant.capacity_rps.clone()).collect();
        let models = problem.gpus.iter().map(|gpu| gpu.model).collect();
        let slices_of = |gpu| problem.catalog(gpu).profiles.iter().map(|p| f64::from(p.compute_slices)).collect();
        let slices = (0..problem.gpus.len()).map(slices_of).collect();
        let mut loss = Loss { capacity, models, slices, since: now, ..Loss::default() };
        let (mut after, mut slices_after) = (vec![0.0; problem.tenants.len()], 0.0);
        for (gpu, state) in problem.gpus.iter().enumerate() {
            for instance in &state.instances {
                if let Some(task) = instance.task {
                    loss.admit(now, instance.id, gpu, instance.site, task);
                }
            }
        }
        for (gpu, planned) in plan.gpus.iter().enumerate() {
            for allocation in &planned.allocations {
                let Some(task) = allocation.task else { continue };
                let admitted = loss.admitted(gpu, allocation.site, task);
                slices_after += admitted.slices;
                if let Some(sum) = after.get_mut(task.tenant.index()) {
                    *sum += admitted.rps;
                }
            }
        }
        loss.owed = loss.current().iter().zip(&after).map(|(before, after)| before.min(*after)).collect();
        loss.in_use = loss.slices_in_use().min(slices_after);
        loss
    }

    /// An instance is open for a task.
    pub fn admit(&mut self, now: Time, instance: InstanceId, gpu: usize, site: Site, task: Task) {
        self.advance(now);
        let admitted = self.admitted(gpu, site, task);
        self.admitted.insert(instance, admitted);
    }

    /// An instance takes no more requests: its slices work on what is in flight. A retraining writes its checkpoint, which moves nothing on.
    pub fn drain(&mut self, now: Time, instance: InstanceId, task: Task) {
        if task.kind == Inference {
            self.advance(now);
            if let Some(admitted) = self.admitted.get_mut(&instance) {
                admitted.rps = 0.0;
            }
        } else {
            self.close(now, instance);
        }
    }

    /// An instance stands still.
    pub fn close(&mut self, now: Time, instance: InstanceId) {
        self.advance(now);
        self.admitted.remove(&instance);
    }

    /// Seconds of service lost, and slice-seconds idle, until `now`.
    pub fn until(&mut self, now: Time) -> (f64, f64) {
        self.advance(now);
        (self.lost_s, self.idle_slice_s)
    }

    fn advance(&mut self, now: Time) {
        let seconds = now.since(self.since).as_secs_f64();
        if seconds > 0.0 {
            let current = self.current();
            let missing = |(owed, has): (&f64, &f64)| if *owed > 0.0 { (owed - has).max(0.0) / owed } else { 0.0 };
            self.lost_s += seconds * self.owed.iter().zip(&current).map(missing).sum::<f64>();
            self.idle_slice_s += seconds * (self.in_use - self.slices_in_use()).max(0.0);
            self.since = now;
        }
    }

    fn current(&self) -> Vec<f64> {
        let mut sums = vec![0.0; self.capacity.len()];
        for admitted in self.admitted.values() {
            if let Some(sum) = sums.get_mut(admitted.tenant.index()) {
                *sum += admitted.rps;
            }
        }
        sums
    }

    /// By `fold`, for the sum of no floats is -0.
    fn slices_in_use(&self) -> f64 {
        self.admitted.values().fold(0.0, |sum, admitted| sum + admitted.slices)
    }

    fn admitted(&self, gpu: usize, site: Site, task: Task) -> Admitted {
        let slices = self.slices.get(gpu).and_then(|by_profile| by_profile.get(site.profile.index())).copied().unwrap_or(0.0);
        let by_model = self.capacity.get(task.tenant.index());
        let by_profile = self.models.get(gpu).and_then(|&model| by_model?.get(model));
        let rps = by_profile.and_then(|by_profile| by_profile.get(site.profile.index()));
        let rps = rps.copied().filter(|rps| rps.is_finite() && task.kind == Inference).unwrap_or(0.0).max(0.0);
        Admitted { tenant: task.tenant, rps, slices }
    }
}
