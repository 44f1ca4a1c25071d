//! Labels that come after their requests, and samples as tensors.

use serde_json::{Value, json};

use crate::harness::{Pair, Server, World, data, settled};
use migrator_models::reader::Row;

/// Asks for a row under an id; gives the class answered.
fn ask(server: &Server, id: &str, row: &Row) -> u32 {
    let mut body = data::request(std::slice::from_ref(row));
    body["id"] = json!(id);
    let answer = server.http.post("/v2/models/digits/infer", body.to_string()).ok("an answer");
    data::classes(&answer)[0]
}

fn label(server: &Server, labels: &[Value]) -> Value {
    server.http.post("/v1/tenants/digits/labels", json!({ "labels": labels }).to_string()).ok("labels")
}

#[test]
fn labels_that_come_later_tell_how_good_the_answers_were_and_unknown_ones_are_named() {
    let world = World::new(&Pair { window_s: None });
    let server = world.serve();
    let rows = data::readings(32, 0, 91).rows;
    let answered: Vec<u32> = rows.iter().enumerate().map(|(index, row)| ask(&server, &format!("r{index}"), row)).collect();
    // A quarter is labelled otherwise than answered.
    let wrong = |index: usize, class: u32| if index.is_multiple_of(4) { (class + 1) % data::CLASSES } else { class };
    let labels = answered.iter().enumerate().map(|(index, class)| json!({ "id": format!("r{index}"), "label": wrong(index, *class) }));
    let labels: Vec<Value> = labels.chain([json!({ "id": "nobody", "label": 0 })]).collect();
    let told = label(&server, &labels);
    assert_eq!((&told["accepted"], &told["refused"][0]["index"], &told["refused"][0]["id"]), (&json!(32), &json!(32), &json!("nobody")));
    settled("the labels count as the answers were given", || {
        let accuracy = server.tenant("digits")["accuracy"].clone();
        if accuracy.as_f64().is_some_and(|accuracy| (accuracy - 0.75).abs() < 1e-9) { Ok(()) } else { Err(accuracy) }
    });
    let again = label(&server, &labels[..2]);
    assert_eq!((&again["accepted"], &again["refused"][1]["reason"]), (&json!(0), &json!("it has its label already")));
    let refused = server.http.post("/v1/tenants/digits/labels", json!({ "labels": [{ "id": "r1", "label": 3 }] }).to_string());
    assert_eq!((refused.status, refused.error().as_str()), (400, "label 0, request \"r1\": 3: must be from 0 to 2"));
    assert_eq!(server.metric("migrator_late_labels_total", "result=\"accepted\""), 32.0);

    let rows = data::readings(40, 0, 92).rows;
    let raw: Vec<u8> = rows.iter().flat_map(|row| row.features.to_raw()).collect();
    let labels: Vec<u32> = rows.iter().map(|row| row.label).collect();
    let input =
        json!({ "name": "INPUT0", "shape": [40, data::FEATURES], "datatype": "FP32", "parameters": { "binary_data_size": raw.len() } });
    let head = json!({ "labels": labels, "inputs": [input] }).to_string();
    let length = head.len().to_string();
    let body = [head.as_bytes(), &raw].concat();
    let reply = server.http.post_with("/v1/tenants/digits/samples", &[("Inference-Header-Content-Length", length.as_str())], body);
    assert_eq!(reply.ok("samples as tensors")["accepted"], 40);
    let ran = world.run(&["check"]);
    assert!(ran.code == 0 && ran.out.contains("72 labelled samples"), "32 labelled requests and 40 samples: {ran:?}");
}
