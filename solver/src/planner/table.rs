//! What a tenant's bundles and retrainings are worth, block by block: the numbers that the dynamic programme adds up.

use crate::evaluate::start_charge;
use crate::monolith::held_now;
use crate::planner::bundle::{Bundle, bundles};
use crate::problem::{Task, TenantId};
use crate::shape::{Kind, KindId, Shape};
use crate::view::View;

/// Starting the retraining on a kind of instance in a block, or going on.
#[derive(Clone, Debug)]
pub(crate) struct RetrainOption {
    pub kind: KindId,
    /// First block it occupies.
    pub start: usize,
    /// Block in which it finishes.
    pub end: usize,
    /// Room it takes from `start` to `end`, by row; none when it is pinned.
    pub room: Vec<u32>,
    /// Worth beyond the horizon.
    tail: f64,
}

/// A tenant's numbers. Tables are f32 in block-major order; `m` bundles.
pub(crate) struct Table {
    pub bundles: Vec<Bundle>,
    pub options: Vec<RetrainOption>,
    /// Worth of an answer before and after the retraining.
    pub worth: [f32; 2],
    /// Answers in a block at full capacity: [block][m].
    pub served: Vec<f32>,
    /// Charges for a floor that is missing, weighted: [block][m].
    pub charge: Vec<f32>,
    /// Answers lost to starts by holding a bundle in block 0: [m].
    pub first: Vec<f32>,
    /// The same by changing from one bundle to another: [block][from][to].
    pub loss: Vec<f32>,
    /// Weighted answers in the block in which an option finishes: [option][m].
    pub mixed: Vec<f32>,
    /// Weighted worth of an option beyond the horizon.
    pub tail: Vec<f32>,
    /// Second in which an option finishes.
    finish: Vec<f64>,
    /// Stands for the finish of what never starts.
    never: f64,
    /// Most that the tenant can use, requests/s.
    pub peak_rps: f64,
    /// Mean demand, requests/s.
    pub mean_rps: f64,
}

impl Table {
    pub fn new(view: &View, shape: &Shape, id: TenantId, extra: &[Vec<u32>]) -> Table {
        let builder = Builder::new(view, shape, id, extra);
        let prefix = builder.prefix();
        let options = builder.options();
        let worth = [view.answer_worth(id), view.tenant(id).weight * (view.tenant(id).accuracy + view.accuracy_gain(id))];
        Table {
            served: builder.served(&prefix),
            charge: builder.charges(),
            first: builder.first(),
            loss: builder.losses(&prefix),
            mixed: options.iter().flat_map(|(option, finish_s)| builder.mixed(&prefix, option.end, *finish_s, worth)).collect(),
            tail: options.iter().map(|(option, _)| option.tail as f32).collect(),
            finish: options.iter().map(|(_, finish_s)| *finish_s).collect(),
            never: 1.3 * view.worth_until,
            peak_rps: view.peak_demand(id),
            mean_rps: view.mean_demand(id, 0, view.horizon),
            options: options.into_iter().map(|(option, _)| option).collect(),
            bundles: builder.bundles,
            worth: worth.map(|worth| worth as f32),
        }
    }

    /// Second in which an option finishes, or a late one for none.
    pub fn finish(&self, option: Option<usize>) -> f64 {
        option.map_or(self.never, |index| self.finish[index])
    }

    /// Index of the bundle of these counts.
    pub fn bundle(&self, counts: &[u32]) -> Option<usize> {
        self.bundles.binary_search_by(|bundle| bundle.counts.as_slice().cmp(counts)).ok()
    }
}

struct Builder<'a> {
    view: &'a View<'a>,
    shape: &'a Shape,
    id: TenantId,
    bundles: Vec<Bundle>,
    held: Vec<u32>,
    /// Requests/s by kind.
    rates: Vec<f64>,
    /// What yields serves until its heir, whoever that is, has been preloaded: at least this long, in seconds.
    yields_after_s: f64,
}

impl<'a> Builder<'a> {
    fn new(view: &'a View<'a>, shape: &'a Shape, id: TenantId, extra: &[Vec<u32>]) -> Builder<'a> {
        let held: Vec<u32> = shape.kind_ids().map(|kind| held_now(view, shape, id, kind)).collect();
        let tasks = view.tenants().flat_map(|(id, state)| {
            let due = state.retraining.as_ref().map(|_| Task::retraining(id));
            [Some(Task::inference(id)), due].into_iter().flatten()
        });
        let yields_after_s = tasks.map(|task| view.preload_s(task)).reduce(f64::min).unwrap_or(0.0);
        let rates = shape.kinds().iter().map(|kind| view.rate(id, kind.model, kind.profile)).collect();
        Builder { view, shape, id, bundles: bundles(view, shape, id, &held, extra), held, rates, yields_after_s }
    }

    fn blocks(&self) -> impl Iterator<Item = (usize, usize, usize)> + use<> {
        let ends = self.view.ends.clone();
        (0..ends.len()).map(move |b| (b, if b == 0 { 0 } else { ends[b - 1] }, ends[b]))
    }

    /// Expected answers in slot `t` with this capacity.
    fn answers(&self, t: usize, rps: f64) -> f64 {
        self.view.scenarios[self.id.index()].iter().map(|(probability, demand)| probability * demand[t].min(rps)).sum()
    }

    /// Answers of every bundle up to second t: [t][m], in f64, for differences of it are used.
    fn prefix(&self) -> Vec<f64> {
        let m = self.bundles.len();
        let rps: Vec<f64> = self.bundles.iter().map(|bundle| bundle.rps).collect();
        let mut prefix = vec![0.0; (self.view.horizon + 1) * m];
        for t in 0..self.view.horizon {
            let (before, after) = prefix.split_at_mut((t + 1) * m);
            let after = &mut after[..m];
            after.copy_from_slice(&before[t * m..]);
            for (probability, demand) in &self.view.scenarios[self.id.index()] {
                let demand = demand[t];
                after.iter_mut().zip(&rps).for_each(|(sum, &rps)| *sum += probability * if demand < rps { demand } else { rps });
            }
        }
        prefix
    }

    fn served(&self, prefix: &[f64]) -> Vec<f32> {
        let m = self.bundles.len();
        self.blocks()
            .flat_map(|(_, from, to)| (0..m).map(move |index| (prefix[to * m + index] - prefix[from * m + index]) as f32))
            .collect()
    }

    fn charges(&self) -> Vec<f32> {
        let (floor, charge) = (self.view.floor(self.id), self.view.floor_charge(self.id));
        let missing = |bundle: &Bundle| (floor - bundle.rps).max(0.0);
        self.blocks()
            .flat_map(|(_, from, to)| self.bundles.iter().map(move |b| (charge * missing(b) * (to - from) as f64) as f32))
            .collect()
    }

    /// Admission of what starts in a block that begins then. Preloading begins with the block, for a plan stages nothing for a later one:
    /// were it thought to begin now, a change in the next block would always look cheaper than one in this, and none would ever come.
    fn ready_s(&self, kind: usize, begin: usize) -> f64 {
        let (task, Kind { model, profile, .. }) = (Task::inference(self.id), self.shape.kinds()[kind]);
        begin as f64 + self.view.preload_s(task) + self.view.switch_s(task, model, profile)
    }

    fn rate(&self, kind: usize) -> f64 {
        self.rates[kind]
    }

    /// Starts of `more` instances by kind are charged, in answers of the model in service.
    fn start_charges(&self, more: &[u32]) -> f64 {
        let worth = self.view.answer_worth(self.id).max(1e-6);
        let charge =
            |(kind, &n): (usize, &u32)| if n == 0 { 0.0 } else { f64::from(n) * start_charge(self.view, self.id, self.rate(kind)) };
        more.iter().enumerate().map(charge).sum::<f64>() / worth
    }

    fn yields_s(&self, begin: usize) -> f64 {
        self.yields_after_s + begin as f64
    }

    /// Requests/s of what `old` holds and `new` does not.
    fn leaving(&self, old: &[u32], new: &[u32]) -> f64 {
        let pairs = old.iter().zip(new).enumerate().filter(|(_, (old, new))| old > new);
        pairs.map(|(kind, (old, new))| f64::from(old - new) * self.rate(kind)).sum()
    }

    /// Answers that are lost in `[from, to)` of a block because `missing` (rps, ready at) are not there yet, less those that `leaving`
    /// (rps, until) still gives.
    fn lost(&self, from: usize, to: usize, rps: f64, missing: &[(f64, f64)], leaving: (f64, f64)) -> f64 {
        let until_s = if leaving.0 > 0.0 { leaving.1 } else { 0.0 };
        let last = missing.iter().map(|(_, ready_s)| *ready_s).chain([until_s]).fold(0.0, f64::max).min(to as f64).ceil() as usize;
        let lost = |t: usize| {
            let absent = |(rps, ready_s): &(f64, f64)| rps * (ready_s - t as f64).clamp(0.0, 1.0);
            let there = rps - missing.iter().map(absent).sum::<f64>() + leaving.0 * (leaving.1 - t as f64).clamp(0.0, 1.0);
            self.answers(t, rps) - self.answers(t, there.max(0.0))
        };
        (from..last.max(from)).map(lost).sum()
    }

    /// What is held and not ready yet, the soonest first, by kind.
    fn residual(&self, kind: usize) -> Vec<f64> {
        let own = |gpu: usize, old: &crate::problem::InstanceState| {
            !old.pinned && old.task == Some(Task::inference(self.id)) && self.shape.kind_of(gpu, old.site.profile).index() == kind
        };
        let mut ready: Vec<f64> = self.view.instances().filter(|&(gpu, old)| own(gpu, old)).map(|(_, old)| old.ready_in_s).collect();
        ready.sort_by(f64::total_cmp);
        ready
    }

    /// What of a bundle held since block 0 is not ready at once: requests/s and when.
    fn not_ready(&self, counts: &[u32], started: &[u32]) -> Vec<(f64, f64)> {
        let mut missing = Vec::new();
        for (kind, &n) in counts.iter().enumerate().filter(|(_, n)| **n > 0) {
            let (rate, residual) = (self.rate(kind), self.residual(kind));
            let kept = n - started[kind].min(n);
            missing.extend(residual.into_iter().take(kept as usize).filter(|s| *s > 0.0).map(|ready_s| (rate, ready_s)));
            if started[kind] > 0 {
                missing.push((rate * f64::from(started[kind]), self.ready_s(kind, 0)));
            }
        }
        missing
    }

    fn first(&self) -> Vec<f32> {
        let (end, yields_s) = (self.view.ends[0], self.yields_s(0));
        let lost = |bundle: &Bundle| {
            let started: Vec<u32> = bundle.counts.iter().zip(&self.held).map(|(n, held)| n.saturating_sub(*held)).collect();
            let leaving = (self.leaving(&self.held, &bundle.counts), yields_s);
            self.lost(0, end, bundle.rps, &self.not_ready(&bundle.counts, &started), leaving) + self.start_charges(&started)
        };
        self.bundles.iter().map(|bundle| lost(bundle) as f32).collect()
    }

    fn losses(&self, prefix: &[f64]) -> Vec<f32> {
        let m = self.bundles.len();
        let mut losses = vec![0.0; self.view.ends.len() * m * m];
        let peaks = self.peaks();
        for (from, to) in (0..m).flat_map(|from| (0..m).map(move |to| (from, to))).filter(|(from, to)| from != to) {
            let (old, new) = (&self.bundles[from], &self.bundles[to]);
            let more: Vec<u32> = new.counts.iter().zip(&old.counts).map(|(n, o)| n.saturating_sub(*o)).collect();
            let charge = self.start_charges(&more);
            let there = self.there(&old.counts, new, &more);
            for (block, begin, end) in self.blocks().skip(2) {
                let lost = self.lost_to(&prefix[begin * m + to..], &peaks, (begin, end), &there);
                losses[(block * m + from) * m + to] = (lost + charge) as f32;
            }
        }
        self.second(&mut losses);
        losses
    }

    /// Losses of changing in block 1, which may come before what block 0 started, or what is starting now, is ready.
    fn second(&self, losses: &mut [f32]) {
        let Some((_, begin, end)) = self.blocks().nth(1) else { return };
        let m = self.bundles.len();
        for (from, to) in (0..m).flat_map(|from| (0..m).map(move |to| (from, to))) {
            let (old, new) = (&self.bundles[from], &self.bundles[to]);
            let more: Vec<u32> = new.counts.iter().zip(&old.counts).map(|(n, o)| n.saturating_sub(*o)).collect();
            let started = (0..more.len()).filter(|&kind| more[kind] > 0);
            let started = started.map(|kind| (self.rate(kind) * f64::from(more[kind]), self.ready_s(kind, begin)));
            let mut missing: Vec<(f64, f64)> = started.collect();
            missing.extend(self.still_warming(&old.counts, &new.counts).into_iter().filter(|(_, ready_s)| *ready_s > begin as f64));
            let leaving = if self.yields_s(0) > 0.0 { self.leaving(&old.counts, &new.counts) } else { 0.0 };
            let nothing = missing.is_empty() && leaving <= 0.0;
            let lost = if nothing { 0.0 } else { self.lost(begin, end, new.rps, &missing, (leaving, self.yields_s(begin))) };
            losses[(m + from) * m + to] = (lost + self.start_charges(&more)) as f32;
        }
    }

    /// Highest demand of any scenario by second.
    fn peaks(&self) -> Vec<f64> {
        let highest = |t: usize| self.view.scenarios[self.id.index()].iter().map(|(_, demand)| demand[t]).fold(0.0, f64::max);
        (0..self.view.horizon).map(highest).collect()
    }

    /// Requests/s of the first seconds of a block that changes from `old` to `new`: the same in every block after the first two.
    fn there(&self, old: &[u32], new: &Bundle, more: &[u32]) -> Vec<f64> {
        let starts =
            || more.iter().enumerate().filter(|(_, n)| **n > 0).map(|(kind, &n)| (self.rate(kind) * f64::from(n), self.ready_s(kind, 0)));
        let leaving = if self.yields_after_s > 0.0 { self.leaving(old, &new.counts) } else { 0.0 };
        let until_s = if leaving > 0.0 { self.yields_after_s } else { 0.0 };
        let last = starts().map(|(_, ready_s)| ready_s).fold(until_s, f64::max).ceil() as usize;
        let there = |t: usize| {
            let absent: f64 = starts().map(|(rps, ready_s)| rps * (ready_s - t as f64).clamp(0.0, 1.0)).sum();
            (new.rps - absent + leaving * (self.yields_after_s - t as f64).clamp(0.0, 1.0)).max(0.0)
        };
        (0..last).map(there).collect()
    }

    /// Answers lost in the first seconds of a block; `full` is the new bundle's column of the prefix from the block's first second on.
    fn lost_to(&self, full: &[f64], peaks: &[f64], (begin, end): (usize, usize), there: &[f64]) -> f64 {
        let m = self.bundles.len();
        let seconds = there.len().min(end - begin);
        let demand = &self.view.demand[self.id.index()];
        let answers = |(&rps, t): (&f64, usize)| if rps >= peaks[t] { demand[t] } else { self.answers(t, rps) };
        let answered: f64 = there[..seconds].iter().zip(begin..).map(answers).sum();
        full[seconds * m] - full[0] - answered
    }

    /// Block 0 may be shorter than a warm-up: what it started, and what was starting before, may not be ready in block 1.
    fn still_warming(&self, first: &[u32], second: &[u32]) -> Vec<(f64, f64)> {
        let both: Vec<u32> = first.iter().zip(second).map(|(a, b)| *a.min(b)).collect();
        let started: Vec<u32> =
            both.iter().zip(first.iter().zip(&self.held)).map(|(n, (f, held))| n.saturating_sub(*f.min(held))).collect();
        self.not_ready(&both, &started)
    }

    /// Options that finish in time and gain something, with their finish.
    fn options(&self) -> Vec<(RetrainOption, f64)> {
        let (view, task) = (self.view, Task::retraining(self.id));
        let gain = view.tenant(self.id).weight * view.accuracy_gain(self.id);
        let running = view.running(self.id).map(|(gpu, old)| (self.shape.kind_of(gpu, old.site.profile), old));
        let mut options = Vec::new();
        for kind in self.shape.kind_ids() {
            let Kind { model, profile, .. } = self.shape.kind(kind);
            let Some(work_s) = view.retraining_s(self.id, model, profile).filter(|_| gain > 0.0) else { continue };
            // Going on pays no restore.
            let going_on = running.filter(|(on, _)| *on == kind).map(|(_, old)| (old.ready_in_s + work_s, true));
            let start = |from: usize| (from as f64 + view.preload_s(task) + view.switch_s(task, model, profile) + work_s, false);
            let room: Vec<u32> = self.shape.rows().iter().map(|row| row.alpha[kind.index()]).collect();
            let pinned = running.is_some_and(|(_, old)| old.pinned);
            for (block, from, _) in self.blocks() {
                let going_on = going_on.filter(|_| block == 0);
                let (finish_s, ran) = going_on.unwrap_or_else(|| start(from));
                if !view.counts(finish_s, ran)
                    || pinned && !ran
                    || !pinned && room.iter().zip(self.shape.rows()).any(|(a, row)| *a > row.most)
                {
                    continue;
                }
                let end = view.ends.iter().position(|&end| finish_s < end as f64).unwrap_or(view.ends.len() - 1).max(block);
                let room = if pinned { vec![0; room.len()] } else { room.clone() };
                let tail = gain * view.tail_arrivals(self.id, finish_s);
                options.push((RetrainOption { kind, start: block, end, room, tail }, finish_s));
            }
        }
        options
    }

    /// Weighted answers in the finishing block, split at the finish.
    fn mixed(&self, prefix: &[f64], block: usize, finish_s: f64, worth: [f64; 2]) -> Vec<f32> {
        let m = self.bundles.len();
        let (from, to) = (if block == 0 { 0 } else { self.view.ends[block - 1] }, self.view.ends[block]);
        let at = finish_s.clamp(from as f64, to as f64);
        let (slot, share) = ((at as usize).min(self.view.horizon - 1), at - (at as usize).min(self.view.horizon - 1) as f64);
        let mix = |index: usize| {
            let until = prefix[slot * m + index] + share * (prefix[(slot + 1) * m + index] - prefix[slot * m + index]);
            (worth[0] * (until - prefix[from * m + index]) + worth[1] * (prefix[to * m + index] - until)) as f32
        };
        (0..m).map(mix).collect()
    }
}
