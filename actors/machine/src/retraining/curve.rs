//! The learning curve: held-out accuracy by samples seen, fitted to a few epochs and carried on to a whole retraining.
//!
//! The form is Ekya's (NSDI 2022, section 4.3, after Optimus, EuroSys 2018): a(x) = 1 − b₂ − 1 / (b₀ x + b₁), all b ≥ 0, fitted by
//! non-negative least squares for each of many ceilings 1 − b₂. A short course says little of its ceiling, so what is foretold is the
//! mean over all of them, weighted by how well each explains the course, and its error bar is their spread.

/// Ceilings tried between the best accuracy seen and 1.
const CEILINGS: u32 = 60;
/// Least standard deviation of one measurement, however many samples are held out.
const LEAST_SD: f64 = 0.005;
/// How far above the best accuracy seen a ceiling is likely to be: of two that explain a course alike, the lower one counts for more.
const REACH: f64 = 0.2;

/// What is foretold.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Foretold {
    /// Accuracy.
    pub mean: f64,
    /// Its standard deviation.
    pub sd: f64,
}

/// Accuracy at `target` samples, from `course`: (samples seen, accuracy on `held_out` samples), the first at 0 samples. `None` for a
/// course of fewer than two points or one that is no course of accuracies.
pub(super) fn foretell(course: &[(f64, f64)], held_out: u64, target: f64) -> Option<Foretold> {
    let sound = |&(x, a): &(f64, f64)| x.is_finite() && x >= 0.0 && (0.0..=1.0).contains(&a);
    if course.len() < 2 || !course.iter().all(sound) || !target.is_finite() || held_out == 0 {
        return None;
    }
    let mean = course.iter().map(|(_, a)| a).sum::<f64>() / course.len() as f64;
    let noise = (mean * (1.0 - mean) / held_out as f64).sqrt().max(LEAST_SD);
    let highest = course.iter().map(|(_, a)| *a).fold(0.0, f64::max);
    let fits: Vec<(f64, f64)> = (0..CEILINGS)
        .map(|index| highest + (1.0 - highest) * (f64::from(index) + 0.5) / f64::from(CEILINGS))
        .chain([highest + noise / 2.0])
        .map(|ceiling| {
            let (b0, b1) = fitted(course, ceiling);
            let at = |x: f64| (ceiling - 1.0 / (b0 * x + b1).max(1.0)).clamp(0.0, 1.0);
            let squares: f64 = course.iter().map(|&(x, a)| ((at(x) - a) / noise).powi(2)).sum();
            (at(target), squares + 2.0 * (ceiling - highest) / REACH)
        })
        .collect();
    let best = fits.iter().map(|(_, squares)| *squares).fold(f64::INFINITY, f64::min);
    let weights: Vec<f64> = fits.iter().map(|(_, squares)| (-(squares - best) / 2.0).exp()).collect();
    let sum: f64 = weights.iter().sum();
    let average = |of: &dyn Fn(f64) -> f64| fits.iter().zip(&weights).map(|((a, _), weight)| of(*a) * weight).sum::<f64>() / sum;
    let mean = average(&|a| a);
    let spread = average(&|a| (a - mean).powi(2));
    Some(Foretold { mean, sd: (spread + noise * noise).sqrt() })
}

/// b₀ and b₁ of the curve below this ceiling: least squares of 1 / (ceiling − a) = b₀ x + b₁ with both not negative. An error of a
/// counts (ceiling − a)⁻⁴ times as much in 1 / (ceiling − a), so each point weighs (ceiling − a)⁴.
fn fitted(course: &[(f64, f64)], ceiling: f64) -> (f64, f64) {
    let [mut w, mut wx, mut wxx, mut wy, mut wxy] = [0.0; 5];
    for &(x, a) in course {
        let gap = (ceiling - a).max(1e-4);
        let (weight, y) = (gap.powi(4), 1.0 / gap);
        w += weight;
        wx += weight * x;
        wxx += weight * x * x;
        wy += weight * y;
        wxy += weight * x * y;
    }
    let determinant = w * wxx - wx * wx;
    let (b0, b1) = if determinant > 0.0 { ((w * wxy - wx * wy) / determinant, (wxx * wy - wx * wxy) / determinant) } else { (0.0, wy / w) };
    match (b0 >= 0.0, b1 >= 0.0) {
        (true, true) => (b0, b1),
        (false, _) => (0.0, wy / w),
        (true, false) => (if wxx > 0.0 { wxy / wxx } else { 0.0 }, 0.0),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn curve(b0: f64, b1: f64, b2: f64) -> impl Fn(f64) -> f64 {
        move |x| 1.0 - b2 - 1.0 / (b0 * x + b1)
    }

    #[test]
    fn a_long_clean_course_is_carried_on_as_it_goes() {
        let truth = curve(0.01, 2.0, 0.1);
        let course: Vec<(f64, f64)> = (0..12).map(|epoch| (f64::from(epoch) * 100.0, truth(f64::from(epoch) * 100.0))).collect();
        let foretold = foretell(&course, 100_000, 3000.0).unwrap();
        assert!((foretold.mean - truth(3000.0)).abs() < 0.02, "{foretold:?} {}", truth(3000.0));
    }

    #[test]
    fn a_flat_course_stays_flat_and_a_short_one_is_unsure() {
        let flat: Vec<(f64, f64)> = (0..6).map(|epoch| (f64::from(epoch) * 50.0, 0.8)).collect();
        let foretold = foretell(&flat, 2000, 1000.0).unwrap();
        assert!((foretold.mean - 0.8).abs() < 0.03, "{foretold:?}");
        let rising = [(0.0, 0.3), (50.0, 0.45), (100.0, 0.53)];
        let short = foretell(&rising, 100, 1000.0).unwrap();
        assert!(short.mean > 0.55 && short.sd > foretold.sd, "{short:?}");
    }

    #[test]
    fn further_away_is_less_sure() {
        let rising = [(0.0, 0.3), (50.0, 0.45), (100.0, 0.53), (150.0, 0.58)];
        let sd = |target| foretell(&rising, 400, target).unwrap().sd;
        assert!(sd(200.0) < sd(1000.0));
    }

    #[test]
    fn nonsense_foretells_nothing() {
        assert_eq!(foretell(&[(0.0, 0.5)], 100, 10.0), None);
        assert_eq!(foretell(&[(0.0, 0.5), (1.0, f64::NAN)], 100, 10.0), None);
        assert_eq!(foretell(&[(0.0, 0.5), (1.0, 0.5)], 0, 10.0), None);
    }

    proptest! {
        #[test]
        fn what_is_foretold_is_an_accuracy(values in prop::collection::vec(0.0..=1.0f64, 2..8), held_out in 1u64..5000, target in 0.0..1e6f64) {
            let course: Vec<(f64, f64)> = values.iter().enumerate().map(|(index, &a)| (index as f64 * 40.0, a)).collect();
            let foretold = foretell(&course, held_out, target).unwrap();
            prop_assert!((0.0..=1.0).contains(&foretold.mean) && foretold.sd.is_finite() && foretold.sd > 0.0, "{:?}", foretold);
        }
    }
}
