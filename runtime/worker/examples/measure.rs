//! Measures one worker, as JSON on standard output: what coming to a device takes, batches of a model, and its fine-tuning.
//!
//! `benches/gpu/bench.py` makes the arguments and the model, and compares with PyTorch.
#![allow(clippy::disallowed_methods, reason = "it measures")]

use std::path::PathBuf;
use std::time::{Duration, Instant};

use bytes::Bytes;
use migrator_models::data::{Part, Sample, write};
use migrator_models::{ModelSpec, TrainSpec};
use migrator_wire::{FromWorker, ModelKey, SpawnOptions, ToWorker, TrainJob, Worker, WorkerHandle};
use serde::Deserialize;
use serde_json::{Value, json};

type Failed = Box<dyn std::error::Error>;

const KEY: ModelKey = ModelKey(1);

/// TorchScript specialises itself in the first steps.
const WARM_STEPS: u64 = 4;

/// Rows to train on that differ.
const DISTINCT: u32 = 16;

/// The one argument.
#[derive(Debug, Deserialize)]
struct Arguments {
    /// The `migrator-worker` binary.
    worker: PathBuf,
    /// `cpu`, or the UUID to attach to.
    device: String,
    spec: ModelSpec,
    /// Holds `model.pt`.
    folder: PathBuf,
    batches: Vec<u32>,
    /// Batches in flight at the same time.
    executors: u32,
    /// Measured for so long per batch size.
    seconds: f64,
    train_batches: Vec<u32>,
    /// Steps of a fine-tuning.
    train_steps: u32,
}

#[tokio::main]
async fn main() -> Result<(), Failed> {
    let arguments: Arguments = serde_json::from_str(&std::env::args().nth(1).ok_or("one argument is needed: see bench.py")?)?;
    let staged = start(&arguments, true).await?;
    let inference = infer_all(&staged.0, &arguments).await?;
    staged.0.shutdown(Duration::from_secs(30)).await;
    let (direct, times) = start(&arguments, false).await?;
    let training = train_all(&direct, &arguments).await?;
    direct.shutdown(Duration::from_secs(30)).await;
    println!("{}", json!({ "staged": staged.1, "direct": times, "inference": inference, "training": training }));
    Ok(())
}

/// A worker with the model, loaded before it attaches itself (as a preload does) or afterwards, and what each part took in milliseconds.
async fn start(arguments: &Arguments, staged: bool) -> Result<(WorkerHandle, Value), Failed> {
    let began = Instant::now();
    let (worker, _exit) = Worker::spawn(SpawnOptions::new(&arguments.worker, "bench")).await?;
    let process_ms = ms(began);
    let gpu = arguments.device != "cpu";
    let mut parts = json!({ "process": process_ms });
    if gpu {
        let start = Instant::now();
        worker.call(ToWorker::Prepare, vec![]).await?;
        parts["libraries"] = ms(start).into();
    }
    let mut first = if staged { load(&worker, arguments, &mut parts, "staged load").await? } else { 0.0 };
    let bound = Instant::now();
    if gpu {
        attach(&worker, arguments, &mut parts).await?;
    }
    if !staged {
        first = load(&worker, arguments, &mut parts, "load").await?;
    }
    parts["from bind to ready"] = ms(bound).into();
    let row = noise(&arguments.spec, 1, 0);
    let start = Instant::now();
    infer(&worker, 1, row).await?;
    parts["first batch"] = ms(start).into();
    parts["memory_mib"] = first.into();
    worker.call(ToWorker::Limit { executors: arguments.executors }, vec![]).await?;
    Ok((worker, parts))
}

async fn attach(worker: &WorkerHandle, arguments: &Arguments, parts: &mut Value) -> Result<(), Failed> {
    let message = ToWorker::Attach { visible: arguments.device.clone(), share: 1.0 };
    let (answer, _) = worker.call_within(message, vec![], Duration::from_secs(300)).await?;
    let FromWorker::Attached { device, context_ms, models, .. } = answer else { return Err("attach: another answer".into()) };
    parts["device"] = device.into();
    parts["CUDA context"] = context_ms.into();
    parts["copy"] = models.iter().map(|model| model.copy_ms).sum::<f64>().into();
    parts["warm-up"] = models.iter().map(|model| model.warm_ms).sum::<f64>().into();
    Ok(())
}

async fn load(worker: &WorkerHandle, arguments: &Arguments, parts: &mut Value, name: &str) -> Result<f64, Failed> {
    let start = Instant::now();
    let (spec, folder, warm) = (arguments.spec.clone(), arguments.folder.clone(), arguments.batches.clone());
    let (answer, _) = worker.call(ToWorker::Load { key: KEY, spec, folder, warm }, vec![]).await?;
    let FromWorker::Loaded { memory_mib, .. } = answer else { return Err("load: another answer".into()) };
    parts[name] = ms(start).into();
    Ok(memory_mib as f64)
}

async fn infer_all(worker: &WorkerHandle, arguments: &Arguments) -> Result<Vec<Value>, Failed> {
    let mut rows = Vec::new();
    for &batch in &arguments.batches {
        let payload = noise(&arguments.spec, batch, 0);
        let one = in_flight(worker, batch, &payload, 1, arguments.seconds).await?;
        let all = in_flight(worker, batch, &payload, arguments.executors, arguments.seconds).await?;
        rows.push(json!({ "batch": batch, "latency_ms": one.0, "rows_per_s": one.1, "rows_per_s_concurrent": all.1 }));
    }
    Ok(rows)
}

/// Median milliseconds of a batch over the wire, and rows a second, with so many batches in flight.
async fn in_flight(worker: &WorkerHandle, batch: u32, payload: &Bytes, count: u32, seconds: f64) -> Result<(f64, f64), Failed> {
    let (start, limit) = (Instant::now(), Duration::from_secs_f64(seconds));
    let lanes = (0..count).map(|_| async {
        let mut times = Vec::new();
        while times.len() < 3 || start.elapsed() < limit {
            let start = Instant::now();
            infer(worker, batch, payload.clone()).await?;
            times.push(ms(start));
        }
        Ok::<_, Failed>(times)
    });
    let mut times = Vec::new();
    for lane in futures::future::join_all(lanes).await {
        times.extend(lane?);
    }
    let rows_per_s = times.len() as f64 * f64::from(batch) / start.elapsed().as_secs_f64();
    times.sort_by(f64::total_cmp);
    Ok((times[times.len() / 2], rows_per_s))
}

async fn infer(worker: &WorkerHandle, rows: u32, payload: Bytes) -> Result<(), Failed> {
    let inputs = vec![payload.len() as u64];
    worker.call(ToWorker::Infer { key: KEY, rows, inputs }, vec![payload]).await?;
    Ok(())
}

async fn train_all(worker: &WorkerHandle, arguments: &Arguments) -> Result<Vec<Value>, Failed> {
    let mut rows = Vec::new();
    for &batch in &arguments.train_batches {
        let folder = tempfile::tempdir()?;
        let path = |name: &str| folder.path().join(name);
        // Rows that are all alike leave nothing behind a batch norm but numbers too small for a CPU to be quick with.
        let features: Vec<Bytes> = (0..DISTINCT).map(|salt| noise(&arguments.spec, 1, salt)).collect();
        let count = batch * arguments.train_steps + 1;
        let sample = |index: u32| {
            let features = &features[(index % DISTINCT) as usize];
            Sample { features, label: index % arguments.spec.classes, part: if index == 0 { Part::HeldOut } else { Part::Train } }
        };
        write(&path("data"), &arguments.spec, &(0..count).map(sample).collect::<Vec<_>>())?;
        std::fs::create_dir(path("out"))?;
        let job = TrainJob {
            spec: arguments.spec.clone(),
            base: Some(arguments.folder.clone()),
            dataset: path("data"),
            train: TrainSpec { epochs: 1, batch, learning_rate: 1e-5, ..TrainSpec::default() },
            checkpoint: path("checkpoint"),
            out: path("out"),
        };
        let step_ms = timed(worker, job).await?;
        rows.push(json!({ "batch": batch, "step_ms": step_ms, "rows_per_s": f64::from(batch) * 1e3 / step_ms }));
    }
    Ok(rows)
}

/// Mean milliseconds of a step, between the first that was told of once the module is warm, and the last.
async fn timed(worker: &WorkerHandle, job: TrainJob) -> Result<f64, Failed> {
    let (_, mut news) = worker.train(job)?;
    let (mut first, mut last) = (None, None);
    while let Some(message) = news.recv().await {
        match message {
            FromWorker::Progress { step, .. } if step >= WARM_STEPS => {
                first.get_or_insert((step, Instant::now()));
                last = last.filter(|(seen, _)| *seen >= step).or(Some((step, Instant::now())));
            }
            FromWorker::Failed { message, .. } => return Err(message.into()),
            _ => {}
        }
    }
    match (first, last) {
        (Some((a, from)), Some((b, to))) if b > a => Ok((to - from).as_secs_f64() * 1e3 / (b - a) as f64),
        _ => Err("too few steps were told of: raise --train-steps".into()),
    }
}

/// Rows of noise that is the same in every run (a linear congruential generator, Numerical Recipes chapter 7).
fn noise(spec: &ModelSpec, rows: u32, salt: u32) -> Bytes {
    let count = spec.inputs()[0].elements() * rows as usize;
    let mut state = salt;
    let mut next = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 8) as f32 / (1 << 24) as f32
    };
    (0..count).flat_map(|_| next().to_le_bytes()).collect::<Vec<u8>>().into()
}

fn ms(since: Instant) -> f64 {
    since.elapsed().as_secs_f64() * 1e3
}
