//! Workers in memory: they speak the real protocol over a pipe, and computing is sleeping on the paused clock.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use bytes::Bytes;
use migrator_actors::launcher::{Spawn, Spawning};
use migrator_models::Curve;
use migrator_wire::frame::stream::{FrameReader, Rope};
use migrator_wire::message::PROTOCOL;
use migrator_wire::{FailCode, FromWorker, SpawnOptions, ToWorker, Worker};
use tokio::io::{AsyncRead, DuplexStream, split};
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::sleep;

use crate::device::MemoryDevice;

/// Bytes that a pipe holds: more than any frame of these tests, so that no write waits.
const PIPE: usize = 1 << 20;

/// What is true of the workers of one tenant.
#[derive(Clone, Debug)]
pub struct Nature {
    /// From the start to the hello; loading the model takes no time beyond it.
    pub start: Duration,
    pub curve: Curve,
    pub memory_mib: u64,
    pub classes: u32,
}

/// Starts workers in memory.
pub struct MemoryWorkers {
    device: Arc<MemoryDevice>,
    /// By tenant.
    natures: BTreeMap<String, Nature>,
    started: AtomicU32,
}

impl MemoryWorkers {
    pub fn new(device: Arc<MemoryDevice>, natures: BTreeMap<String, Nature>) -> MemoryWorkers {
        MemoryWorkers { device, natures, started: AtomicU32::new(0) }
    }
}

impl Spawn for MemoryWorkers {
    fn spawn(&self, name: &str) -> Spawning {
        let pid = self.started.fetch_add(1, Ordering::Relaxed) + 1;
        let work = Work { pid, nature: self.natures[name].clone(), device: Arc::clone(&self.device) };
        let options = SpawnOptions::new("", name);
        Box::pin(async move {
            let (ours, theirs) = tokio::io::duplex(PIPE);
            tokio::spawn(work.run(theirs));
            let (read, write) = split(ours);
            Worker::attach(read, write, options).await
        })
    }
}

/// A frame and its id.
type Frame<T> = (u64, T, Bytes);

/// One worker.
struct Work {
    pid: u32,
    nature: Nature,
    device: Arc<MemoryDevice>,
}

impl Work {
    async fn run(self, pipe: DuplexStream) {
        let (read, mut write) = split(pipe);
        let (tell, mut frames) = mpsc::unbounded_channel();
        tokio::spawn(listen(read, tell));
        let mut executors = Executors::default();
        let mut closing = false;
        while !closing || executors.busy() {
            let answer = tokio::select! {
                biased;
                Some(done) = executors.computing.join_next() => match done {
                    Ok(answer) => Some(answer),
                    Err(error) => panic!("a batch was not computed: {error}"),
                },
                frame = frames.recv(), if !closing => match frame {
                    Some((id, message, _)) => self.hear(id, message, &mut executors, &mut closing).await,
                    None => break,
                },
            };
            if let Some((id, message, payload)) = answer {
                let mut rope = Rope::default();
                rope.push(id, &message, vec![payload]).expect("a short frame");
                if rope.write_to(&mut write).await.is_err() {
                    break;
                }
            }
            executors.go_on(&self);
        }
        self.device.ended(self.pid);
    }

    async fn hear(&self, id: u64, message: ToWorker, executors: &mut Executors, closing: &mut bool) -> Option<Frame<FromWorker>> {
        let answer = match message {
            ToWorker::Hello { .. } => {
                sleep(self.nature.start).await;
                FromWorker::Hello { protocol: PROTOCOL, pid: self.pid, torch: "none".to_owned() }
            }
            ToWorker::Limit { executors: count } => {
                executors.count = count as usize;
                FromWorker::Done
            }
            ToWorker::Load { warm, .. } => {
                let timings = warm.iter().map(|&batch| (batch, self.nature.curve.core_ms(batch))).collect();
                FromWorker::Loaded { load_ms: 0.0, warm_ms: 0.0, timings, memory_mib: self.nature.memory_mib }
            }
            ToWorker::Unload { .. } => FromWorker::Done,
            ToWorker::Infer { rows, .. } => {
                executors.waiting.push_back((id, rows));
                return None;
            }
            ToWorker::Shutdown => {
                *closing = true;
                return None;
            }
            other => FromWorker::Failed { code: FailCode::Internal, message: format!("not in this test: {other:?}") },
        };
        Some((id, answer, Bytes::new()))
    }

    /// What a batch takes where the worker is now.
    fn time(&self, rows: u32) -> Duration {
        let ms = self.nature.curve.latency_ms(self.device.share(self.pid), rows);
        assert!((ms - ms.round()).abs() < 1e-6, "{ms} ms are no whole ones: the clock would round them");
        Duration::from_millis(ms.round() as u64)
    }
}

/// Batches that wait and batches being computed.
#[derive(Default)]
struct Executors {
    count: usize,
    waiting: VecDeque<(u64, u32)>,
    computing: JoinSet<Frame<FromWorker>>,
}

impl Executors {
    fn busy(&self) -> bool {
        !self.waiting.is_empty() || !self.computing.is_empty()
    }

    fn go_on(&mut self, work: &Work) {
        while self.computing.len() < self.count.max(1)
            && let Some((id, rows)) = self.waiting.pop_front()
        {
            let (took, bytes) = (work.time(rows), rows as usize * work.nature.classes as usize * size_of::<f32>());
            self.computing.spawn(async move {
                sleep(took).await;
                let message = FromWorker::Inferred { rows, compute_us: took.as_micros() as u32 };
                (id, message, Bytes::from(vec![0; bytes]))
            });
        }
    }
}

async fn listen(read: impl AsyncRead + Unpin, tell: mpsc::UnboundedSender<Frame<ToWorker>>) {
    let mut reader = FrameReader::new(read);
    while let Ok(Some(frame)) = reader.read::<ToWorker>().await {
        if tell.send(frame).is_err() {
            return;
        }
    }
}
