//! Measured speed of a model as a function of its share of the compute and of the batch.

use serde::{Deserialize, Serialize};

/// One measured point: a batch of `batch` rows takes `core_ms` of one core's time.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CurvePoint {
    /// Rows in the batch.
    pub batch: u32,
    /// Time on the whole of one executor (one core, or one whole instance on a GPU), milliseconds.
    pub core_ms: f64,
}

/// Latency of a model by batch and by compute share; points by ascending batch.
///
/// On the `cpu` device an instance of `share` cores runs `max(1, ceil(share))` executors; a batch on one executor takes
/// `core_ms × executors / share` on average, for the quota is spread over the executors.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Curve {
    /// Points by ascending batch.
    pub points: Vec<CurvePoint>,
}

/// Executors of an instance that has `share` cores.
pub fn executors(share: f64) -> u32 {
    (share - 1e-6).ceil().max(1.0) as u32
}

impl Curve {
    /// Core milliseconds of a batch of `rows`, interpolated between measured batches, extrapolated per row beyond them.
    /// An empty curve gives 0.
    pub fn core_ms(&self, rows: u32) -> f64 {
        let Some(first) = self.points.first() else { return 0.0 };
        let rows = f64::from(rows.max(1));
        let mut below = *first;
        for point in &self.points {
            let (b0, b1) = (f64::from(below.batch), f64::from(point.batch));
            if b1 >= rows {
                let along = if b1 > b0 { ((rows - b0) / (b1 - b0)).clamp(0.0, 1.0) } else { 0.0 };
                return below.core_ms + (point.core_ms - below.core_ms) * along;
            }
            below = *point;
        }
        below.core_ms * rows / f64::from(below.batch)
    }

    /// With a point for each of these ascending batches: beyond the largest that was measured, a further row takes what it took between the two
    /// largest, within half and all of what a row of the largest took. As it is when nothing was measured.
    #[must_use]
    pub fn reaching(mut self, batches: &[u32]) -> Curve {
        let Some(&last) = self.points.last() else { return self };
        let a_row = last.core_ms / f64::from(last.batch.max(1));
        let further = match self.points[..] {
            [.., before, _] => (last.core_ms - before.core_ms) / f64::from(last.batch - before.batch),
            _ => a_row,
        };
        let further = further.clamp(a_row / 2.0, a_row);
        let beyond = batches.iter().filter(|&&batch| batch > last.batch);
        self.points.extend(beyond.map(|&batch| CurvePoint { batch, core_ms: last.core_ms + further * f64::from(batch - last.batch) }));
        self
    }

    /// Expected milliseconds of a batch of `rows` on one executor of an instance of `share` cores.
    pub fn latency_ms(&self, share: f64, rows: u32) -> f64 {
        self.core_ms(rows) * f64::from(executors(share)) / share.max(1e-6)
    }

    /// Requests/s (of one row) an instance of `share` cores answers within `slo_ms`; see [`OnProfile::capacity_rps`].
    pub fn capacity_rps(&self, share: f64, slo_ms: f64, utilisation: f64) -> f64 {
        OnProfile::scaled(self, share).capacity_rps(slo_ms, utilisation)
    }

    /// All points, `factor` times as slow.
    #[must_use]
    pub fn slowed(&self, factor: f64) -> Curve {
        Curve { points: self.points.iter().map(|p| CurvePoint { batch: p.batch, core_ms: p.core_ms * factor }).collect() }
    }
}

/// Speed of a model on an instance of one profile.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct OnProfile {
    /// Milliseconds that the instance as a whole spends on a batch: with all executors busy, rows per second are `batch` × 1000 ÷ these.
    pub curve: Curve,
    /// Batches computed at the same time; one of them takes so many times the curve's milliseconds.
    pub executors: u32,
}

impl OnProfile {
    /// An instance that computes one batch after the other.
    pub fn one_by_one(curve: Curve) -> OnProfile {
        OnProfile { curve, executors: 1 }
    }

    /// An instance of `share` cores, from the milliseconds of one core.
    pub fn scaled(core: &Curve, share: f64) -> OnProfile {
        OnProfile { curve: core.slowed(1.0 / share.max(1e-6)), executors: executors(share) }
    }

    /// Expected milliseconds of a batch of `rows` on one executor while the others are busy as well.
    pub fn latency_ms(&self, rows: u32) -> f64 {
        self.curve.core_ms(rows) * f64::from(self.executors)
    }

    /// Requests/s (of one row) that it answers within `slo_ms`: the best batch whose latency leaves half of the SLO for waiting
    /// (iGniter's rule), at `utilisation` of its full speed. 0 when even a single row is too slow.
    pub fn capacity_rps(&self, slo_ms: f64, utilisation: f64) -> f64 {
        let full = |point: &CurvePoint| f64::from(point.batch) * 1000.0 / point.core_ms.max(1e-6);
        let fits = |limit: f64| self.curve.points.iter().filter(|p| self.latency_ms(p.batch) <= limit).map(full).fold(0.0, f64::max);
        utilisation * if fits(slo_ms / 2.0) > 0.0 { fits(slo_ms / 2.0) } else { fits(slo_ms * 0.8) * 0.5 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn curve() -> Curve {
        Curve { points: [(1, 1.0), (4, 2.0), (16, 6.0)].map(|(batch, core_ms)| CurvePoint { batch, core_ms }).to_vec() }
    }

    #[test]
    fn latency_lies_between_the_measured_points() {
        assert_eq!(curve().core_ms(1), 1.0);
        assert!((curve().core_ms(10) - 4.0).abs() < 1e-9);
        assert!((curve().core_ms(32) - 12.0).abs() < 1e-9);
    }

    #[test]
    fn beyond_the_measured_batches_a_row_takes_what_the_last_ones_took() {
        let reaching = |points: &[(u32, f64)]| {
            let points = points.iter().map(|&(batch, core_ms)| CurvePoint { batch, core_ms }).collect();
            Curve { points }.reaching(&[1, 2, 4, 8, 10]).points.iter().map(|point| (point.batch, point.core_ms)).collect::<Vec<_>>()
        };
        assert_eq!(reaching(&[(1, 10.0), (2, 16.0)]), [(1, 10.0), (2, 16.0), (4, 28.0), (8, 52.0), (10, 64.0)]);
        assert_eq!(reaching(&[(1, 10.0)])[1..3], [(2, 20.0), (4, 40.0)]);
        // Noise: the larger batch seemed to take less, or far more a row.
        assert_eq!(reaching(&[(1, 10.0), (2, 8.0)])[2], (4, 12.0));
        assert_eq!(reaching(&[(1, 1.0), (2, 8.0)])[2], (4, 16.0));
        assert_eq!(reaching(&[]), []);
        assert_eq!(reaching(&[(10, 3.0)]), [(10, 3.0)]);
    }

    #[test]
    fn half_a_core_takes_twice_as_long_and_two_cores_run_two_executors() {
        assert_eq!(curve().latency_ms(0.5, 4), 4.0);
        assert_eq!(curve().latency_ms(2.0, 4), 2.0);
    }

    #[test]
    fn two_executors_double_the_rate_and_not_the_speed_of_a_batch() {
        let two = OnProfile::scaled(&curve(), 2.0);
        assert_eq!((two.executors, two.curve.core_ms(4), two.latency_ms(4)), (2, 1.0, 2.0));
        // A batch of 16 takes 6 ms, of 4 takes 2.
        assert!((two.capacity_rps(12.0, 1.0) - 16_000.0 / 3.0).abs() < 1e-6);
        assert!((two.capacity_rps(11.0, 1.0) - 4000.0).abs() < 1e-6);
    }

    #[test]
    fn capacity_grows_with_the_share_and_is_zero_when_the_slo_cannot_be_met() {
        let rps = |share| curve().capacity_rps(share, 20.0, 1.0);
        assert!(rps(1.0) > rps(0.5) && rps(0.5) > rps(0.25));
        assert_eq!(curve().capacity_rps(0.01, 20.0, 1.0), 0.0);
    }
}
