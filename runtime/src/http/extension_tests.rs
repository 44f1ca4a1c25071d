//! The protocol's extensions against fake tenants.

use actix_web::http::StatusCode;
use actix_web::test::TestRequest;
use serde_json::{Value, json};

use super::Door;
use super::codec::Codec;
use super::limit::Quota;
use super::statistic;
use super::tests::{Front, GOOD, Got, floats, front};

fn body(extra: Value) -> String {
    let mut all = json!({"inputs": [{"name": "INPUT0", "shape": [1, 3], "datatype": "FP32", "data": [1, 2, 3]}]});
    all.as_object_mut().unwrap().extend(extra.as_object().unwrap().clone());
    all.to_string()
}

#[actix_web::test]
async fn only_extensions_that_work_are_named() {
    let extensions = front().get("/v2").await.json()["extensions"].clone();
    for name in ["classification", "statistics", "model_repository", "binary_tensor_data", "trace", "logging"] {
        assert!(extensions.as_array().unwrap().contains(&name.into()), "{name}");
    }
    for name in ["system_shared_memory", "cuda_shared_memory", "sequence"] {
        assert!(!extensions.as_array().unwrap().contains(&name.into()), "{name}");
    }
}

#[actix_web::test]
async fn a_classification_is_texts_of_value_and_class() {
    let front = front();
    let asked = |parameters: Value| body(json!({"outputs": [{"name": "OUTPUT0", "parameters": parameters}]}));
    let got = front.infer("a", &asked(json!({"classification": 1}))).await.json();
    assert_eq!(got["outputs"][0], json!({"name": "OUTPUT0", "datatype": "BYTES", "shape": [1, 1], "data": ["0.500000:0"]}));
    let got = front.infer("a", &asked(json!({"classification": 9, "binary_data": true}))).await;
    let json_len: usize = got.header("inference-header-content-length").parse().unwrap();
    let head: Value = serde_json::from_slice(&got.body[..json_len]).unwrap();
    assert_eq!((head["outputs"][0]["shape"].clone(), &got.body[json_len..json_len + 14]), (json!([1, 2]), &b"\x0a\0\0\x000.500000:0"[..]));
    let got = front.infer("a", &asked(json!({"classification": 0}))).await;
    assert_eq!((got.status, got.error().contains("from 1")), (StatusCode::BAD_REQUEST, true));
}

#[actix_web::test]
async fn parameters_are_what_they_may_be_or_are_refused() {
    let front = front();
    let good = body(json!({"parameters": {"priority": 1, "timeout": 5000, "note": "x", "weight": 1.5, "deep": true}}));
    assert_eq!(front.infer("a", &good).await.status, StatusCode::OK);
    let seen = front.fakes["a"].seen.lock().unwrap().pop().unwrap();
    assert_eq!(seen.timeout, Some(std::time::Duration::from_millis(5)));
    for (parameters, line) in [
        (json!({"priority": -1}), "parameters: priority: "),
        (json!({"timeout": "soon"}), "parameters: timeout: "),
        (json!({"triton_x": 1}), "parameters: triton_x: names that begin with"),
        (json!({"note": [1]}), "parameters: note: "),
        (json!({"binary_data_output": 1}), "parameters: binary_data_output: "),
    ] {
        let got = front.infer("a", &body(json!({"parameters": parameters}))).await;
        assert!(got.status == StatusCode::BAD_REQUEST && got.error().starts_with(line), "{}", got.error());
    }
}

async fn packed(front: &Front, codec: Codec, body: Vec<u8>) -> Got {
    let request = TestRequest::post().uri("/v2/models/a/infer").insert_header(("content-encoding", codec.name()));
    front.send(request.set_payload(body)).await
}

#[actix_web::test]
async fn packed_bodies_are_understood_and_given() {
    let front = front();
    let spaces = format!("{GOOD}{}", " ".repeat(8000));
    for codec in [Codec::Gzip, Codec::Deflate] {
        let got = packed(&front, codec, codec.pack(spaces.as_bytes()).unwrap()).await;
        assert_eq!(got.status, StatusCode::OK, "{:?}", got.body);
        let got = packed(&front, codec, b"nonsense".to_vec()).await;
        assert!(got.status == StatusCode::BAD_REQUEST && got.error().starts_with("the body is no "), "{}", got.error());
        let bomb = codec.pack(&vec![b' '; (1 << 20) + 1]).unwrap();
        assert!(bomb.len() < 10_000);
        assert_eq!(packed(&front, codec, bomb).await.status, StatusCode::PAYLOAD_TOO_LARGE);
    }
    let ask = |id: &str| TestRequest::post().uri("/v2/models/a/infer").set_payload(body(json!({"id": id})));
    let long = front.send(ask(&"x".repeat(4000)).insert_header(("accept-encoding", "gzip"))).await;
    assert_eq!((long.header("content-encoding"), long.header("vary")), ("gzip", "accept-encoding"));
    let plain = Codec::Gzip.unpack(&long.body, 1 << 20).unwrap();
    assert_eq!(serde_json::from_slice::<Value>(&plain).unwrap()["outputs"][0]["data"], json!([0.5, 0.5]));
    let short = front.send(ask("x").insert_header(("accept-encoding", "gzip"))).await;
    assert_eq!(short.header("content-encoding"), "", "a short answer stays as it is");
}

#[actix_web::test]
async fn statistics_are_told_as_json_and_as_tritons_series() {
    let front = front();
    let got = front.get("/v2/models/a/versions/3/stats").await.json();
    let stats = &got["model_stats"][0];
    assert_eq!((&stats["name"], &stats["version"], &stats["inference_count"]), (&json!("a"), &json!("3"), &json!(7)));
    assert_eq!(stats["inference_stats"]["success"], json!({"count": 5, "ns": 150_000}));
    assert_eq!(stats["inference_stats"]["fail"]["count"], 2);
    assert_eq!(stats["inference_stats"]["cache_hit"]["count"], 0);
    assert_eq!(stats["batch_stats"][0]["batch_size"], 4);
    assert_eq!(front.get("/v2/models/stats").await.json()["model_stats"].as_array().unwrap().len(), front.fakes.len());
    assert_eq!(front.get("/v2/models/nope/stats").await.status, StatusCode::NOT_FOUND);
    let series = statistic::series(&front.state);
    for line in [
        "nv_inference_request_success{model=\"a\",version=\"3\"} 5",
        "nv_inference_count{model=\"a\",version=\"3\"} 7",
        "nv_inference_request_failure{model=\"a\",version=\"3\",reason=\"REJECTED\"} 2",
        "nv_inference_request_duration_us{model=\"a\",version=\"3\"} 150",
        "# TYPE nv_inference_pending_request_count gauge",
    ] {
        assert!(series.lines().any(|l| l == line), "{line} is not in {series}");
    }
}

#[actix_web::test]
async fn an_unloaded_model_is_refused_until_it_is_loaded() {
    let front = front();
    assert_eq!(front.post("/v2/repository/models/a/unload", r#"{"parameters":{"unload_dependents":false}}"#).await.status, StatusCode::OK);
    let got = front.infer("a", GOOD).await;
    assert_eq!((got.status, got.error().starts_with("model \"a\" is unloaded")), (StatusCode::NOT_FOUND, true));
    assert_eq!(front.get("/v2/models/a/ready").await.status, StatusCode::NOT_FOUND);
    let index = front.post("/v2/repository/index", "").await.json();
    assert_eq!(index[0], json!({"name": "a", "version": "3", "state": "UNAVAILABLE", "reason": "unloaded"}));
    let ready = front.post("/v2/repository/index", r#"{"ready":true}"#).await.json();
    assert!(!ready.as_array().unwrap().iter().any(|entry| entry["name"] == "a" || entry["name"] == "unserved"));
    assert_eq!(front.post("/v2/repository/models/a/load", "{}").await.status, StatusCode::OK);
    assert_eq!(front.infer("a", GOOD).await.status, StatusCode::OK);
    for (path, body, status) in [
        ("/v2/repository/models/nope/load", "", 404),
        ("/v2/repository/models/nope/unload", "", 404),
        ("/v2/repository/models/unserved/load", "", 500),
        ("/v2/repository/models/a/load", r#"{"parameters":{"config":"{}"}}"#, 400),
        ("/v2/repository/models/a/load", "[", 400),
        ("/v2/repository/other/index", "", 501),
        ("/v2/repository/other/models/a/load", "", 501),
    ] {
        let got = front.post(path, body).await;
        assert_eq!(got.status.as_u16(), status, "{path}: {}", got.error());
    }
}

#[actix_web::test]
async fn trace_settings_are_kept_for_all_and_for_a_model() {
    let front = front();
    let all = front.get("/v2/trace/setting").await.json();
    assert_eq!((&all["trace_level"], &all["trace_rate"]), (&json!(["OFF"]), &json!("1000")));
    let own = front.post("/v2/models/a/trace/setting", r#"{"trace_level":["TIMESTAMPS"],"trace_rate":"1"}"#).await.json();
    assert_eq!((&own["trace_level"], &own["trace_rate"]), (&json!(["TIMESTAMPS"]), &json!("1")));
    assert_eq!(front.get("/v2/trace/setting").await.json(), all);
    assert_eq!(front.post("/v2/models/a/trace/setting", r#"{"trace_level":null,"trace_rate":null}"#).await.json(), all);
    assert_eq!(front.post("/v2/trace/setting", r#"{"trace_rate":"x"}"#).await.status, StatusCode::BAD_REQUEST);
    assert_eq!(front.get("/v2/models/nope/trace/setting").await.status, StatusCode::NOT_FOUND);
    let wrong = front.send(TestRequest::delete().uri("/v2/trace/setting")).await;
    assert_eq!((wrong.status.as_u16(), wrong.header("allow")), (405, "GET, POST"));
}

#[actix_web::test]
async fn logging_is_shown_and_bad_changes_are_refused() {
    let front = front();
    let shown = front.get("/v2/logging").await.json();
    assert_eq!((&shown["log_info"], &shown["log_verbose_level"], &shown["log_file"]), (&json!(true), &json!(0), &json!("")));
    for body in [r#"{"log_info":1}"#, r#"{"log_file":"/tmp/x"}"#, r#"{"log_format":"ISO8601"}"#, r#"{"nope":1}"#, "["] {
        assert_eq!(front.post("/v2/logging", body).await.status, StatusCode::BAD_REQUEST, "{body}");
    }
}

#[actix_web::test]
async fn raw_tensors_still_reach_the_tenant_as_they_are() {
    let front = front();
    let request = TestRequest::post().uri("/v2/models/a/infer").insert_header(("inference-header-content-length", "0"));
    let got = front.send(request.set_payload(floats(&[1.0, 2.0, 3.0]))).await;
    assert_eq!(got.status, StatusCode::OK);
    assert_eq!(front.fakes["a"].seen.lock().unwrap()[0].inputs[0], floats(&[1.0, 2.0, 3.0]));
}

fn keyed() -> Front {
    use sha2::{Digest, Sha256};

    use super::key::{Access, Key, Keys};
    use crate::config::Scope;
    let front = front();
    let key = |name: &str, tenants: &[&str], scopes: &[Scope]| {
        let tenants = tenants.iter().map(|tenant| (*tenant).to_owned()).collect();
        Key { name: name.to_owned(), sha256: Sha256::digest(name.as_bytes()).into(), tenants, scopes: scopes.to_vec() }
    };
    let own = key("own", &["a"], &[Scope::Inference]);
    let keys = Keys(vec![own, key("feeder", &[], &[Scope::Samples]), key("root", &[], &[Scope::Admin])]);
    front.state.set_access(Access { keys, tokens: None });
    front
}

#[actix_web::test]
async fn with_keys_every_request_needs_one_that_is_for_it() {
    let front = keyed();
    for (method, path, key, status) in [
        ("GET", "/v2/health/live", "", 200),
        ("GET", "/v2", "", 200),
        ("POST", "/v2/models/a/infer", "", 401),
        ("POST", "/v2/models/a/infer", "wrong", 401),
        ("POST", "/v2/models/a/infer", "own", 200),
        ("POST", "/v2/models/digits/infer", "own", 200),
        ("POST", "/v2/models/text/infer", "own", 403),
        ("POST", "/v2/models/a/infer", "feeder", 403),
        ("POST", "/v2/models/a/infer", "root", 200),
        ("POST", "/v2/m%6fdels/a/infer", "own", 403),
        ("GET", "/v2/models/a/stats", "own", 200),
        ("GET", "/v2/models/stats", "own", 403),
        ("GET", "/v2/models/stats", "root", 200),
        ("POST", "/v2/repository/models/a/unload", "own", 403),
        ("GET", "/v1/plan", "own", 403),
        ("GET", "/v1/plan", "root", 200),
        ("GET", "/nope", "own", 403),
        ("GET", "/nope", "root", 404),
    ] {
        let request = TestRequest::default().method(method.parse().unwrap()).uri(path).set_payload(GOOD);
        let got = front.send(request.insert_header(("authorization", format!("Bearer {key}")))).await;
        assert_eq!(got.status.as_u16(), status, "{method} {path} with {key:?}: {:?}", got.body);
        assert_eq!(got.header("www-authenticate"), if status == 401 { "Bearer" } else { "" });
    }
}

#[actix_web::test]
async fn administration_may_have_a_port_of_its_own() {
    let mut front = front();
    front.door = Door::Public;
    assert_eq!(front.get("/v1/plan").await.status, StatusCode::NOT_FOUND);
    assert_eq!(front.post("/v2/repository/models/a/unload", "").await.status, StatusCode::NOT_FOUND);
    assert_eq!(front.infer("a", GOOD).await.status, StatusCode::OK);
    front.door = Door::Admin;
    assert_eq!(front.get("/v1/plan").await.status, StatusCode::OK);
    assert_eq!(front.infer("a", GOOD).await.status, StatusCode::OK);
}

#[actix_web::test]
async fn a_tenant_over_its_quota_is_told_429_and_the_others_are_not() {
    let front = front();
    front.state.set_quota("a", Quota { rate_rps: Some(0.001), burst: Some(2), ..Quota::default() });
    let mut statuses = Vec::new();
    for _ in 0..4 {
        statuses.push(front.infer("a", GOOD).await.status.as_u16());
    }
    assert_eq!(statuses, [200, 200, 429, 429]);
    let got = front.infer("a", GOOD).await;
    assert!(got.header("retry-after").parse::<u64>().unwrap() > 900 && got.error().starts_with("tenant \"a\" is over its quota"));
    assert_eq!(front.infer("twin-1", GOOD).await.status, StatusCode::OK);
}

#[actix_web::test]
async fn a_leaving_server_says_so_and_goes_on_answering() {
    let front = front();
    front.state.leave();
    assert_eq!(front.get("/v2/models/a/ready").await.status, StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(front.infer("a", GOOD).await.status, StatusCode::OK);
}
