//! What a version folder says about itself: `manifest.toml`.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::spec::{Architecture, ModelSpec, Source};

/// Name of the manifest in a version folder.
pub const MANIFEST: &str = "manifest.toml";
/// Name of the mark of a version that is tried beside the one in service.
pub const ON_TRIAL: &str = "on-trial";
/// Name of the weights of an architecture.
pub const WEIGHTS: &str = "weights.safetensors";
/// Name of a TorchScript file.
pub const TORCHSCRIPT: &str = "model.pt";
/// Name of the tokenizer of a text classifier.
pub const TOKENIZER: &str = "tokenizer.json";

/// The files a version of this model consists of.
pub fn files_of(spec: &ModelSpec) -> &'static [&'static str] {
    match &spec.source {
        Source::Torchscript { .. } => &[TORCHSCRIPT],
        Source::Architecture { architecture: Architecture::TextClassifier { .. } } => &[WEIGHTS, TOKENIZER],
        Source::Architecture { .. } => &[WEIGHTS],
    }
}

/// One file of a version.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FileEntry {
    /// Its size.
    pub bytes: u64,
    /// Its SHA-256, lower-case hexadecimal.
    pub sha256: String,
}

/// Where a version comes from and what it consists of.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Manifest {
    /// The version; set by [`publish`](super::Store::publish).
    #[serde(default)]
    pub version: u64,
    /// Unix milliseconds of its publication; set by [`publish`](super::Store::publish).
    #[serde(default)]
    pub created_ms: u64,
    /// The version it was retrained from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub parent: Option<u64>,
    /// Accuracy of the parent on the held-out samples, 0..1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub accuracy_before: Option<f64>,
    /// Accuracy of this version on the same samples, 0..1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub accuracy_after: Option<f64>,
    /// Samples it was trained on.
    #[serde(default)]
    pub samples: u64,
    /// What it is.
    pub spec: ModelSpec,
    /// Its files; set by [`publish`](super::Store::publish).
    #[serde(default)]
    pub files: BTreeMap<String, FileEntry>,
}

impl Manifest {
    /// A manifest of a model that comes from outside: no parent, no accuracies.
    pub fn new(spec: ModelSpec) -> Manifest {
        Manifest {
            version: 0,
            created_ms: 0,
            parent: None,
            accuracy_before: None,
            accuracy_after: None,
            samples: 0,
            spec,
            files: BTreeMap::new(),
        }
    }
}
