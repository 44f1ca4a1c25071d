//! Looking at the GPUs of a host without managing them, and the one step that is an operator's: switching the MIG mode.

use std::path::Path;

use migrator_mig::{Catalog, Placement};
use nvml_wrapper_sys::bindings as raw;
use serde::Serialize;

use super::card::{self, Identity};
use super::fault::Fault;
use super::layout::Layout;
use super::observe::{self, Seen};
use super::sys::Session;
use crate::DeviceError;

/// A GPU, as it describes itself.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Found {
    /// Index on this host.
    pub index: u32,
    /// The vendor's UUID.
    pub uuid: String,
    /// PCI bus id, e.g. `00000000:65:00.0`.
    pub bus_id: String,
    /// Product name.
    pub product: String,
    /// Version of the driver.
    pub driver: String,
    /// Newest CUDA that the driver supports, e.g. `13.0`.
    pub cuda: String,
    /// Memory of the whole GPU, MiB.
    pub memory_mib: u64,
    /// Compute capability, e.g. `9.0`.
    pub compute_capability: String,
    /// The MIG mode; `None` where there is no MIG.
    pub mig: Option<MigMode>,
    /// Name of the shipped board of this product.
    pub board: Option<String>,
    /// The profiles that can be planned with, as the GPU tells them; `None` where there is no MIG.
    pub catalog: Option<Catalog>,
    /// Where GPU and board disagree, one line each.
    pub differences: Vec<String>,
    /// What exists, by start.
    pub instances: Vec<FoundInstance>,
    /// What could not be read, one line each.
    pub troubles: Vec<String>,
}

/// Whether MIG is on, and whether it will be after the next reset.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct MigMode {
    /// Now.
    pub on: bool,
    /// After the next reset of the GPU.
    pub pending: bool,
}

/// A GPU instance that exists.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct FoundInstance {
    /// GPU instance id.
    pub gi: u32,
    /// The profile's name.
    pub profile: String,
    /// Where it lies.
    pub placement: Placement,
    /// Its compute instances; none means that it was made half and cannot be used.
    pub compute: Vec<FoundCompute>,
}

/// A compute instance that exists.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct FoundCompute {
    /// Compute instance id.
    pub ci: u32,
    /// UUID of the MIG device.
    pub uuid: Option<String>,
    /// Processes that use it.
    pub processes: Vec<u32>,
}

/// What became of a switch of the MIG mode.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub enum ModeChange {
    /// It was that already.
    Unchanged,
    /// It is that now.
    Done,
    /// It will be that after a reset of the GPU (`nvidia-smi --gpu-reset -i N`), or a reboot where the GPU is passed through to a VM.
    NeedsReset,
    /// The driver could not switch because somebody uses the GPU. Monitoring (DCGM, nvsm) and the persistence daemon count.
    InUse {
        /// Those that NVML knows.
        processes: Vec<u32>,
    },
    /// The driver did not switch, for another reason.
    Refused {
        /// The driver's number for it (`nvmlReturn_t`).
        code: u32,
    },
}

/// Every GPU of the host. Changes nothing.
///
/// # Errors
/// [`DeviceError::Library`] when there is no usable driver. What a GPU does not tell is in [`Found::troubles`].
pub fn inspect(library: Option<&Path>) -> Result<Vec<Found>, DeviceError> {
    let session = Session::open(library)?;
    Ok(card::all(&session)?.iter().map(|gpu| look(&session, gpu)).collect())
}

/// Switches the MIG mode of the GPU of this index, UUID or PCI bus id. Destroys all its instances when it is switched off.
///
/// # Errors
/// [`DeviceError::Options`] when there is no such GPU, [`DeviceError::Mode`] when it has no MIG, [`DeviceError::NoPermission`], or what the
/// driver says.
#[doc(alias = "nvmlDeviceSetMigMode")]
pub fn set_mode(library: Option<&Path>, gpu: &str, on: bool) -> Result<ModeChange, DeviceError> {
    let session = Session::open(library)?;
    let named = card::named(&session, &[gpu.to_owned()])?;
    let [gpu] = named.as_slice() else { return Err(DeviceError::Options(format!("{gpu:?} is more than one GPU"))) };
    let (index, wanted) = (gpu.index, u32::from(on));
    let no_mig = |fault: Fault| match fault.is_not_supported() || fault.is_old_driver() {
        true => DeviceError::Mode { gpu: index, why: format!("{} has no MIG, or its driver does not know it", gpu.product) },
        false => fault.on(index),
    };
    if session.mig_mode(gpu.handle).map_err(no_mig)? == (wanted, wanted) {
        return Ok(ModeChange::Unchanged);
    }
    let processes = || session.processes(gpu.handle).unwrap_or_default().iter().map(|running| running.pid).collect();
    match session.set_mig_mode(gpu.handle, on) {
        Ok(raw::nvmlReturn_enum_NVML_SUCCESS) => {
            // The driver's success can mean that it is written down.
            let (current, _) = session.mig_mode(gpu.handle).map_err(|fault| fault.on(index))?;
            Ok(if current == wanted { ModeChange::Done } else { ModeChange::NeedsReset })
        }
        Ok(raw::nvmlReturn_enum_NVML_ERROR_RESET_REQUIRED) => Ok(ModeChange::NeedsReset),
        Ok(raw::nvmlReturn_enum_NVML_ERROR_IN_USE) => Ok(ModeChange::InUse { processes: processes() }),
        Ok(code) => Ok(ModeChange::Refused { code }),
        Err(fault) if fault.is_in_use() => Ok(ModeChange::InUse { processes: processes() }),
        Err(fault) => Err(no_mig(fault)),
    }
}

fn look(session: &Session, gpu: &Identity) -> Found {
    let mut troubles = Vec::new();
    let memory_mib = told(session.memory(gpu.handle), &mut troubles).map_or(0, |(total, _)| total >> 20);
    let cuda = told(session.cuda_version(), &mut troubles).map_or(String::new(), |v| format!("{}.{}", v / 1000, v % 1000 / 10));
    let capability = told(session.compute_capability(gpu.handle), &mut troubles);
    let mut found = Found {
        index: gpu.index,
        uuid: gpu.uuid.clone(),
        bus_id: gpu.bus_id.clone(),
        product: gpu.product.clone(),
        driver: told(session.driver_version(), &mut troubles).unwrap_or_default(),
        cuda,
        memory_mib,
        compute_capability: capability.map_or(String::new(), |(major, minor)| format!("{major}.{minor}")),
        mig: None,
        board: migrator_mig::board::find(&gpu.product).map(|board| board.name.clone()),
        catalog: None,
        differences: Vec::new(),
        instances: Vec::new(),
        troubles,
    };
    match session.mig_mode(gpu.handle) {
        Ok((current, pending)) => {
            found.mig = Some(MigMode { on: current == 1, pending: pending == 1 });
            look_inside(session, gpu, current == 1, &mut found);
        }
        Err(fault) if fault.is_not_supported() || fault.is_old_driver() => {}
        Err(fault) => found.troubles.push(fault.to_string()),
    }
    found
}

fn look_inside(session: &Session, gpu: &Identity, on: bool, found: &mut Found) {
    let layout = match Layout::read(session, gpu.handle, &gpu.product, found.memory_mib) {
        Ok(layout) => layout,
        // Some drivers tell their profiles only while MIG is on.
        Err(fault) if !on && fault.is_not_supported() => return,
        Err(fault) => return found.troubles.push(fault.on(gpu.index).to_string()),
    };
    if layout.kinds.is_empty() && !on {
        return;
    }
    if on {
        match observe::all(session, gpu.handle, &layout) {
            Ok(seen) => found.instances = seen.iter().map(|seen| instance(session, &layout, seen, &mut found.troubles)).collect(),
            Err(fault) => found.troubles.push(fault.on(gpu.index).to_string()),
        }
    }
    found.differences = layout.differences;
    found.catalog = Some(layout.catalog);
}

fn instance(session: &Session, layout: &Layout, seen: &Seen, troubles: &mut Vec<String>) -> FoundInstance {
    let compute = seen.cis.iter().map(|ci| {
        let running = ci.mig.as_ref().and_then(|mig| told(session.processes(mig.handle), troubles)).unwrap_or_default();
        let processes = running.iter().map(|running| running.pid).collect();
        FoundCompute { ci: ci.id, uuid: ci.mig.as_ref().map(|mig| mig.uuid.clone()), processes }
    });
    let compute = compute.collect();
    let name = layout.kind(seen.info.profile).and_then(|kind| kind.profile.name.clone());
    let profile = name.unwrap_or_else(|| format!("profile {}", seen.info.profile));
    FoundInstance { gi: seen.info.id, profile, placement: seen.info.placement, compute }
}

fn told<T>(asked: Result<T, Fault>, troubles: &mut Vec<String>) -> Option<T> {
    asked.map_err(|fault| troubles.push(fault.to_string())).ok()
}
