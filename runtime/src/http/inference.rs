//! `POST /v2/models/{name}/infer`.

use actix_web::http::header::ContentType;
use actix_web::{HttpRequest, HttpResponse, web};
use migrator_actors::message::Infer;
use tokio::time::Instant;

use super::error::ApiError;
use super::request::InferRequest;
use super::response::Answer;
use super::{AppState, Tenant, body, model};

/// Header that tells where the JSON ends and binary tensors begin.
pub(super) const JSON_LENGTH: &str = "Inference-Header-Content-Length";

pub(super) async fn infer(state: web::Data<AppState>, http: HttpRequest, payload: web::Payload) -> Result<HttpResponse, ApiError> {
    let arrived = Instant::now();
    let (name, tenant) = model::addressed(&state, &http)?;
    let answered = answer(&state, tenant, arrived, &http, payload).await;
    if let Err(error) = &answered
        && error.status.is_client_error()
        && error.retry_after.is_none()
    {
        metrics::counter!("migrator_bad_requests_total", "tenant" => name.to_owned(), "code" => error.status.as_u16().to_string())
            .increment(1);
    }
    answered
}

async fn answer(
    state: &AppState,
    tenant: &Tenant,
    arrived: Instant,
    http: &HttpRequest,
    payload: web::Payload,
) -> Result<HttpResponse, ApiError> {
    if state.draining() {
        return Err(ApiError::draining());
    }
    let body = body::read(http, payload, state.limits.max_body).await?;
    let spec = tenant.front.spec();
    let mut request = InferRequest::parse(spec, &tenant.inputs, &body, json_length(http)?).map_err(ApiError::bad_request)?;
    let inputs = std::mem::take(&mut request.inputs);
    let infer = Infer { inputs, rows: request.rows, arrived, timeout: request.timeout };
    let inferred = tenant.front.infer(infer).await?;
    let model = http.match_info().get("name").unwrap_or(&spec.name);
    let (version, raw) = (inferred.version, &inferred.output[..]);
    let answer = Answer { model, version, output: &tenant.output, classes: spec.classes, request: &request, raw };
    respond(&answer)
}

fn respond(answer: &Answer<'_>) -> Result<HttpResponse, ApiError> {
    let internal = |message| ApiError::new(actix_web::http::StatusCode::INTERNAL_SERVER_ERROR, message);
    let body = answer.write().map_err(internal)?;
    let mut response = HttpResponse::Ok();
    match body.json_len {
        None => response.insert_header(ContentType::json()),
        Some(length) => response.insert_header(ContentType::octet_stream()).insert_header((JSON_LENGTH, length)),
    };
    Ok(response.body(body.bytes))
}

fn json_length(http: &HttpRequest) -> Result<Option<usize>, ApiError> {
    let Some(value) = http.headers().get(JSON_LENGTH) else { return Ok(None) };
    let parsed = value.to_str().ok().and_then(|v| v.trim().parse().ok());
    parsed.map(Some).ok_or_else(|| ApiError::bad_request(format!("{JSON_LENGTH}: {value:?} is not a number of bytes")))
}
