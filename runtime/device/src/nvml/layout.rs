//! What instances a GPU can be cut into, asked of the GPU itself.

use migrator_mig::{Board, BoardProfile, Catalog, Placement, Profile, ProfileId, board};

use super::fault::Fault;
use super::sys::{DeviceHandle, GiProfile, Session};

/// Most profiles that are asked for. nvml.h of 2026 has 18; the end is where the driver says "invalid argument".
const MOST_PROFILES: u32 = 64;
/// Indices that every driver with MIG knows (CUDA 11.0: 1, 2, 3, 4 and 7 slices): "invalid argument" for one of these is not the end.
pub(crate) const FIRST_PROFILES: u32 = 5;

/// A profile and where its instances may lie.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Kind {
    pub(crate) profile: GiProfile,
    pub(crate) placements: Vec<Placement>,
}

impl Kind {
    /// Memory slices of an instance; 0 when it may lie nowhere.
    fn memory_slices(&self) -> u8 {
        self.placements.first().map_or(0, |placement| placement.size)
    }

    /// Whether the planner deals in it: `BoardProfile::is_plain`.
    fn is_plain(&self) -> bool {
        self.profile.index <= 6
    }
}

/// All that a GPU says about its profiles.
#[derive(Clone, Debug)]
pub(crate) struct Layout {
    /// Every profile, by enum index.
    pub(crate) kinds: Vec<Kind>,
    /// Those that the planner deals in, smallest first.
    pub(crate) catalog: Catalog,
    /// The driver's profile id of each of the catalog's profiles.
    ids: Vec<u32>,
    /// Where the GPU and the shipped board disagree; the GPU is right.
    pub(crate) differences: Vec<String>,
}

impl Layout {
    /// Asks a GPU that can do MIG.
    pub(crate) fn read(session: &Session, gpu: DeviceHandle, product: &str, memory_mib: u64) -> Result<Layout, Fault> {
        let board = board::find(product);
        let mut kinds = Vec::new();
        for mut profile in profiles(session, gpu)? {
            let mut placements = session.placements(gpu, profile.id)?;
            placements.sort();
            profile.name = Some(name_of(&profile, board, memory_mib));
            kinds.push(Kind { profile, placements });
        }
        let mut plain: Vec<&Kind> = kinds.iter().filter(|kind| kind.is_plain() && kind.memory_slices() > 0).collect();
        plain.sort_by_key(|kind| (kind.profile.slices, kind.memory_slices()));
        let ids = plain.iter().map(|kind| kind.profile.id).collect();
        let catalog = Catalog {
            name: board.map_or(product, |board| &board.name).to_owned(),
            compute_slices: plain.iter().map(|kind| byte(kind.profile.slices)).max().unwrap_or(0),
            memory_slices: kinds.iter().flat_map(|kind| &kind.placements).map(|placement| placement.end()).max().unwrap_or(0),
            profiles: plain.iter().map(|kind| profile_of(kind)).collect(),
        };
        let differences = board.map_or_else(
            || vec![format!("no shipped board is called {product:?}; the GPU's own answers are used")],
            |board| compare(board, &kinds),
        );
        Ok(Layout { kinds, catalog, ids, differences })
    }

    /// A GPU that is one instance: MIG is off, or there is none.
    pub(crate) fn whole(product: &str, memory_mib: u64) -> Layout {
        let board = board::find(product);
        let slices = |slices: Option<u8>, otherwise: u8| slices.filter(|&slices| slices > 0).unwrap_or(otherwise);
        let compute_slices = slices(board.map(|board| board.compute_slices), 7);
        let memory_slices = slices(board.map(|board| board.memory_slices), 8);
        let profile = Profile { name: "whole".to_owned(), compute_slices, memory_slices, memory_mib, starts: vec![0] };
        let name = board.map_or(product, |board| &board.name).to_owned();
        let catalog = Catalog { name, compute_slices, memory_slices, profiles: vec![profile] };
        Layout { kinds: Vec::new(), catalog, ids: Vec::new(), differences: Vec::new() }
    }

    /// The driver's profile id (not index); `None` on a GPU that is one instance.
    pub(crate) fn driver_id(&self, profile: ProfileId) -> Option<u32> {
        self.ids.get(profile.index()).copied()
    }

    /// The profile of this driver's id.
    pub(crate) fn kind(&self, id: u32) -> Option<&Kind> {
        self.kinds.iter().find(|kind| kind.profile.id == id)
    }

    /// Compute slices of the profile of this driver's id; 0 for one that the GPU does not have.
    pub(crate) fn slices(&self, id: u32) -> u32 {
        self.kind(id).map_or(0, |kind| kind.profile.slices)
    }

    /// The catalog's profile that is this kind, or comes closest: of as many compute slices, then of the least more.
    pub(crate) fn closest(&self, id: u32) -> ProfileId {
        let slices = byte(self.slices(id));
        let exact = self.ids.iter().position(|&other| other == id);
        let larger = || self.catalog.profiles.iter().position(|profile| profile.compute_slices >= slices);
        ProfileId(byte(exact.or_else(larger).unwrap_or(0) as u32))
    }
}

/// Every profile that the GPU knows, by ascending enum index.
fn profiles(session: &Session, gpu: DeviceHandle) -> Result<Vec<GiProfile>, Fault> {
    let mut found = Vec::new();
    for index in 0..MOST_PROFILES {
        match session.gi_profile(gpu, index) {
            Ok(profile) => found.push(profile),
            Err(fault) if fault.is_not_supported() => {}
            // Whether a profile that this GPU does not have is "not supported" or "invalid" is the driver's taste; go-nvlib takes both.
            Err(fault) if fault.is_invalid() && index < FIRST_PROFILES => {}
            Err(fault) if fault.is_invalid() => break,
            Err(fault) => return Err(fault),
        }
    }
    Ok(found)
}

fn profile_of(kind: &Kind) -> Profile {
    Profile {
        name: kind.profile.name.clone().unwrap_or_default(),
        compute_slices: byte(kind.profile.slices),
        memory_slices: kind.memory_slices(),
        memory_mib: kind.profile.memory_mib,
        starts: kind.placements.iter().map(|placement| placement.start).collect(),
    }
}

/// The driver's name; older drivers tell none, and then the board's, or what the driver would make of it.
///
/// Rounding: go-nvlib's formula, `reference/nvml-mig.md` section 3.5.
fn name_of(profile: &GiProfile, board: Option<&Board>, memory_mib: u64) -> String {
    if let Some(name) = &profile.name {
        return name.strip_prefix("MIG ").unwrap_or(name).to_owned();
    }
    if let Some(known) = board.and_then(|board| board.by_index(profile.index)) {
        return known.name.clone();
    }
    let eighths = (profile.memory_mib as f64 * 8.0 / memory_mib.max(1) as f64).ceil();
    let gib = (eighths / 8.0 * memory_mib as f64 / 1024.0).round();
    let suffix = match profile.index {
        7 | 8 => "+me",
        10..=12 | 17 => "+gfx",
        13 | 14 => "-me",
        15 | 16 => "+me.all",
        _ => "",
    };
    format!("{}g.{gib}gb{suffix}", profile.slices)
}

/// One line for each thing in which the board's file is wrong about this GPU.
fn compare(board: &Board, kinds: &[Kind]) -> Vec<String> {
    let mut lines = Vec::new();
    for kind in kinds {
        match board.by_index(kind.profile.index) {
            Some(shipped) => lines.extend(compare_profile(shipped, kind)),
            None => lines
                .push(format!("the GPU has {}, the shipped board does not", kind.profile.name.as_deref().unwrap_or("an unnamed profile"))),
        }
    }
    let known = |profile: &BoardProfile| kinds.iter().any(|kind| kind.profile.index == profile.index);
    lines.extend(
        board.profiles.iter().filter(|profile| !known(profile)).map(|p| format!("the shipped board has {}, the GPU does not", p.name)),
    );
    lines
}

fn compare_profile(shipped: &BoardProfile, kind: &Kind) -> Vec<String> {
    let GiProfile { id, slices, count, multiprocessors, memory_mib, .. } = kind.profile;
    let starts: Vec<u8> = kind.placements.iter().map(|placement| placement.start).collect();
    let line = |what: &str, gpu: String, board: String| format!("{}: {what} {gpu} on the GPU, {board} shipped", shipped.name);
    let mut lines = Vec::new();
    let numbers = [
        ("id", u64::from(id), u64::from(shipped.id)),
        ("compute slices", slices.into(), shipped.compute_slices.into()),
        ("memory slices", kind.memory_slices().into(), shipped.memory_slices.into()),
        ("instances", count.into(), shipped.count.into()),
        ("multiprocessors", multiprocessors.into(), shipped.multiprocessors.into()),
    ];
    lines.extend(
        numbers.iter().filter(|(_, gpu, board)| gpu != board).map(|(what, gpu, board)| line(what, gpu.to_string(), board.to_string())),
    );
    if starts != shipped.starts {
        lines.push(line("starts", format!("{starts:?}"), format!("{:?}", shipped.starts)));
    }
    // Real boards of one kind differ by a few hundred MiB with driver and ECC: `reference/nvml-mig.md` section 3.
    if memory_mib.abs_diff(shipped.memory_mib) * 20 > shipped.memory_mib {
        lines.push(line("MiB of memory", memory_mib.to_string(), shipped.memory_mib.to_string()));
    }
    lines
}

fn byte(value: u32) -> u8 {
    u8::try_from(value).unwrap_or(u8::MAX)
}
