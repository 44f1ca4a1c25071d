//! Figures of one model on one GPU model, by compute slices, repaired where measurements contradict each other.

use std::collections::BTreeMap;

/// Milliseconds of a batch, by compute slices and ascending batch.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Inference {
    pub(super) ms: BTreeMap<u8, Vec<(u32, f64)>>,
    /// Where a measured figure was not used as it is.
    pub repairs: Vec<Repair>,
}

/// Seconds of an iteration over `batch` rows, by compute slices; what is not there does not fit.
#[derive(Clone, Debug, PartialEq)]
pub struct Training {
    /// Rows of an iteration.
    pub batch: u32,
    pub(super) iteration_s: BTreeMap<u8, f64>,
}

/// A measured figure that contradicts another.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Repair {
    /// Compute slices of the profile.
    pub slices: u8,
    /// Rows.
    pub batch: u32,
    /// What was measured, milliseconds.
    pub measured_ms: f64,
    /// What is used, milliseconds.
    pub used_ms: f64,
}

impl Inference {
    /// Figures as measured, repaired: a batch takes no longer than a larger one (it can be padded) nor than on fewer slices (it can leave some
    /// idle), so each figure is the least of itself and those.
    pub fn new(measured: BTreeMap<u8, Vec<(u32, f64)>>) -> Inference {
        let bound = |slices: u8, batch: u32| {
            let smaller = measured.range(..=slices).flat_map(|(_, points)| points);
            smaller.filter(|(rows, _)| *rows >= batch).map(|(_, ms)| *ms).fold(f64::INFINITY, f64::min)
        };
        let mut figures = Inference::default();
        for (&slices, points) in &measured {
            let mut used = Vec::with_capacity(points.len());
            for &(batch, measured_ms) in points {
                let used_ms = bound(slices, batch);
                if used_ms < measured_ms {
                    figures.repairs.push(Repair { slices, batch, measured_ms, used_ms });
                }
                used.push((batch, used_ms));
            }
            figures.ms.insert(slices, used);
        }
        figures
    }

    /// Rows and milliseconds of the measured batches on a profile of so many compute slices; `None` = not measured.
    pub fn on(&self, slices: u8) -> Option<&[(u32, f64)]> {
        self.ms.get(&slices).map(Vec::as_slice)
    }

    /// Rows and milliseconds on a share of the GPU without MIG; `share_of` gives the share of the whole GPU that a profile has.
    ///
    /// Every batch that the largest profile was measured with, its rate taken from [`rate`].
    pub fn on_share(&self, share: f64, share_of: impl Fn(u8) -> Option<f64>) -> Vec<(u32, f64)> {
        let Some((_, batches)) = self.ms.last_key_value() else { return Vec::new() };
        let ms = |&(batch, _): &(u32, f64)| {
            let measured = self.ms.iter().filter_map(|(slices, points)| {
                let (_, ms) = points.iter().find(|(rows, _)| *rows == batch)?;
                Some((share_of(*slices)?, 1.0 / ms))
            });
            (batch, 1.0 / rate(&measured.collect::<Vec<_>>(), share))
        };
        batches.iter().map(ms).collect()
    }
}

impl Training {
    /// Figures as measured, repaired: an iteration takes no longer than on fewer slices. A profile without figures that is larger than one with
    /// figures is as fast as that.
    pub fn new(batch: u32, measured: BTreeMap<u8, f64>) -> Training {
        let mut least = f64::INFINITY;
        let mut repaired = |(slices, seconds): (u8, f64)| {
            least = least.min(seconds);
            (slices, least)
        };
        Training { batch, iteration_s: measured.into_iter().map(&mut repaired).collect() }
    }

    /// Seconds of one sample on a profile of so many compute slices; infinite where it does not fit.
    pub fn sample_s(&self, slices: u8) -> f64 {
        self.iteration_s.range(..=slices).next_back().map_or(f64::INFINITY, |(_, seconds)| seconds / f64::from(self.batch))
    }

    /// Seconds of one sample on a share of the GPU without MIG, where memory is not cut; see [`Inference::on_share`].
    pub fn sample_s_on_share(&self, share: f64, share_of: impl Fn(u8) -> Option<f64>) -> f64 {
        let measured: Vec<(f64, f64)> =
            self.iteration_s.iter().filter_map(|(slices, seconds)| Some((share_of(*slices)?, 1.0 / seconds))).collect();
        1.0 / (rate(&measured, share) * f64::from(self.batch))
    }
}

/// Rate on a share of the GPU from rates measured on some shares, ascending: between two of them linear; below the first in proportion to the
/// share; beyond the last by the last two's slope, at most in proportion.
fn rate(measured: &[(f64, f64)], share: f64) -> f64 {
    let after = measured.partition_point(|(at, _)| *at < share);
    match (after.checked_sub(1).map(|before| measured[before]), measured.get(after)) {
        (_, Some(&(at, rate))) if at == share => rate,
        (Some((s0, r0)), Some(&(s1, r1))) => r0 + (r1 - r0) * (share - s0) / (s1 - s0),
        (None, Some(&(s1, r1))) => r1 * share / s1,
        (Some((s1, r1)), None) => {
            let slope = after.checked_sub(2).map_or(r1 / s1, |before| (r1 - measured[before].1) / (s1 - measured[before].0));
            r1 + slope.clamp(0.0, r1 / s1) * (share - s1)
        }
        (None, None) => 0.0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_contradiction_is_repaired_by_padding_and_said() {
        let measured = BTreeMap::from([(1, vec![(1, 5.0), (2, 4.0), (4, 8.0)]), (2, vec![(1, 3.0), (2, 4.5), (4, 5.0)])]);
        let figures = Inference::new(measured);
        assert_eq!(figures.on(1).unwrap(), [(1, 4.0), (2, 4.0), (4, 8.0)]);
        assert_eq!(figures.on(2).unwrap(), [(1, 3.0), (2, 4.0), (4, 5.0)]);
        assert_eq!(figures.repairs.len(), 2);
        assert_eq!(figures.repairs[1], Repair { slices: 2, batch: 2, measured_ms: 4.5, used_ms: 4.0 });
        assert_eq!(figures.on(3), None);
    }

    #[test]
    fn training_does_not_fit_below_the_smallest_figure_and_is_no_slower_above_it() {
        let training = Training::new(10, BTreeMap::from([(2, 1.0), (4, 1.2), (7, 0.5)]));
        assert_eq!(training.sample_s(1), f64::INFINITY);
        assert_eq!([training.sample_s(3), training.sample_s(4), training.sample_s(7)], [0.1, 0.1, 0.05]);
    }

    #[test]
    fn a_share_is_interpolated_and_never_better_than_in_proportion() {
        let measured = [(0.2, 10.0), (0.4, 18.0), (0.8, 20.0)];
        assert_eq!(rate(&measured, 0.4), 18.0);
        assert!((rate(&measured, 0.3) - 14.0).abs() < 1e-9);
        assert!((rate(&measured, 0.1) - 5.0).abs() < 1e-9);
        assert!((rate(&measured, 1.0) - 21.0).abs() < 1e-9);
        assert!((rate(&[(0.5, 10.0)], 1.0) - 20.0).abs() < 1e-9);
        assert_eq!(rate(&[], 0.5), 0.0);
    }
}
