//! One tenant as the bound sees it: what arrives, what it may hold, and the versions of its model it may pay for.

use std::ops::Range;

use super::bundle::Offer;
use super::rush::Patience;

/// A tenant.
#[derive(Clone, Debug)]
pub(crate) struct Buyer {
    /// True arrivals by second.
    pub arrivals: Vec<f64>,
    /// Requests of the seconds before that may still be answered, by second.
    pub waiting: Vec<f64>,
    /// How long a request may wait.
    pub patience: Patience,
    /// Inference instances it may hold together.
    pub offer: Offer,
    /// Versions of its model; the first is in service at second 0.
    pub versions: Vec<Version>,
    /// Retrainings.
    pub jobs: Vec<Job>,
    /// What jobs publish, and when they may.
    pub ways: Vec<Way>,
}

/// A version of the model.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Version {
    /// First second in which it may serve.
    pub from: usize,
    /// Worth of an answer in each second from there on in which it may serve.
    pub worth: Vec<f64>,
    /// What serves after its last second instead, for nothing; it must be no worse, or the bound is none.
    pub heir: Option<usize>,
}

/// A retraining: its work may be done in these seconds.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Job {
    /// First and one after the last second.
    pub seconds: Range<usize>,
    /// Share done in a second, by kind; 0 = does not fit.
    pub speeds: Vec<f64>,
}

/// A job publishes a version in one of these seconds.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Way {
    pub job: usize,
    pub version: usize,
    pub seconds: Range<usize>,
}

/// Seconds in which the same versions, jobs and ways are to be looked at.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Segment {
    pub seconds: Range<usize>,
    pub versions: Vec<usize>,
    pub jobs: Vec<usize>,
    pub ways: Vec<usize>,
    /// Versions whose last second was just before.
    pub over: Vec<usize>,
}

impl Version {
    /// One after the last second in which it may serve.
    pub fn end(&self) -> usize {
        self.from + self.worth.len()
    }
}

impl Buyer {
    /// Requests of the `patience` seconds before each second.
    pub fn waiting(arrivals: &[f64], patience: Patience) -> Vec<f64> {
        (0..arrivals.len()).map(|t| arrivals[t.saturating_sub(patience.seconds)..t].iter().sum()).collect()
    }

    /// Most requests it can answer in one second.
    pub fn peak(arrivals: &[f64], waiting: &[f64]) -> f64 {
        arrivals.iter().zip(waiting).map(|(now, before)| now + before).fold(0.0, f64::max)
    }

    /// The run cut where anything begins or ends.
    pub fn segments(&self) -> Vec<Segment> {
        let end = self.arrivals.len();
        let mut cuts = vec![0, end];
        cuts.extend(self.versions.iter().flat_map(|version| [version.from, version.end()]));
        cuts.extend(
            self.jobs.iter().map(|job| &job.seconds).chain(self.ways.iter().map(|way| &way.seconds)).flat_map(|s| [s.start, s.end]),
        );
        cuts.retain(|cut| *cut <= end);
        cuts.sort_unstable();
        cuts.dedup();
        cuts.windows(2).map(|pair| self.segment(pair[0]..pair[1])).collect()
    }

    fn segment(&self, seconds: Range<usize>) -> Segment {
        let t = seconds.start;
        let picked = |count: usize, holds: &dyn Fn(usize) -> bool| (0..count).filter(|&index| holds(index)).collect();
        Segment {
            versions: picked(self.versions.len(), &|v| self.versions[v].from <= t && t < self.versions[v].end()),
            jobs: picked(self.jobs.len(), &|j| self.jobs[j].seconds.contains(&t)),
            ways: picked(self.ways.len(), &|w| self.ways[w].seconds.contains(&t)),
            over: picked(self.versions.len(), &|v| self.versions[v].end() == t),
            seconds,
        }
    }
}
