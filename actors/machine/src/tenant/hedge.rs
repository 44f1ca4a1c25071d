//! A batch that its instance is slow with is sent once more, to another one; the first answer counts.

use super::TenantMachine;
use super::lane::{InFlight, Lane};
use super::types::{BatchId, Work};
use crate::Time;

/// A batch is overdue when it has taken this many times what was expected of it.
const OVERDUE: u32 = 2;

impl TenantMachine {
    /// When this batch is to be sent once more: when it is overdue, as late as another instance can still save its first request with half of its
    /// time to spare. `None` = never: it was, its time has come before, or nobody could save it.
    fn hedge_at(&self, lane: &Lane, batch: &InFlight) -> Option<Time> {
        if self.config.hedge <= 0.0 || batch.considered || batch.work != Work::Requests {
            return None;
        }
        let due = batch.requests.iter().map(|request| request.due).min()?;
        let others = self.lanes.iter().filter(|other| other.up() && other.id != lane.id);
        let takes = others.map(|other| other.speed.expected(batch.rows)).min()?;
        let overdue = batch.expected_end + batch.expected_end.since(batch.sent) * (OVERDUE - 1);
        let at = overdue.max(due - takes * 3 / 2);
        (at + takes <= due).then_some(at)
    }

    /// The next time at which a batch is to be sent once more.
    pub(super) fn next_hedge(&self) -> Option<Time> {
        if self.config.hedge <= 0.0 {
            return None;
        }
        let of = |lane: &Lane| lane.in_flight.iter().filter_map(|batch| self.hedge_at(lane, batch)).min();
        self.lanes.iter().filter_map(of).min()
    }

    /// Notes whose time has come, and sends one batch once more if another instance is free and the share of requests allows it; says
    /// whether it did.
    pub(super) fn hedge(&mut self, now: Time) -> bool {
        let mut sent = false;
        while let Some((lane, batch)) = self.due_hedge(now) {
            let Some(slow) = self.lanes[lane].in_flight.iter_mut().find(|slow| slow.batch == batch) else { break };
            slow.considered = true;
            let (rows, requests) = (slow.rows, slow.requests.clone());
            let allowed = (self.meter.totals.hedged + 1) as f64 <= self.config.hedge * self.next_batch as f64;
            let Some(due) = requests.iter().map(|request| request.due).min() else { continue };
            let free = self.lanes.iter().enumerate().filter(|(position, other)| *position != lane && other.free() > 0);
            let soonest = free.map(|(position, other)| (other.ends(now, rows), position)).min();
            if let Some((_, position)) = soonest.filter(|(end, _)| allowed && self.queue.is_empty() && *end <= due) {
                self.meter.totals.hedged += 1;
                self.put(now, position, Work::Again(batch), requests, rows);
                sent = true;
            }
        }
        sent
    }

    fn due_hedge(&self, now: Time) -> Option<(usize, BatchId)> {
        if self.config.hedge <= 0.0 {
            return None;
        }
        let of = |(position, lane): (usize, &Lane)| {
            let due = lane.in_flight.iter().find(|batch| self.hedge_at(lane, batch).is_some_and(|at| at <= now));
            due.map(|batch| (position, batch.batch))
        };
        self.lanes.iter().enumerate().find_map(of)
    }

    /// The other one of two that have the same requests.
    fn twin(&mut self, batch: BatchId, work: Work) -> Option<&mut InFlight> {
        let other = |other: &&mut InFlight| match work {
            Work::Again(first) => other.batch == first,
            _ => other.work == Work::Again(batch),
        };
        self.lanes.iter_mut().flat_map(|lane| &mut lane.in_flight).find(other).filter(|twin| !twin.requests.is_empty())
    }

    /// This batch answers its requests: the other one that has them is worth nothing any more.
    pub(super) fn first(&mut self, done: &InFlight) {
        if done.requests.is_empty() {
            return;
        }
        if let Some(twin) = self.twin(done.batch, done.work) {
            twin.requests.clear();
        }
        self.meter.totals.hedges_won += u64::from(matches!(done.work, Work::Again(_)));
    }

    /// Whether the requests of a batch that is lost, or failed, are still in work elsewhere.
    pub(super) fn elsewhere(&mut self, lost: &InFlight) -> bool {
        let (batch, work) = (lost.batch, lost.work);
        let Some(twin) = self.twin(batch, work) else { return false };
        if work == Work::Requests {
            twin.work = Work::Requests;
            twin.considered = true;
        }
        true
    }
}
