//! The traces of the project's material, by class.

use migrator_instances::window::parse_trace;

/// Traces of one kind.
pub struct Class {
    pub name: &'static str,
    /// How the names of its files begin.
    prefixes: &'static [&'static str],
}

/// By source; those with less than two arrivals per second are left out, for scaling makes noise of them.
pub const CLASSES: [Class; 5] = [
    Class { name: "azure-functions", prefixes: &["azure_func"] },
    Class { name: "azure-llm", prefixes: &["azure_llm"] },
    Class { name: "twitter", prefixes: &["twitter"] },
    Class { name: "nasa", prefixes: &["nasa"] },
    Class { name: "mixed", prefixes: &[""] },
];

/// Its counts; `None` when there are none.
pub fn traces_of(class: &Class) -> Option<Vec<Vec<f64>>> {
    let root = std::env::var("MIGRATOR_DATA").unwrap_or_else(|_| concat!(env!("CARGO_MANIFEST_DIR"), "/../../../shared/data").to_owned());
    let mut files: Vec<_> =
        std::fs::read_dir(format!("{root}/arrivals/common")).ok()?.filter_map(|entry| Some(entry.ok()?.path())).collect();
    files.sort();
    let ours = |file: &std::path::PathBuf| {
        let name = file.file_name().and_then(|name| name.to_str()).unwrap_or("");
        class.prefixes.iter().any(|prefix| name.starts_with(prefix))
    };
    let counts = files.iter().filter(|file| ours(file)).filter_map(|file| parse_trace(&std::fs::read_to_string(file).ok()?));
    let busy: Vec<Vec<f64>> = counts.filter(|counts| counts.iter().sum::<f64>() >= 2.0 * counts.len() as f64).collect();
    (!busy.is_empty()).then_some(busy)
}

/// All of them.
pub fn traces() -> Option<Vec<Vec<f64>>> {
    CLASSES.last().and_then(traces_of)
}
