//! What a request that gets no answer is told: always `{"error": "…"}`, always `application/json`.

use std::fmt;
use std::time::Duration;

use actix_web::http::StatusCode;
use actix_web::http::header::{ACCEPT_ENCODING, RETRY_AFTER};
use actix_web::{HttpResponse, ResponseError};
use migrator_actors::message::{InferError, SampleError};
use serde_json::json;

/// A refusal or a failure, with its status.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ApiError {
    /// The status code.
    pub status: StatusCode,
    /// One line.
    pub message: String,
    /// When trying again makes sense.
    pub retry_after: Option<Duration>,
}

impl ApiError {
    /// A refusal that trying again does not change.
    pub fn new(status: StatusCode, message: impl Into<String>) -> ApiError {
        ApiError { status, message: message.into(), retry_after: None }
    }

    /// 400.
    pub fn bad_request(message: impl Into<String>) -> ApiError {
        ApiError::new(StatusCode::BAD_REQUEST, message)
    }

    /// 404.
    pub fn not_found(message: impl Into<String>) -> ApiError {
        ApiError::new(StatusCode::NOT_FOUND, message)
    }

    /// 415: the body is packed in a way that is not understood.
    pub fn encoding(name: &str) -> ApiError {
        let message = format!("Content-Encoding {name:?} is not supported: send gzip, deflate or the body as it is");
        ApiError::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, message)
    }

    /// 404: the model was unloaded.
    pub fn unloaded(name: &str) -> ApiError {
        ApiError::not_found(format!("model {name:?} is unloaded: POST /v2/repository/models/{name}/load brings it back"))
    }

    /// 503: the server is shutting down.
    pub fn draining() -> ApiError {
        let retry_after = Some(Duration::from_secs(1));
        ApiError { status: StatusCode::SERVICE_UNAVAILABLE, message: "the server is shutting down".to_owned(), retry_after }
    }
}

impl fmt::Display for ApiError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl ResponseError for ApiError {
    fn status_code(&self) -> StatusCode {
        self.status
    }

    fn error_response(&self) -> HttpResponse {
        let mut response = HttpResponse::build(self.status);
        if let Some(after) = self.retry_after {
            let seconds = after.as_millis().div_ceil(1000).max(1);
            response.insert_header((RETRY_AFTER, seconds.to_string()));
        }
        if self.status == StatusCode::UNSUPPORTED_MEDIA_TYPE {
            response.insert_header((ACCEPT_ENCODING, "gzip, deflate"));
        }
        response.json(json!({ "error": self.message }))
    }
}

impl From<InferError> for ApiError {
    fn from(error: InferError) -> ApiError {
        let (status, retry_after) = match &error {
            InferError::Shed { retry_after, .. } => (StatusCode::SERVICE_UNAVAILABLE, Some(*retry_after)),
            // Its instance gets a new worker meanwhile.
            InferError::WorkerLost => (StatusCode::SERVICE_UNAVAILABLE, Some(Duration::from_secs(1))),
            InferError::Failed(_) => (StatusCode::INTERNAL_SERVER_ERROR, None),
        };
        ApiError { status, message: error.to_string(), retry_after }
    }
}

impl From<SampleError> for ApiError {
    fn from(error: SampleError) -> ApiError {
        let (status, retry_after) = match &error {
            SampleError::Store(_) => (StatusCode::INTERNAL_SERVER_ERROR, None),
            SampleError::Busy => (StatusCode::SERVICE_UNAVAILABLE, Some(Duration::from_secs(1))),
        };
        ApiError { status, message: error.to_string(), retry_after }
    }
}
