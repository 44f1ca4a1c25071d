//! ParvaGPU (SC'24): the instances with the most throughput per slice, as many as the rate needs.
//!
//! Known of it (`reference/migrator-and-baselines.md` section 4.7, from its code): of all (size, batch, processes) with a latency below 0.9 · SLO ÷ 2 the
//! one with the most throughput per slice is taken floor(rate ÷ throughput) times; the remainder goes on the smallest size that covers it; instances
//! are placed best fit, large to small.
//!
//! Inferred:
//! - The rate is the 95 % quantile of the forecast to the window's end; a window's start is when it provisions.
//! - Curves are of one process, so the number of processes per instance is 1.
//! - Throughput is no more than what the instance carries within the SLO by the common estimate, which is corrected by what is observed.
//! - It is made to need as few GPUs as possible; on a host that is too small all rates are scaled down alike, and what is left on one that is large
//!   enough is for retrainings (the least work first, the largest instance that fits), then for the inference with the least headroom.
//! - A retraining that becomes due within a window counts as the window's start.

use migrator_mig::ProfileId;

use super::demand::{quantile_rps, usual_model};
use super::rival::{Scheme, Seen};
use super::room::{Room, rooms};
use super::seat::{Layout, Order, Use};
use super::{Facts, TenantFacts};
use crate::problem::{Problem, TenantId};

/// Share of half the SLO that a batch may take.
const HEADROOM: f64 = 0.9;
/// Share of the seconds in which no more than the planned rate arrives.
const QUANTILE: f64 = 0.95;
/// Rounds of halving in which the scale for a host that is too small is found.
const ROUNDS: u32 = 12;

/// The fewest slices that carry the rates.
#[derive(Debug, Default)]
pub(super) struct ParvaGpu {
    facts: Facts,
}

impl ParvaGpu {
    pub fn new(facts: &Facts) -> ParvaGpu {
        ParvaGpu { facts: facts.clone() }
    }
}

impl Scheme for ParvaGpu {
    const WHEN: &'static str = "parvagpu decides at the start of a window";
    const ORDER: Order = Order::Shortest;

    fn due(&mut self, seen: Seen, _: &Problem) -> bool {
        seen.window || seen.arrived
    }

    fn decide(&mut self, problem: &Problem) -> Layout {
        let mut host = Host::new(problem, &self.facts);
        if !host.provision(1.0) {
            let (mut fits, mut too_much) = (0.0, 1.0);
            for _ in 0..ROUNDS {
                let scale = (fits + too_much) / 2.0;
                if host.provision(scale) { fits = scale } else { too_much = scale }
            }
            host.provision(fits);
        }
        host.retrain();
        host.fill();
        host.layout
    }
}

/// Throughput of a tenant by profile of the usual model: that of its best batch below the latency bound; 0 = none.
fn throughputs(problem: &Problem, id: TenantId, facts: Option<&TenantFacts>) -> Vec<f64> {
    let model = usual_model(problem);
    let throughput = |profile: ProfileId| {
        let carried = problem.rate(id, model, profile);
        let batches = facts.and_then(|facts| Some((facts.slo_ms, facts.latency_ms.get(model)?.get(profile.index())?)));
        let Some((slo_ms, batches)) = batches.filter(|(_, batches)| !batches.is_empty()) else { return carried };
        let within = batches.iter().filter(|(_, ms)| *ms > 0.0 && *ms < HEADROOM * slo_ms / 2.0);
        within.map(|(batch, ms)| f64::from(*batch) / ms * 1000.0).fold(0.0, f64::max).min(carried)
    };
    problem.models[model].catalog.profile_ids().map(throughput).collect()
}

/// Profiles that carry `rate`: the most throughput per slice as often as it is used up, then the smallest that covers the remainder.
fn segments(slices: &[u32], throughput: &[f64], rate: f64) -> Vec<usize> {
    let per_slice = |q: &usize| throughput[*q] / f64::from(slices[*q].max(1));
    let usable = (0..throughput.len()).filter(|&q| throughput[q] > 0.0);
    let Some(best) = usable.clone().rev().max_by(|a, b| per_slice(a).total_cmp(&per_slice(b))) else { return Vec::new() };
    let whole = ((rate / throughput[best]) + 1e-9).floor();
    let rest = rate - whole * throughput[best];
    let mut segments = vec![best; whole as usize];
    if rest > 1e-6 || segments.is_empty() {
        segments.push(usable.clone().find(|&q| throughput[q] + 1e-9 >= rest).unwrap_or(best));
    }
    segments
}

struct Host<'a> {
    problem: &'a Problem,
    rooms: Vec<Room>,
    slices: Vec<u32>,
    model: usize,
    throughput: Vec<Vec<f64>>,
    rates: Vec<f64>,
    layout: Layout,
}

impl<'a> Host<'a> {
    fn new(problem: &'a Problem, facts: &Facts) -> Host<'a> {
        let ids = || (0..problem.tenants.len() as u16).map(TenantId);
        let model = usual_model(problem);
        Host {
            problem,
            rooms: rooms(problem),
            slices: problem.models[model].catalog.profiles.iter().map(|profile| u32::from(profile.compute_slices)).collect(),
            model,
            throughput: ids().map(|id| throughputs(problem, id, facts.tenants.get(id.index()))).collect(),
            rates: ids().map(|id| quantile_rps(problem, id, QUANTILE)).collect(),
            layout: Vec::new(),
        }
    }

    /// Places the rates times `scale`; whether all found room. What did not is left out.
    fn provision(&mut self, scale: f64) -> bool {
        self.layout = vec![Vec::new(); self.problem.gpus.len()];
        let most = self.slices.iter().sum::<u32>() as f64 * self.problem.gpus.len() as f64;
        let mut all: Vec<(usize, usize)> = Vec::new();
        for (tenant, throughput) in self.throughput.iter().enumerate() {
            let largest = throughput.iter().copied().fold(0.0, f64::max);
            // More instances than slices never fit, and need not be listed.
            let rate = (self.rates[tenant] * scale).min(largest * (most + 1.0));
            all.extend(segments(&self.slices, throughput, rate).into_iter().map(|profile| (profile, tenant)));
        }
        all.sort_by_key(|(profile, tenant)| (std::cmp::Reverse(self.slices[*profile]), *tenant));
        let mut fits = true;
        for (profile, tenant) in all {
            fits &= self.put(profile, Use::Serve(TenantId(tenant as u16)));
        }
        fits
    }

    /// Puts an instance where the least room is left beside it.
    fn put(&mut self, profile: usize, to: Use) -> bool {
        let used = |gpu: usize| self.layout[gpu].iter().map(|(profile, _)| self.slices[profile.index()]).sum::<u32>();
        let open = (0..self.layout.len()).filter(|&gpu| self.holds(gpu, profile));
        let Some(gpu) = open.rev().max_by_key(|&gpu| used(gpu)) else { return false };
        self.layout[gpu].push((ProfileId(profile as u8), to));
        true
    }

    /// Whether one more of a profile fits; only on GPUs of the usual model.
    fn holds(&self, gpu: usize, profile: usize) -> bool {
        let mut counts = vec![0; self.slices.len()];
        self.layout[gpu].iter().for_each(|(profile, _)| counts[profile.index()] += 1);
        counts[profile] += 1;
        self.problem.gpus[gpu].model == self.model && self.rooms[gpu].holds(&counts)
    }

    fn retrain(&mut self) {
        let work_s = |id: TenantId, profile: usize| self.problem.work_s(id, self.model, ProfileId(profile as u8));
        let least = |id: TenantId| (0..self.slices.len()).filter_map(|q| work_s(id, q)).fold(f64::INFINITY, f64::min);
        let mut due: Vec<(f64, TenantId)> = (0..self.throughput.len() as u16).map(|id| (least(TenantId(id)), TenantId(id))).collect();
        due.retain(|(work_s, _)| work_s.is_finite());
        due.sort_by(|a, b| a.0.total_cmp(&b.0).then(a.1.cmp(&b.1)));
        for (_, id) in due {
            let to = Use::Train { first: Some(id), then: Some(id) };
            let fitting: Vec<usize> =
                (0..self.slices.len()).rev().filter(|&q| self.problem.work_s(id, self.model, ProfileId(q as u8)).is_some()).collect();
            let _ = fitting.into_iter().any(|profile| self.put(profile, to));
        }
    }

    /// Gives what is left to the inference with the least headroom.
    fn fill(&mut self) {
        let mut open: Vec<usize> = (0..self.throughput.len()).collect();
        let headroom = |host: &Host, tenant: usize| {
            let own = host.layout.iter().flatten().filter(|(_, to)| *to == Use::Serve(TenantId(tenant as u16)));
            own.map(|(profile, _)| host.throughput[tenant][profile.index()]).sum::<f64>() / host.rates[tenant].max(1e-3)
        };
        while let Some(least) = open.iter().copied().min_by(|&a, &b| headroom(self, a).total_cmp(&headroom(self, b))) {
            let largest = (0..self.slices.len()).rev().filter(|&q| self.throughput[least][q] > 0.0);
            let placed = largest.collect::<Vec<_>>().into_iter().any(|profile| self.put(profile, Use::Serve(TenantId(least as u16))));
            open.retain(|&tenant| placed || tenant != least);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::problem::Scenario;
    use crate::testing::{due, problem, tenant};

    /// By hand: throughputs 10, 25, 30, 36, 50 per profile make 2g the best per slice (12.5). 60 requests/s = 2 x 2g and 10 on 1g.
    #[test]
    fn the_best_per_slice_as_often_as_it_is_used_up_then_the_smallest_that_covers() {
        let (slices, throughput) = ([1, 2, 3, 4, 7], [10.0, 25.0, 30.0, 36.0, 50.0]);
        assert_eq!(segments(&slices, &throughput, 60.0), [1, 1, 0]);
        assert_eq!(segments(&slices, &throughput, 62.0), [1, 1, 1]);
        assert_eq!(segments(&slices, &throughput, 50.0), [1, 1]);
        assert_eq!(segments(&slices, &throughput, 0.0), [0]);
        assert_eq!(segments(&slices, &[0.0; 5], 60.0), Vec::<usize>::new());
    }

    /// By hand, SLO 100 ms: batches below 45 ms. On 1g 4 rows in 40 ms = 100/s (8 rows would take 60); on 2g 8 rows in 40 ms = 200/s.
    #[test]
    fn a_batch_may_take_less_than_half_of_the_slo() {
        let mut host = problem(vec![tenant("vision", 10.0)]);
        host.tenants[0].capacity_rps[0] = vec![1e6; 5];
        let latency_ms = vec![vec![vec![(4, 40.0), (8, 60.0)], vec![(4, 25.0), (8, 40.0)], vec![(8, 50.0)]]];
        let facts = TenantFacts { slo_ms: 100.0, latency_ms, ..TenantFacts::default() };
        assert_eq!(throughputs(&host, TenantId(0), Some(&facts)), [100.0, 200.0, 0.0, 1e6, 1e6]);
    }

    fn capacity(layout: &Layout, problem: &Problem, tenant: u16) -> f64 {
        let own = layout.iter().flatten().filter(|(_, to)| *to == Use::Serve(TenantId(tenant)));
        own.map(|(profile, _)| problem.rate(TenantId(tenant), 0, *profile)).sum()
    }

    #[test]
    fn a_host_that_is_too_small_is_shared_in_proportion() {
        let mut host = problem(vec![tenant("vision", 300.0), tenant("speech", 100.0)]);
        host.gpus = vec![host.gpus[0].clone(); 2];
        let layout = ParvaGpu::default().decide(&host);
        let (large, small) = (capacity(&layout, &host, 0), capacity(&layout, &host, 1));
        assert!((2.0..4.5).contains(&(large / small)), "{large} {small}");
        assert_eq!(layout.iter().flatten().map(|(profile, _)| [1, 2, 3, 4, 7][profile.index()]).sum::<u32>(), 14);
    }

    #[test]
    fn retrainings_get_what_is_left_and_inference_the_rest_of_it() {
        let mut host = problem(vec![tenant("vision", 20.0), tenant("speech", 5.0)]);
        host.tenants[0].demand = Scenario::certain(vec![20.0]);
        let without = ParvaGpu::default().decide(&host);
        assert!(without[0].iter().all(|(_, to)| matches!(to, Use::Serve(_))));
        host.tenants[1].retraining = due(60.0, 0.9);
        let with = ParvaGpu::default().decide(&host);
        assert!(with[0].iter().any(|(profile, to)| matches!(to, Use::Train { .. }) && profile.index() >= 2), "{with:?}");
        assert!(capacity(&with, &host, 0) >= 20.0 && capacity(&with, &host, 1) >= 5.0);
    }
}
