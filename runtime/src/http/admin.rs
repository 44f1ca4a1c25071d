//! The server's own `/v1`: tenants, partition, plan, labelled samples; and the index of endpoints.

use std::sync::Arc;

use actix_web::http::header::{ACCEPT, ContentType};
use actix_web::{HttpRequest, HttpResponse, web};
use migrator_actors::message::AddSamples;
use serde_json::json;

use super::error::ApiError;
use super::{AppState, Tenant, batch, body, inference, sample, text};

pub(super) async fn index() -> HttpResponse {
    HttpResponse::Ok().insert_header(ContentType::plaintext()).body(INDEX)
}

const INDEX: &str = "\
migrator: serves models of several tenants and keeps retraining them

Open Inference Protocol v2; {name} is a tenant, or a model that one tenant only serves
  GET  /v2                                        this server
  GET  /v2/health/live                            200 while the process answers
  GET  /v2/health/ready                           200 when every tenant is served
  GET  /v2/models/{name}[/versions/{v}]           inputs and outputs
  GET  /v2/models/{name}[/versions/{v}]/config    largest batch
  GET  /v2/models/{name}[/versions/{v}]/ready     200 when it is served
  GET  /v2/models/{name}[/versions/{v}]/stats     what it has answered; /v2/models/stats: all
  POST /v2/models/{name}[/versions/{v}]/infer     {\"inputs\": [{\"name\", \"shape\", \"datatype\", \"data\"}]}
  POST /v2/repository/index                       versions and states
  POST /v2/repository/models/{name}/load          newest version into service; opens an unloaded model
  POST /v2/repository/models/{name}/unload        refuses its requests
  GET, POST /v2[/models/{name}]/trace/setting     which requests leave a line of their stages in the log
  GET, POST /v2/logging                           what is logged

The same for machines: GET /openapi.json

  POST /v1/reload                                 reads the configuration again, as SIGHUP does; tells what has changed

Tenants
  GET  /v1/tenants                                requests, SLO attainment, accuracy, retraining of each
  GET  /v1/tenants/{tenant}                       of one
  POST /v1/tenants/{tenant}/samples               {\"samples\": [{\"data\": [...], \"label\": 3}]}
  POST /v1/tenants/{tenant}/labels                {\"labels\": [{\"id\": \"a request's\", \"label\": 3}]}

Plan (JSON; as text with Accept: text/plain or ?format=text)
  GET  /v1/partition                              the GPUs and their instances
  GET  /v1/plan                                   the plan in force and why
  POST /v1/plan/what-if                           {\"tenants\": {\"a\": {\"demand_rps\": 200}}}: the plan if that were so
  GET  /v1/problem                                what the last plan was made for, as a file for `migrator plan` (?format=json)
";

pub(super) async fn tenants(state: web::Data<AppState>, http: HttpRequest) -> HttpResponse {
    let view = state.view();
    if wants_text(&http) {
        return plain(text::tenants(&view));
    }
    let (window, elapsed_s, length_s) = view.window;
    HttpResponse::Ok().json(json!({
        "uptime_s": view.uptime_s,
        "window": { "number": window, "elapsed_s": elapsed_s, "length_s": length_s },
        "tenants": view.tenants,
    }))
}

pub(super) async fn tenant(state: web::Data<AppState>, http: HttpRequest) -> Result<HttpResponse, ApiError> {
    let tenant = named(&state, &http)?;
    let name = &tenant.name;
    let view = state.view();
    let found = view.tenants.iter().find(|t| t.name == *name);
    found.map(|t| HttpResponse::Ok().json(t)).ok_or_else(|| ApiError::not_found(format!("tenant {name:?} has not started yet")))
}

pub(super) async fn partition(state: web::Data<AppState>, http: HttpRequest) -> HttpResponse {
    let view = state.view();
    if wants_text(&http) {
        return plain(text::partition(&view));
    }
    HttpResponse::Ok().json(json!({
        "gpus": view.partition,
        "reconfigurations": view.reconfigurations,
        "history": view.history,
    }))
}

pub(super) async fn samples(state: web::Data<AppState>, http: HttpRequest, payload: web::Payload) -> Result<HttpResponse, ApiError> {
    let tenant = named(&state, &http)?;
    let body = body::read(&http, payload, state.limits.max_body).await?;
    let (inputs, classes) = (&tenant.inputs, tenant.front.spec().classes);
    let samples = match inference::json_length(&http)? {
        None => sample::parse(inputs, classes, &body),
        Some(json_len) => batch::parse(inputs, classes, &body, json_len),
    };
    let samples = samples.map_err(ApiError::bad_request)?;
    let accepted = tenant.front.add_samples(AddSamples { samples }).await?;
    Ok(HttpResponse::Ok().json(json!({ "accepted": accepted })))
}

/// `{tenant}` must be a tenant's name here, never a model's.
pub(super) fn named(state: &AppState, http: &HttpRequest) -> Result<Arc<Tenant>, ApiError> {
    let asked = http.match_info().get("tenant").unwrap_or_default();
    let known = || super::list(state.tenants.all().keys());
    state.tenants.get(asked).ok_or_else(|| ApiError::not_found(format!("unknown tenant: {asked:?} is not among {}", known())))
}

/// Whether a person asks: `?format=text`, or text/plain before JSON in `Accept`.
pub(super) fn wants_text(http: &HttpRequest) -> bool {
    let accept = http.headers().get(ACCEPT).and_then(|v| v.to_str().ok()).unwrap_or_default();
    http.query_string().split('&').any(|p| p == "format=text") || accept.trim_start().starts_with("text/plain")
}

pub(super) fn plain(text: String) -> HttpResponse {
    HttpResponse::Ok().insert_header(ContentType::plaintext()).body(text)
}
