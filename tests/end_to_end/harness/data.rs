//! Labelled samples and requests.

use std::path::Path;

use migrator_models::reader::{Features, LabelledSet, Row, write_set};
use migrator_models::synthetic::{Generator, Kind};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use serde_json::{Value, json};

/// Readings in a row of the small models.
pub const FEATURES: usize = 8;
/// Their classes.
pub const CLASSES: u32 = 3;

/// Rows whose class is the one reading that is high, counted from reading `shift`: with another shift the world has changed, and a
/// model that has not seen it guesses.
pub fn readings(rows: usize, shift: usize, seed: u64) -> LabelledSet {
    let mut rng = StdRng::seed_from_u64(seed);
    let row = |_| {
        let label = rng.random_range(0..CLASSES);
        let high = (label as usize + shift) % FEATURES;
        let numbers = (0..FEATURES).map(|i| if i == high { 3.0 } else { 0.0 } + rng.random_range(-0.5..0.5)).collect();
        Row { features: Features::Numbers(numbers), label }
    };
    LabelledSet { rows: (0..rows).map(row).collect(), classes: CLASSES }
}

/// Short texts of six classes that do not drift.
pub fn texts(rows: usize, stream: u64) -> LabelledSet {
    Generator::new(Kind::Text, 1).with_stream(1, stream).set(rows, 0.0, 0.0)
}

/// Writes a set where `migrator models train` reads it.
pub fn write(path: &Path, set: &LabelledSet) {
    write_set(path, set).unwrap();
}

/// The features of a row as JSON: numbers, or one text.
pub fn features(row: &Row) -> Value {
    match &row.features {
        Features::Numbers(numbers) => json!(numbers),
        Features::Text(text) => json!([text]),
    }
}

/// The body of a request for these rows.
pub fn request(rows: &[Row]) -> Value {
    let data: Vec<Value> = rows.iter().flat_map(|row| features(row).as_array().cloned().unwrap()).collect();
    let (shape, datatype) = match rows[0].features.width() {
        Some(width) => (json!([rows.len(), width]), "FP32"),
        None => (json!([rows.len(), 1]), "BYTES"),
    };
    json!({ "inputs": [{ "name": "INPUT0", "shape": shape, "datatype": datatype, "data": data }] })
}

/// The body of labelled samples.
pub fn samples(rows: &[Row]) -> Value {
    let sample = |row: &Row| match &row.features {
        Features::Numbers(numbers) => json!({ "label": row.label, "data": numbers }),
        Features::Text(text) => json!({ "label": row.label, "data": text }),
    };
    json!({ "samples": rows.iter().map(sample).collect::<Vec<_>>() })
}

/// The class of each row of logits.
pub fn argmax(logits: &[f32], classes: usize) -> Vec<u32> {
    let best = |row: &[f32]| (0..row.len()).max_by(|&a, &b| row[a].total_cmp(&row[b])).unwrap() as u32;
    logits.chunks(classes).map(best).collect()
}

/// The classes in a JSON answer.
pub fn classes(answer: &Value) -> Vec<u32> {
    let output = &answer["outputs"][0];
    let logits: Vec<f32> = output["data"].as_array().unwrap().iter().map(|n| n.as_f64().unwrap() as f32).collect();
    argmax(&logits, output["shape"][1].as_u64().unwrap() as usize)
}

/// Share of rows whose class was found.
pub fn accuracy(rows: &[Row], classes: &[u32]) -> f64 {
    assert_eq!(rows.len(), classes.len());
    rows.iter().zip(classes).filter(|(row, class)| row.label == **class).count() as f64 / rows.len() as f64
}
