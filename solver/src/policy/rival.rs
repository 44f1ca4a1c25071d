//! What all rivals have in common: when something has happened, holding a decision until the next, and the outcome.

use super::Policy;
use super::demand::mean_rps;
use super::seat::{self, Layout, Order, Seats};
use crate::audit::audit;
use crate::check::{ProblemError, check};
use crate::evaluate::value;
use crate::options::SolveOptions;
use crate::plan::{Outcome, Plan, SolveStatus};
use crate::problem::{Problem, Task, TenantId};
use crate::report::{self, Effort, Story};
use crate::shape::Shape;
use crate::solve::keep;
use crate::view::View;

/// What has happened since the last call.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Seen {
    /// This is the first call.
    pub first: bool,
    /// A retraining window has begun, and its retrainings are known.
    pub window: bool,
    /// A retraining has become due in the middle of a window.
    pub arrived: bool,
    /// A retraining that had an instance is over.
    pub completed: bool,
}

/// One rival's rule.
pub(super) trait Scheme: Send {
    /// When it decides, for reports.
    const WHEN: &'static str;
    /// Which retraining is next for an instance that retrains.
    const ORDER: Order;

    /// Whether to decide anew now.
    fn due(&mut self, seen: Seen, problem: &Problem) -> bool;

    /// What is to be on the GPUs from now on.
    fn decide(&mut self, problem: &Problem) -> Layout;
}

/// A rule as a policy: between its decisions the last one holds, and is mended where it is not in force.
#[derive(Debug)]
pub(super) struct Rival<S> {
    scheme: S,
    watch: Watch,
    seats: Option<Seats>,
}

impl<S: Scheme> Rival<S> {
    pub fn new(scheme: S) -> Rival<S> {
        Rival { scheme, watch: Watch::default(), seats: None }
    }

    fn decide(&mut self, problem: &Problem, options: &SolveOptions) -> Plan {
        let layout = self.scheme.decide(problem);
        let seats = self.seats.insert(seat::place(problem, layout));
        seat::plan(problem, seats, S::ORDER, &self.watch.turns, options.generation)
    }

    /// What the last decision comes to now, if it can still be carried out.
    fn held(&self, problem: &Problem, options: &SolveOptions) -> Option<Plan> {
        let seats = self.seats.as_ref().filter(|seats| seats.len() == problem.gpus.len())?;
        let plan = seat::plan(problem, seats, S::ORDER, &self.watch.turns, options.generation);
        audit(problem, &plan).is_empty().then_some(plan)
    }
}

impl<S: Scheme> Policy for Rival<S> {
    fn plan(
        &mut self,
        problem: &Problem,
        previous: Option<&Plan>,
        options: &SolveOptions,
        _: Option<&mut dyn FnMut() -> f64>,
    ) -> Result<Outcome, ProblemError> {
        check(problem, previous, options)?;
        let seen = self.watch.look(problem);
        let decides = self.scheme.due(seen, problem) || seen.first;
        let held = if decides { None } else { self.held(problem, options) };
        let plan = held.unwrap_or_else(|| self.decide(problem, options));
        Ok(outcome(problem, options, plan, S::WHEN))
    }
}

/// A plan and what it means. A plan with defects is a bug of its rule; the host must not pay for it.
fn outcome(problem: &Problem, options: &SolveOptions, plan: Plan, when: &str) -> Outcome {
    let (view, shape) = (View::new(problem, options), Shape::kinds_of(problem));
    let kept = keep(problem, options.generation);
    let defect = audit(problem, &plan).first().map(|defect| format!("its plan was dropped: {defect}"));
    let plan = if defect.is_some() { kept.clone() } else { plan };
    let worth_it = plan != kept;
    let keep = value(&view, &shape, &kept, None);
    let value = if worth_it { value(&view, &shape, &plan, None) } else { keep.clone() };
    let report = report::brief(Story {
        view: &view,
        shape: &shape,
        status: if worth_it { SolveStatus::Rule } else { SolveStatus::Kept },
        plan: &plan,
        value: &value,
        keep: &keep,
        others: &[],
        worth_it,
        reason: defect.or_else(|| (!worth_it).then(|| when.to_owned())),
        bound: f64::INFINITY,
        put_off: None,
        effort: Effort::default(),
        explain: options.explain,
    });
    Outcome { plan, report }
}

/// Sees windows begin and retrainings come and go, from one problem to the next.
#[derive(Debug, Default)]
struct Watch {
    calls: u64,
    window_left_s: f64,
    /// Seconds of window left when the last one began, until its retrainings are known.
    settles: Option<f64>,
    /// It was the first, and no demand was known: what is decided is decided again when some has been seen.
    blind: bool,
    /// By tenant: whether a retraining was due, and had an instance.
    due: Vec<bool>,
    placed: Vec<bool>,
    /// By tenant: the call at which it was last seen retraining.
    turns: Vec<u64>,
}

/// Longest wait for a window's retrainings to become due, seconds: their data sets are exported first.
const SETTLES_S: f64 = 5.0;

/// Least of it: what is due at a window's first second is of the last window.
const LEAST_S: f64 = 1.5;

impl Watch {
    fn look(&mut self, problem: &Problem) -> Seen {
        let tenants = problem.tenants.len();
        let due: Vec<bool> = problem.tenants.iter().map(|tenant| tenant.retraining.is_some()).collect();
        let running = |id: TenantId| problem.gpus.iter().flat_map(|gpu| &gpu.instances).any(|old| old.task == Some(Task::retraining(id)));
        let placed: Vec<bool> = (0..tenants as u16).map(|id| running(TenantId(id))).collect();
        self.calls += 1;
        self.turns.resize(tenants, 0);
        self.due.resize(tenants, false);
        self.placed.resize(tenants, false);
        let first = self.calls == 1;
        if !first && problem.window_left_s > self.window_left_s + 0.5 {
            (self.settles, self.blind) = (Some(problem.window_left_s), false);
        }
        if first && (0..tenants as u16).all(|id| mean_rps(problem, TenantId(id)) <= 0.0) {
            (self.settles, self.blind) = (Some(problem.window_left_s), true);
        }
        let came = (0..tenants).any(|id| due[id] && !self.due[id]);
        let completed = (0..tenants).any(|id| self.due[id] && self.placed[id] && !due[id]);
        let settled = |from: f64| {
            let gone_s = from - problem.window_left_s;
            gone_s >= SETTLES_S.min(from / 2.0) || !self.blind && gone_s >= LEAST_S && due.contains(&true) && self.due == due
        };
        let window = self.settles.is_some_and(settled);
        let arrived = !first && came && self.settles.is_none();
        if window {
            self.settles = None;
        }
        for id in (0..tenants).filter(|&id| due[id] && placed[id]) {
            self.turns[id] = self.calls;
        }
        (self.window_left_s, self.due, self.placed) = (problem.window_left_s, due, placed);
        Seen { first, window, arrived, completed }
    }
}
