//! The cores and the memory this process may use, and which cores an instance's compute slices map to.

use std::fs;
use std::thread::available_parallelism;

use rustix::thread::{CpuSet, sched_getaffinity};

/// The cores of the host that this process may use, and what they are carved into.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Cores {
    /// Numbers of the cores, ascending.
    pub(crate) usable: Vec<usize>,
    /// Cores that are carved up into slices.
    pub(crate) carved: f64,
    /// Cores kept for the server.
    pub(crate) reserved: f64,
    /// Compute slices that the cores are carved into.
    pub(crate) slices: u8,
}

impl Cores {
    /// Splits `usable` into `slices` as the options say, of which `capacity` (≤ their number) may be used at once.
    pub(crate) fn split(usable: Vec<usize>, capacity: f64, slices: u8, cores: Option<f64>, reserved: Option<f64>) -> Result<Cores, String> {
        let reserved = match (reserved, cores) {
            (Some(reserved), _) => reserved,
            (None, Some(cores)) => (capacity - cores).max(0.0),
            (None, None) => (capacity / 8.0).min(1.0),
        };
        let carved = cores.unwrap_or(capacity - reserved);
        if !(reserved >= 0.0 && carved > 0.0 && carved.is_finite()) {
            return Err(format!("{reserved} of {capacity} cores are reserved, which leaves {carved} to carve up"));
        }
        Ok(Cores { usable, carved, reserved, slices })
    }

    /// Cores of one compute slice.
    pub(crate) fn per_slice(&self) -> f64 {
        self.carved / f64::from(self.slices)
    }

    /// The numbers of the cores that compute slices `[start, start + slices)` touch; `None` when the host has too few.
    pub(crate) fn of_slices(&self, start: u8, slices: u8) -> Option<Vec<usize>> {
        // 7 × (1.75 ÷ 7) may come out as 1.7500000000000002: a slice that ends at a core's edge must not touch the next.
        const ROUNDING: f64 = 1e-9;
        let from = (f64::from(start) * self.per_slice() + ROUNDING).floor() as usize;
        let to = (f64::from(start + slices) * self.per_slice() - ROUNDING).ceil() as usize;
        self.usable.get(from..to).map(<[usize]>::to_vec)
    }
}

/// Numbers of the cores that this process's affinity allows.
pub(crate) fn usable() -> Vec<usize> {
    match sched_getaffinity(None) {
        Ok(set) => (0..CpuSet::MAX_CPU).filter(|&core| set.is_set(core)).collect(),
        // Hosts of more than 1024 cores: the mask does not fit; use the first ones.
        Err(_) => (0..available_parallelism().map_or(1, usize::from)).collect(),
    }
}

/// 80 % of the memory that is free on the host (`MemAvailable`) and in this process's cgroup (`cgroup_free`), MiB.
pub(crate) fn free_memory_mib(cgroup_free: Option<u64>) -> u64 {
    let text = fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let kib = text.lines().find_map(|line| line.strip_prefix("MemAvailable:")?.split_whitespace().next()?.parse::<u64>().ok());
    let host = kib.unwrap_or(8 * 1024 * 1024) / 1024;
    host.min(cgroup_free.unwrap_or(u64::MAX)) * 4 / 5
}

#[cfg(test)]
mod tests {
    use migrator_mig::Catalog;
    use proptest::prelude::*;

    use super::*;

    fn cores(usable: usize, cores: Option<f64>) -> Cores {
        Cores::split((0..usable).collect(), usable as f64, 7, cores, None).unwrap()
    }

    #[test]
    fn two_cores_make_slices_of_a_quarter_and_keep_a_quarter() {
        let two = cores(2, None);
        assert_eq!((two.per_slice(), two.reserved), (0.25, 0.25));
        assert_eq!(cores(64, None).reserved, 1.0);
    }

    #[test]
    fn slices_0_to_3_are_core_0_and_4_to_6_are_on_core_1() {
        let two = cores(2, None);
        assert_eq!(two.of_slices(0, 4), Some(vec![0]));
        assert_eq!(two.of_slices(3, 1), Some(vec![0]));
        assert_eq!(two.of_slices(4, 3), Some(vec![1]));
        assert_eq!(two.of_slices(0, 7), Some(vec![0, 1]));
        assert_eq!(two.of_slices(2, 2), Some(vec![0]));
    }

    #[test]
    fn instances_are_not_pinned_when_the_host_has_too_few_cores() {
        assert_eq!(cores(2, Some(14.0)).of_slices(0, 1), Some(vec![0, 1]));
        assert_eq!(cores(2, Some(14.0)).of_slices(1, 1), None);
    }

    #[test]
    fn cores_that_leave_nothing_are_refused() {
        assert!(Cores::split(vec![0], 1.0, 7, None, Some(1.0)).unwrap_err().contains("leaves 0"));
    }

    proptest! {
        // Hall's condition, core by core: the parts of the slices that lie on a core are at most that core.
        #[test]
        fn the_quotas_on_a_core_never_exceed_it(host in 1_usize..40, at in 0_usize..298) {
            let cores = cores(host, None);
            let catalog = Catalog::seven_slices("cpu", 8000);
            let unit = cores.per_slice();
            let mut load = vec![0.0; host];
            for site in catalog.partitions()[at].sites() {
                let slices = catalog.profile(site.profile).compute_slices;
                let (from, to) = (f64::from(site.placement.start) * unit, f64::from(site.placement.start + slices) * unit);
                let touched = cores.of_slices(site.placement.start, slices).unwrap();
                let mut given = 0.0;
                for core in touched {
                    let part = (to.min(core as f64 + 1.0) - from.max(core as f64)).max(0.0);
                    load[core] += part;
                    given += part;
                }
                prop_assert!((given - unit * f64::from(slices)).abs() < 1e-6, "the touched cores hold the whole share");
            }
            prop_assert!(load.iter().all(|&sum| sum <= 1.0 + 1e-6));
        }
    }
}
