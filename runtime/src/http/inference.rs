//! `POST /v2/models/{name}/infer`, and what every way in has in common.

use std::sync::OnceLock;
use std::sync::atomic::Ordering;

use actix_web::http::header::{CONTENT_ENCODING, ContentType, VARY};
use actix_web::{HttpRequest, HttpResponse, web};
use migrator_actors::message::{Infer, Inferred};
use tokio::time::Instant;

use super::codec::Codec;
use super::error::ApiError;
use super::limit::Permit;
use super::request::InferRequest;
use super::response::Answer;
use super::span::{Over, Passed};
use super::trace::Stages;
use super::{AppState, Tenant, body, model};

/// Header that tells where the JSON ends and binary tensors begin.
pub(super) const JSON_LENGTH: &str = "Inference-Header-Content-Length";

/// A model that is asked, by whichever protocol.
pub(crate) struct Asked<'s> {
    pub state: &'s AppState,
    pub tenant: &'s Tenant,
    /// When the request reached the server.
    pub arrived: Instant,
    /// The client's W3C trace.
    pub traceparent: Option<&'s str>,
    /// Its stages, once it is answered, where spans are exported.
    pub passed: OnceLock<Passed>,
}

impl Asked<'_> {
    /// Lets a request in, if the tenant's are taken at all now and its quota allows.
    ///
    /// # Errors
    /// 503 while the server drains, 404 while the model is unloaded, 429 beyond the quota.
    pub fn enter(&self) -> Result<Permit<'_>, ApiError> {
        if self.state.draining() {
            return Err(ApiError::draining());
        }
        if self.tenant.unloaded.load(Ordering::Relaxed) {
            Err(ApiError::unloaded(&self.tenant.name))
        } else {
            self.tenant.gate.enter(&self.tenant.name)
        }
    }

    /// Has the tenant answer; takes the request's tensors.
    ///
    /// # Errors
    /// What the tenant says.
    pub async fn answer(&self, request: &mut InferRequest) -> Result<Inferred, ApiError> {
        let parsed = self.arrived.elapsed();
        let inputs = std::mem::take(&mut request.inputs);
        let recent = self.tenant.recent.get().zip(request.id.as_deref());
        // The buffers themselves are not copied here.
        let labelled_later = recent.map(|(recent, id)| (recent, id, inputs.clone()));
        let priority = u32::try_from(request.priority).unwrap_or(u32::MAX);
        let infer = Infer { inputs, rows: request.rows, arrived: self.arrived, timeout: request.timeout, priority };
        let inferred = self.tenant.front.infer(infer).await?;
        let answered = self.arrived.elapsed();
        self.tenant.added.record(answered.saturating_sub(inferred.computed).as_secs_f64());
        if let Some((recent, id, inputs)) = labelled_later {
            self.tenant.remember(recent, id, &inputs, request.rows, &inferred);
        }
        if self.state.spans.is_some() {
            let Inferred { version, waited, computed, .. } = inferred;
            let _ = self.passed.set(Passed { parsed, waited, computed, answered, version });
        }
        if self.state.trace.due(&self.tenant.name) {
            let stages = Stages {
                tenant: &self.tenant.name,
                id: request.id.as_deref(),
                traceparent: self.traceparent,
                version: inferred.version,
                parsed,
                waited: inferred.waited,
                computed: inferred.computed,
                answered,
            };
            stages.log();
        }
        Ok(inferred)
    }

    /// It is over: its spans are made, and a refusal that never reached the tenant is counted.
    pub fn over(&self, error: Option<&ApiError>) {
        if let Some(spans) = &self.state.spans {
            let over = Over { tenant: &self.tenant.name, took: self.arrived.elapsed(), passed: self.passed.get(), error };
            spans.over(self.traceparent, &over);
        }
        let Some(error) = error else { return };
        if error.status.is_client_error() && error.retry_after.is_none() {
            let (tenant, code) = (self.tenant.name.clone(), error.status.as_u16().to_string());
            metrics::counter!("migrator_bad_requests_total", "tenant" => tenant, "code" => code).increment(1);
        }
    }
}

pub(super) async fn infer(state: web::Data<AppState>, http: HttpRequest, payload: web::Payload) -> Result<HttpResponse, ApiError> {
    let arrived = Instant::now();
    let tenant = model::addressed(&state, &http)?;
    let traceparent = http.headers().get("traceparent").and_then(|value| value.to_str().ok());
    let asked = Asked { state: &state, tenant: &tenant, arrived, traceparent, passed: OnceLock::new() };
    let answered = answer(&asked, &http, payload).await;
    asked.over(answered.as_ref().err());
    answered
}

async fn answer(asked: &Asked<'_>, http: &HttpRequest, payload: web::Payload) -> Result<HttpResponse, ApiError> {
    let _permit = asked.enter()?;
    let tenant = asked.tenant;
    let body = body::read(http, payload, asked.state.limits.max_body).await?;
    let spec = tenant.front.spec();
    let mut request = InferRequest::parse(spec, &tenant.inputs, &body, json_length(http)?).map_err(ApiError::bad_request)?;
    let inferred = asked.answer(&mut request).await?;
    let model = http.match_info().get("name").unwrap_or(&spec.name);
    let (version, raw) = (inferred.version, &inferred.output[..]);
    let answer = Answer { model, version, output: &tenant.output, classes: spec.classes, request: &request, raw };
    respond(&answer, Codec::wanted(http))
}

fn respond(answer: &Answer<'_>, codec: Option<Codec>) -> Result<HttpResponse, ApiError> {
    let internal = |message| ApiError::new(actix_web::http::StatusCode::INTERNAL_SERVER_ERROR, message);
    let body = answer.write().map_err(internal)?;
    let mut response = HttpResponse::Ok();
    match body.json_len {
        None => response.insert_header(ContentType::json()),
        Some(length) => response.insert_header(ContentType::octet_stream()).insert_header((JSON_LENGTH, length)),
    };
    if let Some(codec) = codec
        && let Some(packed) = codec.pack(&body.bytes)
    {
        response.insert_header((CONTENT_ENCODING, codec.name())).insert_header((VARY, "accept-encoding"));
        return Ok(response.body(packed));
    }
    Ok(response.body(body.bytes))
}

pub(super) fn json_length(http: &HttpRequest) -> Result<Option<usize>, ApiError> {
    let Some(value) = http.headers().get(JSON_LENGTH) else { return Ok(None) };
    let parsed = value.to_str().ok().and_then(|v| v.trim().parse().ok());
    parsed.map(Some).ok_or_else(|| ApiError::bad_request(format!("{JSON_LENGTH}: {value:?} is not a number of bytes")))
}
