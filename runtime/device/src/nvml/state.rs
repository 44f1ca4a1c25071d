//! The table of instances: ours, with the record that outlives us, and those of others.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use crossbeam_channel::Sender;
use migrator_mig::{Placement, Site};

use super::card::{Card, Foreign};
use super::counter::Counters;
use super::fault::Fault;
use super::observe::{self, MigDevice, Seen};
use super::record::{Entry, Record, Stage};
use super::sys::Session;
use crate::cpu::process::Process;
use crate::{DeviceError, DeviceEvent, Instance};

/// An instance of ours.
#[derive(Clone, Debug)]
pub(crate) struct Own {
    /// Where its GPU is in [`State::cards`].
    pub(crate) card: usize,
    pub(crate) site: Site,
    pub(crate) entry: Entry,
    pub(crate) mig: Option<MigDevice>,
}

/// Everything that is known; behind one lock, and with it every call of NVML but waiting for events.
pub(crate) struct State {
    pub(crate) session: Arc<Session>,
    pub(crate) cards: Vec<Card>,
    pub(crate) own: BTreeMap<u64, Own>,
    /// What the record says of GPUs that are not managed now.
    pub(crate) others: Vec<Entry>,
    pub(crate) record: Record,
    pub(crate) next_id: u64,
    /// Being created or destroyed: not listed, and not to be swept.
    pub(crate) in_progress: Option<u64>,
    /// Half destroyed when [`State::give_up`] gave up, and gone since.
    pub(crate) finished: BTreeSet<u64>,
    /// Which instance a process attached itself to.
    pub(crate) bound: BTreeMap<Process, u64>,
    pub(crate) counters: Counters,
    pub(crate) events: Sender<DeviceEvent>,
}

impl State {
    /// The managed GPU of this index, unless it is lost.
    pub(crate) fn card(&self, gpu: u32) -> Result<usize, DeviceError> {
        let at = self.cards.iter().position(|card| card.index() == gpu).ok_or(DeviceError::UnknownGpu(gpu))?;
        if self.cards[at].lost { Err(DeviceError::Lost { gpu }) } else { Ok(at) }
    }

    /// An instance of ours that can be used.
    pub(crate) fn usable(&self, id: u64) -> Result<&Own, DeviceError> {
        if self.cards.iter().flat_map(|card| &card.foreign).any(|foreign| foreign.id == id) {
            return Err(DeviceError::Foreign(id));
        }
        let own = self.own.get(&id).ok_or(DeviceError::UnknownInstance(id))?;
        let card = &self.cards[own.card];
        match own.entry.stage {
            _ if card.lost => Err(DeviceError::Lost { gpu: card.index() }),
            Stage::Made => Ok(own),
            Stage::Making | Stage::Unmaking => Err(DeviceError::UnknownInstance(id)),
        }
    }

    pub(crate) fn fresh_id(&mut self) -> u64 {
        self.next_id += 1;
        self.next_id - 1
    }

    /// Writes the record. Instances of whole GPUs are not in it: nothing of them is left when we are gone.
    pub(crate) fn persist(&self) -> Result<(), DeviceError> {
        let ours = self.own.values().filter(|own| self.cards[own.card].mig).map(|own| own.entry.clone());
        self.record.write(self.others.iter().cloned().chain(ours).collect())
    }

    /// As [`State::persist`] where there is no way back; what the file says too much is dropped by the next look at the GPU.
    pub(crate) fn persist_or_log(&self) {
        if let Err(error) = self.persist() {
            tracing::error!(%error, "the record of NVIDIA instances is out of date");
        }
    }

    /// The instance is gone.
    pub(crate) fn forget(&mut self, id: u64) {
        self.own.remove(&id);
        self.bound.retain(|_, instance| *instance != id);
        self.persist_or_log();
    }

    /// Turns a fault into an error, and notices when it means that the GPU is lost.
    pub(crate) fn error(&mut self, card: usize, fault: Fault) -> DeviceError {
        if fault.is_lost() {
            self.lose(card);
        }
        fault.on(self.cards[card].index())
    }

    /// The GPU does not answer. What of ours is found when it does again is removed.
    pub(crate) fn lose(&mut self, at: usize) {
        let card = &mut self.cards[at];
        if std::mem::replace(&mut card.lost, true) {
            return;
        }
        tracing::error!(gpu = card.index(), "the GPU is lost");
        card.foreign.clear();
        let (mig, gpu) = (card.mig, card.index());
        self.own.retain(|_, own| mig || own.card != at);
        for own in self.own.values_mut().filter(|own| own.card == at) {
            own.entry.stage = Stage::Unmaking;
            own.mig = None;
        }
        self.persist_or_log();
        self.tell(DeviceEvent::Lost { gpu });
    }

    /// Sends an event; the channel is bounded, and who does not listen misses what does not fit.
    pub(crate) fn tell(&self, event: DeviceEvent) {
        if let Err(error) = self.events.try_send(event) {
            tracing::warn!(%error, "nobody takes the events of NVIDIA devices");
        }
    }

    /// Looks at a GPU and brings the table up to date: what of ours vanished, and what others made.
    pub(crate) fn refresh(&mut self, at: usize) -> Result<(), DeviceError> {
        let card = &self.cards[at];
        if card.lost || !card.mig {
            return Ok(());
        }
        let looked = observe::all(&self.session, card.identity.handle, &card.layout);
        let mut seen = looked.map_err(|fault| self.error(at, fault))?;
        self.refresh_own(at, &mut seen);
        self.refresh_foreign(at, seen);
        Ok(())
    }

    /// Takes what is ours out of `seen`.
    fn refresh_own(&mut self, at: usize, seen: &mut Vec<Seen>) {
        let (mut gone, mut broken) = (Vec::new(), false);
        for (&id, own) in self.own.iter_mut().filter(|(_, own)| own.card == at) {
            let found = seen.iter().position(|seen| is_entry(seen, &own.entry)).map(|position| seen.remove(position));
            if self.in_progress == Some(id) {
                continue;
            }
            match (found, own.entry.stage) {
                (None, _) => gone.push(id),
                // Without a compute instance it is of no use to anybody.
                (Some(found), Stage::Made) if found.cis.is_empty() => (own.entry.stage, broken) = (Stage::Unmaking, true),
                (Some(found), Stage::Made) => own.mig = found.mig().cloned().or_else(|| own.mig.take()),
                (Some(_), Stage::Making | Stage::Unmaking) => {}
            }
        }
        for id in gone {
            let expected = self.own.get(&id).is_some_and(|own| own.entry.stage != Stage::Made);
            if expected {
                self.finished.insert(id);
            } else {
                tracing::warn!(instance = id, "somebody else destroyed an instance of ours");
                broken = true;
            }
            self.forget(id);
        }
        if broken {
            self.cards[at].changed = true;
            self.persist_or_log();
        }
    }

    fn refresh_foreign(&mut self, at: usize, seen: Vec<Seen>) {
        let before = std::mem::take(&mut self.cards[at].foreign);
        let mut now = Vec::new();
        for seen in seen {
            let cis: Vec<u32> = seen.cis.iter().map(|ci| ci.id).collect();
            let known = before.iter().find(|foreign| foreign.info == seen.info);
            self.cards[at].changed |= known.is_none_or(|foreign| foreign.cis != cis);
            let id = known.map_or_else(|| self.fresh_id(), |foreign| foreign.id);
            now.push(Foreign { id, info: seen.info, cis, mig: seen.mig().cloned() });
        }
        let card = &mut self.cards[at];
        card.changed |= before.iter().any(|foreign| now.iter().all(|other| other.id != foreign.id));
        card.foreign = now;
    }

    /// What exists, by GPU and start. What of ours could not be removed is listed as foreign, for it is in the way as that is.
    pub(crate) fn list(&self) -> Vec<Instance> {
        let ours = self.own.iter().filter(|(id, own)| !self.cards[own.card].lost && self.in_progress != Some(**id));
        let mut all: Vec<Instance> = ours.map(|(&id, own)| self.describe_own(id, own)).collect();
        for (at, card) in self.cards.iter().enumerate() {
            all.extend(card.foreign.iter().map(|foreign| self.describe_foreign(at, foreign)));
        }
        all.sort_by_key(|instance| (instance.gpu, instance.site.placement.start));
        all
    }

    pub(crate) fn describe_own(&self, id: u64, own: &Own) -> Instance {
        let card = &self.cards[own.card];
        let profile = card.layout.catalog.profile(own.site.profile);
        let kind = card.layout.kind(own.entry.profile);
        Instance {
            id,
            gpu: card.index(),
            site: own.site,
            share: f64::from(profile.compute_slices),
            memory_mib: kind.map_or(profile.memory_mib, |kind| kind.profile.memory_mib),
            uuid: if card.mig { own.mig.as_ref().map(|mig| mig.uuid.clone()) } else { Some(card.identity.uuid.clone()) },
            foreign: own.entry.stage != Stage::Made,
        }
    }

    fn describe_foreign(&self, at: usize, foreign: &Foreign) -> Instance {
        let layout = &self.cards[at].layout;
        let site = self.site_of(at, foreign.info.profile, foreign.info.placement);
        let kind = layout.kind(foreign.info.profile);
        Instance {
            id: foreign.id,
            gpu: self.cards[at].index(),
            site,
            share: kind.map_or(1.0, |kind| f64::from(kind.profile.slices)),
            memory_mib: kind.map_or(0, |kind| kind.profile.memory_mib),
            uuid: foreign.mig.as_ref().map(|mig| mig.uuid.clone()),
            foreign: true,
        }
    }

    /// The site of an instance of this driver's profile; of a kind that is not in the catalog, the closest.
    pub(crate) fn site_of(&self, at: usize, profile: u32, placement: Placement) -> Site {
        Site { placement, profile: self.cards[at].layout.closest(profile) }
    }

    /// The process that is attached to an instance, if one is.
    pub(crate) fn attached(&mut self, id: u64) -> Option<Process> {
        self.bound.retain(|process, _| process.is_alive());
        self.bound.iter().find(|(_, instance)| **instance == id).map(|(process, _)| *process)
    }
}

/// Whether this is the GPU instance of an entry. Before NVML told the id there was no compute instance yet, so what has one is another's.
pub(crate) fn is_entry(seen: &Seen, entry: &Entry) -> bool {
    match entry.gi {
        Some(gi) => seen.is(gi, entry.profile, entry.placement()),
        None => seen.info.profile == entry.profile && seen.info.placement == entry.placement() && seen.cis.is_empty(),
    }
}
