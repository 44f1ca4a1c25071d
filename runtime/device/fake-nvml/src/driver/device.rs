//! What GPUs and MIG devices say about themselves.

use super::{Driver, View};
use crate::Code;
use crate::handle::Handle;
use crate::uuid;

/// A process on a GPU.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Process {
    pub(crate) pid: u32,
    pub(crate) memory_mib: u64,
    /// Ids of its GPU instance and compute instance.
    pub(crate) mig: Option<(u32, u32)>,
}

impl Driver {
    /// Number of GPUs, lost ones included.
    pub(crate) fn count(&self) -> usize {
        self.host.boards.len()
    }

    /// Handle of the GPU of this index.
    pub(crate) fn by_index(&self, index: usize) -> Result<usize, Code> {
        self.view(index).map(|view| Handle::Gpu(view.index).encode())
    }

    /// Handle of the GPU or MIG device of this UUID.
    pub(crate) fn by_uuid(&self, uuid: &str) -> Result<usize, Code> {
        if let Some(index) = self.host.uuids.iter().position(|known| known == uuid) {
            return self.by_index(index);
        }
        for index in 0..self.count() {
            let Ok(view) = self.view(index) else { continue };
            if let Some((_, compute)) = view.gpu.computes().find(|(gi, ci)| self.mig_uuid(index, gi.id, ci.id) == uuid) {
                return Ok(Handle::Mig { gpu: index, number: compute.number }.encode());
            }
        }
        Err(Code::NOT_FOUND)
    }

    /// Handle of the GPU at this address of the PCI bus.
    pub(crate) fn by_bus(&self, bus: &str) -> Result<usize, Code> {
        // Callers write the domain with four digits or with eight.
        let short = |bus: &str| bus.trim_start_matches('0').to_ascii_lowercase();
        let index = (0..self.count()).find(|index| short(&bus_id(*index)) == short(bus)).ok_or(Code::NOT_FOUND)?;
        self.by_index(index)
    }

    /// UUID of a GPU or MIG device.
    pub(crate) fn uuid(&self, view: &View) -> String {
        let gpu = &self.host.uuids[view.index];
        view.mig.as_ref().map_or_else(|| gpu.clone(), |(gi, ci)| uuid::of_mig(gpu, gi.id, ci.id))
    }

    /// Name of a GPU or MIG device, as drivers give it: `NVIDIA H200 MIG 3g.71gb`.
    pub(crate) fn name(&self, view: &View) -> String {
        let product = view.board.products.first().unwrap_or(&view.board.name);
        let profile = view.mig.as_ref().and_then(|(gi, _)| view.board.by_id(gi.profile));
        profile.map_or_else(|| product.clone(), |profile| format!("{product} MIG {}", profile.name))
    }

    /// Handle of the MIG device at this index.
    pub(crate) fn mig(&self, device: usize, index: u32) -> Result<usize, Code> {
        let view = self.whole(device)?;
        view.gpu.needs_mig()?;
        if index >= u32::from(view.board.instances) {
            return Err(Code::INVALID_ARGUMENT);
        }
        let (_, compute) = view.gpu.computes().find(|(_, compute)| compute.device == index).ok_or(Code::NOT_FOUND)?;
        Ok(Handle::Mig { gpu: view.index, number: compute.number }.encode())
    }

    /// Most MIG devices that the GPU can have; 0 with MIG off.
    pub(crate) fn most_migs(&self, device: usize) -> Result<u32, Code> {
        let view = self.whole(device)?;
        Ok(if view.gpu.mig { u32::from(view.board.instances) } else { 0 })
    }

    /// Current and pending MIG mode.
    pub(crate) fn mode(&self, device: usize) -> Result<(bool, bool), Code> {
        let view = self.whole(device)?;
        if view.board.instances == 0 { Err(Code::NOT_SUPPORTED) } else { Ok((view.gpu.mig, view.gpu.pending)) }
    }

    /// Memory of a GPU or MIG device and how much of it is used, MiB.
    pub(crate) fn memory_mib(&self, view: &View) -> (u64, u64) {
        let profile = view.mig.as_ref().and_then(|(gi, _)| view.board.by_id(gi.profile));
        let total = profile.map_or(view.board.memory_mib, |profile| profile.memory_mib);
        let instance = view.mig.as_ref().map(|(gi, _)| gi.id);
        let here = |process: &Process| instance.is_none() || process.mig.map(|(gi, _)| gi) == instance;
        let used: u64 = self.all_processes(view).iter().filter(|process| here(process)).map(|process| process.memory_mib).sum();
        (total, used.min(total))
    }

    /// Processes on a MIG device, or on a GPU and all its MIG devices.
    pub(crate) fn processes(&self, view: &View) -> Vec<Process> {
        let mig = view.mig.as_ref().map(|(gi, ci)| (gi.id, ci.id));
        let mut found = self.all_processes(view);
        found.retain(|process| mig.is_none() || process.mig == mig);
        found
    }

    fn all_processes(&self, view: &View) -> Vec<Process> {
        let ids = |uuid: &str| {
            let ids = view.gpu.computes().map(|(gi, ci)| (gi.id, ci.id));
            ids.into_iter().find(|(gi, ci)| self.mig_uuid(view.index, *gi, *ci) == uuid)
        };
        let users = self.users(view);
        users.iter().map(|user| Process { pid: user.pid, memory_mib: user.memory_mib, mig: ids(&user.uuid) }).collect()
    }
}

impl View {
    /// Major and minor compute capability.
    pub(crate) fn capability(&self) -> (u32, u32) {
        let parts = self.board.compute_capability.split_once('.');
        let number = |text: &str| text.parse().unwrap_or(0);
        parts.map_or((0, 0), |(major, minor)| (number(major), number(minor)))
    }
}

/// Address on the PCI bus: one bus for each GPU.
pub(crate) fn bus_id(index: usize) -> String {
    format!("00000000:{:02X}:00.0", index + 1)
}
