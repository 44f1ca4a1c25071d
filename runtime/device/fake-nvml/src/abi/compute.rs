//! Compute instances.

use migrator_mig::{BoardProfile, Placement};
use nvml_wrapper_sys::bindings as sys;

use super::instance::placement;
use super::pointer::{Array, In, Out, field};
use super::{Raw, export};
use crate::Code;
use crate::compute::{self, ComputeProfile};
use crate::driver::Driver;
use crate::gpu::GpuInstance;
use crate::handle::Handle;

/// Version words of `nvmlComputeInstanceProfileInfo_v2_t` and `_v3_t`: size and version << 24.
const V2: u32 = 0x0200_0088;
const V3: u32 = 0x0300_008c;

type Place = sys::nvmlComputeInstancePlacement_t;

export! {
    nvmlGpuInstanceGetComputeInstanceProfileInfo(
        driver, instance: Raw, profile: u32, engines: u32, info: Out<sys::nvmlComputeInstanceProfileInfo_t>,
    ) {
        let (whole, _, found) = offer(driver, instance, profile, engines)?;
        info.put(first(whole, &found))?;
    }

    nvmlGpuInstanceGetComputeInstanceProfileInfoV(
        driver, instance: Raw, profile: u32, engines: u32, info: Out<sys::nvmlComputeInstanceProfileInfo_v2_t>,
    ) {
        let (whole, _, found) = offer(driver, instance, profile, engines)?;
        put(whole, &found, info)?;
    }

    nvmlGpuInstanceGetComputeInstanceRemainingCapacity(driver, instance: Raw, profile: u32, count: Out<u32>) {
        let (_, instance, found) = offer(driver, instance, profile, 0)?;
        count.put(instance.free(&found).len() as u32)?;
    }

    nvmlGpuInstanceGetComputeInstancePossiblePlacements(
        driver, instance: Raw, profile: u32, places: Array<Place>, count: Out<u32>,
    ) {
        let (_, _, found) = offer(driver, instance, profile, 0)?;
        let all: Vec<Place> = found.starts.iter().map(|&start| place(Placement { start, size: found.slices })).collect();
        places.put_all(count, &all)?;
    }

    nvmlGpuInstanceCreateComputeInstance(driver, instance: Raw, profile: u32, compute: Out<Raw>) {
        compute.put(Raw(driver.create_compute(instance.0, profile, None)?))?;
    }

    nvmlGpuInstanceCreateComputeInstanceWithPlacement(
        driver, instance: Raw, profile: u32, place: In<Place>, compute: Out<Raw>,
    ) {
        let place = placement(place.get()?.start, place.get()?.size)?;
        compute.put(Raw(driver.create_compute(instance.0, profile, Some(place))?))?;
    }

    nvmlComputeInstanceDestroy(driver, compute: Raw) {
        driver.destroy_compute(compute.0)?;
    }

    nvmlGpuInstanceGetComputeInstances(driver, instance: Raw, profile: u32, computes: Array<Raw>, count: Out<u32>) {
        let handles: Vec<Raw> = driver.computes(instance.0, profile)?.into_iter().map(Raw).collect();
        computes.put_all(count, &handles)?;
    }

    nvmlGpuInstanceGetComputeInstanceById(driver, instance: Raw, id: u32, compute: Out<Raw>) {
        compute.put(Raw(driver.compute_by_id(instance.0, id)?))?;
    }

    nvmlComputeInstanceGetInfo_v2(driver, compute: Raw, info: Out<sys::nvmlComputeInstanceInfo_t>) {
        info.put(told(driver, compute)?)?;
    }

    nvmlComputeInstanceGetInfo(driver, compute: Raw, info: Out<sys::nvmlComputeInstanceInfo_t>) {
        info.put(told(driver, compute)?)?;
    }
}

fn place(placement: Placement) -> Place {
    Place { start: u32::from(placement.start), size: u32::from(placement.size) }
}

/// `device` is the GPU and not the MIG device, as on hardware (`reference/nvml-mig.md` section 2.6).
fn told(driver: &Driver, compute: Raw) -> Result<sys::nvmlComputeInstanceInfo_t, Code> {
    let (view, instance, found) = driver.compute(compute.0)?;
    let handle = Handle::Instance { gpu: view.index, number: instance.number };
    Ok(sys::nvmlComputeInstanceInfo_t {
        device: std::ptr::without_provenance_mut(driver.by_index(view.index)?),
        gpuInstance: std::ptr::without_provenance_mut(handle.encode()),
        id: found.id,
        profileId: found.profile,
        placement: place(found.placement),
    })
}

/// A profile of compute instances, the GPU instance that offers it, and that one's profile. Engines are shared (profile 0) or nothing.
fn offer(driver: &Driver, raw: Raw, profile: u32, engines: u32) -> Result<(&'static BoardProfile, GpuInstance, ComputeProfile), Code> {
    let (view, instance) = driver.instance(raw.0)?;
    if engines != sys::NVML_COMPUTE_INSTANCE_ENGINE_PROFILE_SHARED {
        return Err(Code::INVALID_ARGUMENT);
    }
    let whole = view.board.by_id(instance.profile).ok_or(Code::UNKNOWN)?;
    let found = compute::profile(whole.compute_slices, profile)?;
    Ok((whole, instance, found))
}

fn first(whole: &BoardProfile, found: &ComputeProfile) -> sys::nvmlComputeInstanceProfileInfo_t {
    sys::nvmlComputeInstanceProfileInfo_t {
        id: found.id,
        sliceCount: u32::from(found.slices),
        instanceCount: found.starts.len() as u32,
        multiprocessorCount: compute::multiprocessors(whole.multiprocessors, whole.compute_slices, found.slices),
        sharedCopyEngineCount: u32::from(whole.copy),
        sharedDecoderCount: u32::from(whole.decode),
        sharedEncoderCount: u32::from(whole.encode),
        sharedJpegCount: u32::from(whole.jpeg),
        sharedOfaCount: u32::from(whole.ofa),
    }
}

fn put(whole: &BoardProfile, found: &ComputeProfile, info: Out<sys::nvmlComputeInstanceProfileInfo_v2_t>) -> Result<(), Code> {
    let sys::nvmlComputeInstanceProfileInfo_t {
        id,
        sliceCount,
        instanceCount,
        multiprocessorCount,
        sharedCopyEngineCount,
        sharedDecoderCount,
        sharedEncoderCount,
        sharedJpegCount,
        sharedOfaCount,
    } = first(whole, found);
    let version = info.versioned::<u32>().get()?;
    // A share is called by both: `1c.3g.40gb`.
    let shared = if found.slices == whole.compute_slices { String::new() } else { format!("{}c.", found.slices) };
    let name = field(&format!("MIG {shared}{}", whole.name));
    match version {
        V2 => info.put(sys::nvmlComputeInstanceProfileInfo_v2_t {
            version,
            id,
            sliceCount,
            instanceCount,
            multiprocessorCount,
            sharedCopyEngineCount,
            sharedDecoderCount,
            sharedEncoderCount,
            sharedJpegCount,
            sharedOfaCount,
            name,
        }),
        V3 => info.versioned().put(sys::nvmlComputeInstanceProfileInfo_v3_t {
            version,
            id,
            sliceCount,
            instanceCount,
            multiprocessorCount,
            sharedCopyEngineCount,
            sharedDecoderCount,
            sharedEncoderCount,
            sharedJpegCount,
            sharedOfaCount,
            name,
            capabilities: if whole.name.ends_with("+gfx") { sys::NVML_COMPUTE_INSTANCE_PROFILE_CAPS_GFX } else { 0 },
        }),
        _ => Err(Code::VERSION_MISMATCH),
    }
}
