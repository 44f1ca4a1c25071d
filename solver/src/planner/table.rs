//! What a tenant's bundles and retrainings are worth, block by block: the numbers that the dynamic programme adds up.

use crate::evaluate::start_charge;
use crate::monolith::held_now;
use crate::planner::bundle::{Bundle, bundles};
use crate::planner::price::LANES;
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
    /// Index of `room` among [`Table::hires`].
    pub hire: usize,
    /// Worth beyond the horizon.
    tail: f64,
}

/// A tenant's numbers. Tables are f32 in block-major order; `m` bundles, in rows filled up to `stride` with what is infinitely dear.
pub(crate) struct Table {
    pub bundles: Vec<Bundle>,
    /// `m`, filled up to whole lanes.
    pub stride: usize,
    /// Room of the bundles: [row][stride].
    pub room: Vec<f32>,
    pub options: Vec<RetrainOption>,
    /// Rooms that options take, each once, by row.
    pub hires: Vec<Vec<u32>>,
    /// Worth of an answer before and after the retraining.
    pub worth: [f32; 2],
    /// Answers in a block at full capacity: [block][stride].
    pub served: Vec<f32>,
    /// Charges for a floor that is missing, weighted: [block][stride].
    pub charge: Vec<f32>,
    /// Answers lost to starts by holding a bundle in block 0: [stride].
    pub first: Vec<f32>,
    /// The same by changing from one bundle to another: [block][from][to, filled up].
    loss: Vec<f32>,
    /// Weighted answers in the block in which an option finishes: [option][stride].
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
        let mixed = options.iter().flat_map(|(option, finish_s)| builder.mixed(&prefix, option.end, *finish_s, worth));
        Table {
            stride: builder.stride(),
            room: builder.rooms(),
            served: builder.filled_up(builder.served(&prefix), 0.0),
            charge: builder.filled_up(builder.charges(), f32::INFINITY),
            first: builder.filled_up(builder.first(), 0.0),
            loss: builder.losses(&prefix),
            mixed: builder.filled_up(mixed, 0.0),
            tail: options.iter().map(|(option, _)| option.tail as f32).collect(),
            finish: options.iter().map(|(_, finish_s)| *finish_s).collect(),
            never: 1.3 * view.worth_until,
            peak_rps: view.peak_demand(id),
            mean_rps: view.mean_demand(id, 0, view.horizon),
            hires: hires(&options),
            options: options.into_iter().map(|(option, _)| option).collect(),
            bundles: builder.bundles,
            worth: worth.map(|worth| worth as f32),
        }
    }

    /// Number of blocks.
    pub fn blocks(&self) -> usize {
        self.served.len() / self.stride
    }

    /// Answers lost by a change in a block: [from][to, filled up].
    pub fn loss(&self, block: usize) -> &[f32] {
        let size = self.bundles.len() * self.stride;
        &self.loss[block * size..(block + 1) * size]
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

fn hires(options: &[(RetrainOption, f64)]) -> Vec<Vec<u32>> {
    let mut hires: Vec<Vec<u32>> = Vec::new();
    options.iter().for_each(|(option, _)| {
        if option.hire == hires.len() {
            hires.push(option.room.clone());
        }
    });
    hires
}

fn warming_s(view: &View, shape: &Shape, id: TenantId) -> Vec<Vec<f64>> {
    let mut by_kind = vec![Vec::new(); shape.kinds().len()];
    for (gpu, old) in view.instances().filter(|(_, old)| !old.pinned && old.task == Some(Task::inference(id))) {
        by_kind[shape.kind_of(gpu, old.site.profile).index()].push(old.ready_in_s);
    }
    by_kind.iter_mut().for_each(|ready: &mut Vec<f64>| ready.sort_by(f64::total_cmp));
    by_kind
}

/// Makes a tenant's table; what changes lose is in [`super::loss`].
pub(super) struct Builder<'a> {
    pub view: &'a View<'a>,
    shape: &'a Shape,
    pub id: TenantId,
    pub bundles: Vec<Bundle>,
    pub held: Vec<u32>,
    /// Requests/s by kind.
    pub rates: Vec<f64>,
    /// Seconds without service of a start, by kind.
    pub switch_s: Vec<f64>,
    pub preload_s: f64,
    /// Charge for a start by kind, weighted answers.
    pub start_charge: Vec<f64>,
    /// In how many seconds what is held is ready, by kind, the soonest first.
    pub warming_s: Vec<Vec<f64>>,
    /// What yields serves until its heir, whoever that is, has been preloaded: at least this long, in seconds.
    pub yields_after_s: f64,
}

impl<'a> Builder<'a> {
    fn new(view: &'a View<'a>, shape: &'a Shape, id: TenantId, extra: &[Vec<u32>]) -> Builder<'a> {
        let held: Vec<u32> = shape.kind_ids().map(|kind| held_now(view, shape, id, kind)).collect();
        let tasks = view.tenants().flat_map(|(id, state)| {
            let due = state.retraining.as_ref().map(|_| Task::retraining(id));
            [Some(Task::inference(id)), due].into_iter().flatten()
        });
        let yields_after_s = tasks.map(|task| view.preload_s(task)).reduce(f64::min).unwrap_or(0.0);
        let rates: Vec<f64> = shape.kinds().iter().map(|kind| view.rate(id, kind.model, kind.profile)).collect();
        let task = Task::inference(id);
        Builder {
            bundles: bundles(view, shape, id, &held, extra),
            switch_s: shape.kinds().iter().map(|kind| view.switch_s(task, kind.model, kind.profile)).collect(),
            preload_s: view.preload_s(task),
            start_charge: rates.iter().map(|rate| start_charge(view, id, *rate)).collect(),
            warming_s: warming_s(view, shape, id),
            view,
            shape,
            id,
            held,
            rates,
            yields_after_s,
        }
    }

    pub fn stride(&self) -> usize {
        self.bundles.len().next_multiple_of(LANES)
    }

    /// Rows of `m` numbers, filled up to the stride.
    fn filled_up(&self, values: impl IntoIterator<Item = f32>, with: f32) -> Vec<f32> {
        let (m, mut filled, mut values) = (self.bundles.len(), Vec::new(), values.into_iter().peekable());
        while values.peek().is_some() {
            filled.extend(values.by_ref().take(m));
            filled.resize(filled.len().next_multiple_of(LANES), with);
        }
        filled
    }

    fn rooms(&self) -> Vec<f32> {
        let rows = 0..self.shape.rows().len();
        self.filled_up(rows.flat_map(|row| self.bundles.iter().map(move |bundle| bundle.room[row] as f32)), 0.0)
    }

    pub fn blocks(&self) -> impl Iterator<Item = (usize, usize, usize)> + use<'a> {
        let ends = self.view.ends.as_slice();
        (0..ends.len()).map(move |b| (b, if b == 0 { 0 } else { ends[b - 1] }, ends[b]))
    }

    /// Expected answers in slot `t` with this capacity.
    pub fn answers(&self, t: usize, rps: f64) -> f64 {
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
                // One after another with the same room shares it.
                let hire = options.last().map_or(0, |(last, _): &(RetrainOption, f64)| last.hire + usize::from(last.room != room));
                options.push((RetrainOption { kind, start: block, end, room, hire, tail }, finish_s));
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
