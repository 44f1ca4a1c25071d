//! Random transitions over fake GPUs while everything that can fail does: never two owners of a slice, never an instance that nobody
//! knows of, and once faults stop, the plan is what is there.
//!
//! The steps are made by the planner's own transition, carried out by the server's own migration machine, on the real NVML device; only
//! time is virtual, and workers are names. Every failure comes from a seed.

mod host;
mod log;

use fake_nvml::{Effect, FakeHost, HostSpec, Rule};
use host::Host;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

/// Transitions per host, of which there are four.
const TRANSITIONS: usize = 260;
/// Transitions under faults before they stop for one.
const STORM: usize = 7;
/// Shares of the calls that fail.
const SHARES: [f64; 4] = [0.005, 0.02, 0.05, 0.15];
/// `nvmlReturn_t`: no permission, timeout, in use, memory, insufficient resources, unknown.
const CODES: [u32; 6] = [4, 10, 19, 20, 23, 999];

fn storm(boards: &[&str], seed: u64) {
    let log = log::Log::new();
    let _guard = log.listen();
    let folder = tempfile::tempdir().unwrap();
    let fake = FakeHost::create(folder.path(), &HostSpec::of(boards)).unwrap();
    let library = fake.library().unwrap();
    let gpus: Vec<String> = (0..boards.len()).map(|index| index.to_string()).collect();
    let options = host::options(library, folder.path().join("instances.json"), &gpus);
    let mut host = Host::new(fake, options);
    let mut rng = StdRng::seed_from_u64(seed);
    let mut done = 0;
    while done < TRANSITIONS {
        for _ in 0..STORM {
            let lost = brew(&host, &mut rng);
            let steps = rng.random_bool(0.2).then(|| rng.random_range(0..12));
            host.migrate(&mut rng, steps);
            if lost {
                // A server whose configuration names a GPU that is gone does not start.
                calm(&host, lost);
            }
            if steps.is_some() {
                host.restart();
            }
            done += 1;
            calm(&host, false);
            host.check();
        }
        // Nothing fails any more: the device gets rid of what it had to leave behind, and the next plan is carried out to the letter.
        let plan = host.migrate(&mut rng, None).expect("it was not cut short");
        done += 1;
        host.check();
        host.settled(&plan);
    }
    log.tells(&host.fake);
    let failed = host.fake.calls().unwrap().iter().filter(|call| call.code != 0).count();
    println!("{}: {done} transitions, {failed} calls failed, {} lines of log", boards.join(" + "), log.lines());
}

/// Some of everything that goes wrong; tells whether the first GPU falls off the bus.
fn brew(host: &Host, rng: &mut StdRng) -> bool {
    let share = SHARES[rng.random_range(0..SHARES.len())];
    let code = CODES[rng.random_range(0..CODES.len())];
    let effect = [Effect::Refuse, Effect::Refuse, Effect::After][rng.random_range(0..3)];
    host.fake.inject(Rule::every("*", code).sometimes(share, rng.random()).with(effect)).unwrap();
    if rng.random_bool(0.2) {
        let call = ["nvmlGpuInstanceDestroy", "nvmlComputeInstanceDestroy"][rng.random_range(0..2)];
        host.fake.inject(Rule::every(call, 0).sometimes(0.3, rng.random()).with(Effect::Pretend)).unwrap();
    }
    let lost = rng.random_bool(0.05);
    if lost {
        host.fake.lose(0).unwrap();
    }
    lost
}

fn calm(host: &Host, lost: bool) {
    host.fake.clear_faults().unwrap();
    if lost {
        host.fake.restore(0).unwrap();
    }
}

#[test]
fn an_a100_and_an_a30_weather_a_storm_of_faults() {
    storm(&["A100-SXM4-80GB", "A30-24GB"], 1);
}

#[test]
fn an_h200_weathers_a_storm_of_faults() {
    storm(&["H200-SXM5-141GB"], 2);
}

#[test]
fn two_h100_weather_a_storm_of_faults() {
    storm(&["H100-SXM5-80GB", "H100-SXM5-80GB"], 3);
}

#[test]
fn an_rtx_pro_6000_weathers_a_storm_of_faults() {
    storm(&["RTX-PRO-6000-96GB"], 4);
}
