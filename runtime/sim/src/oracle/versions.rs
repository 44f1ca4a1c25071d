//! Which versions a tenant may have, from when on, and what they cost at least.
//!
//! Labels come whatever a policy does, so it is known when a window's data can be exported first, how many samples they have and of when
//! they are. Only the retraining before can delay an export. Then it lies in some part of the window: the version is taken to have the
//! data of the part's end, though the work may begin with the part.

use migrator_solver::clairvoyant::{Made, Version};

use crate::learn;
use crate::machines::{HELD_OUT, collected};
use crate::setup::{Learning, TenantSetup};

/// Parts of a window in which data may be exported late.
const PARTS: usize = 4;
/// Windows after which a version is taken for that of the next window: nothing worth its price is that old.
const MEMORY: usize = 12;

/// The versions of `tenant` in so many seconds, the first one first; `times`: seconds of one sample and epoch, by profile.
pub(super) fn versions(window_s: f64, tenant: &TenantSetup, times: &[f64], seconds: usize) -> Vec<Version> {
    let past = Past::new(window_s.max(1.0), tenant, times, seconds);
    let windows = if tenant.learning.enabled { (seconds as f64 / past.window_s).ceil() as usize } else { 0 };
    let mut exports: Vec<Vec<Export>> = Vec::new();
    for window in 0..windows {
        // Only a retraining can delay the next one's export.
        let late = exports.last().is_some_and(|before| before[0].window + 1 == window);
        exports.extend(Some(past.exports(window, late)).filter(|own| !own.is_empty()));
    }
    let least = exports.iter().flatten().map(|export| export.least).fold(1.0, f64::min);
    let worth = (0..seconds).map(|t| past.worth(tenant.learning.first_version(), t)).collect();
    let mut all = vec![Version { from: 0, worth, heir: None, made: Vec::new() }];
    for (index, own) in exports.iter().enumerate() {
        let (last, next) = (all.len() + own.len() - 1, exports.get(index + 1));
        let heir = next.map(|next| last + next.len());
        for export in &own[..own.len() - 1] {
            all.push(past.version(export, 2, Some(last)));
        }
        let newest = &own[own.len() - 1];
        let mut version = past.version(newest, MEMORY, heir);
        // A retraining that was interrupted for whole windows: its data are no newer than this, and its work lies anywhere before.
        let until = next.map_or(seconds, |next| past.at(next[0].window + 2));
        let published = past.at(newest.window + 2)..until;
        version.made.push(Made { worked: 0..seconds, published, seconds: past.work(least) });
        all.push(version);
    }
    all
}

/// A data set that a window's retraining may have.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Export {
    window: usize,
    /// Earliest, seconds.
    from_s: f64,
    /// Moment of its samples, the latest that is possible.
    data_s: f64,
    /// Samples as a share of [`Learning::samples`], least and most.
    least: f64,
    most: f64,
}

/// What is known of a tenant's labels and models.
struct Past<'a> {
    learning: &'a Learning,
    times: &'a [f64],
    window_s: f64,
    seconds: usize,
    slo_s: f64,
    /// Labels of the seconds before each.
    labels: Vec<f64>,
}

impl<'a> Past<'a> {
    fn new(window_s: f64, tenant: &'a TenantSetup, times: &'a [f64], seconds: usize) -> Past<'a> {
        let (mut labels, mut sum) = (vec![0.0], 0.0);
        for t in 0..seconds {
            sum += f64::from(tenant.arrivals.get(t).copied().unwrap_or(0)) * tenant.learning.label_share.clamp(0.0, 1.0);
            labels.push(sum);
        }
        Past { learning: &tenant.learning, times, window_s, seconds, slo_s: tenant.slo_ms / 1000.0, labels }
    }

    /// What may be exported in a window: first as soon as the samples suffice, then, if it may be `late`, in each part of it.
    fn exports(&self, window: usize, late: bool) -> Vec<Export> {
        let (begin, end) = (window as f64 * self.window_s, (window + 1) as f64 * self.window_s);
        let need = (collected(self.learning.samples) / 2).max(1) as f64;
        let Some(first) = (self.at(window)..self.at(window + 1)).find(|&t| self.fresh(window, t as f64) >= need) else { return Vec::new() };
        let first_s = if (first as f64) <= begin + 1.0 { begin } else { first as f64 - 1.0 };
        let export = |from_s: f64, to_s: f64| Export {
            window,
            from_s,
            data_s: self.middle(to_s, self.fresh(window, to_s)),
            least: self.share(self.fresh(window, from_s - 1.0).max(need)),
            most: self.share(self.fresh(window, to_s)),
        };
        let edge = |part: usize| begin + part as f64 / PARTS as f64 * self.window_s;
        let mut all = vec![export(first_s, first_s + 1.0)];
        let parts = (1..=PARTS).filter(|&part| late && edge(part) > first_s + 1.0);
        all.extend(parts.map(|part| export(edge(part - 1).max(first_s), edge(part).min(end))));
        let (first, last) = (all[0], all[all.len() - 1]);
        // Where nothing moved meanwhile, waiting makes no other version.
        if self.learning.ageing(first.data_s, last.data_s) <= 0.0 && first.least >= last.most {
            all.truncate(1);
        }
        all
    }

    /// Most labelled samples that an export at `at_s` may have, since the window before began; two seconds are allowed for the delay of labels.
    fn fresh(&self, window: usize, at_s: f64) -> f64 {
        let from_s = (window as f64 - 1.0) * self.window_s - 2.0;
        (self.until(at_s) - self.until(from_s)).min(collected(self.learning.samples) as f64)
    }

    fn share(&self, fresh: f64) -> f64 {
        (fresh * (1.0 - HELD_OUT) / (self.learning.samples as f64).max(1.0)).min(1.0)
    }

    /// The latest that the moment of the middle one of the newest samples may be.
    fn middle(&self, at_s: f64, fresh: f64) -> f64 {
        let behind = self.until(at_s) - (fresh - 1.0).max(0.0) / 2.0;
        (self.labels.partition_point(|labels| *labels < behind) as f64 + 1.0).min(at_s)
    }

    fn until(&self, at_s: f64) -> f64 {
        self.labels[(at_s.max(0.0) as usize).min(self.labels.len() - 1)]
    }

    /// The version of a data set, which serves no longer than to the end of so many windows.
    fn version(&self, export: &Export, windows: usize, heir: Option<usize>) -> Version {
        let version = self.learning.trained(export.data_s, f64::from(self.learning.epochs) * export.most);
        let (begin, end) = ((export.from_s as usize).min(self.seconds), self.at(export.window + windows));
        let own = begin..self.at(export.window + 2);
        let made = vec![Made { worked: own.clone(), published: own, seconds: self.work(export.least) }];
        Version { from: begin, worth: (begin..end).map(|t| self.worth(version, t)).collect(), heir, made }
    }

    /// The second in which this many windows are over.
    fn at(&self, windows: usize) -> usize {
        ((windows as f64 * self.window_s) as usize).min(self.seconds)
    }

    fn work(&self, share: f64) -> Vec<f64> {
        let samples = self.learning.samples as f64 * f64::from(self.learning.epochs) * share;
        self.times.iter().map(|time| if time.is_finite() { samples * time } else { f64::INFINITY }).collect()
    }

    /// Most that an answer of this version computed in second `t` can be worth: whether it counts as of its arrival or of its end.
    fn worth(&self, version: learn::Version, t: usize) -> f64 {
        let at = |second: f64| self.learning.accuracy(version, second);
        at((t as f64 - self.slo_s).max(0.0)).max(at(t as f64 + 1.0))
    }
}
