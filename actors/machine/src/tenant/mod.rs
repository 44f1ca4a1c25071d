//! One tenant's requests: queue, lanes, batches, answers and the accuracy of what is served.

mod types;

use std::time::Duration;

use migrator_solver::InstanceId;

pub use types::{
    Accuracy, Answer, BatchId, EvalId, LaneSpec, LaneState, Request, RequestId, ShedReason, Telemetry, TenantConfig, TenantWish, Totals, Work,
};

use crate::{Time, Violation};

/// The state of one tenant's serving.
///
/// Feed facts in, then call [`poll`](TenantMachine::poll) until it gives `None` (that is when batches are formed, so several facts may
/// be fed before it), then set the timer to [`timeout`](TenantMachine::timeout).
#[derive(Debug)]
pub struct TenantMachine {
    config: TenantConfig,
}

impl TenantMachine {
    /// A tenant without lanes.
    pub fn new(config: TenantConfig) -> TenantMachine {
        TenantMachine { config }
    }

    /// What it was made with.
    pub fn config(&self) -> &TenantConfig {
        &self.config
    }

    /// A request has arrived; it is answered by exactly one [`TenantWish::Answer`], perhaps at once.
    pub fn request(&mut self, now: Time, request: Request) {
        let _ = (now, request);
    }

    /// Labelled samples are to be answered when a lane is idle; they are given up by [`TenantWish::Dropped`] when there are too many.
    pub fn evaluate(&mut self, now: Time, eval: EvalId, rows: u32) {
        let _ = (now, eval, rows);
    }

    /// An instance is open for this tenant's requests (again, when it was draining).
    pub fn lane_up(&mut self, now: Time, lane: InstanceId, spec: LaneSpec) {
        let _ = (now, lane, spec);
    }

    /// No new batches for this lane; [`TenantWish::Drained`] follows when nothing is in flight (at once for an unknown lane).
    pub fn drain(&mut self, now: Time, lane: InstanceId) {
        let _ = (now, lane);
    }

    /// The lane is gone without notice: its requests are tried once more elsewhere, or fail.
    pub fn lane_lost(&mut self, now: Time, lane: InstanceId) {
        let _ = (now, lane);
    }

    /// A batch was computed in `compute`; its answers follow as [`Answer::Served`]. Unknown batches (of lost lanes) are ignored.
    pub fn finished(&mut self, now: Time, batch: BatchId, compute: Duration) {
        let _ = (now, batch, compute);
    }

    /// The worker answered a batch with an error and lives on: its requests fail.
    pub fn failed(&mut self, now: Time, batch: BatchId) {
        let _ = (now, batch);
    }

    /// Labelled samples were answered by `version`: `correct` of `of` right. Ignored when that version is no longer the one in service.
    pub fn labelled(&mut self, now: Time, version: u32, correct: u32, of: u32) {
        let _ = (now, version, correct, of);
    }

    /// Another version is in service from now on; `prior` is its accuracy at validation and how many samples that is worth.
    pub fn swapped(&mut self, now: Time, version: u32, prior: Option<Accuracy>) {
        let _ = (now, version, prior);
    }

    /// The tenant shuts down: what waits and what arrives from now on is shed.
    pub fn close(&mut self, now: Time) {
        let _ = now;
    }

    /// Ends the second that the next [`Telemetry`] starts after.
    pub fn second(&mut self, now: Time) -> Telemetry {
        let _ = now;
        Telemetry::default()
    }

    /// What to do next; forms batches and sheds. Call until `None`.
    pub fn poll(&mut self, now: Time) -> Option<TenantWish> {
        let _ = now;
        None
    }

    /// When [`handle_timeout`](TenantMachine::handle_timeout) is due; valid after `poll` gave `None`.
    pub fn timeout(&self) -> Option<Time> {
        None
    }

    /// The timer fired; then `poll`.
    pub fn handle_timeout(&mut self, now: Time) {
        let _ = now;
    }

    /// Requests of a batch in flight, in the order of its rows: id and rows. Empty for evaluations and unknown batches.
    pub fn batch(&self, batch: BatchId) -> impl Iterator<Item = (RequestId, u32)> + '_ {
        let _ = batch;
        std::iter::empty()
    }

    /// Counters since the start.
    pub fn totals(&self) -> Totals {
        Totals::default()
    }

    /// Accuracy of the version in service on recent labelled samples; `None` before the first.
    pub fn accuracy(&self) -> Option<Accuracy> {
        None
    }

    /// Lanes with their states, by identity.
    pub fn lanes(&self) -> impl Iterator<Item = (InstanceId, LaneState)> + '_ {
        std::iter::empty()
    }

    /// Whether a lane is up.
    pub fn ready(&self) -> bool {
        false
    }

    /// What is not as it must be (T1 to T6).
    pub fn check(&self, now: Time) -> Vec<Violation> {
        let _ = now;
        Vec::new()
    }
}
