//! 32 readings, 4 classes: one cluster a class, whose centre turns towards an unrelated one.

use rand::Rng;

use super::noise::{normal, rounded};
use super::prototype::Prototypes;
use crate::reader::{Features, Row};

pub(super) const CLASSES: usize = 4;
pub(super) const WIDTH: usize = 32;

/// Windows for a quarter turn: a model two windows old sees centres 72° away.
const PERIOD: f64 = 2.5;
/// Length of a centre.
const CENTRE: f32 = 3.0;
/// Standard deviation of a reading: 3 ÷ √2 ÷ 0.8 between two centres leaves about 0.97 to the best classifier.
const NOISE: f32 = 0.8;

/// The concept.
#[derive(Clone, Debug)]
pub(super) struct Sensor {
    centres: Prototypes,
}

impl Sensor {
    pub(super) fn new(seed: u64) -> Self {
        Sensor { centres: Prototypes::new(seed ^ 0x5e_4503, CLASSES, WIDTH, PERIOD) }
    }

    pub(super) fn sample(&mut self, drift: f64, rng: &mut impl Rng) -> Row {
        let label = rng.random_range(0..CLASSES);
        let mut readings = vec![0.0; WIDTH];
        self.centres.write(label, drift, &mut readings);
        readings.iter_mut().for_each(|r| *r = rounded(*r * CENTRE + NOISE * normal(rng)));
        Row { features: Features::Numbers(readings), label: label as u32 }
    }
}
