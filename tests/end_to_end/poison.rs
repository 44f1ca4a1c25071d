//! Samples that would do harm: not numbers, wrong in bulk, for a request that never was, and more than the disk takes.

use serde_json::json;

use crate::harness::{Pair, Server, World, data, settled};

fn samples(server: &Server, body: &str) -> (u16, String) {
    let reply = server.http.post("/v1/tenants/digits/samples", body);
    (reply.status, reply.error())
}

#[test]
fn features_that_are_no_numbers_and_labels_out_of_range_are_refused_as_a_whole() {
    let world = World::new(&Pair { window_s: None });
    let server = world.serve();
    let good = json!([1, 2, 3, 4, 5, 6, 7, 8]);
    for (body, says) in [
        (r#"{"samples": [{"label": 1, "data": [NaN, 2, 3, 4, 5, 6, 7, 8]}]}"#.to_owned(), "expected"),
        (r#"{"samples": [{"label": 1, "data": [1e999, 2, 3, 4, 5, 6, 7, 8]}]}"#.to_owned(), "out of range"),
        (r#"{"samples": [{"label": 1, "data": [null, 2, 3, 4, 5, 6, 7, 8]}]}"#.to_owned(), "null"),
        (json!({"samples": [{"label": 0, "data": good}, {"label": 3, "data": good}]}).to_string(), "label 3"),
        (json!({"samples": [{"label": -1, "data": good}]}).to_string(), "-1"),
    ] {
        let (status, error) = samples(&server, &body);
        assert!(status == 400 && error.contains(says), "{body}: {status} {error}");
    }
    assert_eq!(world.stored("digits"), 0, "of a refused body nothing is kept");
}

/// Half of the samples of a world that the version knows, each with the next class: whoever believes them does worse on the others.
#[test]
fn labels_that_are_wrong_in_bulk_bring_no_version_into_service_that_is_worse() {
    let world = World::new(&Pair { window_s: Some(5.0) });
    let server = world.serve();
    let rows = data::readings(96, 0, 70).rows;
    let before = data::accuracy(&rows, &server.classes("digits", &rows));
    assert!(before > 0.95, "{before}");
    let mut seeds = 300..;
    let decided = settled("windows with poisoned samples came to a decision", || {
        let mut rows = data::readings(32, 0, seeds.next().unwrap()).rows;
        // Labels at random: there is nothing in them that a version could learn.
        for (index, row) in rows.iter_mut().enumerate().filter(|(index, _)| index % 2 == 0) {
            row.label = (row.label + 1 + (index as u32 / 2) % 2) % data::CLASSES;
        }
        server.http.post("/v1/tenants/digits/samples", data::samples(&rows).to_string()).ok("samples");
        let decisions = ["kept", "published", "not_worth"].map(|result| {
            server.metric("migrator_retrainings_total", &format!("tenant=\"digits\",result=\"{result}\""))
                + server.metric("migrator_retrainings_total", &format!("result=\"{result}\",tenant=\"digits\""))
        });
        if decisions.iter().sum::<f64>() >= 2.0 { Ok(decisions) } else { Err(format!("{decisions:?}")) }
    });
    let after = data::accuracy(&rows, &server.classes("digits", &rows));
    println!("poisoned labels: kept, published, not worth: {decided:?}; accuracy {before:.3} before, {after:.3} after");
    assert!(after > 0.9, "the version in service was poisoned: {before} before, {after} after, {decided:?}");
}
