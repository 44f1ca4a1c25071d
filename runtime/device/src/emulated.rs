//! NVIDIA's GPUs without NVIDIA's silicon: instances are created where the wrapped device says, and compute on the host's cores.
//!
//! For a server on the fake NVML library: everything up to the driver's interface runs as it would on hardware, and a worker that
//! is bound to an instance gets the CPU share that fits its profile.

use std::collections::BTreeMap;
use std::fs;
use std::io::ErrorKind;
use std::path::PathBuf;
use std::sync::{Mutex, MutexGuard, PoisonError};

use crossbeam_channel::Receiver;
use migrator_mig::Site;

use crate::cpu::option::CpuOptions;
use crate::{Binding, CpuDevice, Device, DeviceError, DeviceEvent, Gpu, Instance, Usage};

/// The GPUs of one device, computing on the host's cores.
pub struct Emulated<D> {
    device: D,
    /// The cores of each GPU, by the GPU's place in the list.
    shares: Vec<CpuDevice>,
    gpus: Vec<Gpu>,
    /// By the wrapped device's id.
    placed: Mutex<BTreeMap<u64, Placed>>,
    claims: PathBuf,
}

/// The cores of one instance.
#[derive(Clone, Copy, Debug)]
struct Placed {
    gpu: usize,
    /// The instance's id on the [`CpuDevice`].
    share: u64,
}

impl<D: Device> Emulated<D> {
    /// Splits the cores that `cores` describes evenly among the GPUs of `device`.
    ///
    /// A process on an instance is told to the fake library by a file in `claims` that is called like the process and holds the
    /// instance's UUID, as a process that uses CUDA is known to the driver.
    ///
    /// # Errors
    /// What [`CpuDevice::new`] says, or [`DeviceError::Os`] when `claims` cannot be made.
    pub fn new(device: D, cores: &CpuOptions, claims: PathBuf) -> Result<Emulated<D>, DeviceError> {
        fs::create_dir_all(&claims).map_err(|source| DeviceError::Os { what: format!("making {}", claims.display()), source })?;
        let mut gpus = device.gpus();
        let mut shares = Vec::new();
        let available = std::thread::available_parallelism().map_or(1.0, |n| n.get() as f64);
        let reserved = cores.reserved_cores.unwrap_or(0.0);
        let each = cores.cores.unwrap_or((available - reserved).max(0.1)) / gpus.len().max(1) as f64;
        let alone = gpus.len() == 1;
        for gpu in &mut gpus {
            let options = CpuOptions {
                cores: Some(each),
                // A slice of memory stands beside the slice of cores it is pinned to only where there are about as many of both.
                pin: cores.pin && gpu.catalog.memory_slices <= gpu.catalog.compute_slices + 1 && alone,
                catalog: Some(gpu.catalog.clone()),
                prefix: format!("{}_gpu{}", cores.prefix, gpu.index),
                ..cores.clone()
            };
            gpu.cores_per_slice = each / f64::from(gpu.catalog.compute_slices.max(1));
            shares.push(CpuDevice::new(options)?);
        }
        let emulated = Emulated { device, shares, gpus, placed: Mutex::default(), claims };
        for instance in emulated.device.instances()? {
            emulated.place(&instance)?;
        }
        Ok(emulated)
    }

    fn placed(&self) -> MutexGuard<'_, BTreeMap<u64, Placed>> {
        self.placed.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn gpu(&self, index: u32) -> Result<usize, DeviceError> {
        self.gpus.iter().position(|gpu| gpu.index == index).ok_or(DeviceError::UnknownGpu(index))
    }

    /// Gives an instance its cores; one that has them keeps them.
    fn place(&self, instance: &Instance) -> Result<(), DeviceError> {
        if instance.foreign || self.placed().contains_key(&instance.id) {
            return Ok(());
        }
        let gpu = self.gpu(instance.gpu)?;
        let share = self.shares[gpu].create(0, instance.site)?.id;
        self.placed().insert(instance.id, Placed { gpu, share });
        Ok(())
    }

    fn unplace(&self, id: u64) -> Result<(), DeviceError> {
        let Some(placed) = self.placed().get(&id).copied() else { return Ok(()) };
        self.shares[placed.gpu].destroy(placed.share)?;
        self.placed().remove(&id);
        Ok(())
    }

    /// The instance with the cores it really has.
    fn dressed(&self, mut instance: Instance) -> Instance {
        if let Ok(gpu) = self.gpu(instance.gpu) {
            let slices = self.gpus[gpu].catalog.profile(instance.site.profile).compute_slices;
            instance.share = f64::from(slices) * self.gpus[gpu].cores_per_slice;
        }
        instance
    }

    /// Takes cores from instances that somebody else destroyed.
    fn forget_all_but(&self, there: &[Instance]) {
        let gone: Vec<u64> = self.placed().keys().copied().filter(|id| !there.iter().any(|instance| instance.id == *id)).collect();
        for id in gone {
            if let Err(error) = self.unplace(id) {
                tracing::debug!(instance = id, %error, "cores of an instance that is gone are still in use");
            }
        }
    }

    fn claim(&self, pid: u32, visible: &str) -> Result<(), DeviceError> {
        let file = self.claims.join(pid.to_string());
        fs::write(&file, visible).map_err(|source| DeviceError::Os { what: format!("writing {}", file.display()), source })
    }

    fn release(&self, pid: u32) -> Result<(), DeviceError> {
        let file = self.claims.join(pid.to_string());
        match fs::remove_file(&file) {
            Err(error) if error.kind() != ErrorKind::NotFound => {
                Err(DeviceError::Os { what: format!("removing {}", file.display()), source: error })
            }
            _ => Ok(()),
        }
    }
}

impl<D: Device> Device for Emulated<D> {
    fn gpus(&self) -> Vec<Gpu> {
        self.gpus.clone()
    }

    fn computes_on_host(&self) -> bool {
        true
    }

    fn instances(&self) -> Result<Vec<Instance>, DeviceError> {
        let there = self.device.instances()?;
        self.forget_all_but(&there);
        for instance in &there {
            self.place(instance)?;
        }
        Ok(there.into_iter().map(|instance| self.dressed(instance)).collect())
    }

    fn create(&self, gpu: u32, site: Site) -> Result<Instance, DeviceError> {
        let instance = self.device.create(gpu, site)?;
        match self.place(&instance) {
            Ok(()) => Ok(self.dressed(instance)),
            Err(error) => {
                self.device.destroy(instance.id)?;
                Err(error)
            }
        }
    }

    fn destroy(&self, id: u64) -> Result<(), DeviceError> {
        self.device.destroy(id)?;
        self.unplace(id)
    }

    /// The process is moved and need not attach itself; as on hardware, it cannot leave the instance again.
    fn bind(&self, id: u64, pid: u32) -> Result<Binding, DeviceError> {
        let binding = self.device.bind(id, pid)?;
        let placed = self.placed().get(&id).copied().ok_or(DeviceError::UnknownInstance(id))?;
        self.shares[placed.gpu].bind(placed.share, pid)?;
        if let Binding::Attach { visible } = binding {
            self.claim(pid, &visible)?;
        }
        Ok(Binding::Moved)
    }

    /// A process that is on an instance cannot leave it, as on hardware.
    fn stage(&self, pid: u32) -> Result<(), DeviceError> {
        self.device.stage(pid)?;
        self.release(pid)?;
        match self.shares.first() {
            Some(cores) => cores.stage(pid),
            None => Ok(()),
        }
    }

    fn events(&self) -> Option<Receiver<DeviceEvent>> {
        self.device.events()
    }

    fn usage(&self) -> Result<Vec<Usage>, DeviceError> {
        self.device.usage()
    }
}
