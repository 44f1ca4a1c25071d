//! Accuracy of the version in service: each labelled sample is answered first and learnt from later (test-then-train).

use super::types::Accuracy;

/// A running share of right answers that forgets exponentially, remembering about `window` samples.
#[derive(Debug)]
pub(super) struct Prequential {
    keep: f64,
    window: f64,
    correct: f64,
    samples: f64,
}

impl Prequential {
    pub fn new(window: u32) -> Prequential {
        let window = f64::from(window.max(1));
        Prequential { keep: 1.0 - 1.0 / window, window, correct: 0.0, samples: 0.0 }
    }

    /// `correct` of `of` samples were answered rightly.
    pub fn observe(&mut self, correct: u32, of: u32) {
        if of == 0 {
            return;
        }
        let keep = self.keep.powf(f64::from(of));
        // The weight of `of` new samples after forgetting each as it ages: (1 - keep^of) / (1 - keep) = (1 - keep^of) · window.
        let weight = (1.0 - keep) * self.window;
        self.correct = self.correct * keep + weight * f64::from(correct.min(of)) / f64::from(of);
        self.samples = self.samples * keep + weight;
    }

    /// Starts again from what is known of a new version; never from more than the window.
    pub fn reset(&mut self, prior: Option<Accuracy>) {
        let prior = prior.filter(|p| p.value.is_finite() && p.samples.is_finite());
        self.samples = prior.map_or(0.0, |p| p.samples.clamp(0.0, self.window));
        self.correct = prior.map_or(0.0, |p| p.value.clamp(0.0, 1.0)) * self.samples;
    }

    pub fn accuracy(&self) -> Option<Accuracy> {
        (self.samples > 0.0).then(|| Accuracy { value: self.correct / self.samples, samples: self.samples })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_seen_is_no_accuracy() {
        let mut window = Prequential::new(100);
        assert_eq!(window.accuracy(), None);
        window.observe(0, 0);
        assert_eq!(window.accuracy(), None);
    }

    #[test]
    fn one_batch_counts_like_its_samples_one_by_one() {
        let (mut whole, mut single) = (Prequential::new(50), Prequential::new(50));
        whole.observe(20, 20);
        (0..20).for_each(|_| single.observe(1, 1));
        let (a, b) = (whole.accuracy().unwrap(), single.accuracy().unwrap());
        assert!((a.samples - b.samples).abs() < 1e-9 && a.value == 1.0 && (b.value - 1.0).abs() < 1e-9);
    }

    #[test]
    fn old_samples_fade_and_the_count_is_bounded() {
        let mut window = Prequential::new(100);
        window.observe(1000, 1000);
        (0..30).for_each(|_| window.observe(0, 10));
        let accuracy = window.accuracy().unwrap();
        assert!(accuracy.value < 0.06 && accuracy.samples <= 100.0);
    }

    #[test]
    fn the_interval_narrows_with_samples_and_stays_within_0_and_1() {
        let interval = |value, samples| Accuracy { value, samples }.interval();
        let (low, high) = interval(0.8, 100.0);
        assert!((low - 0.711).abs() < 2e-3 && (high - 0.867).abs() < 2e-3, "{low} {high}");
        let (narrow_low, narrow_high) = interval(0.8, 1000.0);
        assert!(narrow_low > low && narrow_high < high);
        assert!(interval(1.0, 10.0).0 < 0.75 && interval(1.0, 10.0).1 > 0.999);
        let (low, high) = interval(0.0, 0.0);
        assert!(low < 1e-6 && high > 0.999 && high <= 1.0);
    }

    #[test]
    fn a_swap_starts_from_its_validation() {
        let mut window = Prequential::new(100);
        window.observe(10, 100);
        window.reset(Some(Accuracy { value: 0.9, samples: 5000.0 }));
        assert_eq!(window.accuracy(), Some(Accuracy { value: 0.9, samples: 100.0 }));
        window.reset(None);
        assert_eq!(window.accuracy(), None);
    }
}
