//! The real worker process behind the real client: train, load, infer, pause, fail, die.
#![allow(clippy::unwrap_used, reason = "clippy sees #[test] functions as tests, their helpers not")]

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures::future::join_all;
use migrator_models::data::{Part, Sample, write};
use migrator_models::{Architecture, Microprofile, ModelSpec, Source, TrainSpec, Trained};
use migrator_wire::message::MicroprofileJob;
use migrator_wire::{CallError, Exit, FailCode, FromWorker, ModelKey, SpawnOptions, ToWorker, TrainJob, Worker, WorkerExit, WorkerHandle};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use tokio::sync::mpsc;
use tokio::time::timeout;

const BINARY: &str = env!("CARGO_BIN_EXE_migrator-worker");
const KEY: ModelKey = ModelKey(7);
const FEATURES: usize = 4;

/// A worker, a folder, and a data set: the class is the largest of the first three features.
struct Bench {
    worker: WorkerHandle,
    exit: WorkerExit,
    folder: tempfile::TempDir,
}

impl Bench {
    async fn start() -> Bench {
        let folder = tempfile::tempdir().unwrap();
        let (worker, exit) = Worker::spawn(SpawnOptions::new(BINARY, "test")).await.unwrap();
        let mut random = StdRng::seed_from_u64(3);
        let rows: Vec<(Vec<u8>, u32)> = (0..600).map(|_| sample(&mut random)).collect();
        let samples: Vec<Sample<'_>> = rows
            .iter()
            .enumerate()
            .map(|(index, (features, label))| Sample {
                features,
                label: *label,
                part: if index % 5 == 0 { Part::HeldOut } else { Part::Train },
            })
            .collect();
        write(&folder.path().join("data"), &spec(), &samples).unwrap();
        Bench { worker, exit, folder }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn job(&self, out: &str, epochs: u32) -> TrainJob {
        std::fs::create_dir_all(self.path(out)).unwrap();
        TrainJob {
            spec: spec(),
            base: None,
            dataset: self.path("data"),
            train: TrainSpec { epochs, learning_rate: 0.01, ..TrainSpec::default() },
            checkpoint: self.path("checkpoint"),
            out: self.path(out),
        }
    }

    /// Trains from scratch and loads the result.
    async fn ready() -> Bench {
        let bench = Bench::start().await;
        let (_, answers) = bench.worker.train(bench.job("v1", 20)).unwrap();
        let (progress, last) = drain(answers).await;
        assert!(progress > 0);
        let Some(FromWorker::Trained(Trained { before, after, held_out, core_s, .. })) = last else { panic!("{last:?}") };
        assert_eq!((before, held_out), (0.0, 120));
        assert!(after > 0.85 && core_s > 0.0, "accuracy {after} in {core_s} s");
        let loaded = bench.worker.call(load(&bench.path("v1")), vec![]).await.unwrap().0;
        let FromWorker::Loaded { timings, memory_mib, .. } = loaded else { panic!("{loaded:?}") };
        assert_eq!(timings.iter().map(|timing| timing.0).collect::<Vec<_>>(), [1, 8]);
        assert!(memory_mib > 10);
        bench
    }
}

fn spec() -> ModelSpec {
    let architecture = Architecture::Mlp { features: FEATURES as u32, hidden: vec![16] };
    ModelSpec { name: "m".into(), classes: 3, max_batch: 8, precision: Default::default(), source: Source::Architecture { architecture } }
}

fn sample(random: &mut StdRng) -> (Vec<u8>, u32) {
    let features: [f32; FEATURES] = random.random();
    let label = (0..3).max_by(|&a, &b| features[a].total_cmp(&features[b])).unwrap();
    (features.iter().flat_map(|x| x.to_le_bytes()).collect(), label as u32)
}

fn load(folder: &Path) -> ToWorker {
    ToWorker::Load { key: KEY, spec: spec(), folder: folder.to_owned(), warm: vec![1, 8] }
}

fn infer(rows: u32) -> ToWorker {
    ToWorker::Infer { key: KEY, rows, inputs: vec![u64::from(rows) * 16] }
}

fn classes(logits: &[u8]) -> Vec<u32> {
    let values: Vec<f32> = logits.chunks_exact(4).map(|x| f32::from_le_bytes(x.try_into().unwrap())).collect();
    values.chunks_exact(3).map(|row| (0..3).max_by(|&a, &b| row[a].total_cmp(&row[b])).unwrap() as u32).collect()
}

/// Reads a retraining to its end: how many `Progress`, and the last answer.
async fn drain(mut answers: mpsc::Receiver<FromWorker>) -> (usize, Option<FromWorker>) {
    let (mut progress, mut last) = (0, None);
    while let Some(answer) = answers.recv().await {
        progress += usize::from(matches!(answer, FromWorker::Progress { .. }));
        last = Some(answer);
    }
    (progress, last)
}

async fn ended(exit: WorkerExit) -> Exit {
    timeout(Duration::from_secs(2), exit).await.expect("the worker ends within 2 s")
}

fn exists(pid: u32) -> bool {
    Path::new(&format!("/proc/{pid}/stat")).exists()
}

#[tokio::test]
async fn a_microprofile_foretells_beside_what_else_the_worker_does() {
    let bench = Bench::ready().await;
    let tries = [0.0, 1.0].map(|frozen| TrainSpec { epochs: 2, share: 0.2, frozen, learning_rate: 0.01, ..TrainSpec::default() }).to_vec();
    let base = Some(bench.path("v1"));
    let job = MicroprofileJob { spec: spec(), base, dataset: bench.path("data"), tries, scratch: bench.path("scratch") };
    let (_, answers) = bench.worker.microprofile(job).unwrap();
    let (_, last) = drain(answers).await;
    let Some(FromWorker::Microprofiled(Microprofile { before, held_out, courses, measure_s, core_s })) = last else { panic!("{last:?}") };
    assert!(before > 0.85 && held_out == 120 && measure_s > 0.0 && core_s > 0.0);
    assert!(courses.len() == 2 && courses.iter().all(|course| course.accuracy.len() == 2 && course.samples == 96 && course.sample_s > 0.0));
}

#[tokio::test]
async fn a_model_trained_from_scratch_answers_concurrent_batches() {
    let bench = Bench::ready().await;
    let done = bench.worker.call(ToWorker::Limit { executors: 3 }, vec![]).await.unwrap().0;
    assert_eq!(done, FromWorker::Done);
    let mut random = StdRng::seed_from_u64(9);
    let batches: Vec<Vec<(Vec<u8>, u32)>> = (0..100u32).map(|n| (0..=n % 8).map(|_| sample(&mut random)).collect()).collect();
    let calls = batches.iter().map(|batch| {
        let parts = batch.iter().map(|(features, _)| Bytes::from(features.clone())).collect();
        bench.worker.call(infer(batch.len() as u32), parts)
    });
    let (mut right, mut all) = (0, 0);
    for (batch, answer) in batches.iter().zip(join_all(calls).await) {
        let (message, logits) = answer.unwrap();
        assert!(matches!(message, FromWorker::Inferred { rows, .. } if rows as usize == batch.len()));
        assert_eq!(logits.len(), batch.len() * 12);
        right += classes(&logits).iter().zip(batch).filter(|(class, (_, label))| *class == label).count();
        all += batch.len();
    }
    assert!(right * 100 > all * 85, "{right} of {all}");
    bench.worker.call(ToWorker::Limit { executors: 1 }, vec![]).await.unwrap();
    bench.worker.call(infer(1), vec![Bytes::from(vec![0; 16])]).await.unwrap();

    // Replacing goes on under traffic; unloading waits for it.
    let (again, _) = tokio::join!(
        bench.worker.call(load(&bench.path("v1")), vec![]),
        join_all((0..50).map(|_| bench.worker.call(infer(1), vec![Bytes::from(vec![0; 16])]))),
    );
    assert!(matches!(again.unwrap().0, FromWorker::Loaded { .. }));
    assert_eq!(bench.worker.call(ToWorker::Unload { key: KEY }, vec![]).await.unwrap().0, FromWorker::Done);
    let gone = bench.worker.call(infer(1), vec![Bytes::from(vec![0; 16])]).await.unwrap_err();
    assert_eq!(gone.to_string(), "unknown model: no model has key 7");

    let Bench { worker, exit, .. } = bench;
    assert!(worker.shutdown(Duration::from_secs(10)).await.success());
    assert_eq!(ended(exit).await.to_string(), "exited with code 0");
}

#[tokio::test]
async fn a_failed_request_is_one_line_and_the_worker_lives_on() {
    let bench = Bench::ready().await;
    let fails = |message, payload: usize| {
        let call = bench.worker.call(message, vec![Bytes::from(vec![0; payload])]);
        async move {
            match call.await {
                Err(CallError::Failed { code, message }) => {
                    assert!(!message.is_empty() && !message.contains('\n'), "{message}");
                    code
                }
                other => panic!("{other:?}"),
            }
        }
    };
    std::fs::create_dir(bench.path("bad")).unwrap();
    std::fs::write(bench.path("bad").join("weights.safetensors"), b"not these").unwrap();
    assert_eq!(fails(load(&bench.path("bad")), 0).await, FailCode::BadModel);
    assert_eq!(fails(load(&bench.path("nowhere")), 0).await, FailCode::BadModel);
    assert_eq!(fails(infer(1), 15).await, FailCode::BadInput);
    assert_eq!(fails(infer(9), 9 * 16).await, FailCode::BadInput);
    assert_eq!(fails(ToWorker::Infer { key: KEY, rows: 1, inputs: vec![8, 8] }, 16).await, FailCode::BadInput);
    assert_eq!(fails(ToWorker::Unload { key: ModelKey(8) }, 0).await, FailCode::UnknownModel);
    std::fs::write(bench.path("data"), b"nor this").unwrap();
    let (_, last) = drain(bench.worker.train(bench.job("v2", 1)).unwrap().1).await;
    assert!(matches!(last, Some(FromWorker::Failed { code: FailCode::BadData, .. })), "{last:?}");
    // A model that could not be loaded leaves the one before it in its place.
    bench.worker.call(infer(1), vec![Bytes::from(vec![0; 16])]).await.unwrap();
}

/// Skipped where there is a driver: what happens then is for machines with a GPU to test.
#[tokio::test]
async fn without_a_gpu_attaching_says_so_in_one_line_and_the_worker_lives_on() {
    if std::path::Path::new("/dev/nvidiactl").exists() {
        eprintln!("skipped: this machine has an NVIDIA driver");
        return;
    }
    let bench = Bench::ready().await;
    let attach = |visible: &str| {
        let call = bench.worker.call(ToWorker::Attach { visible: visible.to_owned(), share: 1.0 }, vec![]);
        async move {
            match call.await {
                Err(CallError::Failed { code, message }) => {
                    assert_eq!(message.lines().count(), 1, "{message}");
                    (code, message)
                }
                other => panic!("{other:?}"),
            }
        }
    };
    let (code, message) = attach("0").await;
    assert_eq!((code, message.as_str()), (FailCode::NoDevice, "\"0\" is the UUID of no GPU and of no MIG instance"));
    let (code, message) = attach("MIG-41b36413-6e2f-5b0a-9c01-ff0012345678").await;
    assert_eq!(code, FailCode::NoDevice);
    eprintln!("{message}");
    assert!(message.starts_with("no CUDA libraries for libtorch") || message.starts_with("no NVIDIA driver"), "{message}");
    assert_eq!(attach("MIG-41b36413-6e2f-5b0a-9c01-ff0012345678").await.0, FailCode::Internal);
    // It goes on computing on the host until its server ends it.
    bench.worker.call(infer(1), vec![Bytes::from(vec![0; 16])]).await.unwrap();
    bench.worker.call(load(&bench.path("v1")), vec![]).await.unwrap();
    assert!(bench.worker.shutdown(Duration::from_secs(10)).await.success());
}

#[tokio::test]
async fn a_paused_retraining_goes_on_where_it_stopped() {
    let bench = Bench::start().await;
    let job = bench.job("v1", 100_000);
    let (train, mut answers) = bench.worker.train(job.clone()).unwrap();
    assert!(matches!(answers.recv().await, Some(FromWorker::Progress { .. })));
    let (_, second) = bench.worker.train(bench.job("v2", 1)).unwrap();
    assert!(matches!(drain(second).await.1, Some(FromWorker::Failed { code: FailCode::Internal, .. })));
    bench.worker.call(ToWorker::Pause { train }, vec![]).await.unwrap();
    let Some(FromWorker::Paused { step, steps }) = drain(answers).await.1 else { panic!("not paused") };
    assert!(0 < step && step < steps);
    let (train, mut answers) = bench.worker.train(job).unwrap();
    let Some(FromWorker::Progress { step: resumed, .. }) = answers.recv().await else { panic!("no progress") };
    // Paused while accuracy is measured, it goes on with that measurement, at the same step.
    assert!((step..=step + 1).contains(&resumed), "paused at {step}, resumed at {resumed}");
    // A shutdown pauses it as well, rather than wait for its end.
    assert!(bench.worker.shutdown(Duration::from_secs(10)).await.success());
    assert!(matches!(drain(answers).await.1, Some(FromWorker::Paused { .. })), "retraining {train}");
}

#[tokio::test]
async fn a_killed_worker_is_lost_at_once() {
    let bench = Bench::start().await;
    let (_, mut answers) = bench.worker.train(bench.job("v1", 100_000)).unwrap();
    assert!(answers.recv().await.is_some());
    let pid = rustix::process::Pid::from_raw(bench.worker.pid() as i32).unwrap();
    rustix::process::kill_process(pid, rustix::process::Signal::KILL).unwrap();
    let lost = timeout(Duration::from_secs(2), drain(answers)).await.unwrap().1;
    assert!(matches!(lost, None | Some(FromWorker::Progress { .. })), "{lost:?}");
    assert_eq!(bench.worker.call(infer(1), vec![]).await.unwrap_err(), CallError::WorkerLost);
    let exit = ended(bench.exit).await;
    assert_eq!((exit.signal, exit.killed), (Some(9), false));
    assert!(exit.to_string().starts_with("killed by signal 9"));
}

#[tokio::test]
async fn a_worker_ends_with_the_last_handle_even_while_it_computes() {
    let bench = Bench::start().await;
    let (_, mut answers) = bench.worker.train(bench.job("v1", 100_000)).unwrap();
    assert!(answers.recv().await.is_some());
    let pid = bench.worker.pid();
    // Neither Ctrl-C nor a polite kill ends it: that is for the server to decide.
    let group = rustix::process::Pid::from_raw(pid as i32).unwrap();
    rustix::process::kill_process_group(group, rustix::process::Signal::INT).unwrap();
    rustix::process::kill_process(group, rustix::process::Signal::TERM).unwrap();
    bench.worker.call(ToWorker::Limit { executors: 2 }, vec![]).await.unwrap();
    drop(bench.worker);
    let exit = ended(bench.exit).await;
    assert_eq!((exit.code, exit.killed, exists(pid)), (Some(0), false, false));
}

#[test]
fn a_worker_ends_with_its_server() {
    // The server's runtime is gone without a word to anybody, as after a kill: what is left is a closed socket.
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let bench = runtime.block_on(Bench::start());
    let pid = bench.worker.pid();
    assert!(exists(pid));
    runtime.shutdown_background();
    let start = Instant::now();
    while std::fs::read_to_string(format!("/proc/{pid}/stat")).is_ok_and(|stat| !stat.contains(") Z ")) {
        assert!(start.elapsed() < Duration::from_secs(2), "the worker outlives its server");
        std::thread::yield_now();
    }
}

#[test]
fn run_by_hand_it_says_so_in_one_line() {
    let output = std::process::Command::new(BINARY).output().unwrap();
    assert_eq!(output.status.code(), Some(2));
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(said.starts_with("migrator-worker: not started by migrator") && said.lines().count() == 1, "{said}");
}

/// Prints the round trip of a batch of one over the wire; `cargo test --release -p migrator-worker -- --ignored --nocapture round_trip`.
#[tokio::test]
#[ignore = "a measurement"]
async fn round_trip() {
    let bench = Bench::ready().await;
    let row = Bytes::from(vec![0; 16]);
    let mut times = Vec::new();
    let mut computes = Vec::new();
    for _ in 0..5000 {
        let start = Instant::now();
        let (answer, _) = bench.worker.call(infer(1), vec![row.clone()]).await.unwrap();
        times.push(start.elapsed().as_micros());
        if let FromWorker::Inferred { compute_us, .. } = answer {
            computes.push(compute_us);
        }
    }
    times.sort_unstable();
    computes.sort_unstable();
    println!("round trip: median {} us, p99 {} us; compute: median {} us", times[2500], times[4950], computes[2500]);
}
