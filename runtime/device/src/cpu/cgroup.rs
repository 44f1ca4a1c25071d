//! Shares enforced by the kernel: one cgroup per instance, with a quota of CPU time and a bound on memory.
//!
//! ```text
//! <this process's cgroup>/migrator-<pid>-<start>-<n>/   low weight: the server outside is scheduled first
//!     i<id>/      one instance: quota = share × period, memory bound, weight by share
//!     staging/    what instances leave over, and a weight of its own: a preload ends in seconds however busy they are
//! ```

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use crate::cpu::enforcer::{Enforcer, os};
use crate::cpu::folder;
use crate::cpu::mount::{self, Version};
use crate::cpu::process::Process;
use crate::{DeviceError, Instance};

/// Weight of all instances and the staging area together, where each session or group outside has 100.
///
/// Lower than the server's, so that it is scheduled first, and not much lower, or a build on the same host starves the
/// instances (at 25 they kept 15 % of their share beside 6 compilers). `measure_server`, 1 ms of work every 10 ms beside full
/// instances on 2 cores: p50 / p90 is 1.1 / 1.2 ms at 25 and at 100, and 1.1 / 8.7 ms at 400.
const TREE_WEIGHT: u64 = 80;

/// Weight of an instance per core of its share; what one core's worth of instances has against the staging area's 1.
const WEIGHT_PER_CORE: f64 = 100.0;

/// The staging area's folder.
const STAGING: &str = "staging";

/// Weight of the staging area beside the instances'. As an idle-class group (tried first) a preload of half a second took 20 to 50 s on
/// full cores, and the plan it was for was out of date.
const STAGING_WEIGHT: u64 = 40;

/// Cores that preloading may take where instances have all of them, however many workers are staged.
const STAGING_CORES: f64 = 0.5;

/// Part of its quota that an instance may carry over to the next period, so that what a late tick or wake-up made it miss is
/// not lost: without it a full core of 4 slices got 0.92 (`measure_proportionality`).
const BURST: f64 = 0.2;

/// The least quota that the kernel takes, µs (`min_cfs_quota_period` in kernel/sched/core.c).
const LEAST_QUOTA_US: f64 = 1000.0;

/// The cgroups of one device.
#[derive(Debug)]
pub(crate) struct Cgroups {
    version: Version,
    cpu: PathBuf,
    /// The same as `cpu` in version 2; `None` where memory cannot be bound by cgroups.
    memory: Option<PathBuf>,
    /// Where processes go that are let go: the folders that hold the server.
    homes: Vec<PathBuf>,
    /// In version 2, the folder that the server had to leave so that controllers could be enabled in it.
    left: Option<PathBuf>,
    period_ms: u32,
    /// Cores that are carved up.
    cores: f64,
    /// Of them, what each instance has, by its id.
    shares: Mutex<BTreeMap<u64, f64>>,
}

/// The folders in which a device makes its own; left-overs of former servers lie there too.
pub(crate) fn bases() -> Vec<PathBuf> {
    let mut bases = Vec::new();
    for own in ["cpu", "memory"].into_iter().filter_map(mount::own) {
        if own.version == Version::V2 {
            bases.extend(own.dir.parent().filter(|dir| dir.starts_with(&own.mount)).map(Path::to_path_buf));
        }
        bases.push(own.dir);
    }
    bases.dedup();
    bases
}

impl Cgroups {
    /// Makes the folder `name` and tries it out; the error says in words why it cannot be used.
    pub(crate) fn open(name: &str, period_ms: u32, cores: f64) -> Result<Cgroups, String> {
        let own = mount::own("cpu").ok_or("no cgroup hierarchy with the cpu controller is mounted")?;
        let cgroups = match own.version {
            Version::V1 => Cgroups::open_v1(name, (period_ms, cores), &own.dir),
            Version::V2 => Cgroups::open_v2(name, (period_ms, cores), &own),
        }?;
        cgroups.prepare().map_err(|error| in_words(&error))?;
        Ok(cgroups)
    }

    fn open_v1(name: &str, (period_ms, cores): (u32, f64), cpu: &Path) -> Result<Cgroups, String> {
        folder::make(&cpu.join(name)).map_err(|error| in_words(&error))?;
        let mut homes = vec![cpu.to_owned()];
        let memory = mount::own("memory").filter(|own| own.version == Version::V1);
        let memory = memory.filter(|own| folder::make(&own.dir.join(name)).is_ok());
        homes.extend(memory.iter().map(|own| own.dir.clone()));
        let memory = memory.map(|own| own.dir.join(name));
        let (cpu, shares) = (cpu.join(name), Mutex::default());
        Ok(Cgroups { version: Version::V1, cpu, memory, homes, left: None, period_ms, cores, shares })
    }

    fn open_v2(name: &str, (period_ms, cores): (u32, f64), own: &mount::Own) -> Result<Cgroups, String> {
        let base = folder::delegated(own, name)?;
        let tree = base.dir.join(name);
        folder::make(&tree).map_err(|error| in_words(&error))?;
        let memory = tree.join("memory.max").exists().then(|| tree.clone());
        let (homes, shares) = (vec![base.home], Mutex::default());
        Ok(Cgroups { version: Version::V2, cpu: tree, memory, homes, left: base.left, period_ms, cores, shares })
    }

    /// Sets the weights, makes the staging area, and tries a quota out.
    fn prepare(&self) -> Result<(), DeviceError> {
        if self.version == Version::V2 {
            folder::enable(&self.cpu)?;
        }
        self.set_weight(&self.cpu, TREE_WEIGHT)?;
        let staging = self.make_leaf(STAGING)?;
        self.set_weight(&staging, STAGING_WEIGHT)?;
        self.set_quota(&staging, self.left_over(&BTreeMap::new()))?;
        let probe = self.make_leaf("probe")?;
        self.set_quota(&probe, 1.0)?;
        self.remove_leaf("probe")
    }

    /// What instances with these shares leave to the staging area.
    fn left_over(&self, shares: &BTreeMap<u64, f64>) -> f64 {
        (self.cores - shares.values().sum::<f64>()).max(STAGING_CORES)
    }

    /// An instance has this share from now on, or is gone.
    fn account(&self, id: u64, share: Option<f64>) {
        let mut shares = self.shares.lock().unwrap_or_else(PoisonError::into_inner);
        match share {
            Some(share) => shares.insert(id, share),
            None => shares.remove(&id),
        };
        if let Err(error) = self.set_quota(&self.cpu.join(STAGING), self.left_over(&shares)) {
            tracing::warn!(%error, "the staging area keeps the quota that it had");
        }
    }

    fn make_leaf(&self, leaf: &str) -> Result<PathBuf, DeviceError> {
        for tree in self.trees() {
            folder::make(&tree.join(leaf))?;
        }
        Ok(self.cpu.join(leaf))
    }

    fn remove_leaf(&self, leaf: &str) -> Result<(), DeviceError> {
        self.trees().try_for_each(|tree| folder::remove(&tree.join(leaf)))
    }

    /// The folders of this device: one in version 2, one per controller in version 1.
    pub(crate) fn trees(&self) -> impl Iterator<Item = &PathBuf> {
        let memory = self.memory.iter().filter(|memory| **memory != self.cpu);
        std::iter::once(&self.cpu).chain(memory)
    }

    /// `weight` in the unit of version 2, where 100 is what everybody has.
    fn set_weight(&self, dir: &Path, weight: u64) -> Result<(), DeviceError> {
        match self.version {
            Version::V1 => folder::write(&dir.join("cpu.shares"), (weight * 1024 / 100).max(2)),
            Version::V2 => folder::write(&dir.join("cpu.weight"), weight.clamp(1, 10_000)),
        }
    }

    fn set_quota(&self, dir: &Path, share: f64) -> Result<(), DeviceError> {
        let (quota_us, period_us) = quota(share, self.period_ms);
        self.write_quota(dir, quota_us, period_us)?;
        let burst = if self.version == Version::V1 { "cpu.cfs_burst_us" } else { "cpu.max.burst" };
        // Since Linux 5.14; without it an instance gets a few percent less.
        let _ = fs::write(dir.join(burst), ((quota_us as f64 * BURST) as u64).to_string());
        Ok(())
    }

    fn write_quota(&self, dir: &Path, quota_us: u64, period_us: u64) -> Result<(), DeviceError> {
        match self.version {
            Version::V1 => {
                // The period first: a quota is checked against the period that holds when it is written.
                folder::write(&dir.join("cpu.cfs_period_us"), period_us)?;
                folder::write(&dir.join("cpu.cfs_quota_us"), quota_us)
            }
            Version::V2 => folder::write(&dir.join("cpu.max"), format!("{quota_us} {period_us}")),
        }
    }

    fn set_memory(&self, leaf: &str, mib: u64) -> Result<(), DeviceError> {
        let Some(dir) = self.memory.as_ref().map(|memory| memory.join(leaf)) else { return Ok(()) };
        let (limit, swap) = match self.version {
            Version::V1 => ("memory.limit_in_bytes", "memory.swappiness"),
            Version::V2 => ("memory.max", "memory.swap.max"),
        };
        // An instance has no swap, as a GPU has none; hosts without swap have no such file.
        let _ = fs::write(dir.join(swap), "0");
        folder::write(&dir.join(limit), mib.saturating_mul(1024 * 1024))
    }

    fn attach(&self, leaf: &str, process: Process) -> Result<(), DeviceError> {
        self.trees().try_for_each(|tree| folder::write(&tree.join(leaf).join("cgroup.procs"), process.pid))
    }
}

impl Enforcer for Cgroups {
    fn create(&self, instance: &Instance) -> Result<(), DeviceError> {
        let leaf = leaf(instance.id);
        let made = self.make_leaf(&leaf).and_then(|dir| {
            self.set_weight(&dir, ((instance.share * WEIGHT_PER_CORE) as u64).max(1))?;
            self.set_quota(&dir, instance.share)?;
            self.set_memory(&leaf, instance.memory_mib)
        });
        made.inspect(|()| self.account(instance.id, Some(instance.share))).inspect_err(|_| drop(self.remove_leaf(&leaf)))
    }

    fn destroy(&self, id: u64) -> Result<(), DeviceError> {
        self.remove_leaf(&leaf(id)).inspect(|()| self.account(id, None))
    }

    fn enter(&self, instance: &Instance, process: Process) -> Result<(), DeviceError> {
        self.attach(&leaf(instance.id), process)?;
        if self.memory.is_none() {
            process.limit_data(Some(instance.memory_mib)).map_err(os(format!("bounding the memory of {}", process.pid)))?;
        }
        Ok(())
    }

    fn stage(&self, process: Process) -> Result<(), DeviceError> {
        if self.memory.is_none() {
            process.limit_data(None).map_err(os(format!("lifting the memory bound of process {}", process.pid)))?;
        }
        self.attach(STAGING, process)
    }

    fn members(&self, id: u64) -> Result<Vec<u32>, DeviceError> {
        folder::members(&self.cpu.join(leaf(id)))
    }

    fn describe(&self) -> String {
        let version = if self.version == Version::V1 { "v1" } else { "v2" };
        let memory = if self.memory.is_some() { "memory by cgroup" } else { "memory by RLIMIT_DATA" };
        format!("cgroup {version} quota, period {} ms, {memory}", self.period_ms)
    }
}

impl Drop for Cgroups {
    fn drop(&mut self) {
        for (tree, home) in self.trees().zip(&self.homes) {
            folder::dissolve(tree, Some(home));
        }
        if let Some(left) = &self.left {
            folder::return_home(left, &self.homes);
        }
    }
}

/// Quota and period, µs, of a share of cores. The period is longer than asked for where the quota would be too small.
fn quota(share: f64, period_ms: u32) -> (u64, u64) {
    let period_us = (f64::from(period_ms) * 1000.0).max(LEAST_QUOTA_US / share).min(1e6);
    ((share * period_us).round().max(LEAST_QUOTA_US) as u64, period_us.ceil() as u64)
}

fn leaf(id: u64) -> String {
    format!("i{id}")
}

fn in_words(error: &DeviceError) -> String {
    match error {
        DeviceError::Os { what, source } => format!("{what}: {source}"),
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_share_is_quota_over_period() {
        assert_eq!(quota(0.25, 10), (2500, 10_000));
        assert_eq!(quota(1.75, 20), (35_000, 20_000));
    }

    #[test]
    fn version_2_gets_quota_weight_and_memory_in_its_own_files() {
        let dir = tempfile::tempdir().unwrap();
        let tree = dir.path().join("tree");
        folder::make(&tree).unwrap();
        let (cpu, memory) = (tree.clone(), Some(tree.clone()));
        let (homes, shares) = (Vec::new(), Mutex::default());
        let cgroups = Cgroups { version: Version::V2, cpu, memory, homes, left: None, period_ms: 10, cores: 1.5, shares };
        folder::make(&tree.join(STAGING)).unwrap();
        let placement = migrator_mig::Placement { start: 4, size: 4 };
        let site = migrator_mig::Site { placement, profile: migrator_mig::ProfileId(2) };
        cgroups.create(&Instance { id: 3, gpu: 0, site, share: 0.75, memory_mib: 2, uuid: None, foreign: false }).unwrap();
        let staging = || fs::read_to_string(tree.join(STAGING).join("cpu.max")).unwrap();
        assert_eq!(staging(), "7500 10000", "what the instance leaves over");
        let text = |file: &str| fs::read_to_string(tree.join("i3").join(file)).unwrap();
        assert_eq!((text("cpu.max"), text("cpu.weight"), text("memory.max")), ("7500 10000".into(), "75".into(), "2097152".into()));
        assert_eq!(cgroups.trees().count(), 1);
        cgroups.account(4, Some(0.75));
        assert_eq!(staging(), "5000 10000", "never less than half a core");
        cgroups.account(4, None);
        cgroups.account(3, None);
        assert_eq!(staging(), "15000 10000");
    }

    #[test]
    fn a_share_too_small_for_the_kernel_gets_a_longer_period() {
        assert_eq!(quota(0.05, 10), (1000, 20_000));
    }
}
