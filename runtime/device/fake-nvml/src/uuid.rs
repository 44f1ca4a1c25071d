//! UUIDs that follow from what they name.

use std::path::Path;

use sha2::{Digest, Sha256};

/// `GPU-…` for the GPU of this index of the host in this folder.
pub(crate) fn of_gpu(folder: &Path, index: usize) -> String {
    format!("GPU-{}", of(&format!("{} {index}", folder.display())))
}

/// `MIG-…` for a compute instance: the same for the same GPU and ids.
pub(crate) fn of_mig(gpu: &str, instance: u32, compute: u32) -> String {
    format!("MIG-{}", of(&format!("{gpu}/{instance}/{compute}")))
}

/// Version 8 of RFC 9562: whatever the maker likes.
fn of(name: &str) -> String {
    let digest = Sha256::digest(name.as_bytes());
    let hex: String = digest.iter().take(16).map(|byte| format!("{byte:02x}")).collect();
    format!("{}-{}-8{}-a{}-{}", &hex[..8], &hex[8..12], &hex[13..16], &hex[17..20], &hex[20..32])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_uuid_follows_from_the_gpu_and_the_ids() {
        let gpu = of_gpu(Path::new("/host"), 0);
        assert_eq!((gpu.len(), gpu.matches('-').count()), (40, 5));
        assert_ne!(gpu, of_gpu(Path::new("/host"), 1));
        assert_eq!(of_mig(&gpu, 3, 0), of_mig(&gpu, 3, 0));
        assert_ne!(of_mig(&gpu, 3, 0), of_mig(&gpu, 3, 1));
    }
}
