//! Means and their 95 % intervals.

use distrs::StudentsT;

/// Probability that an interval leaves out at either end.
const TAIL: f64 = 0.025;

/// An estimate from several runs: its value, and how sure it is.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Estimate {
    centre: f64,
    variance: f64,
    freedom: f64,
    scale: Scale,
}

/// What an [`Estimate`] is the mean of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Scale {
    /// The samples themselves.
    Linear,
    /// Their logarithms: a geometric mean.
    Log,
}

impl Estimate {
    /// The mean, with Student's interval; `None` without samples or with one that is not finite.
    pub fn mean(samples: &[f64]) -> Option<Estimate> {
        Estimate::of(samples.iter().copied(), Scale::Linear)
    }

    /// The geometric mean, as fits ratios: twice as good and half as good are even. The interval is Student's on the logarithms. `None`
    /// without samples or with one that is not above 0.
    pub fn ratio(samples: &[f64]) -> Option<Estimate> {
        Estimate::of(samples.iter().map(|sample| sample.ln()), Scale::Log)
    }

    fn of(samples: impl ExactSizeIterator<Item = f64> + Clone, scale: Scale) -> Option<Estimate> {
        let count = samples.len() as f64;
        if count < 1.0 || !samples.clone().all(f64::is_finite) {
            return None;
        }
        let centre = samples.clone().sum::<f64>() / count;
        let squares: f64 = samples.map(|sample| (sample - centre).powi(2)).sum();
        let freedom = count - 1.0;
        let variance = if freedom > 0.0 { squares / freedom / count } else { 0.0 };
        Some(Estimate { centre, variance, freedom, scale })
    }

    /// The mean of independent estimates, each counting the same; degrees of freedom by Welch and Satterthwaite. `None` without any.
    pub fn average(parts: &[Estimate]) -> Option<Estimate> {
        let scale = parts.first()?.scale;
        let count = parts.len() as f64;
        let centre = parts.iter().map(|part| part.centre).sum::<f64>() / count;
        let variance = parts.iter().map(|part| part.variance).sum::<f64>() / count.powi(2);
        let least = parts.iter().map(|part| part.freedom).fold(f64::INFINITY, f64::min);
        let spread: f64 = parts.iter().map(|part| (part.variance / count.powi(2)).powi(2) / part.freedom.max(1.0)).sum();
        let freedom = if least <= 0.0 || spread <= 0.0 { least } else { variance.powi(2) / spread };
        Some(Estimate { centre, variance, freedom, scale })
    }

    /// The value.
    pub fn value(&self) -> f64 {
        self.unscale(self.centre)
    }

    /// The 95 % interval; `None` from a single run, which says nothing about the next one.
    pub fn interval(&self) -> Option<(f64, f64)> {
        if self.freedom < 1.0 {
            return None;
        }
        let half = StudentsT::ppf(1.0 - TAIL, self.freedom) * self.variance.sqrt();
        Some((self.unscale(self.centre - half), self.unscale(self.centre + half)))
    }

    /// Half of the interval's width.
    pub fn half_width(&self) -> Option<f64> {
        self.interval().map(|(low, high)| (high - low) / 2.0)
    }

    fn unscale(&self, value: f64) -> f64 {
        match self.scale {
            Scale::Linear => value,
            Scale::Log => value.exp(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn near(a: f64, b: f64, within: f64) {
        assert!((a - b).abs() <= within, "{a} is not {b}");
    }

    #[test]
    fn the_quantiles_are_those_of_the_tables() {
        // Two-sided 95 %, from any table of Student's distribution.
        for (freedom, quantile) in [(1.0, 12.706), (2.0, 4.303), (4.0, 2.776), (9.0, 2.262), (29.0, 2.045)] {
            near(StudentsT::ppf(1.0 - TAIL, freedom), quantile, 0.001);
        }
    }

    #[test]
    fn five_runs_give_an_interval_that_can_be_checked_by_hand() {
        let estimate = Estimate::mean(&[1.0, 2.0, 3.0, 4.0, 5.0]).unwrap();
        near(estimate.value(), 3.0, 1e-12);
        // Standard deviation √2.5, standard error √0.5, times 2.776.
        near(estimate.half_width().unwrap(), 2.776 * 0.5f64.sqrt(), 0.001);
    }

    #[test]
    fn one_run_has_no_interval_and_none_has_no_value() {
        assert_eq!(Estimate::mean(&[0.9]).unwrap().interval(), None);
        assert_eq!(Estimate::mean(&[]), None);
        assert_eq!(Estimate::mean(&[0.9, f64::NAN]), None);
    }

    #[test]
    fn equal_runs_have_an_interval_of_no_width() {
        assert_eq!(Estimate::mean(&[0.5, 0.5, 0.5]).unwrap().interval(), Some((0.5, 0.5)));
    }

    #[test]
    fn twice_and_half_make_one() {
        near(Estimate::ratio(&[2.0, 0.5]).unwrap().value(), 1.0, 1e-12);
        assert_eq!(Estimate::ratio(&[2.0, 0.0]), None);
        assert_eq!(Estimate::ratio(&[2.0, f64::INFINITY]), None);
    }

    #[test]
    fn an_average_is_as_sure_as_its_parts_together() {
        let parts = [Estimate::mean(&[1.0, 2.0, 3.0]).unwrap(), Estimate::mean(&[11.0, 12.0, 13.0]).unwrap()];
        let both = Estimate::average(&parts).unwrap();
        near(both.value(), 7.0, 1e-12);
        // Equal variances of three runs each: twice two degrees of freedom, and 1 / √2 of the error.
        near(both.half_width().unwrap(), 2.776 * (1.0f64 / 3.0).sqrt() / 2.0f64.sqrt(), 0.001);
    }

    #[test]
    fn an_average_with_a_single_run_in_it_has_no_interval() {
        let parts = [Estimate::mean(&[1.0, 2.0]).unwrap(), Estimate::mean(&[5.0]).unwrap()];
        assert_eq!(Estimate::average(&parts).unwrap().interval(), None);
    }
}
