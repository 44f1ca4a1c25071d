//! The one clock of the live server: machines are told the time, shells read it here.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use migrator_machine::Time;
use tokio::time::Instant;

/// Counts from the server's start, on tokio's clock: the one that the timers run by, so that a test that pauses it rules everything.
#[derive(Clone, Copy, Debug)]
pub struct Clock {
    start: Instant,
    /// Unix milliseconds then.
    start_ms: u64,
}

impl Clock {
    /// Starts counting now.
    pub fn start() -> Clock {
        Clock { start: Instant::now(), start_ms: unix_ms() }
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

    /// Milliseconds since 1970 at the start: what tells one run of the server from another.
    pub fn started_ms(&self) -> u64 {
        self.start_ms
    }

    /// Milliseconds since 1970, for what outlives the process: counted from the start, so that a step of the system's clock moves nothing
    /// into another window.
    pub fn unix_ms(&self) -> u64 {
        self.start_ms.saturating_add(self.now().0 / 1000)
    }
}

fn unix_ms() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_paused_clock_moves_with_the_timers_and_with_nothing_else() {
        let clock = Clock::start();
        let before = clock.unix_ms();
        tokio::time::sleep(Duration::from_secs(3600)).await;
        assert_eq!((clock.now(), clock.unix_ms()), (Time::from_secs(3600.0), before + 3_600_000));
        assert_eq!(clock.until(Time::from_secs(3601.0)), Duration::from_secs(1));
    }
}
