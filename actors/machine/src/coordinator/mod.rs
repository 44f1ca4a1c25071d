//! Forecasts, asks for plans, decides whether and when they are carried out.

mod types;

use migrator_solver::{Generation, InstanceId, Outcome, Plan, Report};

pub use types::{CoordinatorConfig, CoordinatorWish, Decision, GpuConfig, TenantPlanning, TenantTick, Tick, Verdict};

use crate::migration::MigrationReport;
use crate::{Time, Violation};

/// The state of planning: forecasts, plan in force, window clock, measured costs.
#[derive(Debug)]
pub struct CoordinatorMachine {
    config: CoordinatorConfig,
}

impl CoordinatorMachine {
    /// Nothing in force yet; window 0 begins at time 0. `generation` is the highest ever used on this host (0 on a fresh one).
    pub fn new(config: CoordinatorConfig, generation: Generation) -> CoordinatorMachine {
        let _ = generation;
        CoordinatorMachine { config }
    }

    /// What it was made with.
    pub fn config(&self) -> &CoordinatorConfig {
        &self.config
    }

    /// Once a second: what the tenants did and what is on the GPUs.
    pub fn tick(&mut self, now: Time, tick: &Tick) {
        let _ = (now, tick);
    }

    /// The solve of this generation is over and took `solve_ms`. A late one is ignored.
    pub fn solved(&mut self, now: Time, generation: Generation, result: Result<Outcome, String>, solve_ms: f64) {
        let _ = (now, generation, result, solve_ms);
    }

    /// The migration that [`CoordinatorWish::Execute`] asked for is over.
    pub fn migrated(&mut self, now: Time, report: &MigrationReport) {
        let _ = (now, report);
    }

    /// The migration machine refused the transition that [`CoordinatorWish::Execute`] asked for.
    pub fn refused(&mut self, now: Time, generation: Generation, reason: &str) {
        let _ = (now, generation, reason);
    }

    /// An instance or its worker is gone: plan anew as soon as no migration runs, dwell time or not.
    pub fn instance_lost(&mut self, now: Time, instance: InstanceId) {
        let _ = (now, instance);
    }

    /// What to do next. Call until `None`.
    pub fn poll(&mut self, now: Time) -> Option<CoordinatorWish> {
        let _ = now;
        None
    }

    /// When [`handle_timeout`](CoordinatorMachine::handle_timeout) is due.
    pub fn timeout(&self) -> Option<Time> {
        None
    }

    /// The timer fired; then `poll`.
    pub fn handle_timeout(&mut self, now: Time) {
        let _ = now;
    }

    /// The plan in force and the report of the last solve; `None` before the first solve.
    pub fn plan(&self) -> Option<(&Plan, &Report)> {
        None
    }

    /// Retraining window at `now`: number, seconds gone, length in seconds.
    pub fn window(&self, now: Time) -> (u64, f64, f64) {
        let _ = now;
        (0, 0.0, self.config.window_s)
    }

    /// Capacity of each tenant on the instances of the last tick, requests/s.
    pub fn capacity_rps(&self) -> Vec<f64> {
        Vec::new()
    }

    /// Decisions since the last call, oldest first; at most 1,024 are kept.
    pub fn take_decisions(&mut self) -> Vec<Decision> {
        Vec::new()
    }

    /// What is not as it must be (C1 to C3).
    pub fn check(&self) -> Vec<Violation> {
        Vec::new()
    }
}
