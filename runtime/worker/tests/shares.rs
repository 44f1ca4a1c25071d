//! How well shares hold for a real model: its throughput by slices, and what a neighbour at full load does to a tenant's latency.
//!
//! A measurement, not a check (the host may be busy): run it alone with
//! `cargo test --release -p migrator-worker --test shares -- --ignored --nocapture`.
#![allow(clippy::unwrap_used, reason = "clippy sees #[test] functions as tests, their helpers not")]
#![allow(clippy::disallowed_methods, reason = "an arrival every 20 ms is what is measured")]

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures::future::join_all;
use migrator_device::{CpuDevice, CpuOptions, Device};
use migrator_mig::{Placement, ProfileId, Site};
use migrator_models::curve::executors;
use migrator_models::data::{Part, Sample, write};
use migrator_models::{Architecture, ModelSpec, Source, TrainSpec};
use migrator_wire::{FromWorker, ModelKey, SpawnOptions, ToWorker, TrainJob, Worker, WorkerExit, WorkerHandle};

const BATCH: u32 = 8;
const ROUNDS: u32 = 8;
const ROUND: Duration = Duration::from_secs(6);
const INPUT: [u32; 3] = [3, 32, 32];

fn spec() -> ModelSpec {
    let architecture = Architecture::Cnn { input: INPUT, width: 32 };
    ModelSpec {
        name: "m".into(),
        classes: 10,
        max_batch: BATCH,
        precision: Default::default(),
        source: Source::Architecture { architecture },
    }
}

fn row() -> Bytes {
    Bytes::from(vec![0u8; INPUT.iter().product::<u32>() as usize * 4])
}

/// Any weights do: one step of training writes some.
async fn weights(folder: &Path) {
    let (worker, _exit) = Worker::spawn(SpawnOptions::new(env!("CARGO_BIN_EXE_migrator-worker"), "train")).await.unwrap();
    let features = row();
    let samples: Vec<Sample<'_>> = (0..40)
        .map(|i| Sample { features: &features, label: i % 10, part: if i % 5 == 0 { Part::HeldOut } else { Part::Train } })
        .collect();
    write(&folder.join("data"), &spec(), &samples).unwrap();
    let (dataset, checkpoint, out) = (folder.join("data"), folder.join("checkpoint"), folder.join("model"));
    std::fs::create_dir(&out).unwrap();
    let train = TrainSpec { epochs: 1, ..TrainSpec::default() };
    let (_, mut news) = worker.train(TrainJob { spec: spec(), base: None, dataset, train, checkpoint, out }).unwrap();
    while let Some(message) = news.recv().await {
        assert!(!matches!(message, FromWorker::Failed { .. }), "{message:?}");
    }
}

struct Placed {
    worker: WorkerHandle,
    _exit: WorkerExit,
    instance: u64,
    executors: u32,
}

/// A worker with the model on an instance of this profile at this start.
async fn place(device: &CpuDevice, folder: &Path, profile: u8, start: u8) -> Placed {
    let gpu = device.gpus().remove(0);
    let size = gpu.catalog.profile(ProfileId(profile)).memory_slices;
    let made = device.create(0, Site { placement: Placement { start, size }, profile: ProfileId(profile) }).unwrap();
    let (worker, exit) = Worker::spawn(SpawnOptions::new(env!("CARGO_BIN_EXE_migrator-worker"), "bench")).await.unwrap();
    let executors = executors(made.share);
    worker.call(ToWorker::Limit { executors }, Vec::new()).await.unwrap();
    let load = ToWorker::Load { key: ModelKey(1), spec: spec(), folder: folder.join("model"), warm: vec![1, BATCH] };
    worker.call(load, Vec::new()).await.unwrap();
    device.bind(made.id, worker.pid()).unwrap();
    Placed { worker, _exit: exit, instance: made.id, executors }
}

async fn remove(device: &CpuDevice, placed: Placed) {
    placed.worker.shutdown(Duration::from_secs(5)).await;
    while device.destroy(placed.instance).is_err() {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

async fn infer(worker: &WorkerHandle, rows: u32) {
    let payload: Vec<Bytes> = (0..rows).map(|_| row()).collect();
    let bytes = payload.iter().map(|part| part.len() as u64).sum();
    worker.call(ToWorker::Infer { key: ModelKey(1), rows, inputs: vec![bytes] }, payload).await.unwrap();
}

/// Closed loop with one batch ahead for each executor; gives rows per second over `span`.
async fn throughput(placed: &Placed, span: Duration) -> f64 {
    let began = Instant::now();
    let streams = (0..placed.executors * 2).map(|_| async {
        let mut rows = 0u32;
        while began.elapsed() < span {
            infer(&placed.worker, BATCH).await;
            rows += BATCH;
        }
        rows
    });
    let rows: u32 = join_all(streams).await.into_iter().sum();
    f64::from(rows) / began.elapsed().as_secs_f64()
}

/// Four rows every 20 ms for `span`; gives the latencies, milliseconds.
async fn latencies(worker: &WorkerHandle, span: Duration) -> Vec<f64> {
    let mut timer = tokio::time::interval(Duration::from_millis(20));
    let (began, mut found) = (Instant::now(), Vec::new());
    while began.elapsed() < span {
        timer.tick().await;
        let sent = Instant::now();
        infer(worker, 4).await;
        found.push(sent.elapsed().as_secs_f64() * 1000.0);
    }
    found
}

fn quantile(sorted: &[f64], q: f64) -> f64 {
    sorted[((sorted.len() - 1) as f64 * q).round() as usize]
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
#[ignore = "a measurement of two minutes that wants the host for itself"]
async fn shares_hold_for_a_model() {
    let folder = tempfile::tempdir().unwrap();
    weights(folder.path()).await;
    let device = CpuDevice::new(CpuOptions { prefix: "migrator_shares".into(), ..CpuOptions::default() }).unwrap();
    println!("{}", device.describe());
    let mut first = 0.0;
    for (profile, slices) in [(0, 1.0), (1, 2.0), (2, 3.0), (3, 4.0), (4, 7.0)] {
        let placed = place(&device, folder.path(), profile, 0).await;
        throughput(&placed, Duration::from_secs(2)).await;
        let rows = throughput(&placed, Duration::from_secs(6)).await / slices;
        first = if profile == 0 { rows } else { first };
        println!("{slices}g: {rows:.1} rows/s per slice, {:.3} of 1g's", rows / first);
        remove(&device, placed).await;
    }
    beside_a_neighbour(&device, folder.path()).await;
}

/// The tenant on 3g@4, a neighbour that saturates 4g@0 every other round; the rounds are pooled, for a p99 of one alone is two requests.
async fn beside_a_neighbour(device: &CpuDevice, folder: &Path) {
    let tenant = place(device, folder, 2, 4).await;
    let neighbour = Arc::new(place(device, folder, 3, 0).await);
    let (mut alone, mut beside) = (Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        alone.extend(latencies(&tenant.worker, ROUND).await);
        let stop = Arc::new(AtomicBool::new(false));
        let (other, until) = (Arc::clone(&neighbour), Arc::clone(&stop));
        let load = tokio::spawn(async move {
            while !until.load(Ordering::Relaxed) {
                throughput(&other, Duration::from_millis(200)).await;
            }
        });
        beside.extend(latencies(&tenant.worker, ROUND).await);
        stop.store(true, Ordering::Relaxed);
        load.await.unwrap();
    }
    for sorted in [&mut alone, &mut beside] {
        sorted.sort_by(f64::total_cmp);
    }
    for q in [0.5, 0.9, 0.99] {
        let (before, after) = (quantile(&alone, q), quantile(&beside, q));
        let (percent, change) = (q * 100.0, (after / before - 1.0) * 100.0);
        println!("p{percent:.0} of {}: {before:.2} ms alone, {after:.2} ms beside a full neighbour, {change:+.0} %", alone.len());
    }
}
