//! The whole server on GPUs behind the fake NVIDIA driver: discovery, MIG instances, workers bound to them, adoption after a crash.

use fake_nvml::FakeHost;

use crate::answers::OF_A_GPU;
use crate::harness::{Fake, Server, World, settled, swing};

/// `nvmlReturn_t` of what is refused only for the moment.
const IN_USE: u32 = 19;

/// The calls that the driver refused, other than a destruction that came while the instance was still in use.
fn refused(fake: &FakeHost) -> Vec<String> {
    let calls = fake.calls().unwrap();
    let failed = calls.iter().filter(|call| call.code != 0 && !(call.code == IN_USE && call.call.ends_with("Destroy")));
    failed.map(|call| format!("{} {:?}: {}", call.call, call.args, call.code)).collect()
}

fn no_request_fails_on(board: &'static str, tells: &[&str]) {
    let world = World::new(&Fake { board });
    let fake = world.fake();
    let server = world.serve();
    swing(&server, 2);
    assert_eq!(server.metric("migrator_worker_restarts_total", ""), 0.0);
    fake.xid(0, None, 31);
    settled("/metrics has what a GPU tells", || {
        let text = server.metrics.get("/metrics").text();
        let missing: Vec<&str> = tells.iter().copied().filter(|name| !text.contains(&format!("# TYPE {name} "))).collect();
        if missing.is_empty() { Ok(()) } else { Err(format!("missing: {}", missing.join(", "))) }
    });
    assert_eq!(server.metric("migrator_device_xid_total", "xid=\"31\""), 1.0);
    assert_eq!(fake.audit().unwrap(), Vec::<String>::new());
    assert_eq!(refused(&fake), Vec::<String>::new());
    stop(server, &fake);
}

/// A server that ends in peace takes its instances along.
fn stop(mut server: Server, fake: &FakeHost) {
    server.signal("TERM");
    assert!(server.ended().success());
    server.nothing_left();
    let left = fake.instances(0).unwrap();
    assert!(left.is_empty(), "the server leaves behind {left:?}");
}

#[test]
fn no_request_fails_while_an_a100_is_cut_up_anew() {
    // How busy an instance is, is told from Hopper on.
    let tells: Vec<&str> = OF_A_GPU.into_iter().filter(|name| *name != "migrator_instance_busy_ratio").collect();
    no_request_fails_on("A100-SXM4-80GB", &tells);
}

#[test]
fn no_request_fails_while_an_h200_is_cut_up_anew() {
    no_request_fails_on("H200-SXM5-141GB", &OF_A_GPU);
}

#[test]
fn a_server_killed_while_it_cuts_an_h200_up_is_followed_by_one_that_takes_over() {
    let world = World::new(&Fake { board: "H200-SXM5-141GB" });
    let fake = world.fake();
    // The first instances of the first plan: others are still to come, and workers to be bound.
    let cut = || fake.calls().unwrap().iter().any(|call| call.call == "nvmlDeviceCreateGpuInstanceWithPlacement" && call.code == 0);
    world.serve_and_kill("an instance is created", cut);
    assert!(!fake.instances(0).unwrap().is_empty());

    let second = world.serve();
    assert_eq!(fake.audit().unwrap(), Vec::<String>::new());
    swing(&second, 1);
    stop(second, &fake);
}
