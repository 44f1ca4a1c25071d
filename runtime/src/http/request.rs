//! An inference request, from the body to raw tensors in the model's order.

use std::fmt;
use std::time::Duration;

use bytes::Bytes;
use migrator_models::{ModelSpec, TensorSpec};
use serde::Deserialize;
use serde::de::{Deserializer, Error as _, IgnoredAny, MapAccess, Visitor};

use super::input::{InputList, Inputs, Tensor, check_raw, inside};

/// A request that fits the model.
#[derive(Debug, PartialEq)]
pub(crate) struct InferRequest {
    /// The client's name for it.
    pub id: Option<String>,
    /// Raw tensors in the model's order.
    pub inputs: Vec<Bytes>,
    /// Rows of each.
    pub rows: u32,
    /// The client's own bound.
    pub timeout: Option<Duration>,
    /// Whether the output is wanted as raw bytes after the JSON.
    pub binary_output: bool,
}

impl InferRequest {
    /// Parses a body. `json_len` is the value of the header `Inference-Header-Content-Length`, when there is one: that many bytes
    /// are JSON and the rest is binary tensors; 0 = the whole body is the only input's tensor.
    ///
    /// # Errors
    /// One line that says what is wrong and where.
    pub fn parse(spec: &ModelSpec, inputs: &[TensorSpec], body: &Bytes, json_len: Option<usize>) -> Result<InferRequest, String> {
        if body.is_empty() && json_len.is_none() {
            return Err("the body is empty".to_owned());
        }
        let json_len = json_len.unwrap_or(body.len());
        if json_len > body.len() {
            return Err(format!("Inference-Header-Content-Length {json_len}: the body has {} bytes", body.len()));
        }
        if json_len == 0 {
            return raw(spec, inputs, body);
        }
        let mut parse =
            Parse { inputs: Inputs::of_request(inputs, spec.max_batch), has_inputs: false, id: None, parameters: None, outputs: None };
        let mut json = serde_json::Deserializer::from_slice(&body[..json_len]);
        let parsed = json.deserialize_map(&mut parse).and_then(|()| json.end());
        parsed.map_err(|e| parse.inputs.place.explain(&e))?;
        parse.finish(spec, inputs, &body.slice(json_len..))
    }
}

/// The whole body is the only input's tensor.
fn raw(spec: &ModelSpec, inputs: &[TensorSpec], body: &Bytes) -> Result<InferRequest, String> {
    let [input] = inputs else { return Err(format!("the model takes {} inputs: a body without JSON can hold one only", inputs.len())) };
    let Some(each) = input.datatype.size() else { return Err("a body without JSON cannot hold text".to_owned()) };
    let row = each * input.elements();
    let rows = body.len() / row.max(1);
    if rows * row != body.len() || rows == 0 || rows > spec.max_batch as usize {
        return Err(format!("input {:?}: {} bytes: the model takes 1 to {} rows of {row} bytes", input.name, body.len(), spec.max_batch));
    }
    check_raw(input, rows as u64, body).map_err(|e| format!("input {:?}: {e}", input.name))?;
    Ok(InferRequest { id: None, inputs: vec![body.clone()], rows: rows as u32, timeout: None, binary_output: true })
}

struct Parse<'m> {
    inputs: Inputs<'m>,
    has_inputs: bool,
    id: Option<String>,
    parameters: Option<Parameters>,
    outputs: Option<Vec<Output>>,
}

#[derive(Default, Deserialize)]
struct Parameters {
    timeout: Option<u64>,
    binary_data_output: Option<bool>,
}

#[derive(Deserialize)]
struct Output {
    name: String,
    parameters: Option<OutputParameters>,
}

#[derive(Deserialize)]
struct OutputParameters {
    binary_data: Option<bool>,
    classification: Option<IgnoredAny>,
    shared_memory_region: Option<IgnoredAny>,
}

#[derive(Deserialize)]
#[serde(field_identifier, rename_all = "snake_case")]
enum Field {
    Id,
    Parameters,
    Inputs,
    Outputs,
    #[serde(other)]
    Other,
}

impl<'de> Visitor<'de> for &mut Parse<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an inference request: an object with inputs")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        while let Some(field) = map.next_key::<Field>()? {
            match field {
                Field::Id => self.id = map.next_value().map_err(|e| inside("id", e))?,
                Field::Parameters => self.parameters = map.next_value().map_err(|e| inside("parameters", e))?,
                Field::Inputs if self.has_inputs => return Err(A::Error::custom("inputs is given twice")),
                Field::Inputs => {
                    map.next_value_seed(InputList(&mut self.inputs))?;
                    self.has_inputs = true;
                }
                Field::Outputs => self.outputs = map.next_value().map_err(|e| inside("outputs", e))?,
                Field::Other => drop(map.next_value::<IgnoredAny>()?),
            }
        }
        Ok(())
    }
}

impl Parse<'_> {
    fn finish(mut self, spec: &ModelSpec, specs: &[TensorSpec], tail: &Bytes) -> Result<InferRequest, String> {
        if !self.has_inputs {
            return Err("inputs is missing".to_owned());
        }
        let rows = self.inputs.rows()?;
        let parameters = self.parameters.take().unwrap_or_default();
        let binary_output = binary_output(&spec.output().name, self.outputs.as_deref(), parameters.binary_data_output.unwrap_or(false))?;
        Ok(InferRequest {
            id: self.id.take().filter(|id| !id.is_empty()),
            rows: rows as u32,
            inputs: self.tensors(specs, rows, tail)?,
            timeout: parameters.timeout.filter(|&us| us > 0).map(Duration::from_micros),
            binary_output,
        })
    }

    /// The raw tensors in the model's order; those after the JSON are cut out of the body without copying.
    fn tensors(self, specs: &[TensorSpec], rows: u64, tail: &Bytes) -> Result<Vec<Bytes>, String> {
        let mut tensors = vec![Bytes::new(); specs.len()];
        let mut at = 0usize;
        for &index in &self.inputs.binary {
            let Some((Tensor::Binary(size), _)) = self.inputs.taken[index] else { continue };
            let end = at.checked_add(size).filter(|&end| end <= tail.len()).ok_or_else(|| {
                let left = tail.len() - at;
                format!("input {:?}: binary_data_size {size}: the body has {left} bytes left", specs[index].name)
            })?;
            tensors[index] = tail.slice(at..end);
            check_raw(&specs[index], rows, &tensors[index]).map_err(|e| format!("input {:?}: {e}", specs[index].name))?;
            at = end;
        }
        if at < tail.len() {
            return Err(format!("{} bytes after the last binary input", tail.len() - at));
        }
        for (tensor, taken) in tensors.iter_mut().zip(self.inputs.taken) {
            if let Some((Tensor::Json(raw), _)) = taken {
                *tensor = Bytes::from(raw);
            }
        }
        Ok(tensors)
    }
}

/// Checks the outputs asked for (there is one) and tells whether it is wanted as raw bytes.
fn binary_output(known: &str, outputs: Option<&[Output]>, default: bool) -> Result<bool, String> {
    let mut binary = default;
    for (index, output) in outputs.unwrap_or_default().iter().enumerate() {
        if output.name != known {
            return Err(format!("output {:?}: the model gives {known}", output.name));
        }
        if index > 0 {
            return Err(format!("output {known:?} is asked for twice"));
        }
        let Some(parameters) = &output.parameters else { continue };
        if parameters.classification.is_some() || parameters.shared_memory_region.is_some() {
            return Err(format!("output {known:?}: classification and shared memory are not supported"));
        }
        binary = parameters.binary_data.unwrap_or(default);
    }
    Ok(binary)
}
