//! GPU instances.

use migrator_mig::{BoardProfile, Placement};
use nvml_wrapper_sys::bindings as sys;

use super::pointer::{Array, In, Out, field};
use super::{Raw, export};
use crate::Code;
use crate::driver::{Driver, View};

/// Version words of `nvmlGpuInstanceProfileInfo_v2_t` and `_v3_t`: size and version << 24.
const V2: u32 = 0x0200_0098;
const V3: u32 = 0x0300_0098;

type Place = sys::nvmlGpuInstancePlacement_t;

export! {
    nvmlDeviceGetGpuInstanceProfileInfo(driver, device: Raw, profile: u32, info: Out<sys::nvmlGpuInstanceProfileInfo_t>) {
        let view = driver.whole(device.0)?;
        info.put(first(by_index(&view, profile)?))?;
    }

    nvmlDeviceGetGpuInstanceProfileInfoV(driver, device: Raw, profile: u32, info: Out<sys::nvmlGpuInstanceProfileInfo_v2_t>) {
        let view = driver.whole(device.0)?;
        put(by_index(&view, profile)?, info)?;
    }

    nvmlDeviceGetGpuInstanceProfileInfoByIdV(driver, device: Raw, id: u32, info: Out<sys::nvmlGpuInstanceProfileInfo_v2_t>) {
        let view = driver.whole(device.0)?;
        put(by_id(&view, id)?, info)?;
    }

    nvmlDeviceGetGpuInstancePossiblePlacements_v2(driver, device: Raw, id: u32, places: Array<Place>, count: Out<u32>) {
        places.put_all(count, &placements(driver, device, id)?)?;
    }

    nvmlDeviceGetGpuInstancePossiblePlacements(driver, device: Raw, id: u32, places: Array<Place>, count: Out<u32>) {
        places.put_all(count, &placements(driver, device, id)?)?;
    }

    nvmlDeviceGetGpuInstanceRemainingCapacity(driver, device: Raw, id: u32, count: Out<u32>) {
        let view = driver.whole(device.0)?;
        count.put(view.gpu.remaining(view.board, id)?)?;
    }

    nvmlDeviceCreateGpuInstance(driver, device: Raw, id: u32, instance: Out<Raw>) {
        instance.put(Raw(driver.create(device.0, id, None)?))?;
    }

    nvmlDeviceCreateGpuInstanceWithPlacement(driver, device: Raw, id: u32, place: In<Place>, instance: Out<Raw>) {
        let place = placement(place.get()?.start, place.get()?.size)?;
        instance.put(Raw(driver.create(device.0, id, Some(place))?))?;
    }

    nvmlGpuInstanceDestroy(driver, instance: Raw) {
        driver.destroy(instance.0)?;
    }

    nvmlDeviceGetGpuInstances(driver, device: Raw, id: u32, instances: Array<Raw>, count: Out<u32>) {
        let handles: Vec<Raw> = driver.instances(device.0, id)?.into_iter().map(Raw).collect();
        instances.put_all(count, &handles)?;
    }

    nvmlDeviceGetGpuInstanceById(driver, device: Raw, id: u32, instance: Out<Raw>) {
        instance.put(Raw(driver.instance_by_id(device.0, id)?))?;
    }

    nvmlGpuInstanceGetInfo(driver, instance: Raw, info: Out<sys::nvmlGpuInstanceInfo_t>) {
        let (view, found) = driver.instance(instance.0)?;
        info.put(sys::nvmlGpuInstanceInfo_t {
            device: std::ptr::without_provenance_mut(driver.by_index(view.index)?),
            id: found.id,
            profileId: found.profile,
            placement: place(found.placement),
        })?;
    }
}

/// A placement as callers write it; one beyond any GPU's slices is none.
pub(super) fn placement(start: u32, size: u32) -> Result<Placement, Code> {
    let small = |number: u32| u8::try_from(number).map_err(|_| Code::INVALID_ARGUMENT);
    Ok(Placement { start: small(start)?, size: small(size)? })
}

fn place(placement: Placement) -> Place {
    Place { start: u32::from(placement.start), size: u32::from(placement.size) }
}

/// Indexes end where the vendor's do; between them are those that this board does not have.
fn by_index(view: &View, index: u32) -> Result<&'static BoardProfile, Code> {
    if index >= sys::NVML_GPU_INSTANCE_PROFILE_COUNT {
        return Err(Code::INVALID_ARGUMENT);
    }
    view.board.by_index(index).ok_or(Code::NOT_SUPPORTED)
}

fn by_id(view: &View, id: u32) -> Result<&'static BoardProfile, Code> {
    if view.board.instances == 0 {
        return Err(Code::NOT_SUPPORTED);
    }
    view.board.by_id(id).ok_or(Code::INVALID_ARGUMENT)
}

fn placements(driver: &Driver, device: Raw, id: u32) -> Result<Vec<Place>, Code> {
    let view = driver.whole(device.0)?;
    let profile = by_id(&view, id)?;
    Ok(profile.starts.iter().map(|&start| place(Placement { start, size: profile.memory_slices })).collect())
}

fn first(profile: &BoardProfile) -> sys::nvmlGpuInstanceProfileInfo_t {
    sys::nvmlGpuInstanceProfileInfo_t {
        id: profile.id,
        isP2pSupported: 0,
        sliceCount: u32::from(profile.compute_slices),
        instanceCount: u32::from(profile.count),
        multiprocessorCount: profile.multiprocessors,
        copyEngineCount: u32::from(profile.copy),
        decoderCount: u32::from(profile.decode),
        encoderCount: u32::from(profile.encode),
        jpegCount: u32::from(profile.jpeg),
        ofaCount: u32::from(profile.ofa),
        memorySizeMB: profile.memory_mib,
    }
}

/// The second and the third version are of one size, and their version word tells which one the caller has.
fn put(profile: &BoardProfile, info: Out<sys::nvmlGpuInstanceProfileInfo_v2_t>) -> Result<(), Code> {
    let sys::nvmlGpuInstanceProfileInfo_t {
        id,
        isP2pSupported,
        sliceCount,
        instanceCount,
        multiprocessorCount,
        copyEngineCount,
        decoderCount,
        encoderCount,
        jpegCount,
        ofaCount,
        memorySizeMB,
    } = first(profile);
    let version = info.versioned::<u32>().get()?;
    let name = field(&format!("MIG {}", profile.name));
    match version {
        V2 => info.put(sys::nvmlGpuInstanceProfileInfo_v2_t {
            version,
            id,
            isP2pSupported,
            sliceCount,
            instanceCount,
            multiprocessorCount,
            copyEngineCount,
            decoderCount,
            encoderCount,
            jpegCount,
            ofaCount,
            memorySizeMB,
            name,
        }),
        V3 => info.versioned().put(sys::nvmlGpuInstanceProfileInfo_v3_t {
            version,
            id,
            sliceCount,
            instanceCount,
            multiprocessorCount,
            copyEngineCount,
            decoderCount,
            encoderCount,
            jpegCount,
            ofaCount,
            memorySizeMB,
            name,
            capabilities: if profile.name.ends_with("+gfx") { sys::NVML_GPU_INSTANCE_PROFILE_CAPS_GFX } else { 0 },
        }),
        _ => Err(Code::VERSION_MISMATCH),
    }
}
