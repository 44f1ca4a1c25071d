//! Retraining, measured: some iterations, then it is paused.

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use migrator_models::data::{Part, Sample, write};
use migrator_models::{ModelSpec, TrainSpec};
use migrator_wire::client::WorkerHandle;
use migrator_wire::message::{FailCode, FromWorker, ToWorker, TrainJob};
use serde::Serialize;

use super::serving::features;

/// A TorchScript module specialises itself in the first iterations.
const WARM_STEPS: u64 = 4;

/// Iterations of an epoch: enough that the measurement of accuracy at its end takes no noticeable part of it.
const EPOCH_STEPS: u32 = 32;

/// Rows that differ: rows that are all alike leave nothing behind a batch norm but numbers too small for a CPU to be quick with.
const DISTINCT: usize = 16;

/// What retraining takes on one instance.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct TrainFigures {
    /// Rows of an iteration.
    pub batch: u32,
    /// Seconds of an iteration.
    pub iteration_s: f64,
    /// Seconds of one core (or of one compute slice) in it.
    pub core_s: f64,
    /// Most memory in use, MiB; 0 = not known.
    pub memory_mib: u64,
}

/// Some iterations from a version in `base`, for `each`; `None` when there was not enough memory. `scratch` is an empty folder.
pub(super) async fn measure(
    worker: &WorkerHandle,
    spec: &ModelSpec,
    train: &TrainSpec,
    base: &Path,
    scratch: &Path,
    each: Duration,
) -> anyhow::Result<Option<(f64, f64)>> {
    let dataset = scratch.join("samples");
    dataset_of(spec, train.batch.max(1), &dataset)?;
    let out = scratch.join("out");
    std::fs::create_dir(&out)?;
    let job = TrainJob {
        spec: spec.clone(),
        base: Some(base.to_owned()),
        dataset,
        // No epoch is the last one, and no step is so large that weights leave the range in which numbers are quick.
        train: TrainSpec { epochs: 1 << 20, patience: u32::MAX, learning_rate: 1e-6, share: 1.0, ..train.clone() },
        checkpoint: scratch.join("checkpoint"),
        out,
    };
    let (id, mut news) = worker.train(job)?;
    let mut span = Span::default();
    while let Some(message) = news.recv().await {
        match message {
            FromWorker::Progress { step, core_s, .. } => {
                if span.saw(step, core_s, Instant::now(), each) {
                    worker.call(ToWorker::Pause { train: id }, Vec::new()).await?;
                }
            }
            FromWorker::Paused { .. } => return span.figures().map(Some),
            FromWorker::Failed { code: FailCode::OutOfMemory, .. } => return Ok(None),
            FromWorker::Failed { message, .. } => anyhow::bail!("training failed: {message}"),
            other => anyhow::bail!("the worker answered out of turn: {other:?}"),
        }
    }
    anyhow::bail!("the worker died while training")
}

/// From the first iteration that is warm to the last that was told of.
#[derive(Debug, Default)]
struct Span {
    first: Option<(u64, f64, Instant)>,
    last: Option<(u64, f64, Instant)>,
    ended: bool,
}

impl Span {
    /// Takes in one iteration; `true` once, when it was long enough.
    fn saw(&mut self, step: u64, core_s: f64, at: Instant, each: Duration) -> bool {
        if self.ended || step < WARM_STEPS {
            return false;
        }
        let (first, _, began) = *self.first.get_or_insert((step, core_s, at));
        if step > first && self.last.is_none_or(|(last, ..)| step > last) {
            self.last = Some((step, core_s, at));
        }
        self.ended = step > first && at.duration_since(began) >= each;
        self.ended
    }

    /// Seconds and core seconds of an iteration.
    fn figures(&self) -> anyhow::Result<(f64, f64)> {
        let (Some((first, core, began)), Some((last, spent, ended))) = (self.first, self.last) else {
            anyhow::bail!("the training ended before it could be measured")
        };
        let steps = (last - first) as f64;
        Ok((ended.duration_since(began).as_secs_f64() / steps, (spent - core) / steps))
    }
}

fn dataset_of(spec: &ModelSpec, batch: u32, path: &Path) -> anyhow::Result<()> {
    let rows: Vec<Vec<u8>> = (0..DISTINCT).map(|salt| features(spec, salt)).collect();
    let sample = |index: u32| Sample {
        features: &rows[index as usize % DISTINCT],
        label: index % spec.classes.max(1),
        part: if index == 0 { Part::HeldOut } else { Part::Train },
    };
    let samples: Vec<Sample<'_>> = (0..=batch * EPOCH_STEPS).map(sample).collect();
    write(path, spec, &samples).context("rows to train on could not be written")
}

/// The most memory that a process ever had, MiB; `None` where the kernel does not tell.
pub(super) fn peak_mib(pid: u32) -> Option<u64> {
    let text = std::fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let kib = text.lines().find_map(|line| line.strip_prefix("VmHWM:"))?.trim().strip_suffix("kB")?;
    Some(kib.trim().parse::<u64>().ok()?.div_ceil(1024))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cold_iterations_do_not_count_and_it_ends_once() {
        let (mut span, start) = (Span::default(), Instant::now());
        let at = |ms| start + Duration::from_millis(ms);
        let each = Duration::from_millis(100);
        assert!(!span.saw(1, 5.0, at(0), each));
        assert!(!span.saw(4, 6.0, at(1000), each));
        assert!(!span.saw(9, 6.5, at(1050), each));
        assert!(span.saw(14, 7.0, at(1100), each));
        assert!(!span.saw(15, 9.0, at(9000), each), "it is being paused");
        let (seconds, core_s) = span.figures().unwrap();
        assert!((seconds - 0.01).abs() < 1e-9 && (core_s - 0.1).abs() < 1e-9);
        assert!(Span::default().figures().is_err());
    }

    #[test]
    fn the_peak_of_this_process_is_known() {
        assert!(peak_mib(std::process::id()).is_none_or(|mib| mib > 0));
    }
}
