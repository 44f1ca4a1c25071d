//! A canary: nobody's newest version until it was found good, whatever happens to the server meanwhile.

use migrator_models::reader::LabelledSet;

use crate::harness::{Pair, Server, Setup, World, data, settled};

/// [`Pair`] whose `digits` tries each new version on half of the requests for 500 labelled samples, however long that takes.
struct Tried;

impl Setup for Tried {
    fn name(&self) -> &'static str {
        "pair"
    }

    fn toml(&self) -> String {
        let toml = Pair { window_s: Some(6.0) }.toml();
        toml.replacen("[retraining]\n", "[retraining]\ncanary_share = 0.5\ncanary_samples = 500\ncanary_s = 3600\n", 1)
    }

    fn training(&self) -> Vec<(&'static str, LabelledSet)> {
        Pair { window_s: None }.training()
    }
}

/// Posts samples of a changed world, and asks, until the tenant is `so`.
fn until(server: &Server, seeds: std::ops::RangeFrom<u64>, what: &str, so: impl Fn(&serde_json::Value) -> bool) -> serde_json::Value {
    let mut seeds = seeds;
    settled(what, || {
        let seen = server.tenant("digits");
        if so(&seen) {
            return Ok(seen);
        }
        let rows = data::readings(16, 4, seeds.next().unwrap()).rows;
        server.http.post("/v1/tenants/digits/samples", data::samples(&rows).to_string()).ok("samples");
        assert_eq!(server.infer("digits", &rows[..1]).status, 200);
        Err(seen.to_string())
    })
}

fn on_trial(seen: &serde_json::Value) -> bool {
    seen["retraining"].as_str().is_some_and(|text| text.starts_with("canary: version "))
}

#[test]
fn a_server_killed_during_a_trial_starts_with_the_version_before_it() {
    let world = World::new(&Tried);
    let mut first = world.serve();
    let seen = until(&first, 100.., "a new version is on trial", on_trial);
    assert_eq!(seen["version"], 1);
    assert!(world.store().on_trial("tiny", 2));
    first.signal("KILL");
    first.ended();
    first.nothing_left();

    let second = world.serve();
    assert_eq!(second.tenant("digits")["version"], 1, "what was only tried serves");
    assert!(second.log().contains("it was on trial when the server stopped"));
    let seen = until(&second, 1000.., "the next one was found good", |seen| seen["version"].as_u64() > Some(1));
    let version = seen["version"].as_u64().unwrap();
    let store = world.store();
    assert!(version > 2 && !store.on_trial("tiny", version) && store.on_trial("tiny", 2), "{seen}");
    assert_eq!(seen["error"], 0, "{seen}");
}
