//! Which instances are ours: a file, written before and after each change of a GPU, so that a crash at any point leaves no doubt.

use std::fs::{self, File};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use migrator_mig::Placement;
use rustix::fs::{FlockOperation, flock};
use serde::{Deserialize, Serialize};

use crate::DeviceError;

/// How far an instance of ours has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Stage {
    /// It is about to be created, or was half created.
    Making,
    /// It is complete.
    Made,
    /// It is about to be destroyed, or was half destroyed.
    Unmaking,
}

/// An instance of ours.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Entry {
    /// UUID of its GPU.
    pub(crate) gpu: String,
    /// Its GPU instance id; unknown until NVML has told.
    pub(crate) gi: Option<u32>,
    /// The driver's profile id.
    pub(crate) profile: u32,
    pub(crate) start: u8,
    pub(crate) size: u8,
    pub(crate) stage: Stage,
}

impl Entry {
    pub(crate) fn placement(&self) -> Placement {
        Placement { start: self.start, size: self.size }
    }
}

#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Contents {
    /// Instances do not survive a reboot, and the ids of those that are gone are given out anew.
    boot: String,
    instances: Vec<Entry>,
}

/// The file, held by one device at a time.
#[derive(Debug)]
pub(crate) struct Record {
    path: PathBuf,
    boot: String,
    lock: File,
}

impl Record {
    /// Opens the file and tells what it remembers of this boot.
    pub(crate) fn open(path: &Path) -> Result<(Record, Vec<Entry>), DeviceError> {
        let failed = |source| DeviceError::Os { what: format!("opening the record {}", path.display()), source };
        if let Some(folder) = path.parent() {
            fs::DirBuilder::new().recursive(true).mode(0o700).create(folder).map_err(failed)?;
        }
        let lock = File::options().create(true).truncate(false).write(true).mode(0o600).open(beside(path, "lock")).map_err(failed)?;
        flock(&lock, FlockOperation::NonBlockingLockExclusive)
            .map_err(|_| DeviceError::Options(format!("the record {} is in use by another server", path.display())))?;
        let contents = match fs::read(path) {
            Ok(bytes) => serde_json::from_slice(&bytes).map_err(io::Error::from).map_err(failed)?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => Contents::default(),
            Err(error) => return Err(failed(error)),
        };
        // Where the kernel does not tell, every boot looks like the same one, and placement and id must do.
        let boot = fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default().trim().to_owned();
        let entries = if contents.boot == boot { contents.instances } else { Vec::new() };
        Ok((Record { path: path.to_owned(), boot, lock }, entries))
    }

    /// Replaces what the file says; when this returns, a crash of the host does not undo it.
    pub(crate) fn write(&self, instances: Vec<Entry>) -> Result<(), DeviceError> {
        let failed = |source| DeviceError::Os { what: format!("writing the record {}", self.path.display()), source };
        let bytes = serde_json::to_vec_pretty(&Contents { boot: self.boot.clone(), instances }).map_err(io::Error::from).map_err(failed)?;
        self.replace(&bytes).map_err(failed)
    }

    fn replace(&self, bytes: &[u8]) -> io::Result<()> {
        let new = beside(&self.path, "new");
        let mut file = File::options().create(true).truncate(true).write(true).mode(0o600).open(&new)?;
        file.write_all(bytes)?;
        file.sync_all()?;
        fs::rename(&new, &self.path)?;
        match self.path.parent().filter(|folder| !folder.as_os_str().is_empty()) {
            Some(folder) => File::open(folder)?.sync_all(),
            None => Ok(()),
        }
    }
}

impl Drop for Record {
    fn drop(&mut self) {
        // Closing is not enough: a process that is being started has the file open until it is what it is to be.
        if let Err(error) = flock(&self.lock, FlockOperation::Unlock) {
            tracing::warn!(%error, "the record of NVIDIA instances stays locked");
        }
    }
}

fn beside(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".");
    name.push(suffix);
    PathBuf::from(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(stage: Stage) -> Entry {
        Entry { gpu: "GPU-1".to_owned(), gi: Some(9), profile: 19, start: 6, size: 1, stage }
    }

    #[test]
    fn what_was_written_is_remembered() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("deep/nvml.json");
        let (record, entries) = Record::open(&path).unwrap();
        assert!(entries.is_empty());
        record.write(vec![entry(Stage::Making), entry(Stage::Made)]).unwrap();
        drop(record);
        assert_eq!(Record::open(&path).unwrap().1, [entry(Stage::Making), entry(Stage::Made)]);
    }

    #[test]
    fn a_record_has_one_user() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("nvml.json");
        let first = Record::open(&path).unwrap();
        assert!(matches!(Record::open(&path), Err(DeviceError::Options(why)) if why.contains("another server")));
        drop(first);
        assert!(Record::open(&path).is_ok());
    }

    #[test]
    fn instances_of_another_boot_are_forgotten() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("nvml.json");
        let contents = Contents { boot: "another".to_owned(), instances: vec![entry(Stage::Made)] };
        fs::write(&path, serde_json::to_vec(&contents).unwrap()).unwrap();
        assert!(Record::open(&path).unwrap().1.is_empty());
    }

    #[test]
    fn a_record_that_is_none_is_an_error_and_stays() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("nvml.json");
        fs::write(&path, "{}").unwrap();
        assert!(matches!(Record::open(&path), Err(DeviceError::Os { .. })));
        assert_eq!(fs::read_to_string(&path).unwrap(), "{}");
    }
}
