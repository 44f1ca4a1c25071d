//! UB*: more goodput than this no policy gets out of a window, whatever it knows and however fast it changes.
//!
//! The Lagrangian bound of `reference/ilp.md` section 5: arrivals are known, changes take no time and cost nothing, retrainings may be
//! split over seconds and profiles, moved and paused; what remains is that the slices are finite, that instances are whole, and that
//! a better model must be paid for before it serves. For one price per second and row μ ≥ 0,
//!
//! ```text
//! L(μ) = Σ_t μ_t·h + Σ_i max_f [ Σ_{t<f} max_m (a0 min(λ_t, C_m) − μ_t·α_m) + Σ_{t≥f} max_m (a1 min(λ_t, C_m) − μ_t·α_m) − K_f(μ) ]
//! ```
//!
//! bounds the goodput from above: m are the bundles of inference instances, f is the second in which the retraining ends (counted
//! in full), or never, and K_f is the cheapest cover of its work by the seconds up to f. A subgradient method looks for the lowest.

mod bundle;
mod buyer;
mod cover;
mod dual;
mod run;
mod rush;
#[cfg(test)]
mod tests;
mod walk;

pub use run::{Bound, Client, Made, Version, bound};

use crate::problem::{Problem, TenantId};
use crate::shape::{Kind, Shape};
use bundle::Offer;
use buyer::{Buyer, Job, Way};
use dual::Dual;
use rush::Patience;

/// Iterations of [`upper_bound`] that are enough: 20 times as many lower it by less than 0.05 % (1 × 4 and 8 × 16, six windows of 200 s).
pub const ITERATIONS: u32 = 400;

/// What a second of the GPUs can hold: rows Σ_k α_rk n_k ≤ h_r over the kinds of instances.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Room {
    /// α by kind, then row.
    pub kinds: Vec<Vec<f64>>,
    /// h by row.
    pub most: Vec<f64>,
}

/// Upper bound on the weighted goodput, in requests, of the `problem`'s window from now to its end, if its demand is what will
/// truly arrive: [`ITERATIONS`] of them make it tight, and every number of iterations makes it valid. Of several scenarios, the
/// expectation over their bounds: each time it is known which one comes. Backlog and what is beyond the window are left out;
/// instances in force do not matter, not even pinned ones, for changes are free.
pub fn upper_bound(problem: &Problem, iterations: u32) -> f64 {
    let seconds = problem.window_left_s.clamp(0.0, 86_400.0).ceil() as usize;
    let (room, kinds) = room(problem);
    let scenarios = problem.tenants.iter().map(|tenant| tenant.demand.len()).max().unwrap_or(0);
    let bound = |scenario: usize| {
        let buyer = |index: usize| buyer(problem, &room, &kinds, TenantId(index as u16), scenario, seconds);
        let buyers = (0..problem.tenants.len()).map(buyer).collect();
        Dual::new(room.clone(), buyers, seconds).lowest(iterations)
    };
    (0..scenarios).map(|scenario| probability(problem, scenario) * bound(scenario)).sum()
}

/// Probability of the scenario of this index; all tenants that have several are taken to have the same ones.
fn probability(problem: &Problem, scenario: usize) -> f64 {
    let most = problem.tenants.iter().max_by_key(|tenant| tenant.demand.len());
    most.and_then(|tenant| tenant.demand.get(scenario)).map_or(0.0, |scenario| scenario.probability)
}

/// The rows that count vectors of all GPUs obey, as if nothing were pinned.
fn room(problem: &Problem) -> (Room, Vec<Kind>) {
    let mut bare = Problem { tenants: Vec::new(), ..problem.clone() };
    bare.gpus.iter_mut().for_each(|gpu| gpu.instances.clear());
    let shape = Shape::new(&bare);
    let kinds: Vec<Kind> = shape.kinds().to_vec();
    let alpha = |kind: usize| shape.rows().iter().map(|row| f64::from(row.alpha[kind])).collect();
    let room = Room { kinds: (0..kinds.len()).map(alpha).collect(), most: shape.rows().iter().map(|row| f64::from(row.most)).collect() };
    (room, kinds)
}

fn buyer(problem: &Problem, room: &Room, kinds: &[Kind], id: TenantId, scenario: usize, seconds: usize) -> Buyer {
    let tenant = &problem.tenants[id.index()];
    let course = tenant.demand.get(scenario).or(tenant.demand.last());
    let rps = course.map_or(&[][..], |scenario| &scenario.rps);
    let last = rps.last().copied().unwrap_or(0.0);
    let arrivals: Vec<f64> = (0..seconds).map(|t| rps.get(t).copied().unwrap_or(last)).collect();
    let peak_rps = arrivals.iter().copied().fold(0.0, f64::max);
    let capacity: Vec<f64> = kinds.iter().map(|kind| problem.rate(id, kind.model, kind.profile)).collect();
    let speed = |kind: &Kind| problem.work_s(id, kind.model, kind.profile).map_or(0.0, |seconds| 1.0 / seconds.max(1e-6));
    let due = tenant.retraining.as_ref();
    let after = due.map(|due| due.accuracy_after.max(tenant.accuracy));
    let version = |accuracy: f64| buyer::Version { from: 0, worth: vec![tenant.weight * accuracy; seconds], heir: None };
    Buyer {
        offer: Offer::new(room, &capacity, peak_rps),
        waiting: vec![0.0; seconds],
        arrivals,
        patience: Patience::default(),
        versions: std::iter::once(tenant.accuracy).chain(after).map(version).collect(),
        jobs: due.map(|_| Job { seconds: 0..seconds, speeds: kinds.iter().map(speed).collect() }).into_iter().collect(),
        ways: due.map(|_| Way { job: 0, version: 1, seconds: 0..seconds }).into_iter().collect(),
    }
}
