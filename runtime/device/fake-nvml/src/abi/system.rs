//! Beginning, end, versions and finding GPUs.

use std::ffi::{CStr, c_char};

use nvml_wrapper_sys::bindings as sys;

use super::pointer::{Array, Name, Out};
use super::{Raw, export, init, shutdown};
use crate::Code;

/// CUDA 13.0, as `nvmlSystemGetCudaDriverVersion` writes it.
const CUDA: i32 = 13_000;

/// `nvmlInit_v2` of `nvml.h`.
// SAFETY: the name is NVML's own, and nothing else in the process has it.
#[unsafe(no_mangle)]
pub extern "C" fn nvmlInit_v2() -> sys::nvmlReturn_t {
    init().err().map_or(0, |code| code.0)
}

/// `nvmlInitWithFlags` of `nvml.h`; the flags say what may be missing, and nothing is.
// SAFETY: the name is NVML's own, and nothing else in the process has it.
#[unsafe(no_mangle)]
pub extern "C" fn nvmlInitWithFlags(_flags: u32) -> sys::nvmlReturn_t {
    nvmlInit_v2()
}

/// `nvmlShutdown` of `nvml.h`.
// SAFETY: the name is NVML's own, and nothing else in the process has it.
#[unsafe(no_mangle)]
pub extern "C" fn nvmlShutdown() -> sys::nvmlReturn_t {
    shutdown().err().map_or(0, |code| code.0)
}

/// `nvmlErrorString` of `nvml.h`.
// SAFETY: the name is NVML's own, and nothing else in the process has it.
#[unsafe(no_mangle)]
pub extern "C" fn nvmlErrorString(code: sys::nvmlReturn_t) -> *const c_char {
    let text: &CStr = match Code(code) {
        Code(0) => c"The operation was successful",
        Code::UNINITIALIZED => c"NVML was not first initialized with nvmlInit()",
        Code::INVALID_ARGUMENT => c"A supplied argument is invalid",
        Code::NOT_SUPPORTED => c"The requested operation is not available on target device",
        Code::NO_PERMISSION => c"The current user does not have permission for operation",
        Code::NOT_FOUND => c"A query to find an object was unsuccessful",
        Code::INSUFFICIENT_SIZE => c"An input argument is not large enough",
        Code::DRIVER_NOT_LOADED => c"NVIDIA driver is not loaded",
        Code::TIMEOUT => c"User provided timeout passed",
        Code::GPU_IS_LOST => c"The GPU has fallen off the bus or has otherwise become inaccessible",
        Code::RESET_REQUIRED => c"The GPU requires a reset before it can be used again",
        Code::IN_USE => c"In use by another client",
        Code::INSUFFICIENT_RESOURCES => c"Ran out of critical resources, other than memory",
        Code::VERSION_MISMATCH => c"The provided version is invalid/unsupported",
        _ => c"An internal driver error occurred",
    };
    text.as_ptr()
}

export! {
    nvmlSystemGetDriverVersion(driver, version: Array<c_char>, length: u32) {
        version.put_text(length, &driver.host.spec.driver)?;
    }

    nvmlSystemGetNVMLVersion(driver, version: Array<c_char>, length: u32) {
        version.put_text(length, &format!("13.{}", driver.host.spec.driver))?;
    }

    nvmlSystemGetCudaDriverVersion_v2(_driver, version: Out<i32>) {
        version.put(CUDA)?;
    }

    nvmlDeviceGetCount_v2(driver, count: Out<u32>) {
        count.put(driver.count() as u32)?;
    }

    nvmlDeviceGetHandleByIndex_v2(driver, index: u32, device: Out<Raw>) {
        device.put(Raw(driver.by_index(index as usize)?))?;
    }

    nvmlDeviceGetHandleByUUID(driver, uuid: Name, device: Out<Raw>) {
        device.put(Raw(driver.by_uuid(&uuid.get()?)?))?;
    }

    nvmlDeviceGetHandleByPciBusId_v2(driver, bus: Name, device: Out<Raw>) {
        device.put(Raw(driver.by_bus(&bus.get()?)?))?;
    }
}
