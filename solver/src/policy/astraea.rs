//! Astraea (ASPLOS'22): the largest peak load that all tenants' shares carry within their SLOs.
//!
//! Known of it (`reference/migrator-and-baselines.md` section 4.3): shares under MPS are chosen so that the supported peak load is largest while QoS
//! holds, by a prediction that knows about contention; its predecessor Camelot writes max min_i N_i · f_i(p_i) with the sum of shares below the GPUs,
//! and at low load gives as little as suffices. It runs again when the load changes. A tenant's model is one stage here.
//!
//! Inferred:
//! - What is maximised is the least of capacity ÷ (predicted peak demand × assumed slowdown); capacities are those within the SLO.
//! - The paper anneals because stages are coupled; single stages are not, and giving every next unit to the tenant with the least ratio is exact.
//! - As at Camelot's low load, shares grow no further once every peak is carried: the remainder is for retrainings, best effort, the one with the
//!   least work first; a running one is left where it is as long as the rest suffices. Without any that is due, shares grow on.
//! - "The load changes" is a change of a tenant's predicted peak by more than 10 % since the last decision. Windows and retrainings that come or
//!   go count too.

use super::demand::{Scale, peak_rps, usual_model};
use super::rival::{Scheme, Seen};
use super::seat::{Layout, Order, Use};
use super::share::{Want, realise};
use crate::problem::{InstanceState, Problem, Task, TenantId};

/// Units of a GPU that shares are counted in.
const UNITS: u32 = 20;

/// A change of a peak that counts.
const CHANGE: f64 = 0.1;

/// Peaks below this are no load, requests/s.
const LEAST_RPS: f64 = 0.5;

/// Shares for the largest common multiple of all peaks.
#[derive(Debug)]
pub(super) struct Astraea {
    /// How many times as long everything is taken to last beside others: 10 to 20 % were seen for pairs (`reference/igniter-herald.md` section 2.7).
    slowdown: f64,
    /// Peaks at the last decision, requests/s, by tenant.
    peaks: Vec<f64>,
}

impl Default for Astraea {
    fn default() -> Astraea {
        Astraea { slowdown: 1.15, peaks: Vec::new() }
    }
}

impl Scheme for Astraea {
    const WHEN: &'static str = "astraea decides when a peak has changed by more than 10 %, and when windows and retrainings come or go";
    const ORDER: Order = Order::Shortest;

    fn due(&mut self, seen: Seen, problem: &Problem) -> bool {
        let changed = |(before, now): (&f64, f64)| (now - before).abs() > CHANGE * before.max(LEAST_RPS);
        seen.window || seen.arrived || seen.completed || self.peaks.iter().zip(peaks(problem)).any(changed)
    }

    fn decide(&mut self, problem: &Problem) -> Layout {
        self.peaks = peaks(problem);
        realise(problem, &self.wants(problem))
    }
}

fn peaks(problem: &Problem) -> Vec<f64> {
    (0..problem.tenants.len() as u16).map(|id| peak_rps(problem, TenantId(id))).collect()
}

impl Astraea {
    fn wants(&self, problem: &Problem) -> Vec<Want> {
        let model = usual_model(problem);
        let tenants: Vec<TenantId> = (0..problem.tenants.len() as u16).map(TenantId).collect();
        let scales: Vec<Scale> = tenants.iter().map(|&id| Scale::serving(problem, id, model)).collect();
        let loads: Vec<f64> = self.peaks.iter().map(|peak| peak.max(LEAST_RPS) * self.slowdown).collect();
        let units = UNITS * problem.gpus.len() as u32;
        let trains = tenants.iter().any(|&id| !Scale::training(problem, id, model).is_nothing());
        let mut shares = grow(&scales, &loads, vec![0; tenants.len()], units, if trains { 1.0 } else { f64::INFINITY });
        let left = units - shares.iter().sum::<u32>();
        let parts = if trains { retrainings(problem, left) } else { Vec::new() };
        shares = grow(&scales, &loads, shares, units - parts.iter().sum::<u32>(), f64::INFINITY);
        let train = |part: u32| Want { to: Use::Train { first: None, then: None }, gpus: gpus(part) };
        let mut wants: Vec<Want> = parts.into_iter().map(train).collect();
        wants.extend(tenants.iter().zip(shares).map(|(&id, share)| Want { to: Use::Serve(id), gpus: gpus(share) }));
        wants
    }
}

fn gpus(units: u32) -> f64 {
    f64::from(units) / f64::from(UNITS)
}

fn units_of(gpus: f64) -> u32 {
    (gpus * f64::from(UNITS)).round() as u32
}

/// Gives unit by unit to whoever's ratio of capacity to load is least, until all have `enough` or nothing is left: no shares have a larger least ratio.
fn grow(scales: &[Scale], loads: &[f64], mut shares: Vec<u32>, units: u32, enough: f64) -> Vec<u32> {
    let ratio = |index: usize, share: u32| scales[index].at(gpus(share)) / loads[index];
    let open: Vec<usize> = (0..scales.len()).filter(|&index| !scales[index].is_nothing()).collect();
    while shares.iter().sum::<u32>() < units {
        let least = open.iter().copied().min_by(|&a, &b| ratio(a, shares[a]).total_cmp(&ratio(b, shares[b])));
        let Some(least) = least.filter(|&index| ratio(index, shares[index]) < enough) else { break };
        shares[least] += 1;
    }
    shares
}

/// Units of the instances for retrainings: those under way keep theirs, the largest first, as long as they fit; the rest goes to the next, a GPU
/// at most each.
fn retrainings(problem: &Problem, mut left: u32) -> Vec<u32> {
    let mut due = problem.tenants.iter().filter(|tenant| tenant.retraining.is_some()).count();
    let slices = |gpu: usize, old: &InstanceState| {
        let catalog = problem.catalog(gpu);
        let share = f64::from(catalog.profile(old.site.profile).compute_slices) / f64::from(catalog.compute_slices.max(1));
        units_of(share)
    };
    let runs = |old: &&InstanceState| {
        let own = |task: Task| problem.tenants[task.tenant.index()].retraining.is_some() && task == Task::retraining(task.tenant);
        old.task.is_some_and(own) && !old.pinned
    };
    let each = problem.gpus.iter().enumerate().flat_map(|(gpu, state)| state.instances.iter().map(move |old| (gpu, old)));
    let mut running: Vec<u32> = each.filter(|(_, old)| runs(old)).map(|(gpu, old)| slices(gpu, old)).collect();
    running.sort_by_key(|units| std::cmp::Reverse(*units));
    let mut parts = Vec::new();
    for units in running.into_iter().filter(|units| *units > 0) {
        let part = units.min(left);
        if part > 0 {
            parts.push(part);
            (left, due) = (left - part, due.saturating_sub(1));
        }
    }
    while left > 0 && due > 0 && parts.len() < problem.gpus.len() {
        let part = left.min(UNITS);
        parts.push(part);
        (left, due) = (left - part, due - 1);
    }
    parts
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dice::Dice;
    use crate::testing::{due, instance, problem, tenant};

    fn host() -> Problem {
        problem(vec![tenant("vision", 30.0), tenant("speech", 10.0), tenant("text", 5.0)])
    }

    fn decided(problem: &Problem) -> Vec<Want> {
        Astraea { slowdown: 1.0, peaks: peaks(problem) }.wants(problem)
    }

    fn of(wants: &[Want], to: Use) -> u32 {
        wants.iter().filter(|want| want.to == to).map(|want| units_of(want.gpus)).sum()
    }

    const TURN: Use = Use::Train { first: None, then: None };

    /// By hand, 1g = 2.857 units gives 10 requests/s: 30 need 27 + 3/8 of a slice = 3.375 slices = 9.64 units, 10 need 2.86, 5 need 1.43.
    #[test]
    fn shares_carry_every_peak_and_retrainings_get_the_remainder() {
        let mut host = host();
        host.tenants[2].retraining = due(60.0, 0.9);
        let wants = decided(&host);
        assert_eq!([0, 1, 2].map(|id| of(&wants, Use::Serve(TenantId(id)))), [10, 3, 2]);
        assert_eq!(of(&wants, TURN), 5);
    }

    #[test]
    fn without_retrainings_shares_grow_on() {
        let wants = decided(&host());
        assert_eq!((0..3).map(|id| of(&wants, Use::Serve(TenantId(id)))).sum::<u32>(), 20);
        assert_eq!(of(&wants, TURN), 0);
    }

    #[test]
    fn a_running_retraining_is_left_where_it_is_as_long_as_the_rest_suffices() {
        let mut host = host();
        host.tenants[2].retraining = due(60.0, 0.9);
        host.gpus[0].instances = vec![instance(1, 0, 6, Some(Task::retraining(TenantId(2))))];
        assert_eq!(of(&decided(&host), TURN), 3);
        host.tenants[0].demand = crate::Scenario::certain(vec![200.0]);
        assert_eq!(of(&decided(&host), TURN), 0, "inference comes first");
    }

    /// Annealing, as the paper has it, never finds a larger least ratio than giving unit by unit.
    #[test]
    fn annealing_finds_nothing_better() {
        for seed in 0..20 {
            let mut dice = Dice(seed);
            let host = problem((0..4).map(|_| tenant("t", 5.0 + dice.below(60) as f64)).collect());
            let scales: Vec<Scale> = (0..4).map(|id| Scale::serving(&host, TenantId(id), 0)).collect();
            let loads = peaks(&host);
            let least = |shares: &[u32]| {
                let ratios = shares.iter().enumerate().map(|(index, &share)| scales[index].at(gpus(share)) / loads[index]);
                ratios.fold(f64::INFINITY, f64::min)
            };
            let exact = least(&grow(&scales, &loads, vec![0; 4], UNITS, f64::INFINITY));
            let (mut shares, mut best) = (vec![5; 4], 0.0f64);
            for step in 0..4000 {
                let (from, to) = (dice.below(4), dice.below(4));
                let mut next = shares.clone();
                if from == to || next[from] == 0 {
                    continue;
                }
                (next[from], next[to]) = (next[from] - 1, next[to] + 1);
                let heat = 0.2 * (1.0 - f64::from(step) / 4000.0);
                let chance = ((least(&next) - least(&shares)) / heat.max(1e-6)).exp();
                if (dice.below(1000) as f64) < 1000.0 * chance {
                    shares = next;
                }
                best = best.max(least(&shares));
            }
            assert!(best <= exact + 1e-9, "seed {seed}: {best} {exact}");
            assert!(best > 0.8 * exact, "seed {seed}: annealing went nowhere: {best} {exact}");
        }
    }
}
