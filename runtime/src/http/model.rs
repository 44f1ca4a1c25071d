//! Server and model metadata and health of the Open Inference Protocol.

use actix_web::{HttpRequest, HttpResponse, web};
use migrator_models::TensorSpec;
use serde_json::{Value, json};

use super::error::ApiError;
use super::{AppState, Tenant};

/// The tenant that a URL with `{name}` and perhaps `{version}` means.
///
/// # Errors
/// 404 for an unknown name, or a version that is not in service.
pub(super) fn addressed<'s>(state: &'s AppState, http: &HttpRequest) -> Result<(&'s str, &'s Tenant), ApiError> {
    let (name, tenant) = state.tenant(http.match_info().get("name").unwrap_or_default())?;
    let in_service = tenant.front.version();
    match http.match_info().get("version") {
        Some(version) if version.parse() != Ok(in_service) => {
            let message = format!("version {version} of {name:?} is not in service: version {in_service} is");
            Err(ApiError::not_found(message))
        }
        _ => Ok((name, tenant)),
    }
}

pub(super) async fn server() -> HttpResponse {
    HttpResponse::Ok().json(json!({
        "name": "migrator",
        "version": env!("CARGO_PKG_VERSION"),
        "extensions": ["binary_tensor_data", "model_configuration"],
    }))
}

/// Answers as long as the process does, also while it drains.
pub(super) async fn live() -> HttpResponse {
    HttpResponse::Ok().finish()
}

pub(super) async fn server_ready(state: web::Data<AppState>) -> Result<HttpResponse, ApiError> {
    if state.draining() {
        return Err(ApiError::draining());
    }
    let waiting: Vec<&str> = state.tenants.iter().filter(|(_, t)| !t.front.ready()).map(|(name, _)| name.as_str()).collect();
    if waiting.is_empty() { Ok(HttpResponse::Ok().finish()) } else { Err(not_ready(&waiting.join(", "))) }
}

pub(super) async fn ready(state: web::Data<AppState>, http: HttpRequest) -> Result<HttpResponse, ApiError> {
    let (name, tenant) = addressed(&state, &http)?;
    match (state.draining(), tenant.front.ready()) {
        (true, _) => Err(ApiError::draining()),
        (false, true) => Ok(HttpResponse::Ok().finish()),
        (false, false) => Err(not_ready(name)),
    }
}

fn not_ready(names: &str) -> ApiError {
    let retry_after = Some(std::time::Duration::from_secs(1));
    ApiError {
        status: actix_web::http::StatusCode::SERVICE_UNAVAILABLE,
        message: format!("not ready: no instance answers yet for {names}"),
        retry_after,
    }
}

pub(super) async fn metadata(state: web::Data<AppState>, http: HttpRequest) -> Result<HttpResponse, ApiError> {
    let (_, tenant) = addressed(&state, &http)?;
    let spec = tenant.front.spec();
    Ok(HttpResponse::Ok().json(json!({
        "name": http.match_info().get("name"),
        "versions": [tenant.front.version().to_string()],
        "platform": "pytorch_libtorch",
        "inputs": tenant.inputs.iter().map(tensor).collect::<Vec<_>>(),
        "outputs": [tensor(&spec.output())],
    })))
}

/// A tensor with its batch dimension.
fn tensor(spec: &TensorSpec) -> Value {
    let shape: Vec<i64> = std::iter::once(-1).chain(spec.shape.iter().map(|&n| i64::from(n))).collect();
    json!({ "name": spec.name, "datatype": spec.datatype.name(), "shape": shape })
}

/// What load generators ask for: the largest batch and the shapes without batch dimension.
pub(super) async fn configuration(state: web::Data<AppState>, http: HttpRequest) -> Result<HttpResponse, ApiError> {
    let (_, tenant) = addressed(&state, &http)?;
    let spec = tenant.front.spec();
    Ok(HttpResponse::Ok().json(json!({
        "name": http.match_info().get("name"),
        "platform": "pytorch_libtorch",
        "backend": "pytorch",
        "max_batch_size": spec.max_batch,
        "input": tenant.inputs.iter().map(configured).collect::<Vec<_>>(),
        "output": [configured(&spec.output())],
    })))
}

fn configured(spec: &TensorSpec) -> Value {
    let datatype = match spec.datatype.name() {
        "BYTES" => "STRING",
        name => name,
    };
    json!({ "name": spec.name, "data_type": format!("TYPE_{datatype}"), "dims": spec.shape })
}
