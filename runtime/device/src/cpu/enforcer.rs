//! What holds instances to their shares: cgroups or the duty governor.

use crate::cpu::process::Process;
use crate::{DeviceError, Instance};

/// Holds processes to their instance's share of cores and memory.
///
/// Dropping it lets every process go, unlimited, and removes all that was created.
/// The caller serialises `create` and `destroy`, and never overlaps `enter` and `destroy` of one instance.
pub(crate) trait Enforcer: Send + Sync {
    /// Prepares the limits of an instance.
    fn create(&self, instance: &Instance) -> Result<(), DeviceError>;
    /// Takes the limits away; nobody is bound any more.
    fn destroy(&self, id: u64) -> Result<(), DeviceError>;
    /// Puts the process under the instance's limits, wherever it was before.
    fn enter(&self, instance: &Instance, process: Process) -> Result<(), DeviceError>;
    /// Puts the process into the staging area, wherever it was before.
    fn stage(&self, process: Process) -> Result<(), DeviceError>;
    /// Pids of the running processes bound to an instance.
    fn members(&self, id: u64) -> Result<Vec<u32>, DeviceError>;
    /// In words, e.g. `cgroup v1 quota, period 10 ms`.
    fn describe(&self) -> String;
}

/// The operating system's refusal, with what was tried.
pub(crate) fn os(what: impl Into<String>) -> impl FnOnce(std::io::Error) -> DeviceError {
    let what = what.into();
    move |source| DeviceError::Os { what, source }
}
