//! The launcher on a device whose instances a process must attach itself to, with workers behind the real wire protocol.

use std::sync::{Mutex, PoisonError};

use bytes::Bytes;
use migrator_device::{Binding, Gpu, Instance};
use migrator_mig::{Catalog, Site};
use migrator_models::Architecture;
use migrator_models::store::{Manifest, WEIGHTS};
use migrator_wire::frame::stream::{FrameReader, Rope};
use migrator_wire::message::{FailCode, Moved, PROTOCOL};

use super::*;

const PIPE: usize = 1 << 16;

/// A GPU whose processes attach themselves; a process is bound until it has ended.
#[derive(Default)]
struct AttachDevice {
    state: Mutex<DeviceState>,
}

#[derive(Default)]
struct DeviceState {
    made: u64,
    instances: Vec<Instance>,
    bound: BTreeMap<u32, u64>,
    destroyed: Vec<u64>,
}

impl AttachDevice {
    fn state(&self) -> std::sync::MutexGuard<'_, DeviceState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Device for AttachDevice {
    fn gpus(&self) -> Vec<Gpu> {
        let catalog = Catalog::seven_slices("test", 80_000);
        vec![Gpu { index: 0, uuid: "GPU-0".into(), catalog, cores_per_slice: 1.0 }]
    }

    fn instances(&self) -> Result<Vec<Instance>, DeviceError> {
        Ok(self.state().instances.clone())
    }

    fn create(&self, gpu: u32, site: Site) -> Result<Instance, DeviceError> {
        let mut state = self.state();
        state.made += 1;
        let profile = self.gpus()[0].catalog.profile(site.profile).clone();
        let (id, share) = (state.made, f64::from(profile.compute_slices));
        let uuid = Some(format!("MIG-{id}"));
        let made = Instance { id, gpu, site, share, memory_mib: profile.memory_mib, uuid, foreign: false };
        state.instances.push(made.clone());
        Ok(made)
    }

    fn destroy(&self, id: u64) -> Result<(), DeviceError> {
        let mut state = self.state();
        if let Some((&pid, _)) = state.bound.iter().find(|(_, on)| **on == id) {
            return Err(DeviceError::InUse { id, pid });
        }
        state.instances.retain(|instance| instance.id != id);
        state.destroyed.push(id);
        Ok(())
    }

    fn bind(&self, id: u64, pid: u32) -> Result<Binding, DeviceError> {
        self.state().bound.insert(pid, id);
        Ok(Binding::Attach { visible: format!("MIG-{id}") })
    }

    fn stage(&self, _pid: u32) -> Result<(), DeviceError> {
        Ok(())
    }
}

/// What the workers of a test are like.
#[derive(Clone, Copy, PartialEq)]
enum Nature {
    /// Batches take 8 ms on the host and 1 ms on an instance.
    Sound,
    /// The model fits no instance of fewer than 2 slices.
    Large,
    /// There is no driver.
    Driverless,
    /// Attaching never ends.
    Silent,
}

struct Workers {
    device: Arc<AttachDevice>,
    nature: Nature,
    /// What was said to any of them, in order.
    heard: Arc<Mutex<Vec<String>>>,
}

impl Spawn for Workers {
    fn spawn(&self, name: &str) -> Spawning {
        let (device, nature, heard, options) =
            (Arc::clone(&self.device), self.nature, Arc::clone(&self.heard), SpawnOptions::new("", name));
        let pid = heard.lock().unwrap().iter().filter(|message| message.as_str() == "prepare").count() as u32 + 1;
        Box::pin(async move {
            let (ours, theirs) = tokio::io::duplex(PIPE);
            tokio::spawn(async move {
                let _ = work(theirs, pid, nature, &heard).await;
                device.state().bound.remove(&pid);
            });
            let (read, write) = tokio::io::split(ours);
            Worker::attach(read, write, options).await
        })
    }
}

async fn work(pipe: tokio::io::DuplexStream, pid: u32, nature: Nature, heard: &Mutex<Vec<String>>) -> Option<()> {
    let (read, mut write) = tokio::io::split(pipe);
    let mut reader = FrameReader::new(read);
    let (mut share, mut loaded) = (None, Vec::new());
    loop {
        let (id, message, _): (u64, ToWorker, Bytes) = reader.read().await.ok()??;
        let (word, answer) = match message {
            ToWorker::Hello { .. } => (None, FromWorker::Hello { protocol: PROTOCOL, pid, torch: "none".into() }),
            ToWorker::Prepare => (Some("prepare".to_owned()), FromWorker::Done),
            ToWorker::Limit { executors } => (Some(format!("limit {executors}")), FromWorker::Done),
            ToWorker::Attach { visible, share: slices } => {
                share = Some(slices);
                let moved = |&key: &ModelKey| Moved { key, copy_ms: 2.0, warm_ms: 3.0, timings: vec![(1, 1.0)] };
                let answer = match nature {
                    Nature::Silent => std::future::pending().await,
                    Nature::Driverless => FromWorker::Failed { code: FailCode::NoDevice, message: "no driver".into() },
                    _ => FromWorker::Attached {
                        device: "test".into(),
                        libraries_ms: 0.0,
                        context_ms: 1.0,
                        models: loaded.iter().map(moved).collect(),
                        memory_mib: 700,
                    },
                };
                (Some(format!("attach {visible}")), answer)
            }
            ToWorker::Load { key, .. } => {
                loaded.push(key);
                let timings = vec![(1, if share.is_some() { 1.0 } else { 8.0 })];
                let answer = match (nature, share) {
                    (Nature::Large, Some(..2.0)) => FromWorker::Failed { code: FailCode::OutOfMemory, message: "too large".into() },
                    _ => FromWorker::Loaded { load_ms: 1.0, warm_ms: 1.0, timings, memory_mib: 300 },
                };
                (Some("load".to_owned()), answer)
            }
            ToWorker::Shutdown => return None,
            other => panic!("{other:?}"),
        };
        heard.lock().unwrap().extend(word);
        let mut rope = Rope::default();
        rope.push(id, &answer, Vec::new()).ok()?;
        rope.write_to(&mut write).await.ok()?;
    }
}

struct Bench {
    launcher: Arc<Launcher>,
    device: Arc<AttachDevice>,
    heard: Arc<Mutex<Vec<String>>>,
    _folder: tempfile::TempDir,
}

fn bench(nature: Nature) -> Bench {
    let folder = tempfile::tempdir().unwrap();
    let store = Arc::new(Store::open(folder.path()).unwrap());
    let source = Source::Architecture { architecture: Architecture::Mlp { features: 2, hidden: vec![] } };
    let spec = ModelSpec { name: "m".into(), classes: 2, max_batch: 1, precision: Default::default(), source };
    let staged = store.staging("m").unwrap();
    std::fs::write(staged.join(WEIGHTS), b"any").unwrap();
    store.publish("m", &staged, Manifest::new(spec.clone())).unwrap();
    let (device, heard) = (Arc::new(AttachDevice::default()), Arc::new(Mutex::default()));
    let workers = Workers { device: Arc::clone(&device), nature, heard: Arc::clone(&heard) };
    let tenants = vec![TenantModel { tenant: "t".into(), spec }];
    let on = Arc::clone(&device) as Arc<dyn Device>;
    let launcher = Arc::new(Launcher::new(Box::new(workers), on, store, Handle::current(), tenants, 0));
    Bench { launcher, device, heard, _folder: folder }
}

impl Bench {
    fn heard(&self) -> Vec<String> {
        self.heard.lock().unwrap().clone()
    }

    fn instance(&self, slices: u8) -> Instance {
        let catalog = self.device.gpus().remove(0).catalog;
        let site = catalog.sites().into_iter().find(|site| catalog.profile(site.profile).compute_slices == slices).unwrap();
        self.device.create(0, site).unwrap()
    }
}

fn inference() -> Task {
    Task::inference(TenantId(0))
}

#[tokio::test]
async fn a_staged_worker_attaches_itself_and_its_model_is_timed_there() {
    let bench = bench(Nature::Sound);
    let mut started = bench.launcher.stage(inference()).await.unwrap();
    assert_eq!((&started.timings[..], started.memory_mib), (&[(1, 8.0)][..], 300));
    let instance = bench.instance(2);
    bench.launcher.place(&mut started, instance.id, instance.share).await.unwrap();
    assert_eq!((&started.timings[..], started.memory_mib), (&[(1, 1.0)][..], 700));
    assert_eq!(bench.heard(), ["prepare", "limit 1", "load", "attach MIG-1", "limit 2"]);
}

#[tokio::test]
async fn without_preloading_a_worker_attaches_itself_before_it_loads() {
    let bench = bench(Nature::Sound);
    let instance = bench.instance(3);
    let started = bench.launcher.start_on(inference(), instance.id, instance.share).await.unwrap();
    assert_eq!(started.timings, [(1, 1.0)]);
    assert_eq!(bench.heard(), ["prepare", "attach MIG-1", "limit 1", "load", "limit 3"]);
}

#[tokio::test]
async fn a_worker_that_cannot_attach_itself_is_killed() {
    let bench = bench(Nature::Driverless);
    let mut started = bench.launcher.stage(inference()).await.unwrap();
    let instance = bench.instance(1);
    let error = bench.launcher.place(&mut started, instance.id, 1.0).await.unwrap_err();
    assert_eq!(error.chain(), "worker could not attach itself to MIG-1: no device: no driver");
    started.exit.await;
}

#[tokio::test(start_paused = true)]
async fn attaching_has_a_deadline() {
    let bench = bench(Nature::Silent);
    let mut started = bench.launcher.stage(inference()).await.unwrap();
    let instance = bench.instance(1);
    let error = bench.launcher.place(&mut started, instance.id, 1.0).await.unwrap_err();
    assert!(matches!(error, LaunchError::Attach { source: CallError::Deadline { .. }, .. }), "{error:?}");
    started.exit.await;
}

#[tokio::test]
async fn a_model_is_measured_on_the_smallest_instance_it_fits_into() {
    for (nature, core_ms, made) in [(Nature::Sound, 1.0, 1), (Nature::Large, 2.0, 2)] {
        let bench = bench(nature);
        let measured = bench.launcher.measure(inference()).await.unwrap();
        assert_eq!((&measured.core_ms[..], measured.memory_mib), (&[(1, core_ms)][..], 300));
        let state = bench.device.state();
        assert_eq!((state.made, state.destroyed.len(), state.instances.len()), (made, made as usize, 0));
    }
}

#[tokio::test]
async fn a_full_gpu_has_no_room_to_measure_on() {
    let bench = bench(Nature::Sound);
    bench.instance(7);
    assert!(matches!(bench.launcher.measure(inference()).await, Err(LaunchError::NoRoom)));
}

#[tokio::test]
async fn a_worker_that_is_given_back_is_the_next_and_a_second_one_ends() {
    let bench = bench(Nature::Sound);
    let retraining = Task::retraining(TenantId(0));
    let (first, second) = (bench.launcher.stage(retraining).await.unwrap(), bench.launcher.stage(retraining).await.unwrap());
    let (one, two) = (first.handle.clone(), second.handle.pid());
    bench.launcher.give_back(first.handle, first.exit).await;
    bench.launcher.give_back(second.handle, second.exit).await;
    assert!(!one.is_alive());
    let again = bench.launcher.stage(retraining).await.unwrap();
    assert_eq!(again.handle.pid(), two);
    assert_eq!(bench.heard(), ["prepare", "limit 1", "prepare", "limit 1", "limit 1"]);
    again.handle.kill().await;
    bench.launcher.give_back(again.handle, again.exit).await;
    assert_ne!(bench.launcher.stage(retraining).await.unwrap().handle.pid(), two, "it is dead");
    bench.launcher.close().await;
}
