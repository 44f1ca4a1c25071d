//! What NVML tells, without its handles.

use migrator_mig::Placement;

/// A profile of a GPU instance; the fields are those of nvml.h.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct GiProfile {
    pub(crate) index: u32,
    pub(crate) id: u32,
    pub(crate) name: Option<String>,
    pub(crate) slices: u32,
    pub(crate) count: u32,
    pub(crate) multiprocessors: u32,
    pub(crate) memory_mib: u64,
}

/// What a GPU instance is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct GiInfo {
    pub(crate) id: u32,
    pub(crate) profile: u32,
    pub(crate) placement: Placement,
}

/// A profile of a compute instance within one kind of GPU instance.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct CiProfile {
    pub(crate) id: u32,
    pub(crate) slices: u32,
    pub(crate) count: u32,
}

/// A process on a GPU.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Running {
    pub(crate) pid: u32,
    pub(crate) gi: u32,
}
