//! How the host's cores are to be carved up.

use std::path::PathBuf;
use std::time::Duration;

use migrator_mig::Catalog;
use serde::{Deserialize, Serialize};

/// Seconds to create an A100 instance of 1g, 2g, 3g, 4g, 7g (GPU instance and compute instance).
///
/// Source: `algorithm.py` of artecs-group/RL_MIG_scheduler at b5c1b9c.
pub const A100_CREATE_S: [f64; 5] = [0.16, 0.17, 0.20, 0.21, 0.24];

/// Seconds to destroy an A100 instance of 1g, 2g, 3g, 4g, 7g; source as for [`A100_CREATE_S`].
pub const A100_DESTROY_S: [f64; 5] = [0.20, 0.20, 0.21, 0.21, 0.22];

/// How the shares of the instances are enforced.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Enforcement {
    /// Cgroups where they can be written, else the duty governor.
    #[default]
    Auto,
    /// Cgroup v1 or v2 quotas; [`CpuDevice::new`](crate::CpuDevice::new) fails where they cannot be written.
    Cgroup,
    /// A thread that pauses and resumes the processes (SIGSTOP, SIGCONT); needs no privileges.
    Duty,
}

/// How the host's cores are carved up; `default()` uses what the host has.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct CpuOptions {
    /// Cores carved up into 7 slices; by default those this process may use, less the reserved ones.
    pub cores: Option<f64>,
    /// Cores kept for the server's own process; by default min(1, cores ÷ 8), so that 2 cores make slices of 0.25.
    pub reserved_cores: Option<f64>,
    /// Memory carved up into 8 slices, MiB; by default 80 % of what the host and this process's cgroup have free.
    pub memory_mib: Option<u64>,
    /// Profiles and placements; an A100's by default. The memory of its profiles is what instances may use, whatever `memory_mib` says.
    pub catalog: Option<Catalog>,
    /// Seconds added to each creation, by profile, e.g. [`A100_CREATE_S`]; none by default.
    pub create_s: Option<[f64; 5]>,
    /// Seconds added to each destruction, by profile, e.g. [`A100_DESTROY_S`]; none by default.
    pub destroy_s: Option<[f64; 5]>,
    /// Who enforces the shares.
    pub enforcement: Enforcement,
    /// Period of the cgroup quota, ms: an instance that has used its share waits for the next one. 10 by default.
    ///
    /// The shorter, the more an instance is like a slower GPU and the less its latency depends on its neighbours; below 10 ms
    /// the scheduler's tick (4 ms at 250 Hz) makes shares inexact. `measure_neighbours`, 6 ms of work every 40 ms in 1g of 0.25
    /// cores (24 ms if it were a core of that speed), p50 alone / beside full neighbours, and share the neighbours got:
    /// 4 ms: 14 / 22 ms, 89 %; 10 ms: 11 / 20 ms, 100 %; 20 ms: 7 / 15 ms, 100 %; 50 ms: 6 / 13 ms, 100 %.
    pub period_ms: u32,
    /// Whether instances are pinned to the cores that their compute slices map to.
    pub pin: bool,
    /// Where the left-overs of a crashed server are recorded; by default a folder of this user's in the temporary folder.
    pub state_dir: Option<PathBuf>,
    /// Start of the names of cgroup folders and state files; letters, digits and `_`.
    pub prefix: String,
}

impl Default for CpuOptions {
    fn default() -> CpuOptions {
        CpuOptions {
            cores: None,
            reserved_cores: None,
            memory_mib: None,
            catalog: None,
            create_s: None,
            destroy_s: None,
            enforcement: Enforcement::Auto,
            period_ms: 10,
            pin: true,
            state_dir: None,
            prefix: "migrator".to_owned(),
        }
    }
}

impl CpuOptions {
    /// Where the left-overs of a crashed server are recorded.
    pub(crate) fn state_folder(&self) -> PathBuf {
        let uid = rustix::process::geteuid().as_raw();
        self.state_dir.clone().unwrap_or_else(|| std::env::temp_dir().join(format!("{}-{uid}", self.prefix)))
    }

    /// The first value that makes no sense, in words.
    pub(crate) fn fault(&self) -> Option<String> {
        let seconds = self.create_s.iter().chain(&self.destroy_s).flatten();
        if let Some(bad) = seconds.copied().find(|s| !(0.0..=3600.0).contains(s)) {
            return Some(format!("{bad} s is no time to create or destroy an instance"));
        }
        if let Some(bad) = self.cores.filter(|c| !(c.is_finite() && *c > 0.0)) {
            return Some(format!("{bad} cores cannot be carved up"));
        }
        if !(1..=1000).contains(&self.period_ms) {
            return Some(format!("a quota period of {} ms is outside 1 to 1000", self.period_ms));
        }
        let plain = |c: char| c.is_ascii_alphanumeric() || c == '_';
        if self.prefix.is_empty() || !self.prefix.chars().all(plain) {
            return Some(format!("prefix {:?} is not made of letters, digits and _", self.prefix));
        }
        None
    }

    /// The time added to creating an instance of the profile with this index.
    pub(crate) fn create_delay(&self, profile: usize) -> Duration {
        delay(self.create_s, profile)
    }

    /// The time added to destroying an instance of the profile with this index.
    pub(crate) fn destroy_delay(&self, profile: usize) -> Duration {
        delay(self.destroy_s, profile)
    }
}

fn delay(by_profile: Option<[f64; 5]>, profile: usize) -> Duration {
    by_profile.and_then(|s| s.get(profile).copied()).map_or(Duration::ZERO, Duration::from_secs_f64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_that_make_no_sense_are_named() {
        assert_eq!(CpuOptions::default().fault(), None);
        let fault = |options: CpuOptions| options.fault().unwrap();
        assert!(fault(CpuOptions { cores: Some(0.0), ..CpuOptions::default() }).contains("cores"));
        assert!(fault(CpuOptions { create_s: Some([f64::NAN; 5]), ..CpuOptions::default() }).contains("NaN"));
        assert!(fault(CpuOptions { period_ms: 0, ..CpuOptions::default() }).contains("period"));
        assert!(fault(CpuOptions { prefix: "../x".to_owned(), ..CpuOptions::default() }).contains("prefix"));
    }

    #[test]
    fn delays_are_by_profile_and_off_by_default() {
        assert_eq!(CpuOptions::default().create_delay(4), Duration::ZERO);
        let options = CpuOptions { create_s: Some(A100_CREATE_S), ..CpuOptions::default() };
        assert_eq!(options.create_delay(4), Duration::from_millis(240));
        assert_eq!(options.destroy_delay(4), Duration::ZERO);
    }
}
