//! The plan, the problem it was made for, and the plans of other problems.

use std::sync::Arc;
use std::time::Duration;

use actix_web::http::StatusCode;
use actix_web::http::header::{ACCEPT, ContentType};
use actix_web::{HttpRequest, HttpResponse, web};
use migrator_actors::view::Solved;
use migrator_solver::{Problem, SolveOptions};
use serde_json::{Value, json};

use super::admin::{plain, wants_text};
use super::error::ApiError;
use super::{AppState, body, text};
use crate::plan::{self, Answer, Depth, ProblemFile, what_if};

/// Longest that the solve of a what-if may take, milliseconds: it runs on cores that serve.
const TIME_LIMIT_MS: u32 = 1000;
/// Longest that an answer is waited for; what is solved on after that still keeps the next one out.
const PATIENCE: Duration = Duration::from_secs(10);
/// Largest problem that is solved beside the live one.
const MOST_TENANTS: usize = 256;
/// See [`MOST_TENANTS`].
const MOST_GPUS: usize = 64;

pub(super) async fn plan(state: web::Data<AppState>, http: HttpRequest) -> HttpResponse {
    let view = state.view();
    if wants_text(&http) {
        return plain(text::plan(&view));
    }
    let (plan, report) = view.plan.as_ref().map_or((Value::Null, Value::Null), |(plan, report)| (json!(plan), json!(report)));
    let mut answer = json!({ "plan": plan, "report": report });
    if let Some(solved) = &view.solved {
        answer["gpus"] = plan::gpus(&solved.problem, &solved.outcome.plan);
    }
    if let Some(changed) = &view.changed {
        let report = &changed.outcome.report;
        answer["last_change"] = json!({
            "generation": changed.outcome.plan.generation,
            "at_s": changed.at_s,
            "objective": report.objective,
            "keep_objective": report.keep_objective,
            "changes": report.changes,
        });
    }
    HttpResponse::Ok().json(answer)
}

/// TOML, or JSON where that is asked for.
pub(super) async fn problem(state: web::Data<AppState>, http: HttpRequest) -> Result<HttpResponse, ApiError> {
    let solved = solved(&state)?;
    let file = ProblemFile::of(&solved.problem, &solved.options);
    let accept = http.headers().get(ACCEPT).and_then(|v| v.to_str().ok()).unwrap_or_default();
    let json = http.query_string().split('&').any(|p| p == "format=json") || accept.trim_start().starts_with("application/json");
    if json {
        return Ok(HttpResponse::Ok().json(file));
    }
    Ok(HttpResponse::Ok().insert_header(("content-type", "application/toml; charset=utf-8")).body(file.to_toml()))
}

pub(super) async fn what_if(state: web::Data<AppState>, http: HttpRequest, payload: web::Payload) -> Result<HttpResponse, ApiError> {
    let body = body::read(&http, payload, state.limits.max_body).await?;
    let solved = solved(&state)?;
    let (problem, options) = what_if::ask(&ProblemFile::of(&solved.problem, &solved.options), &body).map_err(ApiError::bad_request)?;
    let answer = solve(&state, bounded(problem)?, options).await?;
    let explained = http.query_string().split('&').any(|p| p == "explain=true" || p == "explain");
    let depth = if explained { Depth::Explained } else { Depth::Plan };
    if wants_text(&http) {
        return Ok(plain(answer.text(depth)));
    }
    Ok(HttpResponse::Ok().insert_header(ContentType::json()).json(answer.json(depth)))
}

fn solved(state: &AppState) -> Result<Arc<Solved>, ApiError> {
    state.view().solved.clone().ok_or_else(|| later("no problem yet: the first solve is still to come"))
}

fn later(message: &str) -> ApiError {
    ApiError { status: StatusCode::SERVICE_UNAVAILABLE, message: message.to_owned(), retry_after: Some(Duration::from_secs(1)) }
}

fn bounded(problem: Problem) -> Result<Problem, ApiError> {
    let (tenants, gpus) = (problem.tenants.len(), problem.gpus.len());
    if tenants <= MOST_TENANTS && gpus <= MOST_GPUS {
        return Ok(problem);
    }
    Err(ApiError::bad_request(format!(
        "{tenants} tenants on {gpus} GPUs: at most {MOST_TENANTS} on {MOST_GPUS} are solved beside the live plan; `migrator plan` takes more"
    )))
}

/// One at a time, off the threads that answer HTTP.
async fn solve(state: &AppState, problem: Problem, options: SolveOptions) -> Result<Answer, ApiError> {
    let busy = |_| later("busy: another what-if is being solved");
    let permit = Arc::clone(&state.what_if).try_acquire_owned().map_err(busy)?;
    let options = SolveOptions { time_limit_ms: options.time_limit_ms.min(TIME_LIMIT_MS), ..options };
    let solve = tokio::task::spawn_blocking(move || {
        let _permit = permit;
        plan::solve(problem, None, &options)
    });
    match tokio::time::timeout(PATIENCE, solve).await {
        Ok(Ok(Ok(answer))) => Ok(answer),
        Ok(Ok(Err(error))) => Err(ApiError::bad_request(error.to_string())),
        Ok(Err(error)) => Err(ApiError::new(StatusCode::INTERNAL_SERVER_ERROR, format!("the solver panicked: {error}"))),
        Err(_) => Err(later("the solve takes too long: ask about less")),
    }
}
