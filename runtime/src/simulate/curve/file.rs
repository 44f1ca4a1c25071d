//! A curve file as a person writes it.

use std::collections::BTreeMap;

use serde::Deserialize;

/// The file.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct CurveFile {
    /// Who measured, where, under which licence; for the reader, not for the program.
    #[serde(rename = "source")]
    pub _source: String,
    /// The GPU models that the figures hold for.
    pub gpus: Vec<String>,
    #[serde(default)]
    pub inference: Vec<InferenceEntry>,
    #[serde(default)]
    pub training: Vec<TrainingEntry>,
    #[serde(default)]
    pub derived: Vec<DerivedEntry>,
    #[serde(default)]
    pub instances: Vec<InstancesEntry>,
}

/// `[[inference]]`.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct InferenceEntry {
    pub model: String,
    /// By profile: rows and milliseconds.
    pub batch_ms: BTreeMap<String, Vec<(u32, f64)>>,
}

/// `[[training]]`.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct TrainingEntry {
    pub model: String,
    pub batch: u32,
    /// By profile.
    pub iteration_s: BTreeMap<String, f64>,
}

/// `[[derived]]`: training as a multiple of inference.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct DerivedEntry {
    pub models: Vec<String>,
    pub batch: u32,
    pub factor: f64,
}

/// `[[instances]]`.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct InstancesEntry {
    pub gpus: Vec<String>,
    pub create_s: BTreeMap<String, f64>,
    pub destroy_s: BTreeMap<String, f64>,
    pub sms: BTreeMap<String, f64>,
    pub gpu_sms: f64,
}
