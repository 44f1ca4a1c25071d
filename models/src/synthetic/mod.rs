//! Seeded generators of labelled samples that drift: a model that is not retrained loses within two or three windows, one that is
//! retrained on the last window's labels recovers.
//!
//! Drift is an argument, in retraining windows; nothing here reads a clock. What the classes look like (the *concept*) follows from the
//! seed and the drift alone; which samples are drawn follows from the seed and the stream, so that training data and live traffic
//! share a concept and no sample. Read in the order [`Generator`], then one module per kind.

mod noise;
mod prototype;
mod sensor;
mod text;
mod vision;
mod vocabulary;

use std::str::FromStr;

use rand::SeedableRng;
use rand::rngs::StdRng;

use crate::reader::{LabelledSet, Row};

/// What is generated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// 1×16×16 images of 10 classes: smooth patterns that morph into others.
    Vision,
    /// 32 readings, 4 classes: clusters whose centres rotate.
    Sensor,
    /// Short texts of 6 classes: topic words give way to new ones.
    Text,
}

impl Kind {
    /// All kinds.
    pub const ALL: [Kind; 3] = [Kind::Vision, Kind::Sensor, Kind::Text];

    /// Number of classes.
    pub fn classes(self) -> u32 {
        match self {
            Kind::Vision => vision::CLASSES as u32,
            Kind::Sensor => sensor::CLASSES as u32,
            Kind::Text => text::CLASSES as u32,
        }
    }

    /// Numbers in a row; `None` for texts.
    pub fn width(self) -> Option<usize> {
        match self {
            Kind::Vision => Some(vision::SIDE * vision::SIDE),
            Kind::Sensor => Some(sensor::WIDTH),
            Kind::Text => None,
        }
    }

    /// Name on the command line and in configurations.
    pub fn name(self) -> &'static str {
        match self {
            Kind::Vision => "vision",
            Kind::Sensor => "sensor",
            Kind::Text => "text",
        }
    }
}

impl FromStr for Kind {
    type Err = String;

    fn from_str(name: &str) -> Result<Self, String> {
        let found = Kind::ALL.into_iter().find(|kind| kind.name() == name);
        found.ok_or_else(|| format!("unknown generator `{name}`; allowed: vision, sensor, text"))
    }
}

/// Draws samples of one kind.
#[derive(Clone, Debug)]
pub struct Generator {
    kind: Kind,
    concept: Concept,
    rng: StdRng,
}

#[derive(Clone, Debug)]
enum Concept {
    Vision(vision::Vision),
    Sensor(sensor::Sensor),
    Text(text::Text),
}

impl Generator {
    /// A generator whose concept and samples follow from `seed`: stream 0.
    pub fn new(kind: Kind, seed: u64) -> Self {
        let concept = match kind {
            Kind::Vision => Concept::Vision(vision::Vision::new(seed)),
            Kind::Sensor => Concept::Sensor(sensor::Sensor::new(seed)),
            Kind::Text => Concept::Text(text::Text::new(seed)),
        };
        Generator { kind, concept, rng: StdRng::seed_from_u64(noise::mix(&[seed, 0])) }.with_stream(seed, 0)
    }

    /// The same concept with other samples.
    pub fn with_stream(mut self, seed: u64, stream: u64) -> Self {
        self.rng = StdRng::seed_from_u64(noise::mix(&[seed, 0x5a_4d, stream]));
        self
    }

    /// What it generates.
    pub fn kind(&self) -> Kind {
        self.kind
    }

    /// Draws one sample as the world looks `drift` windows after the start; negative drift counts as 0.
    pub fn sample(&mut self, drift: f64) -> Row {
        let drift = drift.max(0.0);
        match &mut self.concept {
            Concept::Vision(concept) => concept.sample(drift, &mut self.rng),
            Concept::Sensor(concept) => concept.sample(drift, &mut self.rng),
            Concept::Text(concept) => concept.sample(drift, &mut self.rng),
        }
    }

    /// Draws `rows` samples while drift moves evenly through `from..to`.
    pub fn set(&mut self, rows: usize, from: f64, to: f64) -> LabelledSet {
        let drift = |i: usize| from + (to - from) * i as f64 / rows.max(1) as f64;
        LabelledSet { rows: (0..rows).map(|i| self.sample(drift(i))).collect(), classes: self.kind.classes() }
    }
}

#[cfg(test)]
mod tests;
