//! How long a batch takes on one lane: the measured curve, corrected by what is observed.

use std::time::Duration;

use migrator_models::Curve;
use migrator_models::curve::CurvePoint;

use super::types::{BatchTime, LaneSpec};
use crate::Time;

/// Weight of one observation in the correction.
const ALPHA: f64 = 0.2;
/// Weight of one observation in the corrections of other batch sizes.
const FORGET: f64 = 0.01;
/// A curve is believed to be wrong by this factor at most: beyond it something else is wrong (a hiccup, a debugger).
const CLAMP: f64 = 10.0;
/// Deviation assumed at least, as a share of the expectation.
const LEAST_DEVIATION: f64 = 0.2;
/// When the way to the worker and back takes more than this share of the computation, a batch ahead keeps the executor busy.
const AHEAD_PAYS: f64 = 0.15;

/// Service times of one lane, microseconds.
#[derive(Debug)]
pub(super) struct Speed {
    /// By rows (index 0 is unused), from the curve, never falling, at least 1.
    base_us: Vec<f64>,
    /// Observed ÷ curve until a batch was seen.
    first_ratio: f64,
    /// Observed ÷ curve by size of the batch: entry k is for 2^k rows and more, less than twice as many.
    ratios: Vec<Option<f64>>,
    /// Batches seen, by the same.
    batches: Vec<u64>,
    /// What they say of every entry, those without a batch too.
    believed: Vec<f64>,
    /// Mean deviation of a computation from its expectation.
    deviation_us: f64,
    /// From dispatch to answer, less the computation.
    overhead_us: f64,
    observed: bool,
}

impl Speed {
    /// A lane whose service times are `ratio` times the curve's until its own are seen.
    pub fn new(curve: &Curve, spec: &LaneSpec, max_batch: u32, ratio: f64) -> Speed {
        let curve = spec.curve.as_ref().unwrap_or(curve);
        let unknown = unknown_curve();
        let curve = if curve.points.is_empty() { &unknown } else { curve };
        let slow_down = f64::from(spec.executors.max(1)) / spec.share.max(1e-3);
        let mut base_us = vec![1.0; 1];
        for rows in 1..=max_batch.max(1) {
            let us = curve.core_ms(rows) * slow_down * 1e3;
            let last = base_us[base_us.len() - 1];
            base_us.push(if us.is_finite() { us.max(last) } else { last });
        }
        let ratios = vec![None; bucket(max_batch.max(1)) + 1];
        let first_ratio = ratio.clamp(1.0 / CLAMP, CLAMP);
        let believed = vec![first_ratio; ratios.len()];
        let batches = vec![0; ratios.len()];
        Speed { base_us, first_ratio, ratios, batches, believed, deviation_us: 0.0, overhead_us: 0.0, observed: false }
    }

    /// Observed ÷ curve for batches of `rows`.
    pub fn ratio(&self, rows: u32) -> f64 {
        self.believed[bucket(rows).min(self.believed.len() - 1)]
    }

    /// Observed ÷ curve of an entry; where no batch was seen yet, what the next smaller one says, else the next larger.
    fn seen(&self, own: usize) -> f64 {
        let smaller = (0..=own).rev().find(|&k| self.ratios[k].is_some());
        let seen = smaller.or_else(|| (own..self.ratios.len()).find(|&k| self.ratios[k].is_some()));
        seen.map_or(self.first_ratio, |k| self.implied(k, own))
    }

    /// What batches of entry `from` say of those of entry `of`.
    ///
    /// What a small batch takes longer than its curve is mostly paid once a batch (cold caches, weights read from memory, the wait for
    /// the next quota), so a larger one is taken to exceed its curve by as much, not by as many times: or small batches would make
    /// large ones look hopeless, and they would never be tried.
    fn implied(&self, from: usize, of: usize) -> f64 {
        let ratio = self.ratios[from].unwrap_or(self.first_ratio);
        if of <= from || ratio <= 1.0 {
            return ratio;
        }
        1.0 + (ratio - 1.0) * self.base(1 << from) / self.base(1 << of)
    }

    /// Expected time of the computation alone: what a batch adds when it waits in the worker behind another, for its way to the worker
    /// passes meanwhile.
    pub fn computing(&self, rows: u32) -> Duration {
        duration(self.computing_us(rows))
    }

    /// Expected time of a batch of `rows` that is sent to an executor with nothing to do.
    pub fn expected(&self, rows: u32) -> Duration {
        duration(self.computing_us(rows) + self.overhead_us)
    }

    /// `caution` mean deviations of a computation; as long for a large batch as for a small one, for it is mostly the wait for a quota.
    pub fn margin(&self, rows: u32, caution: f64) -> Duration {
        let deviation_us = self.deviation_us.max(LEAST_DEVIATION * self.base(rows));
        Duration::from_micros((caution * deviation_us).clamp(0.0, 1e12) as u64)
    }

    /// Takes in one batch; `gap` is what it took beyond the computation, when it did not wait in the worker.
    pub fn observe(&mut self, rows: u32, compute: Duration, gap: Option<Duration>) {
        let seen = (compute.as_secs_f64() * 1e6 / self.base(rows)).clamp(1.0 / CLAMP, CLAMP);
        let (before, own) = (self.ratio(rows), bucket(rows).min(self.ratios.len() - 1));
        self.deviation_us += ALPHA * ((seen - before).abs() * self.base(rows) - self.deviation_us);
        self.ratios[own] = Some(before + ALPHA * (seen - before));
        self.batches[own] += 1;
        // Sizes that are not dispatched at present must not keep what a hiccup once taught them.
        for other in (0..self.ratios.len()).filter(|&other| other != own) {
            let implied = self.implied(own, other);
            if let Some(ratio) = &mut self.ratios[other] {
                *ratio += FORGET * (implied - *ratio);
            }
        }
        for entry in 0..self.believed.len() {
            self.believed[entry] = self.seen(entry);
        }
        if let Some(gap) = gap {
            let gap_us = gap.as_secs_f64() * 1e6;
            let alpha = if self.observed { ALPHA } else { 1.0 };
            self.overhead_us += alpha * (gap_us - self.overhead_us);
            self.observed = true;
        }
    }

    /// What was seen, by size of the batch.
    pub fn times(&self) -> impl Iterator<Item = BatchTime> {
        self.batches.iter().enumerate().filter(|(_, batches)| **batches > 0).map(|(entry, &batches)| {
            let rows = 1 << entry;
            BatchTime { rows, ms: self.computing_us(rows) / 1e3, batches }
        })
    }

    /// Whether one batch should wait in the worker while another is computed.
    pub fn ahead_pays(&self) -> bool {
        self.observed && self.overhead_us > AHEAD_PAYS * self.computing_us(1)
    }

    /// Batch of the highest throughput for which two computations and one way to the worker and back fit into the SLO (a request waits
    /// for the batch before its own), and that throughput in rows per microsecond on one executor. When none does: the smallest batch.
    ///
    /// The way is no part of the throughput: it passes while the executor computes the batch before.
    pub fn best(&self, slo: Duration) -> (u32, f64) {
        let room = slo.as_micros() as f64 - self.overhead_us;
        let mut best = (1, self.computing_us(1).max(1.0));
        for rows in 1..self.base_us.len() as u32 {
            let us = self.computing_us(rows);
            if 2.0 * us > room {
                break;
            }
            let us = us.max(1.0);
            // As `rows / us >= best rows / best us`: this is asked for after every batch.
            if f64::from(rows) * best.1 >= f64::from(best.0) * us {
                best = (rows, us);
            }
        }
        (best.0, f64::from(best.0) / best.1)
    }

    fn computing_us(&self, rows: u32) -> f64 {
        self.base(rows) * self.ratio(rows)
    }

    fn base(&self, rows: u32) -> f64 {
        match self.base_us.get(rows.max(1) as usize) {
            Some(&us) => us,
            None => {
                let most = self.base_us.len() - 1;
                self.base_us[most] * f64::from(rows) / most as f64
            }
        }
    }
}

/// 5 ms per batch and 1 ms per row: the order of magnitude of a small model on one core, until service times correct it.
fn unknown_curve() -> Curve {
    Curve { points: vec![CurvePoint { batch: 1, core_ms: 6.0 }, CurvePoint { batch: 65, core_ms: 70.0 }] }
}

/// The entry of a batch size.
fn bucket(rows: u32) -> usize {
    rows.max(1).ilog2() as usize
}

fn duration(us: f64) -> Duration {
    // Rounds as `f64::round` does, which is a call.
    Duration::from_micros((us.clamp(1.0, 1e12) + 0.5) as u64)
}

/// When a batch begins if `executors` are busy until `ends`: now, or when enough of them are expected to be free.
pub(super) fn soonest_start(now: Time, executors: u32, ends: impl ExactSizeIterator<Item = Time>) -> Time {
    let executors = executors.max(1) as usize;
    if ends.len() < executors {
        return now;
    }
    if executors == 1 {
        return ends.max().map_or(now, |end| end.max(now));
    }
    let mut ends: Vec<Time> = ends.collect();
    ends.sort_unstable();
    ends[ends.len() - executors].max(now)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn speed(share: f64) -> Speed {
        let points = [(1, 1.0), (4, 2.0), (16, 6.0)].map(|(batch, core_ms)| CurvePoint { batch, core_ms }).to_vec();
        Speed::new(&Curve { points }, &LaneSpec::cores(share), 16, 1.0)
    }

    #[test]
    fn the_expectation_is_the_curve_scaled_by_the_share() {
        assert_eq!(speed(1.0).expected(4), Duration::from_micros(2000));
        assert_eq!(speed(0.5).expected(4), Duration::from_micros(4000));
        let mut unsteady = speed(1.0);
        unsteady.observe(4, speed(1.0).expected(4) * 2, None);
        assert!(unsteady.margin(1, 1.0) > speed(1.0).margin(1, 1.0));
    }

    #[test]
    fn observed_times_correct_the_curve_within_the_clamp() {
        let mut speed = speed(1.0);
        for _ in 0..50 {
            speed.observe(4, Duration::from_millis(4), Some(Duration::from_micros(50)));
        }
        assert!((speed.ratio(1) - 2.0).abs() < 0.01);
        assert_eq!(speed.expected(4), Duration::from_micros(4050));
        for _ in 0..50 {
            speed.observe(4, Duration::from_secs(60), None);
        }
        assert!(speed.ratio(1) <= CLAMP);
    }

    #[test]
    fn what_was_seen_is_told_by_size_of_the_batch() {
        let mut speed = speed(1.0);
        assert_eq!(speed.times().count(), 0);
        for _ in 0..200 {
            speed.observe(5, Duration::from_millis(7), None);
        }
        let times: Vec<BatchTime> = speed.times().collect();
        // A batch of 5 should have taken 2.33 ms and took 7: three times as long, and so does a batch of 4.
        let [BatchTime { rows: 4, ms, batches: 200 }] = times[..] else { panic!("{times:?}") };
        assert!((ms - 6.0).abs() < 0.01, "{ms}");
    }

    #[test]
    fn a_slow_small_batch_does_not_make_a_large_one_look_hopeless() {
        let mut speed = speed(1.0);
        let (one, eight) = (speed.expected(1), speed.expected(8));
        for _ in 0..100 {
            speed.observe(1, one * 3, None);
        }
        let excess = speed.expected(1) - one;
        assert!(speed.expected(8) <= eight + excess + Duration::from_micros(1), "{:?} {eight:?} {excess:?}", speed.expected(8));
    }

    #[test]
    fn a_batch_ahead_pays_when_the_way_is_long() {
        let mut speed = speed(1.0);
        assert!(!speed.ahead_pays());
        speed.observe(1, Duration::from_millis(1), Some(Duration::from_micros(20)));
        assert!(!speed.ahead_pays());
        for _ in 0..20 {
            speed.observe(1, Duration::from_millis(1), Some(Duration::from_micros(400)));
        }
        assert!(speed.ahead_pays());
    }

    #[test]
    fn the_best_batch_leaves_half_of_the_slo() {
        assert_eq!(speed(1.0).best(Duration::from_millis(20)).0, 16);
        assert_eq!(speed(1.0).best(Duration::from_millis(4)).0, 4);
        assert_eq!(speed(1.0).best(Duration::from_millis(1)).0, 1);
    }

    #[test]
    fn an_unknown_curve_is_a_guess_and_not_nothing() {
        let speed = Speed::new(&Curve::default(), &LaneSpec::cores(1.0), 8, 1.0);
        assert_eq!(speed.expected(1), Duration::from_millis(6));
        assert_eq!(speed.expected(16), Duration::from_millis(26));
    }

    #[test]
    fn a_batch_starts_when_the_first_executor_is_free() {
        assert_eq!(soonest_start(Time(5), 2, [Time(9)].into_iter()), Time(5));
        assert_eq!(soonest_start(Time(5), 2, [Time(9), Time(7)].into_iter()), Time(7));
        assert_eq!(soonest_start(Time(5), 2, [Time(9), Time(7), Time(8)].into_iter()), Time(8));
        assert_eq!(soonest_start(Time(5), 1, [Time(3)].into_iter()), Time(5));
        assert_eq!(soonest_start(Time(5), 1, [Time(8), Time(9), Time(7)].into_iter()), Time(9));
    }
}
