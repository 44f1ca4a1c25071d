//! The one clock of the live server: machines are told the time, shells read it here.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use migrator_machine::Time;

/// Counts from the server's start.
#[derive(Clone, Copy, Debug)]
pub struct Clock {
    start: Instant,
}

impl Clock {
    /// Starts counting now.
    pub fn start() -> Clock {
        Clock { start: Instant::now() }
    }

    /// Now.
    pub fn now(&self) -> Time {
        self.at(Instant::now())
    }

    /// That moment; the start, when it was before.
    pub fn at(&self, instant: Instant) -> Time {
        Time(u64::try_from(instant.saturating_duration_since(self.start).as_micros()).unwrap_or(u64::MAX))
    }

    /// How long from now until `time`; zero when it is past.
    pub fn until(&self, time: Time) -> Duration {
        time.since(self.now())
    }
}

/// Milliseconds since 1970, for what outlives the process.
pub fn unix_ms() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
}
