//! Whether a retrained version goes into service.

use migrator_models::{Older, Trained};

use super::types::{DiscardReason, RetrainingConfig};

/// Lets a version through that is better by more than the noise of its validation, and forgets no more than it may.
///
/// Both versions answer the same samples, so the noise is that of the samples on which they differ (as in McNemar's test): the variance of
/// the difference of n pairs is (changed − difference² n) / n², here with one changed sample more, for none of few is not never. Where
/// nobody counted those, both shares are taken as independent, which is stricter.
///
/// # Errors
/// Why not.
pub(super) fn judge(trained: &Trained, config: &RetrainingConfig) -> Result<(), DiscardReason> {
    let Trained { before, after, .. } = *trained;
    sound(trained)?;
    let needed = config.min_gain.max(config.noise_se * noise(trained));
    if after - before <= needed {
        return Err(DiscardReason::NotBetter { before, after, needed });
    }
    match (trained.older, config.max_forgetting) {
        (Some(Older { before, after, .. }), Some(most)) if before - after > most => Err(DiscardReason::Forgets { before, after, most }),
        _ => Ok(()),
    }
}

/// Standard error of the gain.
fn noise(trained: &Trained) -> f64 {
    let Trained { before, after, held_out, changed, .. } = *trained;
    let n = held_out as f64;
    match changed {
        Some(changed) => ((changed as f64 + 1.0 - (after - before).powi(2) * n).max(1.0)).sqrt() / n,
        None => ((before * (1.0 - before) + after * (1.0 - after)) / n).sqrt(),
    }
}

/// Whether what a worker reports can be true.
///
/// # Errors
/// [`DiscardReason::Unusable`].
pub(super) fn sound(trained: &Trained) -> Result<(), DiscardReason> {
    let share = |value: f64| (0.0..=1.0).contains(&value);
    let older = trained.older.is_none_or(|older| share(older.before) && share(older.after));
    if share(trained.before) && share(trained.after) && trained.held_out > 0 && older { Ok(()) } else { Err(DiscardReason::Unusable) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn judged(before: f64, after: f64, held_out: u64) -> Result<(), DiscardReason> {
        judge(&Trained { before, after, held_out, core_s: 1.0, ..Trained::default() }, &RetrainingConfig::default())
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

    #[test]
    fn few_samples_on_which_two_versions_differ_say_more_than_many() {
        let judged = |changed| {
            let trained = Trained { before: 0.80, after: 0.82, held_out: 500, changed: Some(changed), ..Trained::default() };
            judge(&trained, &RetrainingConfig::default())
        };
        assert_eq!(judged(10), Ok(()));
        assert!(judged(120).is_err());
        let one_of_few = Trained { before: 0.0, after: 0.05, held_out: 20, changed: Some(1), ..Trained::default() };
        assert!(judge(&one_of_few, &RetrainingConfig::default()).is_err());
    }

    #[test]
    fn a_version_forgets_no_more_than_it_may() {
        let older = Some(Older { before: 0.9, after: 0.7, samples: 100 });
        let trained = Trained { before: 0.5, after: 0.9, held_out: 100, older, ..Trained::default() };
        assert_eq!(judge(&trained, &RetrainingConfig::default()), Ok(()));
        let careful = RetrainingConfig { max_forgetting: Some(0.1), ..RetrainingConfig::default() };
        assert_eq!(judge(&trained, &careful), Err(DiscardReason::Forgets { before: 0.9, after: 0.7, most: 0.1 }));
        assert_eq!(judge(&trained, &RetrainingConfig { max_forgetting: Some(0.25), ..careful }), Ok(()));
    }
}
