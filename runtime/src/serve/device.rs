//! The device that a configuration names.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::Context as _;
use migrator_device::cpu::option::{A100_CREATE_S, A100_DESTROY_S};
use migrator_device::{CpuDevice, CpuOptions, Device, Emulated, NvmlDevice, NvmlOptions};

use crate::config::{Compute, DeviceConfig, DeviceKind, Enforcement};

/// The folder of the fake management library; see `runtime/device/fake-nvml/README.md`.
const FAKE_FOLDER: &str = "MIGRATOR_FAKE_NVML";

/// Opens the device; `record` remembers which instances on NVIDIA's GPUs are ours.
///
/// # Errors
/// What the device says.
pub(crate) fn open(config: &DeviceConfig, record: PathBuf) -> anyhow::Result<Arc<dyn Device>> {
    match config.kind {
        DeviceKind::Cpu => Ok(Arc::new(CpuDevice::new(cores(config)).context("the cpu device could not be set up")?)),
        DeviceKind::Nvidia => nvidia(config, record).context("the NVIDIA device could not be set up"),
    }
}

fn nvidia(config: &DeviceConfig, record: PathBuf) -> anyhow::Result<Arc<dyn Device>> {
    let options =
        NvmlOptions { library: config.library.clone(), take_over: config.take_over, ..NvmlOptions::new(config.gpus.clone(), record) };
    let device = NvmlDevice::open(options)?;
    for difference in device.differences() {
        tracing::warn!("device: {difference}");
    }
    if config.compute == Compute::Cuda {
        return Ok(Arc::new(device));
    }
    let device = Emulated::new(device, &cores(config), fake_folder(config)?.join("claims"))?;
    Ok(Arc::new(device))
}

/// Where the fake management library keeps its host: beside itself, or where the environment says.
fn fake_folder(config: &DeviceConfig) -> anyhow::Result<PathBuf> {
    let beside = config.library.as_deref().and_then(Path::parent).filter(|folder| folder.join("host.toml").exists());
    let named = || std::env::var_os(FAKE_FOLDER).map(PathBuf::from);
    beside.map(Path::to_owned).or_else(named).with_context(|| {
        format!("compute = \"host\" is for the fake management library, which has its host.toml beside it or in the folder that {FAKE_FOLDER} names")
    })
}

fn cores(config: &DeviceConfig) -> CpuOptions {
    CpuOptions {
        cores: config.cores,
        reserved_cores: Some(config.reserved_cores),
        memory_mib: config.memory_mib,
        create_s: config.gpu_times.then_some(A100_CREATE_S),
        destroy_s: config.gpu_times.then_some(A100_DESTROY_S),
        enforcement: match config.enforcement {
            Enforcement::Auto => migrator_device::Enforcement::Auto,
            Enforcement::Cgroup => migrator_device::Enforcement::Cgroup,
            Enforcement::Duty => migrator_device::Enforcement::Duty,
        },
        ..CpuOptions::default()
    }
}
