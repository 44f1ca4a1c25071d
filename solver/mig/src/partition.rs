//! Legal sets of instances on one GPU.

use serde::{Deserialize, Serialize};

use crate::{Catalog, Site};

/// A legal set of sites on one GPU, sorted by start.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Partition(Vec<Site>);

/// Why a set of sites is no partition.
#[derive(Clone, Debug, thiserror::Error, PartialEq, Eq)]
pub enum PartitionError {
    /// The site is not among the catalog's placements.
    #[error("no profile of catalog {catalog:?} may lie at {site:?}")]
    Unknown {
        /// The catalog's name.
        catalog: String,
        /// The site in question.
        site: Site,
    },
    /// Two sites share a memory slice.
    #[error("{0:?} and {1:?} overlap")]
    Overlap(Site, Site),
}

impl Partition {
    /// Checks `sites` against `catalog` and sorts them.
    ///
    /// # Errors
    /// [`PartitionError`] names the offending sites.
    pub fn new(catalog: &Catalog, mut sites: Vec<Site>) -> Result<Partition, PartitionError> {
        sites.sort();
        let possible = catalog.sites();
        for site in &sites {
            if !possible.contains(site) {
                return Err(PartitionError::Unknown { catalog: catalog.name.clone(), site: *site });
            }
        }
        for pair in sites.windows(2) {
            if pair[0].placement.overlaps(pair[1].placement) {
                return Err(PartitionError::Overlap(pair[0], pair[1]));
            }
        }
        Ok(Partition(sites))
    }

    pub(crate) fn from_sorted(sites: Vec<Site>) -> Partition {
        Partition(sites)
    }

    /// The sites by ascending start.
    pub fn sites(&self) -> &[Site] {
        &self.0
    }

    /// `4g@0 2g@4 1g@6`: compute slices and starts, as an operator reads it.
    pub fn describe(&self, catalog: &Catalog) -> String {
        let parts: Vec<String> =
            self.0.iter().map(|site| format!("{}@{}", catalog.short_name(site.profile), site.placement.start)).collect();
        if parts.is_empty() { "empty".to_owned() } else { parts.join(" ") }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Placement, ProfileId};

    fn site(profile: u8, start: u8, size: u8) -> Site {
        Site { placement: Placement { start, size }, profile: ProfileId(profile) }
    }

    #[test]
    fn overlapping_and_unknown_sites_are_refused() {
        let catalog = Catalog::seven_slices("cpu", 8000);
        assert!(matches!(Partition::new(&catalog, vec![site(3, 0, 4), site(1, 2, 2)]), Err(PartitionError::Overlap(..))));
        assert!(matches!(Partition::new(&catalog, vec![site(1, 1, 2)]), Err(PartitionError::Unknown { .. })));
        let legal = Partition::new(&catalog, vec![site(2, 4, 4), site(3, 0, 4)]).unwrap();
        assert_eq!(legal.describe(&catalog), "4g@0 3g@4");
    }
}
