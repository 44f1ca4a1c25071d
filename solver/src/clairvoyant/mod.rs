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
mod cover;
mod dual;
#[cfg(test)]
mod tests;

use crate::problem::{Problem, Scenario, TenantId};
use crate::shape::{Kind, Shape};
use bundle::Offer;
use dual::Dual;

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

/// One tenant as the bound sees it.
#[derive(Clone, Debug)]
pub(crate) struct Buyer {
    /// True arrivals by second.
    pub arrivals: Vec<f64>,
    /// Worth of an answer before and after retraining.
    pub worth: [f64; 2],
    /// Inference instances it may hold together.
    pub offer: Offer,
    /// Share of the retraining done in a second, by kind; 0 = does not fit. Empty = none is due.
    pub speeds: Vec<f64>,
}

/// Upper bound on the weighted goodput, in requests, of the `problem`'s window from now to its end, if its demand is what will
/// truly arrive: [`ITERATIONS`] of them make it tight, and every number of iterations makes it valid. Backlog and what is beyond the
/// window are left out; instances in force and pinned ones do not matter, for changes are free.
pub fn upper_bound(problem: &Problem, iterations: u32) -> f64 {
    let seconds = problem.window_left_s.clamp(0.0, 86_400.0).ceil() as usize;
    let shape = unpinned(problem);
    let room = room(&shape);
    let buyers = (0..problem.tenants.len()).map(|index| buyer(problem, &shape, &room, TenantId(index as u16), seconds)).collect();
    Dual::new(room, buyers, seconds).lowest(iterations)
}

/// The rows that count vectors of all GPUs obey. For seven slices the four that are exactly MIG's geometry.
fn room(shape: &Shape) -> Room {
    let kinds = shape.kind_ids().map(|kind| shape.rows().iter().map(|row| f64::from(row.alpha[kind.index()])).collect()).collect();
    Room { kinds, most: shape.rows().iter().map(|row| f64::from(row.most)).collect() }
}

/// Everything could be cut anew for nothing: a bound on those who may not.
fn unpinned(problem: &Problem) -> Shape {
    let mut free = problem.clone();
    free.gpus.iter_mut().for_each(|gpu| gpu.instances.clear());
    Shape::new(&free)
}

fn buyer(problem: &Problem, shape: &Shape, room: &Room, id: TenantId, seconds: usize) -> Buyer {
    let tenant = &problem.tenants[id.index()];
    let expected = |t: usize| -> f64 {
        let rps = |scenario: &Scenario| scenario.rps.get(t).or(scenario.rps.last()).copied().unwrap_or(0.0);
        tenant.demand.iter().map(|scenario| scenario.probability * rps(scenario)).sum()
    };
    let arrivals: Vec<f64> = (0..seconds).map(expected).collect();
    let peak_rps = arrivals.iter().copied().fold(0.0, f64::max);
    let after = tenant.retraining.as_ref().map_or(tenant.accuracy, |due| due.accuracy_after.max(tenant.accuracy));
    let rates: Vec<f64> = shape.kinds().iter().map(|kind| problem.rate(id, kind.model, kind.profile)).collect();
    let speed = |kind: &Kind| problem.work_s(id, kind.model, kind.profile).map_or(0.0, |s| 1.0 / s.max(1e-6));
    Buyer {
        offer: Offer::new(room, &rates, peak_rps),
        arrivals,
        worth: [tenant.weight * tenant.accuracy, tenant.weight * after],
        speeds: tenant.retraining.as_ref().map_or(Vec::new(), |_| shape.kinds().iter().map(speed).collect()),
    }
}
