//! How much memory this process takes.

use std::sync::OnceLock;

use crate::cuda::Driver;

/// The driver, once this process computes on a GPU.
static DRIVER: OnceLock<Driver> = OnceLock::new();

/// From now on the memory that counts is the GPU's.
pub(crate) fn count_on(driver: Driver) {
    let _ = DRIVER.set(driver);
}

/// Memory in use, MiB: of the device that this process computes on, or resident on the host.
pub(crate) fn in_use_mib() -> u64 {
    DRIVER.get().and_then(Driver::used_mib).unwrap_or_else(resident_mib)
}

/// Resident memory of this process, MiB; 0 where /proc does not tell.
fn resident_mib() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let kib = |line: &str| line.strip_prefix("VmRSS:")?.trim().strip_suffix("kB")?.trim().parse::<u64>().ok();
    status.lines().find_map(kib).unwrap_or(0) / 1024
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_knows_its_resident_memory() {
        assert!(resident_mib() > 0);
    }
}
