//! Bad input: one clear line each, the right status code, and a server that is none the worse.

use serde_json::{Value, json};

use crate::harness::{Pair, Reply, Server, World, data};

fn body(shape: Value, datatype: &str, data: Value) -> String {
    json!({ "inputs": [{ "name": "INPUT0", "shape": shape, "datatype": datatype, "data": data }] }).to_string()
}

/// What is wrong, the path, the body, the status, and what the line must say.
type Case = (&'static str, &'static str, String, u16, &'static str);

fn inference() -> Vec<Case> {
    let digits = "/v2/models/digits/infer";
    let row = json!([1.0, 0, 0, 0, 0, 0, 0, 0]);
    vec![
        ("unknown model", "/v2/models/digitz/infer", body(json!([1, 8]), "FP32", row.clone()), 404, "digitz"),
        ("unknown version", "/v2/models/digits/versions/9/infer", body(json!([1, 8]), "FP32", row.clone()), 404, "version 9"),
        ("wrong shape", digits, body(json!([1, 2, 4]), "FP32", row.clone()), 400, "shape"),
        ("wrong width", digits, body(json!([1, 7]), "FP32", json!([1, 0, 0, 0, 0, 0, 0])), 400, "shape"),
        ("wrong datatype", digits, body(json!([1, 8]), "INT32", row.clone()), 400, "INT32"),
        ("unknown datatype", digits, body(json!([1, 8]), "FP99", row.clone()), 400, "FP99"),
        ("too few elements", digits, body(json!([1, 8]), "FP32", json!([1, 2, 3])), 400, "3"),
        ("too many elements", digits, body(json!([1, 8]), "FP32", json!([1, 2, 3, 4, 5, 6, 7, 8, 9])), 400, "INPUT0"),
        ("too many rows", digits, body(json!([9, 8]), "FP32", json!(vec![0; 72])), 400, "8"),
        ("no rows", digits, body(json!([0, 8]), "FP32", json!([])), 400, "INPUT0"),
        (
            "NaN as a bare word",
            digits,
            r#"{"inputs":[{"name":"INPUT0","shape":[1,8],"datatype":"FP32","data":[NaN,0,0,0,0,0,0,0]}]}"#.into(),
            400,
            "",
        ),
        ("NaN as text", digits, body(json!([1, 8]), "FP32", json!(["NaN", 0, 0, 0, 0, 0, 0, 0])), 400, "NaN"),
        ("a number beyond FP32", digits, body(json!([1, 8]), "FP32", json!([1e300, 0, 0, 0, 0, 0, 0, 0])), 400, "element"),
        ("unknown input", digits, body(json!([1, 8]), "FP32", row.clone()).replace("INPUT0", "pixels"), 400, "pixels"),
        ("no inputs", digits, "{}".into(), 400, "inputs"),
        ("malformed JSON", digits, r#"{"inputs": [{"#.into(), 400, ""),
        ("no JSON at all", digits, "hello".into(), 400, ""),
        ("an empty body", digits, String::new(), 400, "empty"),
        ("numbers for a text model", "/v2/models/text/infer", body(json!([1, 1]), "FP32", json!([1.0])), 400, "BYTES"),
        ("a number where a text belongs", "/v2/models/text/infer", body(json!([1, 1]), "BYTES", json!([7])), 400, ""),
        (
            "text that is not UTF-8 escaped",
            "/v2/models/text/infer",
            r#"{"inputs":[{"name":"INPUT0","shape":[1,1],"datatype":"BYTES","data":["\ud800"]}]}"#.into(),
            400,
            "",
        ),
    ]
}

fn samples() -> Vec<Case> {
    let path = "/v1/tenants/digits/samples";
    let sample = |label: Value, data: Value| json!({ "samples": [{ "label": label, "data": data }] }).to_string();
    vec![
        ("samples of an unknown tenant", "/v1/tenants/nobody/samples", sample(json!(0), json!([0, 0, 0, 0, 0, 0, 0, 0])), 404, "nobody"),
        ("a label that is no class", path, sample(json!(3), json!([0, 0, 0, 0, 0, 0, 0, 0])), 400, "label 3"),
        ("a negative label", path, sample(json!(-1), json!([0, 0, 0, 0, 0, 0, 0, 0])), 400, "label"),
        ("a sample that is too short", path, sample(json!(0), json!([0, 0])), 400, "sample"),
        ("no samples", path, json!({ "samples": [] }).to_string(), 400, "empty"),
    ]
}

fn still_answers(server: &Server, what: &str) {
    let rows = data::readings(1, 0, 9).rows;
    assert_eq!(data::classes(&server.infer("digits", &rows).ok(what)), [rows[0].label], "after {what}");
}

#[test]
fn bad_input_gets_one_clear_line_and_harms_nobody() {
    let world = World::new(&Pair { window_s: None });
    let server = world.serve();
    let workers = server.serving("digits");
    for (what, path, body, status, says) in inference().into_iter().chain(samples()) {
        let reply = server.http.post(path, body);
        assert_eq!(reply.status, status, "{what}: {}", reply.text());
        assert!(reply.error().contains(says), "{what}: {:?} does not say {says:?}", reply.error());
        still_answers(&server, what);
    }
    let reply: Reply = server.http.post_with("/v2/models/digits/infer", &[("Inference-Header-Content-Length", "0")], [0u8; 33]);
    assert_eq!((reply.status, reply.error().contains("33 bytes")), (400, true), "wrong length: {}", reply.text());
    let nan: Vec<u8> = f32::NAN.to_le_bytes().repeat(8);
    let reply = server.http.post_with("/v2/models/digits/infer", &[("Inference-Header-Content-Length", "0")], nan);
    assert_eq!(reply.status, 200, "as raw bytes NaN is a number like any other: {}", reply.text());
    assert_eq!(server.http.get("/v2/models/digits/infer").error(), "GET is not allowed at /v2/models/digits/infer: use POST");
    assert_eq!(server.http.get("/nowhere").status, 404);
    still_answers(&server, "all of it");
    assert_eq!(server.serving("digits"), workers, "a worker died of it");
    assert_eq!((server.tenant("digits")["error"].clone(), server.tenant("text")["error"].clone()), (json!(0), json!(0)));
}

#[test]
fn an_oversized_body_is_refused_before_it_is_read() {
    let world = World::new(&Pair { window_s: None });
    let server = world.serve();
    let head = "POST /v2/models/digits/infer HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n";
    let mut announced = server.http.connect();
    announced.write(format!("{head}Content-Length: 2097152\r\n\r\n").as_bytes());
    let mut unannounced = server.http.connect();
    unannounced.write(format!("{head}Transfer-Encoding: chunked\r\n\r\n100001\r\n").as_bytes());
    unannounced.write(&vec![b' '; 0x10_0001]);
    for (what, connection) in [("announced", &mut announced), ("unannounced", &mut unannounced)] {
        let (status, body) = connection.read().unwrap_or_else(|e| panic!("{what}: {e}"));
        assert_eq!((status, body.contains("larger than 1 MiB")), (413, true), "{what}: {body}");
    }
    still_answers(&server, "oversized bodies");
}
