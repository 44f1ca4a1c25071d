//! Labelled samples, whatever file or generator they came from.

use crate::spec::{Datatype, TensorSpec};

/// What a model takes, without its label.
#[derive(Clone, Debug, PartialEq)]
pub enum Features {
    /// Elements of an `FP32` input, row-major.
    Numbers(Vec<f32>),
    /// The one element of a `BYTES` input.
    Text(String),
}

impl Features {
    /// The raw little-endian tensor of one row; a text carries its `u32` length in front, as the protocol's `BYTES` elements do.
    pub fn to_raw(&self) -> Vec<u8> {
        match self {
            Features::Numbers(numbers) => numbers.iter().flat_map(|n| n.to_le_bytes()).collect(),
            Features::Text(text) => {
                let mut raw = (text.len() as u32).to_le_bytes().to_vec();
                raw.extend_from_slice(text.as_bytes());
                raw
            }
        }
    }

    /// The raw tensor of one row of `input`.
    ///
    /// # Errors
    /// What is there and what would be right, in one line.
    pub fn to_input(&self, input: &TensorSpec) -> Result<Vec<u8>, String> {
        let numbers = match self {
            Features::Text(_) if input.datatype == Datatype::Bytes => return Ok(self.to_raw()),
            Features::Text(_) => return Err(format!("a text; expected {} numbers", input.elements())),
            Features::Numbers(_) if input.datatype == Datatype::Bytes => return Err("numbers; expected a text".to_owned()),
            Features::Numbers(numbers) if numbers.len() != input.elements() => {
                return Err(format!("{} numbers; expected {} (shape {:?})", numbers.len(), input.elements(), input.shape));
            }
            Features::Numbers(numbers) => numbers,
        };
        let mut raw = Vec::with_capacity(numbers.len() * input.datatype.size().unwrap_or(0));
        for (index, number) in numbers.iter().enumerate() {
            push(&mut raw, input.datatype, *number).ok_or_else(|| {
                let what = if input.datatype.name().starts_with("FP") { "a finite number" } else { "a whole number that fits" };
                format!("number {index} is {number}; expected {what} {}", input.datatype.name())
            })?;
        }
        Ok(raw)
    }

    /// Numbers in a row; `None` for a text.
    pub fn width(&self) -> Option<usize> {
        match self {
            Features::Numbers(numbers) => Some(numbers.len()),
            Features::Text(_) => None,
        }
    }
}

/// Appends a number, if it can be told exactly (or nearly, for floats).
fn push(raw: &mut Vec<u8>, datatype: Datatype, number: f32) -> Option<()> {
    let wide = f64::from(number);
    let whole = |low: f64, high: f64| (wide.fract() == 0.0 && (low..high).contains(&wide)).then_some(wide);
    match datatype {
        Datatype::Fp32 if wide.is_finite() => raw.extend_from_slice(&number.to_le_bytes()),
        Datatype::Fp64 if wide.is_finite() => raw.extend_from_slice(&wide.to_le_bytes()),
        Datatype::Bool => raw.push(whole(0.0, 2.0)? as u8),
        Datatype::Uint8 => raw.push(whole(0.0, 256.0)? as u8),
        Datatype::Int32 => raw.extend_from_slice(&(whole(-2_147_483_648.0, 2_147_483_648.0)? as i32).to_le_bytes()),
        Datatype::Int64 => raw.extend_from_slice(&(whole(-9.2e18, 9.2e18)? as i64).to_le_bytes()),
        Datatype::Fp32 | Datatype::Fp64 | Datatype::Bytes => return None,
    }
    Some(())
}

/// One labelled sample.
#[derive(Clone, Debug, PartialEq)]
pub struct Row {
    /// What the model sees.
    pub features: Features,
    /// The class, below the set's `classes`.
    pub label: u32,
}

/// Labelled samples of one source; all rows have the same kind and width.
#[derive(Clone, Debug, PartialEq)]
pub struct LabelledSet {
    /// In the file's order.
    pub rows: Vec<Row>,
    /// One more than the largest label.
    pub classes: u32,
}

impl LabelledSet {
    /// A set whose classes are counted from its labels.
    pub fn new(rows: Vec<Row>) -> Self {
        let classes = rows.iter().map(|row| row.label + 1).max().unwrap_or(0);
        LabelledSet { rows, classes }
    }

    /// Numbers in each row; `None` for texts or an empty set.
    pub fn width(&self) -> Option<usize> {
        self.rows.first().and_then(|row| row.features.width())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_carries_its_length_in_the_raw_form() {
        assert_eq!(Features::Text("hé".into()).to_raw(), [3, 0, 0, 0, b'h', 0xc3, 0xa9]);
        assert_eq!(Features::Numbers(vec![1.0]).to_raw(), [0, 0, 0x80, 0x3f]);
    }

    #[test]
    fn numbers_become_what_the_input_takes_or_it_is_said_why_not() {
        let input = |datatype, shape: &[u32]| TensorSpec { name: "x".into(), datatype, shape: shape.to_vec() };
        let numbers = |numbers: &[f32]| Features::Numbers(numbers.to_vec());
        assert_eq!(numbers(&[1.0]).to_input(&input(Datatype::Fp64, &[1])).unwrap(), 1f64.to_le_bytes());
        assert_eq!(numbers(&[255.0, 0.0]).to_input(&input(Datatype::Uint8, &[2])).unwrap(), [255, 0]);
        assert_eq!(numbers(&[-3.0]).to_input(&input(Datatype::Int64, &[1])).unwrap(), (-3i64).to_le_bytes());
        assert_eq!(Features::Text("é".into()).to_input(&input(Datatype::Bytes, &[1])).unwrap(), [2, 0, 0, 0, 0xc3, 0xa9]);
        for (features, input, line) in [
            (numbers(&[1.0, f32::NAN]), input(Datatype::Fp32, &[2]), "number 1 is NaN; expected a finite number FP32"),
            (numbers(&[0.5]), input(Datatype::Uint8, &[1]), "number 0 is 0.5; expected a whole number that fits UINT8"),
            (numbers(&[256.0]), input(Datatype::Uint8, &[1]), "number 0 is 256; expected a whole number that fits UINT8"),
            (numbers(&[1.0]), input(Datatype::Fp32, &[2, 3]), "1 numbers; expected 6 (shape [2, 3])"),
            (numbers(&[1.0]), input(Datatype::Bytes, &[1]), "numbers; expected a text"),
            (Features::Text("x".into()), input(Datatype::Fp32, &[2]), "a text; expected 2 numbers"),
        ] {
            assert_eq!(features.to_input(&input), Err(line.to_owned()));
        }
    }

    #[test]
    fn classes_are_counted_from_the_largest_label() {
        let row = |label| Row { features: Features::Numbers(vec![0.0, 1.0]), label };
        let set = LabelledSet::new(vec![row(0), row(4)]);
        assert_eq!((set.classes, set.width()), (5, Some(2)));
        assert_eq!(LabelledSet::new(vec![]).classes, 0);
    }
}
