//! What exists on a GPU now: GPU instances first, profile by profile, so that one without a compute instance is seen.

use migrator_mig::Placement;

use super::fault::Fault;
use super::layout::{FIRST_PROFILES, Layout};
use super::sys::{CiHandle, CiProfile, DeviceHandle, GiHandle, GiInfo, Session};

/// Most profiles of compute instances that are asked for; nvml.h of 2026 has 9.
const MOST_PROFILES: u32 = 32;
/// How often a look is tried: somebody else may destroy what is being looked at.
const TRIES: u32 = 3;

/// A GPU instance that exists.
#[derive(Clone, Debug)]
pub(crate) struct Seen {
    pub(crate) info: GiInfo,
    pub(crate) cis: Vec<SeenCi>,
}

/// A compute instance that exists, and the MIG device that it is to CUDA.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct SeenCi {
    pub(crate) id: u32,
    pub(crate) mig: Option<MigDevice>,
}

/// A (GPU instance, compute instance) as CUDA sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct MigDevice {
    pub(crate) handle: DeviceHandle,
    pub(crate) uuid: String,
}

impl Seen {
    /// What is known without asking what the MIG devices are.
    pub(crate) fn bare(info: GiInfo, cis: usize) -> Seen {
        Seen { info, cis: (0..cis as u32).map(|id| SeenCi { id, mig: None }).collect() }
    }

    pub(crate) fn mig(&self) -> Option<&MigDevice> {
        self.cis.first().and_then(|ci| ci.mig.as_ref())
    }

    pub(crate) fn is(&self, gi: u32, profile: u32, placement: Placement) -> bool {
        self.info == GiInfo { id: gi, profile, placement }
    }
}

/// Everything on the GPU, by start. Tries again when something vanished while it was being looked at; never leaves anything out.
pub(crate) fn all(session: &Session, gpu: DeviceHandle, layout: &Layout) -> Result<Vec<Seen>, Fault> {
    let mut last = once(session, gpu, layout);
    for _ in 1..TRIES {
        match &last {
            Err(fault) if fault.is_not_found() || fault.is_invalid() => last = once(session, gpu, layout),
            _ => break,
        }
    }
    last
}

fn once(session: &Session, gpu: DeviceHandle, layout: &Layout) -> Result<Vec<Seen>, Fault> {
    let mut seen: Vec<Seen> = Vec::new();
    for kind in &layout.kinds {
        for (handle, info) in of_profile(session, gpu, layout, kind.profile.id)? {
            let cis = compute_instances(session, handle, kind.profile.slices)?;
            let mut ids = Vec::new();
            for ci in cis {
                ids.push(SeenCi { id: session.ci_id(ci)?, mig: None });
            }
            if seen.iter().all(|other| other.info.id != info.id) {
                seen.push(Seen { info, cis: ids });
            }
        }
    }
    if seen.iter().any(|seen| !seen.cis.is_empty()) {
        name(session, gpu, &mut seen)?;
    }
    seen.sort_by_key(|seen| (seen.info.placement, seen.info.id));
    Ok(seen)
}

/// The GPU instances of one profile.
pub(crate) fn of_profile(session: &Session, gpu: DeviceHandle, layout: &Layout, profile: u32) -> Result<Vec<(GiHandle, GiInfo)>, Fault> {
    let most = layout.kind(profile).map_or(0, |kind| kind.profile.count.max(1));
    session.gis(gpu, profile, most)?.into_iter().map(|gi| Ok((gi, session.gi_info(gi)?))).collect()
}

/// The compute instances of a GPU instance of so many compute slices.
pub(crate) fn compute_instances(session: &Session, gi: GiHandle, slices: u32) -> Result<Vec<CiHandle>, Fault> {
    let mut found = Vec::new();
    for profile in ci_profiles(session, gi, slices)? {
        found.extend(session.cis(gi, profile.id, profile.count.max(1))?);
    }
    Ok(found)
}

/// The profiles that compute instances of a GPU instance of so many compute slices may have; one that takes all of it is among them.
pub(crate) fn ci_profiles(session: &Session, gi: GiHandle, slices: u32) -> Result<Vec<CiProfile>, Fault> {
    let mut found: Vec<CiProfile> = Vec::new();
    let mut invalid = None;
    for index in 0..MOST_PROFILES {
        match session.ci_profile(gi, index) {
            Ok(profile) if found.iter().any(|other| other.id == profile.id) => {}
            Ok(profile) => found.push(profile),
            Err(fault) if fault.is_not_supported() => {}
            // Past the end, larger than the instance, or the handle is of an instance that is gone.
            Err(fault) if fault.is_invalid() => {
                invalid = Some(fault);
                if index >= FIRST_PROFILES {
                    break;
                }
            }
            Err(fault) => return Err(fault),
        }
    }
    match invalid {
        Some(fault) if found.iter().all(|profile| profile.slices != slices) => Err(fault),
        _ => Ok(found),
    }
}

/// Fills in the MIG devices: their ids are all that ties them to their instances, since `nvmlComputeInstanceInfo.device` is the GPU.
fn name(session: &Session, gpu: DeviceHandle, seen: &mut [Seen]) -> Result<(), Fault> {
    for index in 0..session.most_mig_devices(gpu)? {
        let handle = match session.mig_device(gpu, index) {
            Ok(handle) => handle,
            // Instances come and go, and leave holes.
            Err(fault) if fault.is_not_found() => continue,
            Err(fault) => return Err(fault),
        };
        let (gi, id) = session.mig_ids(handle)?;
        let ci = seen.iter_mut().filter(|seen| seen.info.id == gi).flat_map(|seen| &mut seen.cis).find(|ci| ci.id == id);
        if let Some(ci) = ci {
            ci.mig = Some(MigDevice { handle, uuid: session.uuid(handle)? });
        }
    }
    Ok(())
}

/// The MIG device of one compute instance.
pub(crate) fn mig_device(session: &Session, gpu: DeviceHandle, gi: u32, ci: u32) -> Result<Option<MigDevice>, Fault> {
    for index in 0..session.most_mig_devices(gpu)? {
        match session.mig_device(gpu, index) {
            Ok(handle) if session.mig_ids(handle)? == (gi, ci) => return Ok(Some(MigDevice { handle, uuid: session.uuid(handle)? })),
            Ok(_) => {}
            Err(fault) if fault.is_not_found() => {}
            Err(fault) => return Err(fault),
        }
    }
    Ok(None)
}
