//! A canary in a tenant's hands, with workers behind the real wire protocol.

use std::collections::BTreeSet;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use migrator_device::{Binding, Device, DeviceError, Gpu, Instance};
use migrator_mig::Site;
use migrator_models::store::Store;
use migrator_models::{Architecture, Source};
use migrator_wire::client::{SpawnOptions, Worker, WorkerHandle};
use migrator_wire::frame::stream::{FrameReader, Rope};
use migrator_wire::message::{FailCode, FromWorker, ModelKey, PROTOCOL, ToWorker};
use tokio::runtime::Handle;

use super::*;
use crate::launcher::{Processes, TenantModel};
use crate::message::{AddLabels, AddSamples, Bounds, Labelled, Origin, Sample};

/// A host without GPUs.
struct NoDevice;

impl Device for NoDevice {
    fn gpus(&self) -> Vec<Gpu> {
        Vec::new()
    }

    fn instances(&self) -> Result<Vec<Instance>, DeviceError> {
        Ok(Vec::new())
    }

    fn create(&self, _: u32, _: Site) -> Result<Instance, DeviceError> {
        panic!("nothing is cut here")
    }

    fn destroy(&self, _: u64) -> Result<(), DeviceError> {
        Ok(())
    }

    fn bind(&self, _: u64, _: u32) -> Result<Binding, DeviceError> {
        panic!("nothing is bound here")
    }

    fn stage(&self, _: u32) -> Result<(), DeviceError> {
        Ok(())
    }
}

/// Keeps nothing.
struct NoSamples;

impl SampleStore for NoSamples {
    fn add(&self, _: &str, _: u64, _: &[Sample]) -> Result<(), String> {
        Ok(())
    }

    fn between(&self, _: &str, _: u64, _: u64, _: usize) -> Result<Vec<Sample>, String> {
        Ok(Vec::new())
    }

    fn replay(&self, _: &str, _: u64, _: usize, _: u64) -> Result<Vec<Sample>, String> {
        Ok(Vec::new())
    }

    fn set_bounds(&self, _: &str, _: Bounds) {}

    fn count(&self, _: &str) -> Result<u64, String> {
        Ok(0)
    }
}

/// What a worker does with a batch of the canary.
#[derive(Clone, Copy)]
enum Canary {
    Answers,
    Dies,
    Hangs,
    Fails(FailCode),
}

/// A worker's nature, and what it has been told.
struct Nature {
    canary: Canary,
    /// Versions that it cannot load.
    refuses: BTreeSet<u32>,
    loaded: BTreeSet<u32>,
    unloaded: Vec<u32>,
    batches: Vec<u32>,
}

#[derive(Clone)]
struct Fake {
    nature: Arc<Mutex<Nature>>,
    handle: WorkerHandle,
}

const OLD: u32 = 1;
const NEW: u32 = 2;

impl Fake {
    /// A worker that has a version loaded.
    async fn with(version: u32) -> Fake {
        let nature = Nature {
            canary: Canary::Answers,
            refuses: BTreeSet::new(),
            loaded: [version].into(),
            unloaded: Vec::new(),
            batches: Vec::new(),
        };
        let nature = Arc::new(Mutex::new(nature));
        let (ours, theirs) = tokio::io::duplex(1 << 16);
        tokio::spawn(work(theirs, Arc::clone(&nature)));
        let (read, write) = tokio::io::split(ours);
        let (handle, _) = Worker::attach(read, write, SpawnOptions::new("", "fake")).await.unwrap();
        Fake { nature, handle }
    }

    fn nature(&self) -> MutexGuard<'_, Nature> {
        self.nature.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn behaves(&self, canary: Canary) {
        self.nature().canary = canary;
    }
}

async fn work(pipe: tokio::io::DuplexStream, nature: Arc<Mutex<Nature>>) -> Option<()> {
    let (read, mut write) = tokio::io::split(pipe);
    let mut reader = FrameReader::new(read);
    loop {
        let (id, message, _): (u64, ToWorker, Bytes) = reader.read().await.ok()??;
        let answer = answer(&mut nature.lock().unwrap(), message)?;
        let Some((answer, payload)) = answer else { continue };
        let mut rope = Rope::default();
        rope.push(id, &answer, vec![payload]).ok()?;
        rope.write_to(&mut write).await.ok()?;
    }
}

/// None: it dies; `Some(None)`: it says nothing.
#[expect(clippy::option_option, reason = "both are what a worker may do")]
fn answer(nature: &mut Nature, message: ToWorker) -> Option<Option<(FromWorker, Bytes)>> {
    let failed = |code| FromWorker::Failed { code, message: "so it is".into() };
    let answer = match message {
        ToWorker::Hello { .. } => FromWorker::Hello { protocol: PROTOCOL, pid: 1, torch: "none".into() },
        ToWorker::Load { key: ModelKey(version), .. } if nature.refuses.contains(&version) => failed(FailCode::OutOfMemory),
        ToWorker::Load { key: ModelKey(version), .. } => {
            nature.loaded.insert(version);
            FromWorker::Loaded { load_ms: 0.0, warm_ms: 0.0, timings: Vec::new(), memory_mib: 1 }
        }
        ToWorker::Unload { key: ModelKey(version) } => {
            nature.loaded.remove(&version);
            nature.unloaded.push(version);
            FromWorker::Done
        }
        ToWorker::Infer { key: ModelKey(version), rows, .. } => {
            nature.batches.push(version);
            match nature.canary {
                Canary::Dies if version == NEW => return None,
                Canary::Hangs if version == NEW => return Some(None),
                Canary::Fails(code) if version == NEW => failed(code),
                _ => {
                    let output = Bytes::from(vec![0; rows as usize * 2 * size_of::<f32>()]);
                    return Some(Some((FromWorker::Inferred { rows, compute_us: 1, ended_us: 0 }, output)));
                }
            }
        }
        _ => FromWorker::Done,
    };
    Some(Some((answer, Bytes::new())))
}

struct Bench {
    tenant: Addr<TenantActor>,
    _folder: tempfile::TempDir,
}

impl Bench {
    fn new() -> Bench {
        let folder = tempfile::tempdir().unwrap();
        let store = Arc::new(Store::open(folder.path()).unwrap());
        let source = Source::Architecture { architecture: Architecture::Mlp { features: 1, hidden: vec![] } };
        let spec = ModelSpec { name: "m".into(), classes: 2, max_batch: 4, precision: Default::default(), source };
        let tenants = vec![TenantModel { tenant: "t".into(), spec: spec.clone() }];
        let workers = Box::new(Processes { binary: "".into() });
        let launcher = Arc::new(Launcher::new(workers, Arc::new(NoDevice), store, Handle::current(), tenants, 0));
        let parts = TenantParts {
            id: TenantId(0),
            name: "t".into(),
            spec: Arc::new(spec),
            clock: Clock::start(),
            config: TenantConfig { max_batch: 4, stall: Duration::from_millis(50), ..TenantConfig::default() },
            launcher,
            samples: Arc::new(NoSamples),
            flags: Arc::default(),
            golden: None,
            on_profile: Vec::new(),
        };
        Bench { tenant: TenantActor::new(parts).start(), _folder: folder }
    }

    async fn up(&self, instance: u64, worker: &Fake, version: u32) {
        let message = LaneUp { instance: InstanceId(instance), share: 1.0, handle: worker.handle.clone(), version };
        self.tenant.send(message).await.unwrap();
    }

    /// A lane of each worker, with [`NEW`] as a canary beside [`OLD`].
    async fn with_canary(workers: &[&Fake]) -> Bench {
        let bench = Bench::new();
        for (instance, worker) in workers.iter().enumerate() {
            bench.up(instance as u64, worker, OLD).await;
        }
        bench.begin().await.unwrap();
        bench
    }

    async fn begin(&self) -> Result<(), String> {
        self.tenant.send(BeginCanary { version: NEW, share: 0.5 }).await.unwrap()
    }

    async fn trial(&self) -> Option<Trial> {
        self.tenant.send(AskLive).await.unwrap().1
    }

    /// Two batches to be evaluated, one by each version.
    async fn evaluate(&self) {
        let sample = Sample { features: Bytes::from(vec![0; 4]), label: 0, origin: Origin::Client };
        self.tenant.send(AddSamples { samples: vec![sample; 8] }).await.unwrap().unwrap();
    }

    /// The trial once it is so.
    async fn until(&self, so: impl Fn(&Trial) -> bool) -> Trial {
        let look = async {
            loop {
                if let Some(trial) = self.trial().await.filter(&so) {
                    return trial;
                }
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(Duration::from_secs(30), look).await.expect("it never became so")
    }
}

#[actix::test]
async fn labels_of_what_a_canary_answered_count_for_the_canary() {
    let bench = Bench::with_canary(&[&Fake::with(OLD).await]).await;
    let label = |version, answered| Labelled { features: None, label: 1, answered, version };
    let labels = vec![label(OLD, 1), label(NEW, 1), label(NEW, 0), label(NEW, 1), label(9, 1)];
    bench.tenant.send(AddLabels { labels, origin: Origin::Label }).await.unwrap().unwrap();
    let trial = bench.trial().await.unwrap();
    assert_eq!((trial.canary, trial.service), (Live { version: NEW, right: 2, of: 3 }, Live { version: OLD, right: 1, of: 1 }));
}

#[actix::test]
async fn a_canary_that_kills_or_hangs_its_worker_has_failed() {
    for canary in [Canary::Dies, Canary::Hangs] {
        let worker = Fake::with(OLD).await;
        let bench = Bench::with_canary(&[&worker]).await;
        worker.behaves(canary);
        bench.evaluate().await;
        let trial = bench.until(|trial| trial.failed > 0).await;
        assert_eq!(trial.canary.version, NEW);
    }
}

#[actix::test]
async fn bad_input_does_not_speak_against_a_canary_and_other_failures_do() {
    let worker = Fake::with(OLD).await;
    let bench = Bench::with_canary(&[&worker]).await;
    worker.behaves(Canary::Fails(FailCode::BadInput));
    bench.evaluate().await;
    let trial = bench.until(|trial| trial.service.of == 4).await;
    assert_eq!((trial.failed, trial.canary.of), (0, 0));
    assert!(worker.nature().batches.contains(&NEW));
    worker.behaves(Canary::Fails(FailCode::Torch));
    bench.evaluate().await;
    bench.until(|trial| trial.failed == 1).await;
}

#[actix::test]
async fn a_rejected_canary_is_unloaded_wherever_it_was_loaded() {
    let (first, second) = (Fake::with(OLD).await, Fake::with(OLD).await);
    first.nature().refuses.insert(NEW);
    let bench = Bench::new();
    bench.up(1, &first, OLD).await;
    bench.up(2, &second, OLD).await;
    assert!(bench.begin().await.unwrap_err().contains("out of memory"));
    bench.tenant.send(SwapVersion { version: 3, accuracy: 0.9, held_out: 10 }).await.unwrap().unwrap();
    let gone = async {
        while second.nature().unloaded != [OLD, NEW] {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(30), gone).await.expect("the canary stays loaded");
    assert_eq!(second.nature().loaded, [3].into());
}

#[actix::test]
async fn a_lane_that_cannot_load_the_old_version_rejects_the_canary_and_ends_no_trial() {
    let (first, second) = (Fake::with(OLD).await, Fake::with(NEW).await);
    let bench = Bench::with_canary(&[&first]).await;
    second.nature().refuses.insert(OLD);
    bench.up(2, &second, NEW).await;
    assert_eq!(bench.until(|trial| trial.failed > 0).await.failed, 1);
    bench.tenant.send(SwapVersion { version: 3, accuracy: 0.9, held_out: 10 }).await.unwrap().unwrap();
    assert!(second.nature().loaded.contains(&3));
}

#[actix::test]
async fn a_lane_that_comes_with_the_canary_answers_with_both() {
    let (first, second) = (Fake::with(OLD).await, Fake::with(NEW).await);
    let bench = Bench::with_canary(&[&first]).await;
    bench.up(2, &second, NEW).await;
    let loaded = async {
        while !second.nature().loaded.contains(&OLD) {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(30), loaded).await.expect("the old version is not loaded");
    bench.tenant.send(DrainLane { instance: InstanceId(0) }).await.unwrap();
    bench.evaluate().await;
    bench.until(|trial| (trial.canary.of, trial.service.of) == (4, 4)).await;
    assert_eq!(BTreeSet::from_iter(second.nature().batches.iter().copied()), [OLD, NEW].into());
}
