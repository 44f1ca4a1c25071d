//! What a server that died left behind: folders of cgroups, paused processes. Recorded on disk, removed by the next server.

use std::fs;
use std::io::Write;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU32, Ordering};

use rustix::process::Signal;

use crate::DeviceError;
use crate::cpu::enforcer::os;
use crate::cpu::folder;
use crate::cpu::process::Process;

/// `<prefix>-<pid>-<start>-<n>`: a name for what a device creates that tells the next server whether its maker still runs.
pub(crate) fn unique_name(prefix: &str, own: Process) -> String {
    static DEVICES: AtomicU32 = AtomicU32::new(0);
    let number = DEVICES.fetch_add(1, Ordering::Relaxed);
    format!("{prefix}-{}-{}-{number}", own.pid, own.start)
}

/// The server that a name was made by.
fn maker(prefix: &str, name: &str) -> Option<Process> {
    let mut parts = name.strip_prefix(prefix)?.strip_prefix('-')?.split('-');
    Some(Process { pid: parts.next()?.parse().ok()?, start: parts.next()?.parse().ok()? })
}

/// What one device created, one line each, in a file of its name.
#[derive(Debug)]
pub(crate) struct Record {
    path: PathBuf,
    file: Mutex<fs::File>,
}

impl Record {
    /// Makes the folder and the file, for this user only.
    pub(crate) fn create(state_dir: &Path, name: &str) -> Result<Record, DeviceError> {
        let what = || format!("recording the device in {}", state_dir.display());
        fs::DirBuilder::new().recursive(true).mode(0o700).create(state_dir).map_err(os(what()))?;
        let path = state_dir.join(format!("{name}.state"));
        let file = fs::OpenOptions::new().append(true).create_new(true).mode(0o600).open(&path).map_err(os(what()))?;
        Ok(Record { path, file: Mutex::new(file) })
    }

    /// A folder was made.
    pub(crate) fn folder(&self, dir: &Path) -> Result<(), DeviceError> {
        self.line(&format!("folder {}", dir.display()))
    }

    /// A process may be paused.
    pub(crate) fn process(&self, process: Process) -> Result<(), DeviceError> {
        self.line(&format!("process {} {}", process.pid, process.start))
    }

    fn line(&self, line: &str) -> Result<(), DeviceError> {
        let mut file = self.file.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        writeln!(file, "{line}").map_err(os(format!("writing to {}", self.path.display())))
    }
}

impl Drop for Record {
    fn drop(&mut self) {
        // The next server finds a record without effects otherwise.
        let _ = fs::remove_file(&self.path);
    }
}

/// Removes what dead servers left behind, by their records and by the names of folders in `bases`.
///
/// A server of another PID namespace that shares the cgroup file system and the prefix would look dead; give it its own
/// prefix.
pub(crate) fn sweep(prefix: &str, state_dir: &Path, bases: &[PathBuf]) {
    for path in dead(prefix, state_dir) {
        if owned(&path) && path.extension().is_some_and(|extension| extension == "state") {
            undo(prefix, &fs::read_to_string(&path).unwrap_or_default());
            let _ = fs::remove_file(&path);
        }
    }
    for dir in bases.iter().flat_map(|base| dead(prefix, base)).filter(|dir| dir.is_dir()) {
        tracing::warn!(folder = %dir.display(), "removing the cgroup of a server that died");
        folder::dissolve(&dir, None);
    }
}

/// Entries of `dir` whose makers do not run any more.
fn dead(prefix: &str, dir: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(dir).into_iter().flatten().flatten();
    entries.map(|entry| entry.path()).filter(|path| is_dead(prefix, path)).collect()
}

fn is_dead(prefix: &str, path: &Path) -> bool {
    let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
    maker(prefix, name).is_some_and(|maker| !maker.is_alive())
}

/// The state folder may lie in `/tmp`, where others could plant a record.
fn owned(path: &Path) -> bool {
    fs::symlink_metadata(path).is_ok_and(|meta| meta.is_file() && meta.uid() == rustix::process::geteuid().as_raw())
}

fn undo(prefix: &str, record: &str) {
    for line in record.lines() {
        if let Some(dir) = line.strip_prefix("folder ").map(Path::new)
            && is_dead(prefix, dir)
            && dir.is_dir()
        {
            tracing::warn!(folder = %dir.display(), "removing the cgroup of a server that died");
            folder::dissolve(dir, None);
        }
        if let Some(process) = line.strip_prefix("process ").and_then(parse_process)
            && process.is_alive()
        {
            tracing::warn!(pid = process.pid, "killing the worker of a server that died");
            process.signal(Signal::KILL);
        }
    }
}

fn parse_process(text: &str) -> Option<Process> {
    let (pid, start) = text.split_once(' ')?;
    Some(Process { pid: pid.parse().ok()?, start: start.parse().ok()? })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_tells_its_maker() {
        let own = Process::own().unwrap();
        let name = unique_name("migrator", own);
        assert_eq!(maker("migrator", &name), Some(own));
        assert_eq!(maker("migrator", "migratory-1-2-3"), None);
        assert_eq!(maker("migrator", "other"), None);
        assert!(!is_dead("migrator", Path::new(&name)) && is_dead("migrator", Path::new("migrator-1-999999999999-0")));
    }

    #[test]
    fn the_record_of_a_living_server_is_left_alone_and_that_of_a_dead_one_removed() {
        let dir = tempfile::tempdir().unwrap();
        let record = Record::create(dir.path(), &unique_name("m", Process::own().unwrap())).unwrap();
        fs::write(dir.path().join("m-1-999999999999-0.state"), "folder /nowhere\nprocess x\n").unwrap();
        sweep("m", dir.path(), &[]);
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
        drop(record);
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
    }
}
