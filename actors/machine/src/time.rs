//! Moments as numbers; who reads the clock is not decided here.

use std::ops::{Add, Sub};
use std::time::Duration;

use serde::{Deserialize, Serialize};

/// A moment: microseconds since the server's start (or since the start of a simulation).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Time(pub u64);

impl Time {
    /// The server's start.
    pub const ZERO: Time = Time(0);

    /// A moment that many seconds after the start; negative and NaN are the start.
    pub fn from_secs(seconds: f64) -> Time {
        Time((seconds.max(0.0) * 1e6) as u64)
    }

    /// Seconds since the start.
    pub fn as_secs(self) -> f64 {
        self.0 as f64 / 1e6
    }

    /// How long after `earlier` this is; zero when it is not after.
    pub fn since(self, earlier: Time) -> Duration {
        Duration::from_micros(self.0.saturating_sub(earlier.0))
    }
}

impl Add<Duration> for Time {
    type Output = Time;

    fn add(self, span: Duration) -> Time {
        Time(self.0.saturating_add(u64::try_from(span.as_micros()).unwrap_or(u64::MAX)))
    }
}

impl Sub<Duration> for Time {
    type Output = Time;

    fn sub(self, span: Duration) -> Time {
        Time(self.0.saturating_sub(u64::try_from(span.as_micros()).unwrap_or(u64::MAX)))
    }
}

/// A span of that many milliseconds; negative and NaN are zero, and an hour is the most.
pub fn millis(ms: f64) -> Duration {
    Duration::from_micros((ms.clamp(0.0, 3.6e6) * 1e3).round() as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn time_never_runs_below_the_start() {
        assert_eq!(Time(5) - Duration::from_secs(1), Time::ZERO);
        assert_eq!(Time(5).since(Time(9)), Duration::ZERO);
        assert_eq!(Time::from_secs(f64::NAN), Time::ZERO);
    }

    #[test]
    fn milliseconds_are_rounded_to_microseconds() {
        assert_eq!(millis(1.2345), Duration::from_micros(1235));
        assert_eq!(millis(-1.0), Duration::ZERO);
        assert_eq!(millis(f64::INFINITY), Duration::from_secs(3600));
    }
}
