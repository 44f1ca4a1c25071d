//! Whether the generators do what they are for, judged by a classifier that has nothing to do with the project's models: multinomial
//! logistic regression on the raw numbers or on word counts.

use std::collections::BTreeMap;

use super::*;
use crate::reader::Features;

/// Logistic regression; words get an index when they are first seen in training, unknown ones are ignored.
#[derive(Default)]
struct Softmax {
    words: BTreeMap<String, usize>,
    weights: Vec<Vec<f32>>,
}

impl Softmax {
    fn train(set: &LabelledSet) -> Self {
        let mut model = Softmax::default();
        let rows: Vec<(Vec<f32>, usize)> = set.rows.iter().map(|row| (model.vector(&row.features, true), row.label as usize)).collect();
        let width = rows.iter().map(|(x, _)| x.len()).max().unwrap_or(0);
        model.weights = vec![vec![0.0; width + 1]; set.classes as usize];
        for epoch in 0..12 {
            let rate = 0.05 / (1.0 + epoch as f32 / 3.0);
            rows.iter().for_each(|(x, label)| model.step(x, *label, rate));
        }
        model
    }

    fn step(&mut self, x: &[f32], label: usize, rate: f32) {
        let probabilities = self.probabilities(x);
        for (class, weights) in self.weights.iter_mut().enumerate() {
            let error = probabilities[class] - f32::from(u8::from(class == label));
            weights.iter_mut().zip(x.iter().chain(&[1.0])).for_each(|(w, v)| *w -= rate * error * v);
        }
    }

    fn probabilities(&self, x: &[f32]) -> Vec<f32> {
        let bias = |w: &[f32]| w[w.len() - 1];
        let logit = |w: &Vec<f32>| w.iter().zip(x).map(|(a, b)| a * b).sum::<f32>() + bias(w);
        let logits: Vec<f32> = self.weights.iter().map(logit).collect();
        let top = logits.iter().copied().fold(f32::MIN, f32::max);
        let powers: Vec<f32> = logits.iter().map(|l| (l - top).exp()).collect();
        let sum: f32 = powers.iter().sum();
        powers.iter().map(|p| p / sum).collect()
    }

    fn vector(&mut self, features: &Features, learn: bool) -> Vec<f32> {
        let Features::Text(text) = features else {
            let Features::Numbers(numbers) = features else { unreachable!() };
            return numbers.clone();
        };
        let mut counts = vec![0.0; 1000];
        for word in text.split(' ') {
            let next = self.words.len();
            let index = if learn { Some(*self.words.entry(word.to_owned()).or_insert(next)) } else { self.words.get(word).copied() };
            if let Some(count) = index.and_then(|i| counts.get_mut(i)) {
                *count += 1.0;
            }
        }
        counts
    }

    fn accuracy(&mut self, set: &LabelledSet) -> f64 {
        let right = |row: &&Row| {
            let x = self.vector(&row.features, false);
            let p = self.probabilities(&x);
            (0..p.len()).max_by(|&a, &b| p[a].total_cmp(&p[b])) == Some(row.label as usize)
        };
        let count = set.rows.iter().filter(right).count();
        count as f64 / set.rows.len() as f64
    }
}

/// Accuracy in each window, without and with retraining on the labels of the last one.
fn story(kind: Kind, seed: u64) -> Vec<(f64, f64)> {
    let mut generator = Generator::new(kind, seed);
    let mut fixed = Softmax::train(&generator.set(800, 0.0, 0.0));
    let mut retrained = Softmax::train(&generator.set(800, 0.0, 0.0));
    let mut accuracies = Vec::new();
    for window in 0..5 {
        let from = f64::from(window);
        let served = generator.set(600, from, from + 1.0);
        accuracies.push((fixed.accuracy(&served), retrained.accuracy(&served)));
        retrained = Softmax::train(&generator.set(800, from, from + 1.0));
    }
    accuracies
}

fn check(kind: Kind) {
    for seed in [1, 7, 42] {
        let windows = story(kind, seed);
        println!("{} seed {seed}: {windows:.2?}", kind.name());
        assert!(windows[0].0 > 0.88, "{}: window 0 is served at {:.2}", kind.name(), windows[0].0);
        assert!(windows[3].0 < 0.7, "{}: a fixed model still has {:.2} in window 3", kind.name(), windows[3].0);
        let least = windows.iter().map(|w| w.1).fold(1.0, f64::min);
        assert!(least > 0.85, "{}: retraining leaves {least:.2}", kind.name());
    }
}

#[test]
fn vision_drifts_and_retraining_recovers() {
    check(Kind::Vision);
}

#[test]
fn sensor_drifts_and_retraining_recovers() {
    check(Kind::Sensor);
}

#[test]
fn text_drifts_and_retraining_recovers() {
    check(Kind::Text);
}

#[test]
fn a_fresh_classifier_is_better_than_nine_in_ten() {
    for kind in Kind::ALL {
        let mut generator = Generator::new(kind, 5);
        let accuracy = Softmax::train(&generator.set(800, 2.0, 2.0)).accuracy(&generator.set(800, 2.0, 2.0));
        assert!((0.9..=1.0).contains(&accuracy), "{}: {accuracy:.2}", kind.name());
    }
}

#[test]
fn seed_and_stream_decide_every_sample() {
    for kind in Kind::ALL {
        let draw = |seed, stream| Generator::new(kind, seed).with_stream(seed, stream).set(5, 0.0, 2.0);
        assert_eq!(draw(1, 0), draw(1, 0));
        assert_ne!(draw(1, 0), draw(1, 1));
        assert_ne!(draw(1, 0), draw(2, 0));
        assert_eq!(draw(1, 0).width(), kind.width());
    }
}

#[test]
fn a_generator_is_found_by_its_name() {
    for kind in Kind::ALL {
        assert_eq!(kind.name().parse::<Kind>(), Ok(kind));
    }
    assert!("audio".parse::<Kind>().unwrap_err().contains("allowed: vision, sensor, text"));
}
