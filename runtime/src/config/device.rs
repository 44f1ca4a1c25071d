//! `[device]`: what is cut into instances.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

/// `[device]`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct DeviceConfig {
    /// Which device.
    pub kind: DeviceKind,
    /// Cores to cut up; `None` = all of the host's, less `reserved_cores`.
    pub cores: Option<f64>,
    /// Cores left to the server, its solver and the workers being preloaded.
    pub reserved_cores: f64,
    /// Memory to cut up, MiB; `None` = most of what is free.
    pub memory_mib: Option<u64>,
    /// Adds the time an A100 takes to create and destroy instances (0.16–0.42 s).
    pub gpu_times: bool,
    /// How shares are enforced.
    pub enforcement: Enforcement,
    /// GPUs that may be cut up, by index, UUID or PCI bus id; no other is ever changed.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub gpus: Vec<String>,
    /// NVIDIA's management library; `None` = `libnvidia-ml.so.1`, as the dynamic linker finds it.
    pub library: Option<PathBuf>,
    /// Where an instance's work is computed.
    pub compute: Compute,
    /// Whether instances that somebody else made on these GPUs are removed at the start, where nothing uses them.
    pub take_over: bool,
}

/// Kinds of device.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DeviceKind {
    /// The host's cores, dressed as a GPU of 7 compute and 8 memory slices.
    Cpu,
    /// NVIDIA's GPUs, cut by MIG.
    Nvidia,
}

/// How the shares of instances that compute on the host are enforced.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Enforcement {
    /// Control groups where they can be written, else duty cycles.
    Auto,
    /// Control groups, or fail.
    Cgroup,
    /// Duty cycles by signals.
    Duty,
}

/// Where the work of an NVIDIA instance is computed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Compute {
    /// On the instance.
    Cuda,
    /// On the host's cores, in the instance's share of them: for the fake management library.
    Host,
}

impl DeviceConfig {
    /// Whether work is computed on the host's cores.
    pub fn computes_on_host(&self) -> bool {
        self.kind == DeviceKind::Cpu || self.compute == Compute::Host
    }
}

impl Default for DeviceConfig {
    fn default() -> Self {
        DeviceConfig {
            kind: DeviceKind::Cpu,
            cores: None,
            reserved_cores: 0.5,
            memory_mib: None,
            gpu_times: false,
            enforcement: Enforcement::Auto,
            gpus: Vec::new(),
            library: None,
            compute: Compute::Cuda,
            take_over: false,
        }
    }
}
