//! Answers that a change from one bundle to another loses: what starts is not ready at once, what yields serves on for a while.

use crate::planner::bundle::Bundle;
use crate::planner::table::Builder;

impl Builder<'_> {
    /// Admission of what starts in a block that begins then. Preloading begins with the block, for a plan stages nothing for a later one:
    /// were it thought to begin now, a change in the next block would always look cheaper than one in this, and none would ever come.
    fn ready_s(&self, kind: usize, begin: usize) -> f64 {
        begin as f64 + self.preload_s + self.switch_s[kind]
    }

    fn rate(&self, kind: usize) -> f64 {
        self.rates[kind]
    }

    /// Starts of `more` instances by kind are charged, in answers of the model in service.
    fn start_charges(&self, more: &[u32]) -> f64 {
        let worth = self.view.answer_worth(self.id).max(1e-6);
        more.iter().zip(&self.start_charge).map(|(&n, charge)| f64::from(n) * charge).sum::<f64>() / worth
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

    /// What of a bundle held since block 0 is not ready at once: requests/s and when.
    fn not_ready(&self, counts: &[u32], started: &[u32]) -> Vec<(f64, f64)> {
        let mut missing = Vec::new();
        for (kind, &n) in counts.iter().enumerate().filter(|(_, n)| **n > 0) {
            let (rate, warming) = (self.rate(kind), &self.warming_s[kind]);
            let kept = n - started[kind].min(n);
            missing.extend(warming.iter().take(kept as usize).filter(|s| **s > 0.0).map(|ready_s| (rate, *ready_s)));
            if started[kind] > 0 {
                missing.push((rate * f64::from(started[kind]), self.ready_s(kind, 0)));
            }
        }
        missing
    }

    pub fn first(&self) -> Vec<f32> {
        let (end, yields_s) = (self.view.ends[0], self.yields_s(0));
        let lost = |bundle: &Bundle| {
            let started: Vec<u32> = bundle.counts.iter().zip(&self.held).map(|(n, held)| n.saturating_sub(*held)).collect();
            let leaving = (self.leaving(&self.held, &bundle.counts), yields_s);
            self.lost(0, end, bundle.rps, &self.not_ready(&bundle.counts, &started), leaving) + self.start_charges(&started)
        };
        self.bundles.iter().map(|bundle| lost(bundle) as f32).collect()
    }

    pub fn losses(&self, prefix: &[f64]) -> Vec<f32> {
        let (m, stride) = (self.bundles.len(), self.stride());
        let mut losses = vec![0.0; self.view.ends.len() * m * stride];
        let (peaks, mut there, mut more) = (self.peaks(), Vec::new(), Vec::new());
        for (from, to) in (0..m).flat_map(|from| (0..m).map(move |to| (from, to))).filter(|(from, to)| from != to) {
            let (old, new) = (&self.bundles[from], &self.bundles[to]);
            more.clear();
            more.extend(new.counts.iter().zip(&old.counts).map(|(n, o)| n.saturating_sub(*o)));
            let charge = self.start_charges(&more);
            self.there(&old.counts, new, &more, &mut there);
            for (block, begin, end) in self.blocks().skip(2) {
                // Where nothing starts or leaves nothing is lost.
                let lost = if there.is_empty() { 0.0 } else { self.lost_to(&prefix[begin * m + to..], &peaks, (begin, end), &there) };
                losses[(block * m + from) * stride + to] = (lost + charge) as f32;
            }
        }
        self.second(&mut losses);
        losses
    }

    /// Losses of changing in block 1, which may come before what block 0 started, or what is starting now, is ready.
    fn second(&self, losses: &mut [f32]) {
        let Some((_, begin, end)) = self.blocks().nth(1) else { return };
        let (m, stride) = (self.bundles.len(), self.stride());
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
            losses[(m + from) * stride + to] = (lost + self.start_charges(&more)) as f32;
        }
    }

    /// Highest demand of any scenario by second.
    fn peaks(&self) -> Vec<f64> {
        let highest = |t: usize| self.view.scenarios[self.id.index()].iter().map(|(_, demand)| demand[t]).fold(0.0, f64::max);
        (0..self.view.horizon).map(highest).collect()
    }

    /// Requests/s of the first seconds of a block that changes from `old` to `new`: the same in every block after the first two.
    fn there(&self, old: &[u32], new: &Bundle, more: &[u32], out: &mut Vec<f64>) {
        let starts =
            || more.iter().enumerate().filter(|(_, n)| **n > 0).map(|(kind, &n)| (self.rate(kind) * f64::from(n), self.ready_s(kind, 0)));
        let leaving = if self.yields_after_s > 0.0 { self.leaving(old, &new.counts) } else { 0.0 };
        let until_s = if leaving > 0.0 { self.yields_after_s } else { 0.0 };
        let last = starts().map(|(_, ready_s)| ready_s).fold(until_s, f64::max).ceil() as usize;
        let there = |t: usize| {
            let absent: f64 = starts().map(|(rps, ready_s)| rps * (ready_s - t as f64).clamp(0.0, 1.0)).sum();
            (new.rps - absent + leaving * (self.yields_after_s - t as f64).clamp(0.0, 1.0)).max(0.0)
        };
        out.clear();
        out.extend((0..last).map(there));
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
}
