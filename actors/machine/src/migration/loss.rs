//! What a reconfiguration costs in service.

use std::collections::BTreeMap;

use migrator_mig::Site;
use migrator_solver::TaskKind::Inference;
use migrator_solver::{InstanceId, Plan, Problem, Task, TenantId};

use crate::Time;

/// Integrates `max(0, min(before, after) − now) ÷ min(before, after)` over time and sums it over tenants, in seconds.
#[derive(Debug, Default)]
pub(super) struct Loss {
    /// Requests/s by tenant and profile.
    capacity: Vec<Vec<f64>>,
    /// `min(before, after)` by tenant.
    owed: Vec<f64>,
    serving: BTreeMap<InstanceId, (TenantId, f64)>,
    since: Time,
    lost_s: f64,
}

impl Loss {
    pub fn new(now: Time, problem: &Problem, plan: &Plan) -> Loss {
        let capacity: Vec<Vec<f64>> = problem.tenants.iter().map(|tenant| tenant.capacity_rps.clone()).collect();
        let mut loss = Loss { capacity, since: now, ..Loss::default() };
        for instance in problem.gpus.iter().flat_map(|gpu| &gpu.instances) {
            if let Some(task) = instance.task {
                loss.admit(now, instance.id, instance.site, task);
            }
        }
        let mut after = vec![0.0; loss.capacity.len()];
        for allocation in plan.gpus.iter().flat_map(|gpu| &gpu.allocations) {
            if let Some(Task { tenant, kind: Inference }) = allocation.task
                && let Some(sum) = after.get_mut(tenant.index())
            {
                *sum += loss.rps(tenant, allocation.site);
            }
        }
        loss.owed = loss.current().iter().zip(&after).map(|(before, after)| before.min(*after)).collect();
        loss
    }

    /// An instance is open for a task.
    pub fn admit(&mut self, now: Time, instance: InstanceId, site: Site, task: Task) {
        self.advance(now);
        if task.kind == Inference {
            self.serving.insert(instance, (task.tenant, self.rps(task.tenant, site)));
        }
    }

    /// An instance takes no more requests.
    pub fn close(&mut self, now: Time, instance: InstanceId) {
        self.advance(now);
        self.serving.remove(&instance);
    }

    /// Seconds of service lost until `now`.
    pub fn lost_s(&mut self, now: Time) -> f64 {
        self.advance(now);
        self.lost_s
    }

    fn advance(&mut self, now: Time) {
        let seconds = now.since(self.since).as_secs_f64();
        if seconds > 0.0 {
            let current = self.current();
            let missing = |(owed, has): (&f64, &f64)| if *owed > 0.0 { (owed - has).max(0.0) / owed } else { 0.0 };
            self.lost_s += seconds * self.owed.iter().zip(&current).map(missing).sum::<f64>();
            self.since = now;
        }
    }

    fn current(&self) -> Vec<f64> {
        let mut sums = vec![0.0; self.capacity.len()];
        for (tenant, rps) in self.serving.values() {
            if let Some(sum) = sums.get_mut(tenant.index()) {
                *sum += rps;
            }
        }
        sums
    }

    fn rps(&self, tenant: TenantId, site: Site) -> f64 {
        let rps = self.capacity.get(tenant.index()).and_then(|by_profile| by_profile.get(site.profile.index()));
        rps.copied().filter(|rps| rps.is_finite()).unwrap_or(0.0).max(0.0)
    }
}
