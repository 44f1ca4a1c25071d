//! The solve: candidates, one evaluation for all of them, the choice.

#[cfg(test)]
mod odd_tests;
#[cfg(test)]
pub(crate) mod tests;

use crate::audit::audit;
use crate::check::{ProblemError, check};
use crate::evaluate::{Counts, Value, value};
use crate::exhaustive::exhaustive;
use crate::greedy::{greedy, held};
use crate::monolith;
use crate::options::{PolicyName, SolveOptions};
use crate::plan::{Allocation, Generation, GpuPlan, Outcome, Plan, SolveStatus};
use crate::planner::{self, Warm};
use crate::problem::{Problem, Task, TaskKind};
use crate::realise::{Need, realise_ahead};
use crate::report::{self, Effort, Story};
use crate::shape::Shape;
use crate::view::View;

/// Decides what to do with the GPUs of `problem`, without a clock: a solve ends by its gap or its counts, and equal inputs give equal
/// outcomes.
///
/// The plan is always legal ([`audit`](crate::audit) finds nothing) and never worth less than keeping everything. `previous` is the
/// last plan made, whose generation must be below `options.generation`.
///
/// # Errors
/// [`ProblemError`] when the input contradicts itself (NaN, negative, wrong lengths, impossible instances); never for a hard problem.
pub fn solve(problem: &Problem, previous: Option<&Plan>, options: &SolveOptions) -> Result<Outcome, ProblemError> {
    Planner::default().plan(problem, previous, options, None)
}

/// As [`solve()`], but stops at `options.time_limit_ms` by a clock of the caller's: seconds since the solve began.
///
/// # Errors
/// As [`solve()`].
pub fn solve_timed(
    problem: &Problem,
    previous: Option<&Plan>,
    options: &SolveOptions,
    elapsed: &mut dyn FnMut() -> f64,
) -> Result<Outcome, ProblemError> {
    Planner::default().solve(problem, previous, options, elapsed)
}

/// A planner that remembers its last solve: for a loop that solves every second, five to fifty times faster than [`solve()`].
#[derive(Clone, Debug, Default)]
pub struct Planner {
    warm: Option<Warm>,
    /// What the GPUs can be cut into: the same from solve to solve, and a third of the time of most.
    shape: Option<Shape>,
}

impl Planner {
    /// Solves as [`solve_timed`], starting from what the last solve left.
    ///
    /// # Errors
    /// As [`solve()`].
    pub fn solve(
        &mut self,
        problem: &Problem,
        previous: Option<&Plan>,
        options: &SolveOptions,
        elapsed: &mut dyn FnMut() -> f64,
    ) -> Result<Outcome, ProblemError> {
        self.plan(problem, previous, options, Some(elapsed))
    }

    /// Forgets the last solve.
    pub fn reset(&mut self) {
        *self = Planner::default();
    }

    /// Solves from what the last solve left; without a clock when `elapsed` is `None`.
    ///
    /// # Errors
    /// As [`solve()`].
    pub fn plan(
        &mut self,
        problem: &Problem,
        previous: Option<&Plan>,
        options: &SolveOptions,
        elapsed: Option<&mut dyn FnMut() -> f64>,
    ) -> Result<Outcome, ProblemError> {
        check(problem, previous, options)?;
        let view = View::new(problem, options);
        let shape = self.shape.take().filter(|shape| shape.suits(problem)).unwrap_or_else(|| Shape::new(problem));
        let mut search = Search::new(&view, &shape, options);
        match options.policy {
            PolicyName::Migrator => search.ilp(&mut self.warm, elapsed),
            PolicyName::Greedy => search.greedy(),
            PolicyName::Exhaustive => search.exhaustive(),
            PolicyName::Monolith => search.monolith(),
            // Whoever else the name stands for, this planner is asked to leave everything alone.
            _ => {}
        }
        let outcome = search.choose();
        self.shape = Some(shape);
        Ok(outcome)
    }
}

/// The plan that leaves everything as it is: instances in force, same tasks.
pub fn keep(problem: &Problem, generation: Generation) -> Plan {
    let gpus = problem.gpus.iter().map(|gpu| {
        let mut allocations: Vec<Allocation> =
            gpu.instances.iter().map(|i| Allocation { site: i.site, instance: Some(i.id), task: i.task }).collect();
        allocations.sort_by_key(|allocation| allocation.site);
        GpuPlan { allocations }
    });
    Plan { generation, gpus: gpus.collect() }
}

/// Expected weighted goodput of holding `plan` to the end of the look-ahead, in requests, transition losses deducted.
///
/// # Errors
/// [`ProblemError`], as [`solve`]; a plan with defects is not refused, but its value means nothing.
pub fn evaluate(problem: &Problem, plan: &Plan) -> Result<f64, ProblemError> {
    let options = SolveOptions::default();
    check(problem, None, &options)?;
    let shape = Shape::new(problem);
    Ok(value(&View::new(problem, &options), &shape, plan, None).goodput)
}

/// Blocks that positions leave room for: what is further off changes before it comes.
const BLOCKS_AHEAD: usize = 3;

/// A plan that may be chosen.
struct Candidate {
    plan: Plan,
    value: Value,
    status: SolveStatus,
}

struct Search<'a> {
    view: &'a View<'a>,
    shape: &'a Shape,
    options: &'a SolveOptions,
    keep: Candidate,
    /// What keeping everything for one block and then following the integer program is worth: the price of waiting.
    wait: Option<Value>,
    candidates: Vec<Candidate>,
    bound: Option<f64>,
    effort: Effort,
    reason: Option<String>,
}

impl<'a> Search<'a> {
    fn new(view: &'a View<'a>, shape: &'a Shape, options: &'a SolveOptions) -> Search<'a> {
        let plan = keep(view.problem, options.generation);
        let value = value(view, shape, &plan, None);
        let keep = Candidate { plan, value, status: SolveStatus::Kept };
        Search { view, shape, options, keep, wait: None, candidates: Vec::new(), bound: None, effort: Effort::default(), reason: None }
    }

    fn ilp(&mut self, warm: &mut Option<Warm>, elapsed: Option<&mut dyn FnMut() -> f64>) {
        let answer = planner::plan(self.view, self.shape, self.options, warm.as_ref(), elapsed);
        self.bound = Some(answer.bound);
        let status = if answer.optimal { SolveStatus::Optimal } else { SolveStatus::TimeLimit };
        if !answer.optimal {
            let gap = 100.0 * (answer.bound - answer.value) / answer.bound.abs().max(1.0);
            self.reason = Some(format!("stopped by its limit of {} with a gap of {gap:.1} %", answer.stopped));
        }
        self.effort = Effort {
            proven: answer.optimal,
            gap: (answer.bound - answer.value) / answer.value.abs().max(1.0),
            columns: answer.columns,
            nodes: answer.iterations,
            stopped: answer.stopped.to_owned(),
            prices: answer.prices,
        };
        self.wait = Some(value(self.view, self.shape, &self.keep.plan, Some(&answer.counts)));
        let now = need(self.view, self.shape, &answer.counts, 0);
        self.candidate(&now, Some(&answer.counts), status);
        if self.view.ends.len() > 1 {
            // What is meant for the next block may pay now: the blocks' model of a start is coarser than the evaluation.
            let next = need(self.view, self.shape, &answer.counts, 1);
            if next != now {
                self.candidate(&next, Some(&answer.counts), status);
            }
        }
        *warm = Some(answer.warm);
        self.greedy();
    }

    fn monolith(&mut self) {
        match monolith::solve(self.view, self.shape, self.options) {
            Ok(answer) => {
                let gap = (answer.bound - answer.value) / answer.value.abs().max(1.0);
                self.bound = Some(answer.bound);
                self.effort = Effort { proven: answer.optimal && gap <= 1.01 * f64::from(self.options.mip_gap), gap, ..Effort::default() };
                let status = if self.effort.proven { SolveStatus::Optimal } else { SolveStatus::TimeLimit };
                self.candidate(&need(self.view, self.shape, &answer.counts, 0), Some(&answer.counts), status);
            }
            Err(error) => self.reason = Some(format!("integer program: {error}; greedy instead")),
        }
        self.greedy();
    }

    fn greedy(&mut self) {
        let grown = greedy(self.view, self.shape, &held(self.view, self.shape));
        let anew = greedy(self.view, self.shape, &Need::new());
        self.candidate(&grown, None, SolveStatus::Greedy);
        if anew != grown {
            self.candidate(&anew, None, SolveStatus::Greedy);
        }
    }

    fn exhaustive(&mut self) {
        match exhaustive(self.view, self.shape, self.options.generation) {
            Some((plan, value)) => {
                self.bound = Some(value.goodput);
                self.candidates.push(Candidate { plan, value, status: SolveStatus::Optimal });
            }
            None => {
                self.reason = Some("too large for the exhaustive search; greedy instead".to_owned());
                self.greedy();
            }
        }
    }

    fn candidate(&mut self, need: &Need, future: Option<&Counts>, status: SolveStatus) {
        // Positions leave room for what the next blocks want.
        let ahead: Vec<Need> = future.map_or_else(Vec::new, |counts| {
            (1..self.view.ends.len().min(1 + BLOCKS_AHEAD)).map(|block| self::need(self.view, self.shape, counts, block)).collect()
        });
        let realised = realise_ahead(self.view, self.shape, need, &ahead, self.options.generation, self.options.fill);
        let Some(plan) = realised else { return };
        // A plan with defects is a bug of this crate; the host must not pay for it.
        let defects = audit(self.view.problem, &plan);
        debug_assert!(defects.is_empty(), "{defects:?} in {plan:?}");
        if let Some(defect) = defects.first() {
            self.reason = Some(format!("a candidate was dropped: {defect}"));
            return;
        }
        let held = value(self.view, self.shape, &plan, None);
        let followed = future.map(|counts| value(self.view, self.shape, &plan, Some(counts)));
        let value = followed.filter(|followed| followed.score > held.score).unwrap_or(held);
        self.candidates.push(Candidate { plan, value, status });
    }

    fn choose(self) -> Outcome {
        let Search { view, shape, options, mut keep, wait, candidates, bound, effort, mut reason, .. } = self;
        let kept = keep.value.clone();
        // The first of equals: the planner's.
        let best = candidates.iter().reduce(|best, next| if next.value.score > best.value.score { next } else { best });
        // Keeping everything now may be the beginning of a plan that changes something later.
        let planned = best.filter(|best| best.plan == keep.plan).map(|best| best.value.clone());
        let patient = [wait.clone(), planned].into_iter().flatten().filter(|value| value.score > kept.score);
        keep.value = patient.reduce(|a, b| if b.score > a.score { b } else { a }).unwrap_or(keep.value);
        let margin = |best: &Candidate| if disturbs(view.problem, &best.plan) { options.min_gain * keep.value.goodput.abs() } else { 0.0 };
        // What is worth doing may be worth no less when done later, and until then it can be thought better of.
        let later = wait.filter(|wait| best.is_some_and(|best| best.value.score > kept.score && wait.score + 1e-6 >= best.value.score));
        let put_off = best.filter(|best| later.is_some() && best.plan != keep.plan).map(|best| &best.plan);
        // The margin is against doing nothing: waiting a block costs so little that a margin against it would put off everything for ever.
        let pays = |best: &Candidate| best.value.score > kept.score + margin(best) && best.value.score > keep.value.score + 1e-6;
        let best = best.filter(|best| best.plan != keep.plan && pays(best));
        if put_off.is_some() {
            reason = Some("a change pays, but one block later it pays no less".to_owned());
        }
        let chosen = best.unwrap_or(&keep);
        let others: Vec<(&Plan, &Value)> = candidates.iter().chain([&keep]).map(|other| (&other.plan, &other.value)).collect();
        let report = report::report(Story {
            view,
            shape,
            status: chosen.status,
            plan: &chosen.plan,
            value: &chosen.value,
            keep: &kept,
            others: &others,
            worth_it: chosen.plan != keep.plan,
            reason,
            bound: bound.unwrap_or(f64::INFINITY),
            put_off,
            effort,
            explain: options.explain,
        });
        Outcome { plan: chosen.plan.clone(), report }
    }
}

/// Whether the plan takes an instance away from a task that uses it. What only adds to free slices, or hands over what nobody uses,
/// disturbs nobody and needs no hysteresis: however small a tenant, the others do not pay for its gain.
fn disturbs(problem: &Problem, plan: &Plan) -> bool {
    let in_use = |task: Task| match task.kind {
        TaskKind::Inference => true,
        TaskKind::Retraining => problem.tenants[task.tenant.index()].retraining.is_some(),
    };
    problem.gpus.iter().zip(&plan.gpus).any(|(gpu, planned)| {
        gpu.instances.iter().any(|instance| {
            let stays = |a: &Allocation| a.instance == Some(instance.id) && a.task == instance.task;
            instance.task.is_some_and(in_use) && !planned.allocations.iter().any(stays)
        })
    })
}

/// What the counts want in a block.
fn need(view: &View, shape: &Shape, counts: &Counts, block: usize) -> Need {
    let mut need = Need::new();
    for (id, _) in view.tenants() {
        for kind in shape.kind_ids() {
            let n = counts.inference[block][id.index()][kind.index()];
            if n > 0 {
                need.insert((Task::inference(id), kind), n);
            }
        }
        let fixed = view.running(id).is_some_and(|(_, old)| old.pinned);
        if let Some((kind, _)) = counts.retraining[id.index()].filter(|(_, start)| *start <= block && !fixed) {
            need.insert((Task::retraining(id), kind), 1);
        }
    }
    need
}
