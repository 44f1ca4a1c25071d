//! The model repository extension: what is served, and taking it into and out of service.
//!
//! Models come from the configuration and versions from the store, so `load` puts the newest complete version of the store in service
//! (an imported one, say) and opens the model again after an `unload`; `unload` refuses the model's requests until then. What the
//! planner gives a model that nobody may ask goes to the others; its retraining goes on.

use std::sync::atomic::Ordering;

use actix_web::http::StatusCode;
use actix_web::{HttpRequest, HttpResponse, web};
use serde::Deserialize;
use serde_json::{Map, Value};

use super::error::ApiError;
use super::{AppState, body};

/// One model of the index.
pub(crate) struct Entry {
    /// The tenant's name.
    pub name: String,
    /// Version in service; empty = none yet.
    pub version: String,
    /// `READY`, `LOADING` or `UNAVAILABLE`.
    pub state: &'static str,
    /// Why it is not ready; empty = it is.
    pub reason: &'static str,
}

impl AppState {
    /// Every model, or the ready ones.
    pub(crate) fn index(&self, only_ready: bool) -> Vec<Entry> {
        let tenants = self.tenants.all();
        let entries = tenants.iter().map(|(name, tenant)| {
            let (state, reason) = match (tenant.unloaded.load(Ordering::Relaxed), tenant.front.ready()) {
                (true, _) => ("UNAVAILABLE", "unloaded"),
                (false, true) => ("READY", ""),
                (false, false) => ("LOADING", "no instance answers yet"),
            };
            let version = tenant.front.version();
            Entry { name: name.clone(), version: if version == 0 { String::new() } else { version.to_string() }, state, reason }
        });
        entries.filter(|entry| !only_ready || entry.state == "READY").collect()
    }

    /// Puts the newest complete version in service, and opens the model's requests.
    pub(crate) async fn load(&self, name: &str) -> Result<(), ApiError> {
        let tenant = self.tenant(name)?;
        let name = &tenant.name;
        let version = tenant
            .front
            .load()
            .await
            .map_err(|reason| ApiError::new(StatusCode::INTERNAL_SERVER_ERROR, format!("failed to load {name:?}: {reason}")))?;
        tenant.unloaded.store(false, Ordering::Relaxed);
        tracing::info!(tenant = name, version, "loaded by request");
        Ok(())
    }

    /// Refuses the model's requests from now on.
    pub(crate) fn unload(&self, name: &str) -> Result<(), ApiError> {
        let tenant = self.tenant(name)?;
        tenant.unloaded.store(true, Ordering::Relaxed);
        tracing::info!(tenant = tenant.name, "unloaded by request");
        Ok(())
    }
}

#[derive(Default, Deserialize)]
struct IndexRequest {
    #[serde(default)]
    ready: bool,
}

pub(super) async fn index(state: web::Data<AppState>, http: HttpRequest, payload: web::Payload) -> Result<HttpResponse, ApiError> {
    let body = body::read(&http, payload, state.limits.max_body).await?;
    let asked: IndexRequest = if body.is_empty() { IndexRequest::default() } else { body::json(&body)? };
    let entries: Vec<Value> = state.index(asked.ready).into_iter().map(shown).collect();
    Ok(HttpResponse::Ok().json(entries))
}

fn shown(entry: Entry) -> Value {
    let mut all = Map::new();
    all.insert("name".to_owned(), entry.name.into());
    if !entry.version.is_empty() {
        all.insert("version".to_owned(), entry.version.into());
    }
    all.insert("state".to_owned(), entry.state.into());
    if !entry.reason.is_empty() {
        all.insert("reason".to_owned(), entry.reason.into());
    }
    all.into()
}

#[derive(Default, Deserialize)]
struct ControlRequest {
    #[serde(default)]
    parameters: Map<String, Value>,
}

pub(super) async fn load(state: web::Data<AppState>, http: HttpRequest, payload: web::Payload) -> Result<HttpResponse, ApiError> {
    let parameters = control(&state, &http, payload).await?;
    check_load(parameters.keys())?;
    state.load(http.match_info().get("name").unwrap_or_default()).await?;
    Ok(HttpResponse::Ok().finish())
}

pub(super) async fn unload(state: web::Data<AppState>, http: HttpRequest, payload: web::Payload) -> Result<HttpResponse, ApiError> {
    control(&state, &http, payload).await?;
    state.unload(http.match_info().get("name").unwrap_or_default())?;
    Ok(HttpResponse::Ok().finish())
}

async fn control(state: &AppState, http: &HttpRequest, payload: web::Payload) -> Result<Map<String, Value>, ApiError> {
    let body = body::read(http, payload, state.limits.max_body).await?;
    let asked: ControlRequest = if body.is_empty() { ControlRequest::default() } else { body::json(&body)? };
    Ok(asked.parameters)
}

/// A load takes no configuration and no files.
pub(crate) fn check_load<'k>(mut parameters: impl Iterator<Item = &'k String>) -> Result<(), ApiError> {
    match parameters.find(|key| *key == "config" || key.starts_with("file:")) {
        Some(key) => Err(ApiError::bad_request(format!(
            "parameters.{key}: models come from the server's configuration and versions from its store (`migrator models import`): load takes neither"
        ))),
        None => Ok(()),
    }
}

/// There is one repository, and it has no name.
pub(super) async fn named(http: HttpRequest) -> ApiError {
    let name = http.match_info().get("repository").unwrap_or_default();
    ApiError::new(StatusCode::NOT_IMPLEMENTED, format!("repository {name:?}: there is one repository, without a name"))
}
