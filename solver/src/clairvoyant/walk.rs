//! The best a tenant does at given prices: what it holds in every second, and which versions it pays for when.

use super::Room;
use super::bundle::{Deal, best, cost};
use super::buyer::{Buyer, Segment};
use super::cover::{Cover, Part, hull};
use super::rush::Rush;

/// No way: the version was in service before.
const NONE: u32 = u32::MAX;

/// The prices a tenant meets.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Market<'a> {
    pub room: &'a Room,
    /// μ by second and row.
    pub prices: &'a [f64],
    /// θ by second: see [`Rush`].
    pub shortage: &'a [f64],
}

/// What a tenant does in one second of the best walk.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Done {
    pub second: usize,
    pub rush: Rush,
    pub deal: Deal,
    pub worth: f64,
}

/// Scratch for one tenant after the other.
#[derive(Clone, Debug, Default)]
pub(crate) struct Walk {
    deals: Vec<Deal>,
    /// Corners of what a second's work may cost, by distinct speeds and second; where each cell begins; the speeds of each job.
    parts: Vec<Part>,
    begins: Vec<usize>,
    speeds: Vec<usize>,
    covers: Vec<Cover>,
    /// Best value so far with a version in service, and how it came into service in this second.
    values: Vec<f64>,
    came: Vec<(u32, u32)>,
    /// By version and second; where a version's marks begin.
    marks: Vec<Mark>,
    bases: Vec<usize>,
}

/// A version in one second of the best walk that ends with it.
#[derive(Clone, Copy, Debug)]
struct Mark {
    deal: u32,
    /// The version in service in the second before, and the way by which this one was got instead.
    before: u32,
    way: u32,
}

impl Market<'_> {
    fn at(&self, t: usize) -> &[f64] {
        let rows = self.room.most.len();
        &self.prices[t * rows..][..rows]
    }

    fn rush(&self, buyer: &Buyer, t: usize) -> Rush {
        let before = &self.shortage[t.saturating_sub(buyer.patience.seconds)..t];
        Rush {
            arrivals: buyer.arrivals[t],
            waiting: buyer.waiting[t],
            own: self.shortage[t],
            late: before.iter().copied().fold(0.0, f64::max),
            share: buyer.patience.share,
        }
    }
}

impl Walk {
    /// The best value of `buyer` in this market; adds the room it takes to `used` and calls `done` with every second of it, the last first.
    pub fn best(&mut self, buyer: &Buyer, segments: &[Segment], market: Market<'_>, used: &mut [f64], done: impl FnMut(Done)) -> f64 {
        self.prepare(buyer, market);
        for segment in segments {
            self.inherit(buyer, segment);
            for t in segment.seconds.clone() {
                buyer.offer.deals(market.room, market.at(t), &market.rush(buyer, t), &mut self.deals);
                self.train(buyer, segment, t);
                self.publish(buyer, segment, t);
                self.serve(buyer, segment, t);
            }
        }
        let last = segments.last().map_or(&[][..], |segment| &segment.versions);
        let Some(&end) = last.iter().max_by(|a, b| self.values[**a].total_cmp(&self.values[**b])) else { return 0.0 };
        self.trace(buyer, market, end, used, done);
        self.values[end]
    }

    fn prepare(&mut self, buyer: &Buyer, market: Market<'_>) {
        self.values.clear();
        self.values.resize(buyer.versions.len(), f64::NEG_INFINITY);
        self.values[0] = 0.0;
        self.came.clear();
        self.came.extend((0..buyer.versions.len() as u32).map(|version| (version, NONE)));
        self.bases.clear();
        let mut sum = 0;
        for version in &buyer.versions {
            self.bases.push(sum);
            sum += version.worth.len();
        }
        self.marks.resize(sum.max(self.marks.len()), Mark { deal: 0, before: 0, way: NONE });
        self.covers.clear();
        self.covers.resize(buyer.jobs.len(), Cover::default());
        self.work_out(buyer, market);
    }

    /// What every second's work may cost.
    fn work_out(&mut self, buyer: &Buyer, market: Market<'_>) {
        self.speeds.clear();
        self.parts.clear();
        self.begins.clear();
        let mut known: Vec<&[f64]> = Vec::new();
        for job in &buyer.jobs {
            let found = known.iter().position(|speeds| *speeds == job.speeds);
            self.speeds.push(found.unwrap_or(known.len()));
            if found.is_none() {
                known.push(&job.speeds);
            }
        }
        let mut costs = vec![0.0; market.room.kinds.len()];
        for speeds in known {
            for t in 0..buyer.arrivals.len() {
                costs.iter_mut().zip(&market.room.kinds).for_each(|(sum, alpha)| *sum = cost(market.at(t), alpha));
                self.begins.push(self.parts.len());
                hull(t, speeds, &costs, |part| self.parts.push(part));
            }
        }
        self.begins.push(self.parts.len());
    }

    /// What may be done of a job in a second.
    fn parts(&self, buyer: &Buyer, job: usize, second: usize) -> &[Part] {
        let cell = self.speeds[job] * buyer.arrivals.len() + second;
        &self.parts[self.begins[cell]..self.begins[cell + 1]]
    }

    /// Versions that serve no longer hand over to their heirs.
    fn inherit(&mut self, buyer: &Buyer, segment: &Segment) {
        for &old in &segment.over {
            let value = std::mem::replace(&mut self.values[old], f64::NEG_INFINITY);
            if let Some(heir) = buyer.versions[old].heir.filter(|heir| value > self.values[*heir]) {
                self.values[heir] = value;
                self.came[heir] = (old as u32, NONE);
            }
        }
    }

    /// Adds the seconds up to the one in which a version must be published to serve late requests of second `t`.
    fn train(&mut self, buyer: &Buyer, segment: &Segment, t: usize) {
        for &index in &segment.jobs {
            let job = &buyer.jobs[index];
            let until = (t + buyer.patience.seconds + 1).min(job.seconds.end).min(buyer.arrivals.len());
            let from = if t == job.seconds.start { t } else { t + buyer.patience.seconds };
            let mut cover = std::mem::take(&mut self.covers[index]);
            for second in from..until {
                self.parts(buyer, index, second).iter().for_each(|part| cover.push(*part));
            }
            self.covers[index] = cover;
        }
    }

    /// Every version that can be had now, from the best state so far.
    fn publish(&mut self, buyer: &Buyer, segment: &Segment, t: usize) {
        if segment.ways.is_empty() || t < segment.seconds.start {
            return;
        }
        let best = segment.versions.iter().copied().max_by(|a, b| self.values[*a].total_cmp(&self.values[*b]));
        let Some((from, value)) = best.map(|version| (version, self.values[version])) else { return };
        // All are judged by the state before this second, or one would lead to another for what one costs.
        let before = self.came[from].0;
        for &index in &segment.ways {
            let way = &buyer.ways[index];
            let Some(cost) = self.covers[way.job].cost() else { continue };
            if value - cost > self.values[way.version] && way.version != from {
                self.values[way.version] = value - cost;
                self.came[way.version] = (before, index as u32);
            }
        }
    }

    /// One second of service with each version.
    fn serve(&mut self, buyer: &Buyer, segment: &Segment, t: usize) {
        for &index in &segment.versions {
            let version = &buyer.versions[index];
            let (value, deal) = best(&self.deals, version.worth[t - version.from]);
            let (before, way) = std::mem::replace(&mut self.came[index], (index as u32, NONE));
            self.marks[self.bases[index] + t - version.from] = Mark { deal, before, way };
            self.values[index] += value;
        }
    }

    fn trace(&mut self, buyer: &Buyer, market: Market<'_>, end: usize, used: &mut [f64], mut done: impl FnMut(Done)) {
        let (mut index, rows) = (end, market.room.most.len());
        for t in (0..buyer.arrivals.len()).rev() {
            let version = &buyer.versions[index];
            let Mark { deal, before, way } = self.marks[self.bases[index] + t - version.from];
            let rush = market.rush(buyer, t);
            buyer.offer.deals(market.room, market.at(t), &rush, &mut self.deals);
            let deal = self.deals[deal as usize];
            buyer.offer.add(market.room, &deal, &mut used[t * rows..][..rows]);
            done(Done { second: t, rush, deal, worth: version.worth[t - version.from] });
            if way != NONE {
                self.pay(buyer, market, way as usize, t, used);
            }
            index = before as usize;
        }
    }

    /// Adds the room of the cheapest way to have done the job by second `t`.
    fn pay(&self, buyer: &Buyer, market: Market<'_>, way: usize, t: usize, used: &mut [f64]) {
        let (index, rows) = (buyer.ways[way].job, market.room.most.len());
        let job = &buyer.jobs[index];
        let until = (t + buyer.patience.seconds + 1).min(job.seconds.end).min(buyer.arrivals.len());
        let mut cover = Cover::default();
        for second in job.seconds.start..until {
            self.parts(buyer, index, second).iter().for_each(|part| cover.push(*part));
        }
        for (part, share) in cover.parts() {
            let used = &mut used[part.second * rows..][..rows];
            for (row, used) in used.iter_mut().enumerate() {
                let left = part.from.map_or(0.0, |kind| market.room.kinds[kind][row]);
                *used += share * (market.room.kinds[part.to][row] - left);
            }
        }
    }
}
