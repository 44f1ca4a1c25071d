//! What GPUs and MIG devices say about themselves.

use std::ffi::c_char;

use nvml_wrapper_sys::bindings as sys;
use nvml_wrapper_sys::bindings::field_id::NVML_FI_DEV_IS_RESETLESS_MIG_SUPPORTED;

use super::pointer::{Array, Out, field};
use super::{Raw, export};
use crate::Code;
use crate::compute;
use crate::driver::{View, bus_id};

const MIB: u64 = 1024 * 1024;

/// Version word of `nvmlMemory_v2_t`: its size and 2 << 24.
const MEMORY_V2: u32 = 0x0200_0028;

/// What stands where an id does not apply (`nvml.h`).
const NO_ID: u32 = u32::MAX;

export! {
    nvmlDeviceGetUUID(driver, device: Raw, uuid: Array<c_char>, length: u32) {
        let view = driver.device(device.0)?;
        uuid.put_text(length, &driver.uuid(&view))?;
    }

    nvmlDeviceGetName(driver, device: Raw, name: Array<c_char>, length: u32) {
        let view = driver.device(device.0)?;
        name.put_text(length, &driver.name(&view))?;
    }

    nvmlDeviceGetIndex(driver, device: Raw, index: Out<u32>) {
        let view = driver.device(device.0)?;
        index.put(view.mig.map_or(view.index as u32, |(_, compute)| compute.device))?;
    }

    nvmlDeviceGetMinorNumber(driver, device: Raw, minor: Out<u32>) {
        minor.put(driver.whole(device.0)?.index as u32)?;
    }

    nvmlDeviceGetPciInfo_v3(driver, device: Raw, pci: Out<sys::nvmlPciInfo_t>) {
        let index = driver.whole(device.0)?.index;
        let bus = bus_id(index);
        pci.put(sys::nvmlPciInfo_t {
            busIdLegacy: field(&bus[4..]),
            domain: 0,
            bus: index as u32 + 1,
            device: 0,
            pciDeviceId: 0x10de,
            pciSubSystemId: 0,
            busId: field(&bus),
        })?;
    }

    nvmlDeviceGetCudaComputeCapability(driver, device: Raw, major: Out<i32>, minor: Out<i32>) {
        let (first, second) = driver.device(device.0)?.capability();
        major.put(first as i32)?;
        minor.put(second as i32)?;
    }

    nvmlDeviceGetArchitecture(driver, device: Raw, architecture: Out<u32>) {
        architecture.put(match driver.device(device.0)?.capability() {
            (7, 5) => sys::NVML_DEVICE_ARCH_TURING,
            (8, 9) => sys::NVML_DEVICE_ARCH_ADA,
            (8, _) => sys::NVML_DEVICE_ARCH_AMPERE,
            (9, _) => sys::NVML_DEVICE_ARCH_HOPPER,
            (10.., _) => sys::NVML_DEVICE_ARCH_BLACKWELL,
            _ => sys::NVML_DEVICE_ARCH_UNKNOWN,
        })?;
    }

    nvmlDeviceGetMemoryInfo(driver, device: Raw, memory: Out<sys::nvmlMemory_t>) {
        let view = driver.device(device.0)?;
        let (total, used) = driver.memory_mib(&view);
        memory.put(sys::nvmlMemory_t { total: total * MIB, free: (total - used) * MIB, used: used * MIB })?;
    }

    nvmlDeviceGetMemoryInfo_v2(driver, device: Raw, memory: Out<sys::nvmlMemory_v2_t>) {
        let version = memory.versioned::<u32>().get()?;
        if version != MEMORY_V2 {
            return Err(Code::VERSION_MISMATCH);
        }
        let view = driver.device(device.0)?;
        let (total, used) = driver.memory_mib(&view);
        let (free, used) = ((total - used) * MIB, used * MIB);
        memory.put(sys::nvmlMemory_v2_t { version, total: total * MIB, reserved: 0, free, used })?;
    }

    nvmlDeviceGetUtilizationRates(driver, device: Raw, rates: Out<sys::nvmlUtilization_t>) {
        let view = driver.device(device.0)?;
        if view.gpu.mig {
            return Err(Code::NOT_SUPPORTED);
        }
        let gpu = if driver.users(&view).is_empty() { 0 } else { 100 };
        rates.put(sys::nvmlUtilization_t { gpu, memory: 0 })?;
    }

    nvmlDeviceGetComputeRunningProcesses_v3(driver, device: Raw, count: Out<u32>, processes: Array<sys::nvmlProcessInfo_t>) {
        let view = driver.device(device.0)?;
        let told: Vec<sys::nvmlProcessInfo_t> = driver.processes(&view).iter().map(|process| sys::nvmlProcessInfo_t {
            pid: process.pid,
            usedGpuMemory: process.memory_mib * MIB,
            gpuInstanceId: process.mig.map_or(NO_ID, |mig| mig.0),
            computeInstanceId: process.mig.map_or(NO_ID, |mig| mig.1),
        }).collect();
        processes.put_at_most(count, &told)?;
    }

    nvmlDeviceGetFieldValues(driver, device: Raw, count: i32, values: Array<sys::nvmlFieldValue_t>) {
        let view = driver.device(device.0)?;
        for place in values.places(usize::try_from(count).map_err(|_| Code::INVALID_ARGUMENT)?)? {
            place.put(answered(&view, place.get()?))?;
        }
    }

    nvmlDeviceGetAttributes_v2(driver, device: Raw, attributes: Out<sys::nvmlDeviceAttributes_t>) {
        attributes.put(of_mig(&driver.device(device.0)?)?)?;
    }

    nvmlDeviceGetMigMode(driver, device: Raw, current: Out<u32>, pending: Out<u32>) {
        let (now, later) = driver.mode(device.0)?;
        current.put(u32::from(now))?;
        pending.put(u32::from(later))?;
    }

    nvmlDeviceSetMigMode(driver, device: Raw, mode: u32, activation: Out<u32>) {
        if mode > sys::NVML_DEVICE_MIG_ENABLE {
            return Err(Code::INVALID_ARGUMENT);
        }
        let status = driver.set_mode(device.0, mode == sys::NVML_DEVICE_MIG_ENABLE)?;
        activation.put(status.map_or(0, |code| code.0))?;
    }

    nvmlDeviceGetMaxMigDeviceCount(driver, device: Raw, count: Out<u32>) {
        count.put(driver.most_migs(device.0)?)?;
    }

    nvmlDeviceGetMigDeviceHandleByIndex(driver, device: Raw, index: u32, mig: Out<Raw>) {
        mig.put(Raw(driver.mig(device.0, index)?))?;
    }

    nvmlDeviceGetDeviceHandleFromMigDeviceHandle(driver, mig: Raw, device: Out<Raw>) {
        let view = driver.device(mig.0)?;
        view.mig.ok_or(Code::INVALID_ARGUMENT)?;
        device.put(Raw(driver.by_index(view.index)?))?;
    }

    nvmlDeviceIsMigDeviceHandle(driver, device: Raw, is: Out<u32>) {
        is.put(u32::from(driver.device(device.0)?.mig.is_some()))?;
    }

    nvmlDeviceGetGpuInstanceId(driver, device: Raw, id: Out<u32>) {
        let (instance, _) = driver.device(device.0)?.mig.ok_or(Code::INVALID_ARGUMENT)?;
        id.put(instance.id)?;
    }

    nvmlDeviceGetComputeInstanceId(driver, device: Raw, id: Out<u32>) {
        let (_, compute) = driver.device(device.0)?.mig.ok_or(Code::INVALID_ARGUMENT)?;
        id.put(compute.id)?;
    }
}

/// A field with its value; the only one known says whether the MIG mode changes without a reset.
fn answered(view: &View, mut value: sys::nvmlFieldValue_t) -> sys::nvmlFieldValue_t {
    value.nvmlReturn = Code::NOT_SUPPORTED.0;
    if value.fieldId == NVML_FI_DEV_IS_RESETLESS_MIG_SUPPORTED && view.board.instances > 0 {
        value.nvmlReturn = 0;
        value.valueType = sys::nvmlValueType_enum_NVML_VALUE_TYPE_UNSIGNED_INT;
        value.value.uiVal = u32::from(view.board.resetless);
    }
    value
}

fn of_mig(view: &View) -> Result<sys::nvmlDeviceAttributes_t, Code> {
    // NVML knows attributes of MIG devices only.
    let (instance, compute) = view.mig.as_ref().ok_or(Code::NOT_SUPPORTED)?;
    let profile = view.board.by_id(instance.profile).ok_or(Code::UNKNOWN)?;
    let slices = compute.placement.size;
    Ok(sys::nvmlDeviceAttributes_t {
        multiprocessorCount: compute::multiprocessors(profile.multiprocessors, profile.compute_slices, slices),
        sharedCopyEngineCount: u32::from(profile.copy),
        sharedDecoderCount: u32::from(profile.decode),
        sharedEncoderCount: u32::from(profile.encode),
        sharedJpegCount: u32::from(profile.jpeg),
        sharedOfaCount: u32::from(profile.ofa),
        gpuInstanceSliceCount: u32::from(profile.compute_slices),
        computeInstanceSliceCount: u32::from(slices),
        memorySizeMB: profile.memory_mib,
    })
}
