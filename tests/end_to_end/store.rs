//! What comes from disk: model versions, model files, configurations.

use crate::harness::{Pair, World, data, run};

/// Flips one byte in the middle: the size stays, the checksum does not.
fn corrupt(file: &std::path::Path) {
    let mut bytes = std::fs::read(file).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 0xff;
    std::fs::write(file, bytes).unwrap();
}

#[test]
fn a_corrupt_version_is_named_and_the_one_before_it_is_served() {
    let world = World::new(&Pair { window_s: None });
    world.train("digits", &data::readings(400, 0, 2));
    assert_eq!(world.run(&["models", "verify"]).code, 0);
    corrupt(&world.weights("tiny", 2));
    let verified = world.run(&["models", "verify"]);
    assert_eq!(verified.code, 1, "{verified:?}");
    let broken: Vec<&str> = verified.out.lines().filter(|line| line.contains("tiny version 2")).collect();
    assert!(broken.len() == 1 && broken[0].contains("sha256"), "{verified:?}");
    assert!(verified.out.contains("2 complete, 1 broken"), "{verified:?}");

    let server = world.serve();
    assert_eq!(server.tenant("digits")["version"], 1);
    let rows = data::readings(32, 0, 3).rows;
    assert!(data::accuracy(&rows, &server.classes("digits", &rows)) >= 0.95);
    let said = server.log().lines().any(|line| line.contains("sha256") && line.contains("tiny"));
    assert!(said, "the log does not say which version was skipped");
}

#[test]
fn a_server_without_any_complete_version_says_what_to_do() {
    let world = World::new(&Pair { window_s: None });
    corrupt(&world.weights("tiny", 1));
    let ran = world.run(&["serve", "--http-port", "0", "--metrics-port", "0", "--grpc-port", "0"]);
    let line = ran.one_line();
    assert!(line.contains("digits") && line.contains("tiny"), "{line}");
}

fn torchscript(features: u32) -> World {
    World::untrained(&format!(
        r#"
[retraining]
enabled = false

[[tenants]]
name = "script"
slo_ms = 500

[tenants.model]
name = "script"
classes = 10
max_batch = 4
source = {{ source = "torchscript", inputs = [{{ name = "PIXELS", datatype = "FP32", shape = [{features}] }}] }}
"#
    ))
}

fn fixture(name: &str) -> String {
    format!("{}/tests/fixture/{name}", env!("CARGO_MANIFEST_DIR"))
}

#[test]
fn a_file_that_is_no_torchscript_is_refused_in_one_line() {
    let world = torchscript(64);
    for name in ["legacy.pt", "state_dict.pt", "export.py"] {
        let ran = world.run(&["models", "import", "--tenant", "script", "--file", &fixture(name)]);
        let line = ran.one_line();
        assert!(line.starts_with("error: ") && line.contains(name), "{name}: {line}");
        assert!(world.store().versions("script").unwrap().is_empty(), "{name} became a version");
    }
    let missing = world.run(&["models", "import", "--tenant", "script", "--file", "nowhere.pt"]);
    assert!(missing.one_line().contains("nowhere.pt"));
}

#[test]
fn an_imported_torchscript_model_answers_with_the_logits_of_pytorch() {
    let world = torchscript(64);
    let ran = world.run(&["models", "import", "--tenant", "script", "--file", &fixture("digits_mlp.pt")]);
    assert_eq!(ran.code, 0, "{ran:?}");
    let server = world.serve();
    // As in tests/fixture/export.py.
    let rows: Vec<f32> = (0..3).flat_map(|row| (0..64).map(move |i| ((row * 7 + i) % 17) as f32 / 16.0)).collect();
    let inputs = serde_json::json!([{ "name": "PIXELS", "shape": [3, 64], "datatype": "FP32", "data": rows }]);
    let answer = server.http.post("/v2/models/script/infer", serde_json::json!({ "inputs": inputs }).to_string()).ok("an answer");
    let got: Vec<f32> = answer["outputs"][0]["data"].as_array().unwrap().iter().map(|n| n.as_f64().unwrap() as f32).collect();
    let bytes = std::fs::read(fixture("digits_mlp.logits")).unwrap();
    let wanted: Vec<f32> = bytes.chunks(4).map(|raw| f32::from_le_bytes(raw.try_into().unwrap())).collect();
    assert_eq!(got.len(), wanted.len());
    assert!(got.iter().zip(&wanted).all(|(a, b)| (a - b).abs() < 1e-4), "{got:?} {wanted:?}");
}

#[test]
fn a_model_file_of_another_shape_never_becomes_a_version() {
    let world = torchscript(63);
    let ran = world.run(&["models", "import", "--tenant", "script", "--file", &fixture("digits_mlp.pt")]);
    assert!(ran.one_line().contains("digits_mlp.pt"), "{ran:?}");
    assert!(world.store().versions("script").unwrap().is_empty());
}

#[test]
fn a_typo_in_a_configuration_is_named_with_its_line() {
    let world = World::untrained(
        "[server]\nhttp_prot = 8000\n\n[[tenants]]\nname = \"a\"\nslo_ms = \"fast\"\nmodel = { name = \"a\", classes = 3, max_batch = 8, source = { source = \"architecture\", architecture = { kind = \"mlp\", features = 8, hidden = [] } } }\n",
    );
    let config = world.config();
    let config = config.to_str().unwrap();
    for command in ["check", "serve"] {
        let ran = run(&[command, "--config", config]);
        assert_eq!(ran.code, 1, "{ran:?}");
        let lines: Vec<&str> = ran.err.lines().collect();
        assert_eq!(lines.len(), 2, "{ran:?}");
        assert!(
            lines[0].starts_with(&format!("{config}:2: "))
                && lines[0].contains("http_prot")
                && lines[0].contains("did you mean http_port?"),
            "{ran:?}"
        );
        assert!(lines[1].starts_with(&format!("{config}:6: ")) && lines[1].contains("slo_ms") && lines[1].contains("\"fast\""), "{ran:?}");
    }
    assert!(run(&["check", "--config", "nowhere.toml"]).one_line().contains("nowhere.toml"));
}
