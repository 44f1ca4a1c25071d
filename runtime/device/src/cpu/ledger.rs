//! Which instances exist: the book-keeping of the `cpu` device, without side effects.

use std::collections::BTreeMap;

use migrator_mig::{Catalog, Site};

use crate::{DeviceError, Instance};

/// The instances of GPU 0 and what is being created or destroyed.
#[derive(Debug)]
pub(crate) struct Ledger {
    catalog: Catalog,
    cores_per_slice: f64,
    next_id: u64,
    entries: BTreeMap<u64, Entry>,
}

#[derive(Debug)]
struct Entry {
    instance: Instance,
    /// Neither being created nor being destroyed.
    live: bool,
}

impl Ledger {
    pub(crate) fn new(catalog: Catalog, cores_per_slice: f64) -> Ledger {
        Ledger { catalog, cores_per_slice, next_id: 1, entries: BTreeMap::new() }
    }

    /// Takes the site for an instance that is about to be created; it is not listed before [`Ledger::open`].
    pub(crate) fn reserve(&mut self, gpu: u32, site: Site) -> Result<Instance, DeviceError> {
        if gpu != 0 {
            return Err(DeviceError::UnknownGpu(gpu));
        }
        if !self.catalog.sites().contains(&site) {
            return Err(DeviceError::UnknownSite { gpu, site });
        }
        if let Some(other) = self.entries.values().find(|e| e.instance.site.placement.overlaps(site.placement)) {
            let placement = site.placement;
            return Err(DeviceError::Overlap { gpu, start: placement.start, size: placement.size, other: other.instance.id });
        }
        let profile = self.catalog.profile(site.profile);
        let share = self.cores_per_slice * f64::from(profile.compute_slices);
        let instance = Instance { id: self.next_id, gpu, site, share, memory_mib: profile.memory_mib, uuid: None, foreign: false };
        self.next_id += 1;
        self.entries.insert(instance.id, Entry { instance: instance.clone(), live: false });
        Ok(instance)
    }

    /// From now on the instance is listed and can be used.
    pub(crate) fn open(&mut self, id: u64) {
        self.set_live(id, true);
    }

    /// From now on the instance is neither listed nor usable, but its site is still taken.
    pub(crate) fn close(&mut self, id: u64) {
        self.set_live(id, false);
    }

    /// Frees the site.
    pub(crate) fn remove(&mut self, id: u64) {
        self.entries.remove(&id);
    }

    /// The instance, if it can be used.
    pub(crate) fn live(&self, id: u64) -> Result<&Instance, DeviceError> {
        self.entries.get(&id).filter(|e| e.live).map(|e| &e.instance).ok_or(DeviceError::UnknownInstance(id))
    }

    /// All usable instances by start.
    pub(crate) fn list(&self) -> Vec<Instance> {
        let mut all: Vec<Instance> = self.entries.values().filter(|e| e.live).map(|e| e.instance.clone()).collect();
        all.sort_by_key(|instance| instance.site.placement.start);
        all
    }

    fn set_live(&mut self, id: u64, live: bool) {
        if let Some(entry) = self.entries.get_mut(&id) {
            entry.live = live;
        }
    }
}

#[cfg(test)]
mod tests {
    use migrator_mig::{Partition, Placement, ProfileId};
    use proptest::prelude::*;

    use super::*;

    fn ledger() -> Ledger {
        Ledger::new(Catalog::seven_slices("cpu", 8000), 0.25)
    }

    fn site(profile: u8, start: u8, size: u8) -> Site {
        Site { placement: Placement { start, size }, profile: ProfileId(profile) }
    }

    #[test]
    fn an_instance_gets_its_slices_of_cores_and_memory() {
        let instance = ledger().reserve(0, site(2, 4, 4)).unwrap();
        assert_eq!((instance.share, instance.memory_mib), (0.75, 4000));
    }

    #[test]
    fn overlap_unknown_site_and_unknown_gpu_are_refused() {
        let mut ledger = ledger();
        ledger.reserve(0, site(2, 0, 4)).unwrap();
        assert!(matches!(ledger.reserve(0, site(0, 3, 1)), Err(DeviceError::Overlap { start: 3, size: 1, other: 1, .. })));
        assert!(matches!(ledger.reserve(0, site(1, 5, 2)), Err(DeviceError::UnknownSite { .. })));
        assert!(matches!(ledger.reserve(0, site(9, 5, 2)), Err(DeviceError::UnknownSite { .. })));
        assert!(matches!(ledger.reserve(1, site(0, 4, 1)), Err(DeviceError::UnknownGpu(1))));
    }

    #[test]
    fn a_site_stays_taken_until_its_instance_is_removed() {
        let mut ledger = ledger();
        let id = ledger.reserve(0, site(4, 0, 8)).unwrap().id;
        assert!(ledger.live(id).is_err() && ledger.list().is_empty());
        ledger.open(id);
        assert_eq!(ledger.list().len(), 1);
        ledger.close(id);
        assert!(matches!(ledger.live(id), Err(DeviceError::UnknownInstance(_))));
        assert!(matches!(ledger.reserve(0, site(0, 0, 1)), Err(DeviceError::Overlap { .. })));
        ledger.remove(id);
        assert_eq!(ledger.reserve(0, site(0, 0, 1)).unwrap().id, id + 1);
    }

    proptest! {
        #[test]
        fn whatever_is_asked_the_instances_form_a_legal_partition(asks in prop::collection::vec((0_usize..14, any::<bool>()), 0..60)) {
            let catalog = Catalog::seven_slices("cpu", 8000);
            let mut ledger = ledger();
            let mut last = 0;
            for (at, remove) in asks {
                let site = catalog.sites()[at];
                let model: Vec<Site> = ledger.list().iter().map(|i| i.site).collect();
                match ledger.reserve(0, site) {
                    Ok(instance) => {
                        prop_assert!(instance.id > last && !model.iter().any(|s| s.placement.overlaps(site.placement)));
                        last = instance.id;
                        ledger.open(instance.id);
                    }
                    Err(DeviceError::Overlap { other, .. }) => {
                        prop_assert!(model.iter().any(|s| s.placement.overlaps(site.placement)));
                        if remove { ledger.remove(other); }
                    }
                    Err(other) => prop_assert!(false, "{other}"),
                }
                let sites = ledger.list().iter().map(|i| i.site).collect();
                prop_assert!(Partition::new(&catalog, sites).is_ok());
            }
        }
    }
}
