//! Retrainings that a stop of the server interrupted: what is kept of one, and how the next start finds it.

use std::path::{Path, PathBuf};

use migrator_machine::retraining::Interrupted;
use migrator_models::{ModelSpec, file};
use serde::{Deserialize, Serialize};

use super::export::DATASET;
use crate::launcher::one_line;

/// Name of what is kept, in a window's folder.
const JOB: &str = "job.json";

/// What is kept of a retraining from the moment that a worker begins it.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Kept {
    pub spec: ModelSpec,
    /// Version it starts from.
    pub parent: Option<u32>,
    /// When a worker last began with it, Unix milliseconds.
    pub began_ms: u64,
    /// When its window began, Unix milliseconds; what was labelled since is fresh in the next one. None in a file of an earlier program.
    #[serde(default)]
    pub window_ms: Option<u64>,
    pub what: Interrupted,
}

/// An interrupted retraining.
#[derive(Debug, PartialEq)]
pub(super) struct Found {
    pub what: Interrupted,
    /// With its data set and perhaps a checkpoint.
    pub folder: PathBuf,
    /// When a worker last began with it, Unix milliseconds.
    pub began_ms: u64,
    /// When its window began, Unix milliseconds.
    pub window_ms: u64,
}

/// Keeps what the next start needs to go on.
///
/// # Errors
/// One line.
pub(super) fn keep(folder: &Path, kept: &Kept) -> Result<(), String> {
    let kept = serde_json::to_vec(kept).map_err(|error| one_line(&error))?;
    file::replace(&folder.join(JOB), &kept).map_err(|error| format!("{}: {error}", folder.join(JOB).display()))
}

/// The newest retraining of a tenant's folder that can go on: of this model, from the version that is still the newest. All else that
/// earlier runs left there is removed.
///
/// # Errors
/// One line: the folder cannot be made or read.
pub(super) fn find(folder: &Path, spec: &ModelSpec, newest: Option<u32>) -> Result<Option<Found>, String> {
    let failed = |error: std::io::Error| format!("{}: {error}", folder.display());
    std::fs::create_dir_all(folder).map_err(failed)?;
    let entries = std::fs::read_dir(folder).map_err(failed)?;
    let paths: Vec<PathBuf> = entries.map(|entry| Ok(entry?.path())).collect::<std::io::Result<_>>().map_err(failed)?;
    let found = paths.iter().filter_map(|path| read(path, spec, newest)).max_by_key(|found| found.began_ms);
    for path in paths.iter().filter(|path| found.as_ref().is_none_or(|found| found.folder != **path)) {
        let removed = if path.is_dir() { std::fs::remove_dir_all(path) } else { std::fs::remove_file(path) };
        removed.map_err(|error| format!("{}: {error}", path.display()))?;
    }
    Ok(found)
}

fn read(folder: &Path, spec: &ModelSpec, newest: Option<u32>) -> Option<Found> {
    let kept: Kept = serde_json::from_slice(&std::fs::read(folder.join(JOB)).ok()?).ok()?;
    let fits = kept.spec == *spec && kept.parent == newest && folder.join(DATASET).is_file();
    let window_ms = kept.window_ms.unwrap_or(kept.began_ms);
    fits.then(|| Found { what: kept.what, folder: folder.to_owned(), began_ms: kept.began_ms, window_ms })
}

#[cfg(test)]
mod tests {
    use migrator_models::{Architecture, Source};

    use super::*;

    fn spec(classes: u32) -> ModelSpec {
        let source = Source::Architecture { architecture: Architecture::Mlp { features: 2, hidden: vec![] } };
        ModelSpec { name: "m".into(), classes, max_batch: 1, precision: Default::default(), source }
    }

    fn left(root: &Path, window: u64, parent: u32) {
        let folder = root.join(window.to_string());
        std::fs::create_dir_all(&folder).unwrap();
        std::fs::write(folder.join(DATASET), "rows").unwrap();
        let what = Interrupted { window, samples: 9, configuration: None, gain: 0.1, foretold: None };
        let kept = Kept { spec: spec(3), parent: Some(parent), began_ms: 100 + window, window_ms: Some(10 * window), what };
        keep(&folder, &kept).unwrap();
    }

    #[test]
    fn the_newest_that_fits_is_found_and_the_rest_removed() {
        let root = tempfile::tempdir().unwrap();
        (1..4).for_each(|window| left(root.path(), window, 5));
        left(root.path(), 4, 6);
        std::fs::create_dir(root.path().join("9")).unwrap();
        std::fs::write(root.path().join("stray"), "").unwrap();
        let found = find(root.path(), &spec(3), Some(5)).unwrap().unwrap();
        assert_eq!((found.what.window, found.began_ms, found.window_ms, found.folder.clone()), (3, 103, 30, root.path().join("3")));
        assert_eq!(std::fs::read_dir(root.path()).unwrap().count(), 1);
        assert_eq!(find(root.path(), &spec(2), Some(5)), Ok(None), "the model is another one");
        assert_eq!(std::fs::read_dir(root.path()).unwrap().count(), 0);
    }

    #[test]
    fn one_without_its_data_set_or_half_written_is_none() {
        let root = tempfile::tempdir().unwrap();
        left(root.path(), 1, 5);
        std::fs::remove_file(root.path().join("1").join(DATASET)).unwrap();
        left(root.path(), 2, 5);
        std::fs::write(root.path().join("2").join(JOB), "{\"spec\":").unwrap();
        assert_eq!(find(root.path(), &spec(3), Some(5)), Ok(None));
    }
}
