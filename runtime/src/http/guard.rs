//! What every request over HTTP passes first: keys, the border between the public and the administrators' port, the access log.

use std::time::Instant;

use actix_web::body::MessageBody;
use actix_web::dev::{ServiceRequest, ServiceResponse};
use actix_web::http::Method;
use actix_web::http::header::{AUTHORIZATION, HeaderMap, WWW_AUTHENTICATE};
use actix_web::middleware::Next;
use actix_web::{Error, ResponseError, web};

use super::error::ApiError;
use super::{AppState, Door};
use crate::config::Scope;

/// Passes a request on, or refuses it.
pub(super) async fn pass(
    state: web::Data<AppState>,
    door: web::Data<Door>,
    request: ServiceRequest,
    next: Next<impl MessageBody + 'static>,
) -> Result<ServiceResponse<actix_web::body::EitherBody<impl MessageBody>>, Error> {
    if !state.access_log {
        return checked(&state, **door, request, next).await;
    }
    let arrived = Instant::now();
    let line = Line::of(&request);
    let answered = checked(&state, **door, request, next).await;
    line.log(arrived, answered.as_ref().map_or(500, |response| response.status().as_u16()));
    answered
}

async fn checked<B: MessageBody + 'static>(
    state: &AppState,
    door: Door,
    request: ServiceRequest,
    next: Next<B>,
) -> Result<ServiceResponse<actix_web::body::EitherBody<B>>, Error> {
    match allowed(state, door, request.method(), request.path(), request.headers()) {
        Ok(()) => Ok(next.call(request).await?.map_into_left_body()),
        Err(error) => {
            let mut response = error.error_response();
            if error.status == actix_web::http::StatusCode::UNAUTHORIZED {
                response.headers_mut().insert(WWW_AUTHENTICATE, actix_web::http::header::HeaderValue::from_static("Bearer"));
            }
            Ok(request.into_response(response).map_into_right_body())
        }
    }
}

fn allowed(state: &AppState, door: Door, method: &Method, path: &str, headers: &HeaderMap) -> Result<(), ApiError> {
    if door == Door::Both && state.open() {
        return Ok(());
    }
    let Some((scope, tenant)) = needed(method, path) else { return Ok(()) };
    if scope == Scope::Admin && door == Door::Public {
        return Err(ApiError::not_found(format!("nothing at {path}: administration has a port of its own")));
    }
    let sent = headers.get(AUTHORIZATION).and_then(|value| value.to_str().ok());
    state.allow(sent, scope, tenant)
}

/// What a request needs a key for, and whom it is about; nothing for health. What is not known here is for administrators, so that a
/// path that is written otherwise than usual, or a new one, is never open by oversight.
fn needed<'p>(method: &Method, path: &'p str) -> Option<(Scope, Option<&'p str>)> {
    let parts: Vec<&str> = path.trim_start_matches('/').split('/').collect();
    let needed = match parts[..] {
        ["" | "v2" | "openapi.json"] | ["v2", "health", "live" | "ready"] if method == Method::GET => return None,
        ["v2", "models", "stats"] => (Scope::Admin, None),
        ["v2", "models", _, "trace", "setting"] => (Scope::Admin, None),
        ["v2", "models", name] | ["v2", "models", name, "versions", _] => (Scope::Inference, Some(name)),
        ["v2", "models", name, "config" | "ready" | "stats" | "infer"]
        | ["v2", "models", name, "versions", _, "config" | "ready" | "stats" | "infer"] => (Scope::Inference, Some(name)),
        ["v1", "tenants", name, ..] => (Scope::Samples, Some(name)),
        _ => (Scope::Admin, None),
    };
    Some(needed)
}

/// A line of the access log. It holds no body and no key.
struct Line {
    peer: String,
    method: String,
    path: String,
    traceparent: String,
}

impl Line {
    fn of(request: &ServiceRequest) -> Line {
        let traceparent = request.headers().get("traceparent").and_then(|value| value.to_str().ok()).unwrap_or_default();
        Line {
            peer: request.peer_addr().map(|peer| peer.to_string()).unwrap_or_default(),
            method: request.method().to_string(),
            path: request.path().to_owned(),
            traceparent: traceparent.to_owned(),
        }
    }

    fn log(&self, arrived: Instant, status: u16) {
        let Line { peer, method, path, traceparent } = self;
        let took_us = u64::try_from(arrived.elapsed().as_micros()).unwrap_or(u64::MAX);
        tracing::info!(target: "migrator::access", %peer, %method, %path, status, took_us, %traceparent, "answered");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_path_needs_what_it_is_for_and_unknown_ones_an_administrator() {
        let get = |path| needed(&Method::GET, path);
        assert_eq!(get("/v2/health/live"), None);
        assert_eq!(get("/v2"), None);
        assert_eq!(get("/v2/models/a/infer"), Some((Scope::Inference, Some("a"))));
        assert_eq!(get("/v2/models/a/versions/3/stats"), Some((Scope::Inference, Some("a"))));
        assert_eq!(get("/v1/tenants/a/samples"), Some((Scope::Samples, Some("a"))));
        for path in [
            "/v2/models/stats",
            "/v2/repository/index",
            "/v2/repository/models/a/unload",
            "/v2/logging",
            "/v2/models/a/trace/setting",
            "/v1/plan",
            "/v2/m%6fdels/a/infer",
            "/v2/models/a/infer/",
            "//v2/models//infer",
        ] {
            let admin = matches!(get(path), Some((Scope::Admin, _))) || get(path) == Some((Scope::Inference, Some("")));
            assert!(admin, "{path}");
        }
    }
}
