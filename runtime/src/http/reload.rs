//! `POST /v1/reload`: the configuration is read again, as by SIGHUP, and the caller is told what came of it.

use actix_web::http::StatusCode;
use actix_web::{HttpResponse, web};
use serde::Serialize;
use tokio::sync::{mpsc, oneshot};

use super::AppState;
use super::error::ApiError;

/// What a reload has changed: keys of the file, and tenants.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Reloaded {
    /// Keys whose value is another one now.
    pub changed: Vec<String>,
    /// Tenants that have come; each is ready when it has an instance.
    pub added: Vec<String>,
    /// Tenants that leave: what they were asked before is answered first.
    pub removed: Vec<String>,
}

/// A wish to reload: answered with what has changed, or why nothing has.
pub type Wish = oneshot::Sender<Result<Reloaded, String>>;

/// Where wishes are heard.
pub type Wishes = mpsc::Sender<Wish>;

pub(super) async fn reload(state: web::Data<AppState>) -> Result<HttpResponse, ApiError> {
    let busy = || ApiError {
        status: StatusCode::SERVICE_UNAVAILABLE,
        message: "busy: the configuration is being read, or the server starts or stops".to_owned(),
        retry_after: Some(std::time::Duration::from_secs(1)),
    };
    let (wish, answer) = oneshot::channel();
    state.wishes.as_ref().ok_or_else(busy)?.try_send(wish).map_err(|_| busy())?;
    match answer.await.map_err(|_| busy())? {
        Ok(reloaded) => Ok(HttpResponse::Ok().json(reloaded)),
        Err(why) => Err(ApiError::new(StatusCode::CONFLICT, format!("nothing was changed: {}", why.trim_end().replace('\n', "; ")))),
    }
}
