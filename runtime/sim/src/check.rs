//! What must always be true, of the machines and of the simulator itself.

use crate::world::World;

impl World<'_> {
    /// Everything, once a second.
    pub(crate) fn check_all(&mut self) {
        self.check_coordinator();
        self.check_migration();
        for index in 0..self.tenants.len() {
            self.check_tenant(index);
            self.check_trainer(index);
        }
    }

    pub(crate) fn check_coordinator(&mut self) {
        for violation in self.coordinator.check() {
            self.record.violation(self.now, &violation);
        }
    }

    pub(crate) fn check_migration(&mut self) {
        for violation in self.migration.check() {
            self.record.violation(self.now, &violation);
        }
    }

    pub(crate) fn check_trainer(&mut self, index: usize) {
        for violation in self.trainers[index].machine.check() {
            self.record.violation(self.now, &violation);
        }
    }

    /// The machine's invariants, and that what was answered and what waits is what arrived.
    pub(crate) fn check_tenant(&mut self, index: usize) {
        let tenant = &self.tenants[index];
        for violation in tenant.machine.check() {
            self.record.violation(self.now, &violation);
        }
        let run = &self.record.run.tenants[index];
        let ended = run.ok + run.late + run.shed + run.error;
        if run.arrived != ended + tenant.waiting {
            let text = format!("tenant {}: {} arrived, {ended} ended, {} wait", run.name, run.arrived, tenant.waiting);
            self.record.violation(self.now, &text);
        }
    }
}
