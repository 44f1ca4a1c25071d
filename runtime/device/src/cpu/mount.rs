//! Where this process's own cgroups are, for version 1 and version 2 of the interface.
//!
//! Plain file reads and writes instead of the crate `cgroups-rs`: the device needs six files of the interface, and that
//! crate neither finds a process's own cgroup under a bind mount nor enables controllers in a delegated subtree.

use std::fs;
use std::path::{Path, PathBuf};

/// Version of the cgroup interface.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Version {
    /// One hierarchy per controller.
    V1,
    /// One hierarchy for all of them.
    V2,
}

/// The folder of this process in the hierarchy of one controller.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Own {
    pub(crate) version: Version,
    /// Where the hierarchy is mounted.
    pub(crate) mount: PathBuf,
    /// The folder, in or below `mount`.
    pub(crate) dir: PathBuf,
}

/// This process's folder in the hierarchy of `controller` (`cpu`, `memory`).
pub(crate) fn own(controller: &str) -> Option<Own> {
    let mounts = fs::read_to_string("/proc/self/mountinfo").ok()?;
    let cgroups = fs::read_to_string("/proc/self/cgroup").ok()?;
    find(&mounts, &cgroups, controller)
}

/// Cores that this process's cgroups let it use; `None` when they do not bound it.
pub(crate) fn cpu_limit() -> Option<f64> {
    let own = own("cpu")?;
    ancestors(&own).filter_map(|dir| cores_of(&dir, own.version)).min_by(f64::total_cmp)
}

/// Memory that this process's cgroups leave it, MiB; `None` when they do not bound it.
pub(crate) fn memory_left_mib() -> Option<u64> {
    let own = own("memory")?;
    let (limit, used) = match own.version {
        Version::V1 => ("memory.limit_in_bytes", "memory.usage_in_bytes"),
        Version::V2 => ("memory.max", "memory.current"),
    };
    let left = |dir: PathBuf| number(&dir.join(limit)).map(|max| max.saturating_sub(number(&dir.join(used)).unwrap_or(0)));
    ancestors(&own).filter_map(left).min().map(|bytes| bytes / (1024 * 1024))
}

fn find(mounts: &str, cgroups: &str, controller: &str) -> Option<Own> {
    let (version, path) = match path_of(cgroups, |names| names.split(',').any(|name| name == controller)) {
        Some(path) => (Version::V1, path),
        None => (Version::V2, path_of(cgroups, str::is_empty)?),
    };
    mounts.lines().find_map(|line| {
        let (left, right) = line.split_once(" - ")?;
        let kind = right.split(' ').next()?;
        let options = right.split(' ').nth(2)?;
        let fits = match version {
            Version::V1 => kind == "cgroup" && options.split(',').any(|option| option == controller),
            Version::V2 => kind == "cgroup2",
        };
        let mut fields = left.split(' ').skip(3);
        let (root, mount) = (fields.next()?, PathBuf::from(fields.next()?));
        // In a container the mount shows only the part below `root`.
        let below = Path::new(path).strip_prefix(root).ok()?;
        let inside = below.components().all(|part| matches!(part, std::path::Component::Normal(_)));
        (fits && inside).then(|| Own { version, dir: mount.join(below), mount })
    })
}

fn path_of(cgroups: &str, wanted: impl Fn(&str) -> bool) -> Option<&str> {
    cgroups.lines().find_map(|line| {
        let (names, path) = line.split_once(':')?.1.split_once(':')?;
        wanted(names).then_some(path)
    })
}

fn ancestors(own: &Own) -> impl Iterator<Item = PathBuf> {
    own.dir.ancestors().take_while(|dir| dir.starts_with(&own.mount)).map(Path::to_path_buf)
}

fn cores_of(dir: &Path, version: Version) -> Option<f64> {
    let (quota, period) = match version {
        Version::V1 => (number(&dir.join("cpu.cfs_quota_us"))?, number(&dir.join("cpu.cfs_period_us"))?),
        Version::V2 => {
            let text = fs::read_to_string(dir.join("cpu.max")).ok()?;
            let (quota, period) = text.trim().split_once(' ')?;
            (quota.parse().ok()?, period.parse().ok()?)
        }
    };
    (period > 0).then(|| quota as f64 / period as f64)
}

/// The file's number; `None` for `max`, `-1` and files that do not exist.
fn number(file: &Path) -> Option<u64> {
    fs::read_to_string(file).ok()?.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    const V1: &str = "32 31 0:29 / /sys/fs/cgroup/cpu rw,relatime - cgroup cgroup rw,cpu,cpuacct\n\
                      38 31 0:36 /docker/ab /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory\n";
    const V2: &str = "25 24 0:23 / /sys/fs/cgroup rw,nosuid shared:4 - cgroup2 cgroup2 rw,nsdelegate\n";

    #[test]
    fn the_own_folder_is_found_in_version_1() {
        let cgroups = "4:memory:/docker/ab/w\n1:cpu,cpuacct:/\n0::/\n";
        let dir = |controller| find(V1, cgroups, controller).map(|own| (own.version, own.dir));
        assert_eq!(dir("cpu"), Some((Version::V1, "/sys/fs/cgroup/cpu".into())));
        assert_eq!(dir("memory"), Some((Version::V1, "/sys/fs/cgroup/memory/w".into())), "below the bind mount's root");
    }

    #[test]
    fn the_own_folder_is_found_in_version_2() {
        let own = find(V2, "0::/user.slice/a.service\n", "cpu").unwrap();
        assert_eq!((own.version, own.dir), (Version::V2, "/sys/fs/cgroup/user.slice/a.service".into()));
    }

    #[test]
    fn a_folder_outside_the_mount_is_not_found() {
        assert_eq!(find(V2, "0::/../other\n", "cpu"), None);
        assert_eq!(find(V1, "4:memory:/elsewhere\n", "memory"), None);
        assert_eq!(find("", "0::/\n", "cpu"), None);
    }

    #[test]
    fn limits_are_read_in_both_versions() {
        let dir = tempfile::tempdir().unwrap();
        let file = |name: &str, text: &str| fs::write(dir.path().join(name), text).unwrap();
        file("cpu.cfs_quota_us", "-1\n");
        file("cpu.cfs_period_us", "100000\n");
        file("cpu.max", "max 100000\n");
        assert_eq!((cores_of(dir.path(), Version::V1), cores_of(dir.path(), Version::V2)), (None, None));
        file("cpu.cfs_quota_us", "150000\n");
        file("cpu.max", "250000 100000\n");
        assert_eq!((cores_of(dir.path(), Version::V1), cores_of(dir.path(), Version::V2)), (Some(1.5), Some(2.5)));
    }
}
