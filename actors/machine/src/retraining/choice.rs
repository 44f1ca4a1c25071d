//! Which configuration a retraining takes, if any: what the better model brings until the window ends against what the effort takes away.

use super::gain::Prospect;

/// What the choice depends on besides the prospects.
#[derive(Clone, Copy, Debug)]
pub(super) struct Stakes {
    /// Accuracy of the version in service on the held-out samples.
    pub before: f64,
    /// Gain that a version must show to be published.
    pub needed: f64,
    /// Seconds for which a better version is worth its gain, from now.
    pub left_s: f64,
    /// Cores that the retraining may get.
    pub cores: f64,
    /// Accuracy times seconds that a core second of retraining costs those who could have been served with it.
    pub price: f64,
}

/// A choice.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Choice {
    /// Which configuration.
    pub index: usize,
    /// Gain to expect of it, counting what is not published as none.
    pub gain: f64,
}

/// Least chance of being published that is worth an effort: without it, small retrainings would be tried for ever.
const LEAST_CHANCE: f64 = 0.25;

/// The configuration that is worth most, or none when none is worth its effort.
pub(super) fn choose(prospects: &[Option<Prospect>], stakes: &Stakes) -> Option<Choice> {
    if 1.0 - stakes.before <= stakes.needed {
        return None;
    }
    let worth = |(index, prospect): (usize, &Option<Prospect>)| {
        let prospect = prospect.as_ref()?;
        let gain = published_gain(prospect.after - stakes.before, prospect.sd, stakes.needed);
        if !likely(prospect.after - stakes.before, prospect.sd, stakes.needed) {
            return None;
        }
        let lasts_s = (stakes.left_s - prospect.core_s / stakes.cores.max(1e-6)).max(0.0);
        Some((gain * lasts_s - stakes.price * prospect.core_s, Choice { index, gain }))
    };
    // Of equals the first, which is the one that the tenant's configuration puts first.
    let all = prospects.iter().enumerate().rev().filter_map(worth);
    let best = all.max_by(|a, b| a.0.total_cmp(&b.0))?;
    (best.0 > 0.0).then_some(best.1)
}

fn likely(mean: f64, sd: f64, needed: f64) -> bool {
    if sd > 1e-9 { normal((mean - needed) / sd) >= LEAST_CHANCE } else { mean > needed }
}

/// Mean of a normally distributed gain where it is above `needed`, and of 0 elsewhere: μ Φ(z) + σ φ(z) with z = (μ − needed) / σ.
pub(super) fn published_gain(mean: f64, sd: f64, needed: f64) -> f64 {
    if sd.is_nan() || sd <= 1e-9 {
        return if mean > needed { mean } else { 0.0 };
    }
    let z = (mean - needed) / sd;
    let density = (-z * z / 2.0).exp() / (2.0 * std::f64::consts::PI).sqrt();
    (mean * normal(z) + sd * density).max(0.0)
}

/// Distribution function of the standard normal distribution (Abramowitz and Stegun 26.2.17, error below 7.5e-8).
fn normal(z: f64) -> f64 {
    let t = 1.0 / (1.0 + 0.231_641_9 * z.abs());
    let series = [0.319_381_530, -0.356_563_782, 1.781_477_937, -1.821_255_978, 1.330_274_429];
    let tail = series.iter().rev().fold(0.0, |sum, b| (sum + b) * t) * (-z * z / 2.0).exp() / (2.0 * std::f64::consts::PI).sqrt();
    if z >= 0.0 { 1.0 - tail } else { tail }
}

#[cfg(test)]
mod tests {
    use super::*;

    const STAKES: Stakes = Stakes { before: 0.7, needed: 0.02, left_s: 200.0, cores: 2.0, price: 0.2 };

    fn prospect(after: f64, sd: f64, core_s: f64) -> Option<Prospect> {
        Some(Prospect { after, sd, core_s })
    }

    #[test]
    fn the_dearer_configuration_must_gain_more_than_it_costs_more() {
        let close = [prospect(0.80, 0.01, 40.0), prospect(0.79, 0.01, 10.0)];
        assert_eq!(choose(&close, &STAKES).unwrap().index, 1);
        let apart = [prospect(0.90, 0.01, 40.0), prospect(0.79, 0.01, 10.0)];
        assert_eq!(choose(&apart, &STAKES).unwrap().index, 0);
    }

    #[test]
    fn a_gain_within_the_noise_is_not_worth_an_effort() {
        assert_eq!(choose(&[prospect(0.705, 0.005, 20.0), None], &STAKES), None);
        assert_eq!(choose(&[], &STAKES), None);
    }

    #[test]
    fn a_version_that_can_hardly_be_beaten_is_left_alone() {
        assert_eq!(choose(&[prospect(1.0, 0.1, 1.0)], &Stakes { before: 0.985, ..STAKES }), None);
    }

    #[test]
    fn what_is_not_known_yet_is_worth_a_try() {
        assert!(choose(&[prospect(0.705, 0.15, 20.0)], &STAKES).is_some());
    }

    #[test]
    fn one_that_would_end_after_the_window_gains_nothing() {
        assert_eq!(choose(&[prospect(0.95, 0.01, 400.0)], &STAKES), None);
    }

    #[test]
    fn a_published_gain_is_what_a_gate_lets_through() {
        assert!((published_gain(0.1, 0.01, 0.0) - 0.1).abs() < 1e-6);
        assert_eq!((published_gain(0.01, 0.0, 0.02), published_gain(0.03, 0.0, 0.02)), (0.0, 0.03));
        // Half of a symmetric distribution: sd / sqrt(2 pi).
        assert!((published_gain(0.0, 0.1, 0.0) - 0.1 * 0.398_942_28).abs() < 1e-6);
        assert!((normal(1.96) - 0.975_002_1).abs() < 1e-6 && (normal(-1.96) - 0.024_997_9).abs() < 1e-6);
    }
}
