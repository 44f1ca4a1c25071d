//! What others may know of a retraining, and what must always be true of it (R1 to R3).

use super::RetrainingMachine;
use super::gain::Prospect;
use super::types::{RetrainingResult, RetrainingState, RetrainingStatus};
use crate::invariant::{Invariant, Violation, demand};

impl RetrainingMachine {
    /// What the coordinator wants to know.
    pub fn status(&self) -> RetrainingStatus {
        let job = &self.job;
        let due = matches!(self.state, RetrainingState::Waiting | RetrainingState::Paused) || self.computing() || self.renewing();
        let left = match job.foretold.filter(|_| job.step == 0) {
            Some(foretold) => foretold.core_s,
            None => self.estimate.left(job.work(&self.config), job.step, job.steps, job.core_s),
        };
        RetrainingStatus {
            due,
            core_s_left: if due { left } else { 0.0 },
            expected_gain: self.estimate.gain(),
            foretold: job.choice.filter(|_| due).map(|choice| choice.gain),
            reach: self.estimate.reach(),
            validated: self.validated,
            begun: due && job.begun,
            text: self.text(),
        }
    }

    /// What it is doing.
    pub fn state(&self) -> RetrainingState {
        self.state
    }

    /// What it is doing, as an operator reads it: `running 40 %`.
    pub fn text(&self) -> String {
        let percent = self.job.percent();
        match self.state {
            RetrainingState::Idle if !self.config.enabled => "off".to_owned(),
            RetrainingState::Idle if self.note.is_empty() => "idle".to_owned(),
            RetrainingState::Idle => format!("idle ({})", self.note),
            RetrainingState::Collecting => format!("waiting for samples ({} of {})", self.samples, self.config.min_samples.max(1)),
            RetrainingState::Exporting => "exporting samples".to_owned(),
            RetrainingState::Profiling => "trying configurations".to_owned(),
            RetrainingState::Waiting => match self.job.foretold {
                Some(Prospect { after, sd, core_s }) => {
                    format!("waiting for an instance (accuracy {after:.3} ± {sd:.3} foretold, {core_s:.1} s of a core)")
                }
                None => "waiting for an instance".to_owned(),
            },
            RetrainingState::Running => format!("running {percent} %"),
            RetrainingState::Pausing => format!("pausing at {percent} %"),
            RetrainingState::Paused => format!("paused at {percent} %"),
            RetrainingState::Validating => "validating".to_owned(),
            RetrainingState::Publishing => "publishing".to_owned(),
            RetrainingState::Canary => match self.job.trial {
                Some(trial) => format!("canary: {trial}"),
                None => format!("canary: version {} is loaded", self.job.version),
            },
            RetrainingState::Swapping => "swapping".to_owned(),
        }
    }

    /// Results of the last 32 windows that came to one, newest last.
    pub fn history(&self) -> impl Iterator<Item = &RetrainingResult> + '_ {
        self.history.iter()
    }

    /// Windows that came to a result so far.
    pub fn results(&self) -> u64 {
        self.results
    }

    /// What is not as it must be (R1 to R3).
    pub fn check(&self) -> Vec<Violation> {
        let mut found = Vec::new();
        let state = self.state;
        demand(&mut found, Invariant::RunsOnItsInstance, !self.computing() || self.instance.is_some(), || format!("{state:?} nowhere"));
        let worse = |result: &&RetrainingResult| result.published.is_some() && result.after - result.before <= self.config.min_gain;
        let worse = self.history.iter().find(worse);
        demand(&mut found, Invariant::PublishesOnlyBetter, worse.is_none(), || format!("{worse:?}"));
        let busy = matches!(
            state,
            RetrainingState::Exporting
                | RetrainingState::Profiling
                | RetrainingState::Publishing
                | RetrainingState::Canary
                | RetrainingState::Swapping
        );
        let wakes = !(busy || self.computing()) || self.deadline.is_some();
        demand(&mut found, Invariant::RetrainingWakeUp, wakes, || format!("{state:?} without a deadline"));
        found
    }
}
