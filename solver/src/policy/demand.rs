//! What rivals expect of a tenant: arrivals of the window, and what a share of a GPU does for it.

use crate::problem::{Problem, TenantId};

/// Furthest that a forecast is read, seconds.
const FURTHEST_S: f64 = 3600.0;

/// Seconds of the forecast that lie in this window, at least one.
fn seconds(problem: &Problem) -> usize {
    problem.window_left_s.clamp(1.0, FURTHEST_S).ceil() as usize
}

/// Every scenario of a tenant: probability and requests/s of each second to the window's end.
fn courses(problem: &Problem, id: TenantId) -> impl Iterator<Item = (f64, impl Iterator<Item = f64> + '_)> + '_ {
    let seconds = seconds(problem);
    problem.tenants[id.index()].demand.iter().map(move |scenario| {
        let last = scenario.rps.last().copied().unwrap_or(0.0);
        (scenario.probability, (0..seconds).map(move |t| scenario.rps.get(t).copied().unwrap_or(last)))
    })
}

/// Tenants that some profile of this host is of use to: the others have left, or fit nowhere.
pub(super) fn servable(problem: &Problem) -> Vec<TenantId> {
    let any = |id: &TenantId| {
        let rates = |model: usize| problem.models[model].catalog.profile_ids().map(move |profile| problem.rate(*id, model, profile));
        problem.gpus.iter().any(|gpu| rates(gpu.model).any(|rps| rps > 0.0))
    };
    (0..problem.tenants.len() as u16).map(TenantId).filter(any).collect()
}

/// Mean requests/s to the window's end.
pub(super) fn mean_rps(problem: &Problem, id: TenantId) -> f64 {
    let seconds = seconds(problem) as f64;
    courses(problem, id).map(|(probability, rps)| probability * rps.sum::<f64>() / seconds).sum()
}

/// Highest requests/s to the window's end, in any scenario.
pub(super) fn peak_rps(problem: &Problem, id: TenantId) -> f64 {
    courses(problem, id).flat_map(|(_, rps)| rps).fold(0.0, f64::max)
}

/// Requests/s that are exceeded in a share `1 - q` of the seconds to the window's end.
pub(super) fn quantile_rps(problem: &Problem, id: TenantId, q: f64) -> f64 {
    let mut all: Vec<(f64, f64)> = courses(problem, id).flat_map(|(probability, rps)| rps.map(move |rps| (rps, probability))).collect();
    all.sort_by(|a, b| a.0.total_cmp(&b.0));
    let whole: f64 = all.iter().map(|(_, weight)| weight).sum();
    let mut below = 0.0;
    let found = all.iter().find(|(_, weight)| {
        below += weight;
        below >= q * whole - 1e-9
    });
    found.map_or(0.0, |(rps, _)| *rps)
}

/// What a share of a GPU gives, between the profiles in proportion, beyond a GPU as several.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Scale {
    /// Share and what it gives, ascending; the least share that gives anything first.
    points: Vec<(f64, f64)>,
    /// Whether less than the first point gives in proportion: the smallest profile of all fits.
    from_zero: bool,
}

impl Scale {
    /// A tenant's requests/s.
    pub fn serving(problem: &Problem, id: TenantId, model: usize) -> Scale {
        Scale::of(problem, model, |profile| problem.rate(id, model, profile))
    }

    /// The share of a tenant's retraining that is done per second; nothing when none is due.
    pub fn training(problem: &Problem, id: TenantId, model: usize) -> Scale {
        let speed = |seconds: f64| 1.0 / seconds.max(1e-3);
        Scale::of(problem, model, |profile| problem.work_s(id, model, profile).map_or(0.0, speed))
    }

    fn of(problem: &Problem, model: usize, gives: impl Fn(migrator_mig::ProfileId) -> f64) -> Scale {
        let catalog = &problem.models[model].catalog;
        let whole = f64::from(catalog.compute_slices.max(1));
        let point = |profile| (f64::from(catalog.profile(profile).compute_slices) / whole, gives(profile));
        let mut points: Vec<(f64, f64)> = Vec::new();
        for (share, value) in catalog.profile_ids().map(point).filter(|(_, value)| *value > 0.0) {
            match points.last_mut() {
                // Of profiles with as many compute slices the better; a larger share never gives less.
                Some(last) if last.0 >= share => last.1 = last.1.max(value),
                Some(&mut (_, before)) => points.push((share, value.max(before))),
                None => points.push((share, value)),
            }
        }
        let least = catalog.profiles.first().map_or(0.0, |profile| f64::from(profile.compute_slices) / whole);
        let from_zero = points.first().is_some_and(|(share, _)| *share <= least + 1e-9);
        Scale { points, from_zero }
    }

    /// Whether no share gives anything.
    pub fn is_nothing(&self) -> bool {
        self.points.is_empty()
    }

    /// What so many GPUs give.
    pub fn at(&self, gpus: f64) -> f64 {
        let Some(&(most, full)) = self.points.last() else { return 0.0 };
        let whole = (gpus / most + 1e-9).floor().max(0.0);
        whole * full + self.part(gpus - whole * most)
    }

    fn part(&self, share: f64) -> f64 {
        let after = self.points.iter().position(|(at, _)| *at > share + 1e-9).unwrap_or(self.points.len());
        let (from, value) = match after {
            0 if self.from_zero => (0.0, 0.0),
            0 => return 0.0,
            _ => self.points[after - 1],
        };
        match self.points.get(after) {
            Some(&(to, more)) if share > from => value + (more - value) * (share - from) / (to - from),
            _ => value,
        }
    }
}

/// The GPU model that most GPUs are of, the first of equals: what a share of "a GPU" is a share of.
pub(super) fn usual_model(problem: &Problem) -> usize {
    let count = |model: usize| problem.gpus.iter().filter(|gpu| gpu.model == model).count();
    (0..problem.models.len()).rev().max_by_key(|&model| count(model)).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::problem::Scenario;
    use crate::testing::{due, problem, tenant};

    #[test]
    fn a_window_is_read_to_its_end_and_its_last_value_holds() {
        let mut host = problem(vec![tenant("vision", 10.0)]);
        host.window_left_s = 100.0;
        host.tenants[0].demand = Scenario::certain([vec![10.0; 49], vec![90.0], vec![50.0]].concat());
        assert_eq!(peak_rps(&host, TenantId(0)), 90.0);
        assert_eq!(mean_rps(&host, TenantId(0)), (490.0 + 90.0 + 50.0 * 50.0) / 100.0);
        assert_eq!((quantile_rps(&host, TenantId(0), 0.49), quantile_rps(&host, TenantId(0), 0.95)), (10.0, 50.0));
        host.window_left_s = 10.0;
        assert_eq!(peak_rps(&host, TenantId(0)), 10.0);
    }

    #[test]
    fn a_share_between_two_profiles_gives_in_proportion() {
        let host = problem(vec![tenant("vision", 10.0)]);
        let scale = Scale::serving(&host, TenantId(0), 0);
        assert_eq!((scale.at(0.0), scale.at(1.0 / 7.0), scale.at(2.0)), (0.0, 10.0, 116.0));
        assert!((scale.at(1.5 / 7.0) - 14.5).abs() < 1e-9 && (scale.at(0.5 / 7.0) - 5.0).abs() < 1e-9);
        assert!((scale.at(1.0 + 2.0 / 7.0) - 77.0).abs() < 1e-9);
    }

    #[test]
    fn less_than_the_smallest_profile_that_fits_gives_nothing() {
        let mut host = problem(vec![tenant("vision", 10.0)]);
        host.tenants[0].capacity_rps[0][0] = 0.0;
        let scale = Scale::serving(&host, TenantId(0), 0);
        assert_eq!((scale.at(1.9 / 7.0), scale.at(2.0 / 7.0)), (0.0, 19.0));
        assert!(Scale::training(&host, TenantId(0), 0).is_nothing());
        host.tenants[0].retraining = due(70.0, 0.9);
        assert!((Scale::training(&host, TenantId(0), 0).at(1.0 / 7.0) - 1.0 / 70.0).abs() < 1e-9);
    }
}
