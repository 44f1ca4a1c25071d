//! A client of NVML: the wrapper, and the raw calls that it lacks, each in one line.
#![allow(dead_code, reason = "each test file uses a part")]
#![allow(clippy::unwrap_used, reason = "a test that cannot begin fails")]
#![allow(unsafe_code, reason = "the raw calls")]
#![allow(clippy::undocumented_unsafe_blocks, reason = "handles and buffers of this file only")]

use std::mem::zeroed;
use std::ptr::{null_mut, without_provenance_mut};

use fake_nvml::{FakeHost, HostSpec};
use nvml_wrapper::Nvml;
use nvml_wrapper_sys::bindings as sys;
use tempfile::TempDir;

pub type Device = sys::nvmlDevice_t;
pub type Gi = sys::nvmlGpuInstance_t;
pub type Ci = sys::nvmlComputeInstance_t;

/// A host in a folder of its own, and a client with a library of its own.
pub struct Client {
    pub host: FakeHost,
    pub nvml: Nvml,
    _folder: TempDir,
}

/// Calls a function of the library by its field, as callers should: the methods panic when a symbol is missing.
macro_rules! raw {
    ($client:expr, $name:ident $(, $arg:expr)*) => { unsafe { ($client.nvml.lib().$name.as_ref().unwrap())($($arg),*) } };
}
#[allow(unused_imports, reason = "each test file uses a part")]
pub(crate) use raw;

pub fn answer<T>(code: u32, value: T) -> Result<T, u32> {
    if code == 0 { Ok(value) } else { Err(code) }
}

impl Client {
    pub fn of(spec: &HostSpec) -> Client {
        let folder = tempfile::tempdir().unwrap();
        let host = FakeHost::create(folder.path(), spec).unwrap();
        let nvml = Nvml::builder().lib_path(host.library().unwrap().as_os_str()).init().unwrap();
        Client { host, nvml, _folder: folder }
    }

    pub fn on(board: &str) -> Client {
        Client::of(&HostSpec::of(&[board]))
    }

    pub fn gpu(&self) -> Device {
        unsafe { self.nvml.device_by_index(0).unwrap().handle() }
    }

    pub fn create(&self, profile: u32, start: u32, size: u32) -> Result<Gi, u32> {
        let (place, mut gi) = (sys::nvmlGpuInstancePlacement_t { start, size }, null_mut());
        let code = raw!(self, nvmlDeviceCreateGpuInstanceWithPlacement, self.gpu(), profile, &place, &mut gi);
        answer(code, gi)
    }

    pub fn create_anywhere(&self, profile: u32) -> Result<Gi, u32> {
        let mut gi = null_mut();
        let code = raw!(self, nvmlDeviceCreateGpuInstance, self.gpu(), profile, &mut gi);
        answer(code, gi)
    }

    pub fn destroy(&self, gi: Gi) -> Result<(), u32> {
        answer(raw!(self, nvmlGpuInstanceDestroy, gi), ())
    }

    pub fn info(&self, gi: Gi) -> Result<sys::nvmlGpuInstanceInfo_t, u32> {
        let mut info = unsafe { zeroed() };
        let code = raw!(self, nvmlGpuInstanceGetInfo, gi, &mut info);
        answer(code, info)
    }

    pub fn create_compute(&self, gi: Gi, profile: u32) -> Result<Ci, u32> {
        let mut ci = null_mut();
        let code = raw!(self, nvmlGpuInstanceCreateComputeInstance, gi, profile, &mut ci);
        answer(code, ci)
    }

    pub fn destroy_compute(&self, ci: Ci) -> Result<(), u32> {
        answer(raw!(self, nvmlComputeInstanceDestroy, ci), ())
    }

    pub fn compute_info(&self, ci: Ci) -> Result<sys::nvmlComputeInstanceInfo_t, u32> {
        let mut info = unsafe { zeroed() };
        let code = raw!(self, nvmlComputeInstanceGetInfo_v2, ci, &mut info);
        answer(code, info)
    }

    /// Handles of the GPU instances of a profile, counted first.
    pub fn instances(&self, profile: u32) -> Result<Vec<Gi>, u32> {
        let mut count = 0;
        answer(raw!(self, nvmlDeviceGetGpuInstances, self.gpu(), profile, null_mut(), &mut count), ())?;
        let mut all = vec![null_mut(); count as usize];
        answer(raw!(self, nvmlDeviceGetGpuInstances, self.gpu(), profile, all.as_mut_ptr(), &mut count), all)
    }

    pub fn placements(&self, profile: u32) -> Result<Vec<(u32, u32)>, u32> {
        let mut count = 0;
        let probe = raw!(self, nvmlDeviceGetGpuInstancePossiblePlacements_v2, self.gpu(), profile, null_mut(), &mut count);
        answer(probe, ())?;
        let mut all = vec![sys::nvmlGpuInstancePlacement_t { start: 0, size: 0 }; count as usize];
        let code = raw!(self, nvmlDeviceGetGpuInstancePossiblePlacements_v2, self.gpu(), profile, all.as_mut_ptr(), &mut count);
        answer(code, all.iter().map(|place| (place.start, place.size)).collect())
    }

    pub fn remaining(&self, profile: u32) -> Result<u32, u32> {
        let mut count = 0;
        answer(raw!(self, nvmlDeviceGetGpuInstanceRemainingCapacity, self.gpu(), profile, &mut count), ())?;
        Ok(count)
    }

    /// The MIG device at an index: its handle, GPU instance, compute instance and UUID.
    pub fn mig(&self, index: u32) -> Result<(Device, u32, u32, String), u32> {
        let mut device = null_mut();
        answer(raw!(self, nvmlDeviceGetMigDeviceHandleByIndex, self.gpu(), index, &mut device), ())?;
        let (mut gi, mut ci) = (0, 0);
        answer(raw!(self, nvmlDeviceGetGpuInstanceId, device, &mut gi), ())?;
        answer(raw!(self, nvmlDeviceGetComputeInstanceId, device, &mut ci), ())?;
        let uuid = unsafe { nvml_wrapper::Device::new(device, &self.nvml) }.uuid().unwrap();
        Ok((device, gi, ci, uuid))
    }

    pub fn set_mode(&self, mig: bool) -> Result<u32, u32> {
        let mut status = 0;
        let code = raw!(self, nvmlDeviceSetMigMode, self.gpu(), u32::from(mig), &mut status);
        answer(code, status)
    }
}

/// A handle that was never given out.
pub fn nonsense<T>() -> *mut T {
    without_provenance_mut(0x1234)
}
