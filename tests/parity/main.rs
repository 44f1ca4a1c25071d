//! One trace through the live actors, on a paused clock with workers and a device in memory, and through the simulator: both must decide
//! the same at the same moments, to the byte.
#![allow(clippy::unwrap_used, reason = "clippy sees #[test] functions as tests, their helpers not")]

mod case;
mod device;
mod live;
mod log;
mod worker;

#[test]
fn the_live_server_decides_the_same_twice() {
    let case = case::shifting();
    let (one, two) = (live::run(&case), live::run(&case));
    assert_eq!(one.log.complaints(), [""; 0]);
    assert_eq!(one.log.decisions(), two.log.decisions());
}
