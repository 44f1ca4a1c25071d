//! GPU models as data: what a driver would answer when asked for their MIG profiles.

use std::sync::LazyLock;

use serde::{Deserialize, Serialize};

use crate::{Catalog, Profile};

/// The files of `configs/catalog/`.
const FILES: [&str; 9] = [
    include_str!("../../../configs/catalog/a30.toml"),
    include_str!("../../../configs/catalog/a100-40.toml"),
    include_str!("../../../configs/catalog/a100-80.toml"),
    include_str!("../../../configs/catalog/h100-80.toml"),
    include_str!("../../../configs/catalog/h100-94.toml"),
    include_str!("../../../configs/catalog/h200-141.toml"),
    include_str!("../../../configs/catalog/b200-180.toml"),
    include_str!("../../../configs/catalog/rtx-pro-6000.toml"),
    include_str!("../../../configs/catalog/l40s.toml"),
];

static SHIPPED: LazyLock<Vec<Board>> =
    LazyLock::new(|| FILES.iter().map(|text| toml::from_str(text).expect("a shipped board parses, as a test checks")).collect());

/// A GPU model; `configs/catalog/` holds one file for each.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Board {
    /// Our name for it, e.g. `A100-SXM4-80GB`.
    pub name: String,
    /// What a user may call it on the command line, lower case, e.g. `a100`.
    pub short: Vec<String>,
    /// Names the driver gives to it, e.g. `NVIDIA A100-SXM4-80GB`.
    pub products: Vec<String>,
    /// Where the figures come from.
    pub sources: Vec<String>,
    /// Compute capability, e.g. `8.0`.
    pub compute_capability: String,
    /// Memory of the whole GPU, MiB.
    pub memory_mib: u64,
    /// Multiprocessors of the whole GPU.
    pub multiprocessors: u32,
    /// Compute slices of the whole GPU.
    pub compute_slices: u8,
    /// Memory slices of the whole GPU.
    pub memory_slices: u8,
    /// Most instances at a time; 0 = the GPU has no MIG.
    pub instances: u8,
    /// Whether the MIG mode can be switched without a reset of the GPU (Hopper and later).
    pub resetless: bool,
    /// Every profile the driver offers, by its enum index.
    #[serde(default, rename = "profile")]
    pub profiles: Vec<BoardProfile>,
}

/// Why a board's description cannot be right.
#[derive(Clone, Debug, thiserror::Error, PartialEq, Eq)]
pub enum BoardError {
    /// MIG without profiles, or profiles without MIG.
    #[error("board {0:?} must have profiles if, and only if, it may hold instances")]
    Profiles(String),
    /// Two profiles that a driver could not tell apart.
    #[error("board {board:?}: profiles {first:?} and {second:?} have the same {what}")]
    Alike {
        /// The board's name.
        board: String,
        /// `index`, `id` or `name`.
        what: &'static str,
        /// One of the two.
        first: String,
        /// The other.
        second: String,
    },
    /// Starts that are none, not ascending, or that leave the board.
    #[error("board {board:?}: profile {profile:?} may not start at {starts:?}")]
    Starts {
        /// The board's name.
        board: String,
        /// The profile's name.
        profile: String,
        /// Its starts.
        starts: Vec<u8>,
    },
    /// A profile has more of something than the board, or nothing of it.
    #[error("board {board:?}: profile {profile:?} cannot have {amount} {what}; the board's bound is {bound}")]
    Amount {
        /// The board's name.
        board: String,
        /// The profile's name.
        profile: String,
        /// What there is too much or too little of.
        what: &'static str,
        /// How much.
        amount: u64,
        /// Most that it may be.
        bound: u64,
    },
}

/// The boards of `configs/catalog/`, those without MIG last.
pub fn shipped() -> &'static [Board] {
    &SHIPPED
}

/// The shipped board of this name, short name or product name, upper or lower case.
pub fn find(name: &str) -> Option<&'static Board> {
    shipped().iter().find(|board| board.is_called(name))
}

/// A profile of a GPU instance as the driver tells it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BoardProfile {
    /// The vendor's name, e.g. `3g.40gb` or `1g.10gb+me`.
    pub name: String,
    /// Argument of `nvmlDeviceGetGpuInstanceProfileInfo`: `NVML_GPU_INSTANCE_PROFILE_*`.
    pub index: u32,
    /// What creation and placements take; another number than the index.
    pub id: u32,
    /// Compute slices.
    pub compute_slices: u8,
    /// Memory slices.
    pub memory_slices: u8,
    /// Memory of one instance, MiB.
    pub memory_mib: u64,
    /// Multiprocessors of one instance.
    pub multiprocessors: u32,
    /// Most instances of it at a time.
    pub count: u8,
    /// Memory slices at which an instance may start, ascending.
    pub starts: Vec<u8>,
    /// Copy engines.
    pub copy: u8,
    /// Video decoders.
    pub decode: u8,
    /// Video encoders.
    #[serde(default)]
    pub encode: u8,
    /// JPEG decoders.
    pub jpeg: u8,
    /// Optical flow accelerators.
    pub ofa: u8,
}

impl BoardProfile {
    /// Whether it is of the kind the planner deals in: no media extensions, no graphics, no memory beyond its slices' share.
    pub fn is_plain(&self) -> bool {
        // NVML_GPU_INSTANCE_PROFILE_{1,2,3,4,7,8,6}_SLICE: `reference/nvml-mig.md` section 2.6.
        self.index <= 6
    }

    /// How many instances its starts leave room for.
    pub fn disjoint(&self) -> u8 {
        let mut end = 0;
        let mut room = 0;
        for &start in &self.starts {
            if room == 0 || start >= end {
                (end, room) = (start.saturating_add(self.memory_slices), room + 1);
            }
        }
        room
    }
}

impl Board {
    /// Whether this is its name, short name or product name, upper or lower case.
    pub fn is_called(&self, name: &str) -> bool {
        let all = std::iter::once(&self.name).chain(&self.short).chain(&self.products);
        all.into_iter().any(|other| other.eq_ignore_ascii_case(name))
    }

    /// The profile of this id (not index).
    pub fn by_id(&self, id: u32) -> Option<&BoardProfile> {
        self.profiles.iter().find(|profile| profile.id == id)
    }

    /// The profile of this enum index (not id).
    pub fn by_index(&self, index: u32) -> Option<&BoardProfile> {
        self.profiles.iter().find(|profile| profile.index == index)
    }

    /// Checks that the description does not contradict itself.
    ///
    /// # Errors
    /// [`BoardError`] names the first contradiction.
    pub fn check(&self) -> Result<(), BoardError> {
        if self.profiles.is_empty() != (self.instances == 0) {
            return Err(BoardError::Profiles(self.name.clone()));
        }
        for (position, profile) in self.profiles.iter().enumerate() {
            for other in &self.profiles[..position] {
                self.tell_apart(other, profile)?;
            }
            self.check_starts(profile)?;
            self.check_amounts(profile)?;
        }
        Ok(())
    }

    fn tell_apart(&self, first: &BoardProfile, second: &BoardProfile) -> Result<(), BoardError> {
        let alike = [("index", first.index == second.index), ("id", first.id == second.id), ("name", first.name == second.name)];
        match alike.into_iter().find(|(_, alike)| *alike) {
            Some((what, _)) => {
                let (first, second) = (first.name.clone(), second.name.clone());
                Err(BoardError::Alike { board: self.name.clone(), what, first, second })
            }
            None => Ok(()),
        }
    }

    fn check_starts(&self, profile: &BoardProfile) -> Result<(), BoardError> {
        let ascending = profile.starts.windows(2).all(|pair| pair[0] < pair[1]);
        let ends = profile.starts.iter().map(|&start| u16::from(start) + u16::from(profile.memory_slices));
        let inside = profile.memory_slices > 0 && ends.max().is_some_and(|end| end <= u16::from(self.memory_slices));
        if ascending && inside {
            return Ok(());
        }
        let (board, starts) = (self.name.clone(), profile.starts.clone());
        Err(BoardError::Starts { board, profile: profile.name.clone(), starts })
    }

    fn check_amounts(&self, profile: &BoardProfile) -> Result<(), BoardError> {
        let room = u64::from(profile.disjoint().min(self.instances));
        let amounts = [
            ("instances", u64::from(profile.count), room),
            ("compute slices", u64::from(profile.compute_slices), u64::from(self.compute_slices)),
            ("MiB of memory", profile.memory_mib, self.memory_mib),
            ("MiB of memory in all its instances", profile.memory_mib * u64::from(profile.count), self.memory_mib),
            ("multiprocessors", u64::from(profile.multiprocessors), u64::from(self.multiprocessors)),
        ];
        match amounts.into_iter().find(|(_, amount, bound)| *amount == 0 || amount > bound) {
            Some((what, amount, bound)) => {
                let (board, profile) = (self.name.clone(), profile.name.clone());
                Err(BoardError::Amount { board, profile, what, amount, bound })
            }
            None => Ok(()),
        }
    }

    /// The profiles that the planner deals in, smallest first.
    pub fn catalog(&self) -> Catalog {
        let mut profiles: Vec<Profile> = self.profiles.iter().filter(|profile| profile.is_plain()).map(profile).collect();
        profiles.sort_by_key(|profile| (profile.compute_slices, profile.memory_slices));
        Catalog { name: self.name.clone(), compute_slices: self.compute_slices, memory_slices: self.memory_slices, profiles }
    }
}

fn profile(from: &BoardProfile) -> Profile {
    Profile {
        name: from.name.clone(),
        compute_slices: from.compute_slices,
        memory_slices: from.memory_slices,
        memory_mib: from.memory_mib,
        starts: from.starts.clone(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Legal states, maximal ones and geometries of `reference/nvml-mig.md` section 3.4.
    fn counts(board: &Board) -> (usize, usize, usize) {
        let catalog = board.catalog();
        assert_eq!(catalog.check(), Ok(()));
        (catalog.partitions().len(), catalog.maximal_partitions().len(), catalog.geometries(&[]).len())
    }

    #[test]
    fn no_shipped_board_contradicts_itself() {
        for board in shipped() {
            assert_eq!(board.check(), Ok(()), "{}", board.name);
            assert!(!board.sources.is_empty() && !board.products.is_empty(), "{}", board.name);
        }
    }

    #[test]
    fn shipped_boards_have_as_many_partitions_as_the_reference_counts() {
        for board in shipped() {
            let expected = match board.memory_slices {
                8 => (298, 19, 38),
                4 | 12 => (26, 5, 10),
                _ => continue,
            };
            assert_eq!(counts(board), expected, "{}", board.name);
        }
        assert_eq!(shipped().iter().filter(|board| board.instances > 0).count(), 8);
    }

    #[test]
    fn a_plain_profile_fits_as_often_as_its_starts_allow() {
        for board in shipped() {
            for profile in board.profiles.iter().filter(|profile| profile.is_plain()) {
                assert_eq!(profile.count, profile.disjoint(), "{} of {}", profile.name, board.name);
            }
        }
    }

    #[test]
    fn all_boards_of_seven_slices_share_ids_and_placements() {
        let shape = |board: &Board| -> Vec<_> {
            board.profiles.iter().map(|p| (p.index, p.id, p.compute_slices, p.memory_slices, p.count, p.starts.clone())).collect()
        };
        let seven: Vec<&Board> = shipped().iter().filter(|board| board.compute_slices == 7).collect();
        assert_eq!(seven.len(), 6);
        assert!(seven.iter().all(|board| shape(board) == shape(seven[0])));
    }

    #[test]
    fn a_larger_profile_has_no_less_of_anything() {
        for board in shipped() {
            let mut plain: Vec<&BoardProfile> = board.profiles.iter().filter(|profile| profile.is_plain()).collect();
            plain.sort_by_key(|profile| profile.compute_slices);
            for pair in plain.windows(2) {
                let (small, large) = (pair[0], pair[1]);
                assert!(small.memory_mib <= large.memory_mib && small.multiprocessors < large.multiprocessors, "{}", large.name);
                assert!(small.copy <= large.copy && small.decode <= large.decode, "{}", large.name);
            }
        }
    }

    #[test]
    fn names_are_told_apart_and_found_in_any_case() {
        for board in shipped() {
            for name in std::iter::once(&board.name).chain(&board.short).chain(&board.products) {
                assert_eq!(find(&name.to_uppercase()), Some(board), "{name}");
            }
        }
        assert_eq!(find("a100").map(|board| board.name.as_str()), Some("A100-SXM4-80GB"));
        assert_eq!(find("b300"), None);
    }

    #[test]
    fn contradictions_are_named() {
        let board = find("a30").unwrap();
        let with = |change: fn(&mut Board)| {
            let mut board = board.clone();
            change(&mut board);
            board.check().unwrap_err()
        };
        assert!(matches!(with(|b| b.instances = 0), BoardError::Profiles(_)));
        assert!(matches!(with(|b| b.profiles[1].id = b.profiles[0].id), BoardError::Alike { what: "id", .. }));
        assert!(matches!(with(|b| b.profiles[0].starts.push(4)), BoardError::Starts { .. }));
        assert!(matches!(with(|b| b.profiles[0].starts.reverse()), BoardError::Starts { .. }));
        assert!(matches!(with(|b| b.profiles[0].count = 5), BoardError::Amount { what: "instances", bound: 4, .. }));
        assert!(matches!(with(|b| b.profiles[2].multiprocessors = 57), BoardError::Amount { what: "multiprocessors", .. }));
        assert!(matches!(with(|b| b.memory_mib = 24_000), BoardError::Amount { amount: 24_064, .. }));
    }
}
