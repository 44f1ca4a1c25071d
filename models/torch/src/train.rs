//! Retraining: from a base or from scratch, pausable, checkpointed.

use std::path::Path;

use migrator_models::{ModelSpec, TrainSpec};

use crate::TorchError;

/// A retraining to do.
#[derive(Clone, Copy, Debug)]
pub struct TrainJob<'a> {
    /// The model.
    pub spec: &'a ModelSpec,
    /// Version folder to start from; `None` = random weights from the seed (not possible for TorchScript).
    pub base: Option<&'a Path>,
    /// Data set file, see `migrator_models::data`.
    pub dataset: &'a Path,
    /// How.
    pub train: &'a TrainSpec,
    /// Checkpoint file: resumed from when it exists and belongs to this job, written on pause and every few seconds, removed
    /// when the retraining is over.
    pub checkpoint: &'a Path,
    /// Folder the new weights (and tokenizer) are written into; it exists.
    pub out: &'a Path,
}

/// Where a retraining stands, after each optimizer step.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Progress {
    /// Optimizer steps done.
    pub step: u64,
    /// Steps of the whole retraining.
    pub steps: u64,
    /// Training loss of this step.
    pub loss: f32,
    /// CPU seconds spent so far, over all pauses.
    pub core_s: f64,
}

/// What the caller wants after a step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Control {
    /// Go on.
    Continue,
    /// Write a checkpoint and stop.
    Pause,
}

/// How a retraining ended.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum TrainOutcome {
    /// The folder `out` holds the new weights.
    Trained {
        /// Accuracy of the base on the held-out samples, 0..1; 0 when there is no base.
        accuracy_before: f64,
        /// Accuracy of the new weights on the same samples, 0..1.
        accuracy_after: f64,
        /// Held-out samples.
        held_out: u64,
        /// CPU seconds spent, over all pauses.
        core_s: f64,
    },
    /// Checkpointed; the same job goes on from there.
    Paused {
        /// Steps done.
        step: u64,
        /// Steps of the whole retraining.
        steps: u64,
    },
}

/// Retrains on the calling thread; `control` is called after every optimizer step.
///
/// # Errors
/// [`TorchError::BadModel`] for the base, [`TorchError::BadData`] for the data set, [`TorchError::Diverged`] when the loss or the
/// weights become NaN or infinite, [`TorchError::Io`] when the checkpoint or `out` cannot be written.
pub fn train(job: &TrainJob<'_>, control: &mut dyn FnMut(&Progress) -> Control) -> Result<TrainOutcome, TorchError> {
    let _ = (job, control);
    Err(TorchError::Torch("not written yet".into()))
}
