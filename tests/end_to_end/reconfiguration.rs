//! Requests while the machine is cut up anew.

use crate::harness::{Heavy, World, swing};

#[test]
fn no_request_fails_while_load_swings_and_the_machine_is_cut_up_anew() {
    let world = World::new(&Heavy { slo_ms: 1000 });
    let server = world.serve();
    swing(&server, 2);
    assert_eq!(server.metric("migrator_worker_restarts_total", ""), 0.0);
}
