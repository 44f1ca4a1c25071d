//! Bundles: the sets of instances that are worth giving to one tenant's inference (`reference/ilp.md` section 3, item 1).

use crate::problem::TenantId;
use crate::shape::{Kind, Shape};
use crate::view::View;

/// Most undominated bundles; of more, those of evenly spread capacity.
const MOST_UNDOMINATED: usize = 26;

/// Most bundles in all; what is held and what an earlier plan wants come first.
pub(crate) const MOST: usize = 44;

/// Counts by kind, with what follows from them.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Bundle {
    pub counts: Vec<u32>,
    /// Room taken, by row.
    pub room: Vec<u32>,
    /// Requests/s, pinned instances included.
    pub rps: f64,
}

/// Bundles of a tenant: none at all, undominated ones, parts of what is held, joins of both, and `extra`; ascending by counts.
pub(crate) fn bundles(view: &View, shape: &Shape, id: TenantId, held: &[u32], extra: &[Vec<u32>]) -> Vec<Bundle> {
    let maker = Maker::new(view, shape, id);
    let mut chosen: Vec<Bundle> = vec![maker.bundle(vec![0; held.len()])];
    let undominated = thinned(maker.undominated(), MOST_UNDOMINATED);
    let joins = undominated.iter().map(|bundle| bundle.counts.iter().zip(held).map(|(a, b)| *a.max(b)).collect::<Vec<u32>>());
    let joins: Vec<Vec<u32>> = joins.filter(|counts| maker.at_most_one_redundant(counts)).collect();
    let wanted = std::iter::once(held.to_vec()).chain(extra.iter().cloned()).chain(parts(held));
    for counts in wanted.chain(undominated.into_iter().map(|bundle| bundle.counts)).chain(joins) {
        let known = chosen.iter().any(|bundle| bundle.counts == counts);
        if !known && chosen.len() < MOST && maker.fits(&counts) {
            chosen.push(maker.bundle(counts));
        }
    }
    chosen.sort_by(|a, b| a.counts.cmp(&b.counts));
    chosen
}

struct Maker<'a> {
    shape: &'a Shape,
    /// Requests/s by kind.
    rates: Vec<f64>,
    pinned_rps: f64,
    peak_rps: f64,
}

impl Maker<'_> {
    fn new<'a>(view: &View, shape: &'a Shape, id: TenantId) -> Maker<'a> {
        let rate = |kind: &Kind| view.rate(id, kind.model, kind.profile);
        let rates = shape.kinds().iter().map(rate).collect();
        let peak_rps = view.peak_demand(id).max(view.floor(id));
        Maker { shape, rates, pinned_rps: view.pinned_rate(id), peak_rps }
    }

    fn bundle(&self, counts: Vec<u32>) -> Bundle {
        let room = self.shape.rows().iter().map(|row| row.alpha.iter().zip(&counts).map(|(alpha, n)| alpha * n).sum()).collect();
        let rps = self.pinned_rps + self.rates.iter().zip(&counts).map(|(rate, &n)| rate * f64::from(n)).sum::<f64>();
        Bundle { counts, room, rps }
    }

    fn fits(&self, counts: &[u32]) -> bool {
        self.bundle(counts.to_vec()).room.iter().zip(self.shape.rows()).all(|(used, row)| *used <= row.most)
    }

    /// Undominated in capacity up to the peak and room: kind by kind, each bundle with 0, 1, 2, … instances more.
    fn undominated(&self) -> Vec<Bundle> {
        let mut found = vec![self.bundle(vec![0; self.rates.len()])];
        for (kind, &rate) in self.rates.iter().enumerate().filter(|(_, rate)| **rate > 0.0) {
            let mut grown = found.clone();
            for bundle in &found {
                let mut next = bundle.clone();
                while next.rps < self.peak_rps {
                    next.counts[kind] += 1;
                    next.rps += rate;
                    let rows = self.shape.rows();
                    next.room.iter_mut().zip(rows).for_each(|(used, row)| *used += row.alpha[kind]);
                    if next.room.iter().zip(rows).any(|(used, row)| *used > row.most) {
                        break;
                    }
                    grown.push(next.clone());
                }
            }
            found = self.best_of(grown);
        }
        found
    }

    fn best_of(&self, mut all: Vec<Bundle>) -> Vec<Bundle> {
        let useful = |bundle: &Bundle| bundle.rps.min(self.peak_rps);
        let size = |bundle: &Bundle| bundle.room.iter().sum::<u32>();
        all.sort_by(|a, b| useful(b).total_cmp(&useful(a)).then(size(a).cmp(&size(b))));
        let mut kept: Vec<Bundle> = Vec::new();
        for bundle in all {
            // Whatever is kept answers at least as much.
            if !kept.iter().any(|better| better.room.iter().zip(&bundle.room).all(|(a, b)| a <= b)) {
                kept.push(bundle);
            }
        }
        kept
    }

    fn at_most_one_redundant(&self, counts: &[u32]) -> bool {
        let held = self.rates.iter().zip(counts).filter(|(rate, n)| **n > 0 && **rate > 0.0);
        let smallest = held.map(|(rate, _)| *rate).fold(f64::INFINITY, f64::min);
        self.bundle(counts.to_vec()).rps - 2.0 * smallest < self.peak_rps
    }
}

/// At most `most`, evenly spread; the list is sorted by capacity.
fn thinned(all: Vec<Bundle>, most: usize) -> Vec<Bundle> {
    if all.len() <= most {
        return all;
    }
    let last = all.len() - 1;
    (0..most).map(|index| all[index * last / (most - 1)].clone()).collect()
}

/// Parts of `held`: all of them where they are few, else those that lack one instance or all of a kind.
fn parts(held: &[u32]) -> Vec<Vec<u32>> {
    let product: u64 = held.iter().map(|&n| u64::from(n) + 1).product();
    if product > 16 {
        let less = |q: usize, n: u32| held.iter().enumerate().map(|(other, &all)| if other == q { n } else { all }).collect();
        return (0..held.len()).filter(|&q| held[q] > 0).flat_map(|q| [less(q, held[q] - 1), less(q, 0)]).collect();
    }
    let mut parts = vec![Vec::new()];
    for &most in held {
        parts = parts.into_iter().flat_map(|part| (0..=most).map(move |n| [part.clone(), vec![n]].concat())).collect();
    }
    parts
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::options::SolveOptions;
    use crate::testing::{problem, tenant};

    #[test]
    fn bundles_are_undominated_and_hold_what_is_held() {
        let problem = problem(vec![tenant("vision", 25.0)]);
        let view = View::new(&problem, &SolveOptions::default());
        let shape = Shape::new(&problem);
        let found: Vec<Vec<u32>> = bundles(&view, &shape, TenantId(0), &[0, 0, 1, 0, 0], &[]).into_iter().map(|b| b.counts).collect();
        assert!(found.contains(&vec![0; 5]) && found.contains(&vec![0, 0, 1, 0, 0]) && found.contains(&vec![3, 0, 0, 0, 0]));
        assert!(!found.contains(&vec![4, 0, 0, 0, 0]), "3 × 1g answer all");
        assert!(found.len() < 14, "{found:?}");
    }
}
