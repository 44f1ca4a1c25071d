//! One row of every input, raw and concatenated in the model's order: how a sample's features are kept.
//!
//! Numbers are little-endian; a text is a `u32` length and its bytes.

use std::ops::Range;

use crate::spec::{Datatype, TensorSpec};

/// Where each input's part of a row lies; parts that are missing are empty.
pub fn parts(inputs: &[TensorSpec], features: &[u8]) -> Vec<Range<usize>> {
    let mut at = 0;
    let part = |input: &TensorSpec| {
        let rest = &features[at..];
        let part = at..at + length(input, rest).min(rest.len());
        at = part.end;
        part
    };
    inputs.iter().map(part).collect()
}

/// Cuts tensors of `rows` rows, one tensor per input, into rows. Tensors that are too short give short rows.
pub fn split<T: AsRef<[u8]>>(inputs: &[TensorSpec], tensors: &[T], rows: usize) -> Vec<Vec<u8>> {
    let mut rest: Vec<&[u8]> = tensors.iter().map(AsRef::as_ref).collect();
    let row = |_| {
        let mut features = Vec::with_capacity(rest.iter().zip(inputs).map(|(rest, input)| length(input, rest).min(rest.len())).sum());
        for (rest, input) in rest.iter_mut().zip(inputs) {
            let (part, after) = rest.split_at(length(input, rest).min(rest.len()));
            features.extend_from_slice(part);
            *rest = after;
        }
        features
    };
    (0..rows).map(row).collect()
}

/// The `index`-th row of such tensors, from 0; short or empty when they are too short.
pub fn nth<T: AsRef<[u8]>>(inputs: &[TensorSpec], tensors: &[T], index: usize) -> Vec<u8> {
    let mut features = Vec::new();
    for (tensor, input) in tensors.iter().zip(inputs) {
        let mut rest = tensor.as_ref();
        let skipped = if input.datatype.size().is_some() {
            length(input, rest) * index
        } else {
            (0..index).fold(0, |at, _| at + length(input, &rest[at.min(rest.len())..]))
        };
        rest = &rest[skipped.min(rest.len())..];
        features.extend_from_slice(&rest[..length(input, rest).min(rest.len())]);
    }
    features
}

/// Rows of one input to measure with: numbers within 0..1 (whole numbers: 0 and 1) that differ by `salt`, every text the same.
pub fn made_up(input: &TensorSpec, rows: usize, salt: usize, text: &str) -> Vec<u8> {
    let places = salt..salt + rows * input.elements();
    let (bit, part) = (|i: usize| (i % 2) as u8, |i: usize| (i % 17) as f32 / 16.0);
    match input.datatype {
        Datatype::Bool | Datatype::Uint8 => places.map(bit).collect(),
        Datatype::Int32 => places.flat_map(|i| i32::from(bit(i)).to_le_bytes()).collect(),
        Datatype::Int64 => places.flat_map(|i| i64::from(bit(i)).to_le_bytes()).collect(),
        Datatype::Fp32 => places.flat_map(|i| part(i).to_le_bytes()).collect(),
        Datatype::Fp64 => places.flat_map(|i| f64::from(part(i)).to_le_bytes()).collect(),
        Datatype::Bytes => [&(text.len() as u32).to_le_bytes(), text.as_bytes()].concat().repeat(places.len()),
    }
}

/// A number that nothing can be learnt from.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct NotFinite {
    /// The input's index in the model.
    pub input: usize,
    /// Which of the input's elements.
    pub element: usize,
    /// NaN or an infinity.
    pub value: f64,
}

impl NotFinite {
    /// What is wrong and what would be right, in one line.
    pub fn explain(&self, inputs: &[TensorSpec]) -> String {
        let name = inputs.get(self.input).map_or("", |input| input.name.as_str());
        format!("input {name:?}, element {}: {}: must be a finite number", self.element, self.value)
    }
}

/// The first element of a row that is NaN or infinite.
pub fn not_finite(inputs: &[TensorSpec], features: &[u8]) -> Option<NotFinite> {
    parts(inputs, features).into_iter().enumerate().find_map(|(index, part)| {
        let found = match inputs[index].datatype {
            Datatype::Fp32 => first(&features[part], |raw: [u8; 4]| f64::from(f32::from_le_bytes(raw))),
            Datatype::Fp64 => first(&features[part], f64::from_le_bytes),
            _ => None,
        };
        found.map(|(element, value)| NotFinite { input: index, element, value })
    })
}

fn first<const N: usize>(raw: &[u8], value: impl Fn([u8; N]) -> f64) -> Option<(usize, f64)> {
    let values = raw.as_chunks::<N>().0.iter().map(|raw| value(*raw));
    values.enumerate().find(|(_, value)| !value.is_finite())
}

/// Bytes of an input's next row at the start of `rest`; more than there are when it is cut off.
fn length(input: &TensorSpec, rest: &[u8]) -> usize {
    let Some(size) = input.datatype.size() else {
        let text = |at: usize| {
            let length = rest.get(at..).and_then(|rest| rest.first_chunk::<4>()).map_or(0, |length| u32::from_le_bytes(*length));
            at.saturating_add(4).saturating_add(length as usize)
        };
        return (0..input.elements()).fold(0, |at, _| text(at));
    };
    size * input.elements()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn inputs() -> Vec<TensorSpec> {
        let input = |name: &str, datatype, shape: &[u32]| TensorSpec { name: name.to_owned(), datatype, shape: shape.to_vec() };
        vec![input("a", Datatype::Fp32, &[2]), input("b", Datatype::Uint8, &[1]), input("c", Datatype::Bytes, &[1])]
    }

    #[test]
    fn rows_of_tensors_come_apart_and_their_parts_are_found_again() {
        let floats: Vec<u8> = [1f32, 2.0, 3.0, 4.0].iter().flat_map(|n| n.to_le_bytes()).collect();
        let tensors = [&floats[..], &[7, 8], b"\x02\0\0\0hi\0\0\0\0"];
        let rows = split(&inputs(), &tensors, 2);
        assert_eq!(rows[0], [&floats[..8], &[7], b"\x02\0\0\0hi"].concat());
        assert_eq!(rows[1], [&floats[8..], &[8], b"\0\0\0\0"].concat());
        assert_eq!([nth(&inputs(), &tensors, 0), nth(&inputs(), &tensors, 1)], [rows[0].clone(), rows[1].clone()]);
        assert_eq!(nth(&inputs(), &tensors, 2), [0u8; 0]);
        assert_eq!(parts(&inputs(), &rows[0]), [0..8, 8..9, 9..15]);
        assert_eq!(parts(&inputs(), &rows[1]), [0..8, 8..9, 9..13]);
    }

    #[test]
    fn what_is_cut_off_gives_short_parts_and_no_panic() {
        assert_eq!(parts(&inputs(), &[0; 5]), [0..5, 5..5, 5..5]);
        assert_eq!(parts(&inputs(), b"\0\0\0\0\0\0\0\0\x01\xff\xff\xff\xffx"), [0..8, 8..9, 9..14]);
        assert_eq!(split(&inputs(), &[&[1u8][..], &[], b"\xff"], 2), [vec![1, 255], vec![]]);
    }

    #[test]
    fn the_first_number_that_is_none_is_named() {
        let row = |second: f32| [&1f32.to_le_bytes()[..], &second.to_le_bytes(), &[0], b"\0\0\0\0"].concat();
        assert_eq!(not_finite(&inputs(), &row(2.0)), None);
        let found = not_finite(&inputs(), &row(f32::NAN)).unwrap();
        assert_eq!(found.explain(&inputs()), "input \"a\", element 1: NaN: must be a finite number");
        assert_eq!(not_finite(&inputs(), &row(f32::NEG_INFINITY)).map(|found| found.value), Some(f64::NEG_INFINITY));
    }
}
