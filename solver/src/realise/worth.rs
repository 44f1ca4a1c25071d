//! What it is worth that something stays.

use std::collections::BTreeMap;

use super::Need;
use crate::problem::{InstanceState, Task, TaskKind};
use crate::shape::{Class, Kind, KindId, Shape};
use crate::view::View;

/// Value of a retraining that goes on where it is: more than all inference of a GPU, for its work since the checkpoint is at stake.
const RETRAINING_STAYS: f64 = 1e6;

/// Value of an instance that only changes its owner, and of one that stays, beside the service that either saves: a change is a risk.
const HAND_OVER: f64 = 1.0;
const STAYS: f64 = 2.0;

/// Share of its value that a spare instance in force is worth: nobody needs it, but somebody uses it.
const SPARE: f64 = 0.01;

/// Most that room for what comes may be worth on one GPU: it only decides among equals.
const ROOM: f64 = 0.005;

/// A block further ahead counts this much less.
const FURTHER: f64 = 0.5;

/// A need and what meets it best.
pub(super) struct Worth<'a> {
    pub view: &'a View<'a>,
    pub shape: &'a Shape,
    pub need: &'a Need,
    /// Instances in force and not pinned, by task and kind.
    held: BTreeMap<(Task, KindId), u32>,
    /// Value of handing an instance over, by kind.
    hand_over: Vec<f64>,
    /// Instances that come to be needed in the next blocks beyond those needed now, by kind; further blocks count less.
    ahead: Vec<f64>,
    /// The needs of the next blocks.
    pub next: &'a [Need],
}

impl<'a> Worth<'a> {
    pub fn new(view: &'a View<'a>, shape: &'a Shape, need: &'a Need, next: &'a [Need]) -> Worth<'a> {
        let mut held = BTreeMap::new();
        for (gpu, old) in view.instances().filter(|(_, old)| !old.pinned) {
            if let Some(task) = old.task {
                *held.entry((task, shape.kind_of(gpu, old.site.profile))).or_insert(0) += 1;
            }
        }
        let mut worth = Worth { view, shape, need, held, hand_over: Vec::new(), ahead: Vec::new(), next };
        worth.hand_over = shape.kind_ids().map(|kind| worth.hand_over(kind)).collect();
        worth.ahead = worth.coming();
        worth
    }

    fn hand_over(&self, kind: KindId) -> f64 {
        // Who gets it is decided later: the mean of those who cannot all stay where they are.
        let new = |(key, &n): (&(Task, KindId), &u32)| {
            let anew = n.saturating_sub(self.held.get(key).copied().unwrap_or(0));
            (f64::from(anew), f64::from(anew) * self.answers(key.0, kind))
        };
        let (n, answers) = self.need.iter().filter(|((_, of), _)| *of == kind).map(new).fold((0.0, 0.0), |a, b| (a.0 + b.0, a.1 + b.1));
        HAND_OVER + if n > 0.0 { answers / n * self.cut_s(kind) } else { 0.0 }
    }

    fn coming(&self) -> Vec<f64> {
        let count = |need: &Need, kind: KindId| need.iter().filter(|((_, of), _)| *of == kind).map(|(_, n)| *n).sum::<u32>();
        let beyond = |kind: KindId| {
            let mut weight = 1.0;
            let blocks = self.next.iter().map(|next| {
                let more = f64::from(count(next, kind).saturating_sub(count(self.need, kind))) * weight;
                weight *= FURTHER;
                more
            });
            blocks.fold(0.0, f64::max)
        };
        self.shape.kind_ids().map(beyond).collect()
    }

    /// Weighted answers per second of a task on an instance of this kind; none of a retraining.
    pub fn answers(&self, task: Task, kind: KindId) -> f64 {
        match task.kind {
            TaskKind::Inference => self.view.answer_worth(task.tenant) * self.view.kind_rate(self.shape, task.tenant, kind),
            TaskKind::Retraining => 0.0,
        }
    }

    /// Seconds that cutting an instance of this kind takes.
    fn cut_s(&self, kind: KindId) -> f64 {
        let Kind { model, profile, .. } = self.shape.kind(kind);
        let of = &self.view.problem.models[model];
        of.destroy_s[profile.index()] + of.create_s[profile.index()]
    }

    /// Whether instances of this kind come to be needed.
    pub fn comes(&self, kind: KindId) -> bool {
        self.ahead[kind.index()] > 0.0
    }

    /// Tasks and kinds of which a class holds more than is needed, but needs some: not all of them can stay.
    pub fn scarce(&self, class: usize) -> Vec<(Task, KindId)> {
        let more = |(key, &n): (&(Task, KindId), &u32)| {
            let needed = self.need.get(key).copied().unwrap_or(0);
            (self.shape.kind(key.1).class == class && 0 < needed && needed < n).then_some(*key)
        };
        self.held.iter().filter_map(more).collect()
    }

    /// Value of an instance that stays with its task, when that is needed: the service that a start would lose. What is ready is kept before
    /// what still warms up.
    pub fn stays(&self, gpu: usize, old: &InstanceState, task: Task) -> f64 {
        if task.kind == TaskKind::Retraining {
            return RETRAINING_STAYS;
        }
        let (kind, model) = (self.shape.kind_of(gpu, old.site.profile), self.view.problem.gpus[gpu].model);
        let saved_s = (self.view.switch_s(task, model, old.site.profile) - old.ready_in_s).max(self.cut_s(kind));
        // Never below handing it over, or two tasks would swap their instances.
        (STAYS + self.answers(task, kind) * saved_s).max(self.handed(kind) + STAYS - HAND_OVER)
    }

    /// Value of an instance that changes its owner.
    pub fn handed(&self, kind: KindId) -> f64 {
        self.hand_over[kind.index()]
    }

    /// Value of an instance that is destroyed although nobody needed it to go where it is.
    pub fn lost(&self, gpu: usize, old: &InstanceState) -> f64 {
        let stays = old.task.map_or(0.0, |task| self.stays(gpu, old, task).min(RETRAINING_STAYS));
        -SPARE * (1.0 + stays)
    }

    /// How well the slices that the partition of this index leaves free suit what comes, 0 to [`ROOM`].
    pub fn room(&self, class: &Class, partition: usize) -> f64 {
        let catalog = &self.view.problem.models[class.model].catalog;
        let (mut score, mut most, mut slices, mut all) = (0.0, 0.0, 0.0, 0.0);
        for profile in catalog.profile_ids() {
            let size = f64::from(catalog.profile(profile).compute_slices);
            let ahead = self.ahead[class.kind(profile).index()];
            let (room, whole) = (f64::from(class.beside[partition][profile.index()]), f64::from(class.most(profile)));
            score += size * room.min(ahead);
            most += size * ahead;
            slices += size * room;
            all += size * whole;
        }
        let share = |part: f64, whole: f64| if whole > 0.0 { part / whole } else { 0.0 };
        ROOM * (0.8 * share(score, most) + 0.2 * share(slices, all))
    }
}
