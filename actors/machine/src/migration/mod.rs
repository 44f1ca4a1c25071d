//! Carries one transition out, step by step.

mod ground;
mod loss;
mod run;
#[cfg(test)]
mod tests;
mod types;

use std::time::Duration;

use migrator_solver::{Generation, InstanceId, Plan, Problem, Step, Transition};

pub use types::{Failure, MigrationConfig, MigrationReport, MigrationWish, Refused, StepError, StepKind, StepOk, StepTook};

use crate::Time;
use crate::invariant::Violation;
use run::Run;

/// The executor of transitions, one at a time. It makes no choice: it runs every step whose predecessors are done (creates and
/// destroys of one GPU one at a time, lower ids first), retries what may be retried, and leaves what is safe when a step fails for good:
/// steps that wait for it, and steps of use only to those, are given up, what is drained but not released is admitted again, staged
/// workers that nobody will bind are stopped.
#[derive(Debug)]
pub struct MigrationMachine {
    config: MigrationConfig,
    last: Generation,
    run: Option<Run>,
}

impl MigrationMachine {
    /// Nothing to do yet.
    pub fn new(config: MigrationConfig) -> MigrationMachine {
        MigrationMachine { config, last: Generation(0), run: None }
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
        if let Some(run) = &self.run {
            return Err(Refused::Busy(run.generation()));
        }
        if transition.generation <= self.last {
            return Err(Refused::Stale { last: self.last, found: transition.generation });
        }
        let ordered = |(index, step): &(usize, &migrator_solver::PlannedStep)| {
            step.id == *index && step.after.iter().chain(&step.follows).all(|before| before < index)
        };
        if let Some((index, _)) = transition.steps.iter().enumerate().find(|step| !ordered(step)) {
            return Err(Refused::Malformed(index));
        }
        self.last = transition.generation;
        self.run = Some(Run::new(now, problem, plan, transition));
        Ok(())
    }

    /// A step that [`MigrationWish::Do`] asked for is over. Reports of steps that were given up are ignored: an instance that a create
    /// made after its deadline is found by the next tick and left to the planner.
    pub fn done(&mut self, now: Time, id: usize, result: Result<StepOk, StepError>) {
        if let Some(run) = &mut self.run {
            run.done(now, id, result, &self.config);
        }
    }

    /// An instance's worker died, or the instance is gone: its capacity counts as lost from now on. Steps that are about it are
    /// reported by `done` as ever.
    pub fn instance_lost(&mut self, now: Time, instance: InstanceId) {
        if let Some(run) = &mut self.run {
            run.instance_lost(now, instance);
        }
    }

    /// What to do next. Call until `None`.
    pub fn poll(&mut self, now: Time) -> Option<MigrationWish> {
        let wish = self.run.as_mut()?.poll(now, &self.config);
        if let Some(MigrationWish::Finished(_)) = wish {
            self.run = None;
        }
        wish
    }

    /// When [`handle_timeout`](MigrationMachine::handle_timeout) is due.
    pub fn timeout(&self) -> Option<Time> {
        self.run.as_ref()?.timeout()
    }

    /// The timer fired; then `poll`.
    pub fn handle_timeout(&mut self, now: Time) {
        if let Some(run) = &mut self.run {
            run.handle_timeout(now);
        }
    }

    /// Whether a transition is under way (until its [`MigrationWish::Finished`] was polled).
    pub fn running(&self) -> Option<Generation> {
        self.run.as_ref().map(Run::generation)
    }

    /// Steps that are over and steps in all, of the transition under way.
    pub fn progress(&self) -> (usize, usize) {
        self.run.as_ref().map_or((0, 0), Run::progress)
    }

    /// What is not as it must be (M1 to M4).
    pub fn check(&self) -> Vec<Violation> {
        self.run.as_ref().map_or_else(Vec::new, Run::check)
    }
}

impl MigrationConfig {
    /// The longest a step of this kind may take.
    pub fn longest(&self, step: &Step) -> Duration {
        match StepKind::of(step) {
            StepKind::Preload => self.preload,
            StepKind::Drain => self.drain,
            StepKind::Release => self.release,
            StepKind::Destroy => self.destroy,
            StepKind::Create => self.create,
            StepKind::Bind => self.bind,
            StepKind::Admit => self.admit,
        }
    }
}
