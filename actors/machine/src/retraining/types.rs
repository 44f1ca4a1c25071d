//! What goes into a retraining's machine and what comes out.

use std::time::Duration;

use migrator_models::{Older, TrainSpec};
use migrator_solver::InstanceId;
use serde::{Deserialize, Serialize};

use super::gain::{MicroprofileConfig, Prospect};

/// When a retraining is worth it and how long its parts may take.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct RetrainingConfig {
    /// Whether this tenant is retrained at all.
    pub enabled: bool,
    /// Fewest labelled samples to retrain on.
    pub min_samples: u64,
    /// Passes over them.
    pub epochs: u32,
    /// Least gain of accuracy worth publishing.
    pub min_gain: f64,
    /// Standard errors of the difference by which the new version must be better.
    pub noise_se: f64,
    /// Gain expected of the first retraining, before any was seen.
    pub prior_gain: f64,
    /// CPU seconds per sample and epoch before the first run told.
    pub prior_core_s: f64,
    /// Ways to retrain, one of which is chosen for each window by what microprofiles foretell; none = always the same way, for
    /// `epochs`, with a gain that is not foretold.
    pub configurations: Vec<TrainSpec>,
    /// How they are tried.
    pub microprofile: MicroprofileConfig,
    /// Length of a window, seconds: until its end a better version is worth its gain.
    pub window_s: f64,
    /// Seconds beyond it for which it is worth it as well.
    pub beyond_window_s: f64,
    /// Cores that the tenants and their retrainings share.
    pub cores: f64,
    /// Share of those cores that requests are taken to need: what a retraining takes from the rest costs nobody.
    pub busy: f64,
    /// Longest microprofile.
    pub profile: Duration,
    /// Most accuracy on samples of older windows that a new version may lose; none = whatever it loses, it may be right to forget.
    pub max_forgetting: Option<f64>,
    /// Share of the requests that a new version answers at first, while it is compared with the one in service; 0 = all at once.
    pub canary_share: f64,
    /// Labelled samples that it answers meanwhile, then it goes into service.
    pub canary_samples: u64,
    /// Longest comparison: then it goes into service if nothing speaks against it.
    pub canary: Duration,
    /// Whether a version that does clearly worse in service than the one before it is taken back.
    pub rollback: bool,
    /// A data set older than this is written anew when the retraining gets its instance: there are newer samples by then.
    pub fresh: Duration,
    /// Longest export.
    pub export: Duration,
    /// Longest silence of a running retraining.
    pub stall: Duration,
    /// Longest pause until the checkpoint is written.
    pub pause: Duration,
    /// Longest publication.
    pub publish: Duration,
    /// Longest swap on all lanes.
    pub swap: Duration,
}

impl Default for RetrainingConfig {
    fn default() -> RetrainingConfig {
        RetrainingConfig {
            enabled: true,
            min_samples: 64,
            epochs: 5,
            min_gain: 0.002,
            noise_se: 1.0,
            prior_gain: 0.05,
            prior_core_s: 0.01,
            configurations: Vec::new(),
            microprofile: MicroprofileConfig::default(),
            window_s: 200.0,
            beyond_window_s: 0.0,
            cores: 1.0,
            busy: 0.5,
            max_forgetting: None,
            canary_share: 0.0,
            canary_samples: 200,
            canary: Duration::from_secs(60),
            rollback: true,
            profile: Duration::from_secs(60),
            fresh: Duration::from_secs(5),
            export: Duration::from_secs(60),
            stall: Duration::from_secs(120),
            pause: Duration::from_secs(10),
            publish: Duration::from_secs(60),
            swap: Duration::from_secs(60),
        }
    }
}

/// What of a [`RetrainingConfig`] may change while the tenant is served.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Tuning {
    /// See [`RetrainingConfig::enabled`].
    pub enabled: bool,
    /// See [`RetrainingConfig::min_samples`].
    pub min_samples: u64,
    /// See [`RetrainingConfig::min_gain`].
    pub min_gain: f64,
    /// See [`RetrainingConfig::max_forgetting`].
    pub max_forgetting: Option<f64>,
    /// See [`RetrainingConfig::canary_share`].
    pub canary_share: f64,
    /// See [`RetrainingConfig::canary_samples`].
    pub canary_samples: u64,
    /// See [`RetrainingConfig::canary`].
    pub canary: Duration,
    /// See [`RetrainingConfig::rollback`].
    pub rollback: bool,
}

/// What a retraining is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum RetrainingState {
    /// Nothing to do in this window (any more).
    Idle,
    /// Too few labelled samples yet.
    Collecting,
    /// The data set is being written.
    Exporting,
    /// The configurations are tried briefly.
    Profiling,
    /// Ready to run, without an instance.
    Waiting,
    /// Training.
    Running,
    /// Writing a checkpoint because its instance is taken away.
    Pausing,
    /// Checkpointed, without an instance.
    Paused,
    /// All steps done, the worker compares both versions on the held-out samples.
    Validating,
    /// The new version goes into the store.
    Publishing,
    /// The new version answers a share of the requests and is compared.
    Canary,
    /// The lanes load the new version.
    Swapping,
}

/// What the shell is to do.
#[derive(Clone, Debug, PartialEq)]
pub enum RetrainingWish {
    /// Write the data set of this window, then `exported`.
    Export {
        /// The window.
        window: u64,
    },
    /// Try these on the window's data set, then `profiled`.
    Profile {
        /// The window.
        window: u64,
        /// How each try trains.
        tries: Vec<TrainSpec>,
    },
    /// Train on this instance, as [`super::RetrainingMachine::configuration`] says, from the checkpoint when `resume`; then `progress`…, `trained`, `paused` or `failed`.
    Start {
        /// Where.
        instance: InstanceId,
        /// The window its data set is of.
        window: u64,
        /// Whether a checkpoint of this window may be there.
        resume: bool,
    },
    /// Write a checkpoint and stop, then `paused`.
    Pause {
        /// Where it runs.
        instance: InstanceId,
    },
    /// Nothing of this retraining runs on the instance any more; its drain is done.
    Drained {
        /// Which.
        instance: InstanceId,
    },
    /// The worker hangs: kill it. The machine goes on as if it were lost.
    Stalled {
        /// Where it runs.
        instance: InstanceId,
    },
    /// Put the new version into the store, then `published`.
    Publish {
        /// Its window.
        window: u64,
    },
    /// Publish a copy of this older version, then `published`.
    Rollback {
        /// The older version.
        version: u32,
    },
    /// Throw the data set, the checkpoint and the new weights of this window away.
    Discard {
        /// The window.
        window: u64,
        /// Why.
        reason: DiscardReason,
    },
    /// Load this version beside the one in service on every lane, and let it answer this share of the requests and half of the labelled
    /// samples, then `canaried`; `live` tells how it does.
    Canary {
        /// The version.
        version: u32,
        /// Share of the requests, 0..1.
        share: f64,
    },
    /// Load this version on every lane, then `swapped`; the tenant's accuracy restarts from `accuracy` on `held_out` samples.
    Swap {
        /// The version.
        version: u32,
        /// Its accuracy at validation.
        accuracy: f64,
        /// Held-out samples.
        held_out: u64,
    },
}

/// Why what a window made is thrown away.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum DiscardReason {
    /// The new version is not better by more than the noise.
    #[error("not better: {before:.3} before, {after:.3} after, {needed:.3} more needed")]
    NotBetter {
        /// Accuracy before.
        before: f64,
        /// Accuracy after.
        after: f64,
        /// Gain that would have been enough.
        needed: f64,
    },
    /// The new version loses more on samples of older windows than it may.
    #[error("it forgets: {before:.3} before and {after:.3} after on older samples, at most {most:.3} may be lost")]
    Forgets {
        /// Accuracy on older samples before.
        before: f64,
        /// Accuracy on older samples after.
        after: f64,
        /// What may be lost.
        most: f64,
    },
    /// Accuracies that are no numbers between 0 and 1, or nothing held out.
    #[error("the validation gave no usable accuracies")]
    Unusable,
    /// No configuration is foretold to bring more than the noise and its effort.
    #[error("not worth it: {before:.3} now, at most {after:.3} ± {sd:.3} foretold, {needed:.3} more needed")]
    NotWorth {
        /// Accuracy of the version in service.
        before: f64,
        /// Highest accuracy foretold.
        after: f64,
        /// Its standard deviation.
        sd: f64,
        /// Gain that would be published.
        needed: f64,
    },
    /// A newer window began before it was placed.
    #[error("superseded by window {0}")]
    Superseded(u64),
    /// It failed.
    #[error("{0}")]
    Failed(String),
}

/// How a window ended.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct RetrainingResult {
    /// The window.
    pub window: u64,
    /// Accuracy before.
    pub before: f64,
    /// Accuracy after.
    pub after: f64,
    /// Version published, or `None`: the old one was kept.
    pub published: Option<u32>,
    /// Both on samples of older windows.
    pub older: Option<Older>,
    /// CPU seconds it took.
    pub core_s: f64,
    /// What was foretold of it.
    pub foretold: Option<Prospect>,
}

/// What the coordinator wants to know of a tenant's retraining.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct RetrainingStatus {
    /// Whether it has work for an instance (waiting, running or paused).
    pub due: bool,
    /// CPU seconds of work left.
    pub core_s_left: f64,
    /// Gain of accuracy to hope for, whatever `reach` says.
    pub expected_gain: f64,
    /// Gain that the chosen configuration is foretold to bring, what is not published counting as none; then `expected_gain` and
    /// `reach` do not matter.
    pub foretold: Option<f64>,
    /// Accuracy that the last retrainings came to, in service or not.
    pub reach: Option<f64>,
    /// Accuracy after the last retraining that was published, at its validation.
    pub validated: Option<f64>,
    /// Whether there is a checkpoint or a running worker to carry over.
    pub begun: bool,
    /// For `view.retraining`.
    pub text: String,
}
