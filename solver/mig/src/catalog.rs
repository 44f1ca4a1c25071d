//! The profiles and possible placements of one GPU model.

use serde::{Deserialize, Serialize};

use crate::{Geometry, Partition, Placement, Profile, ProfileId, Site};

/// Profiles and possible placements of one GPU model; data, never computed from the model's name.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Catalog {
    /// Name of the GPU model, e.g. `A100-SXM4-80GB` or `cpu`.
    pub name: String,
    /// Compute slices of the whole GPU (7 on every MIG GPU of 8 memory slices).
    pub compute_slices: u8,
    /// Memory slices of the whole GPU.
    pub memory_slices: u8,
    /// Profiles by ascending compute slices.
    pub profiles: Vec<Profile>,
}

/// Why a catalog cannot be used.
#[derive(Clone, Debug, thiserror::Error, PartialEq, Eq)]
pub enum CatalogError {
    /// A catalog without profiles plans nothing, and one with more than 255 cannot number them.
    #[error("catalog {0:?} has no profiles or too many")]
    Empty(String),
    /// A profile reaches beyond the GPU, or takes no memory slice at all.
    #[error("catalog {catalog:?}: profile {profile:?} at start {start} reaches beyond memory slice {memory_slices}")]
    Outside {
        /// The catalog's name.
        catalog: String,
        /// The profile's name.
        profile: String,
        /// The offending start.
        start: u8,
        /// Memory slices of the GPU.
        memory_slices: u8,
    },
}

impl Catalog {
    /// The 7-slice, 8-memory-slice geometry that A100, H100, H200, B200 and B300 share, with `memory_mib` split over the memory slices.
    ///
    /// Placements: NVIDIA's MIG user guide, "1g {0-6}:1, 2g {0,2,4}:2, 3g {0,4}:4, 4g {0}:4, 7g {0}:8".
    pub fn seven_slices(name: &str, memory_mib: u64) -> Catalog {
        let profiles: [Shape; 5] = [(1, 1, &[0, 1, 2, 3, 4, 5, 6]), (2, 2, &[0, 2, 4]), (3, 4, &[0, 4]), (4, 4, &[0]), (7, 8, &[0])];
        Catalog::of(name, memory_mib, (7, 8), &profiles)
    }

    /// [`Catalog::seven_slices`] and the 1g of double memory (`1g.20gb` on boards of 80 GB), which comes after the plain 1g.
    ///
    /// Placements "{0,2,4,6}:2", enum 9: `reference/nvml-mig.md` section 3.1.
    pub fn seven_slices_and_double(name: &str, memory_mib: u64) -> Catalog {
        let mut catalog = Catalog::seven_slices(name, memory_mib);
        catalog.profiles.insert(1, profile(memory_mib / 8, (1, 2, &[0, 2, 4, 6])));
        catalog
    }

    /// The 4-slice geometry of A30. Placements "1g {0-3}:1, 2g {0,2}:2, 4g {0}:4": `reference/nvml-mig.md` section 3.2.
    pub fn four_slices(name: &str, memory_mib: u64) -> Catalog {
        Catalog::of(name, memory_mib, (4, 4), &[(1, 1, &[0, 1, 2, 3]), (2, 2, &[0, 2]), (4, 4, &[0])])
    }

    /// The geometry of RTX PRO 6000 Blackwell: 4 compute slices on 12 memory slices.
    ///
    /// Placements "1g {0,3,6,9}:3, 2g {0,6}:6, 4g {0}:12": `reference/nvml-mig.md` section 3.2.
    pub fn twelve_units(name: &str, memory_mib: u64) -> Catalog {
        Catalog::of(name, memory_mib, (4, 12), &[(1, 3, &[0, 3, 6, 9]), (2, 6, &[0, 6]), (4, 12, &[0])])
    }

    /// A GPU that processes share under MPS: `n` compute slices (at most 127), profiles of 1 to `n` of them, all with the whole memory.
    ///
    /// Where a share lies means nothing, so its "memory slices" only tell shares apart. There are twice as many as compute slices: a
    /// new share finds room beside those it replaces, as MPS lets their sum exceed 100 % for a while. Who plans keeps the sum of compute slices.
    pub fn shares(name: &str, n: u8, memory_mib: u64) -> Catalog {
        let n = n.clamp(1, 127);
        let profile = |slices: u8| Profile {
            name: format!("{slices}of{n}"),
            compute_slices: slices,
            memory_slices: slices,
            memory_mib,
            starts: (0..=2 * n - slices).collect(),
        };
        Catalog { name: name.to_owned(), compute_slices: n, memory_slices: 2 * n, profiles: (1..=n).map(profile).collect() }
    }

    /// Whether any number of compute slices may be an instance and may lie anywhere, as in [`Catalog::shares`]. The partitions of such a
    /// catalog are too many to list ([`Catalog::partitions`]).
    pub fn is_shares(&self) -> bool {
        let free = |(index, profile): (usize, &Profile)| {
            let starts = usize::from(self.memory_slices.saturating_sub(profile.memory_slices)) + 1;
            usize::from(profile.compute_slices) == index + 1
                && profile.memory_slices == profile.compute_slices
                && profile.starts.len() == starts
        };
        self.profiles.len() == usize::from(self.compute_slices) && self.profiles.iter().enumerate().all(free)
    }

    fn of(name: &str, memory_mib: u64, (compute_slices, memory_slices): (u8, u8), profiles: &[Shape]) -> Catalog {
        let slice_mib = memory_mib / u64::from(memory_slices);
        let profiles = profiles.iter().map(|&shape| profile(slice_mib, shape)).collect();
        Catalog { name: name.to_owned(), compute_slices, memory_slices, profiles }
    }

    /// Checks that every placement lies on the GPU.
    ///
    /// # Errors
    /// [`CatalogError`] names the profile and the start that does not fit.
    pub fn check(&self) -> Result<(), CatalogError> {
        if self.profiles.is_empty() || self.profiles.len() > usize::from(u8::MAX) {
            return Err(CatalogError::Empty(self.name.clone()));
        }
        for profile in &self.profiles {
            for &start in &profile.starts {
                let end = u16::from(start) + u16::from(profile.memory_slices);
                if profile.memory_slices == 0 || end > u16::from(self.memory_slices) {
                    return Err(CatalogError::Outside {
                        catalog: self.name.clone(),
                        profile: profile.name.clone(),
                        start,
                        memory_slices: self.memory_slices,
                    });
                }
            }
        }
        Ok(())
    }

    /// The profile of this id.
    ///
    /// # Panics
    /// When the id is of another catalog and out of range.
    pub fn profile(&self, id: ProfileId) -> &Profile {
        &self.profiles[id.index()]
    }

    /// All profile ids, smallest profile first.
    pub fn profile_ids(&self) -> impl Iterator<Item = ProfileId> + use<> {
        (0..self.profiles.len() as u8).map(ProfileId)
    }

    /// The profile of this name (`3g.40gb`) or of this many compute slices (`3g`).
    pub fn by_name(&self, name: &str) -> Option<ProfileId> {
        self.profile_ids().find(|&id| {
            let profile = self.profile(id);
            profile.name == name || format!("{}g", profile.compute_slices) == name
        })
    }

    /// What an operator calls a profile: `3g`, or the vendor's name where a smaller profile has as many compute slices.
    pub fn short_name(&self, id: ProfileId) -> String {
        let profile = self.profile(id);
        let first = self.profiles.iter().position(|other| other.compute_slices == profile.compute_slices);
        if first == Some(id.index()) { format!("{}g", profile.compute_slices) } else { profile.name.clone() }
    }

    /// Every place an instance may lie, by start and then by profile: 14 on a 7-slice GPU.
    pub fn sites(&self) -> Vec<Site> {
        let mut sites: Vec<Site> = self
            .profile_ids()
            .flat_map(|profile| {
                let Profile { memory_slices, starts, .. } = self.profile(profile);
                starts.iter().map(move |&start| Site { placement: Placement { start, size: *memory_slices }, profile })
            })
            .collect();
        sites.sort();
        sites
    }

    /// The sites that overlap none of `pinned`.
    pub fn sites_around(&self, pinned: &[Site]) -> Vec<Site> {
        let mut sites = self.sites();
        sites.retain(|site| !pinned.iter().any(|pin| pin.placement.overlaps(site.placement)));
        sites
    }

    /// Every legal partition, partial ones and the empty one included: 298 on a 7-slice GPU.
    pub fn partitions(&self) -> Vec<Partition> {
        self.partitions_around(&[])
    }

    /// Every legal partition of what `pinned` leaves free; `pinned` itself is not in them.
    pub fn partitions_around(&self, pinned: &[Site]) -> Vec<Partition> {
        let mut found = Vec::new();
        extend(&self.sites_around(pinned), 0, &mut Vec::new(), &mut found);
        found
    }

    /// The legal partitions to which no instance can be added: 19 on a 7-slice GPU.
    pub fn maximal_partitions(&self) -> Vec<Partition> {
        let sites = self.sites();
        let fits = |partition: &Partition, site: &Site| partition.sites().iter().all(|s| !s.placement.overlaps(site.placement));
        self.partitions().into_iter().filter(|partition| !sites.iter().any(|site| fits(partition, site))).collect()
    }

    /// The geometries of [`Catalog::partitions_around`], each once, ascending: 38 on a 7-slice GPU.
    pub fn geometries(&self, pinned: &[Site]) -> Vec<Geometry> {
        let mut all: Vec<Geometry> = self.partitions_around(pinned).iter().map(|partition| Geometry::of(self, partition)).collect();
        all.sort();
        all.dedup();
        all
    }

    /// Those of [`Catalog::geometries`] that no other contains: 12 on a 7-slice GPU.
    pub fn maximal_geometries(&self, pinned: &[Site]) -> Vec<Geometry> {
        let all = self.geometries(pinned);
        let within = |small: &Geometry, large: &Geometry| small != large && small.0.iter().zip(&large.0).all(|(a, b)| a <= b);
        all.iter().filter(|small| !all.iter().any(|large| within(small, large))).cloned().collect()
    }
}

/// Compute slices, memory slices and starts of a profile.
type Shape<'a> = (u8, u8, &'a [u8]);

fn profile(slice_mib: u64, (compute_slices, memory_slices, starts): Shape) -> Profile {
    let memory_mib = slice_mib * u64::from(memory_slices);
    Profile { name: format!("{compute_slices}g.{memory_mib}mib"), compute_slices, memory_slices, memory_mib, starts: starts.to_vec() }
}

fn extend(sites: &[Site], from: usize, chosen: &mut Vec<Site>, found: &mut Vec<Partition>) {
    found.push(Partition::from_sorted(chosen.clone()));
    for (offset, site) in sites[from..].iter().enumerate() {
        if chosen.last().is_none_or(|last| last.placement.end() <= site.placement.start) {
            chosen.push(*site);
            extend(sites, from + offset + 1, chosen, found);
            chosen.pop();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seven_slice_gpu_has_14_sites_298_partitions_and_19_maximal_ones() {
        let catalog = Catalog::seven_slices("A100-SXM4-80GB", 80 * 1024);
        assert_eq!(catalog.check(), Ok(()));
        assert_eq!(catalog.sites().len(), 14);
        assert_eq!(catalog.partitions().len(), 298);
        assert_eq!(catalog.maximal_partitions().len(), 19);
    }

    #[test]
    fn other_boards_have_as_many_partitions_as_the_reference_counts() {
        // `reference/nvml-mig.md` section 3.4: legal states, maximal placed, multisets.
        let counts = |catalog: &Catalog| {
            assert_eq!(catalog.check(), Ok(()));
            (catalog.partitions().len(), catalog.maximal_partitions().len(), catalog.geometries(&[]).len())
        };
        assert_eq!(counts(&Catalog::seven_slices("H200", 141 * 1024)), (298, 19, 38));
        assert_eq!(counts(&Catalog::seven_slices_and_double("H200", 141 * 1024)), (723, 78, 78));
        assert_eq!(counts(&Catalog::four_slices("A30", 24 * 1024)), (26, 5, 10));
        assert_eq!(counts(&Catalog::twelve_units("RTX PRO 6000", 96 * 1024)), (26, 5, 10));
        assert_eq!(Catalog::seven_slices("A100", 8).maximal_geometries(&[]).len(), 12);
    }

    #[test]
    fn shares_are_of_any_size_anywhere_and_have_the_whole_memory() {
        let catalog = Catalog::shares("A100 under MPS", 20, 80 * 1024);
        assert_eq!(catalog.check(), Ok(()));
        assert!(catalog.is_shares() && !Catalog::seven_slices("A100", 80 * 1024).is_shares());
        assert_eq!((catalog.profiles.len(), catalog.sites().len()), (20, 610));
        assert!(catalog.profiles.iter().all(|profile| profile.memory_mib == 80 * 1024));
    }

    #[test]
    fn what_is_pinned_is_worked_around() {
        let catalog = Catalog::four_slices("A30", 24 * 1024);
        let pinned = [Site { placement: Placement { start: 2, size: 1 }, profile: ProfileId(0) }];
        assert_eq!(catalog.sites_around(&pinned).len(), 4);
        assert_eq!(catalog.maximal_geometries(&pinned), [Geometry(vec![1, 1, 0]), Geometry(vec![3, 0, 0])]);
    }

    #[test]
    fn a_second_profile_of_as_many_slices_goes_by_its_full_name() {
        let catalog = Catalog::seven_slices_and_double("H100", 80 * 1024);
        let names: Vec<String> = catalog.profile_ids().map(|id| catalog.short_name(id)).collect();
        assert_eq!(names, ["1g", "1g.20480mib", "2g", "3g", "4g", "7g"]);
    }

    #[test]
    fn a_profile_is_found_by_its_name_and_by_its_slices() {
        let catalog = Catalog::seven_slices("cpu", 8000);
        assert_eq!(catalog.by_name("3g"), Some(ProfileId(2)));
        assert_eq!(catalog.by_name("3g.4000mib"), Some(ProfileId(2)));
        assert_eq!(catalog.by_name("5g"), None);
    }

    #[test]
    fn a_start_beyond_the_gpu_is_refused() {
        let mut catalog = Catalog::seven_slices("cpu", 8000);
        catalog.profiles[4].starts.push(4);
        assert!(matches!(catalog.check(), Err(CatalogError::Outside { start: 4, .. })));
    }
}
