//! The retraining of one window, and how the machine moves it along.

use migrator_models::{Microprofile, TrainSpec, Trained};

use super::choice::{Choice, Stakes, choose};
use super::gain::Prospect;
use super::types::{DiscardReason, RetrainingConfig, RetrainingResult, RetrainingState, RetrainingWish};
use super::watch::Trial;
use super::{HISTORY, RetrainingMachine};
use crate::Time;

/// The retraining of one window.
#[derive(Debug, Default)]
pub(super) struct Job {
    pub window: u64,
    /// When its data set was written.
    pub exported: Option<Time>,
    /// Samples to train on.
    pub samples: u64,
    /// Whether a worker has begun it: there may be a checkpoint.
    pub begun: bool,
    pub step: u64,
    pub steps: u64,
    /// CPU seconds so far.
    pub core_s: f64,
    /// Workers lost.
    pub losses: u32,
    pub trained: Option<Trained>,
    /// Its version, once it is published.
    pub version: u32,
    /// How its canary does.
    pub trial: Option<Trial>,
    /// Version that is published anew instead of a retrained one.
    pub back_to: Option<u32>,
    /// Whether that is because a canary was rejected.
    pub rejected: bool,
    /// Whether the configurations were tried, or could not be.
    pub profiled: bool,
    pub tries: Vec<TrainSpec>,
    /// The configuration chosen.
    pub choice: Option<Choice>,
    pub foretold: Option<Prospect>,
}

impl Job {
    pub fn advance(&mut self, step: u64, steps: u64, core_s: f64) {
        (self.step, self.steps) = (step.min(steps), steps);
        if core_s.is_finite() {
            self.core_s = core_s.max(0.0);
        }
    }

    /// Samples times epochs.
    pub fn work(&self, config: &RetrainingConfig) -> f64 {
        let chosen = self.choice.and_then(|choice| config.configurations.get(choice.index));
        let passes = chosen.map_or(f64::from(config.epochs), |train| f64::from(train.epochs) * train.share);
        self.samples as f64 * passes
    }

    /// Share of the steps done, in per cent.
    pub fn percent(&self) -> u64 {
        (self.step * 100).checked_div(self.steps).unwrap_or(0)
    }
}

impl RetrainingMachine {
    /// Whether a worker is at it.
    pub(super) fn computing(&self) -> bool {
        matches!(self.state, RetrainingState::Running | RetrainingState::Pausing | RetrainingState::Validating)
    }

    pub(super) fn enter(&mut self, state: RetrainingState, deadline: Option<Time>) {
        (self.state, self.deadline) = (state, deadline);
    }

    pub(super) fn begin(&mut self, window: u64) {
        self.pending = None;
        self.job = Job { window, ..Job::default() };
        // Samples that an earlier window counted are not this one's.
        self.samples = 0;
        self.enter(RetrainingState::Collecting, None);
    }

    pub(super) fn export_if_enough(&mut self, now: Time) {
        if self.samples >= self.config.min_samples.max(1) {
            self.export(now);
        }
    }

    fn export(&mut self, now: Time) {
        self.outbox.push_back(RetrainingWish::Export { window: self.job.window });
        self.enter(RetrainingState::Exporting, Some(now + self.config.export));
    }

    /// The data set is written: it is tried what retraining on it would come to, or it waits for an instance.
    pub(super) fn ready(&mut self, now: Time) {
        let tries = if self.job.profiled { Vec::new() } else { self.gains.tries(self.job.window, self.job.samples) };
        if tries.is_empty() {
            self.enter(RetrainingState::Waiting, None);
            self.start(now);
        } else {
            self.outbox.push_back(RetrainingWish::Profile { window: self.job.window, tries: tries.clone() });
            self.job.tries = tries;
            self.enter(RetrainingState::Profiling, Some(now + self.config.profile));
        }
    }

    /// Chooses by what the tries came to; gives the window up when no configuration is worth its effort.
    pub(super) fn choose(&mut self, now: Time, found: &Microprofile) {
        self.gains.tried(self.job.window, &self.job.tries, found, self.job.samples);
        // What was measured of the version in service is news as well.
        self.validated = Some(found.before);
        let prospects = self.gains.prospects().to_vec();
        if prospects.iter().all(Option::is_none) {
            self.enter(RetrainingState::Waiting, None);
            return self.start(now);
        }
        // Laplace's rule: none wrong of few is not perfect.
        let (held_out, right) = (found.held_out as f64, found.before * found.held_out as f64);
        let likely = (right + 1.0) / (held_out + 2.0);
        let variance = likely * (1.0 - likely) / held_out.max(1.0);
        // As the gate will have it, if the versions differ on as many samples as those of the last retraining did.
        let noise = match self.changes {
            // Where few are wrong, few can change: after a great gain the next is a smaller one.
            Some(changes) => (changes.min(2.0 * (1.0 - likely)) * held_out + 1.0).sqrt() / held_out.max(1.0),
            None => (2.0 * variance).sqrt(),
        };
        let needed = self.config.min_gain.max(self.config.noise_se * noise);
        let gone_s = now.since(self.window_began).as_secs_f64();
        let stakes = Stakes {
            before: found.before,
            needed,
            left_s: (self.config.window_s - gone_s).max(0.0) + self.config.beyond_window_s,
            cores: self.config.cores,
            price: found.before * self.config.busy / self.config.cores.max(1e-6),
        };
        self.job.choice = choose(&prospects, &stakes);
        if self.job.choice.is_none() && !self.gains.tested() && 1.0 - found.before > needed {
            // A few steps on a small sample may show nothing of what a whole retraining does: the first one puts that to the test.
            self.job.choice = Some(Choice { index: 0, gain: self.config.prior_gain });
        }
        match self.job.choice {
            Some(choice) => {
                self.job.foretold = prospects.get(choice.index).copied().flatten();
                self.enter(RetrainingState::Waiting, None);
                self.start(now);
            }
            None => {
                let best = prospects.iter().flatten().copied().max_by(|a, b| a.after.total_cmp(&b.after));
                let (after, sd) = best.map_or((found.before, 0.0), |best| (best.after, best.sd));
                self.gains.skipped();
                let reason = DiscardReason::NotWorth { before: found.before, after, sd, needed };
                self.note = reason.to_string();
                self.discard(reason);
                self.finish();
            }
        }
    }

    /// Whether its data set is written anew while its instance waits for it.
    pub(super) fn renewing(&self) -> bool {
        self.state == RetrainingState::Exporting && self.job.exported.is_some()
    }

    /// Whether it waited so long that there are fresher samples. The first retraining of all takes what it has.
    fn outdated(&self, now: Time) -> bool {
        self.estimate.reach().is_some() && !self.job.begun && self.job.exported.is_some_and(|at| now.since(at) > self.config.fresh)
    }

    /// Starts or resumes when it waits and has an instance; what waited for long gets a new data set first.
    pub(super) fn start(&mut self, now: Time) {
        let waits = matches!(self.state, RetrainingState::Waiting | RetrainingState::Paused);
        if waits && self.instance.is_some() && self.outdated(now) {
            self.export(now);
        } else if let (true, Some(instance)) = (waits, self.instance) {
            let (window, resume) = (self.job.window, self.job.begun);
            self.outbox.push_back(RetrainingWish::Start { instance, window, resume });
            self.job.begun = true;
            self.enter(RetrainingState::Running, Some(now + self.config.stall));
        }
    }

    /// Lets go of the instance; when it was being taken away, that is done now.
    pub(super) fn leave(&mut self) {
        if let (RetrainingState::Pausing, Some(instance)) = (self.state, self.instance) {
            self.outbox.push_back(RetrainingWish::Drained { instance });
        }
        self.instance = self.next.take();
    }

    pub(super) fn give_up(&mut self, message: String) {
        self.note = format!("failed: {message}");
        self.discard(DiscardReason::Failed(message));
        self.finish();
    }

    pub(super) fn discard(&mut self, reason: DiscardReason) {
        self.outbox.push_back(RetrainingWish::Discard { window: self.job.window, reason });
    }

    /// The window is over; one that began meanwhile follows.
    pub(super) fn finish(&mut self) {
        self.enter(RetrainingState::Idle, None);
        if let Some(window) = self.pending.take() {
            self.begin(window);
        }
    }

    pub(super) fn record(&mut self, trained: &Trained, published: Option<u32>) {
        let Trained { before, after, core_s, older, .. } = *trained;
        let (window, foretold) = (self.job.window, self.job.foretold);
        self.results += 1;
        self.history.push_back(RetrainingResult { window, before, after, published, older, core_s, foretold });
        if self.history.len() > HISTORY {
            self.history.pop_front();
        }
    }
}
