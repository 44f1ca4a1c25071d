//! PARIS (DAC'22): one heterogeneous partition from the batch sizes at the knee; its companion ELSA dispatches
//! ([`Dispatch`](../../../migrator_machine/tenant/enum.Dispatch.html) of the machines).
//!
//! Known of it (`reference/migrator-and-baselines.md` section 4.4): for each size g the knee is the largest batch before throughput stops growing, at about 80 %
//! utilisation; batches between the knees of two sizes belong to the larger; with the distribution of batches, R_g = Σ Dist[b] ÷ throughput(g, b) and n_g = R_g ·
//! slices ÷ Σ g · R_g, rounded to a valid partition, which is static until the distribution changes.
//!
//! Inferred:
//! - The knee is the smallest measured batch with 80 % of the profile's best throughput, or a smaller one where that misses the SLO.
//! - Queries come one by one here: a batch is what arrives while the one before is computed on the largest profile, at the window's mean demand (in half
//!   an SLO at most), so its size is Poisson. To wait for larger batches would send everything to large profiles, which carry less per slice.
//! - One partition per window; it is not cut again within it. A retraining counts as one more model: its demand is the share of the window that it takes on
//!   the smallest profile on which it ends within the window. Should none be due when a window begins, the first that comes is waited for.
//! - Instances belong to tenants: each has the n_g of its own demand, rounded together, and every tenant gets at least one instance where there are enough.
//! - What a retraining leaves behind goes to the next one that is due, then to its own tenant's inference: that cuts nothing.

use migrator_mig::ProfileId;

use super::demand::{mean_rps, servable, usual_model};
use super::rival::{Scheme, Seen};
use super::room::{Room, rooms};
use super::seat::{Layout, Order, Use, Wanted};
use super::share::{Want, fits, realise};
use super::{Facts, TenantFacts};
use crate::problem::{Problem, TenantId};

/// Utilisation at the knee.
const KNEE: f64 = 0.8;

/// One partition per window.
#[derive(Debug, Default)]
pub(super) struct Paris {
    facts: Facts,
    /// Whether this window's partition has counted a retraining.
    counted: bool,
}

impl Paris {
    pub fn new(facts: &Facts) -> Paris {
        Paris { facts: facts.clone(), counted: false }
    }
}

impl Scheme for Paris {
    const WHEN: &'static str = "paris decides once a window";
    const ORDER: Order = Order::Shortest;

    fn due(&mut self, seen: Seen, _: &Problem) -> bool {
        seen.window || seen.arrived && !self.counted
    }

    fn decide(&mut self, problem: &Problem) -> Layout {
        self.counted = problem.tenants.iter().any(|tenant| tenant.retraining.is_some());
        let models = models(problem, &self.facts);
        let alike = problem.gpus.windows(2).all(|pair| pair[0].model == pair[1].model);
        let rooms = rooms(problem);
        if alike && rooms.iter().all(|room| matches!(room, Room::Cut(_))) {
            cut(problem, &rooms, &models)
        } else {
            by_shares(problem, &models)
        }
    }
}

/// One of PARIS' models: a tenant's inference or a retraining.
#[derive(Clone, Debug, PartialEq)]
struct Model {
    to: Use,
    /// R_g of its own demand: instances of each profile that it keeps busy.
    busy: Vec<f64>,
}

fn models(problem: &Problem, facts: &Facts) -> Vec<Model> {
    let ids = || (0..problem.tenants.len() as u16).map(TenantId);
    let serve = |id: TenantId| Model { to: Use::Serve(id), busy: serving(problem, id, facts.tenants.get(id.index())) };
    let train = |id: TenantId| {
        let busy = training(problem, id)?;
        Some(Model { to: Use::Train { first: Some(id), then: Some(id) }, busy })
    };
    servable(problem).into_iter().map(serve).chain(ids().filter_map(train)).collect()
}

/// Throughput of batches on one profile, from its measured latencies.
#[derive(Debug)]
struct Batches<'a> {
    latency_ms: &'a [(u32, f64)],
    /// Largest batch that the profile is for; 0 = it serves none within the SLO.
    knee: u32,
}

impl<'a> Batches<'a> {
    fn new(latency_ms: &'a [(u32, f64)], slo_ms: f64) -> Batches<'a> {
        let throughput = |(batch, ms): &(u32, f64)| f64::from(*batch) / ms.max(1e-6);
        let best = latency_ms.iter().map(throughput).fold(0.0, f64::max);
        let knee = latency_ms.iter().find(|point| throughput(point) >= KNEE * best).map_or(0, |(batch, _)| *batch);
        let within = latency_ms.iter().filter(|(_, ms)| *ms <= slo_ms).map(|(batch, _)| *batch).max().unwrap_or(0);
        Batches { latency_ms, knee: knee.min(within) }
    }

    /// Milliseconds of a batch, between measured ones in proportion.
    fn ms(&self, batch: u32) -> f64 {
        let after = self.latency_ms.iter().position(|(size, _)| *size >= batch);
        match after.map(|after| (after.checked_sub(1).map(|before| self.latency_ms[before]), self.latency_ms[after])) {
            Some((Some((small, fast)), (large, slow))) => {
                fast + (slow - fast) * f64::from(batch - small) / f64::from((large - small).max(1))
            }
            Some((None, (_, ms))) => ms,
            None => self.latency_ms.last().map_or(f64::INFINITY, |(size, ms)| ms * f64::from(batch) / f64::from((*size).max(1))),
        }
    }
}

/// R_g of a tenant's requests, by profile of the usual model.
fn serving(problem: &Problem, id: TenantId, facts: Option<&TenantFacts>) -> Vec<f64> {
    let model = usual_model(problem);
    let catalog = &problem.models[model].catalog;
    let demand = mean_rps(problem, id).max(1e-3);
    let mut busy = vec![0.0; catalog.profiles.len()];
    let carries = |q: usize| problem.rate(id, model, ProfileId(q as u8));
    let usable: Vec<usize> = (0..busy.len()).filter(|&q| carries(q) > 0.0).collect();
    let tables = facts.and_then(|facts| facts.latency_ms.get(model)).filter(|tables| tables.len() == busy.len());
    let (Some(tables), Some(slo_ms)) = (tables, facts.map(|facts| facts.slo_ms)) else {
        // Nothing is known of batches: all go to the profile with most requests/s per slice.
        let density = |q: &usize| carries(*q) / f64::from(catalog.profiles[*q].compute_slices.max(1));
        if let Some(best) = usable.iter().copied().rev().max_by(|a, b| density(a).total_cmp(&density(b))) {
            busy[best] = demand / carries(best);
        }
        return busy;
    };
    let batches: Vec<Batches> = tables.iter().map(|table| Batches::new(table, slo_ms)).collect();
    let whole = usable.last().map(|&q| &batches[q]);
    let mean = whole.map_or(1.0, |whole| arriving(whole, demand, slo_ms));
    for (batch, weight) in poisson(mean) {
        let segment = usable.iter().copied().find(|&q| batches[q].knee >= batch);
        let largest = usable.iter().copied().max_by_key(|&q| (batches[q].knee, std::cmp::Reverse(q)));
        let Some(q) = segment.or(largest) else { break };
        // Beyond every knee a batch is answered as several of the knee's size.
        let size = batch.min(batches[q].knee.max(1));
        busy[q] += weight * demand / f64::from(size) * batches[q].ms(size) / 1000.0;
    }
    busy
}

/// Requests that arrive while a batch of as many is computed.
fn arriving(batches: &Batches, demand: f64, slo_ms: f64) -> f64 {
    let most = (demand * slo_ms / 2000.0).max(1.0) as u32;
    let keeps_up = |batch: &u32| demand * batches.ms(*batch) / 1000.0 <= f64::from(*batch);
    (1..=most).find(keeps_up).map_or(f64::from(most), |batch| (demand * batches.ms(batch) / 1000.0).max(1.0))
}

/// Sizes of batches of this mean and the share of all requests that they hold; sizes above 0.
fn poisson(mean: f64) -> Vec<(u32, f64)> {
    let most = (mean + 6.0 * mean.sqrt() + 4.0).min(4096.0) as u32;
    let mut log_factorial = 0.0;
    let mut sizes: Vec<(u32, f64)> = Vec::new();
    for batch in 1..=most {
        log_factorial += f64::from(batch).ln();
        let probability = (f64::from(batch) * mean.ln() - mean - log_factorial).exp();
        sizes.push((batch, probability * f64::from(batch)));
    }
    let whole: f64 = sizes.iter().map(|(_, weight)| weight).sum();
    sizes.iter_mut().for_each(|(_, weight)| *weight /= whole.max(1e-12));
    sizes
}

/// R_g of a retraining that is due.
fn training(problem: &Problem, id: TenantId) -> Option<Vec<f64>> {
    let model = usual_model(problem);
    let catalog = &problem.models[model].catalog;
    let window_s = problem.window_left_s.max(1.0);
    let all: Vec<(usize, f64)> =
        catalog.profile_ids().filter_map(|profile| Some((profile.index(), problem.work_s(id, model, profile)?))).collect();
    let (profile, work_s) = all.iter().find(|(_, work_s)| *work_s <= window_s).or(all.last()).copied()?;
    let mut busy = vec![0.0; catalog.profiles.len()];
    busy[profile] = (work_s / window_s).clamp(0.01, 1.0);
    Some(busy)
}

/// n_g of each model: what keeps it busy, stretched to all slices.
fn stretched(problem: &Problem, models: &[Model]) -> Vec<Vec<f64>> {
    let catalog = &problem.models[usual_model(problem)].catalog;
    let slices: Vec<f64> = catalog.profiles.iter().map(|profile| f64::from(profile.compute_slices)).collect();
    let busy: f64 = models.iter().flat_map(|model| model.busy.iter().zip(&slices).map(|(n, size)| n * size)).sum();
    let whole = f64::from(catalog.compute_slices) * problem.gpus.len() as f64;
    models.iter().map(|model| model.busy.iter().map(|n| n * whole / busy.max(1e-9)).collect()).collect()
}

/// Partitions that come nearest to n_g, and owners by demand.
fn cut(problem: &Problem, rooms: &[Room], models: &[Model]) -> Layout {
    let catalog = &problem.models[usual_model(problem)].catalog;
    let slices: Vec<f64> = catalog.profiles.iter().map(|profile| f64::from(profile.compute_slices)).collect();
    let mut claims = stretched(problem, models);
    let mut wanted: Vec<f64> = (0..slices.len()).map(|q| claims.iter().map(|claim| claim[q]).sum()).collect();
    let serving = models.iter().filter(|model| matches!(model.to, Use::Serve(_))).count() as f64;
    // One more for the retrainings.
    let mut owners = serving + f64::from(u8::from(models.len() as f64 > serving));
    let mut instances: Vec<(usize, usize)> = Vec::new();
    for (gpu, room) in rooms.iter().enumerate() {
        let Room::Cut(maximal) = room else { continue };
        let share = (owners / (rooms.len() - gpu) as f64).ceil();
        let off = |counts: &Vec<u32>| {
            let too_few = (share - f64::from(counts.iter().sum::<u32>())).max(0.0);
            let distance: f64 =
                counts.iter().zip(&wanted).zip(&slices).map(|((n, wanted), size)| size * (wanted - f64::from(*n)).abs()).sum();
            1e3 * too_few + distance
        };
        let Some(best) = maximal.iter().min_by(|a, b| off(a).total_cmp(&off(b))) else { continue };
        instances.extend(best.iter().enumerate().flat_map(|(q, &n)| std::iter::repeat_n((gpu, q), n as usize)));
        wanted.iter_mut().zip(best).for_each(|(wanted, n)| *wanted -= f64::from(*n));
        owners -= best.iter().sum::<u32>() as f64;
    }
    instances.sort_by(|a, b| slices[b.1].total_cmp(&slices[a.1]).then(b.1.cmp(&a.1)).then(a.0.cmp(&b.0)));
    let mut layout: Layout = vec![Vec::new(); rooms.len()];
    for (gpu, q) in instances {
        if let Some(owner) = owner(problem, gpu, q, models, &mut claims, &slices, &layout) {
            layout[gpu].push((ProfileId(q as u8), models[owner].to));
        }
    }
    everyone(problem, models, &mut layout);
    layout
}

/// Who has the most left of a claim to a profile, then to any; the claim is reduced.
fn owner(
    problem: &Problem,
    gpu: usize,
    q: usize,
    models: &[Model],
    claims: &mut [Vec<f64>],
    slices: &[f64],
    layout: &Layout,
) -> Option<usize> {
    let profile = ProfileId(q as u8);
    let once = |to: Use| matches!(to, Use::Train { .. }) && layout.iter().flatten().any(|(_, given)| *given == to);
    let open = (0..models.len()).filter(|&index| fits(problem, gpu, profile, models[index].to) && !once(models[index].to));
    let left = |index: usize| claims[index].iter().zip(slices).map(|(n, size)| n * size).sum::<f64>();
    let key = |index: usize| (claims[index][q].min(1.0) * slices[q], left(index));
    let best = open.rev().max_by(|&a, &b| {
        let (a, b) = (key(a), key(b));
        a.0.max(0.0).total_cmp(&b.0.max(0.0)).then(a.1.total_cmp(&b.1))
    })?;
    claims[best][q] -= 1.0;
    Some(best)
}

/// Gives whoever serves requests and has nothing an instance of whoever has several, or of a retraining.
fn everyone(problem: &Problem, models: &[Model], layout: &mut Layout) {
    let count = |layout: &Layout, to: Use| layout.iter().flatten().filter(|(_, given)| *given == to).count();
    for model in models.iter().filter(|model| matches!(model.to, Use::Serve(_))) {
        if count(layout, model.to) > 0 {
            continue;
        }
        let spare = |(_, to): &Wanted| matches!(to, Use::Train { .. }) || count(layout, *to) > 1;
        let each = layout.iter().enumerate().flat_map(|(gpu, all)| all.iter().enumerate().map(move |(index, one)| (gpu, index, one)));
        let open = each.filter(|(gpu, _, one)| spare(one) && fits(problem, *gpu, one.0, model.to));
        let most = open.min_by_key(|(gpu, index, (profile, to))| (usize::MAX - count(layout, *to), *profile, *gpu, *index));
        if let Some((gpu, index)) = most.map(|(gpu, index, _)| (gpu, index)) {
            layout[gpu][index].1 = model.to;
        }
    }
}

/// Where GPUs differ or are shared at will: slices in proportion to demand.
fn by_shares(problem: &Problem, models: &[Model]) -> Layout {
    let catalog = &problem.models[usual_model(problem)].catalog;
    let whole = f64::from(catalog.compute_slices.max(1));
    let gpus =
        |claim: &Vec<f64>| claim.iter().zip(&catalog.profiles).map(|(n, profile)| n * f64::from(profile.compute_slices) / whole).sum();
    let wants = models.iter().zip(stretched(problem, models)).map(|(model, claim)| Want { to: model.to, gpus: gpus(&claim) });
    realise(problem, &wants.collect::<Vec<Want>>())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{due, problem, tenant};

    /// By hand: throughputs 0.1, 0.3, 0.5, 0.55 rows/ms; 80 % of the best is 0.44, first reached by 8 rows, in 16 ms.
    #[test]
    fn the_knee_is_the_first_batch_near_the_best_throughput_within_the_slo() {
        let table = [(1, 10.0), (4, 13.3), (8, 16.0), (16, 29.0)];
        assert_eq!(Batches::new(&table, 100.0).knee, 8);
        assert_eq!(Batches::new(&table, 15.0).knee, 4);
        assert_eq!(Batches::new(&table, 5.0).knee, 0);
        let batches = Batches::new(&table, 100.0);
        assert_eq!((batches.ms(8), batches.ms(12), batches.ms(32)), (16.0, 22.5, 58.0));
    }

    #[test]
    fn a_batch_is_what_arrives_while_the_one_before_is_computed() {
        let table = [(1, 10.0), (11, 20.0), (31, 40.0)];
        let batches = Batches::new(&table, 100.0);
        // 11 rows take 20 ms, in which 11 of 550 requests/s arrive; of 100/s one in 10 ms; of 10,000/s never few enough: half an SLO's.
        let mean = |demand| arriving(&batches, demand, 100.0);
        assert!((mean(550.0) - 11.0).abs() < 1e-9 && (mean(100.0) - 1.0).abs() < 1e-9 && mean(10_000.0) == 500.0);
        let sizes = poisson(5.0);
        let whole: f64 = sizes.iter().map(|(_, weight)| weight).sum();
        // A request is in a batch of 1 + Poisson(5) on average.
        let mean: f64 = sizes.iter().map(|(batch, weight)| f64::from(*batch) * weight).sum();
        assert!((whole - 1.0).abs() < 1e-9 && (mean - 6.0).abs() < 0.01, "{mean}");
    }

    fn facts(slo_ms: f64) -> Facts {
        // The larger the profile, the larger the batch at its knee.
        let table = |knee: u32| vec![(1, 10.0), (knee / 2, 11.0), (knee, 12.0), (2 * knee, 24.0), (4 * knee, 48.0)];
        let tenant = TenantFacts { slo_ms, latency_ms: vec![[4, 8, 12, 16, 28].map(table).to_vec()], ..TenantFacts::default() };
        Facts { tenants: vec![tenant; 4], window_s: 200.0 }
    }

    #[test]
    fn low_demand_keeps_small_profiles_busy_and_high_demand_large_ones() {
        let mut host = problem(vec![tenant("quiet", 20.0), tenant("busy", 2000.0)]);
        host.tenants.iter_mut().for_each(|tenant| tenant.capacity_rps[0] = vec![300.0, 600.0, 900.0, 1200.0, 2000.0]);
        let facts = facts(100.0);
        let of = |id: u16| serving(&host, TenantId(id), facts.tenants.get(usize::from(id)));
        let (quiet, busy) = (of(0), of(1));
        assert!(quiet[0] > 0.9 * quiet.iter().sum::<f64>(), "{quiet:?}");
        assert!(busy[4] + busy[3] > 0.7 * busy.iter().sum::<f64>(), "{busy:?}");
    }

    #[test]
    fn every_tenant_and_the_retrainings_get_instances_by_demand() {
        let mut host = problem(vec![tenant("a", 100.0), tenant("b", 30.0), tenant("c", 30.0)]);
        host.tenants[1].retraining = due(300.0, 0.9);
        let layout = Paris::new(&facts(100.0)).decide(&host);
        let slices = |to: Use| layout[0].iter().filter(|(_, given)| *given == to).map(|(q, _)| [1, 2, 3, 4, 7][q.index()]).sum::<u32>();
        let serve = [0, 1, 2].map(|id| slices(Use::Serve(TenantId(id))));
        assert!(serve.iter().all(|&n| n > 0) && serve[0] >= serve[1] && serve[0] >= serve[2], "{layout:?}");
        assert!(slices(Use::Train { first: Some(TenantId(1)), then: Some(TenantId(1)) }) > 0, "{layout:?}");
    }

    #[test]
    fn within_a_window_nothing_is_cut_again_once_a_retraining_was_counted() {
        let mut paris = Paris::default();
        let mut host = problem(vec![tenant("a", 100.0)]);
        let arrived = Seen { arrived: true, ..Seen::default() };
        paris.decide(&host);
        assert!(paris.due(arrived, &host));
        host.tenants[0].retraining = due(60.0, 0.9);
        paris.decide(&host);
        assert!(!paris.due(arrived, &host) && paris.due(Seen { window: true, ..Seen::default() }, &host));
    }
}
