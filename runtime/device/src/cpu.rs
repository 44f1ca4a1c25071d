//! The `cpu` device: the host's cores as a GPU of 7 compute and 8 memory slices.
//!
//! Read in the order [`option`], `host`, `ledger`, `enforcer`, then `cgroup` (with `mount`, `folder`) or `duty` (with
//! `bucket`), `leftover`.
#![forbid(unsafe_code)]

mod bucket;
mod cgroup;
mod duty;
mod enforcer;
mod folder;
mod host;
mod ledger;
mod leftover;
mod mount;
pub mod option;
pub(crate) mod process;

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use migrator_mig::{Catalog, Site};

use crate::{Binding, Device, DeviceError, Gpu, Instance};
use cgroup::Cgroups;
use duty::Duty;
use enforcer::{Enforcer, os};
use host::Cores;
use ledger::Ledger;
use leftover::Record;
use option::{CpuOptions, Enforcement};
use process::Process;

/// The host's cores, carved into instances with an A100's profiles and placements, and held to their shares.
///
/// An instance of g compute slices gets g ÷ 7 of the carved cores as CPU time, and its profile's memory. Dropping the device
/// lets all processes go, unlimited, and removes everything it made.
pub struct CpuDevice {
    options: CpuOptions,
    gpu: Gpu,
    cores: Cores,
    ledger: Mutex<Ledger>,
    /// Held while creating or destroying: a GPU does one at a time.
    operation: Mutex<()>,
    /// Dropping it lets all processes go.
    enforcer: Box<dyn Enforcer>,
    /// Why it is this enforcer.
    reason: String,
    /// Whether workers of a server that dies must be found by their pid.
    records_processes: bool,
    // Last, so that it outlives what it records.
    record: Record,
}

impl CpuDevice {
    /// Carves up the host's cores, after removing what servers that died left behind.
    ///
    /// # Errors
    /// [`DeviceError::Options`] when the options make no sense, or demand cgroups where there are none;
    /// [`DeviceError::Os`] when the state folder cannot be written.
    pub fn new(options: CpuOptions) -> Result<CpuDevice, DeviceError> {
        if let Some(fault) = options.fault() {
            return Err(DeviceError::Options(fault));
        }
        let catalog = options.catalog.clone().unwrap_or_else(|| {
            let memory_mib = options.memory_mib.unwrap_or_else(|| host::free_memory_mib(mount::memory_left_mib()));
            Catalog::seven_slices("cpu", memory_mib)
        });
        let cores = carve(&options, catalog.compute_slices).map_err(DeviceError::Options)?;
        leftover::sweep(&options.prefix, &options.state_folder(), &cgroup::bases());
        let own = Process::own().map_err(os("finding the own process"))?;
        let name = leftover::unique_name(&options.prefix, own);
        let record = Record::create(&options.state_folder(), &name)?;
        let chosen = choose(&options, &cores, &name, &record)?;
        let ledger = Mutex::new(Ledger::new(catalog.clone(), cores.per_slice()));
        let gpu = Gpu { index: 0, uuid: "cpu-0".to_owned(), catalog, cores_per_slice: cores.per_slice() };
        let Chosen { enforcer, reason, records_processes } = chosen;
        let device = CpuDevice { options, gpu, cores, ledger, operation: Mutex::new(()), enforcer, reason, records_processes, record };
        tracing::info!(device = %device.describe(), "the cpu device is ready");
        Ok(device)
    }

    /// How shares are enforced and why, and what is carved up; one line.
    pub fn describe(&self) -> String {
        let Cores { carved, reserved, .. } = &self.cores;
        let (slices, per_slice) = (self.cores.slices, self.cores.per_slice());
        let by = self.enforcer.describe();
        format!("{by} ({}); {carved:.2} cores in {slices} slices of {per_slice:.2}; {reserved:.2} kept for the server", self.reason)
    }

    fn cores_of(&self, instance: &Instance) -> Option<Vec<usize>> {
        let slices = self.gpu.catalog.profile(instance.site.profile).compute_slices;
        self.cores.of_slices(instance.site.placement.start, slices).filter(|_| self.options.pin)
    }

    /// Marks an instance that nobody uses as not usable any more.
    fn close(&self, id: u64) -> Result<Instance, DeviceError> {
        let mut ledger = lock(&self.ledger);
        let instance = ledger.live(id)?.clone();
        match self.enforcer.members(id)?.first() {
            Some(&pid) => Err(DeviceError::InUse { id, pid }),
            None => {
                ledger.close(id);
                Ok(instance)
            }
        }
    }
}

impl Device for CpuDevice {
    fn gpus(&self) -> Vec<Gpu> {
        vec![self.gpu.clone()]
    }

    fn computes_on_host(&self) -> bool {
        true
    }

    fn instances(&self) -> Result<Vec<Instance>, DeviceError> {
        Ok(lock(&self.ledger).list())
    }

    fn create(&self, gpu: u32, site: Site) -> Result<Instance, DeviceError> {
        let _one_at_a_time = lock(&self.operation);
        let instance = lock(&self.ledger).reserve(gpu, site)?;
        take(self.options.create_delay(site.profile.index()));
        let created = self.enforcer.create(&instance);
        let mut ledger = lock(&self.ledger);
        match &created {
            Ok(()) => ledger.open(instance.id),
            Err(_) => ledger.remove(instance.id),
        }
        created.map(|()| instance)
    }

    fn destroy(&self, id: u64) -> Result<(), DeviceError> {
        let _one_at_a_time = lock(&self.operation);
        let instance = self.close(id)?;
        take(self.options.destroy_delay(instance.site.profile.index()));
        let destroyed = self.enforcer.destroy(id);
        let mut ledger = lock(&self.ledger);
        match &destroyed {
            Ok(()) => ledger.remove(id),
            Err(_) => ledger.open(id),
        }
        destroyed
    }

    /// Also pins the process to the cores its instance maps to. Children that the process already has stay where they are.
    ///
    /// Memory that the process holds already is not charged to the instance; a process that holds more than the instance
    /// has is refused with ENOMEM.
    fn bind(&self, id: u64, pid: u32) -> Result<Binding, DeviceError> {
        let process = find(pid)?;
        // Held throughout, so that the instance is not destroyed meanwhile.
        let ledger = lock(&self.ledger);
        let instance = ledger.live(id)?;
        let held_mib = process.anonymous_mib();
        if held_mib > instance.memory_mib {
            let what = format!("binding process {pid}, which holds {held_mib} MiB, to {} MiB", instance.memory_mib);
            return Err(os(what)(rustix::io::Errno::NOMEM.into()));
        }
        if self.records_processes {
            self.record.process(process)?;
        }
        let cores = self.cores_of(instance).unwrap_or_else(|| self.cores.usable.clone());
        self.enforcer.enter(instance, process)?;
        process.pin(&cores).map_err(os(format!("pinning process {pid} to cores {cores:?}")))?;
        Ok(Binding::Moved)
    }

    /// The process may use all cores, but only what instances leave over; a small floor keeps it going when they leave nothing.
    fn stage(&self, pid: u32) -> Result<(), DeviceError> {
        let process = find(pid)?;
        if self.records_processes {
            self.record.process(process)?;
        }
        self.enforcer.stage(process)?;
        process.pin(&self.cores.usable).map_err(os(format!("pinning process {pid} to all cores")))
    }
}

impl Drop for CpuDevice {
    fn drop(&mut self) {
        let instances = lock(&self.ledger).list();
        let bound = instances.iter().flat_map(|instance| self.enforcer.members(instance.id).unwrap_or_default());
        for process in bound.filter_map(|pid| Process::find(pid).ok()) {
            // It ended meanwhile.
            let _ = process.pin(&self.cores.usable);
        }
    }
}

struct Chosen {
    enforcer: Box<dyn Enforcer>,
    reason: String,
    records_processes: bool,
}

fn choose(options: &CpuOptions, cores: &Cores, name: &str, record: &Record) -> Result<Chosen, DeviceError> {
    let duty = |reason: String| {
        let enforcer = Box::new(Duty::start(cores.carved)?);
        Ok(Chosen { enforcer, reason, records_processes: true })
    };
    if options.enforcement == Enforcement::Duty {
        return duty("as configured".to_owned());
    }
    match Cgroups::open(name, options.period_ms, cores.carved) {
        Ok(cgroups) => {
            cgroups.trees().try_for_each(|tree| record.folder(tree))?;
            let reason = "writable".to_owned();
            Ok(Chosen { enforcer: Box::new(cgroups), reason, records_processes: false })
        }
        Err(why) if options.enforcement == Enforcement::Cgroup => Err(DeviceError::Options(format!("no cgroups: {why}"))),
        Err(why) => duty(format!("no cgroups: {why}")),
    }
}

fn carve(options: &CpuOptions, slices: u8) -> Result<Cores, String> {
    let usable = host::usable();
    let capacity = mount::cpu_limit().map_or(usable.len() as f64, |limit| limit.min(usable.len() as f64));
    Cores::split(usable, capacity, slices, options.cores, options.reserved_cores)
}

fn find(pid: u32) -> Result<Process, DeviceError> {
    Process::find(pid).map_err(os(format!("finding process {pid}")))
}

/// Takes the time that a GPU takes.
#[allow(clippy::disallowed_methods, reason = "the time is the point")]
fn take(time: Duration) {
    if !time.is_zero() {
        std::thread::sleep(time);
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
