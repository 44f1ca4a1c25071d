//! Profiles and where an instance of one may lie.

use serde::{Deserialize, Serialize};

/// Index of a profile in its [`Catalog`](crate::Catalog); profiles are ordered by compute slices, smallest first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct ProfileId(pub u8);

impl ProfileId {
    /// The index, for tables that hold one entry per profile.
    pub fn index(self) -> usize {
        usize::from(self.0)
    }
}

/// A kind of instance, e.g. `3g.40gb`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Profile {
    /// The vendor's name, e.g. `3g.40gb`.
    pub name: String,
    /// Compute slices: the "g" of the name, 1 of 7 shares of the compute units each.
    pub compute_slices: u8,
    /// Memory slices: how many of the GPU's 8 memory shares an instance takes.
    pub memory_slices: u8,
    /// Memory of one instance, MiB.
    pub memory_mib: u64,
    /// Memory slices at which an instance may start, ascending.
    pub starts: Vec<u8>,
}

/// A position on a GPU, in memory slices: `[start, start + size)`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Placement {
    /// First memory slice.
    pub start: u8,
    /// Number of memory slices.
    pub size: u8,
}

impl Placement {
    /// One past the last memory slice.
    pub fn end(self) -> u8 {
        self.start + self.size
    }

    /// Whether the two share a memory slice.
    pub fn overlaps(self, other: Placement) -> bool {
        self.start < other.end() && other.start < self.end()
    }
}

/// A profile at a placement: what one instance of a partition is. Ordered by start.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Site {
    /// Where it lies.
    pub placement: Placement,
    /// What it is.
    pub profile: ProfileId,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn placements_that_touch_do_not_overlap() {
        let left = Placement { start: 0, size: 4 };
        assert!(!left.overlaps(Placement { start: 4, size: 4 }));
        assert!(left.overlaps(Placement { start: 3, size: 1 }));
    }
}
