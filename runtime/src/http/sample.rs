//! Labelled samples, from the body of `POST /v1/tenants/{t}/samples` to raw rows.
//!
//! ```json
//! {"samples": [
//!   {"label": 3, "data": [0.1, 0.2]},
//!   {"label": 1, "inputs": [{"name": "INPUT0", "shape": [1, 2], "datatype": "FP32", "data": [0.1, 0.2]}]}
//! ]}
//! ```
//!
//! `data` is one row of the only input, flat or nested, or one string for a text model; a model of several inputs needs `inputs`,
//! where shape and datatype may be left out.

use std::fmt;

use bytes::Bytes;
use migrator_actors::message::{Origin, Sample};
use migrator_models::TensorSpec;
use serde::Deserialize;
use serde::de::{DeserializeSeed, Deserializer, Error as _, IgnoredAny, MapAccess, SeqAccess, Visitor};

use super::input::{InputList, Inputs, OnlyInput, Place, Tensor, inside};
use super::rows::{MOST_ROWS, too_many};

/// Parses the body; all samples or none.
///
/// # Errors
/// One line that names the sample, the input and the element.
pub(crate) fn parse(inputs: &[TensorSpec], classes: u32, body: &[u8]) -> Result<Vec<Sample>, String> {
    let mut parse = Parse { specs: inputs, classes, place: Place::default(), samples: None };
    let mut json = serde_json::Deserializer::from_slice(body);
    let parsed = json.deserialize_map(&mut parse).and_then(|()| json.end());
    parsed.map_err(|e| parse.place.explain(&e))?;
    match parse.samples {
        None => Err("samples is missing".to_owned()),
        Some(samples) if samples.is_empty() => Err("samples is empty".to_owned()),
        Some(samples) => Ok(samples),
    }
}

struct Parse<'m> {
    specs: &'m [TensorSpec],
    classes: u32,
    place: Place,
    samples: Option<Vec<Sample>>,
}

impl<'de> Visitor<'de> for &mut Parse<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object with samples")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        while let Some(key) = map.next_key::<String>()? {
            match key.as_str() {
                "samples" if self.samples.is_some() => return Err(A::Error::custom("samples is given twice")),
                "samples" => map.next_value_seed(SampleList(&mut *self))?,
                _ => drop(map.next_value::<IgnoredAny>()?),
            }
        }
        Ok(())
    }
}

struct SampleList<'p, 'm>(&'p mut Parse<'m>);

impl<'de> DeserializeSeed<'de> for SampleList<'_, '_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_seq(self)
    }
}

impl<'de> Visitor<'de> for SampleList<'_, '_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a list of samples")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<(), A::Error> {
        let mut samples = Vec::new();
        loop {
            self.0.place = Place { sample: Some(samples.len()), ..Place::default() };
            match seq.next_element_seed(OneSample(&mut *self.0))? {
                Some(_) if samples.len() == MOST_ROWS => {
                    self.0.place = Place::default();
                    return Err(A::Error::custom(too_many()));
                }
                Some(sample) => samples.push(sample),
                None => break,
            }
        }
        self.0.place = Place::default();
        self.0.samples = Some(samples);
        Ok(())
    }
}

struct OneSample<'p, 'm>(&'p mut Parse<'m>);

impl<'de> DeserializeSeed<'de> for OneSample<'_, '_> {
    type Value = Sample;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Sample, D::Error> {
        deserializer.deserialize_map(self)
    }
}

#[derive(Deserialize)]
#[serde(field_identifier, rename_all = "snake_case")]
enum Field {
    Label,
    Data,
    Inputs,
    #[serde(other)]
    Other,
}

impl<'de> Visitor<'de> for OneSample<'_, '_> {
    type Value = Sample;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a sample: an object with label and data (or inputs)")
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Sample, A::Error> {
        let mut inputs = Inputs::of_sample(self.0.specs);
        let label = fields(map, &mut inputs);
        self.0.place = Place { sample: self.0.place.sample, ..std::mem::take(&mut inputs.place) };
        let label = label?.ok_or_else(|| A::Error::custom("label is missing"))?;
        if label >= u64::from(self.0.classes) {
            return Err(A::Error::custom(format_args!("label {label}: must be from 0 to {}", self.0.classes.saturating_sub(1))));
        }
        inputs.rows().map_err(A::Error::custom)?;
        Ok(Sample { features: features(inputs), label: label as u32, origin: Origin::Client })
    }
}

/// Takes all fields; gives the label.
fn fields<'de, A: MapAccess<'de>>(mut map: A, inputs: &mut Inputs<'_>) -> Result<Option<u64>, A::Error> {
    let mut label = None;
    while let Some(field) = map.next_key::<Field>()? {
        match field {
            Field::Label => label = Some(map.next_value().map_err(|e| inside("label", e))?),
            Field::Data => map.next_value_seed(OnlyInput(&mut *inputs))?,
            Field::Inputs => map.next_value_seed(InputList(&mut *inputs))?,
            Field::Other => drop(map.next_value::<IgnoredAny>()?),
        }
    }
    Ok(label)
}

/// The inputs in the model's order, concatenated.
fn features(inputs: Inputs<'_>) -> Bytes {
    let mut tensors = inputs.taken.into_iter().filter_map(|taken| match taken {
        Some((Tensor::Json(raw), _)) => Some(raw),
        _ => None,
    });
    let mut all = tensors.next().unwrap_or_default();
    tensors.for_each(|raw| all.extend_from_slice(&raw));
    Bytes::from(all)
}
