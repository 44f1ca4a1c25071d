//! Starts workers, loads models into them and moves them onto instances.

use std::collections::BTreeMap;
use std::future::Future;
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::Duration;

use migrator_device::{Device, DeviceError};
use migrator_models::store::{Store, StoreError};
use migrator_models::{ModelSpec, Source};
use migrator_solver::{Task, TaskKind, TenantId};
use migrator_wire::client::{CallError, SpawnError, SpawnOptions, Worker, WorkerExit, WorkerHandle};
use migrator_wire::message::{FailCode, FromWorker, ModelKey, ToWorker};
use tokio::runtime::Handle;
use tokio::sync::Semaphore;
use tokio::task::JoinError;
use tokio::time::Instant;

pub mod measure;
mod place;
mod pool;
#[cfg(test)]
mod tests;

/// What the launcher must know of a tenant.
#[derive(Clone, Debug)]
pub struct TenantModel {
    /// The tenant's name, for the names of its workers.
    pub tenant: String,
    /// Its model.
    pub spec: ModelSpec,
}

/// A worker process that is running, and the model that is loaded in it.
#[derive(Debug)]
pub struct Started {
    /// To talk to it.
    pub handle: WorkerHandle,
    /// Resolves when it ends.
    pub exit: WorkerExit,
    /// Version loaded; `None` for a retraining's worker.
    pub version: Option<u32>,
    /// (batch, milliseconds) measured while warming up: of one core's time, or on the instance that the worker attached itself to.
    pub timings: Vec<(u32, f64)>,
    /// Memory in use after loading, MiB: the process's, or the instance's that it attached itself to; 0 when nothing was loaded.
    pub memory_mib: u64,
    /// Seconds from the start of the process to the end of the warm-up.
    pub seconds: f64,
}

/// Why a worker could not be made ready.
#[derive(Debug, thiserror::Error)]
pub enum LaunchError {
    /// The process did not start.
    #[error("worker of {tenant:?} did not start")]
    Spawn {
        /// The tenant.
        tenant: String,
        /// Why.
        #[source]
        source: SpawnError,
    },
    /// The worker refused or is gone.
    #[error("worker of {tenant:?} could not load version {version} of model {model:?}")]
    Load {
        /// The tenant.
        tenant: String,
        /// The model.
        model: String,
        /// The version.
        version: u32,
        /// Why.
        #[source]
        source: CallError,
    },
    /// The worker cannot compute on such a device.
    #[error("worker could not get ready for its device")]
    Prepare(#[source] CallError),
    /// The worker could not compute on the instance it was bound to.
    #[error("worker could not attach itself to {visible}")]
    Attach {
        /// The instance's UUID.
        visible: String,
        /// Why.
        #[source]
        source: CallError,
    },
    /// No room to measure on.
    #[error("no GPU has a free instance to measure a model on")]
    NoRoom,
    /// The worker did not take its limit.
    #[error("worker did not take its number of executors")]
    Limit(#[source] CallError),
    /// The worker answered something else than it should.
    #[error("worker answered {0} out of turn")]
    OutOfTurn(&'static str),
    /// There is nothing to load.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// There is nothing to load.
    #[error("model {0:?} has no complete version in the store; make one with `migrator models train` or `migrator models import`")]
    NoVersion(String),
    /// The device refused the process.
    #[error(transparent)]
    Device(#[from] DeviceError),
    /// A blocking call was cancelled or panicked.
    #[error("a blocking call did not finish")]
    Join(#[from] JoinError),
}

impl LaunchError {
    /// The error and its sources in one line.
    pub fn chain(&self) -> String {
        one_line(self)
    }

    /// Whether the model needs more memory than there was.
    pub fn is_out_of_memory(&self) -> bool {
        let (LaunchError::Load { source, .. } | LaunchError::Attach { source, .. }) = self else { return false };
        matches!(source, CallError::Failed { code: FailCode::OutOfMemory, .. })
    }
}

/// An error and its sources in one line, for logs and clients.
pub fn one_line(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(inner) = source {
        text.push_str(": ");
        text.push_str(&inner.to_string());
        source = inner.source();
    }
    text
}

/// A worker being started: resolves when it has said hello.
pub type Spawning = Pin<Box<dyn Future<Output = Result<(WorkerHandle, WorkerExit), SpawnError>> + Send>>;

/// Where blank workers come from.
pub trait Spawn: Send + Sync {
    /// Starts one; `name` is for logs.
    fn spawn(&self, name: &str) -> Spawning;
}

/// Workers that are processes of this host.
#[derive(Clone, Debug)]
pub struct Processes {
    /// The `migrator-worker` binary.
    pub binary: PathBuf,
}

impl Spawn for Processes {
    fn spawn(&self, name: &str) -> Spawning {
        Box::pin(Worker::spawn(SpawnOptions::new(&self.binary, name)))
    }
}

/// Starts workers; shared by the actors.
pub struct Launcher {
    /// Where blank workers come from.
    pub workers: Box<dyn Spawn>,
    /// Where processes are put.
    pub device: Arc<dyn Device>,
    /// Where models are.
    pub store: Arc<Store>,
    /// Runs the tasks that talk to the workers.
    pub runtime: Handle,
    /// By [`TenantId`].
    tenants: RwLock<Vec<Arc<TenantModel>>>,
    /// Workers that measured the curves at the start, until the first plan wants them.
    stash: Mutex<BTreeMap<TenantId, Started>>,
    /// Processes with libtorch loaded and nothing else, so that a start need not wait for the dynamic linker.
    spares: Mutex<Vec<(WorkerHandle, WorkerExit)>>,
    spare_limit: usize,
    /// A worker that did its work in the staging area and is blank again.
    returned: Mutex<Option<(WorkerHandle, WorkerExit)>>,
    /// Microprofiles at the same time: they take the host's cores from requests.
    pub(crate) microprofiles: Semaphore,
}

impl std::fmt::Debug for Launcher {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Launcher").field("tenants", &self.tenants).finish_non_exhaustive()
    }
}

impl Launcher {
    /// Keeps `spare_limit` blank workers ready once [`Launcher::refill`] was called.
    pub fn new(
        workers: Box<dyn Spawn>,
        device: Arc<dyn Device>,
        store: Arc<Store>,
        runtime: Handle,
        tenants: Vec<TenantModel>,
        spare_limit: usize,
    ) -> Launcher {
        let (stash, spares) = (Mutex::default(), Mutex::default());
        let tenants = RwLock::new(tenants.into_iter().map(Arc::new).collect());
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        let microprofiles = Semaphore::new((cores / CORES_PER_MICROPROFILE).max(1));
        Launcher { workers, device, store, runtime, tenants, stash, spares, spare_limit, returned: Mutex::default(), microprofiles }
    }

    /// Starts a worker in the staging area, with the newest complete version loaded and warm when the task is inference.
    ///
    /// # Errors
    /// [`LaunchError`]; the process is dead then.
    pub async fn stage(self: &Arc<Self>, task: Task) -> Result<Started, LaunchError> {
        if let Some(ready) = self.take_stashed(task).await? {
            return Ok(ready);
        }
        let began = Instant::now();
        let (handle, exit) = self.blank(task.tenant).await?;
        self.fill(task, handle, exit, began).await
    }

    /// Knows one tenant more: its number is the next, or that of one that has left.
    pub fn join(&self, tenant: TenantId, model: TenantModel) {
        let mut tenants = self.tenants.write().unwrap_or_else(PoisonError::into_inner);
        let model = Arc::new(model);
        let known = (tenant.index() + 1).max(tenants.len());
        tenants.resize(known, Arc::clone(&model));
        tenants[tenant.index()] = model;
    }

    /// Ends what was kept for a tenant that has left, or never came.
    pub async fn leave(&self, tenant: TenantId) {
        let kept = self.stash.lock().unwrap_or_else(PoisonError::into_inner).remove(&tenant);
        if let Some(started) = kept {
            started.handle.kill().await;
        }
    }

    /// A tenant's name and model.
    ///
    /// # Panics
    /// When the number was never a tenant's.
    pub fn model(&self, tenant: TenantId) -> Arc<TenantModel> {
        Arc::clone(&self.tenants.read().unwrap_or_else(PoisonError::into_inner)[tenant.index()])
    }

    async fn spawn_staged(&self, tenant: TenantId) -> Result<(WorkerHandle, WorkerExit), LaunchError> {
        let (handle, exit) = self.spawn(tenant).await?;
        let (device, pid) = (Arc::clone(&self.device), handle.pid());
        self.runtime.spawn_blocking(move || device.stage(pid)).await??;
        Ok((handle, exit))
    }

    async fn spawn(&self, tenant: TenantId) -> Result<(WorkerHandle, WorkerExit), LaunchError> {
        let name = self.model(tenant).tenant.clone();
        let spawned = self.runtime.spawn(self.workers.spawn(&name)).await?;
        let (handle, exit) = spawned.map_err(|source| LaunchError::Spawn { tenant: name, source })?;
        if !self.device.computes_on_host() {
            handle.call(ToWorker::Prepare, Vec::new()).await.map_err(LaunchError::Prepare)?;
        }
        Ok((handle, exit))
    }

    async fn fill(&self, task: Task, handle: WorkerHandle, exit: WorkerExit, began: Instant) -> Result<Started, LaunchError> {
        handle.call(ToWorker::Limit { executors: 1 }, Vec::new()).await.map_err(LaunchError::Limit)?;
        let mut started = Started { handle, exit, version: None, timings: Vec::new(), memory_mib: 0, seconds: 0.0 };
        if task.kind == TaskKind::Inference {
            let (version, folder) = self.newest(task.tenant).await?;
            let warm = self.model(task.tenant).spec.batch_sizes();
            let loaded = self.load(&started.handle, task.tenant, version, folder, warm).await?;
            (started.timings, started.memory_mib) = loaded;
            started.version = Some(version);
        }
        started.seconds = began.elapsed().as_secs_f64();
        Ok(started)
    }

    /// Starts a worker in the staging area with a model of somebody's own loaded under `key`, on one executor.
    ///
    /// # Errors
    /// [`LaunchError`]; the process is dead then.
    pub async fn stage_model(
        self: &Arc<Self>,
        tenant: TenantId,
        spec: &ModelSpec,
        folder: PathBuf,
        key: ModelKey,
    ) -> Result<WorkerHandle, LaunchError> {
        let (handle, _) = self.blank(tenant).await?;
        let load = async {
            handle.call(ToWorker::Limit { executors: 1 }, Vec::new()).await.map_err(LaunchError::Limit)?;
            let message = ToWorker::Load { key, spec: spec.clone(), folder, warm: vec![1] };
            handle.call(message, Vec::new()).await.map_err(|source| LaunchError::Load {
                tenant: self.model(tenant).tenant.clone(),
                model: spec.name.clone(),
                version: key.0,
                source,
            })
        };
        match load.await {
            Ok(_) => Ok(handle),
            Err(error) => {
                handle.kill().await;
                Err(error)
            }
        }
    }

    /// The newest complete version of a tenant's model, and its folder.
    ///
    /// # Errors
    /// [`LaunchError::NoVersion`], or what the store says.
    pub async fn newest(&self, tenant: TenantId) -> Result<(u32, PathBuf), LaunchError> {
        let (store, model) = (Arc::clone(&self.store), self.model(tenant).spec.name.clone());
        self.runtime
            .spawn_blocking(move || {
                let latest = store.latest(&model)?;
                for (version, reason) in &latest.skipped {
                    tracing::warn!(model, version, reason = %one_line(reason), "skipping a version that is not complete");
                }
                let newest = latest.found.ok_or_else(|| LaunchError::NoVersion(model.clone()))?.version;
                Ok((newest as u32, store.folder(&model, newest)?))
            })
            .await?
    }

    /// Loads a version into a worker under the key of its number; gives timings and memory.
    ///
    /// # Errors
    /// [`LaunchError::Load`] with what the worker says.
    pub async fn load(
        &self,
        handle: &WorkerHandle,
        tenant: TenantId,
        version: u32,
        folder: PathBuf,
        warm: Vec<u32>,
    ) -> Result<(Vec<(u32, f64)>, u64), LaunchError> {
        let model = self.model(tenant);
        let TenantModel { tenant: name, spec } = &*model;
        let message = ToWorker::Load { key: ModelKey(version), spec: spec.clone(), folder, warm };
        match handle.call(message, Vec::new()).await {
            Ok((FromWorker::Loaded { timings, memory_mib, .. }, _)) => Ok((timings, memory_mib)),
            Ok(_) => Err(LaunchError::OutOfTurn("load")),
            Err(source) => Err(LaunchError::Load { tenant: name.clone(), model: spec.name.clone(), version, source }),
        }
    }

    /// Loads a further version into a worker that already serves an older one of the same model.
    ///
    /// libtorch's kernels are warm there; only a TorchScript module has a profile of its own to build.
    ///
    /// # Errors
    /// [`LaunchError`] with what the store or the worker says.
    pub async fn load_beside(&self, handle: &WorkerHandle, tenant: TenantId, version: u32) -> Result<(), LaunchError> {
        let model = self.model(tenant);
        let spec = &model.spec;
        let warm = match spec.source {
            Source::Architecture { .. } => vec![1],
            Source::Torchscript { .. } => spec.batch_sizes(),
        };
        let folder = self.store.folder(&spec.name, u64::from(version))?;
        self.load(handle, tenant, version, folder, warm).await.map(|_| ())
    }
}

/// One microprofile at a time for so many cores of the host, at least one.
const CORES_PER_MICROPROFILE: usize = 4;

/// How long a worker gets to finish when it is released.
pub const RELEASE: Duration = Duration::from_secs(3);
