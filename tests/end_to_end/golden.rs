//! A golden model labels live requests, and the tenant's model learns from it.

use serde_json::Value;

use crate::harness::{Pair, World, data, settled};

/// The samples of `digits`, as `migrator data stats` tells them.
fn stats(world: &World) -> Value {
    let ran = world.run(&["data", "stats", "--tenant", "digits", "--json"]);
    assert_eq!(ran.code, 0, "{ran:?}");
    let told: Value = serde_json::from_str(&ran.out).unwrap_or_else(|e| panic!("{e}: {ran:?}"));
    told["tenants"][0].clone()
}

/// A world whose `digits` has a golden model that knows the changed world, where what `digits` knows is no longer so.
fn taught(window_s: Option<f64>) -> World {
    let world = World::new(&Pair { window_s });
    let own = std::fs::read_to_string(world.config()).unwrap();
    let teacher = own.replacen("name = \"tiny\"", "name = \"teacher\"", 1).replacen("hidden = [16]", "hidden = [64, 64]", 1);
    std::fs::write(world.config(), teacher).unwrap();
    world.train("digits", &data::readings(600, 4, 11));
    let golden = "labels = {}\ngolden = { model = \"teacher\", share = 1.0, max_rps = 1000 }";
    std::fs::write(world.config(), own.replacen("labels = {}", golden, 1)).unwrap();
    world
}

#[test]
fn live_requests_become_samples_of_a_changed_world_and_lead_to_a_better_version() {
    let world = taught(Some(6.0));
    let server = world.serve();
    let mut seeds = 200..;
    settled("a version that learnt from the golden model is in service", || {
        let rows = data::readings(32, 4, seeds.next().unwrap()).rows;
        server.classes("digits", &rows);
        let seen = server.tenant("digits");
        if seen["version"].as_u64().is_some_and(|version| version > 1) { Ok(()) } else { Err(seen) }
    });
    let rows = data::readings(96, 4, 70).rows;
    let after = data::accuracy(&rows, &server.classes("digits", &rows));
    assert!(after > 0.9, "{after}: the first version gets less than 0.7");
    let labelled = server.metric("migrator_golden_requests_total", "result=\"labelled\"");
    assert!(labelled >= 64.0, "{labelled}");
    assert_eq!(server.metric("migrator_golden_requests_total", "result=\"failed\""), 0.0);
    let told = stats(&world);
    let golden = told["origins"]["golden"].as_u64().unwrap();
    assert!(golden >= 64 && told["samples"] == golden, "nobody else labelled anything: {told}");
    assert_eq!(server.metric("migrator_invariant_violations_total", ""), 0.0);
}

#[test]
fn what_a_client_says_later_goes_before_what_the_golden_model_said() {
    let world = taught(None);
    let server = world.serve();
    let row = data::readings(1, 4, 5).rows;
    let mut body = data::request(&row);
    body["id"] = "r1".into();
    server.http.post("/v2/models/digits/infer", body.to_string()).ok("an answer");
    settled("the golden model labels it", || {
        let labelled = server.metric("migrator_golden_requests_total", "result=\"labelled\"");
        if labelled == 1.0 { Ok(()) } else { Err(labelled) }
    });
    assert_eq!(stats(&world)["origins"]["golden"], 1);
    let other = (row[0].label + 1) % data::CLASSES;
    let labels = serde_json::json!({ "labels": [{ "id": "r1", "label": other }] });
    assert_eq!(server.http.post("/v1/tenants/digits/labels", labels.to_string()).ok("a label")["accepted"], 1);
    let told = stats(&world);
    assert_eq!(
        (&told["samples"], &told["origins"]["label"], &told["classes"][other.to_string()]),
        (&1.into(), &1.into(), &1.into()),
        "{told}"
    );
}

#[test]
fn a_golden_model_that_is_not_there_stops_the_start_with_one_line() {
    let world = World::new(&Pair { window_s: None });
    let own = std::fs::read_to_string(world.config()).unwrap();
    std::fs::write(world.config(), own.replacen("labels = {}", "golden = { model = \"nobody\" }", 1)).unwrap();
    let ran = world.run(&["serve", "--http-port", "0", "--metrics-port", "0", "--grpc-port", "0"]);
    assert!(ran.one_line().contains("\"digits\": its golden model: the store has no complete version of \"nobody\""), "{ran:?}");
}
