//! Which partition each GPU of a class gets: counts are met exactly and most of what is in force stays.
//!
//! A best-first search over the GPUs, one after the other; a state is what is still needed. Up to [`MOST_STATES`] it is exact: the first way
//! found to the end is the best, for what the GPUs still to come may keep at most is known. That a state can be completed is known from the facets.

use std::cmp::Ordering;
use std::collections::{BTreeMap, BinaryHeap};

use migrator_mig::Partition;

use super::worth::Worth;
use crate::problem::{InstanceState, Task};
use crate::shape::{Class, KindId};

/// States looked at best first; beyond, the deepest come first and the answer is legal but may keep less.
const MOST_STATES: usize = 20_000;

/// States looked at in all, where the facets do not tell what fits.
const MOST_TRIED: usize = 200_000;

/// The partition of each GPU of a class, or `None` when the counts cannot be cut.
pub(super) fn split<'a>(worth: &Worth<'a>, class: usize) -> Option<Vec<(usize, &'a Partition)>> {
    let of = &worth.shape.classes()[class];
    let scarce = worth.scarce(class);
    let mut first = vec![0; of.profiles];
    for ((_, kind), n) in worth.need.iter().filter(|((_, kind), _)| worth.shape.kind(*kind).class == class) {
        first[worth.shape.kind(*kind).profile.index()] += n;
    }
    let quota = |key: &(Task, KindId)| worth.need.get(key).copied().unwrap_or(0);
    first.extend(scarce.iter().map(quota));
    // No GPU holds more of a profile than is needed in all.
    let holds = |counts: &[u32]| counts.iter().zip(&first).all(|(n, most)| n <= most);
    let useful = (0..of.partitions.len()).filter(|&index| holds(&of.counts[index]));
    let rooms: Vec<(usize, f64)> = useful.map(|index| (index, worth.room(of, index))).collect();
    let choices: Vec<Vec<Choice>> = of.gpus.iter().map(|&gpu| choices(worth, of, gpu, &scarce, &rooms)).collect();
    let chosen = Search::new(of, &choices, first).run()?;
    Some(of.gpus.iter().zip(chosen).zip(&choices).map(|((&gpu, chosen), choices)| (gpu, choices[chosen].partition)).collect())
}

/// A partition of one GPU.
struct Choice<'a> {
    partition: &'a Partition,
    /// Counts by profile, pinned instances left out.
    counts: &'a [u32],
    /// What it is worth whatever the others do.
    value: f64,
    /// What it is worth more, at most, for what may stay of the scarce.
    extra: f64,
    /// By scarce task and kind: what each more of them that stays is worth, descending.
    scarce: Vec<Vec<f64>>,
}

/// The best of these partitions of a GPU for each geometry and each number of scarce instances in it, the most worth first.
fn choices<'a>(worth: &Worth<'a>, class: &'a Class, gpu: usize, scarce: &[(Task, KindId)], rooms: &[(usize, f64)]) -> Vec<Choice<'a>> {
    let mut best: BTreeMap<(&[u32], Vec<usize>), Choice<'a>> = BTreeMap::new();
    for &(index, room) in rooms {
        let choice = choice(worth, gpu, (&class.partitions[index], &class.counts[index]), scarce, room);
        let key = (choice.counts, choice.scarce.iter().map(Vec::len).collect());
        // Ties go to the first in the catalog's order, so that equal problems get equal plans.
        if best.get(&key).is_none_or(|known| choice.value + choice.extra > known.value + known.extra) {
            best.insert(key, choice);
        }
    }
    let mut choices: Vec<Choice> = best.into_values().collect();
    choices.sort_by(|a, b| (b.value + b.extra).total_cmp(&(a.value + a.extra)));
    choices
}

fn choice<'a>(
    worth: &Worth<'a>,
    gpu: usize,
    (partition, counts): (&'a Partition, &'a [u32]),
    scarce: &[(Task, KindId)],
    room: f64,
) -> Choice<'a> {
    let mut choice = Choice { partition, counts, value: room, extra: 0.0, scarce: vec![Vec::new(); scarce.len()] };
    for old in worth.view.problem.gpus[gpu].instances.iter().filter(|old: &&InstanceState| !old.pinned) {
        let kind = worth.shape.kind_of(gpu, old.site.profile);
        if !partition.sites().contains(&old.site) {
            let gone = partition.sites().iter().any(|site| site.placement.overlaps(old.site.placement));
            choice.value += if gone { worth.lost(gpu, old) } else { 0.0 };
            continue;
        }
        let handed = worth.handed(kind);
        choice.value += handed;
        let Some(task) = old.task.filter(|&task| worth.need.contains_key(&(task, kind))) else { continue };
        let more = worth.stays(gpu, old, task) - handed;
        match scarce.iter().position(|key| *key == (task, kind)) {
            Some(index) => choice.scarce[index].push(more),
            None => choice.value += more,
        }
    }
    choice.scarce.iter_mut().for_each(|more| more.sort_by(|a, b| b.total_cmp(a)));
    choice.extra = choice.scarce.iter().flatten().sum();
    choice
}

/// A way so far: the GPUs up to here are chosen.
struct Way {
    /// Counts still needed by profile, then scarce instances that may still stay.
    left: Vec<u32>,
    value: f64,
    depth: usize,
    /// The way one GPU shorter, and this GPU's choice.
    from: usize,
    choice: usize,
}

/// A way and its next choice, by the most that it can come to.
struct Open {
    most: f64,
    depth: usize,
    way: usize,
    choice: usize,
}

impl Ord for Open {
    fn cmp(&self, other: &Open) -> Ordering {
        let key = |open: &Open| (open.depth, std::cmp::Reverse(open.way), std::cmp::Reverse(open.choice));
        self.most.total_cmp(&other.most).then(key(self).cmp(&key(other)))
    }
}

impl PartialOrd for Open {
    fn partial_cmp(&self, other: &Open) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Open {
    fn eq(&self, other: &Open) -> bool {
        self.cmp(other).is_eq()
    }
}

impl Eq for Open {}

struct Search<'a> {
    class: &'a Class,
    choices: &'a [Vec<Choice<'a>>],
    /// Most that the GPUs from this one on can be worth.
    rest: Vec<f64>,
    ways: Vec<Way>,
    open: BinaryHeap<Open>,
    /// Best value with which a state was reached.
    known: BTreeMap<(usize, Vec<u32>), f64>,
    /// Whether the deepest come first.
    hasty: bool,
}

impl<'a> Search<'a> {
    fn new(class: &'a Class, choices: &'a [Vec<Choice<'a>>], left: Vec<u32>) -> Search<'a> {
        let mut rest = vec![0.0; choices.len() + 1];
        for (depth, choices) in choices.iter().enumerate().rev() {
            rest[depth] = rest[depth + 1] + choices.first().map_or(0.0, |best| best.value + best.extra);
        }
        let ways = vec![Way { left, value: 0.0, depth: 0, from: 0, choice: 0 }];
        Search { class, choices, rest, ways, open: BinaryHeap::new(), known: BTreeMap::new(), hasty: false }
    }

    /// The choice of each GPU.
    fn run(mut self) -> Option<Vec<usize>> {
        if !self.completes(&self.ways[0].left, self.choices.len()) {
            return None;
        }
        self.offer(0, 0);
        for tried in 0..MOST_TRIED {
            let Open { way, choice, .. } = self.open.pop()?;
            if self.ways[way].depth == self.choices.len() {
                return Some(self.back(way));
            }
            if tried == MOST_STATES {
                self.hurry();
            }
            self.offer(way, choice + 1);
            self.step(way, choice);
        }
        None
    }

    /// Puts a way with its next choice on the heap; a whole way with what it is worth.
    fn offer(&mut self, way: usize, choice: usize) {
        let Way { value, depth, .. } = self.ways[way];
        let most = match self.choices.get(depth).map(|choices| choices.get(choice)) {
            Some(Some(next)) => value + next.value + next.extra + self.rest[depth + 1],
            Some(None) => return,
            None => value,
        };
        self.push(Open { most, depth, way, choice });
    }

    fn push(&mut self, mut open: Open) {
        if self.hasty {
            open.most = open.depth as f64;
        }
        self.open.push(open);
    }

    fn hurry(&mut self) {
        self.hasty = true;
        for open in std::mem::take(&mut self.open).into_sorted_vec() {
            self.push(open);
        }
    }

    fn step(&mut self, way: usize, choice: usize) {
        let (from, next) = (&self.ways[way], &self.choices[self.ways[way].depth][choice]);
        let depth = from.depth + 1;
        let mut left = from.left.clone();
        for (left, taken) in left.iter_mut().zip(next.counts) {
            let Some(rest) = left.checked_sub(*taken) else { return };
            *left = rest;
        }
        let mut value = from.value + next.value;
        for (quota, more) in left[next.counts.len()..].iter_mut().zip(&next.scarce) {
            let stay = more.len().min(*quota as usize);
            value += more[..stay].iter().sum::<f64>();
            *quota -= stay as u32;
        }
        if !self.completes(&left, self.choices.len() - depth) {
            return;
        }
        let key = (depth, left);
        if self.known.get(&key).is_some_and(|&known| known >= value) {
            return;
        }
        let left = key.1.clone();
        self.known.insert(key, value);
        self.ways.push(Way { left, value, depth, from: way, choice });
        self.offer(self.ways.len() - 1, 0);
    }

    /// Whether so many GPUs may hold what is left, as far as the facets tell; on none, whether nothing is left.
    fn completes(&self, left: &[u32], gpus: usize) -> bool {
        let counts = &left[..self.class.profiles];
        if gpus == 0 { counts.iter().all(|&n| n == 0) } else { self.class.facets.iter().all(|facet| facet.allows(counts, gpus as u32)) }
    }

    fn back(&self, mut way: usize) -> Vec<usize> {
        let mut chosen = Vec::new();
        while self.ways[way].depth > 0 {
            chosen.push(self.ways[way].choice);
            way = self.ways[way].from;
        }
        chosen.reverse();
        chosen
    }
}
