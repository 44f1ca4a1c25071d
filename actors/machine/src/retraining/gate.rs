//! Whether a retrained version goes into service.

use super::types::{DiscardReason, RetrainingConfig, Trained};

/// Lets a version through that is better by more than the noise of its validation.
///
/// The noise is the standard error of the difference of two shares of `held_out` samples, taken as independent. They are not (it is the
/// same samples twice), which makes the test stricter than its name, on the safe side.
///
/// # Errors
/// Why not.
pub(super) fn judge(trained: &Trained, config: &RetrainingConfig) -> Result<(), DiscardReason> {
    let Trained { before, after, held_out, .. } = *trained;
    sound(trained)?;
    let variance = |p: f64| p * (1.0 - p) / held_out as f64;
    let needed = config.min_gain.max(config.noise_se * (variance(before) + variance(after)).sqrt());
    if after - before > needed { Ok(()) } else { Err(DiscardReason::NotBetter { before, after, needed }) }
}

/// Whether what a worker reports can be true.
///
/// # Errors
/// [`DiscardReason::Unusable`].
pub(super) fn sound(trained: &Trained) -> Result<(), DiscardReason> {
    let share = |value: f64| (0.0..=1.0).contains(&value);
    if share(trained.before) && share(trained.after) && trained.held_out > 0 { Ok(()) } else { Err(DiscardReason::Unusable) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn judged(before: f64, after: f64, held_out: u64) -> Result<(), DiscardReason> {
        judge(&Trained { before, after, held_out, core_s: 1.0 }, &RetrainingConfig::default())
    }

    #[test]
    fn a_gain_within_the_noise_is_not_published() {
        assert!(judged(0.80, 0.82, 100).is_err());
        assert!(judged(0.80, 0.82, 10_000).is_ok());
    }

    #[test]
    fn a_perfect_version_still_needs_the_least_gain() {
        assert!(matches!(judged(1.0, 1.0, 100), Err(DiscardReason::NotBetter { needed, .. }) if needed == 0.002));
    }

    #[test]
    fn nonsense_is_never_published() {
        for (before, after, held_out) in [(f64::NAN, 0.9, 100), (0.5, f64::NAN, 100), (0.5, 1.2, 100), (-0.1, 0.9, 100), (0.5, 0.9, 0)] {
            assert_eq!(judged(before, after, held_out), Err(DiscardReason::Unusable));
        }
    }
}
