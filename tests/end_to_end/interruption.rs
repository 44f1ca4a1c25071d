//! Retraining and publishing, interrupted by `kill -9` at any moment.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use crate::harness::{Pair, Server, Setup, World, data, eventually, number, process, settled};

/// [`Pair`] whose `digits` trains long enough to be interrupted, in every window.
struct Slow {
    window_s: f64,
    epochs: u32,
}

impl Setup for Slow {
    fn name(&self) -> &'static str {
        "pair"
    }

    fn toml(&self) -> String {
        let toml = Pair { window_s: Some(self.window_s) }.toml();
        let tenant = "name = \"digits\"\nslo_ms = 500\n";
        assert!(toml.contains(tenant));
        let toml = toml.replacen(tenant, &format!("{tenant}retraining = {{ microprofile_share = 0.0, max_samples = 200 }}\n"), 1);
        let toml = toml.replacen("[retraining]\n", "[retraining]\nstored_samples = 10000000\n", 1);
        toml.replacen("train = { epochs = 20, ", &format!("train = {{ patience = 0, epochs = {}, ", self.epochs), 1)
    }

    fn training(&self) -> Vec<(&'static str, migrator_models::reader::LabelledSet)> {
        Pair { window_s: None }.training()
    }
}

/// Posts labelled samples of the world that `shift` makes; gives how many were acknowledged.
fn post(server: &Server, shift: usize, seed: u64) -> u64 {
    let rows = data::readings(40, shift, seed).rows;
    let answer = server.http.post("/v1/tenants/digits/samples", data::samples(&rows).to_string()).ok("samples");
    answer["accepted"].as_u64().expect("how many were accepted")
}

/// Requests: a better version is worth nothing to a tenant whom nobody asks.
fn demand(server: &Server) {
    for row in data::readings(4, 0, 9).rows.chunks(1) {
        let status = server.infer("digits", row).status;
        assert!([200, 503].contains(&status), "{status}");
    }
}

fn checkpoints(state: &Path) -> Vec<PathBuf> {
    let windows = std::fs::read_dir(state.join("retraining/digits")).into_iter().flatten().flatten();
    windows.map(|window| window.path().join("checkpoint.safetensors")).filter(|path| path.is_file()).collect()
}

/// How far a retraining under way is.
fn percent(server: &Server) -> Option<u64> {
    let text = server.tenant("digits")["retraining"].as_str()?.to_owned();
    text.strip_prefix("running ")?.strip_suffix(" %")?.parse().ok()
}

#[test]
fn a_retraining_goes_on_from_its_checkpoint_after_the_server_was_killed() {
    let world = World::new(&Slow { window_s: 600.0, epochs: 5000 });
    let mut first = world.serve();
    let posted: u64 = (1000..1003).map(|seed| post(&first, 4, seed)).sum();
    assert_eq!(posted, 120);
    let checkpoint = settled("there is a checkpoint", || {
        demand(&first);
        checkpoints(&world.state()).pop().ok_or_else(|| first.tenant("digits")["retraining"].to_string())
    });
    let reached = eventually("it is running", || percent(&first));
    first.signal("KILL");
    first.ended();
    first.nothing_left();
    assert!(checkpoint.is_file());

    let second = world.serve();
    // Labelled samples keep coming: they tell that the version in service is no good.
    post(&second, 4, 1003);
    let resumed = settled("the retraining goes on", || {
        demand(&second);
        percent(&second).filter(|percent| *percent > 0).ok_or_else(|| second.tenant("digits")["retraining"].to_string())
    });
    assert!(second.log().contains("a retraining that a stop interrupted goes on"));
    assert!(resumed * 2 >= reached, "it was at {reached} % and is at {resumed} % now: it began anew");
    let published = settled("what was interrupted is published", || {
        demand(&second);
        let seen = second.tenant("digits");
        let windows = seen["windows"].as_array().unwrap();
        windows.iter().find_map(|window| window["published"].as_u64()).ok_or_else(|| seen.to_string())
    });
    assert_eq!(published, 2);
    world.store().verify("tiny", 2).unwrap();
}

/// `MIGRATOR_KILLS` times (5 if not told), of the server and of its workers in turn, at random moments of collecting, training,
/// publishing and swapping: no version is torn, no acknowledged sample is lost, and the server serves.
#[test]
#[allow(clippy::disallowed_methods, reason = "samples come at a pace; nothing is concluded from the time")]
fn killed_at_random_moments_nothing_is_torn_and_no_acknowledged_sample_is_lost() {
    let kills = number("MIGRATOR_KILLS", 5);
    let world = World::new(&Slow { window_s: 60.0, epochs: 300 });
    let (mut dice, mut acknowledged, mut moments) = (StdRng::seed_from_u64(7), 0, Vec::new());
    let mut server = world.serve();
    let mut seeds = 2000..;
    for kill in 0..kills {
        // The world changes each time, so that there is something to learn and to publish.
        let shift = kill as usize % data::FEATURES;
        let after = Duration::from_millis(dice.random_range(0..9000));
        let began = Instant::now();
        while began.elapsed() < after {
            acknowledged += post(&server, shift, seeds.next().unwrap());
            demand(&server);
            std::thread::sleep(Duration::from_millis(10));
        }
        moments.push(server.tenant("digits")["retraining"].as_str().unwrap().to_owned());
        if kill % 2 == 0 {
            server.signal("KILL");
            server.ended();
            server.nothing_left();
        } else {
            let workers = server.workers();
            process::signal(workers[dice.random_range(0..workers.len())], "KILL");
            // What it was doing is known by now, or never will be; the server itself goes on.
            acknowledged += post(&server, shift, seeds.next().unwrap());
            drop(server);
        }
        let verified = world.run(&["models", "verify"]);
        assert_eq!(verified.code, 0, "kill {kill} at {:?}: {verified:?}", moments.last());
        let found = world.stored("digits");
        assert!(found >= acknowledged, "kill {kill} at {:?}: {acknowledged} samples acknowledged, {found} there", moments.last());
        server = world.serve();
        let newest = world.store().versions("tiny").unwrap().pop();
        assert_eq!(server.tenant("digits")["version"].as_u64(), newest, "kill {kill}");
    }
    let newest = server.tenant("digits")["version"].as_u64().unwrap();
    println!("{kills} kills, version {newest}, {acknowledged} samples acknowledged and there; killed at: {moments:?}");
    assert_eq!(server.metric("migrator_invariant_violations_total", ""), 0.0);
}
