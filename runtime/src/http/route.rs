//! Which URL is answered by what.

use actix_web::http::header::ALLOW;
use actix_web::http::{Method, StatusCode};
use actix_web::{FromRequest, Handler, HttpRequest, HttpResponse, Resource, Responder, ResponseError, web};

use super::error::ApiError;
use super::{admin, inference, label, model, openapi, plan, reload, repository, setting, statistic};

/// A model, and a version of it.
const MODELS: [&str; 2] = ["/v2/models/{name}", "/v2/models/{name}/versions/{version:[0-9]+}"];

/// All routes.
pub(super) fn routes(config: &mut web::ServiceConfig) {
    // A path is tried against one pattern after the other: what is asked most comes first.
    for model in MODELS {
        config.service(post(&format!("{model}/infer"), inference::infer));
    }
    config.service(get("/", admin::index));
    config.service(get("/openapi.json", openapi::document));
    config.service(get("/v2", model::server));
    config.service(get("/v2/health/live", model::live));
    config.service(get("/v2/health/ready", model::server_ready));
    // Before the models: none may be called so.
    config.service(get("/v2/models/stats", statistic::of_all));
    for model in MODELS {
        config.service(get(model, model::metadata));
        config.service(get(&format!("{model}/config"), model::configuration));
        config.service(get(&format!("{model}/ready"), model::ready));
        config.service(get(&format!("{model}/stats"), statistic::of_model));
    }
    for setting in ["/v2/trace/setting", "/v2/models/{name}/trace/setting"] {
        config.service(both(setting, setting::trace, setting::change_trace));
    }
    config.service(both("/v2/logging", setting::logging, setting::change_logging));
    config.service(post("/v2/repository/index", repository::index));
    config.service(post("/v2/repository/models/{name}/load", repository::load));
    config.service(post("/v2/repository/models/{name}/unload", repository::unload));
    config.service(post("/v2/repository/{repository}/index", repository::named));
    config.service(post("/v2/repository/{repository}/models/{name}/load", repository::named));
    config.service(post("/v2/repository/{repository}/models/{name}/unload", repository::named));
    config.service(post("/v1/reload", reload::reload));
    config.service(get("/v1/tenants", admin::tenants));
    config.service(get("/v1/tenants/{tenant}", admin::tenant));
    config.service(post("/v1/tenants/{tenant}/samples", admin::samples));
    config.service(post("/v1/tenants/{tenant}/labels", label::labels));
    config.service(get("/v1/partition", admin::partition));
    config.service(get("/v1/plan", plan::plan));
    config.service(post("/v1/plan/what-if", plan::what_if));
    config.service(get("/v1/problem", plan::problem));
    config.default_service(web::to(not_found));
}

fn get<F, Args>(path: &str, handler: F) -> Resource
where
    F: Handler<Args>,
    Args: FromRequest + 'static,
    F::Output: Responder + 'static,
{
    only(path, Method::GET, handler)
}

fn post<F, Args>(path: &str, handler: F) -> Resource
where
    F: Handler<Args>,
    Args: FromRequest + 'static,
    F::Output: Responder + 'static,
{
    only(path, Method::POST, handler)
}

/// One method; the others are told which.
fn only<F, Args>(path: &str, method: Method, handler: F) -> Resource
where
    F: Handler<Args>,
    Args: FromRequest + 'static,
    F::Output: Responder + 'static,
{
    let allowed = if method == Method::GET { "GET" } else { "POST" };
    web::resource(path).route(web::method(method).to(handler)).default_service(refusing(allowed))
}

/// GET shows it, POST changes it.
fn both<F, G, A, B>(path: &str, show: F, change: G) -> Resource
where
    F: Handler<A>,
    A: FromRequest + 'static,
    F::Output: Responder + 'static,
    G: Handler<B>,
    B: FromRequest + 'static,
    G::Output: Responder + 'static,
{
    web::resource(path).route(web::get().to(show)).route(web::post().to(change)).default_service(refusing("GET or POST"))
}

fn refusing(allowed: &'static str) -> actix_web::Route {
    web::to(move |request: HttpRequest| async move { wrong_method(&request, allowed) })
}

fn wrong_method(request: &HttpRequest, allowed: &'static str) -> HttpResponse {
    let message = format!("{} is not allowed at {}: use {allowed}", request.method(), request.path());
    let mut response = ApiError::new(StatusCode::METHOD_NOT_ALLOWED, message).error_response();
    if let Ok(value) = allowed.replace(" or ", ", ").parse() {
        response.headers_mut().insert(ALLOW, value);
    }
    response
}

async fn not_found(request: HttpRequest) -> ApiError {
    ApiError::not_found(format!("nothing at {}: see /", request.path()))
}

impl Responder for ApiError {
    type Body = actix_web::body::BoxBody;

    fn respond_to(self, _: &HttpRequest) -> HttpResponse {
        self.error_response()
    }
}
