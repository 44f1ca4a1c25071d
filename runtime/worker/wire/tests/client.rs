//! The client against a fake worker: a thread that speaks the blocking codec over a socket pair.
#![allow(clippy::unwrap_used, reason = "clippy sees #[test] functions as tests, their helpers not")]

use std::io::Write;
use std::os::unix::net::UnixStream as StdUnixStream;
use std::path::PathBuf;
use std::thread::JoinHandle;
use std::time::Duration;

use bytes::Bytes;
use futures::future::join_all;
use migrator_models::{Architecture, ModelSpec, Source, TrainSpec};
use migrator_wire::frame::blocking::{FrameReader, FrameWriter, Payload};
use migrator_wire::message::PROTOCOL;
use migrator_wire::{
    CallError, FailCode, FrameError, FromWorker, ModelKey, SpawnError, SpawnOptions, ToWorker, TrainJob, Worker, WorkerExit, WorkerHandle,
};
use tokio::net::UnixStream;

type Started = Result<(WorkerHandle, WorkerExit), SpawnError>;

/// The fake worker's end.
struct Peer {
    reader: FrameReader<StdUnixStream>,
    writer: FrameWriter<StdUnixStream>,
    raw: StdUnixStream,
}

impl Peer {
    fn next(&mut self) -> Option<(u64, ToWorker, Payload)> {
        self.reader.read::<ToWorker>().unwrap()
    }

    fn answer(&mut self, id: u64, message: FromWorker, payload: &[u8]) {
        self.writer.write(id, &message, &[payload]).unwrap();
    }

    fn hello(&mut self) {
        let (id, message, _) = self.next().unwrap();
        assert_eq!(message, ToWorker::Hello { protocol: PROTOCOL });
        self.answer(id, FromWorker::Hello { protocol: PROTOCOL, pid: 42, torch: "2.11.0".into() }, &[]);
    }
}

/// Attaches to a thread that runs `serve`, from the very first frame on.
async fn attach_raw(options: SpawnOptions, serve: impl FnOnce(Peer) + Send + 'static) -> (Started, JoinHandle<()>) {
    let (ours, theirs) = StdUnixStream::pair().unwrap();
    let thread = std::thread::spawn(move || {
        let (reader, writer) = (theirs.try_clone().unwrap(), theirs.try_clone().unwrap());
        serve(Peer { reader: FrameReader::new(reader), writer: FrameWriter::new(writer), raw: theirs });
    });
    ours.set_nonblocking(true).unwrap();
    let (read, write) = UnixStream::from_std(ours).unwrap().into_split();
    (Worker::attach(read, write, options).await, thread)
}

/// The same, after the greeting.
async fn attach(serve: impl FnOnce(Peer) + Send + 'static) -> (WorkerHandle, WorkerExit, JoinHandle<()>) {
    let serve = |mut peer: Peer| {
        peer.hello();
        serve(peer);
    };
    let (started, thread) = attach_raw(SpawnOptions::new("", "fake"), serve).await;
    let (worker, exit) = started.unwrap();
    (worker, exit, thread)
}

fn infer(rows: u32, inputs: Vec<u64>) -> ToWorker {
    ToWorker::Infer { key: ModelKey(1), rows, inputs }
}

/// Answers every `Infer` with its own rows and payload, until the server is gone.
fn echo(mut peer: Peer) {
    while let Some((id, message, payload)) = peer.next() {
        let ToWorker::Infer { rows, .. } = message else { continue };
        peer.answer(id, FromWorker::Inferred { rows, compute_us: 1, ended_us: 0 }, &payload);
    }
}

fn job() -> TrainJob {
    let architecture = Architecture::Mlp { features: 2, hidden: vec![] };
    let spec = ModelSpec {
        name: "m".into(),
        classes: 2,
        max_batch: 1,
        precision: Default::default(),
        source: Source::Architecture { architecture },
    };
    let path = PathBuf::new;
    TrainJob { spec, base: None, dataset: path(), train: TrainSpec::default(), checkpoint: path(), out: path() }
}

fn progress(step: u64) -> FromWorker {
    FromWorker::Progress { step, steps: 1000, loss: 0.5, core_s: 1.0 }
}

#[tokio::test]
async fn answers_may_come_out_of_order() {
    let (worker, _exit, _) = attach(|mut peer| {
        let asked: Vec<_> = (0..8).map(|_| peer.next().unwrap()).collect();
        for (id, message, payload) in asked.into_iter().rev() {
            let ToWorker::Infer { rows, .. } = message else { panic!("{message:?}") };
            peer.answer(id, FromWorker::Inferred { rows, compute_us: 0, ended_us: 0 }, &payload);
        }
    })
    .await;
    assert_eq!((worker.pid(), worker.torch(), worker.name()), (42, "2.11.0", "fake"));
    let answers = join_all((0..8u8).map(|n| worker.call(infer(n.into(), vec![1]), vec![Bytes::from(vec![n])]))).await;
    for (n, answer) in (0..8u8).zip(answers) {
        let (message, payload) = answer.unwrap();
        assert_eq!(message, FromWorker::Inferred { rows: n.into(), compute_us: 0, ended_us: 0 });
        assert_eq!(payload, [n][..]);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_calls_from_many_tasks_all_get_their_own_answer() {
    let (worker, _exit, _) = attach(echo).await;
    let tasks = (0..50u32).map(|task| {
        let worker = worker.clone();
        tokio::spawn(async move {
            for n in 0..40u32 {
                let bytes = Bytes::from((task * 1000 + n).to_le_bytes().repeat(n as usize));
                let parts = vec![bytes.slice(..bytes.len() / 2), bytes.slice(bytes.len() / 2..)];
                let (_, payload) = worker.call(infer(n, vec![bytes.len() as u64]), parts).await.unwrap();
                assert_eq!(payload, bytes);
            }
        })
    });
    for task in join_all(tasks).await {
        task.unwrap();
    }
}

#[tokio::test]
async fn a_payload_of_64_mib_goes_there_and_back() {
    let (worker, _exit, _) = attach(echo).await;
    let row = Bytes::from((0..1u32 << 18).flat_map(u32::to_le_bytes).collect::<Vec<u8>>());
    let (_, payload) = worker.call(infer(64, vec![64 << 20]), vec![row.clone(); 64]).await.unwrap();
    assert_eq!(payload.len(), 64 << 20);
    assert!(payload.chunks(1 << 20).all(|chunk| chunk == row));
    let slice = payload.slice(5..9);
    assert_eq!(slice.as_ptr(), payload[5..].as_ptr(), "a slice of the answer is the answer's memory");
}

#[tokio::test]
async fn a_refusal_is_an_error_and_the_worker_lives_on() {
    let (worker, _exit, _) = attach(|mut peer| {
        let (id, ..) = peer.next().unwrap();
        peer.answer(id, FromWorker::Failed { code: FailCode::UnknownModel, message: "no model 1".into() }, &[]);
        let (id, ..) = peer.next().unwrap();
        peer.answer(id, FromWorker::Done, &[]);
    })
    .await;
    let error = worker.call(infer(1, vec![]), vec![]).await.unwrap_err();
    assert_eq!(error.to_string(), "unknown model: no model 1");
    assert_eq!(worker.call(ToWorker::Limit { executors: 2 }, vec![]).await.unwrap().0, FromWorker::Done);
}

#[tokio::test]
async fn a_call_without_an_answer_ends_at_its_deadline_and_a_late_answer_harms_nobody() {
    let (worker, _exit, _) = attach(|mut peer| {
        let (late, ..) = peer.next().unwrap();
        let (id, ..) = peer.next().unwrap();
        peer.answer(late, FromWorker::Done, &[]);
        peer.answer(id, FromWorker::Inferred { rows: 3, compute_us: 0, ended_us: 0 }, &[]);
    })
    .await;
    let within = Duration::from_millis(20);
    assert_eq!(worker.call_within(infer(1, vec![]), vec![], within).await.unwrap_err(), CallError::Deadline { within });
    assert!(matches!(worker.call(infer(3, vec![]), vec![]).await.unwrap().0, FromWorker::Inferred { rows: 3, .. }));
}

#[tokio::test]
async fn a_worker_that_dies_in_the_middle_of_a_frame_is_lost_to_every_caller_at_once() {
    let (worker, exit, _) = attach(|mut peer| {
        let (id, ..) = peer.next().unwrap();
        peer.next().unwrap();
        let mut bytes = Vec::new();
        FrameWriter::new(&mut bytes).write(id, &FromWorker::Inferred { rows: 1, compute_us: 0, ended_us: 0 }, &[&[0; 100]]).unwrap();
        peer.raw.write_all(&bytes[..bytes.len() - 1]).unwrap();
    })
    .await;
    let (_, mut training) = worker.train(job()).unwrap();
    assert_eq!(worker.call(infer(1, vec![]), vec![]).await.unwrap_err(), CallError::WorkerLost);
    assert_eq!(training.recv().await, None);
    assert!(!worker.is_alive());
    assert_eq!(worker.call(infer(1, vec![]), vec![]).await.unwrap_err(), CallError::WorkerLost);
    assert_eq!(worker.train(job()).unwrap_err(), CallError::WorkerLost);
    assert_eq!(exit.await.to_string(), "connection closed, the stream ended inside a frame");
}

#[tokio::test]
async fn garbage_loses_the_worker() {
    let (worker, exit, _) = attach(|mut peer| {
        peer.next().unwrap();
        peer.raw.write_all(&[b'x'; 100]).unwrap();
        // Held open: it is the garbage that ends it, not the end of the stream.
        while let Ok(Some(_)) = peer.reader.read::<ToWorker>() {}
    })
    .await;
    assert_eq!(worker.call(infer(1, vec![]), vec![]).await.unwrap_err(), CallError::WorkerLost);
    assert_eq!(exit.await.to_string(), "connection closed, not a frame: it begins with 0x78787878");
}

#[tokio::test]
async fn a_worker_of_another_protocol_does_not_start() {
    let (started, _) = attach_raw(SpawnOptions::new("", "fake"), |mut peer| {
        let (id, ..) = peer.next().unwrap();
        let mut bytes = Vec::new();
        let hello = FromWorker::Hello { protocol: 77, pid: 1, torch: String::new() };
        FrameWriter::new(&mut bytes).write(id, &hello, &[]).unwrap();
        bytes[4] = 77;
        peer.raw.write_all(&bytes).unwrap();
    })
    .await;
    assert!(matches!(started, Err(SpawnError::Protocol(FrameError::Version { found: 77 }))));
}

#[tokio::test]
async fn a_worker_that_says_nothing_does_not_start() {
    let mut options = SpawnOptions::new("", "fake");
    options.deadlines.hello = Duration::from_millis(20);
    let (started, _) = attach_raw(options, |mut peer| while peer.next().is_some() {}).await;
    assert!(matches!(started, Err(SpawnError::Deadline { .. })));
    let (started, _) = attach_raw(SpawnOptions::new("", "fake"), drop).await;
    assert!(matches!(started, Err(SpawnError::Ended { .. })));
    let missing = Worker::spawn(SpawnOptions::new("/nowhere/migrator-worker", "fake")).await;
    assert_eq!(missing.unwrap_err().to_string(), "cannot start /nowhere/migrator-worker");
}

#[tokio::test]
async fn a_process_that_ends_before_hello_is_told_with_its_last_words() {
    let folder = tempfile::tempdir().unwrap();
    let script = folder.path().join("worker");
    std::fs::write(&script, "#!/bin/sh\necho 'cannot find libtorch' >&2\nexit 3\n").unwrap();
    std::fs::set_permissions(&script, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    let error = Worker::spawn(SpawnOptions::new(&script, "fake")).await.unwrap_err();
    let said = "the worker ended before it said hello: exited with code 3; last words: cannot find libtorch";
    assert_eq!(error.to_string(), said);
}

#[tokio::test]
async fn a_slow_receiver_misses_progress_but_never_the_last_answer() {
    let (worker, _exit, _) = attach(|mut peer| {
        let (train, message, _) = peer.next().unwrap();
        assert!(matches!(message, ToWorker::Train(_)));
        (0..500).for_each(|step| peer.answer(train, progress(step), &[]));
        let (id, message, _) = peer.next().unwrap();
        assert_eq!(message, ToWorker::Pause { train });
        peer.answer(train, FromWorker::Paused { step: 500, steps: 1000 }, &[]);
        peer.answer(id, FromWorker::Done, &[]);
        while peer.next().is_some() {}
    })
    .await;
    let (train, mut answers) = worker.train(job()).unwrap();
    worker.call(ToWorker::Pause { train }, vec![]).await.unwrap();
    let mut got = Vec::new();
    while let Some(answer) = answers.recv().await {
        got.push(answer);
    }
    assert_eq!((got.first(), got.last()), (Some(&progress(0)), Some(&FromWorker::Paused { step: 500, steps: 1000 })));
    assert!(got.len() < 100);
}

#[tokio::test]
async fn dropping_the_last_handle_closes_the_connection() {
    let (worker, exit, thread) = attach(|mut peer| while peer.next().is_some() {}).await;
    let other = worker.clone();
    drop(worker);
    assert!(other.is_alive());
    drop(other);
    tokio::task::spawn_blocking(|| thread.join().unwrap()).await.unwrap();
    assert_eq!(exit.await.to_string(), "connection closed");
}
