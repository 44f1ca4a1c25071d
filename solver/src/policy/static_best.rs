//! The fixed partition that turns out best: in hindsight, for it is given the arrivals to come.
//!
//! Our own yardstick, of no paper. What is maximised is fluid goodput: for each tenant Σ over the seconds to come of min(arrivals, capacity) × its mean
//! accuracy, which lies between that of a tenant never and always retrained by the share of all retrainings for which the instances that retrain (in
//! turn, by hand-over) have time. Batches, queues, loading and the moment at which a version is published are left out.
//!
//! On one GPU every partition is looked at, with every choice of instances that retrain; owners are found by giving each instance to whoever gains
//! most and then by exchanges. On several, exchanges and new partitions of single GPUs are tried until none gains, from the best GPU everywhere and from
//! the even split: it is never worse than that by its own measure, and may miss the best.

use migrator_mig::ProfileId;

use super::Facts;
use super::rival::{Scheme, Seen};
use super::room::{Room, rooms};
use super::seat::{Layout, Order, Use, Wanted};
use super::static_even::{IN_TURN, even};
use crate::problem::{Problem, TenantId};

/// The best fixed partition.
#[derive(Debug)]
pub(super) struct StaticBest {
    facts: Facts,
}

impl StaticBest {
    pub fn new(facts: &Facts) -> StaticBest {
        StaticBest { facts: facts.clone() }
    }
}

impl Scheme for StaticBest {
    const WHEN: &'static str = "static-best has decided once for all";
    const ORDER: Order = Order::InTurn;

    fn due(&mut self, _: Seen, _: &Problem) -> bool {
        false
    }

    fn decide(&mut self, problem: &Problem) -> Layout {
        Hindsight::new(problem, &self.facts).best()
    }
}

/// Arrivals to come, sorted, so that what a capacity answers is found at once.
#[derive(Debug)]
struct Arrivals {
    sorted: Vec<f64>,
    /// Sum of the first n.
    sums: Vec<f64>,
}

impl Arrivals {
    fn new(rps: &[f64]) -> Arrivals {
        let mut sorted: Vec<f64> = rps.iter().copied().filter(|rps| rps.is_finite()).map(|rps| rps.max(0.0)).collect();
        sorted.sort_by(f64::total_cmp);
        let mut sums = vec![0.0];
        sorted.iter().for_each(|rps| sums.push(sums[sums.len() - 1] + rps));
        Arrivals { sorted, sums }
    }

    /// Σ min(arrivals, capacity).
    fn answered(&self, capacity: f64) -> f64 {
        let below = self.sorted.partition_point(|rps| *rps <= capacity);
        self.sums[below] + capacity * (self.sorted.len() - below) as f64
    }
}

struct Hindsight<'a> {
    problem: &'a Problem,
    rooms: Vec<Room>,
    arrivals: Vec<Arrivals>,
    /// Weighted accuracy never and always retrained, by tenant.
    accuracy: Vec<(f64, f64)>,
    /// Seconds of one retraining by tenant, model and profile; `None` where it does not fit.
    seconds: Vec<Vec<Vec<Option<f64>>>>,
    window_s: f64,
}

/// What some instances come to: requests/s by tenant, and retrainings done per retraining due.
#[derive(Clone, Debug)]
struct Score {
    capacity: Vec<f64>,
    /// Windows' worth of all retrainings done per window, not limited to 1.
    trains: f64,
}

impl<'a> Hindsight<'a> {
    fn new(problem: &'a Problem, facts: &Facts) -> Hindsight<'a> {
        let arrivals = problem.tenants.iter().enumerate().map(|(index, state)| {
            let known = facts.tenants.get(index).map(|facts| &facts.future_rps[..]).filter(|future| !future.is_empty());
            Arrivals::new(known.or(state.demand.first().map(|scenario| &scenario.rps[..])).unwrap_or_default())
        });
        let mut accuracy = Vec::new();
        let mut seconds = Vec::new();
        for (index, state) in problem.tenants.iter().enumerate() {
            let training = facts.tenants.get(index).and_then(|facts| facts.training.as_ref());
            let (never, always) = training.map_or((state.accuracy, state.accuracy), |known| (known.untrained, known.trained));
            accuracy.push((state.weight * never, state.weight * always.max(never)));
            let table = |model: usize, q: usize| training.and_then(|known| known.seconds.get(model)?.get(q).copied());
            let usable = |s: Option<f64>| s.filter(|s| s.is_finite() && *s > 0.0);
            let models = problem.models.iter().enumerate();
            seconds.push(models.map(|(m, of)| (0..of.catalog.profiles.len()).map(|q| usable(table(m, q))).collect()).collect());
        }
        let window_s = if facts.window_s > 0.0 { facts.window_s } else { problem.window_left_s.max(1.0) };
        Hindsight { problem, rooms: rooms(problem), arrivals: arrivals.collect(), accuracy, seconds, window_s }
    }

    /// Share of a window's retrainings that an instance does in one window.
    fn training(&self, gpu: usize, profile: ProfileId) -> f64 {
        let model = self.problem.gpus[gpu].model;
        let all = || self.seconds.iter().filter(|tenant| tenant.iter().flatten().any(Option::is_some));
        let fitting: Vec<f64> = all().filter_map(|tenant| tenant[model][profile.index()]).collect();
        let (mean_s, due) = (fitting.iter().sum::<f64>() / fitting.len().max(1) as f64, all().count());
        if fitting.is_empty() { 0.0 } else { (self.window_s / mean_s / due as f64).min(fitting.len() as f64 / due as f64) }
    }

    fn rate(&self, tenant: usize, gpu: usize, profile: ProfileId) -> f64 {
        self.problem.rate(TenantId(tenant as u16), self.problem.gpus[gpu].model, profile)
    }

    fn score(&self, layout: &Layout) -> Score {
        let mut score = Score { capacity: vec![0.0; self.arrivals.len()], trains: 0.0 };
        for (gpu, all) in layout.iter().enumerate() {
            for (profile, to) in all {
                self.add(&mut score, gpu, *profile, *to, 1.0);
            }
        }
        score
    }

    fn add(&self, score: &mut Score, gpu: usize, profile: ProfileId, to: Use, sign: f64) {
        match to {
            Use::Serve(id) => score.capacity[id.index()] += sign * self.rate(id.index(), gpu, profile),
            Use::Train { .. } => score.trains += sign * self.training(gpu, profile),
        }
    }

    fn value(&self, score: &Score) -> f64 {
        (0..self.arrivals.len()).map(|tenant| self.part(tenant, score.capacity[tenant], score.trains)).sum()
    }

    fn part(&self, tenant: usize, capacity: f64, trains: f64) -> f64 {
        let (never, always) = self.accuracy[tenant];
        let trained = if self.seconds[tenant].iter().flatten().any(Option::is_some) { trains.clamp(0.0, 1.0) } else { 0.0 };
        self.arrivals[tenant].answered(capacity.max(0.0)) * (never + (always - never) * trained)
    }

    fn worth(&self, layout: &Layout) -> f64 {
        self.value(&self.score(layout))
    }

    fn best(&self) -> Layout {
        let mut starts = vec![even(self.problem)];
        if let [Room::Cut(maximal)] = &self.rooms[..] {
            starts.extend(maximal.iter().flat_map(|counts| self.every_training(counts)));
        } else {
            starts.push(self.greedy());
        }
        let mut best: Option<(f64, Layout)> = None;
        for start in starts {
            let layout = self.improve(start);
            let worth = self.worth(&layout);
            if best.as_ref().is_none_or(|(most, _)| worth > most + 1e-9) {
                best = Some((worth, layout));
            }
        }
        best.map(|(_, layout)| layout).unwrap_or_default()
    }

    /// A partition of one GPU with every choice of instances that retrain, the others given to whoever gains most.
    fn every_training(&self, counts: &[u32]) -> Vec<Layout> {
        let mut choices: Vec<Vec<u32>> = vec![Vec::new()];
        for &n in counts {
            choices = choices.into_iter().flat_map(|choice| (0..=n).map(move |taken| [&choice[..], &[taken]].concat())).collect();
        }
        let layout = |choice: Vec<u32>| {
            let mut layout = vec![Vec::new()];
            for (q, (&n, &taken)) in counts.iter().zip(&choice).enumerate() {
                layout[0].extend((0..taken.min(n)).map(|_| (ProfileId(q as u8), IN_TURN)));
            }
            let rest: Vec<(usize, ProfileId)> = counts
                .iter()
                .zip(&choice)
                .enumerate()
                .flat_map(|(q, (n, taken))| std::iter::repeat_n((0, ProfileId(q as u8)), (n - taken) as usize))
                .collect();
            self.give(&mut layout, rest);
            layout
        };
        choices.into_iter().map(layout).collect()
    }

    /// Gives instances, the largest first, to whoever gains most.
    fn give(&self, layout: &mut Layout, mut instances: Vec<(usize, ProfileId)>) {
        instances.sort_by_key(|(gpu, profile)| (std::cmp::Reverse(*profile), *gpu));
        let mut score = self.score(layout);
        for (gpu, profile) in instances {
            let gain = |to: Use| {
                let mut with = score.clone();
                self.add(&mut with, gpu, profile, to, 1.0);
                self.value(&with)
            };
            let uses = self.uses(gpu, profile);
            let best = uses.into_iter().map(|to| (gain(to), to)).reduce(|best, next| if next.0 > best.0 + 1e-9 { next } else { best });
            let Some((_, to)) = best else { continue };
            self.add(&mut score, gpu, profile, to, 1.0);
            layout[gpu].push((profile, to));
        }
    }

    /// Whoever an instance can be of use to.
    fn uses(&self, gpu: usize, profile: ProfileId) -> Vec<Use> {
        let serve = (0..self.arrivals.len()).filter(|&tenant| self.rate(tenant, gpu, profile) > 0.0);
        let trains = (self.training(gpu, profile) > 0.0).then_some(IN_TURN);
        serve.map(|tenant| Use::Serve(TenantId(tenant as u16))).chain(trains).collect()
    }

    /// GPU after GPU the partition that gains most.
    fn greedy(&self) -> Layout {
        let mut layout: Layout = vec![Vec::new(); self.rooms.len()];
        for gpu in 0..self.rooms.len() {
            layout[gpu] = self.recut(&layout, gpu);
        }
        layout
    }

    /// The best that one GPU can be cut into, the others left as they are.
    fn recut(&self, layout: &Layout, gpu: usize) -> Vec<Wanted> {
        let mut best: Option<(f64, Vec<Wanted>)> = None;
        for counts in self.partitions(gpu) {
            let mut trial = layout.clone();
            trial[gpu].clear();
            let each = counts.iter().enumerate().flat_map(|(q, &n)| std::iter::repeat_n((gpu, ProfileId(q as u8)), n as usize));
            self.give(&mut trial, each.collect());
            let worth = self.worth(&trial);
            if best.as_ref().is_none_or(|(most, _)| worth > most + 1e-9) {
                best = Some((worth, trial.swap_remove(gpu)));
            }
        }
        best.map(|(_, all)| all).unwrap_or_default()
    }

    fn partitions(&self, gpu: usize) -> Vec<Vec<u32>> {
        match &self.rooms[gpu] {
            Room::Cut(maximal) => maximal.clone(),
            // Shared at will: even portions.
            Room::Free(slices) => {
                let profiles = self.problem.catalog(gpu).profiles.len();
                let portions = |n: u32| (0..profiles).map(|q| if q as u32 + 1 == slices / n { n } else { 0 }).collect();
                (1..=(*slices).min(MOST_PORTIONS)).map(portions).collect()
            }
        }
    }

    /// Exchanges and new partitions of single GPUs until none gains.
    fn improve(&self, mut layout: Layout) -> Layout {
        for _ in 0..MOST_ROUNDS {
            let before = self.worth(&layout);
            self.exchange(&mut layout);
            if self.rooms.len() > 1 {
                for gpu in 0..layout.len() {
                    let mut trial = layout.clone();
                    trial[gpu] = self.recut(&layout, gpu);
                    if self.worth(&trial) > self.worth(&layout) + 1e-9 {
                        layout = trial;
                    }
                }
            }
            if self.worth(&layout) <= before + 1e-6 * before.abs() {
                break;
            }
        }
        layout
    }

    /// Gives single instances to others and swaps owners, as long as that gains.
    fn exchange(&self, layout: &mut Layout) {
        let mut score = self.score(layout);
        for _ in 0..MOST_ROUNDS {
            let before = self.value(&score);
            let places: Vec<(usize, usize)> =
                layout.iter().enumerate().flat_map(|(gpu, all)| (0..all.len()).map(move |index| (gpu, index))).collect();
            for (number, &(gpu, index)) in places.iter().enumerate() {
                self.hand_on(layout, &mut score, (gpu, index));
                for &other in &places[number + 1..] {
                    self.swap(layout, &mut score, (gpu, index), other);
                }
            }
            if self.value(&score) <= before + 1e-9 * before.abs() {
                break;
            }
        }
    }

    fn hand_on(&self, layout: &mut Layout, score: &mut Score, (gpu, index): (usize, usize)) {
        let (profile, from) = layout[gpu][index];
        for to in self.uses(gpu, profile) {
            let mut next = score.clone();
            self.add(&mut next, gpu, profile, layout[gpu][index].1, -1.0);
            self.add(&mut next, gpu, profile, to, 1.0);
            if to != from && self.value(&next) > self.value(score) + 1e-9 {
                (layout[gpu][index].1, *score) = (to, next);
            }
        }
    }

    fn swap(&self, layout: &mut Layout, score: &mut Score, a: (usize, usize), b: (usize, usize)) {
        let ((profile_a, to_a), (profile_b, to_b)) = (layout[a.0][a.1], layout[b.0][b.1]);
        if to_a == to_b || profile_a == profile_b && self.problem.gpus[a.0].model == self.problem.gpus[b.0].model {
            return;
        }
        let mut next = score.clone();
        for (gpu, profile, from, to) in [(a.0, profile_a, to_a, to_b), (b.0, profile_b, to_b, to_a)] {
            self.add(&mut next, gpu, profile, from, -1.0);
            self.add(&mut next, gpu, profile, to, 1.0);
        }
        if self.value(&next) > self.value(score) + 1e-9 {
            (layout[a.0][a.1].1, layout[b.0][b.1].1, *score) = (to_b, to_a, next);
        }
    }
}

/// Rounds of improvement; each gains, few are needed.
const MOST_ROUNDS: usize = 20;

/// Portions of a GPU that is shared at will.
const MOST_PORTIONS: u32 = 10;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::{TenantFacts, TrainingFacts};
    use crate::testing::{mixed, problem, tenant};

    #[test]
    fn what_a_capacity_answers_is_summed_over_the_seconds() {
        let arrivals = Arrivals::new(&[5.0, 1.0, 9.0, 3.0]);
        assert_eq!([0.0, 3.0, 4.0, 20.0].map(|capacity| arrivals.answered(capacity)), [0.0, 10.0, 12.0, 18.0]);
    }

    fn facts(futures: &[Vec<f64>], training: Option<TrainingFacts>) -> Facts {
        let tenant =
            |future_rps: &Vec<f64>| TenantFacts { future_rps: future_rps.clone(), training: training.clone(), ..TenantFacts::default() };
        Facts { tenants: futures.iter().map(tenant).collect(), window_s: 200.0 }
    }

    fn slices(layout: &Layout, to: Use) -> u32 {
        layout.iter().flatten().filter(|(_, given)| *given == to).map(|(profile, _)| [1, 2, 3, 4, 7][profile.index()]).sum()
    }

    #[test]
    fn it_is_cut_for_what_comes_and_not_for_what_is_foretold() {
        let host = problem(vec![tenant("foretold", 50.0), tenant("real", 1.0)]);
        let layout = StaticBest::new(&facts(&[vec![5.0; 100], vec![40.0; 100]], None)).decide(&host);
        assert!(slices(&layout, Use::Serve(TenantId(1))) >= 4, "{layout:?}");
        assert!(slices(&layout, Use::Serve(TenantId(0))) >= 1, "{layout:?}");
    }

    #[test]
    fn instances_retrain_when_that_is_worth_more_than_what_they_answer() {
        let host = problem(vec![tenant("a", 20.0), tenant("b", 20.0)]);
        let futures = [vec![20.0; 200], vec![20.0; 200]];
        let training = |trained| TrainingFacts { seconds: vec![vec![180.0, 95.0, 70.0, 55.0, 35.0]], trained, untrained: 0.5 };
        let with = StaticBest::new(&facts(&futures, Some(training(0.9)))).decide(&host);
        assert!(slices(&with, IN_TURN) >= 1, "{with:?}");
        let scarce = [vec![40.0; 200], vec![40.0; 200]];
        let without = StaticBest::new(&facts(&scarce, Some(training(0.5)))).decide(&host);
        assert_eq!(slices(&without, IN_TURN), 0, "{without:?}");
    }

    #[test]
    fn it_is_never_worse_than_the_even_split_by_its_own_measure() {
        for seed in 0..40 {
            let host = mixed::host(seed, 1 + seed as usize % 8, 1 + seed as usize % 2, false);
            let futures: Vec<Vec<f64>> =
                (0..host.tenants.len() as u64).map(|id| (0..60).map(|t| ((seed * 31 + id * 17 + t * 7) % 90) as f64).collect()).collect();
            let rows = host.models.iter().map(|model| vec![90.0; model.catalog.profiles.len()]).collect();
            let facts = facts(&futures, Some(TrainingFacts { seconds: rows, trained: 0.8, untrained: 0.6 }));
            let hindsight = Hindsight::new(&host, &facts);
            assert!(hindsight.worth(&hindsight.best()) >= hindsight.worth(&even(&host)) - 1e-6, "seed {seed}");
        }
    }

    /// Every owner of every instance of every partition, on one GPU.
    #[test]
    fn on_one_gpu_nothing_is_better() {
        for seed in 0..6 {
            let mut host = problem((0..3).map(|_| tenant("t", 10.0)).collect());
            let futures: Vec<Vec<f64>> = (0..3).map(|id| (0..40).map(|t| ((seed * 13 + id * 29 + t * 11) % 45) as f64).collect()).collect();
            host.tenants[1].capacity_rps[0][0] = 0.0;
            let seconds = vec![vec![180.0, 95.0, 70.0, 55.0, 35.0]];
            let facts = facts(&futures, Some(TrainingFacts { seconds, trained: 0.75, untrained: 0.6 }));
            let hindsight = Hindsight::new(&host, &facts);
            let found = hindsight.worth(&hindsight.best());
            let Room::Cut(maximal) = &hindsight.rooms[0] else { panic!() };
            let mut most = 0.0f64;
            for counts in maximal {
                let each: Vec<ProfileId> =
                    counts.iter().enumerate().flat_map(|(q, &n)| std::iter::repeat_n(ProfileId(q as u8), n as usize)).collect();
                for code in 0..4usize.pow(each.len() as u32) {
                    let owner = |index: usize| match code / 4usize.pow(index as u32) % 4 {
                        3 => IN_TURN,
                        id => Use::Serve(TenantId(id as u16)),
                    };
                    let layout = vec![each.iter().enumerate().map(|(index, &profile)| (profile, owner(index))).collect()];
                    most = most.max(hindsight.worth(&layout));
                }
            }
            assert!(found >= most - 1e-6, "seed {seed}: {found} {most}");
        }
    }
}
