//! Tenants that come and go while the server runs.

use super::types::{TenantPlanning, Verdict};
use super::{CoordinatorMachine, Doing};
use crate::Time;

/// What a tenant that has left is called in problems until its number is given to another one; no name of a configuration looks so.
const GONE: &str = "(gone)";

impl CoordinatorMachine {
    /// Plans for one tenant more from the next solve on, which does not wait for the dwell time. Its number is that of one that has left,
    /// or the next.
    ///
    /// # Panics
    /// When the number is beyond the next.
    pub fn join(&mut self, now: Time, tenant: usize, planning: TenantPlanning) {
        assert!(tenant <= self.config.tenants.len(), "tenants are numbered one after the other");
        if tenant == self.config.tenants.len() {
            self.config.tenants.push(TenantPlanning::default());
            self.forecasters.push(self.config.forecast.make());
            self.parts.push((0.0, 0.0));
            self.ratios.push(1.0);
            self.yields.push(1.0);
            self.gone.push(false);
        }
        self.forecasters[tenant] = self.config.forecast.make();
        self.parts[tenant] = (0.0, 0.0);
        (self.ratios[tenant], self.yields[tenant], self.gone[tenant]) = (1.0, 1.0, false);
        self.costs.join(tenant, planning.load_s);
        self.config.tenants[tenant] = planning;
        self.plan_anew(now, "a tenant has come");
    }

    /// Gives a tenant nothing from now on: it has no demand, no floor and no retraining, and fits no profile.
    pub fn leave(&mut self, now: Time, tenant: usize) {
        let Some(gone) = self.gone.get_mut(tenant) else { return };
        if std::mem::replace(gone, true) {
            return;
        }
        self.config.tenants[tenant] = TenantPlanning { name: GONE.to_owned(), ..TenantPlanning::default() };
        self.forecasters[tenant] = self.config.forecast.make();
        if let Some(tick) = self.tick.tenants.get_mut(tenant) {
            *tick = Default::default();
        }
        self.plan_anew(now, "a tenant has left");
    }

    /// Whether this number is a tenant's now.
    pub fn serves(&self, tenant: usize) -> bool {
        self.gone.get(tenant).is_some_and(|gone| !gone)
    }

    /// A plan made for other tenants is not waited for.
    fn plan_anew(&mut self, now: Time, why: &str) {
        self.changed = true;
        if let Doing::Solving { generation, .. } = self.doing {
            self.doing = Doing::Nothing;
            self.decide(now, generation, Verdict::Reject(format!("{why} meanwhile")));
        }
    }
}
