//! Server and model metadata and health of the Open Inference Protocol.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use actix_web::{HttpRequest, HttpResponse, web};
use migrator_models::TensorSpec;
use serde_json::{Value, json};

use super::error::ApiError;
use super::{AppState, Tenant};

/// The tenant that a URL with `{name}` and perhaps `{version}` means.
///
/// # Errors
/// 404 for an unknown name, or a version that is not in service.
pub(super) fn addressed(state: &AppState, http: &HttpRequest) -> Result<Arc<Tenant>, ApiError> {
    state.version(http.match_info().get("name").unwrap_or_default(), http.match_info().get("version"))
}

impl AppState {
    /// The tenant that a name means, if that version is the one in service; `None` = whichever is.
    pub(crate) fn version(&self, name: &str, version: Option<&str>) -> Result<Arc<Tenant>, ApiError> {
        let tenant = self.tenant(name)?;
        let in_service = tenant.front.version();
        match version {
            Some(version) if version.parse() != Ok(in_service) => {
                let message = format!("version {version} of {:?} is not in service: version {in_service} is", tenant.name);
                Err(ApiError::not_found(message))
            }
            _ => Ok(tenant),
        }
    }

    /// Whether every model that is not unloaded is served.
    ///
    /// # Errors
    /// 503 with those that are not.
    pub(crate) fn check_ready(&self) -> Result<(), ApiError> {
        if self.leaving() {
            return Err(ApiError::draining());
        }
        let made = |tenant: &Tenant| tenant.late && tenant.front.version() == 0;
        let serves = |tenant: &Tenant| tenant.front.ready() || tenant.unloaded.load(Ordering::Relaxed) || made(tenant);
        let tenants = self.tenants.all();
        let waiting: Vec<&str> = tenants.values().filter(|tenant| !serves(tenant)).map(|tenant| tenant.name.as_str()).collect();
        if waiting.is_empty() { Ok(()) } else { Err(not_ready(&waiting.join(", "))) }
    }

    /// Whether one model is served.
    ///
    /// # Errors
    /// 404 for an unknown or unloaded one, 503 for one that is not served yet.
    pub(crate) fn check_model_ready(&self, name: &str, version: Option<&str>) -> Result<(), ApiError> {
        let tenant = self.version(name, version)?;
        let name = &tenant.name;
        match (self.leaving(), tenant.unloaded.load(Ordering::Relaxed), tenant.front.ready()) {
            (true, ..) => Err(ApiError::draining()),
            (_, true, _) => Err(ApiError::unloaded(name)),
            (.., true) => Ok(()),
            (.., false) => Err(not_ready(name)),
        }
    }
}

/// Extensions of the protocol that work here; `trace` and `logging` as far as the server's log goes.
pub(crate) const EXTENSIONS: [&str; 8] =
    ["classification", "model_repository", "model_configuration", "binary_tensor_data", "parameters", "statistics", "trace", "logging"];
/// Platform of every model, in Triton's words.
pub(crate) const PLATFORM: &str = "pytorch_libtorch";
/// Back-end of every model, in Triton's words.
pub(crate) const BACKEND: &str = "pytorch";

pub(super) async fn server() -> HttpResponse {
    HttpResponse::Ok().json(json!({
        "name": "migrator",
        "version": env!("CARGO_PKG_VERSION"),
        "extensions": EXTENSIONS,
    }))
}

/// Answers as long as the process does, also while it drains.
pub(super) async fn live() -> HttpResponse {
    HttpResponse::Ok().finish()
}

pub(super) async fn server_ready(state: web::Data<AppState>) -> Result<HttpResponse, ApiError> {
    state.check_ready().map(|()| HttpResponse::Ok().finish())
}

pub(super) async fn ready(state: web::Data<AppState>, http: HttpRequest) -> Result<HttpResponse, ApiError> {
    let (name, version) = (http.match_info().get("name").unwrap_or_default(), http.match_info().get("version"));
    state.check_model_ready(name, version).map(|()| HttpResponse::Ok().finish())
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
    let tenant = addressed(&state, &http)?;
    let spec = tenant.front.spec();
    Ok(HttpResponse::Ok().json(json!({
        "name": http.match_info().get("name"),
        "versions": [tenant.front.version().to_string()],
        "platform": PLATFORM,
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
    let tenant = addressed(&state, &http)?;
    let spec = tenant.front.spec();
    Ok(HttpResponse::Ok().json(json!({
        "name": http.match_info().get("name"),
        "platform": PLATFORM,
        "backend": BACKEND,
        "version_policy": { "latest": { "num_versions": 1 } },
        "dynamic_batching": { "preferred_batch_size": [], "max_queue_delay_microseconds": 0 },
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
