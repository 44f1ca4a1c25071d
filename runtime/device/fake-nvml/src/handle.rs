//! Handles: numbers that the caller takes for pointers.

use std::fmt;

use crate::Code;

/// What a handle stands for. Instances go by their number, which is never used again, so a stale handle is known as one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Handle {
    /// A GPU, by index.
    Gpu(usize),
    /// A MIG device, by the number of its compute instance.
    Mig { gpu: usize, number: u64 },
    /// A GPU instance.
    Instance { gpu: usize, number: u64 },
    /// A compute instance.
    Compute { gpu: usize, number: u64 },
    /// A set of events.
    Set(u64),
    /// A sample of performance counters.
    Sample(u64),
}

/// Bits of the number, below those of the GPU and the kind.
const NUMBER_BITS: u32 = 40;
/// Bits of the GPU's index.
const GPU_BITS: u32 = 16;

impl Handle {
    /// The number that the caller gets.
    pub(crate) fn encode(self) -> usize {
        let (kind, gpu, number) = match self {
            Handle::Gpu(gpu) => (1, gpu, 0),
            Handle::Mig { gpu, number } => (2, gpu, number),
            Handle::Instance { gpu, number } => (3, gpu, number),
            Handle::Compute { gpu, number } => (4, gpu, number),
            Handle::Set(number) => (5, 0, number),
            Handle::Sample(number) => (6, 0, number),
        };
        (kind << (GPU_BITS + NUMBER_BITS)) | (gpu << NUMBER_BITS) | number as usize
    }

    /// What the caller's number stands for.
    ///
    /// # Errors
    /// [`Code::INVALID_ARGUMENT`] when it is no handle of ours.
    pub(crate) fn decode(raw: usize) -> Result<Handle, Code> {
        let gpu = (raw >> NUMBER_BITS) & ((1 << GPU_BITS) - 1);
        let number = raw as u64 & ((1 << NUMBER_BITS) - 1);
        match raw >> (GPU_BITS + NUMBER_BITS) {
            1 => Ok(Handle::Gpu(gpu)),
            2 => Ok(Handle::Mig { gpu, number }),
            3 => Ok(Handle::Instance { gpu, number }),
            4 => Ok(Handle::Compute { gpu, number }),
            5 => Ok(Handle::Set(number)),
            6 => Ok(Handle::Sample(number)),
            _ => Err(Code::INVALID_ARGUMENT),
        }
    }

    /// The GPU's index.
    pub(crate) fn gpu(self) -> Option<usize> {
        match self {
            Handle::Gpu(gpu) | Handle::Mig { gpu, .. } | Handle::Instance { gpu, .. } | Handle::Compute { gpu, .. } => Some(gpu),
            Handle::Set(_) | Handle::Sample(_) => None,
        }
    }
}

impl fmt::Display for Handle {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        match self {
            Handle::Gpu(gpu) => write!(f, "gpu {gpu}"),
            Handle::Mig { gpu, number } => write!(f, "gpu {gpu} mig {number}"),
            Handle::Instance { gpu, number } => write!(f, "gpu {gpu} gi {number}"),
            Handle::Compute { gpu, number } => write!(f, "gpu {gpu} ci {number}"),
            Handle::Set(number) => write!(f, "set {number}"),
            Handle::Sample(number) => write!(f, "sample {number}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_handle_stands_for_what_it_was_made_of() {
        let (gpu, number) = (3, 1 << 39);
        let all = [Handle::Gpu(0), Handle::Mig { gpu, number }, Handle::Instance { gpu, number }, Handle::Compute { gpu, number }];
        for handle in all.into_iter().chain([Handle::Set(7), Handle::Sample(7)]) {
            assert_ne!(handle.encode(), 0);
            assert_eq!(Handle::decode(handle.encode()), Ok(handle));
        }
        assert_eq!(Handle::decode(0), Err(Code::INVALID_ARGUMENT));
    }
}
