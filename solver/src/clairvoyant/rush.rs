//! One second of one tenant: requests of this second and of those before it that may still be answered, and what capacity brings.

/// How long after its arrival a request may still be answered.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct Patience {
    /// Whole seconds after that of its arrival in which it may be answered.
    pub seconds: usize,
    /// Share of a second's capacity that can go to requests of earlier seconds.
    pub share: f64,
}

impl Patience {
    /// Of requests that may be answered so many seconds after their arrival.
    pub fn new(seconds: f64) -> Patience {
        let seconds = seconds.clamp(0.0, 3600.0);
        Patience { seconds: seconds.ceil() as usize, share: seconds.min(1.0) }
    }
}

/// Requests that capacity may answer in one second.
///
/// Let x_uv be the answers given in second v to requests of second u ≤ v ≤ u + k, of worth w_v; Σ_v x_uv ≤ λ_u and Σ_u x_uv ≤ C_v. With a
/// price w_u (1 - θ_u) on each request of second u, θ_u in 0..1 and w not rising from u to u + k,
///
/// ```text
/// Σ x_uv w_v ≤ Σ_v w_v [ (1 - θ_v) λ_v + max (θ_v own + Θ_v late) ],   own ≤ λ_v,  late ≤ min(s C_v, waiting),  own + late ≤ C_v
/// ```
///
/// where Θ_v is the largest θ_u of the k seconds before v. Any θ gives a bound; θ = 1 where capacity is short and 0 where requests are.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Rush {
    /// λ.
    pub arrivals: f64,
    /// Requests of the seconds before.
    pub waiting: f64,
    /// θ.
    pub own: f64,
    /// Θ.
    pub late: f64,
    /// s.
    pub share: f64,
}

impl Rush {
    /// The bracket, for capacity `rps`.
    pub fn served(&self, rps: f64) -> f64 {
        let (own, late) = self.split(rps);
        (1.0 - self.own) * self.arrivals + self.own * own + self.late * late
    }

    /// Own and late requests that `rps` answers best.
    pub fn split(&self, rps: f64) -> (f64, f64) {
        let most = (self.share * rps).min(self.waiting);
        if self.own >= self.late {
            let own = self.arrivals.min(rps);
            (own, most.min(rps - own))
        } else {
            (self.arrivals.min(rps - most), most)
        }
    }

    /// Capacities at which the slope of [`served`](Rush::served) may change.
    pub fn corners(&self) -> impl Iterator<Item = f64> {
        let (all, share) = (self.arrivals + self.waiting, self.share);
        let late = if share > 0.0 { self.waiting / share } else { 0.0 };
        let both = if share < 1.0 { self.arrivals / (1.0 - share) } else { all };
        [self.arrivals, all, late, both].into_iter().filter(|rps| *rps > 0.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rush(own: f64, late: f64) -> Rush {
        Rush { arrivals: 10.0, waiting: 6.0, own, late, share: 0.25 }
    }

    #[test]
    fn where_capacity_is_short_late_requests_fill_only_what_is_spare() {
        let rush = rush(1.0, 1.0);
        assert_eq!((rush.served(8.0), rush.served(12.0), rush.served(100.0)), (8.0, 12.0, 16.0));
        assert_eq!(rush.split(16.0), (10.0, 4.0));
    }

    #[test]
    fn where_requests_are_short_all_count_and_capacity_brings_nothing() {
        assert_eq!((rush(0.0, 0.0).served(0.0), rush(0.0, 0.0).served(50.0)), (10.0, 10.0));
    }

    #[test]
    fn late_requests_that_are_worth_more_come_first() {
        assert_eq!(rush(0.5, 1.0).split(8.0), (6.0, 2.0));
        assert_eq!(rush(0.5, 1.0).split(80.0), (10.0, 6.0));
    }

    #[test]
    fn between_corners_it_is_a_line() {
        for (own, late) in [(1.0, 1.0), (0.3, 0.9), (0.9, 0.3), (0.0, 1.0)] {
            let rush = rush(own, late);
            let mut corners: Vec<f64> = rush.corners().chain([0.0]).collect();
            corners.sort_by(f64::total_cmp);
            for pair in corners.windows(2) {
                let middle = rush.served((pair[0] + pair[1]) / 2.0);
                assert!((middle - (rush.served(pair[0]) + rush.served(pair[1])) / 2.0).abs() < 1e-9, "{own} {late} {pair:?}");
            }
        }
    }
}
