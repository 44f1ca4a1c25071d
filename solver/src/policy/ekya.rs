//! Ekya (NSDI'22): the thief scheduler.
//!
//! As its paper gives it (Alg. 1 and 2, `reference/migrator-and-baselines.md` section 4.2): every job, inference or retraining, begins with a fair
//! share; each job in turn steals a quantum of 0.1 GPU from each other for as long as the mean accuracy over the window strictly improves; a
//! retraining that cannot finish within the window is not run; decided at the start of a window and whenever a retraining ends.
//!
//! Inferred, for the paper has no request rates and one choice of model per camera here:
//! - Inference "keeps up" to the extent that its capacity covers the window's mean demand: its accuracy counts times min(1, capacity ÷ demand).
//! - There is one retraining configuration, and "none".
//! - A victim with less than a quantum gives what it has: with twelve jobs on one GPU nobody's fair share is a quantum.
//! - What was meant for a retraining that is not run serves its own tenant, and so does a retraining's share once it is over.
//! - A retraining that becomes due within a window counts as the window's start.

use super::demand::{Scale, mean_rps, usual_model};
use super::rival::{Scheme, Seen};
use super::seat::{Layout, Order, Use};
use super::share::{Want, realise};
use crate::problem::{Problem, TaskKind, TenantId};

/// Units of a GPU that shares are counted in; a quantum of 0.1 GPU is two.
const UNITS: u32 = 20;
const QUANTUM: u32 = 2;

/// The thief scheduler.
#[derive(Debug, Default)]
pub(super) struct Ekya;

impl Scheme for Ekya {
    const WHEN: &'static str = "ekya decides at the start of a window and at the end of a retraining";
    const ORDER: Order = Order::Shortest;

    fn due(&mut self, seen: Seen, _: &Problem) -> bool {
        seen.window || seen.arrived || seen.completed
    }

    fn decide(&mut self, problem: &Problem) -> Layout {
        let market = Market::new(problem);
        let shares = market.steal(market.fair());
        realise(problem, &market.wants(&shares))
    }
}

/// A job that shares are for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Job {
    tenant: TenantId,
    kind: TaskKind,
}

/// What a tenant's accuracy over the window depends on.
#[derive(Debug)]
struct Stream {
    serving: Scale,
    training: Scale,
    mean_rps: f64,
    accuracy: f64,
    accuracy_after: f64,
    /// Seconds before a retraining computes.
    restore_s: f64,
    inference: Option<usize>,
    retraining: Option<usize>,
}

#[derive(Debug)]
struct Market {
    jobs: Vec<Job>,
    streams: Vec<Stream>,
    units: u32,
    window_s: f64,
}

impl Market {
    fn new(problem: &Problem) -> Market {
        let model = usual_model(problem);
        let (mut jobs, mut streams) = (Vec::new(), Vec::new());
        for (index, state) in problem.tenants.iter().enumerate() {
            let tenant = TenantId(index as u16);
            let (serving, training) = (Scale::serving(problem, tenant, model), Scale::training(problem, tenant, model));
            let mut job = |kind, is: bool| {
                jobs.extend(is.then_some(Job { tenant, kind }));
                is.then(|| jobs.len() - 1)
            };
            streams.push(Stream {
                inference: job(TaskKind::Inference, !serving.is_nothing()),
                retraining: job(TaskKind::Retraining, !training.is_nothing()),
                serving,
                training,
                mean_rps: mean_rps(problem, tenant),
                accuracy: state.accuracy,
                accuracy_after: state.retraining.as_ref().map_or(0.0, |due| due.accuracy_after).max(state.accuracy),
                restore_s: state.retraining.as_ref().map_or(0.0, |due| due.restore_s),
            });
        }
        Market { jobs, streams, units: UNITS * problem.gpus.len() as u32, window_s: problem.window_left_s }
    }

    /// The same for every job; what cannot be divided goes to inference first.
    fn fair(&self) -> Vec<u32> {
        let jobs = self.jobs.len().max(1) as u32;
        let mut shares = vec![self.units / jobs; self.jobs.len()];
        let mut order: Vec<usize> = (0..self.jobs.len()).collect();
        order.sort_by_key(|&job| (self.jobs[job].kind, job));
        order.iter().take((self.units % jobs) as usize).for_each(|&job| shares[job] += 1);
        shares
    }

    /// Alg. 1: one pass over all ordered pairs.
    fn steal(&self, fair: Vec<u32>) -> Vec<u32> {
        let mut best = fair;
        let mut accuracy = self.mean_accuracy(&best);
        for thief in 0..self.jobs.len() {
            for victim in (0..self.jobs.len()).filter(|&victim| victim != thief) {
                while best[victim] > 0 {
                    let mut trial = best.clone();
                    let taken = QUANTUM.min(trial[victim]);
                    trial[victim] -= taken;
                    trial[thief] += taken;
                    let gained = self.mean_accuracy(&trial);
                    if gained <= accuracy + 1e-12 {
                        break;
                    }
                    (best, accuracy) = (trial, gained);
                }
            }
        }
        best
    }

    /// Alg. 2: what the shares are worth with the best configuration of each tenant.
    fn mean_accuracy(&self, shares: &[u32]) -> f64 {
        let sum: f64 = self.streams.iter().map(|stream| self.window_accuracy(stream, shares).0).sum();
        sum / self.streams.len().max(1) as f64
    }

    /// A tenant's accuracy, averaged over the window, and whether it retrains.
    fn window_accuracy(&self, stream: &Stream, shares: &[u32]) -> (f64, bool) {
        let gpus = |job: Option<usize>| job.map_or(0.0, |job| f64::from(shares[job]) / f64::from(UNITS));
        let (inference, retraining) = (gpus(stream.inference), gpus(stream.retraining));
        let keeps_up = |gpus: f64| {
            let capacity = stream.serving.at(gpus);
            if stream.mean_rps > 0.0 { (capacity / stream.mean_rps).min(1.0) } else { 1.0 }
        };
        let none = stream.accuracy * keeps_up(inference + retraining);
        let speed = stream.training.at(retraining.min(1.0));
        let done_s = stream.restore_s + 1.0 / speed.max(1e-9);
        if speed <= 0.0 || done_s >= self.window_s {
            return (none, false);
        }
        let after = (self.window_s - done_s) / self.window_s;
        let mean = stream.accuracy + (stream.accuracy_after - stream.accuracy) * after;
        let trained = mean * keeps_up(inference);
        if trained > none { (trained, true) } else { (none, false) }
    }

    fn wants(&self, shares: &[u32]) -> Vec<Want> {
        let gpus = |job: Option<usize>| job.map_or(0.0, |job| f64::from(shares[job]) / f64::from(UNITS));
        let mut wants = Vec::new();
        for stream in &self.streams {
            let Some(job) = stream.inference.or(stream.retraining) else { continue };
            let tenant = self.jobs[job].tenant;
            let (_, trains) = self.window_accuracy(stream, shares);
            let own = if trains { 0.0 } else { gpus(stream.retraining) };
            wants.push(Want { to: Use::Serve(tenant), gpus: gpus(stream.inference) + own });
            if trains {
                let to = Use::Train { first: Some(tenant), then: Some(tenant) };
                wants.push(Want { to, gpus: gpus(stream.retraining).min(1.0) });
            }
        }
        wants
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{due, problem, tenant};

    #[test]
    fn every_job_begins_with_a_fair_share() {
        let mut host = problem(vec![tenant("vision", 10.0), tenant("speech", 10.0), tenant("text", 10.0)]);
        assert_eq!(Market::new(&host).fair(), [7, 7, 6]);
        host.tenants[1].retraining = due(60.0, 0.9);
        host.gpus.push(host.gpus[0].clone());
        assert_eq!(Market::new(&host).fair(), [10, 10, 10, 10]);
    }

    /// By hand: 1g = 10 requests/s. Two tenants with 7.5 GPU-tenths... of 20 units each 10: the busy one answers what half a GPU gives.
    #[test]
    fn who_cannot_keep_up_steals_from_who_can() {
        let host = problem(vec![tenant("busy", 46.0), tenant("quiet", 8.0)]);
        let market = Market::new(&host);
        let shares = market.steal(market.fair());
        // Quiet keeps up with 0.8 of 1g, 8/70 GPU = 2.3 units, so it can spare 10 - 4 in quanta of two; busy has then 16 units = 5.6 slices.
        assert_eq!(shares, [16, 4]);
        let of = |shares: &[u32]| market.mean_accuracy(shares);
        assert!(of(&[16, 4]) > of(&[14, 6]) && of(&[16, 4]) > of(&[18, 2]));
    }

    #[test]
    fn a_retraining_that_cannot_finish_is_not_run_and_its_share_serves() {
        let mut host = problem(vec![tenant("vision", 20.0), tenant("speech", 5.0)]);
        host.tenants[0].retraining = due(10_000.0, 0.9);
        let market = Market::new(&host);
        let wants = market.wants(&market.steal(market.fair()));
        assert!(wants.iter().all(|want| matches!(want.to, Use::Serve(_))), "{wants:?}");
        assert!((wants.iter().map(|want| want.gpus).sum::<f64>() - 1.0).abs() < 1e-9);
        host.tenants[0].retraining = due(60.0, 0.9);
        let market = Market::new(&host);
        let wants = market.wants(&market.steal(market.fair()));
        assert!(wants.iter().any(|want| matches!(want.to, Use::Train { .. })), "{wants:?}");
    }

    #[test]
    fn stealing_never_ends_below_an_even_split() {
        for seed in 0..60 {
            let host = crate::testing::mixed::host(seed, 1 + seed as usize % 4, 1, false);
            let market = Market::new(&host);
            let (fair, best) = (market.fair(), market.steal(market.fair()));
            assert!(market.mean_accuracy(&best) >= market.mean_accuracy(&fair), "seed {seed}");
            assert_eq!(best.iter().sum::<u32>(), market.units, "seed {seed}");
        }
    }
}
