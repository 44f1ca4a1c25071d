//! What lies in the features of samples.

use migrator_models::{Datatype, TensorSpec, row};
use serde::Serialize;

/// The elements of one input over many samples.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(super) struct Range {
    /// The input's name.
    pub input: String,
    /// Its datatype.
    pub datatype: &'static str,
    /// Smallest finite number, or shortest text in bytes.
    pub least: Option<f64>,
    /// Largest finite number, or longest text in bytes.
    pub most: Option<f64>,
    /// Mean of them.
    pub mean: Option<f64>,
    /// Numbers that are NaN.
    pub nan: u64,
    /// Numbers that are infinite.
    pub infinite: u64,
    #[serde(skip)]
    sum: f64,
    #[serde(skip)]
    count: u64,
}

/// The ranges of a model's inputs.
#[derive(Clone, Debug)]
pub(super) struct Ranges {
    inputs: Vec<TensorSpec>,
    ranges: Vec<Range>,
}

impl Ranges {
    pub fn new(inputs: Vec<TensorSpec>) -> Ranges {
        let range = |input: &TensorSpec| Range {
            input: input.name.clone(),
            datatype: input.datatype.name(),
            least: None,
            most: None,
            mean: None,
            nan: 0,
            infinite: 0,
            sum: 0.0,
            count: 0,
        };
        Ranges { ranges: inputs.iter().map(range).collect(), inputs }
    }

    /// Adds a sample's features.
    pub fn add(&mut self, features: &[u8]) {
        let parts = row::parts(&self.inputs, features);
        for ((input, range), part) in self.inputs.iter().zip(&mut self.ranges).zip(parts) {
            let raw = &features[part];
            match input.datatype {
                Datatype::Bool | Datatype::Uint8 => raw.iter().for_each(|byte| range.add(f64::from(*byte))),
                Datatype::Int32 => raw.as_chunks::<4>().0.iter().for_each(|raw| range.add(f64::from(i32::from_le_bytes(*raw)))),
                Datatype::Int64 => raw.as_chunks::<8>().0.iter().for_each(|raw| range.add(i64::from_le_bytes(*raw) as f64)),
                Datatype::Fp32 => raw.as_chunks::<4>().0.iter().for_each(|raw| range.add(f64::from(f32::from_le_bytes(*raw)))),
                Datatype::Fp64 => raw.as_chunks::<8>().0.iter().for_each(|raw| range.add(f64::from_le_bytes(*raw))),
                // The length in front is no text.
                Datatype::Bytes => range.add(raw.len().saturating_sub(4) as f64),
            }
        }
    }

    pub fn finish(self) -> Vec<Range> {
        let mean = |range: Range| Range { mean: (range.count > 0).then(|| range.sum / range.count as f64), ..range };
        self.ranges.into_iter().map(mean).collect()
    }
}

impl Range {
    fn add(&mut self, value: f64) {
        if value.is_nan() {
            self.nan += 1;
        } else if value.is_infinite() {
            self.infinite += 1;
        } else {
            self.least = Some(self.least.map_or(value, |least| least.min(value)));
            self.most = Some(self.most.map_or(value, |most| most.max(value)));
            self.sum += value;
            self.count += 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_that_are_none_are_counted_apart() {
        let input = |name: &str, datatype| TensorSpec { name: name.to_owned(), datatype, shape: vec![2] };
        let mut ranges = Ranges::new(vec![input("f", Datatype::Fp32), input("i", Datatype::Int64)]);
        let row = |a: f32, b: f32| [&a.to_le_bytes()[..], &b.to_le_bytes(), &(-3i64).to_le_bytes(), &5i64.to_le_bytes()].concat();
        ranges.add(&row(1.5, f32::NAN));
        ranges.add(&row(-0.5, f32::INFINITY));
        let found = ranges.finish();
        assert_eq!(
            (found[0].least, found[0].most, found[0].mean, found[0].nan, found[0].infinite),
            (Some(-0.5), Some(1.5), Some(0.5), 1, 1)
        );
        assert_eq!((found[1].least, found[1].most, found[1].mean), (Some(-3.0), Some(5.0), Some(1.0)));
    }

    #[test]
    fn of_texts_the_lengths_are_told() {
        let mut ranges = Ranges::new(vec![TensorSpec { name: "t".into(), datatype: Datatype::Bytes, shape: vec![1] }]);
        ranges.add(b"\x05\0\0\0hello");
        ranges.add(b"\0\0\0\0");
        let found = &ranges.finish()[0];
        assert_eq!((found.least, found.most, found.mean), (Some(0.0), Some(5.0), Some(2.5)));
        assert_eq!(Ranges::new(vec![]).finish(), []);
    }
}
