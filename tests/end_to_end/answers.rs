//! What a client sees of a server that serves.

use serde_json::{Value, json};

use crate::harness::{Pair, World, data, eventually, settled};

fn floats(bytes: &[u8]) -> Vec<f32> {
    bytes.chunks(4).map(|raw| f32::from_le_bytes(raw.try_into().unwrap())).collect()
}

#[test]
fn a_trained_model_answers_with_the_right_class_as_json_and_as_binary() {
    let world = World::new(&Pair { window_s: None });
    let server = world.serve();
    let rows = data::readings(64, 0, 77).rows;
    assert!(data::accuracy(&rows, &server.classes("digits", &rows)) >= 0.95);
    let texts = data::texts(64, 77).rows;
    assert!(data::accuracy(&texts, &server.classes("text", &texts)) >= 0.8);

    // The same rows as raw bytes, in both of the protocol's ways, give the same logits.
    let some = &rows[..4];
    let answer = server.infer("digits", some).ok("JSON");
    let logits: Vec<f32> = answer["outputs"][0]["data"].as_array().unwrap().iter().map(|n| n.as_f64().unwrap() as f32).collect();
    let raw: Vec<u8> = some.iter().flat_map(|row| row.features.to_raw()).collect();
    let head = json!({ "inputs": [{ "name": "INPUT0", "shape": [4, data::FEATURES], "datatype": "FP32", "parameters": { "binary_data_size": raw.len() } }],
        "parameters": { "binary_data_output": true } });
    let head = head.to_string();
    let path = "/v2/models/digits/infer";
    let length = head.len().to_string();
    for (length, body) in [(length.as_str(), [head.as_bytes(), &raw].concat()), ("0", raw.clone())] {
        let reply = server.http.post_with(path, &[("Inference-Header-Content-Length", length)], body);
        assert_eq!(reply.status, 200, "{}", reply.text());
        let tail = &reply.body[reply.json_len.unwrap()..];
        let head: Value = serde_json::from_slice(&reply.body[..reply.json_len.unwrap()]).unwrap();
        assert_eq!(head["outputs"][0]["parameters"]["binary_data_size"], tail.len());
        let close = |(a, b): (&f32, &f32)| (a - b).abs() < 1e-4;
        assert!(logits.iter().zip(&floats(tail)).all(close), "{logits:?} {:?}", floats(tail));
        assert_eq!(data::argmax(&floats(tail), 3), data::classes(&answer));
    }
}

#[test]
fn metadata_readiness_and_versions_agree() {
    let world = World::new(&Pair { window_s: None });
    let server = world.serve();
    assert_eq!(server.http.json("/v2")["name"], "migrator");
    assert_eq!(server.http.get("/v2/health/live").status, 200);
    for name in ["digits", "tiny"] {
        let path = format!("/v2/models/{name}");
        let metadata = server.http.json(&path);
        assert_eq!(metadata["name"], name);
        assert_eq!(metadata["versions"], json!(["1"]));
        assert_eq!(metadata["inputs"], json!([{ "name": "INPUT0", "datatype": "FP32", "shape": [-1, data::FEATURES] }]));
        assert_eq!(metadata["outputs"], json!([{ "name": "OUTPUT0", "datatype": "FP32", "shape": [-1, data::CLASSES] }]));
        assert_eq!(server.http.json(&format!("{path}/versions/1")), metadata);
        assert_eq!(server.http.json(&format!("{path}/config"))["max_batch_size"], 8);
        for (ready, status) in [("ready", 200), ("versions/1/ready", 200), ("versions/2/ready", 404), ("versions/2", 404)] {
            assert_eq!(server.http.get(&format!("{path}/{ready}")).status, status, "{ready}");
        }
    }
    let text = server.http.json("/v2/models/text");
    assert_eq!(text["inputs"], json!([{ "name": "INPUT0", "datatype": "BYTES", "shape": [-1, 1] }]));
    for tenant in ["digits", "text"] {
        let seen = server.tenant(tenant);
        assert_eq!((&seen["version"], &seen["ready"]), (&json!(1), &json!(true)), "{seen}");
        assert_eq!(world.store().versions(seen["model"].as_str().unwrap()).unwrap(), [1]);
    }
    let answer = server.infer("digits", &data::readings(1, 0, 5).rows).ok("an answer");
    assert_eq!(answer["model_version"], "1");
}

#[test]
fn the_plan_as_text_names_every_tenant_and_the_partition_serves_them() {
    let world = World::new(&Pair { window_s: None });
    let server = world.serve();
    let plan = eventually("a plan", || {
        let text = server.http.get("/v1/plan?format=text").text();
        (!text.starts_with("no plan yet")).then_some(text)
    });
    for what in ["Plan ", "GPU 0 (cpu)", "What changes and why", "g digits", "g text", "demand", "capacity"] {
        assert!(plan.contains(what), "{what:?} is not in:\n{plan}");
    }
    let json = server.http.json("/v1/plan");
    assert!(json["plan"]["gpus"].is_array() && json["report"]["tenants"].as_array().is_some_and(|t| t.len() == 2), "{json}");
    for tenant in ["digits", "text"] {
        assert!(!server.serving(tenant).is_empty());
        assert!(server.http.get("/v1/partition?format=text").text().contains(&format!("inference of {tenant}")));
        assert!(server.http.get("/v1/tenants?format=text").text().contains(&format!("{tenant}: model")));
    }
}

/// Series that are unknown until the first retraining is over; `retraining` looks at them.
const AFTER_RETRAINING: [&str; 5] = [
    "migrator_retraining_accuracy_before",
    "migrator_retraining_accuracy_after",
    "migrator_retraining_accuracy_foretold",
    "migrator_retraining_core_seconds_foretold",
    "migrator_retraining_core_seconds",
];

/// Series that only a GPU has; `nvidia` looks at them.
pub const OF_A_GPU: [&str; 5] = [
    "migrator_device_events_total",
    "migrator_device_xid_total",
    "migrator_instance_memory_used_bytes",
    "migrator_instance_processes",
    "migrator_instance_busy_ratio",
];

/// Series that `describe` in `actors/src/meter.rs` promises.
fn promised() -> Vec<String> {
    let source = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/actors/src/meter.rs")).unwrap();
    let described = source.lines().filter_map(|line| line.trim().strip_prefix("describe_"));
    let names: Vec<String> = described.filter_map(|call| Some(call.split('"').nth(1)?.to_owned())).collect();
    assert!(names.len() > 20, "{names:?}");
    names
}

#[test]
fn metrics_has_every_series_promised() {
    let world = World::new(&Pair { window_s: None });
    let server = world.serve();
    server.classes("digits", &data::readings(8, 0, 3).rows);
    let added = server.http.post("/v1/tenants/digits/samples", data::samples(&data::readings(8, 0, 4).rows).to_string());
    assert_eq!(added.ok("samples")["accepted"], 8);
    settled("/metrics has every series", || {
        let text = server.metrics.get("/metrics").text();
        let shown: Vec<&str> = text.lines().filter_map(|line| line.strip_prefix("# TYPE ")?.split(' ').next()).collect();
        let later = |name: &str| AFTER_RETRAINING.contains(&name) || OF_A_GPU.contains(&name);
        let missing: Vec<String> = promised().into_iter().filter(|name| !shown.contains(&name.as_str()) && !later(name)).collect();
        if missing.is_empty() { Ok(()) } else { Err(format!("missing: {}", missing.join(", "))) }
    });
    assert_eq!(server.metric("migrator_requests_total", "tenant=\"digits\""), 1.0);
    assert_eq!(server.metric("migrator_invariant_violations_total", ""), 0.0);
}
