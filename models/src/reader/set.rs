//! Labelled samples, whatever file or generator they came from.

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

    /// Numbers in a row; `None` for a text.
    pub fn width(&self) -> Option<usize> {
        match self {
            Features::Numbers(numbers) => Some(numbers.len()),
            Features::Text(_) => None,
        }
    }
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
    fn classes_are_counted_from_the_largest_label() {
        let row = |label| Row { features: Features::Numbers(vec![0.0, 1.0]), label };
        let set = LabelledSet::new(vec![row(0), row(4)]);
        assert_eq!((set.classes, set.width()), (5, Some(2)));
        assert_eq!(LabelledSet::new(vec![]).classes, 0);
    }
}
