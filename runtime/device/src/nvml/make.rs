//! Creating and destroying instances, one step at a time. Every step leaves the record such that the next look at the GPU can finish or undo it.

use migrator_mig::Site;

use super::fault::Fault;
use super::observe;
use super::record::{Entry, Stage};
use super::state::{Own, State, is_entry};
use super::sys::{GiHandle, GiInfo};
use crate::{DeviceError, Instance};

/// Why an instance was not created, and what is left to undo.
pub(crate) struct Unmade {
    pub(crate) id: u64,
    pub(crate) error: DeviceError,
}

impl State {
    /// Enters an instance that is about to be created into table and record.
    pub(crate) fn reserve(&mut self, gpu: u32, site: Site) -> Result<u64, DeviceError> {
        let at = self.card(gpu)?;
        if !self.cards[at].layout.catalog.sites().contains(&site) {
            return Err(DeviceError::UnknownSite { gpu, site });
        }
        self.refresh(at)?;
        if let Some(other) = self.list().iter().find(|other| other.gpu == gpu && other.site.placement.overlaps(site.placement)) {
            let (start, size) = (site.placement.start, site.placement.size);
            return Err(DeviceError::Overlap { gpu, start, size, other: other.id });
        }
        let profile = self.cards[at].layout.driver_id(site.profile).unwrap_or_default();
        let entry = Entry {
            gpu: self.cards[at].identity.uuid.clone(),
            gi: None,
            profile,
            start: site.placement.start,
            size: site.placement.size,
            stage: Stage::Making,
        };
        let id = self.fresh_id();
        self.own.insert(id, Own { card: at, site, entry, mig: None });
        if let Err(error) = self.persist() {
            self.own.remove(&id);
            return Err(error);
        }
        Ok(id)
    }

    /// Creates a reserved instance.
    pub(crate) fn make(&mut self, id: u64) -> Result<Instance, Unmade> {
        self.try_make(id).map_err(|error| Unmade { id, error })
    }

    fn try_make(&mut self, id: u64) -> Result<Instance, DeviceError> {
        let own = self.own.get(&id).cloned().ok_or(DeviceError::UnknownInstance(id))?;
        if self.cards[own.card].mig {
            self.make_instances(id, &own)?;
        }
        self.set_stage(id, Stage::Made);
        self.persist()?;
        let own = self.own.get(&id).ok_or(DeviceError::UnknownInstance(id))?;
        Ok(self.describe_own(id, own))
    }

    fn make_instances(&mut self, id: u64, own: &Own) -> Result<(), DeviceError> {
        let (gpu, placement) = (self.cards[own.card].identity.handle, own.site.placement);
        let created = self.session.create_gi(gpu, own.entry.profile, placement);
        let gi = created.map_err(|fault| self.refusal(own.card, fault))?;
        let info = self.session.gi_info(gi).map_err(|fault| self.error(own.card, fault))?;
        self.identify(id, info)?;
        let made = self.make_compute_instance(own, gi, info).map_err(|fault| self.error(own.card, fault))?;
        let Some(own) = self.own.get_mut(&id) else { return Err(DeviceError::UnknownInstance(id)) };
        own.mig = made;
        if own.mig.is_none() {
            let what = format!("finding the MIG device of GPU instance {} on GPU {}", info.id, self.cards[own.card].index());
            return Err(DeviceError::Driver { what, code: 0, text: "it was created and is not there".to_owned() });
        }
        Ok(())
    }

    /// Writes down which GPU instance it is, before there is a compute instance.
    fn identify(&mut self, id: u64, info: GiInfo) -> Result<(), DeviceError> {
        if let Some(own) = self.own.get_mut(&id) {
            own.entry.gi = Some(info.id);
        }
        self.persist()
    }

    /// The compute instance that has the whole GPU instance, and its MIG device.
    fn make_compute_instance(&self, own: &Own, gi: GiHandle, info: GiInfo) -> Result<Option<observe::MigDevice>, Fault> {
        let card = &self.cards[own.card];
        let slices = card.layout.slices(info.profile);
        let profiles = observe::ci_profiles(&self.session, gi, slices)?;
        let Some(full) = profiles.iter().find(|profile| profile.slices == slices) else { return Ok(None) };
        let ci = self.session.create_ci(gi, full.id)?;
        let ci = self.session.ci_id(ci)?;
        observe::mig_device(&self.session, card.identity.handle, info.id, ci)
    }

    /// What it means that the driver does not create a GPU instance.
    fn refusal(&mut self, at: usize, fault: Fault) -> DeviceError {
        let gpu = self.cards[at].index();
        if fault.is_not_supported() {
            let why = "MIG was on when the device was opened and is not any more".to_owned();
            return DeviceError::Mode { gpu, why };
        }
        self.error(at, fault)
    }

    pub(crate) fn set_stage(&mut self, id: u64, stage: Stage) {
        if let Some(own) = self.own.get_mut(&id) {
            own.entry.stage = stage;
        }
    }

    /// Tries once to remove an instance, and tells whether it is gone. Finds by itself how much of it there is.
    pub(crate) fn remove(&mut self, id: u64) -> Result<bool, Fault> {
        let Some(own) = self.own.get(&id) else { return Ok(true) };
        if self.cards[own.card].mig {
            let slices = self.cards[own.card].layout.slices(own.entry.profile);
            let Some(gi) = self.find(own)? else {
                self.forget(id);
                return Ok(true);
            };
            for ci in observe::compute_instances(&self.session, gi, slices)? {
                self.session.destroy_ci(ci)?;
            }
            self.session.destroy_gi(gi)?;
            // Success with something left was seen: go-nvml#146.
            if self.find(own)?.is_some() {
                return Ok(false);
            }
        }
        self.forget(id);
        Ok(true)
    }

    fn find(&self, own: &Own) -> Result<Option<GiHandle>, Fault> {
        let card = &self.cards[own.card];
        for (handle, info) in observe::of_profile(&self.session, card.identity.handle, &card.layout, own.entry.profile)? {
            // Only an entry without an id has to be told from another's by what is in it.
            let looks_like = own.entry.gi.is_none() && info.placement == own.entry.placement();
            let cis =
                if looks_like { observe::compute_instances(&self.session, handle, card.layout.slices(info.profile))?.len() } else { 0 };
            if is_entry(&observe::Seen::bare(info, cis), &own.entry) {
                return Ok(Some(handle));
            }
        }
        Ok(None)
    }

    /// An instance could not be destroyed: it is what it was if nothing of it is missing, and removed later otherwise.
    pub(crate) fn give_up(&mut self, id: u64) {
        let Some(own) = self.own.get(&id) else { return };
        let card = &self.cards[own.card];
        let whole = match observe::all(&self.session, card.identity.handle, &card.layout) {
            Ok(seen) => seen.into_iter().find(|seen| is_entry(seen, &own.entry)).and_then(|seen| seen.mig().cloned()),
            Err(fault) => {
                tracing::debug!(instance = id, %fault, "what is left of an instance stays unknown");
                None
            }
        };
        if let (Some(mig), Some(own)) = (whole, self.own.get_mut(&id)) {
            own.mig = Some(mig);
            own.entry.stage = Stage::Made;
        }
        self.persist_or_log();
    }

    /// Tries once to remove what was left half created or half destroyed on a GPU.
    pub(crate) fn sweep(&mut self, at: usize) {
        if self.cards[at].lost {
            return;
        }
        let left =
            |(id, own): (&u64, &Own)| (own.card == at && own.entry.stage != Stage::Made && self.in_progress != Some(*id)).then_some(*id);
        for id in self.own.iter().filter_map(left).collect::<Vec<_>>() {
            match self.remove(id) {
                Ok(true) => drop(self.finished.insert(id)),
                Ok(false) => {}
                Err(fault) if fault.is_lost() => return self.lose(at),
                Err(fault) => tracing::debug!(instance = id, %fault, "a left-over instance stays"),
            }
        }
    }

    /// A process that keeps an instance from being destroyed, when NVML knows one.
    pub(crate) fn user_of(&self, id: u64) -> Option<u32> {
        let own = self.own.get(&id)?;
        let card = &self.cards[own.card];
        let processes = |handle| match self.session.processes(handle) {
            Ok(processes) => processes,
            Err(fault) => {
                tracing::debug!(instance = id, %fault, "who uses an instance stays unknown");
                Vec::new()
            }
        };
        let on_mig = own.mig.as_ref().map(|mig| processes(mig.handle)).unwrap_or_default();
        if let Some(first) = on_mig.first() {
            return Some(first.pid);
        }
        // The MIG device goes with its compute instance; the GPU's list tells instances by their ids.
        let on_gpu = processes(card.identity.handle);
        on_gpu.iter().find(|running| Some(running.gi) == own.entry.gi).map(|running| running.pid)
    }
}
