//! Multisets of profiles, positions ignored.

use serde::{Deserialize, Serialize};

use crate::{Catalog, Partition, ProfileId};

/// How many instances of each profile there are, indexed by [`ProfileId`]; positions are ignored.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Geometry(pub Vec<u32>);

impl Geometry {
    /// The geometry of a partition.
    pub fn of(catalog: &Catalog, partition: &Partition) -> Geometry {
        let mut counts = vec![0; catalog.profiles.len()];
        for site in partition.sites() {
            counts[site.profile.index()] += 1;
        }
        Geometry(counts)
    }

    /// Instances of this profile.
    pub fn count(&self, profile: ProfileId) -> u32 {
        self.0.get(profile.index()).copied().unwrap_or(0)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn a_seven_slice_gpu_has_38_geometries() {
        let catalog = Catalog::seven_slices("A100", 80 * 1024);
        let all: BTreeSet<Geometry> = catalog.partitions().iter().map(|p| Geometry::of(&catalog, p)).collect();
        assert_eq!(all.len(), 38);
    }
}
