//! An inference request, from the body to raw tensors in the model's order.

use std::fmt;
use std::time::Duration;

use bytes::Bytes;
use migrator_models::{ModelSpec, TensorSpec};
use migrator_protocol::InferParameter;
use serde::Deserialize;
use serde::de::{Deserializer, Error as _, IgnoredAny, MapAccess, Visitor};

use super::input::{InputList, Inputs, Tensor, check_raw, inside};
use super::parameter::Parameters;

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
    /// 0 = the default, 1 = the most urgent.
    pub priority: u64,
    /// How the output is wanted.
    pub output: Wanted,
}

/// How the output is wanted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Wanted {
    /// As raw bytes after the JSON.
    pub binary: bool,
    /// As texts `value:class` of so many classes, the most likely first, instead of numbers.
    pub top: Option<u32>,
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
        let (head, tail) = json_part(body, json_len.unwrap_or(body.len()))?;
        if head.is_empty() {
            return raw(spec, inputs, body);
        }
        let mut parse =
            Parse { inputs: Inputs::of_request(inputs, spec.max_batch), has_inputs: false, id: None, parameters: None, outputs: None };
        let mut json = serde_json::Deserializer::from_slice(&head);
        let parsed = json.deserialize_map(&mut parse).and_then(|()| json.end());
        parsed.map_err(|e| parse.inputs.place.explain(&e))?;
        parse.finish(spec, inputs, &tail)
    }
}

impl InferRequest {
    /// A request that came as a message of gRPC.
    ///
    /// # Errors
    /// One line that says what is wrong.
    pub fn of_grpc<'p>(
        taken: Inputs<'_>,
        inputs: &[TensorSpec],
        id: String,
        parameters: impl Iterator<Item = (&'p String, &'p InferParameter)>,
        output: Wanted,
    ) -> Result<InferRequest, String> {
        let parameters = Parameters::of_grpc(parameters)?;
        let rows = taken.rows()?;
        let (timeout, priority) = (timeout(&parameters), parameters.priority);
        let inputs = tensors(taken, inputs, rows, &Bytes::new())?;
        Ok(InferRequest { id: Some(id).filter(|id| !id.is_empty()), inputs, rows: rows as u32, timeout, priority, output })
    }
}

/// Inputs of a message of gRPC, none of which has come yet.
pub(crate) fn grpc_inputs(specs: &[TensorSpec], max_rows: u32) -> Inputs<'_> {
    Inputs::of_request(specs, max_rows)
}

/// What of a body is JSON, and what comes after it.
///
/// # Errors
/// One line when the body is shorter.
pub(super) fn json_part(body: &Bytes, json_len: usize) -> Result<(Bytes, Bytes), String> {
    if json_len > body.len() {
        return Err(format!("Inference-Header-Content-Length {json_len}: the body has {} bytes", body.len()));
    }
    Ok((body.slice(..json_len), body.slice(json_len..)))
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
    Ok(InferRequest {
        id: None,
        inputs: vec![body.clone()],
        rows: rows as u32,
        timeout: None,
        priority: 0,
        output: Wanted { binary: true, top: None },
    })
}

struct Parse<'m> {
    inputs: Inputs<'m>,
    has_inputs: bool,
    id: Option<String>,
    parameters: Option<Parameters>,
    outputs: Option<Vec<Output>>,
}

#[derive(Deserialize)]
struct Output {
    name: String,
    parameters: Option<OutputParameters>,
}

#[derive(Deserialize)]
struct OutputParameters {
    binary_data: Option<bool>,
    classification: Option<u64>,
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
        let output = wanted(&spec.output().name, self.outputs.as_deref(), parameters.binary_data_output)?;
        Ok(InferRequest {
            id: self.id.take().filter(|id| !id.is_empty()),
            rows: rows as u32,
            inputs: tensors(self.inputs, specs, rows, tail)?,
            timeout: timeout(&parameters),
            priority: parameters.priority,
            output,
        })
    }
}

/// The raw tensors in the model's order; those after the JSON are cut out of the body without copying.
pub(super) fn tensors(inputs: Inputs<'_>, specs: &[TensorSpec], rows: u64, tail: &Bytes) -> Result<Vec<Bytes>, String> {
    let mut tensors = vec![Bytes::new(); specs.len()];
    let mut at = 0usize;
    for &index in &inputs.binary {
        let Some((Tensor::Binary(size), _)) = inputs.taken[index] else { continue };
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
    for (tensor, taken) in tensors.iter_mut().zip(inputs.taken) {
        match taken {
            Some((Tensor::Json(raw), _)) => *tensor = Bytes::from(raw),
            Some((Tensor::Raw(raw), _)) => *tensor = raw,
            Some((Tensor::Binary(_), _)) | None => {}
        }
    }
    Ok(tensors)
}

pub(super) fn timeout(parameters: &Parameters) -> Option<Duration> {
    parameters.timeout_us.filter(|&us| us > 0).map(Duration::from_micros)
}

/// So many classes, if that makes sense.
///
/// # Errors
/// One line when it does not.
pub(crate) fn top(output: &str, classes: u64) -> Result<u32, String> {
    match u32::try_from(classes) {
        Ok(classes) if classes > 0 => Ok(classes),
        _ => Err(format!("output {output:?}: classification {classes}: must be a number of classes from 1")),
    }
}

/// Checks the outputs asked for (there is one) and tells how it is wanted.
fn wanted(known: &str, outputs: Option<&[Output]>, default: bool) -> Result<Wanted, String> {
    let mut wanted = Wanted { binary: default, top: None };
    for (index, output) in outputs.unwrap_or_default().iter().enumerate() {
        if output.name != known {
            return Err(format!("output {:?}: the model gives {known}", output.name));
        }
        if index > 0 {
            return Err(format!("output {known:?} is asked for twice"));
        }
        let Some(parameters) = &output.parameters else { continue };
        if parameters.shared_memory_region.is_some() {
            return Err(format!("output {known:?}: shared memory is not supported"));
        }
        wanted.binary = parameters.binary_data.unwrap_or(default);
        wanted.top = parameters.classification.map(|classes| top(known, classes)).transpose()?;
    }
    Ok(wanted)
}
