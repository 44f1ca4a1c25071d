//! The loop: the world changes, labelled samples arrive, a better version is served.

use std::sync::atomic::{AtomicBool, Ordering};

use serde_json::Value;

use crate::harness::{Pair, Raise, Server, World, data, settled};

/// The last retraining that published a version.
fn published(seen: &Value) -> Option<&Value> {
    seen["windows"].as_array()?.iter().rev().find(|window| window["published"].is_u64())
}

/// Asks until told to stop; gives the number of answers.
fn ask(server: &Server, stop: &AtomicBool) -> usize {
    let rows = data::readings(64, 4, 8).rows;
    let mut answers = 0;
    while !stop.load(Ordering::Relaxed) {
        for row in rows.chunks(1) {
            let reply = server.infer("digits", row);
            assert_eq!(reply.status, 200, "request {answers}: {}", reply.text());
            answers += 1;
        }
    }
    answers
}

/// Posts samples of the changed world, other ones each time, and looks whether a version trained on them is in service.
fn retrained(server: &Server) -> impl FnMut() -> Result<Value, String> {
    let mut seeds = 100..;
    move || {
        let rows = data::readings(16, 4, seeds.next().unwrap()).rows;
        server.http.post("/v1/tenants/digits/samples", data::samples(&rows).to_string()).ok("samples");
        let seen = server.tenant("digits");
        let version = published(&seen).map(|window| window["published"].clone());
        if version.is_some_and(|version| version == seen["version"]) { Ok(seen) } else { Err(seen.to_string()) }
    }
}

#[test]
fn labelled_samples_of_a_changed_world_lead_to_a_better_version_without_a_failed_request() {
    let world = World::new(&Pair { window_s: Some(6.0) });
    let server = world.serve();
    let rows = data::readings(96, 4, 70).rows;
    let before = data::accuracy(&rows, &server.classes("digits", &rows));
    assert!(before < 0.7, "the old version already knows the changed world: {before}");
    let stop = AtomicBool::new(false);
    let (seen, answers) = std::thread::scope(|scope| {
        let asking = scope.spawn(|| ask(&server, &stop));
        let seen = {
            let _stop = Raise(&stop);
            settled("a better version is in service", retrained(&server))
        };
        (seen, asking.join().expect("a request failed"))
    });
    assert!(answers > 0);
    let window = published(&seen).unwrap();
    let (was, is) = (window["accuracy_before"].as_f64().unwrap(), window["accuracy_after"].as_f64().unwrap());
    assert!(was < 0.7 && is > 0.9 && is > was, "{window}");
    // Read before the next window can retrain again.
    assert_eq!(server.metric("migrator_retraining_accuracy_before", "tenant=\"digits\""), was);
    assert_eq!(server.metric("migrator_retraining_accuracy_after", "tenant=\"digits\""), is);
    let after = data::accuracy(&rows, &server.classes("digits", &rows));
    assert!(after > 0.9, "accuracy {before} before, {after} after");

    let version = window["published"].as_u64().unwrap();
    assert!(version >= 2);
    let manifest = world.store().verify("tiny", version).unwrap();
    assert_eq!((manifest.accuracy_before, manifest.accuracy_after), (Some(was), Some(is)));
    assert!(server.metric("migrator_retrainings_total", "result=\"published\"") >= 1.0);
    settled("the new version is measured on labelled samples", || {
        server.http.post("/v1/tenants/digits/samples", data::samples(&data::readings(16, 4, 5).rows).to_string()).ok("samples");
        let accuracy = server.tenant("digits")["accuracy"].clone();
        if accuracy.as_f64().is_some_and(|accuracy| accuracy > 0.9) { Ok(()) } else { Err(accuracy) }
    });
    assert_eq!((server.tenant("digits")["error"].clone(), server.tenant("digits")["shed"].clone()), (0.into(), 0.into()));
    assert_eq!(server.metric("migrator_invariant_violations_total", ""), 0.0);
}
