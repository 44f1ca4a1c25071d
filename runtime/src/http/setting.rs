//! The trace and logging extensions: `/v2/trace/setting`, `/v2/models/{name}/trace/setting`, `/v2/logging`.

use std::collections::BTreeMap;

use actix_web::{HttpRequest, HttpResponse, web};
use bytes::Bytes;
use serde_json::{Map, Number, Value, json};

use super::error::ApiError;
use super::trace::{Changes, Shown};
use super::{AppState, body};
use crate::cli::LogFormat;
use crate::log;

pub(super) async fn trace(state: web::Data<AppState>, http: HttpRequest) -> Result<HttpResponse, ApiError> {
    let tenant = traced(&state, &http)?;
    Ok(HttpResponse::Ok().json(settings(state.trace.show(tenant.as_deref()))))
}

pub(super) async fn change_trace(state: web::Data<AppState>, http: HttpRequest, payload: web::Payload) -> Result<HttpResponse, ApiError> {
    let tenant = traced(&state, &http)?;
    let changes = changes(&object(&http, payload, &state).await?)?;
    state.trace.change(tenant.as_deref(), &changes).map_err(ApiError::bad_request)?;
    Ok(HttpResponse::Ok().json(settings(state.trace.show(tenant.as_deref()))))
}

fn traced(state: &AppState, http: &HttpRequest) -> Result<Option<String>, ApiError> {
    http.match_info().get("name").map(|name| state.tenant(name).map(|tenant| tenant.name.clone())).transpose()
}

/// `trace_level` is a list, the rest are texts.
fn settings(shown: Shown) -> Value {
    let shown = shown.into_iter().map(|(key, values)| {
        let value = if key == "trace_level" { json!(values) } else { values.into_iter().next().unwrap_or_default().into() };
        (key.to_owned(), value)
    });
    Value::Object(shown.collect())
}

fn changes(object: &Map<String, Value>) -> Result<Changes, ApiError> {
    let text = |key: &str, value: &Value| match value {
        Value::String(text) => Ok(text.clone()),
        Value::Number(number) => Ok(whole(number).map_or_else(|| number.to_string(), |whole| whole.to_string())),
        _ => Err(ApiError::bad_request(format!("{}: must be a string", key.escape_debug()))),
    };
    let mut changes = BTreeMap::new();
    for (key, value) in object {
        let values = match value {
            Value::Null => None,
            Value::Array(values) => Some(values.iter().map(|value| text(key, value)).collect::<Result<_, _>>()?),
            value => Some(vec![text(key, value)?]),
        };
        changes.insert(key.clone(), values);
    }
    Ok(changes)
}

/// A whole number, which JSON may also write as `8.0`.
fn whole(number: &Number) -> Option<i128> {
    let fraction = || number.as_f64().filter(|value| value.fract() == 0.0 && value.abs() <= u64::MAX as f64).map(|value| value as i128);
    number.as_i128().or_else(fraction)
}

async fn object(http: &HttpRequest, payload: web::Payload, state: &AppState) -> Result<Map<String, Value>, ApiError> {
    let body: Bytes = body::read(http, payload, state.limits.max_body).await?;
    if body.is_empty() { Ok(Map::new()) } else { body::json(&body) }
}

pub(super) async fn logging() -> HttpResponse {
    HttpResponse::Ok().json(Logging::now().shown())
}

pub(super) async fn change_logging(state: web::Data<AppState>, http: HttpRequest, payload: web::Payload) -> Result<HttpResponse, ApiError> {
    let changed = Logging::now().with(&object(&http, payload, &state).await?)?;
    changed.apply()?;
    Ok(HttpResponse::Ok().json(changed.shown()))
}

/// Logging in the extension's terms.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Logging {
    info: bool,
    warning: bool,
    error: bool,
    verbose: u64,
}

impl Logging {
    /// What is in force.
    pub fn now() -> Logging {
        let filter = log::filter().unwrap_or_else(|| "info".to_owned());
        let levels = filter.split(',').map(|part| part.rsplit('=').next().unwrap_or(part).trim().to_ascii_lowercase());
        let rank = |level: String| ["off", "error", "warn", "info", "debug", "trace"].iter().position(|known| *known == level);
        let most = levels.filter_map(rank).max().unwrap_or(3) as u64;
        Logging { info: most >= 3, warning: most >= 2, error: most >= 1, verbose: most.saturating_sub(3) }
    }

    /// With an object's changes.
    pub fn with(mut self, changes: &Map<String, Value>) -> Result<Logging, ApiError> {
        for (key, value) in changes {
            let wrong = |wanted: &str| ApiError::bad_request(format!("{key}: must be {wanted}"));
            let switch = || value.as_bool().ok_or_else(|| wrong("true or false"));
            match key.as_str() {
                "log_info" => self.info = switch()?,
                "log_warning" => self.warning = switch()?,
                "log_error" => self.error = switch()?,
                "log_verbose_level" => {
                    let level = value.as_number().and_then(whole).and_then(|level| u64::try_from(level).ok());
                    self.verbose = level.ok_or_else(|| wrong("a whole number from 0"))?;
                }
                "log_file" if value == "" => {}
                "log_file" => return Err(wrong("\"\": logs go to standard error")),
                "log_format" if value == self.format() => {}
                "log_format" => return Err(wrong(&format!("{:?}: it is chosen when the server is started", self.format()))),
                _ => return Err(ApiError::bad_request(format!("{}: no such setting", key.escape_debug()))),
            }
        }
        Ok(self)
    }

    /// Puts it in force. A verbose level is this program's own: libraries stay as they are.
    pub fn apply(self) -> Result<(), ApiError> {
        let filter = match (self.verbose, self.info, self.warning, self.error) {
            (1, ..) => "info,migrator=debug",
            (2.., ..) => "info,migrator=trace",
            (0, true, ..) => "info",
            (0, false, true, _) => "warn",
            (0, false, false, true) => "error",
            (0, false, false, false) => "off",
        };
        log::change(filter).map_err(|reason| ApiError::new(actix_web::http::StatusCode::INTERNAL_SERVER_ERROR, reason))
    }

    fn format(self) -> &'static str {
        match log::format() {
            LogFormat::Text => "default",
            LogFormat::Json => "json",
        }
    }

    /// As the extension shows it.
    pub fn shown(self) -> Value {
        json!({
            "log_file": "", "log_info": self.info, "log_warning": self.warning, "log_error": self.error,
            "log_verbose_level": self.verbose, "log_format": self.format(),
        })
    }
}
