//! A device in memory: refuses what hardware refuses, as MIG does the leaving of an instance by a running process, and takes no time.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use migrator_device::{Binding, Device, DeviceError, Gpu, Instance};
use migrator_mig::Site;

/// GPUs, what they are cut into, and which worker is where.
pub struct MemoryDevice {
    gpus: Vec<Gpu>,
    state: Mutex<State>,
    calls: AtomicU64,
}

#[derive(Default)]
struct State {
    made: u64,
    instances: BTreeMap<u64, Instance>,
    /// The instance of each worker that is on one, by process id.
    bound: BTreeMap<u32, u64>,
}

impl MemoryDevice {
    pub fn new(gpus: Vec<Gpu>) -> MemoryDevice {
        MemoryDevice { gpus, state: Mutex::default(), calls: AtomicU64::new(0) }
    }

    /// Calls so far.
    pub fn calls(&self) -> u64 {
        self.calls.load(Ordering::Relaxed)
    }

    /// Cores that a worker computes with; in the staging area, one.
    pub fn share(&self, pid: u32) -> f64 {
        let state = self.state();
        state.bound.get(&pid).and_then(|id| state.instances.get(id)).map_or(1.0, |instance| instance.share)
    }

    /// A worker has ended.
    pub fn ended(&self, pid: u32) {
        self.state().bound.remove(&pid);
    }

    fn called(&self) -> MutexGuard<'_, State> {
        self.calls.fetch_add(1, Ordering::Relaxed);
        self.state()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Device for MemoryDevice {
    fn gpus(&self) -> Vec<Gpu> {
        self.gpus.clone()
    }

    fn computes_on_host(&self) -> bool {
        true
    }

    fn instances(&self) -> Result<Vec<Instance>, DeviceError> {
        let mut instances: Vec<Instance> = self.called().instances.values().cloned().collect();
        instances.sort_by_key(|instance| (instance.gpu, instance.site));
        Ok(instances)
    }

    fn create(&self, gpu: u32, site: Site) -> Result<Instance, DeviceError> {
        let Gpu { catalog, cores_per_slice, .. } = self.gpus.get(gpu as usize).ok_or(DeviceError::UnknownGpu(gpu))?;
        if !catalog.sites().contains(&site) {
            return Err(DeviceError::UnknownSite { gpu, site });
        }
        let mut state = self.called();
        let over = |other: &&Instance| other.gpu == gpu && other.site.placement.overlaps(site.placement);
        if let Some(other) = state.instances.values().find(over) {
            let (start, size) = (site.placement.start, site.placement.size);
            return Err(DeviceError::Overlap { gpu, start, size, other: other.id });
        }
        state.made += 1;
        let profile = catalog.profile(site.profile);
        let share = cores_per_slice * f64::from(profile.compute_slices);
        let instance = Instance { id: state.made, gpu, site, share, memory_mib: profile.memory_mib, uuid: None, foreign: false };
        state.instances.insert(instance.id, instance.clone());
        Ok(instance)
    }

    fn destroy(&self, id: u64) -> Result<(), DeviceError> {
        let mut state = self.called();
        if let Some((&pid, _)) = state.bound.iter().find(|(_, on)| **on == id) {
            return Err(DeviceError::InUse { id, pid });
        }
        state.instances.remove(&id).map(|_| ()).ok_or(DeviceError::UnknownInstance(id))
    }

    fn bind(&self, id: u64, pid: u32) -> Result<Binding, DeviceError> {
        let mut state = self.called();
        if !state.instances.contains_key(&id) {
            return Err(DeviceError::UnknownInstance(id));
        }
        state.bound.insert(pid, id);
        Ok(Binding::Moved)
    }

    fn stage(&self, pid: u32) -> Result<(), DeviceError> {
        match self.called().bound.get(&pid) {
            Some(&id) => Err(DeviceError::InUse { id, pid }),
            None => Ok(()),
        }
    }
}
