//! Devices that can be cut into instances: trait [`Device`], the `cpu` device that carves up the host's cores, and NVIDIA's GPUs.
//!
//! Knows nothing of tenants, plans or workers' protocol: it creates and destroys instances and puts processes into them.

pub mod cpu;
pub mod emulated;
pub mod nvml;

pub use cpu::CpuDevice;
pub use cpu::option::{CpuOptions, Enforcement};
pub use emulated::Emulated;
pub use nvml::NvmlDevice;
pub use nvml::option::NvmlOptions;

use crossbeam_channel::Receiver;
use migrator_mig::{Catalog, Site};
use serde::{Deserialize, Serialize};

/// A GPU (or the host's cores dressed as one).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Gpu {
    /// Index on this host.
    pub index: u32,
    /// The vendor's UUID, or `cpu-0`.
    pub uuid: String,
    /// Profiles and placements.
    pub catalog: Catalog,
    /// Cores per compute slice on the `cpu` device; 1.0 on a GPU.
    pub cores_per_slice: f64,
}

/// An instance that exists on a device.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Instance {
    /// Never reused while the process lives.
    pub id: u64,
    /// Index of its GPU.
    pub gpu: u32,
    /// Profile and placement.
    pub site: Site,
    /// Cores it may use (`cpu` device); the number of executors and threads follows from it.
    pub share: f64,
    /// Memory it may use, MiB.
    pub memory_mib: u64,
    /// The vendor's UUID, e.g. `MIG-41b36413-…`; `None` where instances have none.
    pub uuid: Option<String>,
    /// Made by somebody else: it is planned around and never touched.
    pub foreign: bool,
}

/// How a process comes to be on an instance.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Binding {
    /// It was moved there.
    Moved,
    /// It must attach itself, once and for good: what it has to set `CUDA_VISIBLE_DEVICES` to before it initialises CUDA.
    Attach {
        /// UUID of the MIG instance, or of the GPU where there is no MIG.
        visible: String,
    },
}

/// Something that happened to a device without being asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DeviceEvent {
    /// The driver reported an Xid error (NVIDIA's table of Xid errors says what the number means).
    Xid {
        /// Index of the GPU.
        gpu: u32,
        /// The instance it happened on, when the driver says so and it is known.
        instance: Option<u64>,
        /// The error's number.
        code: u64,
    },
    /// Somebody else created or destroyed instances; [`Device::instances`] tells them apart.
    Changed {
        /// Index of the GPU.
        gpu: u32,
    },
    /// The GPU does not answer any more; what was on it is gone.
    Lost {
        /// Index of the GPU.
        gpu: u32,
    },
    /// A GPU that was lost answers again, empty.
    Back {
        /// Index of the GPU.
        gpu: u32,
    },
}

/// What an instance is doing, as far as the device tells.
#[derive(Clone, Debug, PartialEq)]
pub struct Usage {
    /// The instance.
    pub instance: u64,
    /// Memory in use, MiB.
    pub memory_mib: u64,
    /// Processes that use it.
    pub processes: Vec<u32>,
    /// Share of the instance's multiprocessors that were busy since the last look, 0..1; Hopper and later.
    pub busy: Option<f64>,
}

/// Something that can be cut into instances. Calls block for as long as the device takes; call them off the async threads.
pub trait Device: Send + Sync {
    /// The GPUs, in index order.
    fn gpus(&self) -> Vec<Gpu>;
    /// Whether instances compute on the host's cores: then a worker needs no CUDA, and is as fast in the staging area as on an
    /// instance of one core.
    fn computes_on_host(&self) -> bool {
        false
    }
    /// What exists now, by GPU and start; left-overs of an earlier run included.
    ///
    /// # Errors
    /// [`DeviceError`] when the device cannot be read.
    fn instances(&self) -> Result<Vec<Instance>, DeviceError>;
    /// Creates an instance at exactly this site.
    ///
    /// # Errors
    /// [`DeviceError::Overlap`] when a memory slice is taken, [`DeviceError::UnknownSite`], or what the device says.
    fn create(&self, gpu: u32, site: Site) -> Result<Instance, DeviceError>;
    /// Destroys an instance.
    ///
    /// # Errors
    /// [`DeviceError::InUse`] while a process is bound to it.
    fn destroy(&self, id: u64) -> Result<(), DeviceError>;
    /// Puts a running process into the instance, or says how it gets there itself; the instance's limits hold from then on.
    ///
    /// # Errors
    /// [`DeviceError`] when there is no such instance or process.
    fn bind(&self, id: u64, pid: u32) -> Result<Binding, DeviceError>;
    /// Puts a running process into the staging area: low priority, outside every instance (workers being preloaded).
    ///
    /// # Errors
    /// [`DeviceError`] when there is no such process, or on a device where a running process cannot leave its instance.
    fn stage(&self, pid: u32) -> Result<(), DeviceError>;
    /// What happens to the device from now on; `None` where nothing can. One receiver gets each event.
    fn events(&self) -> Option<Receiver<DeviceEvent>> {
        None
    }
    /// What each instance is doing; empty where the device does not tell.
    ///
    /// # Errors
    /// [`DeviceError`] when the device cannot be read.
    fn usage(&self) -> Result<Vec<Usage>, DeviceError> {
        Ok(Vec::new())
    }
}

/// What a device refuses or fails at.
#[derive(Debug, thiserror::Error)]
pub enum DeviceError {
    /// A memory slice of the site is taken.
    #[error("placement {start}:{size} on GPU {gpu} overlaps instance {other}")]
    Overlap {
        /// The GPU.
        gpu: u32,
        /// First memory slice asked for.
        start: u8,
        /// Memory slices asked for.
        size: u8,
        /// The instance in the way.
        other: u64,
    },
    /// The catalog has no such profile at such a placement.
    #[error("GPU {gpu} has no profile that may lie at {site:?}")]
    UnknownSite {
        /// The GPU.
        gpu: u32,
        /// The site asked for.
        site: Site,
    },
    /// No such instance.
    #[error("no instance {0}")]
    UnknownInstance(u64),
    /// No such GPU.
    #[error("no GPU {0}")]
    UnknownGpu(u32),
    /// Processes are bound to it.
    #[error("instance {id} is in use by process {pid}")]
    InUse {
        /// The instance.
        id: u64,
        /// One of its processes.
        pid: u32,
    },
    /// Somebody else made it; it is planned around and never touched.
    #[error("instance {0} was made by somebody else")]
    Foreign(u64),
    /// The GPU does not answer any more.
    #[error("GPU {gpu} is lost")]
    Lost {
        /// The GPU.
        gpu: u32,
    },
    /// This user may not do that.
    #[error("{what}: no permission; {remedy}")]
    NoPermission {
        /// What was tried.
        what: String,
        /// What the operator can do.
        remedy: &'static str,
    },
    /// The MIG mode is not what it was when the device was opened, or is about to change.
    #[error("GPU {gpu}: {why}")]
    Mode {
        /// The GPU.
        gpu: u32,
        /// What the mode is, and what the operator can do.
        why: String,
    },
    /// The driver said no.
    #[error("{what}: {text} ({code})")]
    Driver {
        /// The call and the GPU.
        what: String,
        /// The driver's number for it (`nvmlReturn_t`).
        code: u32,
        /// The driver's words for it.
        text: String,
    },
    /// The driver's library cannot be used.
    #[error("cannot use {name}: {why}")]
    Library {
        /// Its file.
        name: String,
        /// Why, and what the operator can do.
        why: String,
    },
    /// The device cannot be opened with these options.
    #[error("{0}")]
    Options(String),
    /// The operating system refused.
    #[error("{what} failed")]
    Os {
        /// What was tried, e.g. `writing cpu.cfs_quota_us of instance 3`.
        what: String,
        /// What it said.
        #[source]
        source: std::io::Error,
    },
}
