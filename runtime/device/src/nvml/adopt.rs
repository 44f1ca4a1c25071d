//! Making sense of what is on the GPUs when the device is opened.

use super::record::{Entry, Stage};
use super::state::{Own, State, is_entry};
use super::{Inner, observe};
use crate::DeviceError;

impl Inner {
    /// Takes over what the record says is ours and is there, removes the half of it, and tells the rest from it.
    pub(crate) fn adopt(&self, entries: Vec<Entry>) -> Result<(), DeviceError> {
        let _operation = self.operation();
        let mut state = self.state();
        for (at, entries) in state.sort(entries) {
            state.adopt_on(at, entries)?;
        }
        state.persist()?;
        drop(state);
        for id in self.half_made() {
            self.remove_or_leave(id);
        }
        self.look_anew()
    }

    /// Destroys what others made and nobody uses.
    pub(crate) fn take_over(&self) -> Result<(), DeviceError> {
        let _operation = self.operation();
        let claimed = self.state().claim()?;
        for &id in &claimed {
            self.remove_or_leave(id);
        }
        let mut state = self.state();
        for id in claimed {
            // Somebody uses it after all: it is as foreign as it was.
            state.own.remove(&id);
        }
        state.persist()?;
        drop(state);
        self.look_anew()
    }

    fn half_made(&self) -> Vec<u64> {
        let state = self.state();
        state.own.iter().filter(|(_, own)| own.entry.stage != Stage::Made).map(|(id, _)| *id).collect()
    }

    fn remove_or_leave(&self, id: u64) {
        match self.remove(id, self.destroy_deadline) {
            Ok(()) => tracing::info!(instance = id, "removed a left-over instance"),
            Err(why) => tracing::warn!(instance = id, %why, "a left-over instance could not be removed"),
        }
    }

    fn look_anew(&self) -> Result<(), DeviceError> {
        let mut state = self.state();
        for at in 0..state.cards.len() {
            state.refresh(at)?;
            state.cards[at].changed = false;
        }
        Ok(())
    }
}

impl State {
    /// The entries of each managed GPU; those of others are kept as they are. What is recorded of a GPU that is not cut up is gone.
    fn sort(&mut self, entries: Vec<Entry>) -> Vec<(usize, Vec<Entry>)> {
        let of_card = |uuid: &str| entries.iter().filter(|entry| entry.gpu == uuid).cloned().collect::<Vec<_>>();
        let managed: Vec<_> =
            self.cards.iter().enumerate().filter(|(_, card)| card.mig).map(|(at, card)| (at, of_card(&card.identity.uuid))).collect();
        let others = entries.iter().filter(|entry| !self.cards.iter().any(|card| card.identity.uuid == entry.gpu)).cloned();
        self.others = others.collect();
        managed
    }

    fn adopt_on(&mut self, at: usize, entries: Vec<Entry>) -> Result<(), DeviceError> {
        let card = &self.cards[at];
        let looked = observe::all(&self.session, card.identity.handle, &card.layout);
        let mut seen = looked.map_err(|fault| fault.on(card.index()))?;
        for mut entry in entries {
            let Some(position) = seen.iter().position(|seen| is_entry(seen, &entry)) else {
                tracing::info!(gpu = %entry.gpu, start = entry.start, "an instance of an earlier run is gone");
                continue;
            };
            let found = seen.remove(position);
            entry.gi = Some(found.info.id);
            if entry.stage == Stage::Made && found.mig().is_none() {
                entry.stage = Stage::Unmaking;
            }
            let site = self.site_of(at, entry.profile, entry.placement());
            let id = self.fresh_id();
            self.own.insert(id, Own { card: at, site, entry, mig: found.mig().cloned() });
        }
        Ok(())
    }

    /// Makes foreign instances that nothing uses ours, to be destroyed.
    fn claim(&mut self) -> Result<Vec<u64>, DeviceError> {
        let mut claimed = Vec::new();
        for at in 0..self.cards.len() {
            for foreign in std::mem::take(&mut self.cards[at].foreign) {
                // Asked of the GPU: an instance may have several MIG devices.
                let running = self.session.processes(self.cards[at].identity.handle).map_err(|fault| self.error(at, fault))?;
                if let Some(user) = running.iter().find(|running| running.gi == foreign.info.id) {
                    tracing::warn!(instance = foreign.id, pid = user.pid, "somebody else's instance is in use and stays");
                    continue;
                }
                let site = self.site_of(at, foreign.info.profile, foreign.info.placement);
                let entry = Entry {
                    gpu: self.cards[at].identity.uuid.clone(),
                    gi: Some(foreign.info.id),
                    profile: foreign.info.profile,
                    start: foreign.info.placement.start,
                    size: foreign.info.placement.size,
                    stage: Stage::Unmaking,
                };
                self.own.insert(foreign.id, Own { card: at, site, entry, mig: foreign.mig });
                claimed.push(foreign.id);
            }
        }
        self.persist()?;
        Ok(claimed)
    }
}
