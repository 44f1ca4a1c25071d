//! Workers in memory: they speak the real protocol over a pipe, and computing is sleeping on the paused clock.

use std::collections::{BTreeMap, VecDeque};
use std::path::Path;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use migrator_actors::launcher::{Spawn, Spawning};
use migrator_models::Curve;
use migrator_models::store::WEIGHTS;
use migrator_wire::frame::stream::{FrameReader, Rope};
use migrator_wire::message::PROTOCOL;
use migrator_wire::{FromWorker, ModelKey, SpawnOptions, ToWorker, Worker};
use tokio::io::{AsyncRead, AsyncWrite, DuplexStream, split};
use tokio::sync::{Notify, mpsc};
use tokio::task::JoinSet;
use tokio::time::sleep;

use crate::case::CLASSES;
use crate::device::MemoryDevice;
use crate::train;
use crate::weather::Weather;

/// Bytes that a pipe holds: more than any frame of these tests, so that no write waits.
const PIPE: usize = 1 << 20;

/// What is true of the workers of one tenant.
#[derive(Clone, Debug)]
pub struct Nature {
    /// From the start to the hello, and for loading a further version; the first is loaded in no time.
    pub load: Duration,
    pub curve: Curve,
    pub memory_mib: u64,
    /// Core seconds of a sample and epoch of a retraining.
    pub sample_core_s: f64,
}

/// Starts workers in memory.
pub struct MemoryWorkers {
    device: Arc<MemoryDevice>,
    weather: Weather,
    /// By tenant.
    natures: BTreeMap<String, Nature>,
    started: AtomicU32,
    swaps: Arc<Mutex<Swaps>>,
}

/// Workers that loaded a version beside another, by tenant and version.
pub type Swaps = BTreeMap<(String, u32), u32>;

impl MemoryWorkers {
    pub fn new(device: Arc<MemoryDevice>, weather: Weather, natures: BTreeMap<String, Nature>) -> MemoryWorkers {
        MemoryWorkers { device, weather, natures, started: AtomicU32::new(0), swaps: Arc::default() }
    }

    /// Grows while workers load.
    pub fn swaps(&self) -> Arc<Mutex<Swaps>> {
        Arc::clone(&self.swaps)
    }
}

impl Spawn for MemoryWorkers {
    fn spawn(&self, name: &str) -> Spawning {
        let pid = self.started.fetch_add(1, Ordering::Relaxed) + 1;
        let (nature, device) = (self.natures[name].clone(), Arc::clone(&self.device));
        let (weather, swaps, tenant) = (self.weather.clone(), self.swaps(), name.to_owned());
        let options = SpawnOptions::new("", name);
        Box::pin(async move {
            let (ours, theirs) = tokio::io::duplex(PIPE);
            let (theirs, write) = split(theirs);
            let (answers, outgoing) = mpsc::unbounded_channel();
            tokio::spawn(speak(write, outgoing));
            let work = Work { pid, tenant, nature, device, weather, swaps, answers, models: BTreeMap::new(), training: None };
            tokio::spawn(work.run(theirs));
            let (read, write) = split(ours);
            Worker::attach(read, write, options).await
        })
    }
}

/// A frame and its id.
type Frame<T> = (u64, T, Bytes);

/// Where answers go.
pub type Answers = mpsc::UnboundedSender<Frame<FromWorker>>;

/// One worker.
struct Work {
    pid: u32,
    tenant: String,
    nature: Nature,
    device: Arc<MemoryDevice>,
    weather: Weather,
    swaps: Arc<Mutex<Swaps>>,
    answers: Answers,
    /// The weather that each loaded version knows.
    models: BTreeMap<ModelKey, u64>,
    /// Frame id of the retraining, and how to pause it.
    training: Option<(u64, Arc<Notify>)>,
}

impl Work {
    async fn run(mut self, read: tokio::io::ReadHalf<DuplexStream>) {
        let (tell, mut frames) = mpsc::unbounded_channel();
        let ears = tokio::spawn(listen(read, tell));
        let mut executors = Executors::default();
        let mut open = true;
        while open || executors.busy() {
            tokio::select! {
                biased;
                Some(done) = executors.computing.join_next() => done.expect("a batch is only slept through"),
                frame = frames.recv(), if open => match frame {
                    Some((id, message, _)) => open = self.hear(id, message, &mut executors).await,
                    None => break,
                },
            }
            executors.go_on(&self);
        }
        // Nobody holds the pipe then, which is how the server sees the end.
        ears.abort();
        self.device.ended(self.pid);
    }

    /// Does or begins what it is told; false when that is to end.
    async fn hear(&mut self, id: u64, message: ToWorker, executors: &mut Executors) -> bool {
        match message {
            ToWorker::Hello { .. } => {
                sleep(self.nature.load).await;
                self.answer(id, FromWorker::Hello { protocol: PROTOCOL, pid: self.pid, torch: "none".to_owned() });
            }
            ToWorker::Prepare | ToWorker::Attach { .. } => panic!("these instances move their processes themselves"),
            ToWorker::Limit { executors: count } => {
                executors.count = count as usize;
                self.answer(id, FromWorker::Done);
            }
            ToWorker::Load { key, folder, warm, .. } => self.load(id, key, &folder, &warm),
            ToWorker::Unload { key } => {
                self.models.remove(&key);
                self.answer(id, FromWorker::Done);
            }
            ToWorker::Infer { key, rows, .. } => executors.waiting.push_back((id, key, rows)),
            ToWorker::Train(job) => {
                let pause = Arc::new(Notify::new());
                self.training = Some((id, Arc::clone(&pause)));
                let share = self.device.share(self.pid);
                let (answers, weather) = (self.answers.clone(), self.weather.clone());
                tokio::spawn(train::run(id, job, self.nature.sample_core_s, share, answers, weather, pause));
            }
            ToWorker::Microprofile(_) => panic!("the simulator has no microprofiles, so the case asks for none"),
            ToWorker::Pause { train } => {
                if let Some((_, pause)) = self.training.as_ref().filter(|(id, _)| *id == train) {
                    pause.notify_one();
                }
                self.answer(id, FromWorker::Done);
            }
            ToWorker::Shutdown => return false,
        }
        true
    }

    fn answer(&self, id: u64, message: FromWorker) {
        let _ = self.answers.send((id, message, Bytes::new()));
    }

    fn load(&mut self, id: u64, key: ModelKey, folder: &Path, warm: &[u32]) {
        let took = if self.models.is_empty() { Duration::ZERO } else { self.nature.load };
        if !self.models.is_empty() {
            *self.swaps.lock().unwrap().entry((self.tenant.clone(), key.0)).or_default() += 1;
        }
        self.models.insert(key, known(folder));
        let timings = warm.iter().map(|&batch| (batch, self.nature.curve.core_ms(batch))).collect();
        let loaded = FromWorker::Loaded { load_ms: 0.0, warm_ms: 0.0, timings, memory_mib: self.nature.memory_mib };
        let answers = self.answers.clone();
        tokio::spawn(async move {
            sleep(took).await;
            let _ = answers.send((id, loaded, Bytes::new()));
        });
    }

    /// What a batch takes where the worker is now.
    fn time(&self, rows: u32) -> Duration {
        whole_ms(self.nature.curve.latency_ms(self.device.share(self.pid), rows))
    }
}

/// The weather that a version was trained in.
pub fn known(folder: &Path) -> u64 {
    std::fs::read_to_string(folder.join(WEIGHTS)).unwrap().parse().unwrap()
}

/// What is answered: class 1, which is right, by whoever knows the weather of the moment, and class 0 by others.
pub fn logits(right: bool) -> [u8; CLASSES as usize * size_of::<f32>()] {
    let mut logits = [0; CLASSES as usize * size_of::<f32>()];
    logits[4..8].copy_from_slice(&f32::from(u8::from(right)).to_le_bytes());
    logits
}

/// A span that the clock does not round.
pub fn whole_ms(ms: f64) -> Duration {
    assert!((ms - ms.round()).abs() < 1e-6, "{ms} ms are no whole ones: the clock would round them");
    Duration::from_millis(ms.round() as u64)
}

/// Batches that wait and batches being computed.
#[derive(Default)]
struct Executors {
    count: usize,
    waiting: VecDeque<(u64, ModelKey, u32)>,
    computing: JoinSet<()>,
}

impl Executors {
    fn busy(&self) -> bool {
        !self.waiting.is_empty() || !self.computing.is_empty()
    }

    fn go_on(&mut self, work: &Work) {
        while self.computing.len() < self.count.max(1)
            && let Some((id, key, rows)) = self.waiting.pop_front()
        {
            let (took, answers, weather) = (work.time(rows), work.answers.clone(), work.weather.clone());
            let model = work.models[&key];
            self.computing.spawn(async move {
                sleep(took).await;
                let output = logits(model == weather.now()).repeat(rows as usize);
                let message = FromWorker::Inferred { rows, compute_us: took.as_micros() as u32, ended_us: 0 };
                let _ = answers.send((id, message, Bytes::from(output)));
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

async fn speak(mut write: impl AsyncWrite + Unpin, mut outgoing: mpsc::UnboundedReceiver<Frame<FromWorker>>) {
    while let Some((id, message, payload)) = outgoing.recv().await {
        let mut rope = Rope::default();
        rope.push(id, &message, vec![payload]).expect("a short frame");
        if rope.write_to(&mut write).await.is_err() {
            return;
        }
    }
}
