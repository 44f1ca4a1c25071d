//! One input of a request: an object of `name`, `shape`, `datatype` and `data`, in any order, checked against the model.

use std::fmt;

use bytes::Bytes;
use migrator_models::{Datatype, TensorSpec};
use serde::Deserialize;
use serde::de::{self, DeserializeSeed, Deserializer, Error as _, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::value::RawValue;

use super::rows::MOST_ROWS;
use super::tensor::{Sink, Value};

/// Where a parse stands, to name the place of an error that serde_json raises.
#[derive(Default)]
pub(crate) struct Place {
    /// Index of the sample.
    pub sample: Option<usize>,
    /// Name of the input.
    pub input: Option<String>,
    /// Index of the element.
    pub element: Option<usize>,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut parts = Vec::new();
        parts.extend(self.sample.map(|s| format!("sample {s}")));
        parts.extend(self.input.as_ref().map(|i| format!("input {i:?}")));
        parts.extend(self.element.map(|e| format!("element {e}")));
        if parts.is_empty() { Ok(()) } else { write!(f, "{}: ", parts.join(", ")) }
    }
}

impl Place {
    /// One line for an error of serde_json.
    pub fn explain(&self, error: &serde_json::Error) -> String {
        let hint = if error.is_syntax() && self.element.is_some() { "; NaN, Infinity and bare words are not JSON" } else { "" };
        format!("{self}{error}{hint}")
    }
}

/// What an input's elements were.
#[derive(Debug, PartialEq)]
pub(crate) enum Tensor {
    /// Given in JSON, raw now.
    Json(Vec<u8>),
    /// This many bytes after the JSON.
    Binary(usize),
    /// As it is.
    Raw(Bytes),
}

/// The inputs that have come, in the model's order.
pub(crate) struct Inputs<'m> {
    specs: &'m [TensorSpec],
    max_rows: u64,
    /// Who takes no more rows.
    taker: &'static str,
    /// Samples may leave out shape, datatype and batch dimension.
    lenient: bool,
    /// Tensor and rows, by input of the model.
    pub taken: Vec<Option<(Tensor, u64)>>,
    /// The model's index of each input with binary data, in the request's order.
    pub binary: Vec<usize>,
    /// Where the parse stands.
    pub place: Place,
}

impl<'m> Inputs<'m> {
    /// Inputs of a request of up to `max_rows` rows.
    pub fn of_request(specs: &'m [TensorSpec], max_rows: u32) -> Inputs<'m> {
        let taken = specs.iter().map(|_| None).collect();
        let (taker, place) = ("the model", Place::default());
        Inputs { specs, max_rows: u64::from(max_rows), taker, lenient: false, taken, binary: Vec::new(), place }
    }

    /// Inputs of as many labelled samples as a body may hold.
    pub fn of_samples(specs: &'m [TensorSpec]) -> Inputs<'m> {
        Inputs { taker: "a body", ..Inputs::of_request(specs, MOST_ROWS as u32) }
    }

    /// Inputs of one labelled sample.
    pub fn of_sample(specs: &'m [TensorSpec]) -> Inputs<'m> {
        Inputs { lenient: true, ..Inputs::of_request(specs, 1) }
    }

    /// The rows, once every input has come with the same number of them.
    pub fn rows(&self) -> Result<u64, String> {
        let mut rows = None;
        for (spec, taken) in self.specs.iter().zip(&self.taken) {
            let Some((_, own)) = taken else { return Err(format!("input {:?} is missing", spec.name)) };
            match rows {
                Some(other) if other != *own => {
                    return Err(format!("input {:?} has {own} rows, the ones before it have {other}", spec.name));
                }
                _ => rows = Some(*own),
            }
        }
        rows.ok_or_else(|| "the model takes no inputs".to_owned())
    }

    /// The input's index in the model, its shape with the rows, and its rows.
    fn resolve(&self, head: &Head) -> Result<(usize, Vec<u64>), String> {
        let name = self.place.input.as_deref().ok_or("an input has no name")?;
        let index = self.specs.iter().position(|s| s.name == name).ok_or_else(|| {
            let names: Vec<&str> = self.specs.iter().map(|s| s.name.as_str()).collect();
            format!("the model takes {}", names.join(", "))
        })?;
        if self.taken[index].is_some() {
            return Err("is given twice".to_owned());
        }
        let spec = &self.specs[index];
        match &head.datatype {
            Some(datatype) if datatype != spec.datatype.name() => {
                return Err(format!("datatype {datatype:?}: the model takes {}", spec.datatype.name()));
            }
            None if !self.lenient => return Err(format!("datatype is missing: the model takes {}", spec.datatype.name())),
            _ => {}
        }
        Ok((index, self.shape(spec, head.shape.as_deref())?))
    }

    fn shape(&self, spec: &TensorSpec, given: Option<&[u64]>) -> Result<Vec<u64>, String> {
        let row = || spec.shape.iter().map(|&n| u64::from(n));
        let wanted = || format!("the model takes [rows, {}]", row().map(|n| n.to_string()).collect::<Vec<_>>().join(", "));
        match given {
            None if self.lenient => Ok(row().collect()),
            None => Err(format!("shape is missing: {}", wanted())),
            Some(shape) if self.lenient && shape.iter().copied().eq(row()) => Ok(shape.to_vec()),
            Some([rows, rest @ ..]) if rest.iter().copied().eq(row()) => {
                if (1..=self.max_rows).contains(rows) {
                    Ok([&[*rows], rest].concat())
                } else if self.lenient {
                    Err(format!("{rows} rows: a sample has 1"))
                } else {
                    Err(format!("{rows} rows: {} takes 1 to {}", self.taker, self.max_rows))
                }
            }
            Some(shape) => Err(format!("shape {shape:?}: {}", wanted())),
        }
    }

    /// Takes elements from JSON.
    fn take<'de, D: Deserializer<'de>>(&mut self, head: &Head, data: D) -> Result<(), D::Error> {
        let (index, shape) = self.resolve(head).map_err(D::Error::custom)?;
        let spec = &self.specs[index];
        let mut sink = Sink::new(spec.datatype, &shape);
        let parsed = Value { sink: &mut sink, depth: 0 }.deserialize(data);
        self.place.element = if sink.misshapen { None } else { Some(sink.seen) };
        parsed?;
        self.place.element = None;
        if !sink.is_full() {
            return Err(D::Error::custom(format_args!("a single element instead of {}", sink.wanted())));
        }
        let rows = if shape.len() == spec.shape.len() { 1 } else { shape[0] };
        self.taken[index] = Some((Tensor::Json(sink.out), rows));
        Ok(())
    }

    /// Takes a raw tensor that came without JSON.
    ///
    /// # Errors
    /// One line that says what is wrong with it.
    pub fn take_raw(&mut self, name: String, datatype: String, shape: &[i64], raw: Bytes) -> Result<(), String> {
        self.place.input = Some(name);
        let sizes: Result<Vec<u64>, _> = shape.iter().map(|&size| u64::try_from(size)).collect();
        let sizes = sizes.map_err(|_| format!("shape {shape:?}: sizes must not be below 0"))?;
        let head = Head { datatype: Some(datatype), shape: Some(sizes) };
        let (index, shape) = self.resolve(&head)?;
        let (spec, elements) = (&self.specs[index], shape.iter().product::<u64>() as usize);
        if let Some(each) = spec.datatype.size()
            && each * elements != raw.len()
        {
            return Err(format!("{} bytes: shape {shape:?} takes {} bytes", raw.len(), each * elements));
        }
        check_raw(spec, shape[0], &raw)?;
        self.taken[index] = Some((Tensor::Raw(raw), shape[0]));
        self.place.input = None;
        Ok(())
    }

    /// Notes that the elements come after the JSON.
    fn take_binary(&mut self, head: &Head, size: usize) -> Result<(), String> {
        if self.lenient {
            return Err("samples take no binary data one by one: send tensors, with labels beside the inputs".to_owned());
        }
        let (index, shape) = self.resolve(head)?;
        let elements = shape.iter().product::<u64>() as usize;
        if let Some(each) = self.specs[index].datatype.size()
            && each * elements != size
        {
            return Err(format!("binary_data_size {size}: shape {shape:?} takes {} bytes", each * elements));
        }
        self.binary.push(index);
        self.taken[index] = Some((Tensor::Binary(size), shape[0]));
        Ok(())
    }
}

/// Checks a raw tensor whose size is right (or whose type has none): texts are cut right and UTF-8, truths are 0 or 1.
pub(super) fn check_raw(spec: &TensorSpec, rows: u64, raw: &Bytes) -> Result<(), String> {
    match spec.datatype {
        Datatype::Bytes => check_texts(raw, rows * spec.elements() as u64),
        Datatype::Bool => match raw.iter().position(|&b| b > 1) {
            Some(at) => Err(format!("element {at}: byte {} is neither 0 nor 1", raw[at])),
            None => Ok(()),
        },
        _ => Ok(()),
    }
}

fn check_texts(mut raw: &[u8], elements: u64) -> Result<(), String> {
    for element in 0..elements {
        let short = || format!("element {element}: the binary data ends within it");
        let (length, rest) = raw.split_first_chunk::<4>().ok_or_else(short)?;
        let (text, after) = rest.split_at_checked(u32::from_le_bytes(*length) as usize).ok_or_else(short)?;
        std::str::from_utf8(text).map_err(|error| format!("element {element}: byte {} is not UTF-8", error.valid_up_to()))?;
        raw = after;
    }
    if raw.is_empty() { Ok(()) } else { Err(format!("{} bytes of binary data after the last element", raw.len())) }
}

#[derive(Default)]
struct Head {
    datatype: Option<String>,
    shape: Option<Vec<u64>>,
}

#[derive(Deserialize)]
#[serde(field_identifier, rename_all = "snake_case")]
enum Field {
    Name,
    Shape,
    Datatype,
    Parameters,
    Data,
    #[serde(other)]
    Other,
}

#[derive(Deserialize)]
struct Parameters {
    binary_data_size: Option<usize>,
    shared_memory_region: Option<IgnoredAny>,
}

/// The list `inputs`.
pub(super) struct InputList<'i, 'm>(pub &'i mut Inputs<'m>);

impl<'de> DeserializeSeed<'de> for InputList<'_, '_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_seq(self)
    }
}

impl<'de> Visitor<'de> for InputList<'_, '_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a list of inputs")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<(), A::Error> {
        while seq.next_element_seed(Input(&mut *self.0))?.is_some() {
            self.0.place.input = None;
        }
        Ok(())
    }
}

struct Input<'i, 'm>(&'i mut Inputs<'m>);

impl<'de> DeserializeSeed<'de> for Input<'_, '_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for Input<'_, '_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an input: an object with name, shape, datatype and data")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        let inputs = self.0;
        let (mut head, mut early, mut done) = (Head::default(), None::<&'de RawValue>, false);
        let mut binary = None;
        while let Some(field) = map.next_key::<Field>()? {
            match field {
                Field::Name => inputs.place.input = Some(map.next_value().map_err(|e| inside("name", e))?),
                Field::Shape => head.shape = Some(map.next_value().map_err(|e| inside("shape", e))?),
                Field::Datatype => head.datatype = Some(map.next_value().map_err(|e| inside("datatype", e))?),
                Field::Parameters => binary = parameters(&mut map)?,
                Field::Data if done || early.is_some() => return Err(A::Error::custom("data is given twice")),
                Field::Data if inputs.place.input.is_some() && head.shape.is_some() && head.datatype.is_some() => {
                    map.next_value_seed(Data { inputs, head: &head })?;
                    done = true;
                }
                Field::Data => early = Some(map.next_value()?),
                Field::Other => drop(map.next_value::<IgnoredAny>()?),
            }
        }
        match (early, binary, done) {
            (None, None, true) => Ok(()),
            (Some(raw), None, false) => inputs.take(&head, raw).map_err(A::Error::custom),
            (None, Some(size), false) => inputs.take_binary(&head, size).map_err(A::Error::custom),
            (None, None, false) if inputs.place.input.is_none() => Err(A::Error::custom("an input has no name")),
            (None, None, false) => Err(A::Error::custom("has neither data nor parameters.binary_data_size")),
            _ => Err(A::Error::custom("has both data and parameters.binary_data_size")),
        }
    }
}

fn parameters<'de, A: MapAccess<'de>>(map: &mut A) -> Result<Option<usize>, A::Error> {
    let parameters: Parameters = map.next_value().map_err(|e| inside("parameters", e))?;
    if parameters.shared_memory_region.is_some() {
        return Err(A::Error::custom("parameters.shared_memory_region: shared memory is not supported"));
    }
    Ok(parameters.binary_data_size)
}

/// Prefixes an error with the key it is in.
pub(super) fn inside<E: de::Error>(key: &str, error: E) -> E {
    E::custom(format_args!("{key}: {error}"))
}

struct Data<'i, 'h, 'm> {
    inputs: &'i mut Inputs<'m>,
    head: &'h Head,
}

impl<'de> DeserializeSeed<'de> for Data<'_, '_, '_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        self.inputs.take(self.head, deserializer)
    }
}

/// `data` of a sample: one row of the model's only input.
pub(super) struct OnlyInput<'i, 'm>(pub &'i mut Inputs<'m>);

impl<'de> DeserializeSeed<'de> for OnlyInput<'_, '_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        let [only] = self.0.specs else {
            return Err(D::Error::custom(format_args!("the model takes {} inputs: give inputs instead of data", self.0.specs.len())));
        };
        self.0.place.input = Some(only.name.clone());
        self.0.take(&Head::default(), deserializer)?;
        self.0.place.input = None;
        Ok(())
    }
}
