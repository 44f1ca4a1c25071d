//! The profiles and possible placements of one GPU model.

use serde::{Deserialize, Serialize};

use crate::{Partition, Placement, Profile, ProfileId, Site};

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
    /// The 7-slice, 8-memory-slice geometry that A100, H100 and H200 share, with `memory_mib` split over the memory slices.
    ///
    /// Placements: NVIDIA's MIG user guide, "1g {0-6}:1, 2g {0,2,4}:2, 3g {0,4}:4, 4g {0}:4, 7g {0}:8".
    pub fn seven_slices(name: &str, memory_mib: u64) -> Catalog {
        let slice_mib = memory_mib / 8;
        let profile = |compute_slices: u8, memory_slices: u8, starts: &[u8]| Profile {
            name: format!("{compute_slices}g.{}mib", slice_mib * u64::from(memory_slices)),
            compute_slices,
            memory_slices,
            memory_mib: slice_mib * u64::from(memory_slices),
            starts: starts.to_vec(),
        };
        Catalog {
            name: name.to_owned(),
            compute_slices: 7,
            memory_slices: 8,
            profiles: vec![
                profile(1, 1, &[0, 1, 2, 3, 4, 5, 6]),
                profile(2, 2, &[0, 2, 4]),
                profile(3, 4, &[0, 4]),
                profile(4, 4, &[0]),
                profile(7, 8, &[0]),
            ],
        }
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

    /// Every legal partition, partial ones and the empty one included: 298 on a 7-slice GPU.
    pub fn partitions(&self) -> Vec<Partition> {
        let sites = self.sites();
        let mut found = Vec::new();
        let mut chosen = Vec::new();
        extend(&sites, 0, &mut chosen, &mut found);
        found
    }

    /// The legal partitions to which no instance can be added: 19 on a 7-slice GPU.
    pub fn maximal_partitions(&self) -> Vec<Partition> {
        let sites = self.sites();
        let fits = |partition: &Partition, site: &Site| partition.sites().iter().all(|s| !s.placement.overlaps(site.placement));
        self.partitions().into_iter().filter(|partition| !sites.iter().any(|site| fits(partition, site))).collect()
    }
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
