//! GPU models by name.

use migrator_mig::Catalog;

/// Short names.
const ALIASES: [(&str, &str); 6] = [
    ("a100", "A100-SXM4-80GB"),
    ("a100-80gb", "A100-SXM4-80GB"),
    ("a100-40gb", "A100-SXM4-40GB"),
    ("a30", A30),
    ("h100", "H100-SXM5-80GB"),
    ("h200", "H200-SXM5-141GB"),
];

const A30: &str = "A30-24GB";

/// The catalog of a GPU model, by its name or short name, upper or lower case.
pub fn catalog(name: &str) -> Option<Catalog> {
    let alias = ALIASES.iter().find(|(short, full)| short.eq_ignore_ascii_case(name) || full.eq_ignore_ascii_case(name));
    let full = alias.map_or(name, |(_, full)| full);
    // NVIDIA's data sheet: 24 GB.
    if full == A30 { Some(Catalog::four_slices(A30, 24 * 1024)) } else { crate::plan::known(full) }
}

/// What may be written, for messages.
pub fn names() -> String {
    let names: Vec<String> = ALIASES.iter().map(|(short, full)| format!("{short} ({full})")).collect();
    names.join(", ")
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
    }
}
