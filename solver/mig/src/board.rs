//! GPU models as data: what a driver would answer when asked for their MIG profiles.

use serde::{Deserialize, Serialize};

use crate::{Catalog, Profile};

/// A GPU model; `configs/catalog/` holds one file for each.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Board {
    /// Our name for it, e.g. `A100-SXM4-80GB`.
    pub name: String,
    /// What a user may call it on the command line, lower case, e.g. `a100`.
    pub short: Vec<String>,
    /// Names the driver gives to it, e.g. `NVIDIA A100-SXM4-80GB`.
    pub products: Vec<String>,
    /// Where the figures come from.
    pub sources: Vec<String>,
    /// Compute capability, e.g. `8.0`.
    pub compute_capability: String,
    /// Memory of the whole GPU, MiB.
    pub memory_mib: u64,
    /// Multiprocessors of the whole GPU.
    pub multiprocessors: u32,
    /// Compute slices of the whole GPU.
    pub compute_slices: u8,
    /// Memory slices of the whole GPU.
    pub memory_slices: u8,
    /// Most instances at a time; 0 = the GPU has no MIG.
    pub instances: u8,
    /// Whether the MIG mode can be switched without a reset of the GPU (Hopper and later).
    pub resetless: bool,
    /// Every profile the driver offers, by its enum index.
    #[serde(default, rename = "profile")]
    pub profiles: Vec<BoardProfile>,
}

/// A profile of a GPU instance as the driver tells it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BoardProfile {
    /// The vendor's name, e.g. `3g.40gb` or `1g.10gb+me`.
    pub name: String,
    /// Argument of `nvmlDeviceGetGpuInstanceProfileInfo`: `NVML_GPU_INSTANCE_PROFILE_*`.
    pub index: u32,
    /// What creation and placements take; another number than the index.
    pub id: u32,
    /// Compute slices.
    pub compute_slices: u8,
    /// Memory slices.
    pub memory_slices: u8,
    /// Memory of one instance, MiB.
    pub memory_mib: u64,
    /// Multiprocessors of one instance.
    pub multiprocessors: u32,
    /// Most instances of it at a time.
    pub count: u8,
    /// Memory slices at which an instance may start, ascending.
    pub starts: Vec<u8>,
    /// Copy engines.
    pub copy: u8,
    /// Video decoders.
    pub decode: u8,
    /// Video encoders.
    #[serde(default)]
    pub encode: u8,
    /// JPEG decoders.
    pub jpeg: u8,
    /// Optical flow accelerators.
    pub ofa: u8,
}

impl BoardProfile {
    /// Whether it is of the kind the planner deals in: no media extensions, no graphics, no memory beyond its slices' share.
    pub fn is_plain(&self) -> bool {
        // NVML_GPU_INSTANCE_PROFILE_{1,2,3,4,7,8,6}_SLICE: `reference/nvml-mig.md` section 2.6.
        self.index <= 6
    }
}

impl Board {
    /// The profiles that the planner deals in, smallest first.
    pub fn catalog(&self) -> Catalog {
        let mut profiles: Vec<Profile> = self.profiles.iter().filter(|profile| profile.is_plain()).map(profile).collect();
        profiles.sort_by_key(|profile| (profile.compute_slices, profile.memory_slices));
        Catalog { name: self.name.clone(), compute_slices: self.compute_slices, memory_slices: self.memory_slices, profiles }
    }
}

fn profile(from: &BoardProfile) -> Profile {
    Profile {
        name: from.name.clone(),
        compute_slices: from.compute_slices,
        memory_slices: from.memory_slices,
        memory_mib: from.memory_mib,
        starts: from.starts.clone(),
    }
}
