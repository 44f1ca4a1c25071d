//! GPU models by name.

use migrator_mig::{Board, Catalog};

use crate::plan::boards;

/// The host's cores carved up as the `cpu` device does it, for curves that `migrator profile` measured there.
const CPU: &str = "cpu";
/// Memory of such a device: as much as no model asks for, MiB.
const CPU_MEMORY_MIB: u64 = 1 << 20;

/// The catalog of a shipped board with MIG, by its name, short name or product name, upper or lower case; of the `cpu` device.
pub fn catalog(name: &str) -> Option<Catalog> {
    if name == CPU {
        return Some(Catalog::seven_slices(CPU, CPU_MEMORY_MIB));
    }
    boards().find(|board| board.is_called(name)).map(Board::catalog)
}

/// What may be written, for messages.
pub fn names() -> String {
    let names: Vec<String> = boards().map(|board| format!("{} ({})", board.short.join(", "), board.name)).collect();
    format!("{}, {CPU}", names.join(", "))
}

/// The GPU shared by MPS in steps of a twentieth; Ekya steals tenths, and MPS takes whole percents.
pub(super) fn shares(catalog: &Catalog) -> Catalog {
    let memory_mib = catalog.profiles.iter().map(|profile| profile.memory_mib).max().unwrap_or(0);
    Catalog::shares(&format!("{} under MPS", catalog.name), 20, memory_mib)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_gpu_is_known_by_its_name_and_by_its_short_name() {
        assert_eq!(catalog("a100").unwrap().name, "A100-SXM4-80GB");
        assert_eq!(catalog("A100-SXM4-40GB").unwrap().name, "A100-SXM4-40GB");
        assert_eq!(catalog("A30").unwrap().memory_slices, 4);
        assert!(catalog("h100").is_some() && catalog("h200").is_some());
        assert_eq!(catalog("b300"), None);
        assert_eq!(catalog("l40s"), None, "it has no MIG");
    }
}
