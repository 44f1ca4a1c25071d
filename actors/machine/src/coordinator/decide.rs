//! When to solve, and what to do with the answer.

use std::time::Duration;

use migrator_solver::{Generation, Outcome, PolicyName, Problem, SolveOptions, audit, transition};

use super::types::{CoordinatorWish, Decision, Verdict};
use super::{CoordinatorMachine, DECISIONS, Doing, MIGRATION_DEADLINE};
use crate::Time;
use crate::migration::MigrationReport;

/// Failed migrations in a row stretch the dwell time by two each, at most this often.
const MOST_DOUBLINGS: u32 = 4;
/// Ticks are not exact: a solve may come this much early.
const EARLY: Duration = Duration::from_millis(100);

impl CoordinatorMachine {
    pub(super) fn solve_if_due(&mut self, now: Time) {
        let known = self.tick.instances.len() == self.config.gpus.len() && !self.config.gpus.is_empty();
        if !known || !matches!(self.doing, Doing::Nothing) || !self.may_solve(now) {
            return;
        }
        (self.lost, self.changed) = (false, false);
        self.generation = Generation(self.generation.0 + 1);
        self.last_solve = Some(now);
        let problem = Box::new(self.problem(now));
        let options = SolveOptions {
            policy: self.policy(),
            horizon_s: self.config.horizon_s,
            time_limit_ms: self.config.time_limit_ms,
            min_gain: self.config.min_gain,
            ..SolveOptions::new(self.generation)
        };
        let deadline = now + seconds(self.config.solve_deadline_s);
        self.doing = Doing::Solving { generation: self.generation, problem: problem.clone(), deadline };
        self.outbox.push_back(CoordinatorWish::Solve { problem, previous: self.in_force.clone(), options });
    }

    /// The configured planner; a host on which nothing is in place yet is laid out by the integer program even where everything is then
    /// to stay as it is.
    fn policy(&self) -> PolicyName {
        let bare = self.tick.instances.iter().all(Vec::is_empty);
        if bare && self.config.policy == PolicyName::Keep { PolicyName::Migrator } else { self.config.policy }
    }

    /// An emergency waits for nothing; within the dwell time a solve could change nothing anyway.
    fn may_solve(&self, now: Time) -> bool {
        let rested = self.last_solve.is_none_or(|at| now.since(at) + EARLY >= seconds(self.config.solve_every_s));
        self.lost || self.changed || rested && (now >= self.quiet_until || self.failures == 0 && self.starving())
    }

    /// Whether a tenant has requests and nothing to answer them.
    fn starving(&self) -> bool {
        let asks = self.tick.tenants.iter().map(|tick| tick.telemetry.arrivals > 0 || tick.telemetry.queue_depth > 0);
        self.capacity_rps().iter().zip(asks).any(|(&rps, asks)| asks && rps <= 0.0)
    }

    /// Judges a plan made for `problem` by what is on the GPUs now.
    pub(super) fn weigh(&mut self, now: Time, mut problem: Problem, outcome: Outcome) {
        let Outcome { plan, report } = outcome;
        let generation = plan.generation;
        self.report = Some(report.clone());
        problem.gpus = self.gpus();
        let defects = audit(&problem, &plan);
        let verdict = if generation != self.generation {
            Verdict::Reject(format!("the plan calls itself generation {}", generation.0))
        } else if self.lost {
            Verdict::Reject("an instance was lost meanwhile".to_owned())
        } else if let Some(defect) = defects.first() {
            Verdict::Reject(defect.to_string())
        } else {
            let transition = transition(&problem, &plan);
            if transition.is_empty() {
                self.in_force = Some(plan);
                Verdict::Keep("nothing to change".to_owned())
            } else if !report.worth_it {
                Verdict::Keep(report.reason.unwrap_or_else(|| "not worth its cost".to_owned()))
            } else {
                let deadline = now + MIGRATION_DEADLINE;
                self.doing = Doing::Migrating { generation, plan: plan.clone(), deadline };
                self.outbox.push_back(CoordinatorWish::Execute { problem: Box::new(problem), plan, transition });
                Verdict::Execute(report.changes.join("; "))
            }
        };
        self.decide(now, self.generation, verdict);
    }

    /// No planned change for the dwell time, longer after failures.
    pub(super) fn be_quiet(&mut self, now: Time) {
        let doublings = self.failures.saturating_sub(1).min(MOST_DOUBLINGS);
        self.quiet_until = now + seconds(self.config.dwell_s * f64::from(1u32 << doublings));
    }

    pub(super) fn decide(&mut self, at: Time, generation: Generation, verdict: Verdict) {
        if self.decisions.len() == DECISIONS {
            self.decisions.pop_front();
        }
        self.decisions.push_back(Decision { at, generation, verdict });
    }

    pub(super) fn window_length(&self) -> u64 {
        Time::from_secs(self.config.window_s).0.max(1_000_000)
    }

    pub(super) fn next_window(&self) -> Time {
        Time(self.window.map_or(0, |window| (window + 1) * self.window_length()))
    }

    /// Starts the window that `now` lies in; windows slept through are left out.
    pub(super) fn start_window_if_due(&mut self, now: Time) {
        let (window, ..) = self.window(now);
        if self.window.is_none_or(|last| window > last) {
            self.window_order &= self.window.is_none_or(|last| last < window);
            self.window = Some(window);
            self.outbox.push_back(CoordinatorWish::StartWindow { window });
        }
    }
}

fn seconds(seconds: f64) -> Duration {
    Duration::from_micros((seconds.clamp(0.0, 1e6) * 1e6) as u64)
}

/// A migration in words.
pub(super) fn told(report: &MigrationReport) -> String {
    let mut text = format!(
        "{} steps in {:.3} s, {:.3} s of service lost, {:.3} slice-seconds idle",
        report.steps.len(),
        report.took_s,
        report.lost_s,
        report.idle_slice_s
    );
    if let Some(failure) = report.failed.first() {
        let (failed, given_up) = (report.failed.len(), report.abandoned.len());
        text += &format!("; {failed} failed and {given_up} given up, first step {}: {}", failure.id, failure.reason);
    }
    text
}
