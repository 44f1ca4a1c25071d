//! A curve file as a person writes it.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// The file.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CurveFile {
    /// Who measured, where, under which licence; for the reader, not for the program.
    pub source: String,
    /// The host that it was measured on, where it is that of a server's own device.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub host: Option<String>,
    /// The GPU models that the figures hold for.
    pub gpus: Vec<String>,
    /// `[[inference]]`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub inference: Vec<InferenceEntry>,
    /// `[[training]]`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub training: Vec<TrainingEntry>,
    /// `[[derived]]`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub derived: Vec<DerivedEntry>,
    /// `[[instances]]`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub instances: Vec<InstancesEntry>,
}

/// `[[inference]]`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct InferenceEntry {
    /// Model, by the name that scenarios use, or that it has in the store.
    pub model: String,
    /// What exactly was measured ([`super::own::digest`]); none = whatever is called so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub spec: Option<String>,
    /// Memory in use with the model loaded and warm, MiB.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub memory_mib: Option<u64>,
    /// By profile: rows and milliseconds.
    pub batch_ms: BTreeMap<String, Vec<(u32, f64)>>,
}

/// `[[training]]`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TrainingEntry {
    /// Model.
    pub model: String,
    /// Rows of an iteration.
    pub batch: u32,
    /// As of inference.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub spec: Option<String>,
    /// Most memory in use, MiB.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub memory_mib: Option<u64>,
    /// Seconds of one core (or of one compute slice) in an iteration.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub core_s: Option<f64>,
    /// By profile.
    pub iteration_s: BTreeMap<String, f64>,
}

/// `[[derived]]`: training as a multiple of inference.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DerivedEntry {
    /// Models.
    pub models: Vec<String>,
    /// Rows of an iteration.
    pub batch: u32,
    /// Of the time of inference of so many rows.
    pub factor: f64,
}

/// `[[instances]]`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct InstancesEntry {
    /// GPU models.
    pub gpus: Vec<String>,
    /// By profile.
    pub create_s: BTreeMap<String, f64>,
    /// By profile.
    pub destroy_s: BTreeMap<String, f64>,
    /// Streaming multiprocessors by profile.
    pub sms: BTreeMap<String, f64>,
    /// Of the whole GPU.
    pub gpu_sms: f64,
}
