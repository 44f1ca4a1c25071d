//! A retraining in progress: steps, measurements, checkpoints.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use migrator_models::store::TOKENIZER;
use migrator_models::{Architecture, ModelSpec, Older, Source, Trained, file};
use tch::{Device, Kind, Reduction, Tensor};

use crate::checkpoint::{self, Best, Checkpoint, Position};
use crate::network::Network;
use crate::optimizer::{Optimizer, Rule};
use crate::samples::{self, Samples};
use crate::text::Text;
use crate::train::{Control, LEAST_SAMPLES, Progress, TrainJob, TrainOutcome};
use crate::{TorchError, autocast, place, thread};

/// Least time between two checkpoints.
const CHECKPOINT_EVERY: Duration = Duration::from_secs(5);
/// Checkpoints may take this fraction of the time: 1 / 20.
const CHECKPOINT_COST: u32 = 20;
/// Longer than any microprofile.
const A_LONG_TIME: Duration = Duration::from_secs(365 * 24 * 3600);
/// Rows per forward pass when measuring accuracy.
const EVALUATE_ROWS: usize = 128;

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

/// What accuracy is measured with.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Measure {
    HeldOut,
    Older,
}

/// Share of what is told right.
pub(crate) fn share(right: &[bool]) -> f64 {
    right.iter().filter(|&&right| right).count() as f64 / right.len().max(1) as f64
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
    /// Measured at the end.
    older: Option<Older>,
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
            older: None,
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
            let Some(before) = self.told_right(Measure::HeldOut, control)? else { return Ok(Control::Pause) };
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
        let logits = {
            let _half = autocast::on(self.device, self.job.train.precision);
            self.network.forward(&inputs, true)?
        };
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
        let Some(right) = self.told_right(Measure::HeldOut, control)? else { return Ok(Control::Pause) };
        let accuracy = share(&right);
        // Of equally good epochs the later one has learned more.
        if self.position.best.as_ref().is_none_or(|best| accuracy >= share(&best.right)) {
            let weights = self.network.snapshot(&self.scratch())?;
            self.position.best = Some(Best { right, weights });
        }
        self.position.course.truncate(done as usize - 1);
        self.position.course.push(accuracy);
        Ok(Control::Continue)
    }

    /// Measures base and best epoch on samples of older windows, where there are any: once each, for it decides nothing before the end.
    pub(crate) fn look_back(&mut self, control: &mut dyn FnMut(&Progress) -> Control) -> Result<Control, TorchError> {
        if self.samples.older.is_empty() {
            return Ok(Control::Continue);
        }
        let Some(best) = self.position.best.as_ref().map(|best| best.weights.clone()) else { return Ok(Control::Continue) };
        self.network.restore(&best, self.job.checkpoint, self.device)?;
        let Some(after) = self.told_right(Measure::Older, control)? else { return Ok(Control::Pause) };
        let before = match self.job.base {
            Some(base) => {
                self.network = Network::load(self.job.spec, base, self.device)?;
                let Some(before) = self.told_right(Measure::Older, control)? else { return Ok(Control::Pause) };
                share(&before)
            }
            None => 0.0,
        };
        self.older = Some(Older { before, after: share(&after), samples: after.len() as u64 });
        Ok(Control::Continue)
    }

    /// Which samples are told right, in their order; `None` when `control` wanted a pause.
    fn told_right(&mut self, measure: Measure, control: &mut dyn FnMut(&Progress) -> Control) -> Result<Option<Vec<bool>>, TorchError> {
        self.network.set_training(false)?;
        let began = thread::spent_s();
        let samples = match measure {
            Measure::HeldOut => &self.samples.held_out,
            Measure::Older => &self.samples.older,
        };
        let mut right = Vec::with_capacity(samples.len());
        for indices in samples.chunks(EVALUATE_ROWS) {
            {
                let _no_grad = tch::no_grad_guard();
                let (inputs, labels) = self.samples.batch(indices, self.device)?;
                let logits = self.network.forward(&inputs, false)?;
                self.check(&logits, indices.len())?;
                let told = logits.f_argmax(1, false)?.f_eq_tensor(&labels)?.f_to_kind(Kind::Uint8)?.f_to_device(Device::Cpu)?;
                right.extend(Vec::<u8>::try_from(&told)?.iter().map(|&told| told != 0));
            }
            if control(&self.progress()) == Control::Pause {
                return Ok(None);
            }
        }
        if measure == Measure::Older {
            return Ok(Some(right));
        }
        let measured = &mut self.pace.measured;
        (measured.0, measured.1) = (measured.0 + (thread::spent_s() - began) * place::slices(), measured.1 + 1);
        Ok(Some(right))
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

    /// Writes a checkpoint to go on from.
    pub(crate) fn pause(mut self) -> Result<TrainOutcome, TorchError> {
        self.checkpoint()?;
        Ok(TrainOutcome::Paused { step: self.position.step, steps: self.steps })
    }

    pub(crate) fn publish(mut self, text: Option<&Text>) -> Result<Trained, TorchError> {
        let Some(best) = self.position.best.take() else { return Err(TorchError::Torch("no epoch was measured".to_owned())) };
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
        write(self.network.file_name(), &best.weights)?;
        let _ = std::fs::remove_file(self.job.checkpoint);
        let before = self.position.before.as_deref();
        Ok(Trained {
            before: before.map_or(0.0, share),
            after: share(&best.right),
            held_out: best.right.len() as u64,
            changed: before.map(|before| before.iter().zip(&best.right).filter(|(was, is)| was != is).count() as u64),
            older: self.older,
            core_s: self.core_s(),
            epochs: self.position.course.len() as u32,
        })
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
    pub(crate) fn briefly(&mut self, before: Option<Vec<bool>>) {
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
