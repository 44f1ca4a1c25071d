//! Class prototypes that move: each class turns from one keyframe to the next on the unit sphere.
//!
//! All vectors of two neighbouring keyframes are orthogonal: classes stay apart, and a classifier of one keyframe knows nothing of the
//! next, while nothing that it learned is contradicted there.

use rand::SeedableRng;
use rand::rngs::StdRng;

use super::noise::{mix, normal};

/// The moving prototypes of all classes.
#[derive(Clone, Debug)]
pub(super) struct Prototypes {
    seed: u64,
    classes: usize,
    width: usize,
    /// Windows from one keyframe to the next: a quarter turn.
    period: f64,
    /// Keyframe number of `from`.
    at: Option<u64>,
    from: Vec<Vec<f32>>,
    to: Vec<Vec<f32>>,
}

impl Prototypes {
    /// `classes` prototypes of `width` numbers (at least twice as many as classes) that move a quarter turn in `period` windows.
    pub(super) fn new(seed: u64, classes: usize, width: usize, period: f64) -> Self {
        Prototypes { seed, classes, width, period, at: None, from: Vec::new(), to: Vec::new() }
    }

    /// Writes the prototype of `class` at `drift` into `out`; it has length 1.
    pub(super) fn write(&mut self, class: usize, drift: f64, out: &mut [f32]) {
        let position = drift / self.period;
        self.seek(position as u64);
        let angle = (position.fract() * std::f64::consts::FRAC_PI_2) as f32;
        let (from, to) = (&self.from[class], &self.to[class]);
        for (o, (a, b)) in out.iter_mut().zip(from.iter().zip(to)) {
            *o = angle.cos() * a + angle.sin() * b;
        }
        normalise(out);
    }

    /// Moves to a keyframe; each one depends on the one before, so going back starts again.
    fn seek(&mut self, keyframe: u64) {
        if self.at.is_none_or(|at| at > keyframe) {
            self.from = self.keyframe(0, &[]);
            self.to = self.keyframe(1, &self.from);
            self.at = Some(0);
        }
        while let Some(at) = self.at.filter(|&at| at < keyframe) {
            let next = self.keyframe(at + 2, &self.to);
            self.from = std::mem::replace(&mut self.to, next);
            self.at = Some(at + 1);
        }
    }

    /// Orthonormal vectors, one per class, orthogonal to all of `earlier` (Gram–Schmidt over random ones).
    fn keyframe(&self, number: u64, earlier: &[Vec<f32>]) -> Vec<Vec<f32>> {
        let mut rng = StdRng::seed_from_u64(mix(&[self.seed, number]));
        let mut vectors: Vec<Vec<f32>> = Vec::with_capacity(self.classes);
        for _ in 0..self.classes {
            let mut vector: Vec<f32> = (0..self.width).map(|_| normal(&mut rng)).collect();
            earlier.iter().chain(&vectors).for_each(|other| remove(&mut vector, other));
            normalise(&mut vector);
            vectors.push(vector);
        }
        vectors
    }
}

fn dot(a: &[f32], b: &[f32]) -> f32 {
    a.iter().zip(b).map(|(x, y)| x * y).sum()
}

fn remove(vector: &mut [f32], direction: &[f32]) {
    let along = dot(vector, direction);
    vector.iter_mut().zip(direction).for_each(|(v, d)| *v -= along * d);
}

fn normalise(vector: &mut [f32]) {
    let length = dot(vector, vector).sqrt().max(1e-6);
    vector.iter_mut().for_each(|v| *v /= length);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(prototypes: &mut Prototypes, class: usize, drift: f64) -> Vec<f32> {
        let mut out = vec![0.0; prototypes.width];
        prototypes.write(class, drift, &mut out);
        out
    }

    #[test]
    fn a_class_turns_a_quarter_in_one_period() {
        let mut prototypes = Prototypes::new(3, 4, 32, 3.0);
        let start = at(&mut prototypes, 1, 0.0);
        let (third, end) = (at(&mut prototypes, 1, 1.0), at(&mut prototypes, 1, 2.999_999));
        assert!((dot(&start, &third) - 30f32.to_radians().cos()).abs() < 1e-3);
        assert!(dot(&start, &end).abs() < 1e-3);
    }

    #[test]
    fn the_way_back_meets_the_same_prototypes() {
        let mut prototypes = Prototypes::new(3, 4, 32, 3.0);
        let early = at(&mut prototypes, 1, 4.0);
        at(&mut prototypes, 1, 20.0);
        assert_eq!(at(&mut prototypes, 1, 4.0), early);
    }

    #[test]
    fn the_turn_has_no_jump_at_a_keyframe() {
        let mut prototypes = Prototypes::new(3, 4, 32, 3.0);
        for class in 0..4 {
            let (before, after) = (at(&mut prototypes, class, 2.999_999), at(&mut prototypes, class, 3.0));
            assert!(dot(&before, &after) > 0.999, "class {class}");
        }
    }

    #[test]
    fn classes_start_orthogonal() {
        let mut prototypes = Prototypes::new(9, 10, 25, 3.0);
        let (a, b) = (at(&mut prototypes, 0, 0.0), at(&mut prototypes, 9, 0.0));
        assert!(dot(&a, &b).abs() < 1e-3);
    }
}
