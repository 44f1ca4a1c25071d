//! What must always be true of a tenant's machine (T1 to T6).

use super::TenantMachine;
use super::types::{LaneState, TenantWish};
use crate::invariant::{Invariant, Violation, demand};

impl TenantMachine {
    /// What is not as it must be (T1 to T6).
    pub fn check(&self) -> Vec<Violation> {
        let mut found = Vec::new();
        self.check_counts(&mut found);
        for lane in &self.lanes {
            let in_flight = lane.in_flight.len();
            demand(&mut found, Invariant::LaneBound, in_flight <= lane.executors as usize + 1, || {
                format!("{in_flight} on lane {} of {} executors", lane.id.0, lane.executors)
            });
            let forgotten = lane.state == LaneState::Draining && in_flight == 0;
            demand(&mut found, Invariant::DrainedIsEmpty, !forgotten, || format!("lane {} drained and kept", lane.id.0));
        }
        for wish in &self.outbox {
            if let TenantWish::Drained { lane } = wish {
                let busy = self.lanes.iter().any(|l| l.id == *lane && l.state == LaneState::Draining);
                demand(&mut found, Invariant::DrainedIsEmpty, !busy, || format!("lane {} has batches", lane.0));
            }
        }
        let busy = !self.queue.is_empty() || self.lanes.iter().any(|l| !l.in_flight.is_empty());
        demand(&mut found, Invariant::WakeUp, !busy || self.timeout().is_some(), || "no timer".to_owned());
        found
    }

    fn check_counts(&self, found: &mut Vec<Violation>) {
        let (totals, waiting) = (self.totals(), self.queue.len() as u64 + self.in_flight());
        demand(found, Invariant::Accounting, totals.arrived == self.meter.answered() + waiting, || {
            format!("{totals:?} and {waiting} waiting")
        });
        let (length, again) = (self.queue.len(), self.queue.retried());
        demand(found, Invariant::QueueBound, length <= self.config.queue_limit.max(self.over) + again, || format!("{length} requests"));
        let evaluations = self.evaluations.len();
        demand(found, Invariant::QueueBound, evaluations <= self.config.eval_limit, || format!("{evaluations} evaluations"));
        demand(found, Invariant::QueueOrder, self.queue.sorted() && self.queue.counted(), || "another order".to_owned());
    }
}
