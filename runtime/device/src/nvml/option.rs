//! How an NVIDIA device is opened.

use std::path::PathBuf;
use std::time::Duration;

/// Options of [`NvmlDevice`](crate::NvmlDevice).
#[derive(Clone, Debug)]
pub struct NvmlOptions {
    /// Where NVML is; `None` = the driver's own `libnvidia-ml.so.1`.
    pub library: Option<PathBuf>,
    /// The GPUs that may be managed, by index, UUID or PCI bus id. Nothing is ever changed on another one.
    pub gpus: Vec<String>,
    /// The file that remembers which instances are ours. One device at a time uses it.
    pub record: PathBuf,
    /// Destroys instances that somebody else made on these GPUs and that nothing uses, when the device is opened. They stay otherwise.
    pub take_over: bool,
    /// How long to go on trying to destroy what is in use: a compute instance's end takes tenths of a second to be noticed.
    pub destroy_deadline: Duration,
}

impl NvmlOptions {
    /// The driver's own library, nothing taken over, 10 s to destroy.
    pub fn new(gpus: Vec<String>, record: PathBuf) -> NvmlOptions {
        NvmlOptions { library: None, gpus, record, take_over: false, destroy_deadline: Duration::from_secs(10) }
    }
}
