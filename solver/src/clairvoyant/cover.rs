//! The cheapest way to get a retraining's work done by a second, split at will.

use std::cmp::Ordering;
use std::collections::BinaryHeap;

/// A part of one second's work: what it does and what it costs.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Part {
    pub second: usize,
    /// Kind that is left and kind that is taken, for the room it takes; `None` = nothing.
    pub from: Option<usize>,
    pub to: usize,
    /// Share of the retraining.
    pub work: f64,
    pub cost: f64,
}

impl Part {
    fn slope(&self) -> f64 {
        self.cost / self.work
    }
}

/// By slope, then in order of appearance, so that the heap's order is total.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Dearest(Part);

impl Eq for Dearest {}

impl PartialOrd for Dearest {
    fn partial_cmp(&self, other: &Dearest) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Dearest {
    fn cmp(&self, other: &Dearest) -> Ordering {
        self.0.slope().total_cmp(&other.0.slope()).then(self.0.second.cmp(&other.0.second)).then(self.0.to.cmp(&other.0.to))
    }
}

/// The chosen parts as seconds are added; always the cheapest that do the whole work, if there are enough.
#[derive(Clone, Debug, Default)]
pub(crate) struct Cover {
    heap: BinaryHeap<Dearest>,
    work: f64,
    cost: f64,
}

impl Cover {
    /// Adds a part, of which a second may bring several: the corners of [`hull`].
    pub fn push(&mut self, part: Part) {
        // What is dearer than the dearest of a full cover can never be needed.
        if self.work >= 1.0 && self.heap.peek().is_some_and(|dearest| Dearest(part) >= *dearest) {
            return;
        }
        self.work += part.work;
        self.cost += part.cost;
        self.heap.push(Dearest(part));
        while let Some(&Dearest(dearest)) = self.heap.peek()
            && self.work - dearest.work >= 1.0
        {
            self.work -= dearest.work;
            self.cost -= dearest.cost;
            self.heap.pop();
        }
    }

    /// Cost of the whole work, the dearest part taken only as far as it is needed; `None` = the seconds do not suffice.
    pub fn cost(&self) -> Option<f64> {
        let Dearest(dearest) = self.heap.peek()?;
        (self.work >= 1.0 - 1e-9).then(|| self.cost - (self.work - 1.0).max(0.0) * dearest.slope())
    }

    /// The parts and how much of each is taken, 0..1.
    pub fn parts(&self) -> impl Iterator<Item = (Part, f64)> + '_ {
        let dearest = self.heap.peek().map(|part| part.0);
        self.heap.iter().map(move |&Dearest(part)| {
            let spare = if Some(part) == dearest { (self.work - 1.0).max(0.0) / part.work } else { 0.0 };
            (part, 1.0 - spare)
        })
    }
}

/// Calls `each` with the parts of a second with these speeds and costs by kind: the lower hull of (0, 0) and (speed, cost), for a
/// retraining is on one instance at a time.
pub(crate) fn hull(second: usize, speeds: &[f64], costs: &[f64], mut each: impl FnMut(Part)) {
    let (mut from, mut at) = (None, (0.0, 0.0));
    while let Some(part) = next_on_hull(speeds, costs, at) {
        each(Part { second, from, ..part });
        (from, at) = (Some(part.to), (speeds[part.to], costs[part.to]));
    }
}

/// The next corner of the lower hull from `at`: of all faster kinds the one with the least slope, the fastest of equals.
fn next_on_hull(speeds: &[f64], costs: &[f64], at: (f64, f64)) -> Option<Part> {
    let faster = speeds.iter().zip(costs).enumerate().filter(|(_, (speed, _))| **speed > at.0 + 1e-12);
    let parts = faster.map(|(to, (speed, cost))| Part { second: 0, from: None, to, work: speed - at.0, cost: cost - at.1 });
    parts.min_by(|a, b| a.slope().total_cmp(&b.slope()).then(b.work.total_cmp(&a.work)))
}
