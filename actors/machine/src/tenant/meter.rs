//! Counts: since the start, and of the second that runs.

use super::types::{Telemetry, Totals};
use crate::Time;

/// What a request came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum End {
    Ok,
    Late,
    Shed,
    Error,
}

#[derive(Debug, Default)]
pub(super) struct Meter {
    pub totals: Totals,
    last: Totals,
    since: Time,
    max_wait_us: u64,
}

impl Meter {
    pub fn ended(&mut self, end: End) {
        match end {
            End::Ok => self.totals.ok += 1,
            End::Late => self.totals.late += 1,
            End::Shed => self.totals.shed += 1,
            End::Error => self.totals.error += 1,
        }
    }

    pub fn dispatched(&mut self, now: Time, arrived: Time) {
        self.max_wait_us = self.max_wait_us.max(now.0.saturating_sub(arrived.0));
    }

    pub fn computed(&mut self, rows: u32) {
        self.totals.batches += 1;
        self.totals.rows += u64::from(rows);
    }

    /// Requests answered in one way or another.
    pub fn answered(&self) -> u64 {
        self.totals.ok + self.totals.late + self.totals.shed + self.totals.error
    }

    /// The counts since the last call; gauges are left at zero.
    pub fn second(&mut self, now: Time) -> Telemetry {
        let (total, last) = (self.totals, self.last);
        let batches = total.batches - last.batches;
        let telemetry = Telemetry {
            seconds: now.since(self.since).as_secs_f64(),
            arrivals: total.arrived - last.arrived,
            ok: total.ok - last.ok,
            late: total.late - last.late,
            shed: total.shed - last.shed,
            error: total.error - last.error,
            max_wait_ms: self.max_wait_us as f64 / 1e3,
            batches,
            mean_batch: (total.rows - last.rows) as f64 / batches.max(1) as f64,
            ..Telemetry::default()
        };
        (self.last, self.since, self.max_wait_us) = (total, now, 0);
        telemetry
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_counts_only_what_happened_in_it() {
        let mut meter = Meter::default();
        meter.totals.arrived = 3;
        meter.ended(End::Ok);
        meter.computed(4);
        meter.dispatched(Time(5000), Time(1000));
        let first = meter.second(Time(1_000_000));
        assert_eq!((first.arrivals, first.ok, first.mean_batch, first.max_wait_ms, first.seconds), (3, 1, 4.0, 4.0, 1.0));
        let second = meter.second(Time(2_000_000));
        assert_eq!((second.arrivals, second.ok, second.mean_batch, second.max_wait_ms), (0, 0, 0.0, 0.0));
        assert_eq!(meter.answered(), 1);
    }
}
