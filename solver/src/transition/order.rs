//! The order of jobs that loses least service: exact where the search ends in time, a good one beyond.

use super::job::Jobs;
use super::schedule::Timeline;

/// Most prefixes looked at in one group of jobs; some 5 µs each.
const MOST_NODES: usize = 4000;

/// Groups beyond this are ordered by the rule alone.
const MOST_SEARCHED: usize = 24;

/// An order of all jobs.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Ordered {
    /// Indices of jobs; each after its needs.
    pub order: Vec<usize>,
    /// Whether no order costs less.
    pub exact: bool,
}

/// Orders the jobs. Jobs that share neither a GPU nor a tenant's task do not touch each other, so each group of such is ordered alone.
pub(super) fn order(jobs: &Jobs) -> Ordered {
    let mut all = Ordered { order: Vec::new(), exact: true };
    for group in groups(jobs) {
        let part = jobs.part(&group);
        let first = by_rule(&part);
        let mut search = Search { jobs: &part, nodes: 0, best: cost(&part, &first), order: first };
        let fits = group.len() <= MOST_SEARCHED;
        if fits {
            search.improve();
            search.extend(&Timeline::new(&part), &mut Vec::new());
        }
        all.exact &= fits && search.nodes < MOST_NODES;
        all.order.extend(search.order.iter().map(|&index| group[index]));
    }
    all
}

fn cost(jobs: &Jobs, order: &[usize]) -> f64 {
    Timeline::of(jobs, order).cost(jobs).total()
}

fn groups(jobs: &Jobs) -> Vec<Vec<usize>> {
    let mut group: Vec<usize> = (0..jobs.all.len()).collect();
    for (index, job) in jobs.all.iter().enumerate() {
        for (other, earlier) in jobs.all[..index].iter().enumerate() {
            if earlier.gpu == job.gpu || earlier.task.is_some() && earlier.task == job.task {
                let (from, to) = (group[index], group[other]);
                group.iter_mut().filter(|of| **of == from).for_each(|of| *of = to);
            }
        }
    }
    let members = |root: usize| (0..group.len()).filter(|&index| group[index] == root).collect::<Vec<usize>>();
    let mut roots = group.clone();
    roots.sort_unstable();
    roots.dedup();
    roots.into_iter().map(members).collect()
}

/// What needs nothing to yield comes first; then arrivals by what they serve, each after all that must yield for it; then what just leaves.
fn by_rule(jobs: &Jobs) -> Vec<usize> {
    let mut arrivals: Vec<usize> = (0..jobs.all.len()).filter(|&index| !jobs.all[index].leaves()).collect();
    let worth = |index: usize| jobs.all[index].rps / jobs.all[index].slices.max(1.0);
    arrivals.sort_by(|&a, &b| {
        let free = |index: usize| !jobs.all[index].needs.is_empty();
        free(a).cmp(&free(b)).then(worth(b).total_cmp(&worth(a)))
    });
    let mut order: Vec<usize> = Vec::new();
    for arrival in arrivals {
        let needs = jobs.all[arrival].needs.iter().copied().filter(|old| !order.contains(old)).collect::<Vec<usize>>();
        order.extend(needs);
        order.push(arrival);
    }
    let rest: Vec<usize> = (0..jobs.all.len()).filter(|index| !order.contains(index)).collect();
    order.extend(rest);
    order
}

struct Search<'a> {
    jobs: &'a Jobs,
    nodes: usize,
    best: f64,
    order: Vec<usize>,
}

impl Search<'_> {
    /// Moves single jobs to where they cost least, until none moves.
    fn improve(&mut self) {
        let mut moved = true;
        while moved && self.nodes < MOST_NODES / 2 {
            moved = false;
            for from in 0..self.order.len() {
                for to in 0..self.order.len() {
                    moved |= self.insert(from, to);
                }
            }
        }
    }

    fn insert(&mut self, from: usize, to: usize) -> bool {
        let mut order = self.order.clone();
        let index = order.remove(from);
        order.insert(to, index);
        let at = |job: usize| order.iter().position(|&other| other == job);
        let legal = order.iter().all(|&job| self.jobs.all[job].needs.iter().all(|&need| at(need) < at(job)));
        if from == to || !legal || self.nodes >= MOST_NODES / 2 {
            return false;
        }
        self.nodes += 1;
        self.offer(&order)
    }

    fn offer(&mut self, order: &[usize]) -> bool {
        let cost = cost(self.jobs, order);
        let better = cost < self.best - 1e-9;
        if better {
            (self.best, self.order) = (cost, order.to_vec());
        }
        better
    }

    /// Depth first, the most promising next job first; what cannot become better is cut off.
    fn extend(&mut self, timeline: &Timeline, order: &mut Vec<usize>) {
        if order.len() == self.jobs.all.len() {
            let order = order.clone();
            self.offer(&order);
            return;
        }
        let ready = |&index: &usize| !order.contains(&index) && self.jobs.all[index].needs.iter().all(|need| order.contains(need));
        let mut next: Vec<(f64, usize, Timeline)> = Vec::new();
        for index in (0..self.jobs.all.len()).filter(ready).collect::<Vec<usize>>() {
            if self.nodes >= MOST_NODES {
                return;
            }
            self.nodes += 1;
            let mut timeline = timeline.clone();
            timeline.push(self.jobs, index);
            next.push((timeline.bound(self.jobs), index, timeline));
        }
        next.sort_by(|a, b| a.0.total_cmp(&b.0));
        for (bound, index, timeline) in next {
            if bound >= self.best - 1e-9 {
                break;
            }
            order.push(index);
            self.extend(&timeline, order);
            order.pop();
        }
    }
}

#[cfg(test)]
pub(super) fn every(jobs: &Jobs, order: &mut Vec<usize>, seen: &mut impl FnMut(&[usize])) {
    if order.len() == jobs.all.len() {
        seen(order);
        return;
    }
    for index in 0..jobs.all.len() {
        if !order.contains(&index) && jobs.all[index].needs.iter().all(|need| order.contains(need)) {
            order.push(index);
            every(jobs, order, seen);
            order.pop();
        }
    }
}
