//! Instances come and go.

use std::time::Duration;

use migrator_mig::Placement;

use super::{Driver, MIG_CONFIG_CHANGE};
use crate::Code;
use crate::compute;
use crate::gpu::Gpu;
use crate::handle::Handle;
use crate::host::{Event, now_ms};
use crate::latency;

impl Driver {
    /// Creates a GPU instance and gives its handle.
    pub(crate) fn create(&self, device: usize, profile: u32, placement: Option<Placement>) -> Result<usize, Code> {
        let view = self.whole(device)?;
        view.gpu.needs_mig()?;
        self.may_change()?;
        let slices = view.board.by_id(profile).map_or(0, |profile| profile.compute_slices);
        let takes = latency::create(view.board, slices, self.host.spec.latency);
        let number = self.change(view.index, takes, |gpu| gpu.create(view.board, profile, placement).map(|instance| instance.number))?;
        Ok(Handle::Instance { gpu: view.index, number }.encode())
    }

    /// Destroys a GPU instance.
    pub(crate) fn destroy(&self, raw: usize) -> Result<(), Code> {
        let (view, instance) = self.instance(raw)?;
        self.may_change()?;
        let takes = latency::destroy(view.board, self.host.spec.latency);
        self.change(view.index, takes, |gpu| gpu.destroy(instance.number, now_ms()))
    }

    /// Creates a compute instance and gives its handle.
    pub(crate) fn create_compute(&self, raw: usize, profile: u32, placement: Option<Placement>) -> Result<usize, Code> {
        let (view, instance) = self.instance(raw)?;
        self.may_change()?;
        let slices = view.board.by_id(instance.profile).map_or(0, |profile| profile.compute_slices);
        let takes = latency::create(view.board, slices, self.host.spec.latency);
        let number = self.change(view.index, takes, |gpu| {
            gpu.create_compute(view.board, instance.number, profile, placement)?;
            Ok(gpu.last)
        })?;
        Ok(Handle::Compute { gpu: view.index, number }.encode())
    }

    /// Destroys a compute instance that no process uses.
    pub(crate) fn destroy_compute(&self, raw: usize) -> Result<(), Code> {
        let (view, instance, compute) = self.compute(raw)?;
        self.may_change()?;
        let uuid = self.mig_uuid(view.index, instance.id, compute.id);
        if self.users(&view).iter().any(|user| user.uuid == uuid) {
            return Err(Code::IN_USE);
        }
        let factor = self.host.spec.latency;
        let settles = latency::settle_ms(factor);
        self.change(view.index, latency::destroy(view.board, factor), |gpu| gpu.destroy_compute(compute.number, now_ms() + settles))
    }

    /// Asks for a MIG mode and gives the activation status.
    pub(crate) fn set_mode(&self, device: usize, mig: bool) -> Result<Option<Code>, Code> {
        let view = self.whole(device)?;
        if view.board.instances == 0 {
            return Err(Code::NOT_SUPPORTED);
        }
        self.may_change()?;
        let has_clients = !self.users(&view).is_empty();
        self.change(view.index, Duration::ZERO, |gpu| gpu.set_mode(view.board, mig, has_clients))
    }

    /// Handles of the GPU instances of a profile, by id of the profile.
    pub(crate) fn instances(&self, device: usize, profile: u32) -> Result<Vec<usize>, Code> {
        let view = self.whole(device)?;
        view.gpu.needs_mig()?;
        self.may_change()?;
        view.board.by_id(profile).ok_or(Code::INVALID_ARGUMENT)?;
        let alike = view.gpu.instances.iter().filter(|instance| instance.profile == profile);
        Ok(alike.map(|instance| Handle::Instance { gpu: view.index, number: instance.number }.encode()).collect())
    }

    /// Handle of the GPU instance of this id.
    pub(crate) fn instance_by_id(&self, device: usize, id: u32) -> Result<usize, Code> {
        let view = self.whole(device)?;
        view.gpu.needs_mig()?;
        self.may_change()?;
        let instance = view.gpu.by_id(id).ok_or(Code::NOT_FOUND)?;
        Ok(Handle::Instance { gpu: view.index, number: instance.number }.encode())
    }

    /// Handles of the compute instances of a profile in a GPU instance.
    pub(crate) fn computes(&self, raw: usize, profile: u32) -> Result<Vec<usize>, Code> {
        let (view, instance) = self.instance(raw)?;
        self.may_change()?;
        let slices = view.board.by_id(instance.profile).ok_or(Code::UNKNOWN)?.compute_slices;
        compute::profile(slices, profile)?;
        let alike = instance.computes.iter().filter(|compute| compute.profile == profile);
        Ok(alike.map(|compute| Handle::Compute { gpu: view.index, number: compute.number }.encode()).collect())
    }

    /// Handle of the compute instance of this id in a GPU instance.
    pub(crate) fn compute_by_id(&self, raw: usize, id: u32) -> Result<usize, Code> {
        let (view, instance) = self.instance(raw)?;
        self.may_change()?;
        let compute = instance.computes.iter().find(|compute| compute.id == id).ok_or(Code::NOT_FOUND)?;
        Ok(Handle::Compute { gpu: view.index, number: compute.number }.encode())
    }

    /// Changes a GPU as hardware does: one change at a time, refused at once, done after a while, told to who waits for it.
    pub(crate) fn change<T>(&self, index: usize, takes: Duration, change: impl Fn(&mut Gpu) -> Result<T, Code>) -> Result<T, Code> {
        let _one_at_a_time = self.host.lock(&format!("gpu-{index}.lock"))?;
        let on_gpu = |gpus: &mut [Gpu]| {
            let gpu = gpus.get_mut(index).ok_or(Code::INVALID_ARGUMENT)?;
            if gpu.lost { Err(Code::GPU_IS_LOST) } else { change(gpu) }
        };
        if !takes.is_zero() {
            let mut trial = self.host.state().map_err(|_| Code::UNKNOWN)?;
            on_gpu(&mut trial.gpus)?;
            #[allow(clippy::disallowed_methods, reason = "the time that hardware takes is the point")]
            std::thread::sleep(takes);
        }
        let value = self.host.change(|state| on_gpu(&mut state.gpus))?;
        self.emit(Event { gpu: index, kind: MIG_CONFIG_CHANGE, data: 0, instance: None, compute: None });
        Ok(value)
    }
}
