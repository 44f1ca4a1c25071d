//! Reads a request's body up to a limit.

use actix_web::http::StatusCode;
use actix_web::http::header::{CONTENT_ENCODING, CONTENT_LENGTH};
use actix_web::{HttpRequest, web};
use bytes::{Bytes, BytesMut};
use futures::StreamExt;

use super::error::ApiError;

/// Memory set aside for an announced length before that much has come.
const TRUSTED: usize = 4 << 20;

/// The whole body.
///
/// # Errors
/// 413 beyond the limit, 415 when it is compressed, 400 when it ends early.
pub(super) async fn read(request: &HttpRequest, mut payload: web::Payload, limit: usize) -> Result<Bytes, ApiError> {
    let header = |name| request.headers().get(name).and_then(|v| v.to_str().ok());
    if let Some(encoding) = header(CONTENT_ENCODING).filter(|e| !e.eq_ignore_ascii_case("identity")) {
        let message = format!("Content-Encoding {encoding:?} is not supported: send the body uncompressed");
        return Err(ApiError::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, message));
    }
    let announced: usize = header(CONTENT_LENGTH).and_then(|v| v.parse().ok()).unwrap_or(0);
    if announced > limit {
        return Err(too_large(limit));
    }
    let Some(first) = payload.next().await else { return Ok(Bytes::new()) };
    let first = first.map_err(ended_early)?;
    if first.len() > limit {
        return Err(too_large(limit));
    }
    // Small bodies come in one piece, which is used as it is.
    if first.len() >= announced && announced > 0 {
        return Ok(first);
    }
    let mut all = BytesMut::with_capacity(announced.min(TRUSTED).max(first.len()));
    all.extend_from_slice(&first);
    while let Some(chunk) = payload.next().await {
        let chunk = chunk.map_err(ended_early)?;
        if all.len() + chunk.len() > limit {
            return Err(too_large(limit));
        }
        all.extend_from_slice(&chunk);
    }
    Ok(all.freeze())
}

fn too_large(limit: usize) -> ApiError {
    let message = format!("the body is larger than {} MiB (server.max_body_mib)", limit >> 20);
    ApiError::new(StatusCode::PAYLOAD_TOO_LARGE, message)
}

fn ended_early(error: actix_web::error::PayloadError) -> ApiError {
    ApiError::bad_request(format!("the body could not be read: {error}"))
}
