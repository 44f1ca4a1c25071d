//! The driver: what the calls mean, in terms of the host.

mod device;
mod event;
mod gpm;
mod instance;

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use migrator_mig::Board;

pub(crate) use device::bus_id;
pub(crate) use event::{MIG_CONFIG_CHANGE, XID};

use crate::Code;
use crate::claim::{User, users};
use crate::gpu::{ComputeInstance, Gpu, GpuInstance};
use crate::handle::Handle;
use crate::host::{Host, HostError, Permission};
use crate::uuid;

/// A host as one process sees it.
#[derive(Debug)]
pub(crate) struct Driver {
    pub(crate) host: Host,
    sets: Mutex<BTreeMap<u64, event::Set>>,
    samples: Mutex<BTreeMap<u64, Option<gpm::Sample>>>,
    last: AtomicU64,
}

/// A GPU at the time of a call, and the part of it that the handle stood for.
pub(crate) struct View {
    pub(crate) index: usize,
    pub(crate) board: &'static Board,
    pub(crate) gpu: Gpu,
    pub(crate) mig: Option<(GpuInstance, ComputeInstance)>,
}

impl Driver {
    pub(crate) fn open(folder: &Path) -> Result<Driver, HostError> {
        Ok(Driver::of(Host::open(folder)?))
    }

    pub(crate) fn of(host: Host) -> Driver {
        Driver { host, sets: Mutex::default(), samples: Mutex::default(), last: AtomicU64::new(0) }
    }

    /// The GPU of this index, unless it is lost.
    pub(crate) fn view(&self, index: usize) -> Result<View, Code> {
        let board = *self.host.boards.get(index).ok_or(Code::INVALID_ARGUMENT)?;
        let mut state = self.host.state().map_err(|_| Code::UNKNOWN)?;
        if index >= state.gpus.len() {
            return Err(Code::INVALID_ARGUMENT);
        }
        let gpu = state.gpus.swap_remove(index);
        if gpu.lost { Err(Code::GPU_IS_LOST) } else { Ok(View { index, board, gpu, mig: None }) }
    }

    /// What the handle of a GPU or of a MIG device stands for.
    pub(crate) fn device(&self, raw: usize) -> Result<View, Code> {
        match Handle::decode(raw)? {
            Handle::Gpu(index) => self.view(index),
            Handle::Mig { gpu, number } => {
                let view = self.view(gpu)?;
                let (instance, compute) = view.gpu.compute(number)?;
                let mig = Some((instance.clone(), compute.clone()));
                Ok(View { mig, ..view })
            }
            _ => Err(Code::INVALID_ARGUMENT),
        }
    }

    /// What the handle of a GPU stands for; that of a MIG device is invalid here.
    pub(crate) fn whole(&self, raw: usize) -> Result<View, Code> {
        match Handle::decode(raw)? {
            Handle::Gpu(index) => self.view(index),
            _ => Err(Code::INVALID_ARGUMENT),
        }
    }

    /// The GPU and the GPU instance that a handle stands for.
    pub(crate) fn instance(&self, raw: usize) -> Result<(View, GpuInstance), Code> {
        let Handle::Instance { gpu, number } = Handle::decode(raw)? else { return Err(Code::INVALID_ARGUMENT) };
        let view = self.view(gpu)?;
        let instance = view.gpu.instance(number)?.clone();
        Ok((view, instance))
    }

    /// The GPU, the GPU instance and the compute instance that a handle stands for.
    pub(crate) fn compute(&self, raw: usize) -> Result<(View, GpuInstance, ComputeInstance), Code> {
        let Handle::Compute { gpu, number } = Handle::decode(raw)? else { return Err(Code::INVALID_ARGUMENT) };
        let view = self.view(gpu)?;
        let (instance, compute) = view.gpu.compute(number)?;
        let (instance, compute) = (instance.clone(), compute.clone());
        Ok((view, instance, compute))
    }

    /// UUID of a MIG device.
    pub(crate) fn mig_uuid(&self, gpu: usize, instance: u32, compute: u32) -> String {
        uuid::of_mig(&self.host.uuids[gpu], instance, compute)
    }

    /// Who uses the GPU, whole or in part.
    pub(crate) fn users(&self, view: &View) -> Vec<User> {
        let migs: Vec<String> = view.gpu.computes().map(|(gi, ci)| self.mig_uuid(view.index, gi.id, ci.id)).collect();
        users(&self.host.folder, |uuid| uuid == self.host.uuids[view.index] || migs.iter().any(|mig| mig == uuid))
    }

    fn may_change(&self) -> Result<(), Code> {
        if self.host.spec.permission == Permission::Root { Ok(()) } else { Err(Code::NO_PERMISSION) }
    }

    fn fresh(&self) -> u64 {
        self.last.fetch_add(1, Ordering::Relaxed) + 1
    }
}

/// A lock whose holder panicked guards plain data, which is as good as before.
fn held<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
