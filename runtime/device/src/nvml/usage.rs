//! What instances are doing: memory, processes, and the share of multiprocessors that are busy.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use super::fault::Fault;
use super::state::State;
use super::sys::{DeviceHandle, SampleHandle, Session};
use crate::{DeviceError, Usage};

/// NVML compares two samples of performance counters that are at least this far apart (nvml.h, `nvmlGpmMetricsGet`).
const APART: Duration = Duration::from_millis(100);

/// The last sample of each instance.
#[derive(Debug, Default)]
pub(crate) struct Counters(BTreeMap<u64, Kept>);

#[derive(Debug)]
struct Kept {
    at: Instant,
    sample: SampleHandle,
    /// What came of it and the one before.
    busy: Option<f64>,
}

impl Counters {
    fn busy(&mut self, session: &Session, id: u64, gpu: DeviceHandle, gi: Option<u32>) -> Result<Option<f64>, Fault> {
        let before = self.0.get(&id);
        if let Some(kept) = before.filter(|kept| kept.at.elapsed() < APART) {
            return Ok(kept.busy);
        }
        let sample = session.sample(gpu, gi)?;
        let percent = before.map(|kept| session.busy_percent(kept.sample, sample)).transpose();
        let busy =
            percent.as_ref().ok().copied().flatten().filter(|percent| percent.is_finite()).map(|percent| (percent / 100.0).clamp(0.0, 1.0));
        if let Some(old) = self.0.insert(id, Kept { at: Instant::now(), sample, busy }) {
            session.free_sample(old.sample);
        }
        percent.map(|_| busy)
    }

    /// Gives back the samples of instances that are not there any more.
    pub(crate) fn keep(&mut self, session: &Session, lives: impl Fn(u64) -> bool) {
        let gone: Vec<u64> = self.0.keys().copied().filter(|&id| !lives(id)).collect();
        for kept in gone.iter().filter_map(|id| self.0.remove(id)) {
            session.free_sample(kept.sample);
        }
    }
}

/// One that can be looked at.
struct Subject {
    id: u64,
    card: usize,
    /// The MIG device, or the GPU that is one instance.
    device: DeviceHandle,
    gi: Option<u32>,
}

impl State {
    /// What every instance with a compute instance is doing.
    pub(crate) fn usage(&mut self) -> Result<Vec<Usage>, DeviceError> {
        let subjects = self.subjects();
        let session = self.session.clone();
        self.counters.keep(&session, |id| subjects.iter().any(|subject| subject.id == id));
        let mut found = Vec::new();
        for subject in &subjects {
            let usage = self.usage_of(subject);
            found.push(usage.map_err(|fault| self.error(subject.card, fault))?);
        }
        Ok(found)
    }

    fn subjects(&self) -> Vec<Subject> {
        let mut all = Vec::new();
        for (&id, own) in self.own.iter().filter(|(_, own)| !self.cards[own.card].lost) {
            let card = &self.cards[own.card];
            let device = if card.mig { own.mig.as_ref().map(|mig| mig.handle) } else { Some(card.identity.handle) };
            all.extend(device.map(|device| Subject { id, card: own.card, device, gi: own.entry.gi }));
        }
        for (at, card) in self.cards.iter().enumerate() {
            let subject = |id, device, gi| Subject { id, card: at, device, gi: Some(gi) };
            all.extend(card.foreign.iter().filter_map(|foreign| Some(subject(foreign.id, foreign.mig.as_ref()?.handle, foreign.info.id))));
        }
        all
    }

    fn usage_of(&mut self, subject: &Subject) -> Result<Usage, Fault> {
        let card = &self.cards[subject.card];
        let (_, used) = self.session.memory(subject.device)?;
        let mut processes: Vec<u32> = self.session.processes(subject.device)?.iter().map(|running| running.pid).collect();
        processes.sort_unstable();
        processes.dedup();
        let busy = if card.counters {
            self.counters.busy(&self.session, subject.id, card.identity.handle, subject.gi).unwrap_or_else(|fault| {
                tracing::debug!(instance = subject.id, %fault, "no performance counters");
                None
            })
        } else {
            None
        };
        Ok(Usage { instance: subject.id, memory_mib: used >> 20, processes, busy })
    }
}
