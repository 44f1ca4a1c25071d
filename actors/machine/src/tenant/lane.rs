//! One instance that serves the tenant.

use std::time::Duration;

use migrator_solver::InstanceId;

use super::queue::Waiting;
use super::speed::{Speed, soonest_start};
use super::types::{BatchId, LaneState, Work};
use crate::Time;

/// A batch that a worker has.
#[derive(Debug)]
pub(super) struct InFlight {
    pub batch: BatchId,
    pub work: Work,
    pub requests: Vec<Waiting>,
    pub rows: u32,
    pub sent: Time,
    pub expected_end: Time,
    /// Whether an executor was free for it.
    pub at_once: bool,
    /// When the worker is taken to hang.
    pub stalls: Time,
    /// Whether it was looked at for being sent once more.
    pub considered: bool,
}

/// An instance, what it has in flight and how fast it is.
#[derive(Debug)]
pub(super) struct Lane {
    pub id: InstanceId,
    pub state: LaneState,
    pub executors: u32,
    pub speed: Speed,
    pub in_flight: Vec<InFlight>,
    /// When it was last tried with a request that its curve calls too slow.
    pub probed: Option<Time>,
    /// Batch of the highest throughput and its rows per microsecond, all executors together.
    pub best: (u32, f64),
}

/// A lane that is idle is tried this often with a request it is expected to answer late, or a wrong curve would never be corrected.
const PROBE_EVERY: Duration = Duration::from_secs(1);

impl Lane {
    pub fn new(id: InstanceId, executors: u32, speed: Speed, slo: Duration) -> Lane {
        let executors = executors.max(1);
        let mut lane = Lane { id, state: LaneState::Up, executors, speed, in_flight: Vec::new(), probed: None, best: (1, 0.0) };
        lane.rate(slo);
        lane
    }

    pub fn up(&self) -> bool {
        self.state == LaneState::Up
    }

    /// Takes batches and has none.
    pub fn idle(&self) -> bool {
        self.up() && self.in_flight.is_empty()
    }

    /// Executors without a batch.
    pub fn free(&self) -> u32 {
        if self.up() { self.executors.saturating_sub(self.in_flight.len() as u32) } else { 0 }
    }

    /// Whether it takes another batch now.
    pub fn takes(&self) -> bool {
        let ahead = u32::from(self.speed.ahead_pays());
        self.up() && (self.in_flight.len() as u32) < self.executors + ahead
    }

    /// When its next batch would begin.
    pub fn starts(&self, now: Time) -> Time {
        if self.free() > 0 {
            return now;
        }
        soonest_start(now, self.executors, self.in_flight.iter().map(|b| b.expected_end))
    }

    /// What a batch of `rows` given to it now would take once its turn has come.
    pub fn span(&self, rows: u32) -> Duration {
        if self.free() > 0 || !self.up() { self.speed.expected(rows) } else { self.speed.computing(rows) }
    }

    /// When a batch of `rows` given to it now would end.
    pub fn ends(&self, now: Time, rows: u32) -> Time {
        self.starts(now) + self.span(rows)
    }

    /// Whether a request expected to be late may be tried on it.
    pub fn may_probe(&self, now: Time) -> bool {
        self.idle() && self.probed.is_none_or(|at| now.since(at) >= PROBE_EVERY)
    }

    /// Puts a batch in flight.
    pub fn send(&mut self, now: Time, batch: BatchId, work: Work, requests: Vec<Waiting>, rows: u32, stall: Duration) {
        let expected = self.span(rows);
        let at_once = self.free() > 0;
        let expected_end = self.starts(now) + expected;
        let stalls = expected_end + stall.max(expected * 10);
        self.in_flight.push(InFlight { batch, work, requests, rows, sent: now, expected_end, at_once, stalls, considered: false });
    }

    /// Takes a batch out of flight.
    pub fn take(&mut self, batch: BatchId) -> Option<InFlight> {
        let position = self.in_flight.iter().position(|b| b.batch == batch)?;
        Some(self.in_flight.remove(position))
    }

    /// Learns from a batch that took `compute`.
    pub fn observe(&mut self, now: Time, done: &InFlight, compute: Duration, slo: Duration) {
        let gap = done.at_once.then(|| now.since(done.sent).saturating_sub(compute));
        self.speed.observe(done.rows, compute, gap);
        self.rate(slo);
    }

    /// Observed ÷ curve at its best batch: what its throughput is to be corrected by.
    pub fn ratio(&self) -> f64 {
        self.speed.ratio(self.best.0)
    }

    fn rate(&mut self, slo: Duration) {
        let (batch, per_executor) = self.speed.best(slo);
        self.best = (batch, per_executor * f64::from(self.executors));
    }
}
