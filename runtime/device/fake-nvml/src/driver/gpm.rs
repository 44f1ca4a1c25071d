//! Performance counters of Hopper and later.

use super::{Driver, View, held};
use crate::Code;
use crate::handle::Handle;
use crate::host::now_ms;

/// Counters of a GPU or of a GPU instance at one time.
#[derive(Clone, Debug)]
pub(super) struct Sample {
    gpu: usize,
    instance: Option<u32>,
    time_ms: u64,
    /// Share of the multiprocessors that are busy.
    busy: f64,
}

/// What two samples say, in percent.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Measure {
    /// Multiprocessors that were busy.
    pub(crate) busy: f64,
}

impl Driver {
    /// Whether a GPU has counters: Hopper and later.
    pub(crate) fn has_gpm(&self, device: usize) -> Result<bool, Code> {
        self.device(device).map(|view| view.capability().0 >= 9)
    }

    /// A place for a sample.
    pub(crate) fn create_sample(&self) -> usize {
        let number = self.fresh();
        held(&self.samples).insert(number, None);
        Handle::Sample(number).encode()
    }

    /// Frees the place.
    pub(crate) fn free_sample(&self, raw: usize) -> Result<(), Code> {
        let Handle::Sample(number) = Handle::decode(raw)? else { return Err(Code::INVALID_ARGUMENT) };
        held(&self.samples).remove(&number).map(|_| ()).ok_or(Code::INVALID_ARGUMENT)
    }

    /// Samples a MIG device, a GPU, or with `instance` a GPU instance of it by id.
    pub(crate) fn sample(&self, device: usize, instance: Option<u32>, raw: usize) -> Result<(), Code> {
        let view = if instance.is_some() { self.whole(device)? } else { self.device(device)? };
        if !self.has_gpm(device)? {
            return Err(Code::NOT_SUPPORTED);
        }
        let instance = instance.or(view.mig.as_ref().map(|(gi, _)| gi.id));
        let busy = busy(&view, instance)?;
        let Handle::Sample(number) = Handle::decode(raw)? else { return Err(Code::INVALID_ARGUMENT) };
        let mut samples = held(&self.samples);
        let place = samples.get_mut(&number).ok_or(Code::INVALID_ARGUMENT)?;
        *place = Some(Sample { gpu: view.index, instance, time_ms: now_ms(), busy });
        Ok(())
    }

    /// What happened between two samples of the same thing.
    pub(crate) fn measure(&self, first: usize, second: usize) -> Result<Measure, Code> {
        let samples = held(&self.samples);
        let taken = |raw: usize| {
            let Handle::Sample(number) = Handle::decode(raw)? else { return Err(Code::INVALID_ARGUMENT) };
            samples.get(&number).and_then(Option::as_ref).ok_or(Code::INVALID_ARGUMENT)
        };
        let (first, second) = (taken(first)?, taken(second)?);
        if (first.gpu, first.instance) != (second.gpu, second.instance) || first.time_ms > second.time_ms {
            return Err(Code::INVALID_ARGUMENT);
        }
        Ok(Measure { busy: 100.0 * (first.busy + second.busy) / 2.0 })
    }
}

/// The share that tests set; that of a whole GPU is weighed by its instances' multiprocessors.
fn busy(view: &View, instance: Option<u32>) -> Result<f64, Code> {
    if let Some(id) = instance {
        view.gpu.needs_mig()?;
        return view.gpu.by_id(id).map(|instance| instance.busy).ok_or(Code::INVALID_ARGUMENT);
    }
    let sms = |profile: u32| view.board.by_id(profile).map_or(0.0, |profile| f64::from(profile.multiprocessors));
    let busy: f64 = view.gpu.instances.iter().map(|instance| instance.busy * sms(instance.profile)).sum();
    Ok(busy / f64::from(view.board.multiprocessors.max(1)))
}
