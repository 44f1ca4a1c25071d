//! Cgroup folders: make, write, empty and remove them.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rustix::io::Errno;
use rustix::process::Signal;

use crate::DeviceError;
use crate::cpu::enforcer::os;
use crate::cpu::mount::Own;
use crate::cpu::process::Process;

/// How long a folder may stay busy after its last process ended or was killed; the kernel lets go within milliseconds.
const PATIENCE: Duration = Duration::from_secs(2);

/// Makes a folder.
pub(crate) fn make(dir: &Path) -> Result<(), DeviceError> {
    fs::create_dir(dir).map_err(os(format!("making {}", dir.display())))
}

/// Writes one value.
pub(crate) fn write(file: &Path, value: impl ToString) -> Result<(), DeviceError> {
    let value = value.to_string();
    fs::write(file, &value).map_err(os(format!("writing {value} to {}", file.display())))
}

/// Pids in the folder itself; none when it does not exist.
pub(crate) fn members(dir: &Path) -> Result<Vec<u32>, DeviceError> {
    match fs::read_to_string(dir.join("cgroup.procs")) {
        Ok(text) => Ok(text.lines().filter_map(|line| line.parse().ok()).collect()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
        Err(error) => Err(os(format!("reading the processes of {}", dir.display()))(error)),
    }
}

/// Removes an empty folder; one that is gone already is no error.
pub(crate) fn remove(dir: &Path) -> Result<(), DeviceError> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        match rustix::fs::rmdir(dir) {
            Ok(()) | Err(Errno::NOENT) => return Ok(()),
            // The last process has ended, but the kernel has not let go of the folder yet.
            Err(Errno::BUSY) if Instant::now() < deadline && members(dir).is_ok_and(|pids| pids.is_empty()) => pause(),
            Err(error) => return Err(os(format!("removing {}", dir.display()))(error.into())),
        }
    }
}

/// Empties a folder and those in it, and removes them. Processes move to `home`; without one they are killed.
/// What cannot be removed is logged: the next server removes it.
pub(crate) fn dissolve(dir: &Path, home: Option<&Path>) {
    for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            dissolve(&entry.path(), home);
        }
    }
    let deadline = Instant::now() + PATIENCE;
    while let Ok(pids) = members(dir)
        && !pids.is_empty()
        && Instant::now() < deadline
    {
        pids.into_iter().for_each(|pid| evict(pid, home));
        pause();
    }
    if let Err(error) = remove(dir) {
        tracing::warn!(%error, folder = %dir.display(), "a cgroup is left over");
    }
}

fn evict(pid: u32, home: Option<&Path>) {
    let moved = home.is_some_and(|home| write(&home.join("cgroup.procs"), pid).is_ok());
    // A server that was started from within a dead server's folder must not kill itself.
    if let Ok(process) = Process::find(pid)
        && !moved
        && pid != std::process::id()
    {
        process.signal(Signal::KILL);
    }
}

#[allow(clippy::disallowed_methods, reason = "the kernel has no event for a cgroup that became removable")]
fn pause() {
    std::thread::sleep(Duration::from_millis(1));
}

/// Where a device of version 2 may make its folder.
pub(crate) struct Base {
    /// The folder to make it in.
    pub(crate) dir: PathBuf,
    /// The folder of the server.
    pub(crate) home: PathBuf,
    /// The folder that the server left for `home`, if it had to.
    pub(crate) left: Option<PathBuf>,
}

/// Finds a folder whose children get the cpu controller: the process's own one or, if that is not to be had, its parent.
///
/// A folder that holds processes cannot give controllers to its children ("no internal processes", cgroup-v2.rst), unless
/// it is the root. So a server that is alone in its folder moves one level down.
pub(crate) fn delegated(own: &Own, name: &str) -> Result<Base, String> {
    let dir = own.dir.clone();
    if has_cpu(&dir) || enable(&dir).is_ok() {
        return Ok(Base { dir: dir.clone(), home: dir, left: None });
    }
    if let Some(base) = step_down(&dir, name) {
        return Ok(base);
    }
    let parent = dir.parent().filter(|parent| parent.starts_with(&own.mount) && has_cpu(parent));
    match parent {
        // Moving a process needs write access to the nearest common ancestor.
        Some(parent) if fs::OpenOptions::new().append(true).open(parent.join("cgroup.procs")).is_ok() => {
            Ok(Base { dir: parent.to_owned(), home: dir, left: None })
        }
        _ => Err(format!("neither {} nor its parent gives the cpu controller to children that this user can make", dir.display())),
    }
}

/// Gives cpu and, where there is one, memory to the folder's children.
pub(crate) fn enable(dir: &Path) -> Result<(), DeviceError> {
    let control = dir.join("cgroup.subtree_control");
    // Memory can do without; its absence shows as a missing `memory.max`.
    let _ = write(&control, "+memory");
    write(&control, "+cpu")
}

/// Brings the server back to the folder that [`delegated`] made it leave, and removes the one below.
pub(crate) fn return_home(left: &Path, homes: &[PathBuf]) {
    let _ = write(&left.join("cgroup.subtree_control"), "-cpu -memory");
    homes.iter().for_each(|home| dissolve(home, Some(left)));
}

fn has_cpu(dir: &Path) -> bool {
    let text = fs::read_to_string(dir.join("cgroup.subtree_control")).unwrap_or_default();
    text.split_whitespace().any(|name| name == "cpu")
}

fn step_down(dir: &Path, name: &str) -> Option<Base> {
    let pid = std::process::id();
    if members(dir).ok()? != [pid] {
        return None;
    }
    let home = dir.join(format!("{name}-server"));
    make(&home).ok()?;
    let moved = write(&home.join("cgroup.procs"), pid).and_then(|()| enable(dir));
    if moved.is_err() {
        return_home(dir, &[home]);
        return None;
    }
    Some(Base { dir: dir.to_owned(), home, left: Some(dir.to_owned()) })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cpu::mount::Version;

    fn own(dir: &Path) -> Own {
        Own { version: Version::V2, mount: dir.to_owned(), dir: dir.join("own") }
    }

    #[test]
    fn a_folder_whose_children_have_the_controller_is_used_as_it_is() {
        let root = tempfile::tempdir().unwrap();
        fs::create_dir(root.path().join("own")).unwrap();
        fs::write(root.path().join("own/cgroup.subtree_control"), "cpu memory\n").unwrap();
        let base = delegated(&own(root.path()), "m").unwrap();
        assert_eq!((base.dir.clone(), base.left), (root.path().join("own"), None));
        assert_eq!(base.home, base.dir);
    }

    #[test]
    fn without_a_delegated_folder_the_error_names_it() {
        let root = tempfile::tempdir().unwrap();
        let error = delegated(&own(root.path()), "m").err().unwrap();
        assert!(error.contains("own nor its parent"), "{error}");
    }

    #[test]
    fn removing_what_is_gone_is_no_error() {
        let root = tempfile::tempdir().unwrap();
        assert!(remove(&root.path().join("gone")).is_ok());
        assert!(members(&root.path().join("gone")).unwrap().is_empty());
    }
}
