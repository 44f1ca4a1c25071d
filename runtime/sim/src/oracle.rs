//! What no policy exceeds: arrivals known, changes free and instant, retrainings split at will.
//!
//! The bound of [`migrator_solver::clairvoyant`] on what is truly simulated, request by request:
//!
//! - An instance answers in time at most as fast as its best batch, whatever a planner thinks it can: see [`TenantSetup::most_rps`].
//! - An answer is reckoned to the seconds in which it was computed, so a request is answered in its second or up to one SLO later.
//! - A version is as accurate as its data are new and many. Data are exported as soon as enough are labelled, or later when the retraining
//!   before is late; a retraining may end in any later window: see [`versions`].
//! - MIG's geometry holds. It is no bound for a policy that shares GPUs by MPS.
//!
//! Interference and faults are left out, for they only cost.

mod versions;

use migrator_solver::clairvoyant::{Client, ITERATIONS, bound};

use crate::setup::{Foresight, Setup, StepTimes, TenantSetup};
use versions::versions;

/// Standard deviations by which chance may favour a policy's service times.
const LUCK: f64 = 4.0;

/// Tenants × seconds for which [`ITERATIONS`] are affordable; of longer horizons fewer are made, so that none takes much longer than another.
const MOST_TENANT_SECONDS: u64 = 5_400;

/// Never fewer iterations: for 6 tenants × 1 h they bound 0.08 % higher than 400.
const FEWEST_ITERATIONS: u32 = 100;

/// What no policy exceeds.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Oracle {
    /// Good answers as a share of the arrivals.
    pub goodput: f64,
    /// Good answers by tenant, where the bound was found. Their sum is a bound, each of them is none.
    pub tenants: Vec<f64>,
}

/// An upper bound on [`Run::goodput`](crate::Run::goodput) of `setup` under every policy that shares GPUs by MIG.
pub fn oracle(setup: &Setup) -> Oracle {
    let tenant_seconds = (setup.tenants.len() as u64 * setup.seconds).max(1);
    let affordable = u64::from(ITERATIONS) * MOST_TENANT_SECONDS / tenant_seconds;
    oracle_within(setup, affordable.clamp(u64::from(FEWEST_ITERATIONS), u64::from(ITERATIONS)) as u32)
}

/// The same with another number of iterations: every one gives a bound, more a lower one.
pub fn oracle_within(setup: &Setup, iterations: u32) -> Oracle {
    let Some(catalog) = setup.gpus.first() else { return Oracle::default() };
    // The last requests may be answered after the end.
    let patience_s = setup.tenants.iter().map(|tenant| tenant.slo_ms / 1000.0).fold(0.0, f64::max);
    let seconds = setup.seconds as usize + patience_s.clamp(0.0, 3600.0).ceil() as usize;
    let clients: Vec<Client> = setup.tenants.iter().map(|tenant| client(setup, tenant, seconds)).collect();
    let arrived: f64 = clients.iter().flat_map(|client| &client.arrivals).sum();
    let found = bound(catalog, setup.gpus.len(), &clients, seconds, iterations);
    Oracle { goodput: found.worth / arrived.max(1.0), tenants: found.clients }
}

fn client(setup: &Setup, tenant: &TenantSetup, seconds: usize) -> Client {
    let fits = |profile: usize, memory_mib: u64| setup.gpus[0].profiles.get(profile).is_some_and(|one| one.memory_mib >= memory_mib);
    let most = |profile: usize| if fits(profile, tenant.memory_mib) { tenant.most_rps(profile, setup.seconds) } else { 0.0 };
    let profiles = 0..setup.gpus[0].profiles.len();
    let sample_s = |profile: usize| tenant.learning.sample_s.get(profile).copied().filter(|_| fits(profile, tenant.learning.memory_mib));
    let times: Vec<f64> = profiles.clone().map(|profile| sample_s(profile).unwrap_or(f64::INFINITY)).collect();
    Client {
        arrivals: (0..setup.seconds as usize).map(|t| f64::from(tenant.arrivals.get(t).copied().unwrap_or(0))).collect(),
        patience_s: tenant.slo_ms / 1000.0,
        capacity_rps: profiles.map(most).collect(),
        versions: versions(setup.window_s, tenant, &times, seconds),
    }
}

impl TenantSetup {
    /// Most requests/s that one instance of this profile answers within the SLO over so many seconds: the best over all batches b of
    /// b · P(in time) over the mean time of a batch. Every batch's time is a fair draw, so that nobody does better but by chance, for which
    /// [`LUCK`] standard deviations of the mean are added. A batch's requests all arrive within the SLO less its time.
    pub fn most_rps(&self, profile: usize, seconds: u64) -> f64 {
        let Some(curve) = self.speed.get(profile).filter(|curve| !curve.points.is_empty()) else { return 0.0 };
        let peak = self.arrivals.iter().copied().max().unwrap_or(0);
        let rate = |batch: u32| {
            let ms = curve.core_ms(batch).max(1e-3);
            // A batch that is drawn short leaves more time to arrive.
            let shortest_ms = if self.jitter > 0.0 { 0.0 } else { ms };
            let arrived = together(peak, (self.slo_ms - shortest_ms).max(0.0) / 1000.0);
            let luck = 1.0 + LUCK * self.jitter / (seconds as f64 * 1000.0 / ms).max(1.0).sqrt();
            f64::from(batch).min(arrived) * 1000.0 / ms * in_time(ms, self.slo_ms, self.jitter) * luck
        };
        (1..=self.max_batch.max(1)).map(rate).fold(0.0, f64::max)
    }
}

/// More requests than this do not arrive within so many seconds, at so many a second spread at random over it: six standard deviations
/// above the mean.
fn together(peak: u32, within_s: f64) -> f64 {
    let mean = f64::from(peak) * within_s;
    (mean + 6.0 * mean.sqrt() + 6.0).min(f64::from(peak) * (within_s.ceil() + 1.0))
}

/// Probability that a batch of `ms` by its curve takes no longer than the SLO, when its time is log-normal of mean `ms`.
fn in_time(ms: f64, slo_ms: f64, jitter: f64) -> f64 {
    if jitter <= 0.0 {
        return if ms <= slo_ms { 1.0 } else { 0.0 };
    }
    below((slo_ms / ms).ln() / jitter + jitter / 2.0)
}

/// Share of a normal distribution below `z` standard deviations (Abramowitz and Stegun 26.2.17), its error of 7.5e-8 added.
fn below(z: f64) -> f64 {
    let t = 1.0 / (1.0 + 0.231_641_9 * z.abs());
    let series = t * (0.319_381_53 + t * (-0.356_563_782 + t * (1.781_477_937 + t * (-1.821_255_978 + t * 1.330_274_429))));
    let tail = series * (-z * z / 2.0).exp() / (2.0 * std::f64::consts::PI).sqrt();
    (if z >= 0.0 { 1.0 - tail } else { tail } + 7.5e-8).clamp(0.0, 1.0)
}

impl Setup {
    /// The same setup for a policy that knows what comes and changes in no time: what it attains, the truth between it and the bound
    /// is open. Changes are free, solves take nothing, estimates are right, nothing fails.
    pub fn clairvoyant(&self) -> Setup {
        let mut setup = self.clone();
        setup.free_changes();
        setup.faults.clear();
        setup.planning.foresight = Foresight::Perfect;
        setup.planning.solve_s = 0.0;
        setup.tenants.iter_mut().for_each(|tenant| tenant.learning.estimate_error = 0.0);
        setup
    }

    /// Makes changes free: steps and loads take nothing, and the next change need not wait for the last.
    pub fn free_changes(&mut self) {
        let nothing = |times: &[f64]| vec![0.0; times.len()];
        let (create_s, destroy_s) = (nothing(&self.times.create_s), nothing(&self.times.destroy_s));
        self.times = StepTimes { create_s, destroy_s, release_s: 0.0, bind_s: 0.0, admit_s: 0.0, checkpoint_s: 0.0, jitter: 0.0 };
        self.planning.dwell_s = 0.0;
        self.tenants.iter_mut().for_each(|tenant| tenant.load_s = 0.0);
    }
}

#[cfg(test)]
mod tests;
