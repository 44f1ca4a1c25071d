//! Carries one transition out, step by step.

mod types;

use migrator_solver::{Generation, InstanceId, Plan, Problem, Transition};

pub use types::{Failure, MigrationConfig, MigrationReport, MigrationWish, Refused, StepError, StepKind, StepOk, StepTook};

use crate::{Time, Violation};

/// The executor of transitions, one at a time. It makes no choice: it runs every step whose predecessors are done, retries what may be
/// retried, and leaves what is safe when a step fails for good.
#[derive(Debug)]
pub struct MigrationMachine {
    config: MigrationConfig,
}

impl MigrationMachine {
    /// Nothing to do yet.
    pub fn new(config: MigrationConfig) -> MigrationMachine {
        MigrationMachine { config }
    }

    /// What it was made with.
    pub fn config(&self) -> &MigrationConfig {
        &self.config
    }

    /// Starts a transition from `problem`'s instances to `plan`.
    ///
    /// # Errors
    /// [`Refused`] when another one runs, its generation is not above the last, or its steps are no topologically sorted graph.
    pub fn begin(&mut self, now: Time, problem: &Problem, plan: &Plan, transition: Transition) -> Result<(), Refused> {
        let _ = (now, problem, plan, transition);
        Ok(())
    }

    /// A step that [`MigrationWish::Do`] asked for is over. Reports of steps that were given up are ignored.
    pub fn done(&mut self, now: Time, id: usize, result: Result<StepOk, StepError>) {
        let _ = (now, id, result);
    }

    /// An instance's worker died, or the instance is gone: its capacity counts as lost from now on.
    pub fn instance_lost(&mut self, now: Time, instance: InstanceId) {
        let _ = (now, instance);
    }

    /// What to do next. Call until `None`.
    pub fn poll(&mut self, now: Time) -> Option<MigrationWish> {
        let _ = now;
        None
    }

    /// When [`handle_timeout`](MigrationMachine::handle_timeout) is due.
    pub fn timeout(&self) -> Option<Time> {
        None
    }

    /// The timer fired; then `poll`.
    pub fn handle_timeout(&mut self, now: Time) {
        let _ = now;
    }

    /// Whether a transition is under way (until its [`MigrationWish::Finished`] was polled).
    pub fn running(&self) -> Option<Generation> {
        None
    }

    /// Steps that are over and steps in all, of the transition under way.
    pub fn progress(&self) -> (usize, usize) {
        (0, 0)
    }

    /// What is not as it must be (M1 to M4).
    pub fn check(&self) -> Vec<Violation> {
        Vec::new()
    }
}
