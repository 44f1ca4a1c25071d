//! An end in order.

use crate::harness::{Heavy, World, data};

/// Enough that most still wait or are being computed when the first is answered.
const IN_FLIGHT: usize = 60;

#[test]
fn sigterm_answers_what_is_in_flight_and_leaves_nothing_behind() {
    let world = World::new(&Heavy { slo_ms: 60_000 });
    let mut server = world.serve();
    let body = data::request(&data::readings(1, 0, 5).rows).to_string();
    let request = format!("POST /v2/models/east/infer HTTP/1.1\r\nHost: x\r\nContent-Length: {}\r\n\r\n{body}", body.len());
    let mut connections: Vec<_> = (0..IN_FLIGHT).map(|_| server.http.connect()).collect();
    // A connection that was never answered may not have been accepted yet.
    for connection in &mut connections {
        connection.write(b"GET /v2/health/live HTTP/1.1\r\nHost: x\r\n\r\n");
        assert_eq!(connection.read().unwrap().0, 200);
    }
    connections.iter_mut().for_each(|connection| connection.write(request.as_bytes()));
    let first = connections[0].read().unwrap();
    assert_eq!(first.0, 200, "{first:?}");
    server.signal("TERM");
    for (index, connection) in connections.iter_mut().enumerate().skip(1) {
        let (status, body) = connection.read().unwrap_or_else(|e| panic!("request {index} of {IN_FLIGHT}: {e}"));
        assert!(status == 200 || status == 503 && body.contains("\"error\""), "request {index}: {status} {body}");
    }
    assert_eq!(server.ended().code(), Some(0));
    server.nothing_left();
    assert!(server.log().contains("stopped"), "{}", server.log());
}

#[test]
fn sigterm_of_an_idle_server_ends_it_with_code_0() {
    let world = World::new(&crate::harness::Pair { window_s: None });
    for signal in ["TERM", "INT"] {
        let mut server = world.serve();
        server.signal(signal);
        assert_eq!(server.ended().code(), Some(0), "{signal}");
        server.nothing_left();
    }
}
