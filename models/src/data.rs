//! The data set file of a retraining: raw rows, labels, and which samples are held out, as safetensors.
//!
//! Tensors: `x0`, `x1`, … (one per input, `[samples, …shape]`, of the input's type), or for a text model `text` (`U8`, all
//! texts one after the other) and `text_offsets` (`I64`, `[samples + 1]`); `y` (`I64`, `[samples]`); `held_out` (`U8`: 0, 1 or 2, see [`Part`]).

use std::collections::HashMap;
use std::ops::Range;
use std::path::{Path, PathBuf};

use safetensors::SafeTensors;
use safetensors::tensor::{Dtype, TensorView, serialize};

use crate::file;
use crate::spec::{Datatype, ModelSpec, TensorSpec};

/// Why a data set could not be written or read.
#[derive(Debug, thiserror::Error)]
pub enum DataError {
    /// The file system refused.
    #[error("data set {}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The file is no safetensors file, or a tensor of it is missing or of another type or shape.
    #[error("data set {}: {reason}", path.display())]
    Malformed {
        /// The file.
        path: PathBuf,
        /// What is wrong and what would be right.
        reason: String,
    },
    /// A sample does not fit the model.
    #[error("sample {index}: {reason}")]
    Sample {
        /// Which, from 0.
        index: usize,
        /// What is wrong and what would be right.
        reason: String,
    },
    /// The model's inputs cannot be kept in a data set.
    #[error("model {model}: a BYTES input must be the only input, with shape [1]")]
    Inputs {
        /// The model.
        model: String,
    },
    /// There is nothing to write.
    #[error("no samples: a data set needs at least one")]
    Empty,
}

/// What a sample is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Part {
    /// To train on.
    Train = 0,
    /// To measure accuracy with.
    HeldOut = 1,
    /// Of an older window, to measure with whether something is forgotten.
    Older = 2,
}

impl Part {
    fn of(code: u8) -> Option<Part> {
        [Part::Train, Part::HeldOut, Part::Older].into_iter().find(|part| *part as u8 == code)
    }
}

/// One labelled sample.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Sample<'a> {
    /// The inputs in the model's order, concatenated: one row each, raw little-endian; a text is a `u32` length and its bytes.
    pub features: &'a [u8],
    /// The class, below the model's `classes`.
    pub label: u32,
    /// What it is for.
    pub part: Part,
}

/// Checks one sample against a model; the error says what would be right.
///
/// # Errors
/// [`DataError::Sample`] with the given `index`, or [`DataError::Inputs`].
pub fn check(spec: &ModelSpec, index: usize, sample: &Sample<'_>) -> Result<(), DataError> {
    let wrong = |reason| Err(DataError::Sample { index, reason });
    if sample.label >= spec.classes {
        return wrong(format!("label {} is not below {}, the number of classes", sample.label, spec.classes));
    }
    match row_bytes(spec)? {
        Some(inputs) => {
            let (has, wants) = (sample.features.len(), inputs.iter().sum::<usize>());
            if has == wants { Ok(()) } else { wrong(format!("{has} bytes of features, but {} takes {wants}", spec.name)) }
        }
        None => match text_of(sample.features) {
            Some(text) if std::str::from_utf8(text).is_ok() => Ok(()),
            Some(_) => wrong("the text is not UTF-8".to_owned()),
            None => wrong("a text is a little-endian u32 length, then that many bytes".to_owned()),
        },
    }
}

/// Writes a data set, atomically: `path` is either as it was or complete.
///
/// # Errors
/// A sample that does not fit, or what the file system says.
pub fn write(path: &Path, spec: &ModelSpec, samples: &[Sample<'_>]) -> Result<(), DataError> {
    if samples.is_empty() {
        return Err(DataError::Empty);
    }
    samples.iter().enumerate().try_for_each(|(index, sample)| check(spec, index, sample))?;
    let mut columns = match row_bytes(spec)? {
        Some(row_bytes) => numbers(spec, &row_bytes, samples),
        None => texts(samples),
    };
    let labels = samples.iter().flat_map(|s| i64::from(s.label).to_le_bytes()).collect();
    columns.push(Column { name: "y".into(), dtype: Dtype::I64, shape: vec![samples.len()], bytes: labels });
    let held_out = samples.iter().map(|s| s.part as u8).collect();
    columns.push(Column { name: "held_out".into(), dtype: Dtype::U8, shape: vec![samples.len()], bytes: held_out });
    let malformed = |error: safetensors::SafeTensorError| malformed(path, error.to_string());
    let views = columns
        .iter()
        .map(|c| Ok((c.name.as_str(), TensorView::new(c.dtype, c.shape.clone(), &c.bytes)?)))
        .collect::<Result<Vec<_>, _>>()
        .map_err(malformed)?;
    let metadata = HashMap::from([("model".to_owned(), spec.name.clone())]);
    let bytes = serialize(views, Some(metadata)).map_err(malformed)?;
    file::replace(path, &bytes).map_err(|source| DataError::Io { path: path.to_owned(), source })
}

/// A data set in memory.
#[derive(Debug)]
pub struct Dataset {
    bytes: Vec<u8>,
    inputs: Inputs,
    labels: Range<usize>,
    held_out: Range<usize>,
}

#[derive(Debug)]
enum Inputs {
    /// Per input: where its rows lie, bytes of one row.
    Rows(Vec<(Range<usize>, usize)>),
    Text {
        text: Range<usize>,
        offsets: Range<usize>,
    },
}

impl Dataset {
    /// Reads and checks a data set for a model: types, shapes, labels below `classes`, texts within bounds and UTF-8.
    ///
    /// # Errors
    /// [`DataError::Io`] or [`DataError::Malformed`].
    pub fn read(path: &Path, spec: &ModelSpec) -> Result<Dataset, DataError> {
        let bytes = std::fs::read(path).map_err(|source| DataError::Io { path: path.to_owned(), source })?;
        let tensors = SafeTensors::deserialize(&bytes).map_err(|e| malformed(path, format!("not a complete safetensors file ({e})")))?;
        let reader = Reader { path, base: bytes.as_ptr() as usize, tensors: &tensors };
        let samples = reader.tensor("y", Dtype::I64)?.shape().first().copied().unwrap_or(0);
        let labels = reader.range("y", Dtype::I64, &[samples])?;
        let held_out = reader.range("held_out", Dtype::U8, &[samples])?;
        let inputs = match row_bytes(spec)? {
            Some(row_bytes) => reader.rows(&spec.inputs(), &row_bytes, samples)?,
            None => Inputs::Text {
                text: {
                    let n = reader.tensor("text", Dtype::U8)?.data().len();
                    reader.range("text", Dtype::U8, &[n])?
                },
                offsets: reader.range("text_offsets", Dtype::I64, &[samples + 1])?,
            },
        };
        let data = Dataset { bytes, inputs, labels, held_out };
        data.validate(spec.classes).map_err(|reason| malformed(path, reason))?;
        Ok(data)
    }

    /// Number of samples.
    pub fn len(&self) -> usize {
        self.held_out.len()
    }

    /// Whether it holds no sample.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The class of a sample.
    ///
    /// # Panics
    /// When `index` is not below [`Dataset::len`].
    pub fn label(&self, index: usize) -> u32 {
        i64_at(&self.bytes[self.labels.clone()], index) as u32
    }

    /// Indices of the samples of a part, ascending.
    pub fn part(&self, part: Part) -> Vec<usize> {
        let parts = &self.bytes[self.held_out.clone()];
        (0..self.len()).filter(|&index| parts[index] == part as u8).collect()
    }

    /// One row of a numeric input, raw little-endian; empty for a text model.
    ///
    /// # Panics
    /// When `index` or `input` is too large.
    pub fn row(&self, input: usize, index: usize) -> &[u8] {
        match &self.inputs {
            Inputs::Rows(inputs) => {
                let (range, bytes) = &inputs[input];
                &self.bytes[range.clone()][index * bytes..][..*bytes]
            }
            Inputs::Text { .. } => &[],
        }
    }

    /// All rows of a numeric input, raw little-endian; empty for a text model.
    ///
    /// # Panics
    /// When `input` is too large.
    pub fn rows(&self, input: usize) -> &[u8] {
        match &self.inputs {
            Inputs::Rows(inputs) => &self.bytes[inputs[input].0.clone()],
            Inputs::Text { .. } => &[],
        }
    }

    /// The whole file.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// The text of a sample; empty for a numeric model.
    ///
    /// # Panics
    /// When `index` is not below [`Dataset::len`].
    pub fn text(&self, index: usize) -> &str {
        self.text_bytes(index).and_then(|bytes| std::str::from_utf8(bytes).ok()).unwrap_or_default()
    }

    fn text_bytes(&self, index: usize) -> Option<&[u8]> {
        let Inputs::Text { text, offsets } = &self.inputs else { return None };
        let at = |index| usize::try_from(i64_at(&self.bytes[offsets.clone()], index)).ok();
        self.bytes[text.clone()].get(at(index)?..at(index + 1)?)
    }

    fn validate(&self, classes: u32) -> Result<(), String> {
        for index in 0..self.len() {
            let label = i64_at(&self.bytes[self.labels.clone()], index);
            let part = self.bytes[self.held_out.clone()][index];
            if Part::of(part).is_none() {
                return Err(format!("sample {index} has held_out {part}, which is none of 0, 1 and 2"));
            }
            if label < 0 || label >= i64::from(classes) {
                return Err(format!("sample {index} has label {label}, which is not below {classes}, the number of classes"));
            }
            if matches!(self.inputs, Inputs::Text { .. }) {
                let bytes =
                    self.text_bytes(index).ok_or_else(|| format!("text_offsets of sample {index} are not ascending within text"))?;
                std::str::from_utf8(bytes).map_err(|_| format!("the text of sample {index} is not UTF-8"))?;
            }
        }
        Ok(())
    }
}

struct Column {
    name: String,
    dtype: Dtype,
    shape: Vec<usize>,
    bytes: Vec<u8>,
}

fn numbers(spec: &ModelSpec, row_bytes: &[usize], samples: &[Sample<'_>]) -> Vec<Column> {
    let mut start = 0;
    let column = |(index, input): (usize, &TensorSpec)| {
        let row = start..start + row_bytes[index];
        start = row.end;
        let bytes = samples.iter().flat_map(|s| &s.features[row.clone()]).copied().collect();
        Column { name: format!("x{index}"), dtype: dtype(input.datatype), shape: shape(samples.len(), input), bytes }
    };
    spec.inputs().iter().enumerate().map(column).collect()
}

fn texts(samples: &[Sample<'_>]) -> Vec<Column> {
    let mut text = Vec::new();
    let mut offsets = 0i64.to_le_bytes().to_vec();
    for sample in samples {
        text.extend_from_slice(text_of(sample.features).unwrap_or_default());
        offsets.extend_from_slice(&(text.len() as i64).to_le_bytes());
    }
    vec![
        Column { name: "text".into(), dtype: Dtype::U8, shape: vec![text.len()], bytes: text },
        Column { name: "text_offsets".into(), dtype: Dtype::I64, shape: vec![samples.len() + 1], bytes: offsets },
    ]
}

struct Reader<'a> {
    path: &'a Path,
    base: usize,
    tensors: &'a SafeTensors<'a>,
}

impl<'a> Reader<'a> {
    fn tensor(&self, name: &str, dtype: Dtype) -> Result<TensorView<'a>, DataError> {
        let tensor = self.tensors.tensor(name).map_err(|_| malformed(self.path, format!("tensor {name} is missing")))?;
        if tensor.dtype() != dtype {
            return Err(malformed(self.path, format!("tensor {name} is {:?} and should be {dtype:?}", tensor.dtype())));
        }
        Ok(tensor)
    }

    fn range(&self, name: &str, dtype: Dtype, shape: &[usize]) -> Result<Range<usize>, DataError> {
        let tensor = self.tensor(name, dtype)?;
        if tensor.shape() != shape {
            return Err(malformed(self.path, format!("tensor {name} has shape {:?} and should have {shape:?}", tensor.shape())));
        }
        // The view borrows from the file's bytes; its position in them outlives the borrow.
        let start = if tensor.data().is_empty() { 0 } else { tensor.data().as_ptr() as usize - self.base };
        Ok(start..start + tensor.data().len())
    }

    fn rows(&self, inputs: &[TensorSpec], row_bytes: &[usize], samples: usize) -> Result<Inputs, DataError> {
        let one = |(index, input): (usize, &TensorSpec)| {
            Ok((self.range(&format!("x{index}"), dtype(input.datatype), &shape(samples, input))?, row_bytes[index]))
        };
        inputs.iter().enumerate().map(one).collect::<Result<_, _>>().map(Inputs::Rows)
    }
}

/// Bytes of one row of each input; `None` for a text model.
fn row_bytes(spec: &ModelSpec) -> Result<Option<Vec<usize>>, DataError> {
    let inputs = spec.inputs();
    if let [TensorSpec { datatype: Datatype::Bytes, shape, .. }] = inputs.as_slice()
        && *shape == [1]
    {
        return Ok(None);
    }
    let sizes = inputs.iter().map(|input| input.datatype.size().map(|size| size * input.elements()));
    sizes.collect::<Option<Vec<_>>>().map(Some).ok_or_else(|| DataError::Inputs { model: spec.name.clone() })
}

fn text_of(features: &[u8]) -> Option<&[u8]> {
    let (length, text) = features.split_first_chunk::<4>()?;
    (u32::from_le_bytes(*length) as usize == text.len()).then_some(text)
}

fn shape(samples: usize, input: &TensorSpec) -> Vec<usize> {
    std::iter::once(samples).chain(input.shape.iter().map(|&n| n as usize)).collect()
}

fn dtype(datatype: Datatype) -> Dtype {
    match datatype {
        Datatype::Bool => Dtype::BOOL,
        Datatype::Uint8 | Datatype::Bytes => Dtype::U8,
        Datatype::Int32 => Dtype::I32,
        Datatype::Int64 => Dtype::I64,
        Datatype::Fp32 => Dtype::F32,
        Datatype::Fp64 => Dtype::F64,
    }
}

fn i64_at(bytes: &[u8], index: usize) -> i64 {
    let mut number = [0; 8];
    number.copy_from_slice(&bytes[index * 8..][..8]);
    i64::from_le_bytes(number)
}

fn malformed(path: &Path, reason: String) -> DataError {
    DataError::Malformed { path: path.to_owned(), reason }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::spec::{Architecture, Source};

    fn mlp() -> ModelSpec {
        let architecture = Architecture::Mlp { features: 2, hidden: vec![] };
        ModelSpec {
            name: "m".into(),
            classes: 3,
            max_batch: 1,
            precision: Default::default(),
            source: Source::Architecture { architecture },
        }
    }

    fn text() -> ModelSpec {
        let architecture = Architecture::TextClassifier { vocabulary: 9, max_tokens: 9, embedding: 2 };
        ModelSpec { source: Source::Architecture { architecture }, ..mlp() }
    }

    fn folder() -> tempfile::TempDir {
        tempfile::tempdir().unwrap()
    }

    #[test]
    fn rows_labels_and_the_split_come_back() {
        let folder = folder();
        let path = folder.path().join("d.safetensors");
        let rows = [[1u8; 8], [2; 8], [3; 8]];
        let samples: Vec<_> = (0..3)
            .map(|i| Sample { features: &rows[i], label: 2 - i as u32, part: if i == 1 { Part::HeldOut } else { Part::Train } })
            .collect();
        write(&path, &mlp(), &samples).unwrap();
        let data = Dataset::read(&path, &mlp()).unwrap();
        assert_eq!((data.len(), data.row(0, 2), data.label(0)), (3, &[3u8; 8][..], 2));
        assert_eq!([Part::Train, Part::HeldOut, Part::Older].map(|part| data.part(part)), [vec![0, 2], vec![1], vec![]]);
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1, "no temporary file is left");
    }

    #[test]
    fn inputs_of_several_types_lie_apart() {
        let folder = folder();
        let path = folder.path().join("d.safetensors");
        let input = |name: &str, datatype, shape| TensorSpec { name: name.into(), datatype, shape };
        let inputs = vec![input("a", Datatype::Fp32, vec![1]), input("b", Datatype::Uint8, vec![3])];
        let spec = ModelSpec { source: Source::Torchscript { inputs }, ..mlp() };
        let samples = [[1, 1, 1, 1, 7, 8, 9], [2, 2, 2, 2, 4, 5, 6]];
        let samples = samples.each_ref().map(|features| Sample { features, label: 0, part: Part::Train });
        write(&path, &spec, &samples).unwrap();
        let data = Dataset::read(&path, &spec).unwrap();
        assert_eq!((data.row(0, 1), data.row(1, 1)), (&[2u8; 4][..], &[4u8, 5, 6][..]));
    }

    #[test]
    fn texts_come_back_even_empty_ones() {
        let folder = folder();
        let path = folder.path().join("d.safetensors");
        let texts = ["hällo", "", "b"].map(|t| [&(t.len() as u32).to_le_bytes(), t.as_bytes()].concat());
        let samples: Vec<_> = texts.iter().map(|t| Sample { features: t, label: 1, part: Part::Train }).collect();
        write(&path, &text(), &samples).unwrap();
        let data = Dataset::read(&path, &text()).unwrap();
        assert_eq!((data.text(0), data.text(1), data.text(2)), ("hällo", "", "b"));
    }

    #[test]
    fn a_sample_that_does_not_fit_is_named() {
        let path = Path::new("/nowhere/d.safetensors");
        let sample = |features, label| Sample { features, label, part: Part::Train };
        let says = |spec: &ModelSpec, sample: Sample<'_>| write(path, spec, &[sample]).unwrap_err().to_string();
        assert_eq!(says(&mlp(), sample(&[0; 7], 0)), "sample 0: 7 bytes of features, but m takes 8");
        assert_eq!(says(&mlp(), sample(&[0; 8], 3)), "sample 0: label 3 is not below 3, the number of classes");
        assert!(says(&text(), sample(b"ab", 0)).contains("u32 length"));
        assert!(says(&text(), sample(&[1, 0, 0, 0, 0xff], 0)).contains("UTF-8"));
        assert!(matches!(write(path, &mlp(), &[]), Err(DataError::Empty)));
    }

    #[test]
    fn a_truncated_file_or_one_of_another_model_is_refused() {
        let folder = folder();
        let path = folder.path().join("d.safetensors");
        write(&path, &mlp(), &[Sample { features: &[0; 8], label: 2, part: Part::Train }]).unwrap();
        let two = ModelSpec { classes: 2, ..mlp() };
        assert!(Dataset::read(&path, &two).unwrap_err().to_string().contains("label 2"));
        assert!(Dataset::read(&path, &text()).unwrap_err().to_string().contains("tensor text is missing"));
        let bytes = std::fs::read(&path).unwrap();
        std::fs::write(&path, &bytes[..bytes.len() - 1]).unwrap();
        assert!(matches!(Dataset::read(&path, &mlp()), Err(DataError::Malformed { .. })));
        assert!(matches!(Dataset::read(&folder.path().join("none"), &mlp()), Err(DataError::Io { .. })));
    }
}
