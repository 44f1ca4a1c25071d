//! Which compute instances a GPU instance offers.

use crate::Code;

/// A profile of compute instances within a GPU instance.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ComputeProfile {
    /// Enum index and id, which are the same for compute instances.
    pub id: u32,
    /// Compute slices.
    pub slices: u8,
    /// Compute slices of the GPU instance at which one may start.
    pub starts: Vec<u8>,
}

/// Compute slices by `NVML_COMPUTE_INSTANCE_PROFILE_*`: `reference/nvml-mig.md` section 2.6.
const SLICES: [u8; 8] = [1, 2, 3, 4, 7, 8, 6, 1];

/// `NVML_COMPUTE_INSTANCE_PROFILE_1_SLICE_REV1`, which no board here is known to offer.
const REV1: u32 = 7;

/// The profile of this index in a GPU instance of so many compute slices.
///
/// Section 3.3 counts them; 3c is offered in 3g and 7g only. Where they may start is inferred from the counts.
///
/// # Errors
/// [`Code::INVALID_ARGUMENT`] for an unknown index, [`Code::NOT_SUPPORTED`] when this instance does not offer it.
pub fn profile(instance_slices: u8, index: u32) -> Result<ComputeProfile, Code> {
    let slices = *SLICES.get(index as usize).ok_or(Code::INVALID_ARGUMENT)?;
    let part = slices < instance_slices && slices <= 4 && !(slices == 3 && instance_slices == 4);
    let offered = index != REV1 && (part || slices == instance_slices);
    if !offered {
        return Err(Code::NOT_SUPPORTED);
    }
    // 3c takes the places of 4 slices, so that two of them fit into 7g.
    let step = if slices == 3 { 4 } else { slices };
    let starts = (0..instance_slices).step_by(usize::from(step)).filter(|start| start + slices <= instance_slices).collect();
    Ok(ComputeProfile { id: index, slices, starts })
}

/// The index of the profile that takes the whole GPU instance.
pub fn whole(instance_slices: u8) -> u32 {
    (0..).zip(SLICES).find(|(_, slices)| *slices == instance_slices).map_or(0, |(index, _)| index)
}

/// Multiprocessors of a compute instance: its share of the GPU instance's, all of them when it takes it whole.
pub fn multiprocessors(instance: u32, instance_slices: u8, slices: u8) -> u32 {
    // On Hopper a 3g has 60 SMs and a 1g 16, so a share of 3g is rounded down to an even number: SMs come in pairs.
    if slices == instance_slices { instance } else { instance / u32::from(instance_slices.max(1)) * u32::from(slices) / 2 * 2 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_instance_offers_as_many_as_the_reference_counts() {
        let counts = |slices: u8| -> Vec<(u8, usize)> {
            (0..8).filter_map(|index| profile(slices, index).ok()).map(|found| (found.slices, found.starts.len())).collect()
        };
        assert_eq!(counts(1), [(1, 1)]);
        assert_eq!(counts(2), [(1, 2), (2, 1)]);
        assert_eq!(counts(3), [(1, 3), (2, 1), (3, 1)]);
        assert_eq!(counts(4), [(1, 4), (2, 2), (4, 1)]);
        assert_eq!(counts(7), [(1, 7), (2, 3), (3, 2), (4, 1), (7, 1)]);
    }

    #[test]
    fn the_whole_has_the_instances_multiprocessors_and_a_share_its_share() {
        assert_eq!(profile(7, whole(7)).map(|found| found.starts), Ok(vec![0]));
        assert_eq!([multiprocessors(60, 3, 3), multiprocessors(42, 3, 1), multiprocessors(98, 7, 2)], [60, 14, 28]);
        assert_eq!(profile(7, 8), Err(Code::INVALID_ARGUMENT));
        assert_eq!(profile(4, 2), Err(Code::NOT_SUPPORTED));
    }
}
