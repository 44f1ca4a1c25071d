//! One GPU as a state machine: what it holds, and what it refuses. Knows nothing of files, processes or clocks.

use migrator_mig::{Board, BoardProfile, Placement};
use serde::{Deserialize, Serialize};

use crate::Code;
use crate::compute::{self, ComputeProfile};

/// What a GPU holds.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Gpu {
    /// Whether MIG is on.
    pub mig: bool,
    /// Whether it will be after the next reset.
    pub pending: bool,
    /// Whether it fell off the bus.
    pub lost: bool,
    /// Number of the last instance that was created; numbers, unlike ids, are never used again.
    pub last: u64,
    /// The GPU instances, in order of creation.
    pub instances: Vec<GpuInstance>,
}

/// A GPU instance.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GpuInstance {
    /// The driver's id, used again once it is free.
    pub id: u32,
    /// Never used again: it tells a stale handle from a good one.
    pub number: u64,
    /// Id of its profile.
    pub profile: u32,
    /// Where it lies.
    pub placement: Placement,
    /// It cannot be destroyed before this time, ms since the epoch: a compute instance of it was destroyed just now.
    pub settles_ms: u64,
    /// Whether a test made it, not a caller of the library.
    pub foreign: bool,
    /// Share of its multiprocessors that are busy, 0..1, as a test said.
    pub busy: f64,
    /// Its compute instances, in order of creation.
    pub computes: Vec<ComputeInstance>,
}

/// A compute instance.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ComputeInstance {
    /// The driver's id within the GPU instance, used again once it is free.
    pub id: u32,
    /// As that of a GPU instance.
    pub number: u64,
    /// Id of its profile, which for compute instances is the enum index too.
    pub profile: u32,
    /// Where it lies, in compute slices of the GPU instance.
    pub placement: Placement,
    /// Index among the MIG devices of the GPU.
    pub device: u32,
}

impl Gpu {
    /// A GPU as it comes up.
    pub fn new(mig: bool) -> Gpu {
        Gpu { mig, pending: mig, ..Gpu::default() }
    }

    /// Asks for a MIG mode; what comes back is the activation status, `None` for success.
    ///
    /// `reference/nvml-mig.md` section 4.2: Ampere needs a reset, Hopper and later do not, and clients are in the way on both.
    ///
    /// # Errors
    /// [`Code::NOT_SUPPORTED`] on a board without MIG.
    pub fn set_mode(&mut self, board: &Board, mig: bool, has_clients: bool) -> Result<Option<Code>, Code> {
        if board.instances == 0 {
            return Err(Code::NOT_SUPPORTED);
        }
        self.pending = mig;
        if mig == self.mig {
            return Ok(None);
        }
        if has_clients {
            return Ok(Some(Code::IN_USE));
        }
        if !board.resetless {
            return Ok(Some(Code::RESET_REQUIRED));
        }
        self.reset();
        Ok(None)
    }

    /// A reset: the pending mode holds, and no instance survives.
    pub fn reset(&mut self) {
        self.mig = self.pending;
        self.lost = false;
        self.instances.clear();
    }

    /// Creates a GPU instance at `start`, or at the highest free start, as drivers do (section 3.5).
    ///
    /// # Errors
    /// [`Code::NOT_SUPPORTED`] with MIG off, [`Code::INVALID_ARGUMENT`] for a profile or a placement that the board does not have,
    /// [`Code::INSUFFICIENT_RESOURCES`] when something that it needs is taken.
    pub fn create(&mut self, board: &Board, profile: u32, placement: Option<Placement>) -> Result<&mut GpuInstance, Code> {
        self.needs_mig()?;
        let profile = board.by_id(profile).ok_or(Code::INVALID_ARGUMENT)?;
        let free = self.free(board, profile);
        let placement = match placement {
            Some(wanted) if wanted.size != profile.memory_slices || !profile.starts.contains(&wanted.start) => {
                return Err(Code::INVALID_ARGUMENT);
            }
            Some(wanted) => *free.iter().find(|free| **free == wanted).ok_or(Code::INSUFFICIENT_RESOURCES)?,
            None => *free.last().ok_or(Code::INSUFFICIENT_RESOURCES)?,
        };
        let id = self.free_id(board, profile.memory_slices).ok_or(Code::INSUFFICIENT_RESOURCES)?;
        self.last += 1;
        let (number, profile) = (self.last, profile.id);
        self.instances.push(GpuInstance { id, number, profile, placement, settles_ms: 0, foreign: false, busy: 0.0, computes: Vec::new() });
        self.instances.last_mut().ok_or(Code::UNKNOWN)
    }

    /// Destroys a GPU instance.
    ///
    /// # Errors
    /// [`Code::INVALID_ARGUMENT`] when there is none of this number, [`Code::IN_USE`] while it holds compute instances or settles.
    pub fn destroy(&mut self, number: u64, now_ms: u64) -> Result<(), Code> {
        let instance = self.instance(number)?;
        if !instance.computes.is_empty() || instance.settles_ms > now_ms {
            return Err(Code::IN_USE);
        }
        self.instances.retain(|instance| instance.number != number);
        Ok(())
    }

    /// Creates a compute instance in the GPU instance of this number, at `placement` or at the first free one.
    ///
    /// # Errors
    /// As [`Gpu::create`]; [`Code::NOT_SUPPORTED`] for a profile that this GPU instance does not offer.
    pub fn create_compute(&mut self, board: &Board, number: u64, profile: u32, placement: Option<Placement>) -> Result<u32, Code> {
        let instance = self.instance(number)?;
        let slices = board.by_id(instance.profile).ok_or(Code::UNKNOWN)?.compute_slices;
        let offered = compute::profile(slices, profile)?;
        let free = instance.free(&offered);
        let placement = match placement {
            Some(wanted) if wanted.size != offered.slices || !offered.starts.contains(&wanted.start) => return Err(Code::INVALID_ARGUMENT),
            Some(wanted) => *free.iter().find(|free| **free == wanted).ok_or(Code::INSUFFICIENT_RESOURCES)?,
            None => *free.first().ok_or(Code::INSUFFICIENT_RESOURCES)?,
        };
        let device = self.free_device(board).ok_or(Code::INSUFFICIENT_RESOURCES)?;
        self.last += 1;
        let last = self.last;
        let instance = self.instances.iter_mut().find(|instance| instance.number == number).ok_or(Code::INVALID_ARGUMENT)?;
        let id = (0..).find(|id| instance.computes.iter().all(|compute| compute.id != *id)).ok_or(Code::UNKNOWN)?;
        instance.computes.push(ComputeInstance { id, number: last, profile, placement, device });
        Ok(id)
    }

    /// Destroys a compute instance; its GPU instance settles until `settles_ms`.
    ///
    /// # Errors
    /// [`Code::INVALID_ARGUMENT`] when there is none of this number.
    pub fn destroy_compute(&mut self, number: u64, settles_ms: u64) -> Result<(), Code> {
        let holds = |instance: &&mut GpuInstance| instance.computes.iter().any(|compute| compute.number == number);
        let instance = self.instances.iter_mut().find(holds).ok_or(Code::INVALID_ARGUMENT)?;
        instance.computes.retain(|compute| compute.number != number);
        instance.settles_ms = settles_ms;
        Ok(())
    }

    /// How many more instances of a profile fit, if nothing else comes.
    ///
    /// # Errors
    /// As [`Gpu::create`].
    pub fn remaining(&self, board: &Board, profile: u32) -> Result<u32, Code> {
        self.needs_mig()?;
        board.by_id(profile).ok_or(Code::INVALID_ARGUMENT)?;
        let mut trial = self.clone();
        let mut count = 0;
        while trial.create(board, profile, None).is_ok() {
            count += 1;
        }
        Ok(count)
    }

    /// The GPU instance of this number.
    ///
    /// # Errors
    /// [`Code::INVALID_ARGUMENT`] when there is none: the handle is stale.
    pub fn instance(&self, number: u64) -> Result<&GpuInstance, Code> {
        self.instances.iter().find(|instance| instance.number == number).ok_or(Code::INVALID_ARGUMENT)
    }

    /// The GPU instance of this id.
    pub fn by_id(&self, id: u32) -> Option<&GpuInstance> {
        self.instances.iter().find(|instance| instance.id == id)
    }

    /// The compute instance of this number and its GPU instance.
    ///
    /// # Errors
    /// [`Code::INVALID_ARGUMENT`] when there is none: the handle is stale.
    pub fn compute(&self, number: u64) -> Result<(&GpuInstance, &ComputeInstance), Code> {
        self.computes().find(|(_, compute)| compute.number == number).ok_or(Code::INVALID_ARGUMENT)
    }

    /// Every compute instance with its GPU instance.
    pub fn computes(&self) -> impl Iterator<Item = (&GpuInstance, &ComputeInstance)> {
        self.instances.iter().flat_map(|instance| instance.computes.iter().map(move |compute| (instance, compute)))
    }

    /// [`Code::NOT_SUPPORTED`] with MIG off.
    ///
    /// # Errors
    /// Only that one.
    pub fn needs_mig(&self) -> Result<(), Code> {
        if self.mig { Ok(()) } else { Err(Code::NOT_SUPPORTED) }
    }

    /// Where an instance of this profile could be created now, by start.
    fn free(&self, board: &Board, profile: &BoardProfile) -> Vec<Placement> {
        let alike = self.instances.iter().filter(|instance| instance.profile == profile.id).count();
        if alike >= usize::from(profile.count) || self.instances.len() >= usize::from(board.instances) || !self.has_engines(board, profile)
        {
            return Vec::new();
        }
        let clear = |place: &Placement| !self.instances.iter().any(|instance| instance.placement.overlaps(*place));
        profile.starts.iter().map(|&start| Placement { start, size: profile.memory_slices }).filter(clear).collect()
    }

    /// Whether the board has decoders, encoders, JPEG and flow engines left for one more of this profile.
    ///
    /// Engines are not shared between GPU instances, so this is what makes `+me` unique and `+me.all` exclude all but `-me` (section 3.2).
    fn has_engines(&self, board: &Board, profile: &BoardProfile) -> bool {
        let held = self.instances.iter().filter_map(|instance| board.by_id(instance.profile));
        let used = held.chain([profile]).map(engines).fold([0; 4], |sum, more| std::array::from_fn(|kind| sum[kind] + more[kind]));
        let all = board.profiles.iter().map(engines).fold([0; 4], |most, more| std::array::from_fn(|kind| most[kind].max(more[kind])));
        used.iter().zip(all).all(|(used, all)| *used <= all)
    }

    /// Ids come from a range by size (section 3.5: whole 0, half 1..2, quarter 3..6, eighth 7..14), the highest free first.
    fn free_id(&self, board: &Board, size: u8) -> Option<u32> {
        let parts = u32::from(board.memory_slices / size.max(1));
        let range = parts.checked_sub(1)?..2 * parts - 1;
        range.rev().find(|id| self.by_id(*id).is_none())
    }

    fn free_device(&self, board: &Board) -> Option<u32> {
        (0..u32::from(board.instances)).find(|device| self.computes().all(|(_, compute)| compute.device != *device))
    }
}

impl GpuInstance {
    /// Where a compute instance of this profile could be created now, by start.
    pub fn free(&self, profile: &ComputeProfile) -> Vec<Placement> {
        let places = profile.starts.iter().map(|&start| Placement { start, size: profile.slices });
        places.filter(|place| !self.computes.iter().any(|compute| compute.placement.overlaps(*place))).collect()
    }
}

fn engines(profile: &BoardProfile) -> [u32; 4] {
    [profile.decode, profile.encode, profile.jpeg, profile.ofa].map(u32::from)
}

#[cfg(test)]
mod tests;
