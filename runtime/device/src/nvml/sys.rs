//! Calls of NVML: the one file with `unsafe`. Every function here is one call and says nothing about what it is for.
//!
//! Symbols are taken from the fields of `NvmlLib`, not by its methods: those panic where the driver is too old to have them.
#![allow(unsafe_code)]

use std::ffi::{CStr, c_char};
use std::mem;
use std::path::Path;
use std::ptr;

use migrator_mig::Placement;
use nvml_wrapper::Nvml;
use nvml_wrapper_sys::bindings as raw;

pub(crate) use super::data::{CiProfile, GiInfo, GiProfile, Running};
use super::fault::{self, Fault};
use crate::DeviceError;

/// Length of the texts that NVML fills in; the longest in nvml.h are 96 (`NVML_DEVICE_NAME_V2_BUFFER_SIZE`).
const TEXT: usize = 96;
/// Room for the processes of one GPU, far more than CUDA gives contexts to; NVML says "insufficient size" when there are more.
const PROCESSES: u32 = 4096;
/// `NVML_STRUCT_VERSION(GpuInstanceProfileInfo, 2)`: size | version << 24, as nvml.h makes it; the macros are not in the bindings.
const PROFILE_INFO_V2: u32 = mem::size_of::<raw::nvmlGpuInstanceProfileInfo_v2_t>() as u32 | 2 << 24;
const MEMORY_V2: u32 = mem::size_of::<raw::nvmlMemory_v2_t>() as u32 | 2 << 24;

macro_rules! handle {
    ($(#[$doc:meta])* $name:ident($of:ty)) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub(crate) struct $name($of);
        // SAFETY: NVML's handles are names of things in the library, which is thread-safe (nvml.h, "Thread safety"); nothing here looks behind them.
        unsafe impl Send for $name {}
        // SAFETY: as above.
        unsafe impl Sync for $name {}
    };
}

handle! {
    /// A GPU, or a MIG device on it.
    DeviceHandle(raw::nvmlDevice_t)
}
handle! {
    /// A GPU instance.
    GiHandle(raw::nvmlGpuInstance_t)
}
handle! {
    /// A compute instance.
    CiHandle(raw::nvmlComputeInstance_t)
}
handle! {
    /// A set of events; to be given back with [`Session::free_events`].
    EventHandle(raw::nvmlEventSet_t)
}
handle! {
    /// A sample of performance counters; to be given back with [`Session::free_sample`].
    SampleHandle(raw::nvmlGpmSample_t)
}

/// What an event set told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct RawEvent {
    pub(crate) device: DeviceHandle,
    pub(crate) kind: u64,
    pub(crate) data: u64,
    pub(crate) gi: u32,
}

/// A loaded and initialised NVML.
#[derive(Debug)]
pub(crate) struct Session {
    nvml: Nvml,
}

/// Calls NVML and turns what it returns into a result.
macro_rules! call {
    ($session:ident, $name:ident($($argument:expr),*)) => {
        match $session.nvml.lib().$name.as_ref() {
            // SAFETY: the signature is nvml.h's; handles come from NVML and every pointer is to a local that outlives the call.
            Ok(function) => $session.check(stringify!($name), unsafe { function($($argument),*) }),
            Err(_) => Err(Fault::missing(stringify!($name))),
        }
    };
}

/// A profile from either version of nvml.h's struct.
macro_rules! gi_profile {
    ($index:expr, $info:ident, $name:expr) => {
        GiProfile {
            index: $index,
            id: $info.id,
            name: $name,
            slices: $info.sliceCount,
            count: $info.instanceCount,
            multiprocessors: $info.multiprocessorCount,
            memory_mib: $info.memorySizeMB,
        }
    };
}

impl Session {
    /// Loads `library`, or the driver's own, and initialises it.
    pub(crate) fn open(library: Option<&Path>) -> Result<Session, DeviceError> {
        let mut builder = Nvml::builder();
        if let Some(path) = library {
            builder.lib_path(path.as_os_str());
        }
        let nvml = builder.init().map_err(|error| fault::unusable(library, &error))?;
        if nvml.lib().nvmlShutdown.is_err() {
            // Its Drop would panic.
            mem::forget(nvml);
            return Err(fault::no_shutdown(library));
        }
        Ok(Session { nvml })
    }

    fn check(&self, call: &'static str, code: raw::nvmlReturn_t) -> Result<(), Fault> {
        match code {
            raw::nvmlReturn_enum_NVML_SUCCESS => Ok(()),
            code => Err(Fault { call, code, text: self.text_of(code) }),
        }
    }

    fn text_of(&self, code: u32) -> String {
        let Ok(function) = self.nvml.lib().nvmlErrorString.as_ref() else { return format!("error {code}") };
        // SAFETY: any code may be asked for; the text is a constant of the library and is copied.
        unsafe {
            let text = function(code);
            if text.is_null() { format!("error {code}") } else { CStr::from_ptr(text).to_string_lossy().into_owned() }
        }
    }

    pub(crate) fn driver_version(&self) -> Result<String, Fault> {
        text(|buffer, length| call!(self, nvmlSystemGetDriverVersion(buffer, length)))
    }

    /// 1000 × major + 10 × minor.
    pub(crate) fn cuda_version(&self) -> Result<i32, Fault> {
        value(|out| call!(self, nvmlSystemGetCudaDriverVersion_v2(out)))
    }

    pub(crate) fn gpu_count(&self) -> Result<u32, Fault> {
        value(|out| call!(self, nvmlDeviceGetCount_v2(out)))
    }

    pub(crate) fn gpu(&self, index: u32) -> Result<DeviceHandle, Fault> {
        let mut handle = ptr::null_mut();
        call!(self, nvmlDeviceGetHandleByIndex_v2(index, &mut handle))?;
        Ok(DeviceHandle(handle))
    }

    pub(crate) fn uuid(&self, device: DeviceHandle) -> Result<String, Fault> {
        text(|buffer, length| call!(self, nvmlDeviceGetUUID(device.0, buffer, length)))
    }

    pub(crate) fn name(&self, device: DeviceHandle) -> Result<String, Fault> {
        text(|buffer, length| call!(self, nvmlDeviceGetName(device.0, buffer, length)))
    }

    pub(crate) fn bus_id(&self, device: DeviceHandle) -> Result<String, Fault> {
        // SAFETY: plain integers and characters, for which zeros are valid.
        let mut pci: raw::nvmlPciInfo_t = unsafe { mem::zeroed() };
        call!(self, nvmlDeviceGetPciInfo_v3(device.0, &mut pci))?;
        Ok(string(&pci.busId))
    }

    pub(crate) fn compute_capability(&self, device: DeviceHandle) -> Result<(i32, i32), Fault> {
        let (mut major, mut minor) = (0, 0);
        call!(self, nvmlDeviceGetCudaComputeCapability(device.0, &mut major, &mut minor))?;
        Ok((major, minor))
    }

    /// Memory in all and in use, bytes.
    pub(crate) fn memory(&self, device: DeviceHandle) -> Result<(u64, u64), Fault> {
        let mut memory = raw::nvmlMemory_v2_t { version: MEMORY_V2, total: 0, reserved: 0, free: 0, used: 0 };
        call!(self, nvmlDeviceGetMemoryInfo_v2(device.0, &mut memory))?;
        Ok((memory.total, memory.used))
    }

    /// The mode and the one after the next reset; 1 = on.
    pub(crate) fn mig_mode(&self, gpu: DeviceHandle) -> Result<(u32, u32), Fault> {
        let (mut current, mut pending) = (0, 0);
        call!(self, nvmlDeviceGetMigMode(gpu.0, &mut current, &mut pending))?;
        Ok((current, pending))
    }

    /// What became of it: an `nvmlReturn_t`, given beside success.
    pub(crate) fn set_mig_mode(&self, gpu: DeviceHandle, on: bool) -> Result<u32, Fault> {
        value(|out| call!(self, nvmlDeviceSetMigMode(gpu.0, u32::from(on), out)))
    }

    pub(crate) fn most_mig_devices(&self, gpu: DeviceHandle) -> Result<u32, Fault> {
        value(|out| call!(self, nvmlDeviceGetMaxMigDeviceCount(gpu.0, out)))
    }

    pub(crate) fn mig_device(&self, gpu: DeviceHandle, index: u32) -> Result<DeviceHandle, Fault> {
        let mut handle = ptr::null_mut();
        call!(self, nvmlDeviceGetMigDeviceHandleByIndex(gpu.0, index, &mut handle))?;
        Ok(DeviceHandle(handle))
    }

    /// Ids of the GPU instance and the compute instance of a MIG device.
    pub(crate) fn mig_ids(&self, mig: DeviceHandle) -> Result<(u32, u32), Fault> {
        let gi = value(|out| call!(self, nvmlDeviceGetGpuInstanceId(mig.0, out)))?;
        let ci = value(|out| call!(self, nvmlDeviceGetComputeInstanceId(mig.0, out)))?;
        Ok((gi, ci))
    }

    /// The profile of this enum index (not id).
    pub(crate) fn gi_profile(&self, gpu: DeviceHandle, index: u32) -> Result<GiProfile, Fault> {
        // SAFETY: plain integers and characters, for which zeros are valid.
        let mut info: raw::nvmlGpuInstanceProfileInfo_v2_t = unsafe { mem::zeroed() };
        info.version = PROFILE_INFO_V2;
        match call!(self, nvmlDeviceGetGpuInstanceProfileInfoV(gpu.0, index, &mut info)) {
            Err(fault) if fault.is_old_driver() => {}
            other => return other.map(|()| gi_profile!(index, info, Some(string(&info.name)).filter(|name| !name.is_empty()))),
        }
        // SAFETY: plain integers, for which zeros are valid.
        let mut info: raw::nvmlGpuInstanceProfileInfo_t = unsafe { mem::zeroed() };
        call!(self, nvmlDeviceGetGpuInstanceProfileInfo(gpu.0, index, &mut info))?;
        Ok(gi_profile!(index, info, None))
    }

    /// Where instances of the profile of this id (not index) may lie.
    pub(crate) fn placements(&self, gpu: DeviceHandle, profile: u32) -> Result<Vec<Placement>, Fault> {
        let mut count = 0;
        call!(self, nvmlDeviceGetGpuInstancePossiblePlacements_v2(gpu.0, profile, ptr::null_mut(), &mut count))?;
        let mut found = vec![raw::nvmlGpuInstancePlacement_t { start: 0, size: 0 }; count as usize];
        if count > 0 {
            call!(self, nvmlDeviceGetGpuInstancePossiblePlacements_v2(gpu.0, profile, found.as_mut_ptr(), &mut count))?;
        }
        found.truncate(count as usize);
        Ok(found.iter().map(placement).collect())
    }

    pub(crate) fn create_gi(&self, gpu: DeviceHandle, profile: u32, at: Placement) -> Result<GiHandle, Fault> {
        let at = raw::nvmlGpuInstancePlacement_t { start: at.start.into(), size: at.size.into() };
        let mut handle = ptr::null_mut();
        call!(self, nvmlDeviceCreateGpuInstanceWithPlacement(gpu.0, profile, &at, &mut handle))?;
        Ok(GiHandle(handle))
    }

    pub(crate) fn destroy_gi(&self, gi: GiHandle) -> Result<(), Fault> {
        call!(self, nvmlGpuInstanceDestroy(gi.0))
    }

    /// The GPU instances of one profile, of which there are at most `most`.
    pub(crate) fn gis(&self, gpu: DeviceHandle, profile: u32, most: u32) -> Result<Vec<GiHandle>, Fault> {
        let found = list(most, ptr::null_mut(), |array, count| call!(self, nvmlDeviceGetGpuInstances(gpu.0, profile, array, count)))?;
        Ok(found.into_iter().map(GiHandle).collect())
    }

    pub(crate) fn gi_info(&self, gi: GiHandle) -> Result<GiInfo, Fault> {
        // SAFETY: integers and a handle, for which zeros are valid.
        let mut info: raw::nvmlGpuInstanceInfo_t = unsafe { mem::zeroed() };
        call!(self, nvmlGpuInstanceGetInfo(gi.0, &mut info))?;
        Ok(GiInfo { id: info.id, profile: info.profileId, placement: placement(&info.placement) })
    }

    /// The profile of this enum index (not id), its engines shared.
    pub(crate) fn ci_profile(&self, gi: GiHandle, index: u32) -> Result<CiProfile, Fault> {
        // SAFETY: plain integers, for which zeros are valid.
        let mut info: raw::nvmlComputeInstanceProfileInfo_t = unsafe { mem::zeroed() };
        let shared = raw::NVML_COMPUTE_INSTANCE_ENGINE_PROFILE_SHARED;
        call!(self, nvmlGpuInstanceGetComputeInstanceProfileInfo(gi.0, index, shared, &mut info))?;
        Ok(CiProfile { id: info.id, slices: info.sliceCount, count: info.instanceCount })
    }

    pub(crate) fn create_ci(&self, gi: GiHandle, profile: u32) -> Result<CiHandle, Fault> {
        let mut handle = ptr::null_mut();
        call!(self, nvmlGpuInstanceCreateComputeInstance(gi.0, profile, &mut handle))?;
        Ok(CiHandle(handle))
    }

    pub(crate) fn destroy_ci(&self, ci: CiHandle) -> Result<(), Fault> {
        call!(self, nvmlComputeInstanceDestroy(ci.0))
    }

    /// The compute instances of one profile, of which there are at most `most`.
    pub(crate) fn cis(&self, gi: GiHandle, profile: u32, most: u32) -> Result<Vec<CiHandle>, Fault> {
        let found =
            list(most, ptr::null_mut(), |array, count| call!(self, nvmlGpuInstanceGetComputeInstances(gi.0, profile, array, count)))?;
        Ok(found.into_iter().map(CiHandle).collect())
    }

    pub(crate) fn ci_id(&self, ci: CiHandle) -> Result<u32, Fault> {
        // SAFETY: integers and handles, for which zeros are valid.
        let mut info: raw::nvmlComputeInstanceInfo_t = unsafe { mem::zeroed() };
        call!(self, nvmlComputeInstanceGetInfo_v2(ci.0, &mut info))?;
        Ok(info.id)
    }

    /// The processes that compute on a GPU or a MIG device.
    pub(crate) fn processes(&self, device: DeviceHandle) -> Result<Vec<Running>, Fault> {
        // SAFETY: plain integers, for which zeros are valid.
        let nobody: raw::nvmlProcessInfo_t = unsafe { mem::zeroed() };
        let found = list(PROCESSES, nobody, |array, count| call!(self, nvmlDeviceGetComputeRunningProcesses_v3(device.0, count, array)))?;
        Ok(found.iter().map(|info| Running { pid: info.pid, gi: info.gpuInstanceId }).collect())
    }

    pub(crate) fn events(&self) -> Result<EventHandle, Fault> {
        let mut set = ptr::null_mut();
        call!(self, nvmlEventSetCreate(&mut set))?;
        Ok(EventHandle(set))
    }

    pub(crate) fn register(&self, gpu: DeviceHandle, kinds: u64, set: EventHandle) -> Result<(), Fault> {
        call!(self, nvmlDeviceRegisterEvents(gpu.0, kinds, set.0))
    }

    pub(crate) fn wait(&self, set: EventHandle, timeout_ms: u32) -> Result<RawEvent, Fault> {
        // SAFETY: integers and a handle, for which zeros are valid.
        let mut data: raw::nvmlEventData_t = unsafe { mem::zeroed() };
        call!(self, nvmlEventSetWait_v2(set.0, &mut data, timeout_ms))?;
        Ok(RawEvent { device: DeviceHandle(data.device), kind: data.eventType, data: data.eventData, gi: data.gpuInstanceId })
    }

    pub(crate) fn free_events(&self, set: EventHandle) -> Result<(), Fault> {
        call!(self, nvmlEventSetFree(set.0))
    }

    /// Whether the GPU has performance counters that NVML can read (Hopper and later).
    pub(crate) fn has_counters(&self, gpu: DeviceHandle) -> Result<bool, Fault> {
        let mut support = raw::nvmlGpmSupport_t { version: raw::NVML_GPM_SUPPORT_VERSION, isSupportedDevice: 0 };
        call!(self, nvmlGpmQueryDeviceSupport(gpu.0, &mut support))?;
        Ok(support.isSupportedDevice != 0)
    }

    /// The counters of a GPU instance, or of the whole GPU.
    pub(crate) fn sample(&self, gpu: DeviceHandle, gi: Option<u32>) -> Result<SampleHandle, Fault> {
        let mut sample = ptr::null_mut();
        call!(self, nvmlGpmSampleAlloc(&mut sample))?;
        let taken = match gi {
            Some(gi) => call!(self, nvmlGpmMigSampleGet(gpu.0, gi, sample)),
            None => call!(self, nvmlGpmSampleGet(gpu.0, sample)),
        };
        if taken.is_err() {
            self.free_sample(SampleHandle(sample));
        }
        taken.map(|()| SampleHandle(sample))
    }

    pub(crate) fn free_sample(&self, sample: SampleHandle) {
        if let Err(fault) = call!(self, nvmlGpmSampleFree(sample.0)) {
            tracing::warn!(%fault, "a sample of performance counters stays allocated");
        }
    }

    /// Share of the multiprocessors that were busy between two samples, percent.
    pub(crate) fn busy_percent(&self, from: SampleHandle, to: SampleHandle) -> Result<f64, Fault> {
        // SAFETY: numbers and pointers, for which zeros are valid. On the heap: it is 8 KiB large.
        let mut asked: Box<raw::nvmlGpmMetricsGet_t> = Box::new(unsafe { mem::zeroed() });
        asked.version = raw::NVML_GPM_METRICS_GET_VERSION;
        asked.numMetrics = 1;
        asked.sample1 = from.0;
        asked.sample2 = to.0;
        asked.metrics[0].metricId = raw::nvmlGpmMetricId_t_NVML_GPM_METRIC_SM_UTIL;
        call!(self, nvmlGpmMetricsGet(&mut *asked))?;
        self.check("nvmlGpmMetricsGet", asked.metrics[0].nvmlReturn)?;
        Ok(asked.metrics[0].value)
    }
}

fn placement(from: &raw::nvmlGpuInstancePlacement_t) -> Placement {
    let byte = |value: u32| u8::try_from(value).unwrap_or(u8::MAX);
    Placement { start: byte(from.start), size: byte(from.size) }
}

fn value<T: Default>(ask: impl FnOnce(*mut T) -> Result<(), Fault>) -> Result<T, Fault> {
    let mut out = T::default();
    ask(&mut out).map(|()| out)
}

fn text(ask: impl FnOnce(*mut c_char, u32) -> Result<(), Fault>) -> Result<String, Fault> {
    let mut buffer = [0; TEXT];
    ask(buffer.as_mut_ptr(), TEXT as u32).map(|()| string(&buffer))
}

fn string(buffer: &[c_char]) -> String {
    let bytes: Vec<u8> = buffer.iter().take_while(|&&c| c != 0).map(|&c| c as u8).collect();
    String::from_utf8_lossy(&bytes).into_owned()
}

/// Lets NVML fill an array of at most `most`.
fn list<T: Clone>(most: u32, empty: T, ask: impl FnOnce(*mut T, *mut u32) -> Result<(), Fault>) -> Result<Vec<T>, Fault> {
    let mut found = vec![empty; most as usize];
    let mut count = most;
    ask(found.as_mut_ptr(), &mut count)?;
    found.truncate(count as usize);
    Ok(found)
}
