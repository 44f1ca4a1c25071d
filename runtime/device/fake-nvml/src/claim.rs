//! Which processes use which device: those that claim it, and those whose environment names it.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

/// Memory that a process is taken to use when it does not say, MiB: about what a CUDA context takes.
const CONTEXT_MIB: u64 = 256;

/// What CUDA reads to find its device.
const VISIBLE: &[u8] = b"CUDA_VISIBLE_DEVICES=";

/// A process that uses a device.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct User {
    /// The process.
    pub pid: u32,
    /// UUID of the MIG device or GPU.
    pub uuid: String,
    /// Memory it holds there, MiB.
    pub memory_mib: u64,
}

/// Writes down that a process uses a device: `<uuid> <start time of the process> <MiB>`.
///
/// # Errors
/// When there is no such process, or the file cannot be written.
pub(crate) fn write(folder: &Path, pid: u32, uuid: &str, memory_mib: Option<u64>) -> io::Result<()> {
    let start = started(pid).ok_or_else(|| io::Error::from(io::ErrorKind::NotFound))?;
    let folder = claims(folder);
    fs::create_dir_all(&folder)?;
    fs::write(folder.join(pid.to_string()), format!("{uuid} {start} {}\n", memory_mib.unwrap_or(CONTEXT_MIB)))
}

/// Takes it back.
///
/// # Errors
/// When the file cannot be removed.
pub(crate) fn remove(folder: &Path, pid: u32) -> io::Result<()> {
    match fs::remove_file(claims(folder).join(pid.to_string())) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

/// Every living process that uses a device whose UUID `is_ours`, by pid.
pub(crate) fn users(folder: &Path, is_ours: impl Fn(&str) -> bool) -> Vec<User> {
    let mut found: Vec<User> = entries(&claims(folder)).filter_map(|(pid, path)| claimed(pid, &path)).collect();
    for (pid, path) in entries(Path::new("/proc")) {
        for uuid in visible(&path.join("environ")) {
            if !found.iter().any(|user| user.pid == pid && user.uuid == uuid) && started(pid).is_some() {
                found.push(User { pid, uuid, memory_mib: CONTEXT_MIB });
            }
        }
    }
    found.retain(|user| is_ours(&user.uuid));
    found.sort_by_key(|user| user.pid);
    found
}

fn claims(folder: &Path) -> PathBuf {
    folder.join("claims")
}

/// Entries of a folder that are called like a process.
fn entries(folder: &Path) -> impl Iterator<Item = (u32, PathBuf)> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    entries.filter_map(|entry| Some((entry.file_name().to_str()?.parse().ok()?, entry.path())))
}

/// A claim without a start time counts for whatever process has the pid.
fn claimed(pid: u32, path: &Path) -> Option<User> {
    let text = fs::read_to_string(path).ok()?;
    let mut words = text.split_whitespace();
    let uuid = words.next()?.to_owned();
    let start: Option<u64> = words.next().and_then(|word| word.parse().ok());
    let memory_mib = words.next().and_then(|word| word.parse().ok()).unwrap_or(CONTEXT_MIB);
    let now = started(pid)?;
    start.is_none_or(|start| start == now).then_some(User { pid, uuid, memory_mib })
}

/// The UUIDs that `CUDA_VISIBLE_DEVICES` lists; an index there names none.
fn visible(environ: &Path) -> Vec<String> {
    let bytes = fs::read(environ).unwrap_or_default();
    let value = bytes.split(|byte| *byte == 0).find_map(|entry| entry.strip_prefix(VISIBLE)).unwrap_or_default();
    let text = String::from_utf8_lossy(value);
    text.split(',').map(str::trim).filter(|word| word.starts_with("MIG-") || word.starts_with("GPU-")).map(str::to_owned).collect()
}

/// Clock ticks after boot at which a process started; `None` when it does not run any more (proc(5), fields 3 and 22).
fn started(pid: u32) -> Option<u64> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The second field is the name in parentheses, which may itself hold spaces and parentheses.
    let mut fields = stat[stat.rfind(')')? + 1..].split_whitespace();
    if matches!(fields.next()?, "Z" | "X" | "x") {
        return None;
    }
    fields.nth(18)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use std::process::{Command, Stdio};

    use super::*;

    const UUID: &str = "MIG-0a55e7a1-0000-5000-8000-00000000c1a1";

    #[test]
    fn a_claim_lasts_until_it_is_taken_back_and_is_of_one_process() {
        let folder = tempfile::tempdir().unwrap();
        let own = std::process::id();
        write(folder.path(), own, UUID, Some(700)).unwrap();
        let ours = |uuid: &str| uuid == UUID;
        assert_eq!(users(folder.path(), ours), [User { pid: own, uuid: UUID.to_owned(), memory_mib: 700 }]);
        assert_eq!(users(folder.path(), |_| false), []);
        fs::write(claims(folder.path()).join(own.to_string()), format!("{UUID} 1")).unwrap();
        assert_eq!(users(folder.path(), ours), []);
        fs::write(claims(folder.path()).join(own.to_string()), UUID).unwrap();
        assert_eq!(users(folder.path(), ours).len(), 1);
        remove(folder.path(), own).unwrap();
        remove(folder.path(), own).unwrap();
        assert_eq!(users(folder.path(), ours), []);
    }

    #[test]
    fn a_process_whose_environment_names_the_device_uses_it_until_it_ends() {
        let folder = tempfile::tempdir().unwrap();
        let uuid = format!("MIG-0a55e7a1-0000-5000-8000-{:012}", std::process::id());
        let mut child = Command::new("cat");
        let child = child.env("CUDA_VISIBLE_DEVICES", format!("0,{uuid}")).stdin(Stdio::piped()).stdout(Stdio::null());
        let mut child = child.spawn().unwrap();
        let found = users(folder.path(), |other| other == uuid);
        assert_eq!(found.iter().map(|user| user.pid).collect::<Vec<_>>(), [child.id()]);
        drop(child.stdin.take());
        child.wait().unwrap();
        assert_eq!(users(folder.path(), |other| other == uuid), []);
    }
}
