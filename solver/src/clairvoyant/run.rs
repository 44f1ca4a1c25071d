//! The bound over a run of many windows, in which accuracy varies and requests may be answered a little later.

use std::ops::Range;

use migrator_mig::Catalog;

use super::buyer::{self, Buyer, Job, Way};
use super::dual::Dual;
use super::rush::Patience;
use super::{Offer, Room, room};
use crate::problem::{GpuModel, GpuState, Problem, TransitionCosts};

/// One tenant of a run.
#[derive(Clone, Debug, PartialEq)]
pub struct Client {
    /// Requests by second.
    pub arrivals: Vec<f64>,
    /// Seconds after its arrival in which a request may be answered.
    pub patience_s: f64,
    /// Most requests/s that one instance can answer in time, by profile; 0 = does not fit.
    pub capacity_rps: Vec<f64>,
    /// Versions of its model; the first is in service at second 0.
    pub versions: Vec<Version>,
}

/// A version of a tenant's model.
#[derive(Clone, Debug, PartialEq)]
pub struct Version {
    /// First second in which it may serve.
    pub from: usize,
    /// Worth of an answer in each second from there on in which it may serve.
    pub worth: Vec<f64>,
    /// What serves after its last second instead, for nothing: one that is no worse, or the bound is none.
    pub heir: Option<usize>,
    /// The ways to get it.
    pub made: Vec<Made>,
}

/// A retraining that makes a version.
#[derive(Clone, Debug, PartialEq)]
pub struct Made {
    /// Seconds in which its work may be done.
    pub worked: Range<usize>,
    /// Seconds of them in which it may be published.
    pub published: Range<usize>,
    /// Seconds of work on one instance, by profile; infinite = does not fit.
    pub seconds: Vec<f64>,
}

/// What nobody exceeds.
#[derive(Clone, Debug, PartialEq)]
pub struct Bound {
    /// Worth of all answers together.
    pub worth: f64,
    /// How it divides among the clients near the lowest bound found; no bound for one of them.
    pub clients: Vec<f64>,
}

/// More worth than this nobody gets out of so many seconds of `gpus` GPUs of one catalog. Every number of iterations gives a bound.
pub fn bound(catalog: &Catalog, gpus: usize, clients: &[Client], seconds: usize, iterations: u32) -> Bound {
    let host = Problem {
        models: vec![GpuModel { catalog: catalog.clone(), create_s: Vec::new(), destroy_s: Vec::new() }],
        gpus: vec![GpuState { model: 0, instances: Vec::new() }; gpus],
        tenants: Vec::new(),
        window_left_s: 0.0,
        beyond_window_s: 0.0,
        costs: TransitionCosts { drain_s: 0.0, handover_s: 0.0, preload: true },
    };
    let (room, kinds) = room(&host);
    let profiles: Vec<usize> = kinds.iter().map(|kind| kind.profile.index()).collect();
    let buyers = clients.iter().map(|client| buyer(client, &room, &profiles, seconds)).collect();
    let mut dual = Dual::new(room, buyers, seconds);
    let worth = dual.lowest(iterations);
    let sum: f64 = dual.answers().iter().sum();
    let scale = if sum > 0.0 { worth / sum } else { 0.0 };
    Bound { worth, clients: dual.answers().iter().map(|answers| answers * scale).collect() }
}

fn buyer(client: &Client, room: &Room, profiles: &[usize], seconds: usize) -> Buyer {
    let patience = Patience::new(client.patience_s);
    let arrivals: Vec<f64> = (0..seconds).map(|t| client.arrivals.get(t).copied().unwrap_or(0.0)).collect();
    let waiting = Buyer::waiting(&arrivals, patience);
    let rps: Vec<f64> = profiles.iter().map(|&profile| client.capacity_rps.get(profile).copied().unwrap_or(0.0)).collect();
    let mut buyer = Buyer {
        offer: Offer::new(room, &rps, Buyer::peak(&arrivals, &waiting)),
        arrivals,
        waiting,
        patience,
        versions: Vec::new(),
        jobs: Vec::new(),
        ways: Vec::new(),
    };
    for version in &client.versions {
        let worth = version.worth.iter().copied().take(seconds.saturating_sub(version.from)).collect();
        buyer.versions.push(buyer::Version { from: version.from, worth, heir: version.heir });
        for made in &version.made {
            let job = job(made, profiles);
            let known = buyer.jobs.iter().position(|other| *other == job);
            let job = known.unwrap_or_else(|| {
                buyer.jobs.push(job);
                buyer.jobs.len() - 1
            });
            let serves = version.from..version.from + version.worth.len();
            let seconds = made.published.start.max(serves.start)..made.published.end.min(serves.end);
            buyer.ways.push(Way { job, version: buyer.versions.len() - 1, seconds });
        }
    }
    buyer
}

fn job(made: &Made, profiles: &[usize]) -> Job {
    let seconds = |profile: usize| made.seconds.get(profile).copied().unwrap_or(f64::INFINITY);
    let speed = |profile: &usize| if seconds(*profile).is_finite() { 1.0 / seconds(*profile).max(1e-6) } else { 0.0 };
    Job { seconds: made.worked.clone(), speeds: profiles.iter().map(speed).collect() }
}
