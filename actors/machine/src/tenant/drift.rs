//! A sign of drift that needs no labels: what the version in service answers now, against what it answered first.
//!
//! Two figures. The distance between the distributions of predicted classes (Jensen-Shannon distance, 0 to 1) says that something changed. The
//! change of the mean confidence foretells what it costs: accuracy falls about as the confidence does (difference of confidences, Guillory
//! et al., ICCV 2021).

use serde::{Deserialize, Serialize};

/// Classes are counted in so many bins, more classes than that share them: a bin must fill up within [`REFERENCE`] answers.
const BINS: usize = 16;
/// Answers of a version that are taken for how it answers what it was trained for.
const REFERENCE: u32 = 300;
/// Recent answers that are compared with them, about; older ones fade.
const RECENT: f64 = 300.0;

/// What the answers say.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Drift {
    /// Distance of the distributions of predicted classes, 0 (alike) to 1.
    pub distance: f64,
    /// Mean confidence now less that of the first answers; below 0 when the model has become less sure.
    pub confidence: f64,
}

/// Classes and confidence of some answers.
#[derive(Clone, Copy, Debug, Default)]
struct Seen {
    classes: [f64; BINS],
    confidence: f64,
    answers: f64,
}

impl Seen {
    fn add(&mut self, class: u32, confidence: f64, keep: f64) {
        self.classes.iter_mut().for_each(|count| *count *= keep);
        self.classes[class as usize % BINS] += 1.0;
        self.confidence = self.confidence * keep + confidence;
        self.answers = self.answers * keep + 1.0;
    }

    fn share(&self, bin: usize) -> f64 {
        self.classes[bin] / self.answers
    }
}

/// Watches the answers of one version after the other.
#[derive(Debug, Default)]
pub(super) struct Answers {
    reference: Seen,
    recent: Seen,
}

impl Answers {
    /// The version in service answered `class` with `confidence`, its softmax's largest value.
    pub fn add(&mut self, class: u32, confidence: f64) {
        if !confidence.is_finite() {
            return;
        }
        if self.reference.answers < f64::from(REFERENCE) {
            self.reference.add(class, confidence, 1.0);
        }
        self.recent.add(class, confidence, 1.0 - 1.0 / RECENT);
    }

    /// Another version is in service.
    pub fn reset(&mut self) {
        *self = Answers::default();
    }

    /// `None` until there is enough to compare.
    pub fn drift(&self) -> Option<Drift> {
        if self.reference.answers < f64::from(REFERENCE) {
            return None;
        }
        let mean = |seen: &Seen| seen.confidence / seen.answers;
        Some(Drift { distance: self.distance(), confidence: mean(&self.recent) - mean(&self.reference) })
    }

    fn distance(&self) -> f64 {
        let divergence = |one: &Seen, other: &Seen| {
            let part = |bin| {
                let (p, q) = (one.share(bin), other.share(bin));
                if p > 0.0 { p * (2.0 * p / (p + q)).log2() } else { 0.0 }
            };
            (0..BINS).map(part).sum::<f64>()
        };
        let both = divergence(&self.reference, &self.recent) + divergence(&self.recent, &self.reference);
        (both / 2.0).clamp(0.0, 1.0).sqrt()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answered(answers: &mut Answers, count: u32, classes: u32, confidence: f64) {
        (0..count).for_each(|index| answers.add(index % classes, confidence));
    }

    #[test]
    fn the_same_answers_are_no_drift() {
        let mut answers = Answers::default();
        answered(&mut answers, REFERENCE - 1, 10, 0.9);
        assert_eq!(answers.drift(), None);
        answered(&mut answers, 1000, 10, 0.9);
        let drift = answers.drift().unwrap();
        assert!(drift.distance < 0.05 && drift.confidence.abs() < 1e-9, "{drift:?}");
    }

    #[test]
    fn other_classes_and_less_confidence_are() {
        let mut answers = Answers::default();
        answered(&mut answers, 400, 5, 0.9);
        for index in 0..3000 {
            answers.add(8 + index % 5, 0.6);
        }
        let drift = answers.drift().unwrap();
        assert!(drift.distance > 0.95 && (drift.confidence + 0.3).abs() < 0.01, "{drift:?}");
        answers.reset();
        assert_eq!(answers.drift(), None);
    }

    #[test]
    fn more_classes_than_bins_and_nonsense_are_bearable() {
        let mut answers = Answers::default();
        answered(&mut answers, 500, 100_000, 0.5);
        answers.add(3, f64::NAN);
        assert!(answers.drift().is_some_and(|drift| drift.distance.is_finite() && drift.confidence.is_finite()));
    }
}
