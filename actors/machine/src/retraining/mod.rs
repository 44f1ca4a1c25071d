//! One tenant's retraining, window after window.

mod choice;
mod curve;
mod estimate;
mod gain;
mod gate;
mod job;
mod outlook;
mod resume;
mod service;
#[cfg(test)]
mod tests;
mod types;
mod watch;

use std::collections::VecDeque;

use migrator_models::{Microprofile, TrainSpec, Trained};
use migrator_solver::InstanceId;

pub use gain::{Gains, MicroprofileConfig, Prospect, usual};
pub use resume::Interrupted;
pub use types::{DiscardReason, RetrainingConfig, RetrainingResult, RetrainingState, RetrainingStatus, RetrainingWish, Tuning};
pub use watch::{Live, Trial};

use crate::Time;
use estimate::Estimate;
use job::Job;
use watch::Watch;

/// The state of one tenant's retraining.
///
/// A window that begins while the last one's retraining runs, is paused or goes into service waits until that is over; one that never
/// ran is superseded, for the newer window has fresher samples.
#[derive(Debug)]
pub struct RetrainingMachine {
    config: RetrainingConfig,
    state: RetrainingState,
    job: Job,
    /// When the current window began.
    window_began: Time,
    /// A window that began meanwhile.
    pending: Option<u64>,
    samples: u64,
    /// Where the migration admitted it.
    instance: Option<InstanceId>,
    /// Where it was placed while it was still pausing elsewhere.
    next: Option<InstanceId>,
    deadline: Option<Time>,
    estimate: Estimate,
    gains: Gains,
    watch: Watch,
    validated: Option<f64>,
    /// How the last window ended, in words.
    note: String,
    history: VecDeque<RetrainingResult>,
    /// Results so far, those that the history has forgotten included.
    results: u64,
    /// Share of the held-out samples on which the versions before and after the last retraining differed.
    changes: Option<f64>,
    outbox: VecDeque<RetrainingWish>,
}

/// Results kept for the view.
const HISTORY: usize = 32;
/// Workers one window may lose: a model that kills its worker would otherwise be tried for ever.
const MOST_LOSSES: u32 = 3;

impl RetrainingMachine {
    /// Idle until the first window.
    pub fn new(config: RetrainingConfig) -> RetrainingMachine {
        RetrainingMachine {
            estimate: Estimate::new(config.prior_gain, config.min_gain, config.prior_core_s),
            gains: Gains::new(config.configurations.clone(), config.microprofile),
            config,
            state: RetrainingState::Idle,
            job: Job::default(),
            window_began: Time(0),
            watch: Watch::default(),
            pending: None,
            samples: 0,
            instance: None,
            next: None,
            deadline: None,
            validated: None,
            note: String::new(),
            history: VecDeque::new(),
            results: 0,
            changes: None,
            outbox: VecDeque::new(),
        }
    }

    /// What it goes by.
    pub fn config(&self) -> &RetrainingConfig {
        &self.config
    }

    /// Goes by these from now on: a retraining under way is judged by them, a canary under way keeps its share and its deadline.
    pub fn retune(&mut self, how: Tuning) {
        let Tuning { enabled, min_samples, min_gain, max_forgetting, canary_share, canary_samples, canary, rollback } = how;
        self.estimate.retune(min_gain);
        let config = std::mem::take(&mut self.config);
        self.config =
            RetrainingConfig { enabled, min_samples, min_gain, max_forgetting, canary_share, canary_samples, canary, rollback, ..config };
    }

    /// A retraining window begins (the coordinator's `StartWindow`).
    pub fn window_started(&mut self, now: Time, window: u64) {
        if !self.config.enabled {
            return;
        }
        self.window_began = now;
        match self.state {
            RetrainingState::Idle | RetrainingState::Collecting => self.begin(window),
            RetrainingState::Waiting => {
                self.discard(DiscardReason::Superseded(window));
                self.begin(window);
            }
            _ => self.pending = Some(window),
        }
    }

    /// Labelled samples that an export would have now.
    pub fn samples(&mut self, now: Time, count: u64) {
        self.samples = count;
        if self.state == RetrainingState::Collecting {
            self.export_if_enough(now);
        }
    }

    /// The data set of [`RetrainingWish::Export`] is written, with this many samples to train on; or why not. Ignored when another window
    /// waits for its own by now.
    pub fn exported(&mut self, now: Time, window: u64, result: Result<u64, String>) {
        if self.state != RetrainingState::Exporting || self.job.window != window {
            return;
        }
        match (result, self.pending) {
            (Err(message), _) => self.give_up(message),
            (Ok(0), _) => self.give_up("the data set is empty".to_owned()),
            (Ok(_), Some(window)) => {
                self.discard(DiscardReason::Superseded(window));
                self.finish();
            }
            (Ok(samples), None) => {
                (self.job.samples, self.job.exported) = (samples, Some(now));
                self.ready(now);
            }
        }
    }

    /// What the tries of [`RetrainingWish::Profile`] came to; or why not: then it is retrained as ever, for what that may bring.
    /// Ignored when another window waits for its own by now.
    pub fn profiled(&mut self, now: Time, window: u64, result: Result<Microprofile, String>) {
        if self.state != RetrainingState::Profiling || self.job.window != window {
            return;
        }
        self.job.profiled = true;
        match (result, self.pending) {
            (_, Some(window)) => {
                self.discard(DiscardReason::Superseded(window));
                self.finish();
            }
            (Ok(found), None) => self.choose(now, &found),
            (Err(_), None) => {
                self.enter(RetrainingState::Waiting, None);
                self.start(now);
            }
        }
    }

    /// The configuration that this window's retraining takes; `None` = the tenant's only one.
    pub fn configuration(&self) -> Option<&TrainSpec> {
        self.config.configurations.get(self.job.choice?.index)
    }

    /// What was foretold of this window's retraining.
    pub fn foretold(&self) -> Option<Prospect> {
        self.job.foretold
    }

    /// The migration admitted this retraining on an instance.
    pub fn placed(&mut self, now: Time, instance: InstanceId) {
        match self.state {
            RetrainingState::Pausing => self.next = Some(instance),
            _ if self.computing() => {}
            _ => {
                self.instance = Some(instance);
                self.start(now);
            }
        }
    }

    /// The migration takes the instance away: pause. [`RetrainingWish::Drained`] follows (at once when nothing runs there).
    pub fn take_away(&mut self, now: Time, instance: InstanceId) {
        if self.next == Some(instance) {
            self.next = None;
        }
        if self.instance != Some(instance) || !self.computing() {
            self.instance = self.instance.filter(|&held| held != instance);
            self.outbox.push_back(RetrainingWish::Drained { instance });
        } else if self.state != RetrainingState::Pausing {
            self.outbox.push_back(RetrainingWish::Pause { instance });
            self.enter(RetrainingState::Pausing, Some(now + self.config.pause));
        }
    }

    /// The instance or its worker is gone without notice: what was done since the last checkpoint is lost.
    pub fn instance_lost(&mut self, now: Time, instance: InstanceId) {
        if self.next == Some(instance) {
            self.next = None;
        }
        if self.instance != Some(instance) {
            return;
        }
        let computing = self.computing();
        self.leave();
        if computing {
            self.job.losses += 1;
            if self.job.losses >= MOST_LOSSES {
                self.give_up(format!("its worker died {MOST_LOSSES} times"));
            } else {
                self.enter(RetrainingState::Paused, None);
                self.start(now);
            }
        }
    }

    /// The worker goes on: `step` of `steps` optimizer steps, `core_s` CPU seconds over all pauses.
    pub fn progress(&mut self, now: Time, step: u64, steps: u64, core_s: f64) {
        if !self.computing() {
            return;
        }
        self.job.advance(step, steps, core_s);
        if self.state != RetrainingState::Pausing {
            let through = steps > 0 && step >= steps;
            let state = if through { RetrainingState::Validating } else { RetrainingState::Running };
            self.enter(state, Some(now + self.config.stall));
        }
    }

    /// The worker wrote a checkpoint and stopped at `step` of `steps`.
    pub fn paused(&mut self, now: Time, step: u64, steps: u64) {
        if !self.computing() {
            return;
        }
        self.job.advance(step, steps, self.job.core_s);
        if self.state == RetrainingState::Pausing {
            self.leave();
        }
        self.enter(RetrainingState::Paused, None);
        self.start(now);
    }

    /// The worker is through and has validated both versions.
    pub fn trained(&mut self, now: Time, trained: Trained) {
        if !self.computing() {
            return;
        }
        if self.state == RetrainingState::Pausing {
            self.leave();
        }
        self.estimate.took(trained.core_s, self.job.work(&self.config));
        if let (Some(choice), Ok(())) = (self.job.choice, gate::sound(&trained)) {
            self.gains.came(choice.index, trained.after, trained.core_s);
        }
        self.job.trained = Some(trained);
        let changes = trained.changed.map(|changed| changed as f64 / trained.held_out.max(1) as f64);
        self.changes = changes.or(self.changes);
        match gate::judge(&trained, &self.config) {
            Ok(()) => {
                self.estimate.reached(trained.after);
                self.outbox.push_back(RetrainingWish::Publish { window: self.job.window });
                self.enter(RetrainingState::Publishing, Some(now + self.config.publish));
            }
            Err(reason) => {
                self.note = reason.to_string();
                if reason != DiscardReason::Unusable {
                    self.estimate.reached(trained.after);
                    // The version that stays in service was validated as well: this is what it can do while the data are as they are.
                    self.validated = Some(trained.before);
                    self.record(&trained, None);
                }
                self.discard(reason);
                self.finish();
            }
        }
    }

    /// The retraining failed (diverged, bad data, out of memory): it is tried again in the next window.
    pub fn failed(&mut self, _now: Time, message: &str) {
        if self.computing() {
            if self.state == RetrainingState::Pausing {
                self.leave();
            }
            self.give_up(message.to_owned());
        }
    }

    /// What to do next. Call until `None`.
    pub fn poll(&mut self, _now: Time) -> Option<RetrainingWish> {
        self.outbox.pop_front()
    }

    /// When [`handle_timeout`](RetrainingMachine::handle_timeout) is due.
    pub fn timeout(&self) -> Option<Time> {
        self.deadline
    }

    /// The timer fired; then `poll`.
    pub fn handle_timeout(&mut self, now: Time) {
        if self.deadline.is_none_or(|deadline| deadline > now) {
            return;
        }
        match (self.state, self.instance) {
            (RetrainingState::Exporting, _) => self.give_up("the export took too long".to_owned()),
            (RetrainingState::Profiling, _) => self.profiled(now, self.job.window, Err("it took too long".to_owned())),
            (RetrainingState::Publishing, _) => self.give_up("the publication took too long".to_owned()),
            (RetrainingState::Canary, _) => self.promote(now),
            (RetrainingState::Swapping, _) => self.swapped(now, Err("it took too long".to_owned())),
            (RetrainingState::Pausing, _) => self.paused(now, self.job.step, self.job.steps),
            (_, Some(instance)) => {
                self.outbox.push_back(RetrainingWish::Stalled { instance });
                self.instance_lost(now, instance);
            }
            _ => self.deadline = None,
        }
    }
}
