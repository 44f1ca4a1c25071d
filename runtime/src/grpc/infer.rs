//! `ModelInfer`: from the message to the tenant and back.

use std::sync::OnceLock;

use migrator_actors::message::Inferred;
use migrator_models::{ModelSpec, TensorSpec};
use migrator_protocol::infer_parameter::ParameterChoice;
use migrator_protocol::model_infer_request::InferRequestedOutputTensor;
use migrator_protocol::model_infer_response::InferOutputTensor;
use migrator_protocol::{InferParameter, ModelInferRequest, ModelInferResponse};
use tokio::time::Instant;

use super::tensor;
use crate::http::inference::Asked;
use crate::http::request::{InferRequest, Wanted};
use crate::http::{ApiError, AppState, classification, request};

/// Answers one request.
pub(super) async fn infer(
    state: &AppState,
    arrived: Instant,
    traceparent: Option<&str>,
    message: ModelInferRequest,
) -> Result<ModelInferResponse, ApiError> {
    let version = Some(message.model_version.as_str()).filter(|version| !version.is_empty());
    let model = message.model_name.clone();
    let tenant = state.version(&model, version)?;
    let asked = Asked { state, tenant: &tenant, arrived, traceparent, passed: OnceLock::new() };
    let answered = answer(&asked, message).await;
    asked.over(answered.as_ref().err());
    answered
}

async fn answer(asked: &Asked<'_>, message: ModelInferRequest) -> Result<ModelInferResponse, ApiError> {
    let _permit = asked.enter()?;
    let (tenant, model) = (asked.tenant, message.model_name.clone());
    let spec = tenant.front.spec();
    let mut request = parse(spec, &tenant.inputs, message).map_err(ApiError::bad_request)?;
    let inferred = asked.answer(&mut request).await?;
    let elements = request.rows as usize * spec.classes as usize;
    if inferred.output.len() != elements * size_of::<f32>() {
        let message = format!("the worker answered {} bytes instead of {}", inferred.output.len(), elements * size_of::<f32>());
        return Err(ApiError::new(actix_web::http::StatusCode::INTERNAL_SERVER_ERROR, message));
    }
    Ok(respond(spec, model, &tenant.output, request, inferred))
}

fn respond(spec: &ModelSpec, model: String, output: &str, request: InferRequest, inferred: Inferred) -> ModelInferResponse {
    let (datatype, columns, raw) = match request.output.top {
        None => ("FP32", spec.classes, inferred.output),
        Some(top) => {
            let texts = classification::texts(&inferred.output, spec.classes, top);
            ("BYTES", top.min(spec.classes), classification::packed(&texts).into())
        }
    };
    let output = InferOutputTensor {
        name: output.to_owned(),
        datatype: datatype.to_owned(),
        shape: vec![i64::from(request.rows), i64::from(columns)],
        ..InferOutputTensor::default()
    };
    ModelInferResponse {
        model_name: model,
        model_version: inferred.version.to_string(),
        id: request.id.unwrap_or_default(),
        outputs: vec![output],
        raw_output_contents: vec![raw],
        ..ModelInferResponse::default()
    }
}

/// A message as a request that fits the model. Raw contents are slices of what was received.
pub(crate) fn parse(spec: &ModelSpec, inputs: &[TensorSpec], message: ModelInferRequest) -> Result<InferRequest, String> {
    let ModelInferRequest { id, parameters, inputs: given, outputs, raw_input_contents: raw, .. } = message;
    if !raw.is_empty() && raw.len() != given.len() {
        return Err(format!("raw_input_contents has {} tensors for {} inputs", raw.len(), given.len()));
    }
    let mut raw = raw.into_iter();
    let mut taken = request::grpc_inputs(inputs, spec.max_batch);
    for input in given {
        let at = |reason: String| format!("input {:?}: {reason}", input.name);
        if input.parameters.contains_key("shared_memory_region") {
            return Err(at("shared memory is not supported".to_owned()));
        }
        let contents = input.contents.filter(|contents| *contents != Default::default());
        let bytes = match (raw.next(), contents) {
            (Some(_), Some(_)) => return Err(at("has both contents and raw_input_contents".to_owned())),
            (Some(bytes), None) => bytes,
            (None, contents) => {
                let known = inputs.iter().find(|spec| spec.name == input.name);
                let contents = known.map(|spec| tensor::raw(spec.datatype, &contents.unwrap_or_default())).transpose();
                contents.map_err(at)?.unwrap_or_default()
            }
        };
        taken.take_raw(input.name.clone(), input.datatype, &input.shape, bytes).map_err(at)?;
    }
    let output = wanted(&spec.output().name, &outputs)?;
    InferRequest::of_grpc(taken, inputs, id, parameters.iter(), output)
}

fn wanted(known: &str, outputs: &[InferRequestedOutputTensor]) -> Result<Wanted, String> {
    let mut wanted = Wanted { binary: true, top: None };
    for (index, output) in outputs.iter().enumerate() {
        if output.name != known {
            return Err(format!("output {:?}: the model gives {known}", output.name));
        }
        if index > 0 {
            return Err(format!("output {known:?} is asked for twice"));
        }
        if output.parameters.contains_key("shared_memory_region") {
            return Err(format!("output {known:?}: shared memory is not supported"));
        }
        wanted.top = output.parameters.get("classification").map(|classes| top(known, classes)).transpose()?;
    }
    Ok(wanted)
}

fn top(output: &str, classes: &InferParameter) -> Result<u32, String> {
    match classes.parameter_choice {
        Some(ParameterChoice::Int64Param(classes)) => request::top(output, u64::try_from(classes).unwrap_or(0)),
        Some(ParameterChoice::Uint64Param(classes)) => request::top(output, classes),
        _ => request::top(output, 0),
    }
}
