//! What tests do to a host that no caller of NVML can.

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use migrator_mig::Placement;

use crate::audit::defects;
use crate::claim;
use crate::compute;
use crate::driver::{Driver, MIG_CONFIG_CHANGE, XID};
use crate::gpu::Gpu;
use crate::host::{Event, Host};
use crate::{Call, Code, GpuSpec, HostError, HostSpec, Permission, Rule, User};

/// Xid of a GPU that has fallen off the bus (NVIDIA's table of Xid errors).
const OFF_THE_BUS: u64 = 79;

/// What a test could not do.
#[derive(Debug, thiserror::Error)]
pub enum PlayError {
    /// The host's folder.
    #[error(transparent)]
    Host(#[from] HostError),
    /// A file of the host.
    #[error("a file of the host cannot be used")]
    File(#[from] io::Error),
    /// The hardware said no.
    #[error("the hardware refuses")]
    Refused(#[from] Code),
    /// The library was not built: the crate that tests with it needs `migrator-fake-nvml` among its dependencies.
    #[error("no libfake_nvml.so beside {0} or above it")]
    NoLibrary(PathBuf),
}

/// A host, from the side of the hardware. Any number of handles and of processes may share its folder.
#[derive(Debug)]
pub struct FakeHost {
    driver: Driver,
}

/// A GPU instance as the hardware has it.
#[derive(Clone, Debug, PartialEq)]
pub struct FakeInstance {
    /// Id of the GPU instance.
    pub id: u32,
    /// Id of its profile.
    pub profile: u32,
    /// Name of its profile, e.g. `3g.40gb`.
    pub name: String,
    /// Where it lies, in memory slices.
    pub placement: Placement,
    /// Whether [`FakeHost::create_foreign`] made it.
    pub foreign: bool,
    /// Its compute instances: id and MIG UUID.
    pub computes: Vec<(u32, String)>,
}

impl HostSpec {
    /// GPUs of these boards with MIG on, no latency and every permission.
    pub fn of(boards: &[&str]) -> HostSpec {
        let gpus = boards.iter().map(|board| GpuSpec { board: (*board).to_owned(), uuid: None, mig: true }).collect();
        HostSpec { latency: 0.0, permission: Permission::Root, driver: "580.65.06".to_owned(), gpus }
    }
}

impl FakeHost {
    /// A new host in this folder, which is made if need be.
    ///
    /// # Errors
    /// When a board is unknown or the folder cannot be written to.
    pub fn create(folder: &Path, spec: &HostSpec) -> Result<FakeHost, PlayError> {
        Ok(FakeHost { driver: Driver::of(Host::create(folder, spec)?) })
    }

    /// The host that is in this folder.
    ///
    /// # Errors
    /// When there is none.
    pub fn open(folder: &Path) -> Result<FakeHost, PlayError> {
        Ok(FakeHost { driver: Driver::open(folder)? })
    }

    /// What `MIGRATOR_FAKE_NVML` has to be for a process to find the host.
    pub fn folder(&self) -> &Path {
        &self.driver.host.folder
    }

    /// A copy of the library in the host's folder, which finds the host without any variable: for `lib_path`.
    ///
    /// Each copy has its own state in the process, so tests of one process can have a host each.
    ///
    /// # Errors
    /// [`PlayError::NoLibrary`] when it was not built.
    pub fn library(&self) -> Result<PathBuf, PlayError> {
        let copy = self.folder().join("libnvidia-ml.so.1");
        if !copy.exists() {
            std::fs::copy(built()?, &copy)?;
        }
        Ok(copy)
    }

    /// UUID of a GPU.
    pub fn uuid(&self, gpu: usize) -> &str {
        &self.driver.host.uuids[gpu]
    }

    /// Says that a living process uses the MIG device or GPU of this UUID.
    ///
    /// # Errors
    /// When there is no such process.
    pub fn claim(&self, pid: u32, uuid: &str) -> Result<(), PlayError> {
        Ok(claim::write(self.folder(), pid, uuid, None)?)
    }

    /// As [`FakeHost::claim`], with so much memory, MiB.
    ///
    /// # Errors
    /// As there.
    pub fn claim_memory(&self, pid: u32, uuid: &str, memory_mib: u64) -> Result<(), PlayError> {
        Ok(claim::write(self.folder(), pid, uuid, Some(memory_mib))?)
    }

    /// Takes a claim back.
    ///
    /// # Errors
    /// When the file cannot be removed.
    pub fn release(&self, pid: u32) -> Result<(), PlayError> {
        Ok(claim::remove(self.folder(), pid)?)
    }

    /// Who uses the GPU or its MIG devices, by claim or by environment.
    ///
    /// # Errors
    /// When there is no such GPU.
    pub fn users(&self, gpu: usize) -> Result<Vec<User>, PlayError> {
        let view = self.driver.view(gpu)?;
        Ok(self.driver.users(&view))
    }

    /// Adds a rule by which calls go wrong.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn inject(&self, rule: Rule) -> Result<(), PlayError> {
        Ok(self.driver.host.set_rule(Some(rule))?)
    }

    /// Takes all rules away; a GPU that is lost stays lost.
    ///
    /// # Errors
    /// When the file cannot be removed.
    pub fn clear_faults(&self) -> Result<(), PlayError> {
        Ok(self.driver.host.set_rule(None)?)
    }

    /// The GPU falls off the bus: Xid 79, and from then on every call says that it is lost.
    ///
    /// # Errors
    /// When there is no such GPU.
    pub fn lose(&self, gpu: usize) -> Result<(), PlayError> {
        Ok(self.driver.lose(gpu)?)
    }

    /// The GPU comes back as after a reset: empty, with the pending MIG mode.
    ///
    /// # Errors
    /// When there is no such GPU.
    pub fn restore(&self, gpu: usize) -> Result<(), PlayError> {
        self.reset(gpu)
    }

    /// Resets the GPU: its instances are gone, and the pending MIG mode holds.
    ///
    /// # Errors
    /// When there is no such GPU.
    pub fn reset(&self, gpu: usize) -> Result<(), PlayError> {
        Ok(self.on_gpu(gpu, |gpu| {
            gpu.reset();
            Ok(())
        })?)
    }

    /// The driver reports an Xid error, on a GPU instance by id where one is to blame.
    pub fn xid(&self, gpu: usize, instance: Option<u32>, code: u64) {
        let compute = instance.and(Some(0));
        self.driver.emit(Event { gpu, kind: XID, data: code, instance, compute });
    }

    /// Somebody else creates an instance with a compute instance that takes it whole.
    ///
    /// # Errors
    /// What the hardware says.
    pub fn create_foreign(&self, gpu: usize, profile: u32, start: u8) -> Result<FakeInstance, PlayError> {
        let board = *self.driver.host.boards.get(gpu).ok_or(Code::INVALID_ARGUMENT)?;
        let found = board.by_id(profile).ok_or(Code::INVALID_ARGUMENT)?;
        let number = self.driver.change(gpu, Duration::ZERO, |gpu| {
            let made = gpu.create(board, profile, Some(Placement { start, size: found.memory_slices }))?;
            made.foreign = true;
            let (number, id) = (made.number, made.id);
            gpu.create_compute(board, number, compute::whole(found.compute_slices), None)?;
            Ok(id)
        })?;
        let all = self.instances(gpu)?;
        Ok(all.into_iter().find(|instance| instance.id == number).ok_or(Code::UNKNOWN)?)
    }

    /// Somebody else destroys an instance, by id, with all that is in it.
    ///
    /// # Errors
    /// When there is no such instance.
    pub fn destroy_foreign(&self, gpu: usize, id: u32) -> Result<(), PlayError> {
        Ok(self.driver.change(gpu, Duration::ZERO, |gpu| {
            gpu.by_id(id).ok_or(Code::NOT_FOUND)?;
            gpu.instances.retain(|instance| instance.id != id);
            Ok(())
        })?)
    }

    /// Sets the share of a GPU instance's multiprocessors that are busy, 0..1.
    ///
    /// # Errors
    /// When there is no such instance.
    pub fn set_busy(&self, gpu: usize, id: u32, busy: f64) -> Result<(), PlayError> {
        Ok(self.on_gpu(gpu, |gpu| {
            gpu.instances.iter_mut().find(|instance| instance.id == id).ok_or(Code::NOT_FOUND)?.busy = busy;
            Ok(())
        })?)
    }

    /// What a GPU holds, lost or not, by start.
    ///
    /// # Errors
    /// When there is no such GPU.
    pub fn instances(&self, gpu: usize) -> Result<Vec<FakeInstance>, PlayError> {
        let board = *self.driver.host.boards.get(gpu).ok_or(Code::INVALID_ARGUMENT)?;
        let state = self.driver.host.state()?;
        let holds = state.gpus.get(gpu).ok_or(Code::INVALID_ARGUMENT)?;
        let mut found: Vec<FakeInstance> = holds
            .instances
            .iter()
            .map(|instance| FakeInstance {
                id: instance.id,
                profile: instance.profile,
                name: board.by_id(instance.profile).map(|profile| profile.name.clone()).unwrap_or_default(),
                placement: instance.placement,
                foreign: instance.foreign,
                computes: instance
                    .computes
                    .iter()
                    .map(|compute| (compute.id, self.driver.mig_uuid(gpu, instance.id, compute.id)))
                    .collect(),
            })
            .collect();
        found.sort_by_key(|instance| instance.placement);
        Ok(found)
    }

    /// Current and pending MIG mode.
    ///
    /// # Errors
    /// When there is no such GPU.
    pub fn mode(&self, gpu: usize) -> Result<(bool, bool), PlayError> {
        let state = self.driver.host.state()?;
        let holds = state.gpus.get(gpu).ok_or(Code::INVALID_ARGUMENT)?;
        Ok((holds.mig, holds.pending))
    }

    /// Every call that changed something or failed, in order.
    ///
    /// # Errors
    /// When the log cannot be read.
    pub fn calls(&self) -> Result<Vec<Call>, PlayError> {
        Ok(self.driver.host.lines("calls.jsonl", 0)?.0)
    }

    /// What is wrong with what the GPUs hold; empty when nothing is.
    ///
    /// # Errors
    /// When the host cannot be read.
    pub fn audit(&self) -> Result<Vec<String>, PlayError> {
        let state = self.driver.host.state()?;
        let of = |(index, (board, gpu)): (usize, (&&migrator_mig::Board, &Gpu))| {
            defects(board, gpu).into_iter().map(move |defect| format!("GPU {index}: {defect}"))
        };
        Ok(self.driver.host.boards.iter().zip(&state.gpus).enumerate().flat_map(of).collect())
    }

    fn on_gpu(&self, index: usize, change: impl Fn(&mut Gpu) -> Result<(), Code>) -> Result<(), Code> {
        self.driver.host.change(|state| change(state.gpus.get_mut(index).ok_or(Code::INVALID_ARGUMENT)?))?;
        self.driver.emit(Event { gpu: index, kind: MIG_CONFIG_CHANGE, data: 0, instance: None, compute: None });
        Ok(())
    }
}

impl Driver {
    /// The GPU falls off the bus. Who waits for events hears of it first, and then of nothing else.
    pub(crate) fn lose(&self, gpu: usize) -> Result<(), Code> {
        self.emit(Event { gpu, kind: XID, data: OFF_THE_BUS, instance: None, compute: None });
        self.host.change(|state| {
            state.gpus.get_mut(gpu).ok_or(Code::INVALID_ARGUMENT)?.lost = true;
            Ok(())
        })
    }
}

/// The library that Cargo built for this test: beside its executable, or above it.
fn built() -> Result<PathBuf, PlayError> {
    let own = std::env::current_exe()?;
    let found = own.ancestors().skip(1).take(3).flat_map(|folder| [folder.join("libfake_nvml.so"), folder.join("deps/libfake_nvml.so")]);
    found.into_iter().find(|path| path.exists()).ok_or(PlayError::NoLibrary(own))
}
