//! Measured curves, for planner and simulator: milliseconds of a batch and seconds of a training iteration by model, GPU model and profile; seconds of MIG's operations.
//!
//! The figures and their sources are the files of `configs/curve`, which the program carries; a scenario may add its own, and a server has one of
//! its own device ([`own`]), which `migrator profile` measures. Read in the order [`file`](mod@file), [`figure`], [`Library`], [`own`].

pub mod figure;
pub mod file;
mod keys;
pub mod own;
mod read;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::path::Path;

pub use figure::{Inference, Repair, Training};

use crate::config::ConfigErrors;

/// The files that the program carries, by name.
const SHIPPED: [(&str, &str); 7] = [
    ("a100-inference.toml", include_str!("../../../configs/curve/a100-inference.toml")),
    ("a100-inference-coarse.toml", include_str!("../../../configs/curve/a100-inference-coarse.toml")),
    ("a100-training.toml", include_str!("../../../configs/curve/a100-training.toml")),
    ("a100-training-resnet50.toml", include_str!("../../../configs/curve/a100-training-resnet50.toml")),
    ("a100-40gb-training.toml", include_str!("../../../configs/curve/a100-40gb-training.toml")),
    ("a100-training-derived.toml", include_str!("../../../configs/curve/a100-training-derived.toml")),
    ("mig-seconds.toml", include_str!("../../../configs/curve/mig-seconds.toml")),
];

/// Figures of many files; a later file's replace an earlier one's.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Library {
    /// By model and GPU model.
    inference: BTreeMap<(String, String), Inference>,
    /// By model and GPU model, then by batch.
    training: BTreeMap<(String, String), BTreeMap<u32, Training>>,
    /// By GPU model.
    instances: BTreeMap<String, Instances>,
}

/// What is known of the instances of one GPU model.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Instances {
    /// Seconds to create one, by compute slices.
    pub create_s: BTreeMap<u8, f64>,
    /// Seconds to destroy one, by compute slices.
    pub destroy_s: BTreeMap<u8, f64>,
    /// Share of the whole GPU's SMs, by compute slices.
    pub share: BTreeMap<u8, f64>,
}

impl Library {
    /// What the program carries.
    ///
    /// # Errors
    /// None unless a shipped file is wrong.
    pub fn shipped() -> Result<Library, ConfigErrors> {
        let mut library = Library::default();
        for (name, text) in SHIPPED {
            library.parse(&format!("configs/curve/{name}"), text)?;
        }
        Ok(library)
    }

    /// Adds the figures of a file.
    ///
    /// # Errors
    /// Every defect of the file, each with its line, key, value and what is allowed.
    pub fn add(&mut self, path: &Path) -> Result<(), ConfigErrors> {
        let text = std::fs::read_to_string(path).map_err(|e| ConfigErrors::unreadable(path, &e))?;
        self.parse(&path.display().to_string(), &text)
    }

    /// Adds the figures of the text of a file that is called `file` in messages.
    ///
    /// # Errors
    /// As [`Library::add`].
    pub fn parse(&mut self, file: &str, text: &str) -> Result<(), ConfigErrors> {
        read::read(self, file, text)
    }

    /// Inference of a model on a GPU model.
    pub fn inference(&self, model: &str, gpu: &str) -> Option<&Inference> {
        self.inference.get(&(model.to_owned(), gpu.to_owned()))
    }

    /// Training of a model on a GPU model with this batch, or with the largest measured batch of at most 64.
    pub fn training(&self, model: &str, gpu: &str, batch: Option<u32>) -> Option<&Training> {
        let batches = self.training.get(&(model.to_owned(), gpu.to_owned()))?;
        match batch {
            Some(batch) => batches.get(&batch),
            None => batches.range(..=USUAL_BATCH).next_back().or_else(|| batches.first_key_value()).map(|(_, training)| training),
        }
    }

    /// The batches with which training of a model was measured on a GPU model.
    pub fn training_batches(&self, model: &str, gpu: &str) -> Vec<u32> {
        self.training.get(&(model.to_owned(), gpu.to_owned())).map(|batches| batches.keys().copied().collect()).unwrap_or_default()
    }

    /// Instances of a GPU model.
    pub fn instances(&self, gpu: &str) -> Option<&Instances> {
        self.instances.get(gpu)
    }

    /// Models with inference figures for a GPU model.
    pub fn inference_models(&self, gpu: &str) -> Vec<&str> {
        self.inference.keys().filter(|(_, on)| on == gpu).map(|(model, _)| model.as_str()).collect()
    }

    /// Models with training figures for a GPU model.
    pub fn training_models(&self, gpu: &str) -> Vec<&str> {
        self.training.keys().filter(|(_, on)| on == gpu).map(|(model, _)| model.as_str()).collect()
    }

    /// GPU models with inference figures.
    pub fn gpus(&self) -> Vec<&str> {
        let mut gpus: Vec<&str> = self.inference.keys().map(|(_, gpu)| gpu.as_str()).collect();
        gpus.sort_unstable();
        gpus.dedup();
        gpus
    }

    /// Every repaired figure, with its model and GPU model.
    pub fn repairs(&self) -> impl Iterator<Item = (&str, &str, Repair)> {
        self.inference.iter().flat_map(|((model, gpu), figures)| figures.repairs.iter().map(|r| (model.as_str(), gpu.as_str(), *r)))
    }
}

/// Batch of a training that names none: large enough to use the instance, small enough to fit.
const USUAL_BATCH: u32 = 64;
