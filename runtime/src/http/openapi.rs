//! The OpenAPI document of `/v2` and `/v1`, served at `/openapi.json`: one row for each call.

mod schema;

use actix_web::HttpResponse;
use utoipa::openapi::path::{OperationBuilder, ParameterBuilder, ParameterIn};
use utoipa::openapi::request_body::RequestBodyBuilder;
use utoipa::openapi::schema::{ObjectBuilder, Schema, SchemaType, Type};
use utoipa::openapi::security::{HttpAuthScheme, HttpBuilder, SecurityRequirement, SecurityScheme};
use utoipa::openapi::{ComponentsBuilder, ContentBuilder, HttpMethod, InfoBuilder, OpenApi, OpenApiBuilder, PathsBuilder, Ref};
use utoipa::openapi::{PathItem, Required, ResponseBuilder};

/// A call: method, path, body asked for (if any), what it is.
pub(super) type Call = (&'static str, &'static str, Option<Body>, &'static str);

/// What a call takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Body {
    /// An object that must be there.
    Needed,
    /// An object, or nothing.
    Optional,
}

use Body::{Needed, Optional};

/// Every call, as the routes have them.
pub(super) const CALLS: &[Call] = &[
    ("GET", "/v2", None, "This server and its extensions"),
    ("GET", "/v2/health/live", None, "200 while the process answers"),
    ("GET", "/v2/health/ready", None, "200 when every model is served"),
    ("GET", "/v2/models/{name}", None, "Inputs and outputs of a model"),
    ("GET", "/v2/models/{name}/versions/{version}", None, "The same of a version"),
    ("GET", "/v2/models/{name}/config", None, "Configuration of a model, for load generators"),
    ("GET", "/v2/models/{name}/versions/{version}/config", None, "The same of a version"),
    ("GET", "/v2/models/{name}/ready", None, "200 when a model is served"),
    ("GET", "/v2/models/{name}/versions/{version}/ready", None, "The same of a version"),
    ("GET", "/v2/models/{name}/stats", None, "What a model has answered"),
    ("GET", "/v2/models/{name}/versions/{version}/stats", None, "The same of a version"),
    ("GET", "/v2/models/stats", None, "What all models have answered"),
    ("POST", "/v2/models/{name}/infer", Some(Needed), "Inference"),
    ("POST", "/v2/models/{name}/versions/{version}/infer", Some(Needed), "Inference by a version"),
    ("GET", "/v2/trace/setting", None, "Which requests are traced"),
    ("POST", "/v2/trace/setting", Some(Optional), "Change which requests are traced"),
    ("GET", "/v2/models/{name}/trace/setting", None, "Which requests of a model are traced"),
    ("POST", "/v2/models/{name}/trace/setting", Some(Optional), "Change which requests of a model are traced"),
    ("GET", "/v2/logging", None, "What is logged"),
    ("POST", "/v2/logging", Some(Optional), "Change what is logged"),
    ("POST", "/v2/repository/index", Some(Optional), "Models, versions and states"),
    ("POST", "/v2/repository/models/{name}/load", Some(Optional), "Newest version into service; opens an unloaded model"),
    ("POST", "/v2/repository/models/{name}/unload", Some(Optional), "Refuse a model's requests"),
    ("POST", "/v1/reload", None, "Read the configuration again"),
    ("GET", "/v1/tenants", None, "Requests, SLO attainment, accuracy and retraining of all tenants"),
    ("GET", "/v1/tenants/{tenant}", None, "The same of one tenant"),
    ("POST", "/v1/tenants/{tenant}/samples", Some(Needed), "Labelled samples"),
    ("POST", "/v1/tenants/{tenant}/labels", Some(Needed), "Labels of requests that were answered, by their ids"),
    ("GET", "/v1/partition", None, "The GPUs and their instances"),
    ("GET", "/v1/plan", None, "The plan in force and why"),
    ("POST", "/v1/plan/what-if", Some(Optional), "The plan if something were otherwise"),
    ("GET", "/v1/problem", None, "What the last plan was made for"),
];

/// Calls that need no key.
const OPEN: [&str; 3] = ["/v2", "/v2/health/live", "/v2/health/ready"];

/// Refusals that every call may answer with.
const REFUSALS: [(&str, &str); 9] = [
    ("400", "it does not fit"),
    ("401", "no known key"),
    ("403", "a key that is not for this"),
    ("404", "not there"),
    ("409", "the configuration file has a defect, or a change that needs a restart"),
    ("413", "too large"),
    ("429", "over the tenant's quota; Retry-After says when to try again"),
    ("500", "it failed"),
    ("503", "no capacity now; Retry-After says when to try again"),
];

pub(super) async fn document() -> HttpResponse {
    HttpResponse::Ok().json(build())
}

pub(super) fn build() -> OpenApi {
    let mut paths = PathsBuilder::new();
    for (method, path, body, summary) in CALLS {
        let how = if *method == "GET" { HttpMethod::Get } else { HttpMethod::Post };
        paths = paths.path(*path, PathItem::new(how, operation(method, path, *body, summary)));
    }
    let key = SecurityScheme::Http(HttpBuilder::new().scheme(HttpAuthScheme::Bearer).build());
    let error = ObjectBuilder::new().property("error", typed(Type::String)).required("error");
    let components = ComponentsBuilder::new().schema("Error", error).security_scheme("key", key);
    let info = InfoBuilder::new()
        .title("migrator")
        .version(env!("CARGO_PKG_VERSION"))
        .description(Some("The Open Inference Protocol v2, and what it has no word for at /v1"));
    OpenApiBuilder::new().info(info).paths(paths).components(Some(components.build())).build()
}

fn operation(method: &str, path: &str, body: Option<Body>, summary: &str) -> OperationBuilder {
    let names = path.split('/').filter_map(|part| part.strip_prefix('{')?.strip_suffix('}'));
    let parameters = names.map(|name| {
        let kind = if name == "version" { Type::Integer } else { Type::String };
        ParameterBuilder::new().name(name).parameter_in(ParameterIn::Path).required(Required::True).schema(Some(typed(kind)))
    });
    let id: Vec<&str> = path.split(['/', '{', '}', '-']).filter(|part| !part.is_empty()).collect();
    let mut operation = OperationBuilder::new()
        .summary(Some(summary))
        .tag(if path.starts_with("/v1") { "v1" } else { "v2" })
        .operation_id(Some(format!("{}_{}", method.to_ascii_lowercase(), id.join("_"))))
        .parameters(Some(parameters))
        .response("200", ResponseBuilder::new().description("done"));
    if !OPEN.contains(&path) {
        operation = operation.security(SecurityRequirement::new("key", Vec::<String>::new()));
    }
    if let Some(body) = body {
        let needed = if body == Needed { Required::True } else { Required::False };
        let content = ContentBuilder::new().schema(Some(schema::of(path))).build();
        operation =
            operation.request_body(Some(RequestBodyBuilder::new().required(Some(needed)).content("application/json", content).build()));
    }
    for (status, why) in REFUSALS {
        let content = ContentBuilder::new().schema(Some(Ref::from_schema_name("Error"))).build();
        operation = operation.response(status, ResponseBuilder::new().description(why).content("application/json", content));
    }
    operation
}

fn typed(kind: Type) -> Schema {
    ObjectBuilder::new().schema_type(SchemaType::Type(kind)).build().into()
}

#[cfg(test)]
mod tests {
    use actix_web::http::Method;
    use actix_web::test::TestRequest;
    use serde_json::Value;

    use super::super::tests::front;
    use super::*;

    #[actix_web::test]
    async fn what_is_documented_is_served_and_answers_only_what_is_documented() {
        let front = front();
        let document = front.get("/openapi.json").await.json();
        for (method, path, ..) in CALLS {
            let operation = &document["paths"][path][method.to_ascii_lowercase()];
            assert!(operation.is_object(), "{method} {path}");
            let asked = path.replace("{name}", "a").replace("{tenant}", "a").replace("{version}", "3");
            let got = front.send(TestRequest::default().method(method.parse::<Method>().unwrap()).uri(&asked).set_payload("{")).await;
            assert_ne!(got.status.as_u16(), 405, "{method} {path}");
            let nothing = got.status.as_u16() == 404 && got.error().starts_with("nothing at");
            assert!(!nothing, "{method} {path} is not routed");
            assert!(operation["responses"][got.status.as_str()].is_object(), "{method} {path}: {} is not documented", got.status);
        }
    }

    #[test]
    fn bodies_say_what_they_must_hold() {
        let document = serde_json::to_value(build()).unwrap();
        let schema = |path: &str| document["paths"][path]["post"]["requestBody"]["content"]["application/json"]["schema"].clone();
        assert_eq!(schema("/v2/models/{name}/infer")["required"], serde_json::json!(["inputs"]));
        assert_eq!(schema("/v2/logging")["additionalProperties"], false);
        assert_eq!(schema("/v2/repository/models/{name}/unload")["type"], "object");
        for (_, path, body, _) in CALLS.iter().filter(|call| call.2.is_some()) {
            assert!(schema(path)["properties"].is_object(), "{path}: {body:?}");
        }
    }

    #[test]
    fn what_needs_no_key_says_so() {
        let document = serde_json::to_value(build()).unwrap();
        assert!(document["paths"]["/v2/health/live"]["get"].get("security").is_none());
        assert!(document["paths"]["/v2/models/{name}"]["get"]["security"][0]["key"].is_array());
    }

    #[test]
    fn every_operation_has_an_id_of_its_own() {
        let document = serde_json::to_value(build()).unwrap();
        let operations = document["paths"].as_object().unwrap().values().flat_map(|path| path.as_object().unwrap().values());
        let mut ids: Vec<&Value> = operations.map(|operation| &operation["operationId"]).collect();
        assert_eq!(ids.len(), CALLS.len());
        ids.sort_by_key(|id| id.to_string());
        ids.dedup();
        assert_eq!(ids.len(), CALLS.len());
    }
}
