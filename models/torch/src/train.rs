//! Retraining: from a base or from scratch, pausable, checkpointed.

use std::path::Path;

use migrator_models::{Dataset, ModelSpec, Part, TrainSpec, Trained};

use crate::run::Run;
use crate::samples::{self, Samples};
use crate::text::Text;
use crate::{TorchError, thread};

/// However small the share that is trained on: batch norm cannot be trained on one sample.
pub(crate) const LEAST_SAMPLES: usize = 2;

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

/// Where a retraining stands, after each optimizer step and each batch of a measurement of accuracy.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Progress {
    /// Optimizer steps done.
    pub step: u64,
    /// Steps of the whole retraining.
    pub steps: u64,
    /// Training loss of the last step; 0 before the first.
    pub loss: f32,
    /// CPU seconds spent so far, over all pauses; on a GPU seconds times the compute slices of the instance.
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
    Trained(Trained),
    /// Checkpointed; the same job goes on from there.
    Paused {
        /// Steps done.
        step: u64,
        /// Steps of the whole retraining.
        steps: u64,
    },
}

/// Retrains on the calling thread and the device that this process computes on; `control` is called after every optimizer step, and after every batch of a measurement of
/// accuracy, which happens at the start (with a base) and after each epoch. The best epoch's weights go into `out`; training ends
/// before its last epoch when [`TrainSpec::patience`] epochs in a row were no better than the best before them.
///
/// # Errors
/// [`TorchError::BadModel`] for the base, [`TorchError::BadData`] for the data set, [`TorchError::Diverged`] when the loss or the
/// weights become NaN or infinite, [`TorchError::Io`] when the checkpoint or `out` cannot be written.
pub fn train(job: &TrainJob<'_>, control: &mut dyn FnMut(&Progress) -> Control) -> Result<TrainOutcome, TorchError> {
    thread::alone();
    let started = thread::spent_s();
    let (data, hash) = samples::read(job.dataset, job.spec)?;
    let text = tokenizer(job.spec, job.base, &data)?;
    let [train, held_out, older] = [Part::Train, Part::HeldOut, Part::Older].map(|part| samples::indices(&data, part));
    let train = samples::draw(&train, job.train.share, LEAST_SAMPLES, job.train.seed);
    let samples = Samples::new(&data, job.spec, text.as_ref(), &[train, held_out, older].concat())?;
    drop(data);
    let fingerprint = format!("{:?} {:?} {:?} {hash:016x}", job.spec, job.train, job.base);
    let mut run = Run::new(job, &samples, fingerprint, started)?;
    if run.go_on(control)? == Control::Pause || run.look_back(control)? == Control::Pause {
        return run.pause();
    }
    run.publish(text.as_ref()).map(TrainOutcome::Trained)
}

pub(crate) fn tokenizer(spec: &ModelSpec, base: Option<&Path>, data: &Dataset) -> Result<Option<Text>, TorchError> {
    match base {
        Some(base) => Text::load(spec, base),
        None => Text::train(spec, data.part(Part::Train).into_iter().map(|index| data.text(index))),
    }
}
