//! Many simulations on several threads.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use crossbeam_channel::{RecvTimeoutError, Sender};
use migrator_sim::{Run, Setup, Watch};
use migrator_solver::{Facts, PolicyName};

use super::measure::Measures;
use super::report::Outcome;
use super::variant::{Change, Variant};

/// How often the one who waits is told how far it is.
const BEAT: Duration = Duration::from_millis(100);

/// Where the setups come from.
pub trait Source: Sync {
    /// What scenario number `scenario` is under this policy and seed, and what is known of it beforehand.
    fn setup(&self, scenario: usize, policy: PolicyName, seed: u64) -> Setup;
    /// See `setup`.
    fn facts(&self, scenario: usize, setup: &Setup) -> Facts;
}

/// What is to be simulated.
pub struct Batch<'b> {
    /// Where the setups come from.
    pub source: &'b dyn Source,
    /// Seeds, by scenario.
    pub seeds: &'b [Vec<u64>],
    /// Who decides.
    pub variants: &'b [Variant],
    /// What is changed about how all of them plan.
    pub common: &'b [Change],
    /// Most seconds of each simulation.
    pub seconds: Option<u64>,
    /// Threads.
    pub threads: usize,
    /// Whether the run of the first seed of each is handed out whole, for plots.
    pub keep: bool,
}

/// How far a batch is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Done {
    /// Simulated seconds over.
    pub seconds: u64,
    /// Simulations over.
    pub runs: usize,
}

/// A simulation that is over.
pub struct Finished {
    /// Its numbers, or why there are none.
    pub outcome: Outcome,
    /// What was simulated and all that came of it, where that was to be kept.
    pub kept: Option<Box<(Setup, Run)>>,
}

#[derive(Clone, Copy)]
struct Job {
    scenario: usize,
    variant: usize,
    seed: u64,
    keep: bool,
}

/// Counts seconds for all threads; ends a simulation when the stop is raised.
struct Counter<'c> {
    seconds: &'c AtomicU64,
    stop: &'c AtomicBool,
}

impl Watch for Counter<'_> {
    fn second(&mut self, _: u64) -> bool {
        self.seconds.fetch_add(1, Ordering::Relaxed);
        !self.stop.load(Ordering::Relaxed)
    }
}

impl Batch<'_> {
    /// Number of simulations.
    pub fn runs(&self) -> usize {
        self.seeds.iter().map(Vec::len).sum::<usize>() * self.variants.len()
    }

    /// Simulates all; `hear` is told of each end, and ten times a second how far it is. Once `stop` is raised the simulations end, and those
    /// that were not over count for nothing.
    pub fn run(&self, stop: &AtomicBool, mut hear: impl FnMut(Done, Option<Finished>)) {
        let seconds = AtomicU64::new(0);
        let (jobs, waiting) = crossbeam_channel::unbounded();
        for job in self.jobs() {
            // Cannot fail: the other end is below.
            let _ = jobs.send(job);
        }
        drop(jobs);
        let (ended, ends) = crossbeam_channel::unbounded();
        std::thread::scope(|scope| {
            for _ in 0..self.threads.clamp(1, self.runs().max(1)) {
                let (waiting, ended, seconds) = (waiting.clone(), ended.clone(), &seconds);
                scope.spawn(move || self.work(waiting.iter(), seconds, stop, &ended));
            }
            drop(ended);
            let mut runs = 0;
            loop {
                let end = match ends.recv_timeout(BEAT) {
                    Ok(finished) => Some(finished),
                    Err(RecvTimeoutError::Timeout) => None,
                    Err(RecvTimeoutError::Disconnected) => break,
                };
                runs += usize::from(end.is_some());
                hear(Done { seconds: seconds.load(Ordering::Relaxed), runs }, end);
            }
        });
    }

    fn jobs(&self) -> impl Iterator<Item = Job> {
        let seeds = self.seeds.iter().enumerate();
        seeds.flat_map(move |(scenario, seeds)| {
            seeds.iter().enumerate().flat_map(move |(index, &seed)| {
                (0..self.variants.len()).map(move |variant| Job { scenario, variant, seed, keep: self.keep && index == 0 })
            })
        })
    }

    fn work(&self, jobs: impl Iterator<Item = Job>, seconds: &AtomicU64, stop: &AtomicBool, ended: &Sender<Finished>) {
        for job in jobs {
            if stop.load(Ordering::Relaxed) {
                return;
            }
            let mut counter = Counter { seconds, stop };
            // A defect of one policy must not take the numbers of the others with it.
            let simulated = catch_unwind(AssertUnwindSafe(|| self.simulate(job, &mut counter)));
            let simulated = simulated.unwrap_or_else(|_| Err("the program failed (a panic, see above); please report it".to_owned()));
            if stop.load(Ordering::Relaxed) {
                return;
            }
            let (result, kept) = match simulated {
                Ok((measures, kept)) => (Ok(measures), kept.map(Box::new)),
                Err(error) => (Err(error), None),
            };
            let outcome = Outcome { scenario: job.scenario, variant: job.variant, seed: job.seed, result };
            if ended.send(Finished { outcome, kept }).is_err() {
                return;
            }
        }
    }

    fn simulate(&self, job: Job, watch: &mut Counter<'_>) -> Result<(Measures, Option<(Setup, Run)>), String> {
        let variant = &self.variants[job.variant];
        let mut setup = self.source.setup(job.scenario, variant.policy, job.seed);
        variant.apply(self.common, &mut setup);
        self.shorten(&mut setup);
        if variant.policy == PolicyName::Oracle {
            return Ok((bound(&setup, watch), None));
        }
        let facts = self.source.facts(job.scenario, &setup);
        let mut policy = migrator_solver::policy::policy(variant.policy, &facts).map_err(|error| error.to_string())?;
        let start = Instant::now();
        let run = migrator_sim::simulate(&setup, policy.as_mut(), watch);
        let measures = Measures::of(&run, setup.seconds, start.elapsed().as_secs_f64());
        Ok((measures, job.keep.then_some((setup, run))))
    }

    fn shorten(&self, setup: &mut Setup) {
        setup.seconds = self.seconds.unwrap_or(u64::MAX).min(setup.seconds);
        for tenant in &mut setup.tenants {
            tenant.arrivals.truncate(usize::try_from(setup.seconds).unwrap_or(usize::MAX));
        }
    }
}

/// The oracle makes no run: it says what no run exceeds.
fn bound(setup: &Setup, watch: &Counter<'_>) -> Measures {
    let start = Instant::now();
    let oracle = migrator_sim::oracle(setup);
    watch.seconds.fetch_add(setup.seconds, Ordering::Relaxed);
    let requests = setup.tenants.iter().flat_map(|tenant| &tenant.arrivals).map(|&count| u64::from(count)).sum();
    Measures::bound(oracle.goodput, requests, setup.seconds, start.elapsed().as_secs_f64())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::simulate::tests::setup;
    use crate::simulate::variant::variants;

    struct ByHand;

    impl Source for ByHand {
        fn setup(&self, scenario: usize, _: PolicyName, seed: u64) -> Setup {
            Setup { name: format!("scenario {scenario}"), ..setup(seed) }
        }

        fn facts(&self, _: usize, _: &Setup) -> Facts {
            Facts::default()
        }
    }

    fn outcomes(names: &str, threads: usize, stop: &AtomicBool) -> Vec<Outcome> {
        let variants = variants(&[names.to_owned()]).unwrap();
        let seeds = [vec![1, 2], vec![3]];
        let batch = Batch { source: &ByHand, seeds: &seeds, variants: &variants, common: &[], seconds: Some(20), threads, keep: true };
        let mut outcomes = Vec::new();
        batch.run(stop, |done, finished| {
            let Some(finished) = finished else { return };
            outcomes.push(finished.outcome);
            assert_eq!(done.runs, outcomes.len());
        });
        outcomes.sort_by_key(|outcome| (outcome.scenario, outcome.seed));
        outcomes
    }

    #[test]
    fn every_scenario_and_seed_is_run_once_whatever_the_threads() {
        let key = |outcome: &Outcome| (outcome.scenario, outcome.seed);
        for threads in [1, 3, 64] {
            let outcomes = outcomes("migrator", threads, &AtomicBool::new(false));
            assert_eq!(outcomes.iter().map(key).collect::<Vec<_>>(), [(0, 1), (0, 2), (1, 3)]);
        }
    }

    #[test]
    fn two_batches_give_the_same_numbers() {
        let numbers = |threads| -> Vec<Measures> {
            let outcomes = outcomes("migrator", threads, &AtomicBool::new(false));
            outcomes.into_iter().map(|outcome| Measures { wall_s: 0.0, ..outcome.result.unwrap() }).collect()
        };
        let first = numbers(1);
        assert!(first.iter().all(|run| run.requests == 80 && run.values[0] > Some(0.5)), "{first:?}");
        assert_eq!(first, numbers(3));
    }

    #[test]
    fn the_oracle_is_a_bound_on_what_is_simulated() {
        let goodput = |name| outcomes(name, 2, &AtomicBool::new(false))[0].result.clone().unwrap().goodput().unwrap();
        assert!(goodput("oracle") >= goodput("migrator"));
    }

    #[test]
    fn a_stop_leaves_out_what_was_not_over() {
        assert_eq!(outcomes("migrator", 2, &AtomicBool::new(true)), []);
    }
}
