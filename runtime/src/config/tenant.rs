//! `[[tenants]]`: what is told of each tenant.

use std::path::PathBuf;

use migrator_models::{ModelSpec, Source, TrainSpec};
use serde::{Deserialize, Serialize};

/// `[tenants.retraining]`: what differs from `[retraining]`. The window is the same for all.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct RetrainingOverride {
    /// See [`super::RetrainingConfig::enabled`].
    pub enabled: Option<bool>,
    /// See [`super::RetrainingConfig::min_samples`].
    pub min_samples: Option<u32>,
    /// See [`super::RetrainingConfig::max_samples`].
    pub max_samples: Option<u32>,
    /// See [`super::RetrainingConfig::replay_share`].
    pub replay_share: Option<f64>,
    /// See [`super::RetrainingConfig::held_out_share`].
    pub held_out_share: Option<f64>,
    /// See [`super::RetrainingConfig::min_gain`].
    pub min_gain: Option<f64>,
    /// See [`super::RetrainingConfig::max_forgetting`].
    pub max_forgetting: Option<f64>,
    /// See [`super::RetrainingConfig::canary_share`].
    pub canary_share: Option<f64>,
    /// See [`super::RetrainingConfig::microprofile_share`].
    pub microprofile_share: Option<f64>,
    /// See [`super::RetrainingConfig::stored_samples`].
    pub stored_samples: Option<u32>,
    /// See [`super::RetrainingConfig::stored_mib`].
    pub stored_mib: Option<u32>,
    /// See [`super::RetrainingConfig::stored_days`].
    pub stored_days: Option<f64>,
    /// Ways to retrain, of which each window takes the one that is worth most; empty = the usual ones, made from `train`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub configurations: Vec<Effort>,
}

/// `[[tenants.retraining.configurations]]`: what differs from `[tenants.train]`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Effort {
    /// See [`TrainSpec::epochs`].
    pub epochs: Option<u32>,
    /// See [`TrainSpec::batch`].
    pub batch: Option<u32>,
    /// See [`TrainSpec::learning_rate`].
    pub learning_rate: Option<f64>,
    /// See [`TrainSpec::share`].
    pub share: Option<f64>,
    /// See [`TrainSpec::frozen`].
    pub frozen: Option<f64>,
}

impl Effort {
    pub(super) fn of(&self, train: &TrainSpec) -> TrainSpec {
        TrainSpec {
            epochs: self.epochs.unwrap_or(train.epochs),
            batch: self.batch.unwrap_or(train.batch),
            learning_rate: self.learning_rate.unwrap_or(train.learning_rate),
            share: self.share.unwrap_or(train.share),
            frozen: self.frozen.unwrap_or(train.frozen),
            ..train.clone()
        }
    }
}

/// `[[tenants]]`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TenantConfig {
    /// Name, in URLs, metrics and reports.
    pub name: String,
    /// Latency promised per request, milliseconds.
    pub slo_ms: f64,
    /// Worth of one of its good answers relative to the others'.
    #[serde(default = "one")]
    pub weight: f64,
    /// Fewest requests/s it keeps however valuable the others are.
    #[serde(default)]
    pub floor_rps: f64,
    /// Most requests waiting.
    #[serde(default = "queue")]
    pub queue: u32,
    /// How long after its arrival a request is still answered, late, when it cannot be in time, milliseconds; none = it is shed.
    #[serde(default)]
    pub patience_ms: Option<f64>,
    /// Most requests a second; none = as many as can be answered.
    #[serde(default)]
    pub rate_rps: Option<f64>,
    /// Requests at once that the rate allows after a pause; none = one second's.
    #[serde(default)]
    pub burst: Option<u32>,
    /// Most requests without an answer.
    #[serde(default)]
    pub concurrency: Option<u32>,
    /// Share of its batches that may be sent to another instance once more when one is slow with them.
    #[serde(default)]
    pub hedge: f64,
    /// Labels that come after their requests, by the requests' ids; none = they are not taken.
    #[serde(default)]
    pub labels: Option<LabelsConfig>,
    /// A bigger model that labels some of its requests.
    #[serde(default)]
    pub golden: Option<GoldenConfig>,
    /// What differs from `[retraining]`.
    #[serde(default)]
    pub retraining: RetrainingOverride,
    /// Its model.
    pub model: ModelSpec,
    /// How the model is fine-tuned.
    #[serde(default)]
    pub train: TrainSpec,
}

/// `[tenants.labels]`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct LabelsConfig {
    /// Longest time from an answer to its label, seconds.
    pub wait_s: f64,
    /// Most memory for requests whose labels may still come, MiB.
    pub memory_mib: u32,
    /// Whether the inputs are kept, so that a labelled request becomes a sample; else its label only tells how good the answer was.
    pub features: bool,
}

impl Default for LabelsConfig {
    fn default() -> Self {
        LabelsConfig { wait_s: 3600.0, memory_mib: 64, features: true }
    }
}

/// `[tenants.golden]`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GoldenConfig {
    /// Its name in the store; the newest complete version at the start is taken.
    pub model: Option<String>,
    /// Its file, when it is not in the store: TorchScript, or weights for `source`.
    pub file: Option<PathBuf>,
    /// What the file is; none = TorchScript with the inputs of the tenant's model.
    pub source: Option<Source>,
    /// Share of the requests that it looks at.
    #[serde(default = "twentieth")]
    pub share: f64,
    /// Most rows that it looks at a second.
    #[serde(default = "ten")]
    pub max_rps: f64,
    /// Least confidence of an answer that becomes a label.
    #[serde(default)]
    pub min_confidence: f64,
}

fn twentieth() -> f64 {
    0.05
}

fn ten() -> f64 {
    10.0
}

fn one() -> f64 {
    1.0
}

fn queue() -> u32 {
    1024
}
