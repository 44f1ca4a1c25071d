//! What instances are doing: memory, processes, and the share of multiprocessors that are busy.

use super::fault::Fault;
use super::state::State;
use super::sys::DeviceHandle;
use crate::{DeviceError, Usage};

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
