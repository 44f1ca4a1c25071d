//! Reads a request's body up to a limit.

use std::time::Duration;

use actix_web::http::StatusCode;
use actix_web::http::header::CONTENT_LENGTH;
use actix_web::{HttpRequest, web};
use bytes::{Bytes, BytesMut};
use futures::StreamExt;
use serde::de::DeserializeOwned;

use super::codec::Codec;
use super::error::ApiError;

/// Memory set aside for an announced length before that much has come.
const TRUSTED: usize = 4 << 20;

/// Longest that a whole body may take to arrive: who sends slower holds a connection, not a request.
const PATIENCE: Duration = Duration::from_secs(60);
/// Packed bodies above this are unpacked off the threads that answer: they may be a thousand times as long.
const UNPACKED_HERE: usize = 4096;

/// The whole body, unpacked.
///
/// # Errors
/// 413 beyond the limit, 415 when it is packed in a way that is not understood, 400 when it ends early, 408 when it comes too slowly.
pub(super) async fn read(request: &HttpRequest, payload: web::Payload, limit: usize) -> Result<Bytes, ApiError> {
    let codec = Codec::of_body(request)?;
    let body = as_sent(request, payload, limit, PATIENCE).await?;
    let Some(codec) = codec else { return Ok(body) };
    let unpacked = if body.len() <= UNPACKED_HERE {
        codec.unpack(&body, limit)
    } else {
        let unpacking = tokio::task::spawn_blocking(move || codec.unpack(&body, limit));
        unpacking.await.unwrap_or_else(|e| Err(Some(e.to_string())))
    };
    unpacked.map_err(|error| error.map_or_else(|| too_large(limit), ApiError::bad_request))
}

/// A small body of JSON, an object.
///
/// # Errors
/// 400 with what is wrong.
pub(super) fn json<T: DeserializeOwned>(body: &[u8]) -> Result<T, ApiError> {
    // Where a list comes instead, serde takes its elements for the fields in their order.
    if body.trim_ascii_start().first() == Some(&b'[') {
        return Err(ApiError::bad_request("the body is a list: it must be an object"));
    }
    serde_json::from_slice(body).map_err(|e| ApiError::bad_request(e.to_string()))
}

async fn as_sent(request: &HttpRequest, payload: web::Payload, limit: usize, patience: Duration) -> Result<Bytes, ApiError> {
    let announced = request.headers().get(CONTENT_LENGTH).and_then(|v| v.to_str().ok()?.parse().ok()).unwrap_or(0usize);
    if announced > limit {
        return Err(too_large(limit));
    }
    tokio::time::timeout(patience, whole(announced, payload, limit)).await.unwrap_or_else(|_| {
        let message = format!("the body took more than {} s to arrive", patience.as_secs());
        Err(ApiError::new(StatusCode::REQUEST_TIMEOUT, message))
    })
}

async fn whole(announced: usize, mut payload: web::Payload, limit: usize) -> Result<Bytes, ApiError> {
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

#[cfg(test)]
mod tests {
    use actix_web::FromRequest;
    use actix_web::error::PayloadError;
    use actix_web::test::TestRequest;
    use futures::stream;

    use super::*;

    /// Reads a body of which these pieces come, and then nothing more; or it ends.
    async fn sent(pieces: &[&'static str], ends: bool, patience: Duration) -> Result<Bytes, u16> {
        let pieces: Vec<Result<Bytes, PayloadError>> = pieces.iter().map(|piece| Ok(Bytes::from_static(piece.as_bytes()))).collect();
        let come = stream::iter(pieces);
        let payload = if ends { come.boxed_local() } else { come.chain(stream::pending()).boxed_local() };
        let request = TestRequest::default().to_http_request();
        let payload = web::Payload::from_request(&request, &mut actix_web::dev::Payload::Stream { payload }).await.unwrap();
        as_sent(&request, payload, 100, patience).await.map_err(|error| error.status.as_u16())
    }

    #[actix_web::test]
    async fn whoever_stops_sending_is_told_408_from_the_first_piece_on() {
        for begun in [&[][..], &["ab"], &["ab", "cd"]] {
            assert_eq!(sent(begun, false, Duration::ZERO).await, Err(408), "{begun:?}");
        }
    }

    #[actix_web::test]
    async fn a_body_that_ends_is_read_whole() {
        assert_eq!(sent(&[], true, PATIENCE).await.unwrap(), "");
        assert_eq!(sent(&["ab", "cd"], true, PATIENCE).await.unwrap(), "abcd");
    }
}
