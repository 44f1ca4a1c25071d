//! One tenant's retraining, window after window.

mod types;

use migrator_solver::InstanceId;

pub use types::{DiscardReason, RetrainingConfig, RetrainingResult, RetrainingState, RetrainingStatus, RetrainingWish, Trained};

use crate::{Time, Violation};

/// The state of one tenant's retraining.
#[derive(Debug)]
pub struct RetrainingMachine {
    config: RetrainingConfig,
}

impl RetrainingMachine {
    /// Idle until the first window.
    pub fn new(config: RetrainingConfig) -> RetrainingMachine {
        RetrainingMachine { config }
    }

    /// What it was made with.
    pub fn config(&self) -> &RetrainingConfig {
        &self.config
    }

    /// A retraining window begins (the coordinator's `StartWindow`).
    pub fn window_started(&mut self, now: Time, window: u64) {
        let _ = (now, window);
    }

    /// Labelled samples that an export would have now.
    pub fn samples(&mut self, now: Time, count: u64) {
        let _ = (now, count);
    }

    /// The data set of [`RetrainingWish::Export`] is written, with this many samples to train on; or why not.
    pub fn exported(&mut self, now: Time, result: Result<u64, String>) {
        let _ = (now, result);
    }

    /// The migration admitted this retraining on an instance.
    pub fn placed(&mut self, now: Time, instance: InstanceId) {
        let _ = (now, instance);
    }

    /// The migration takes the instance away: pause. [`RetrainingWish::Drained`] follows (at once when nothing runs there).
    pub fn take_away(&mut self, now: Time, instance: InstanceId) {
        let _ = (now, instance);
    }

    /// The instance or its worker is gone without notice: what was done since the last checkpoint is lost.
    pub fn instance_lost(&mut self, now: Time, instance: InstanceId) {
        let _ = (now, instance);
    }

    /// The worker goes on: `step` of `steps` optimizer steps, `core_s` CPU seconds over all pauses.
    pub fn progress(&mut self, now: Time, step: u64, steps: u64, core_s: f64) {
        let _ = (now, step, steps, core_s);
    }

    /// The worker wrote a checkpoint and stopped at `step` of `steps`.
    pub fn paused(&mut self, now: Time, step: u64, steps: u64) {
        let _ = (now, step, steps);
    }

    /// The worker is through and has validated both versions.
    pub fn trained(&mut self, now: Time, trained: Trained) {
        let _ = (now, trained);
    }

    /// The new version is in the store under this number; or why not.
    pub fn published(&mut self, now: Time, result: Result<u32, String>) {
        let _ = (now, result);
    }

    /// Every lane answers with the new version; or why not (the old one then serves on).
    pub fn swapped(&mut self, now: Time, result: Result<(), String>) {
        let _ = (now, result);
    }

    /// The retraining failed (diverged, bad data, out of memory): it is tried again in the next window.
    pub fn failed(&mut self, now: Time, message: &str) {
        let _ = (now, message);
    }

    /// What to do next. Call until `None`.
    pub fn poll(&mut self, now: Time) -> Option<RetrainingWish> {
        let _ = now;
        None
    }

    /// When [`handle_timeout`](RetrainingMachine::handle_timeout) is due.
    pub fn timeout(&self) -> Option<Time> {
        None
    }

    /// The timer fired; then `poll`.
    pub fn handle_timeout(&mut self, now: Time) {
        let _ = now;
    }

    /// What the coordinator wants to know.
    pub fn status(&self) -> RetrainingStatus {
        RetrainingStatus::default()
    }

    /// What it is doing.
    pub fn state(&self) -> RetrainingState {
        RetrainingState::Idle
    }

    /// What it is doing, as an operator reads it: `running 40 %`.
    pub fn text(&self) -> String {
        String::new()
    }

    /// Results of the last 32 windows that came to one, newest last.
    pub fn history(&self) -> impl Iterator<Item = &RetrainingResult> + '_ {
        std::iter::empty()
    }

    /// What is not as it must be (R1 to R3).
    pub fn check(&self) -> Vec<Violation> {
        Vec::new()
    }
}
