//! Retraining: from a base or from scratch, pausable, checkpointed.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use migrator_models::store::TOKENIZER;
use migrator_models::{Architecture, Dataset, ModelSpec, Source, TrainSpec, file};
use tch::{Device, Kind, Reduction, Tensor};

use crate::checkpoint::{self, Checkpoint, Position};
use crate::network::Network;
use crate::optimizer::{Optimizer, Rule};
use crate::samples::{self, Samples};
use crate::text::Text;
use crate::{TorchError, place, thread};

/// Least time between two checkpoints.
const CHECKPOINT_EVERY: Duration = Duration::from_secs(5);
/// Checkpoints may take this fraction of the time: 1 / 20.
const CHECKPOINT_COST: u32 = 20;
/// Longer than any microprofile.
const A_LONG_TIME: Duration = Duration::from_secs(365 * 24 * 3600);
/// However small the share that is trained on: batch norm cannot be trained on one sample.
pub(crate) const LEAST_SAMPLES: usize = 2;
/// Rows per forward pass when measuring accuracy.
const EVALUATE_ROWS: usize = 128;

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
    Trained {
        /// Accuracy of the base on the held-out samples, 0..1; 0 when there is no base.
        accuracy_before: f64,
        /// Accuracy of the new weights on the same samples, 0..1.
        accuracy_after: f64,
        /// Held-out samples.
        held_out: u64,
        /// CPU seconds spent, over all pauses; on a GPU seconds times the compute slices of the instance.
        core_s: f64,
        /// Epochs trained; fewer than asked for when they stopped making it better.
        epochs: u32,
    },
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
    let (train, held_out) = samples::split(&data);
    let train = samples::draw(&train, job.train.share, LEAST_SAMPLES, job.train.seed);
    let samples = Samples::new(&data, job.spec, text.as_ref(), &[train, held_out].concat())?;
    drop(data);
    let fingerprint = format!("{:?} {:?} {:?} {hash:016x}", job.spec, job.train, job.base);
    let mut run = Run::new(job, &samples, fingerprint, started)?;
    if run.go_on(control)? == Control::Pause {
        run.checkpoint()?;
        return Ok(TrainOutcome::Paused { step: run.position.step, steps: run.steps });
    }
    run.publish(text.as_ref())
}

pub(crate) fn tokenizer(spec: &ModelSpec, base: Option<&Path>, data: &Dataset) -> Result<Option<Text>, TorchError> {
    match base {
        Some(base) => Text::load(spec, base),
        None => Text::train(spec, data.split().0.into_iter().map(|index| data.text(index))),
    }
}

/// SGD for the deep networks with batch norm, Adam for the others.
fn rule(spec: &ModelSpec) -> Rule {
    match &spec.source {
        Source::Architecture { architecture: Architecture::Resnet18 { .. } | Architecture::MobilenetV2 { .. } } => Rule::Sgd,
        _ => Rule::Adam,
    }
}

/// Seconds that the parts of a retraining took, on average.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Pace {
    /// All steps but the first, which warms up, and the samples in them.
    steps: (f64, u64),
    /// The first step and its samples.
    first: (f64, u64),
    /// Measurements of accuracy, and how many.
    measured: (f64, u32),
}

impl Pace {
    fn stepped(&mut self, seconds: f64, samples: usize) {
        let sum = if self.first.1 == 0 { &mut self.first } else { &mut self.steps };
        (sum.0, sum.1) = (sum.0 + seconds, sum.1 + samples as u64);
    }

    /// Seconds to train on one sample once.
    pub(crate) fn sample_s(&self) -> f64 {
        let (seconds, samples) = if self.steps.1 > 0 { self.steps } else { self.first };
        seconds / samples.max(1) as f64
    }

    /// Seconds to measure the accuracy once.
    pub(crate) fn measure_s(&self) -> f64 {
        self.measured.0 / f64::from(self.measured.1.max(1))
    }
}

/// A retraining in progress.
pub(crate) struct Run<'a> {
    job: &'a TrainJob<'a>,
    device: Device,
    samples: &'a Samples,
    /// Those of the samples that are trained on.
    train: Vec<i64>,
    pace: Pace,
    fingerprint: String,
    network: Network,
    optimizer: Optimizer,
    position: Position,
    /// Seconds of this thread that belong to no earlier stay.
    started: f64,
    /// Cost of earlier stays.
    earlier_s: f64,
    batch: usize,
    per_epoch: u64,
    steps: u64,
    loss: f32,
    next_checkpoint: Instant,
}

impl<'a> Run<'a> {
    pub(crate) fn new(job: &'a TrainJob<'a>, samples: &'a Samples, fingerprint: String, started: f64) -> Result<Run<'a>, TorchError> {
        let device = place::device();
        let resumed = checkpoint::read(job.checkpoint, &fingerprint).and_then(|saved| {
            let resumed =
                resume(job, saved, device).inspect_err(|error| tracing::warn!(%error, "the checkpoint is of no use; training starts anew"));
            resumed.ok().flatten()
        });
        let (network, optimizer, position) = match resumed {
            Some(resumed) => resumed,
            None => begin(job, device)?,
        };
        let batch = (job.train.batch as usize).max(2);
        let train = samples::draw(&samples.train, job.train.share, LEAST_SAMPLES, job.train.seed);
        let per_epoch = samples::steps(train.len(), batch);
        let steps = per_epoch * u64::from(job.train.epochs.max(1));
        let (earlier_s, next_checkpoint) = (position.core_s, Instant::now() + CHECKPOINT_EVERY);
        let run = Run {
            job,
            device,
            samples,
            train,
            pace: Pace::default(),
            fingerprint,
            network,
            optimizer,
            position,
            started,
            earlier_s,
            batch,
            per_epoch,
            steps,
            loss: 0.0,
            next_checkpoint,
        };
        Ok(run)
    }

    /// Trains to the end (`Continue`), or until `control` wants a pause.
    pub(crate) fn go_on(&mut self, control: &mut dyn FnMut(&Progress) -> Control) -> Result<Control, TorchError> {
        if self.job.base.is_some() && self.position.before.is_none() {
            let Some(before) = self.accuracy(control)? else { return Ok(Control::Pause) };
            self.position.before = Some(before);
        }
        let (mut order, mut epoch) = (Vec::new(), None);
        loop {
            let done = self.position.step / self.per_epoch;
            if (self.position.course.len() as u64) < done && self.finish_epoch(done, control)? == Control::Pause {
                return Ok(Control::Pause);
            }
            if self.position.step >= self.steps || stale(&self.position.course, self.job.train.patience) {
                return Ok(Control::Continue);
            }
            if epoch != Some(done) {
                (order, epoch) = (samples::order(&self.train, self.job.train.seed, done), Some(done));
            }
            let start = (self.position.step % self.per_epoch) as usize * self.batch;
            self.step(&order[start..order.len().min(start + self.batch)])?;
            if control(&self.progress()) == Control::Pause {
                return Ok(Control::Pause);
            }
            if Instant::now() >= self.next_checkpoint {
                self.checkpoint()?;
            }
        }
    }

    fn step(&mut self, indices: &[i64]) -> Result<(), TorchError> {
        // Dropout draws from libtorch's generator; seeding each step makes a resumed retraining draw the same.
        let began = thread::spent_s();
        tch::manual_seed((self.job.train.seed ^ self.position.step << 20) as i64);
        self.network.set_training(true)?;
        let (inputs, labels) = self.samples.batch(indices, self.device)?;
        let logits = self.network.forward(&inputs, true)?;
        self.check(&logits, indices.len())?;
        let loss = logits.f_cross_entropy_loss(&labels, None::<&Tensor>, Reduction::Mean, -100, 0.0)?;
        self.loss = loss.f_double_value(&[])? as f32;
        self.position.step += 1;
        if !self.loss.is_finite() || !self.optimizer.step(&loss, self.position.step)? {
            return Err(self.diverged("the loss or its gradient"));
        }
        self.pace.stepped((thread::spent_s() - began) * place::slices(), indices.len());
        Ok(())
    }

    fn finish_epoch(&mut self, done: u64, control: &mut dyn FnMut(&Progress) -> Control) -> Result<Control, TorchError> {
        if !self.network.is_finite()? {
            return Err(self.diverged("a weight"));
        }
        let Some(accuracy) = self.accuracy(control)? else { return Ok(Control::Pause) };
        // Of equally good epochs the later one has learned more.
        if self.position.best.as_ref().is_none_or(|(best, _)| accuracy >= *best) {
            let bytes = self.network.snapshot(&self.scratch())?;
            self.position.best = Some((accuracy, bytes));
        }
        self.position.course.truncate(done as usize - 1);
        self.position.course.push(accuracy);
        Ok(Control::Continue)
    }

    /// Share of the held-out samples that are told right; `None` when `control` wanted a pause.
    fn accuracy(&mut self, control: &mut dyn FnMut(&Progress) -> Control) -> Result<Option<f64>, TorchError> {
        self.network.set_training(false)?;
        let began = thread::spent_s();
        let mut right = 0;
        for indices in self.samples.held_out.chunks(EVALUATE_ROWS) {
            {
                let _no_grad = tch::no_grad_guard();
                let (inputs, labels) = self.samples.batch(indices, self.device)?;
                let logits = self.network.forward(&inputs, false)?;
                self.check(&logits, indices.len())?;
                right += logits.f_argmax(1, false)?.f_eq_tensor(&labels)?.f_sum(Kind::Int64)?.f_int64_value(&[])?;
            }
            if control(&self.progress()) == Control::Pause {
                return Ok(None);
            }
        }
        let measured = &mut self.pace.measured;
        (measured.0, measured.1) = (measured.0 + (thread::spent_s() - began) * place::slices(), measured.1 + 1);
        Ok(Some(right as f64 / self.samples.held_out.len() as f64))
    }

    fn check(&self, logits: &Tensor, rows: usize) -> Result<(), TorchError> {
        let (size, wants) = (logits.size(), [rows as i64, i64::from(self.job.spec.classes)]);
        if size == wants {
            return Ok(());
        }
        Err(TorchError::BadModel(format!("model {}: its output has shape {size:?} and should have {wants:?}", self.job.spec.name)))
    }

    fn progress(&self) -> Progress {
        Progress { step: self.position.step, steps: self.steps, loss: self.loss, core_s: self.core_s() }
    }

    pub(crate) fn core_s(&self) -> f64 {
        self.earlier_s + (thread::spent_s() - self.started) * place::slices()
    }

    fn checkpoint(&mut self) -> Result<(), TorchError> {
        let began = Instant::now();
        self.position.core_s = self.core_s();
        let weights = self.network.snapshot(&self.scratch())?;
        checkpoint::write(self.job.checkpoint, &self.fingerprint, &self.position, &weights, &self.optimizer)?;
        self.next_checkpoint = Instant::now() + CHECKPOINT_EVERY.max(began.elapsed() * CHECKPOINT_COST);
        Ok(())
    }

    fn publish(mut self, text: Option<&Text>) -> Result<TrainOutcome, TorchError> {
        let (accuracy_after, best) = match self.position.best.take() {
            Some(best) => best,
            None => return Err(TorchError::Torch("no epoch was measured".to_owned())),
        };
        let write = |name: &str, bytes: &[u8]| {
            let path = self.job.out.join(name);
            file::replace(&path, bytes).map_err(|e| TorchError::io(&path, &e))
        };
        match (text, self.job.base) {
            // Byte for byte the base's, whatever the library would make of it.
            (Some(_), Some(base)) => {
                let path = base.join(TOKENIZER);
                write(TOKENIZER, &std::fs::read(&path).map_err(|e| TorchError::io(&path, &e))?)?;
            }
            (Some(text), None) => write(TOKENIZER, text.to_json()?.as_bytes())?,
            (None, _) => {}
        }
        write(self.network.file_name(), &best)?;
        let _ = std::fs::remove_file(self.job.checkpoint);
        let (accuracy_before, held_out) = (self.position.before.unwrap_or(0.0), self.samples.held_out.len() as u64);
        let epochs = self.position.course.len() as u32;
        Ok(TrainOutcome::Trained { accuracy_before, accuracy_after, held_out, core_s: self.core_s(), epochs })
    }

    fn diverged(&self, what: &str) -> TorchError {
        let _ = std::fs::remove_file(self.job.checkpoint);
        let advice = format!("lower learning_rate ({}) or look for NaN in the samples", self.job.train.learning_rate);
        TorchError::Diverged(format!("{what} became NaN or infinite at step {} of {}; {advice}", self.position.step, self.steps))
    }

    /// For a microprofile: what was seen so far, and how many samples an epoch has.
    pub(crate) fn seen(&self) -> (&Position, Pace, usize) {
        (&self.position, self.pace, self.train.len())
    }

    /// For a microprofile: the base was measured already, and a checkpoint is of no use.
    pub(crate) fn briefly(&mut self, before: Option<f64>) {
        self.position.before = before;
        self.next_checkpoint += A_LONG_TIME;
    }

    fn scratch(&self) -> PathBuf {
        self.job.checkpoint.with_extension("scratch")
    }
}

/// Whether the last `patience` epochs were no better than the best before them.
fn stale(course: &[f64], patience: u32) -> bool {
    let Some((before, last)) = course.len().checked_sub(patience as usize).and_then(|at| course.split_at_checked(at)) else { return false };
    let best = |values: &[f64]| values.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    patience > 0 && !before.is_empty() && best(last) <= best(before)
}

fn optimizer(job: &TrainJob<'_>, network: &Network) -> Result<Optimizer, TorchError> {
    Optimizer::new(rule(job.spec), job.train.learning_rate, network.parameters(job.train.frozen)?)
}

fn begin(job: &TrainJob<'_>, device: Device) -> Result<(Network, Optimizer, Position), TorchError> {
    let network = match job.base {
        Some(base) => Network::load(job.spec, base, device)?,
        None => Network::new(job.spec, job.train.seed, device)?,
    };
    let optimizer = optimizer(job, &network)?;
    Ok((network, optimizer, Position::default()))
}

/// Goes on from a checkpoint; `None` when it does not fit after all.
fn resume(job: &TrainJob<'_>, saved: Checkpoint, device: Device) -> Result<Option<(Network, Optimizer, Position)>, TorchError> {
    let (mut network, _, _) = begin(job, device)?;
    network.restore(&saved.weights, job.checkpoint, device)?;
    let optimizer = optimizer(job, &network)?;
    let fits = checkpoint::restore_state(&optimizer, &saved.state)?;
    Ok(fits.then_some((network, optimizer, saved.position)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn training_is_stale_when_no_late_epoch_beats_the_best_early_one() {
        assert!(!stale(&[0.5, 0.5], 0));
        assert!(!stale(&[0.5, 0.5], 2));
        assert!(stale(&[0.5, 0.5, 0.4], 2));
        assert!(!stale(&[0.5, 0.4, 0.6], 2));
        assert!(!stale(&[], 1));
    }
}
