//! The whole server on GPUs behind the fake NVIDIA driver: discovery, MIG instances, workers bound to them, adoption after a crash.

use fake_nvml::FakeHost;

use crate::answers::OF_A_GPU;
use crate::harness::{Fake, Server, World, drive, eventually, process, settled, swing};

/// `nvmlReturn_t` of what is refused only for the moment.
const IN_USE: u32 = 19;

/// The calls that the driver refused, other than a destruction that came while the instance was still in use.
fn refused(fake: &FakeHost) -> Vec<String> {
    let calls = fake.calls().unwrap();
    let failed = calls.iter().filter(|call| call.code != 0 && !(call.code == IN_USE && call.call.ends_with("Destroy")));
    failed.map(|call| format!("{} {:?}: {}", call.call, call.args, call.code)).collect()
}

fn no_request_fails_on(board: &'static str) {
    let world = World::new(&Fake { board });
    let fake = world.fake();
    let server = world.serve();
    swing(&server, 2);
    assert_eq!(server.metric("migrator_worker_restarts_total", ""), 0.0);
    fake.xid(0, None, 31);
    settled("/metrics has what a GPU tells", || {
        let text = server.metrics.get("/metrics").text();
        let missing: Vec<&str> = OF_A_GPU.into_iter().filter(|name| !text.contains(&format!("# TYPE {name} "))).collect();
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
    no_request_fails_on("A100-SXM4-80GB");
}

#[test]
fn no_request_fails_while_an_h200_is_cut_up_anew() {
    no_request_fails_on("H200-SXM5-141GB");
}

#[test]
fn a_server_killed_while_it_cuts_an_h200_up_is_followed_by_one_that_takes_over() {
    let world = World::new(&Fake { board: "H200-SXM5-141GB" });
    let fake = world.fake();
    let mut first = world.serve();
    let pid = first.pid();
    let destroyed = || fake.calls().unwrap().iter().any(|call| call.call == "nvmlComputeInstanceDestroy" && call.code == 0);
    std::thread::scope(|scope| {
        // The GPU instance is still there when its compute instance has just gone.
        scope.spawn(|| {
            eventually("an instance is destroyed", || destroyed().then_some(()));
            process::signal(pid, "KILL");
        });
        drive(&first, destroyed);
    });
    first.ended();
    first.nothing_left();
    assert!(!fake.instances(0).unwrap().is_empty());

    let second = world.serve();
    assert_eq!(fake.audit().unwrap(), Vec::<String>::new());
    swing(&second, 1);
    stop(second, &fake);
}
