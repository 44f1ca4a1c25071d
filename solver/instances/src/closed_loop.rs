//! Forecast → problem → solve → audit → transition → service, second after second, in the fluid model of `reference/ilp.md`
//! section 2: requests are served in their second or lost, an instance's capacity counts for the part of the second it is ready.

use migrator_solver::clairvoyant;
use migrator_solver::problem::Scenario;
use migrator_solver::{Forecaster, Generation, Outcome, Plan, Problem, SolveOptions, Task, TaskKind, TenantId, audit_after};

use crate::host::{Execution, Host};
use crate::snapshot::{Known, future, problem};
use crate::window::{LEAD_S, Window};

/// Who plans: problem, plan in force and options to a plan. The caller's, so that it may hold a clock and what a solve leaves behind.
pub type Planner<'a> = dyn FnMut(&Problem, Option<&Plan>, &SolveOptions) -> Outcome + 'a;

/// What is known of the arrivals to come.
pub enum Foresight<'a> {
    /// All.
    Perfect,
    /// What a forecaster, one per tenant, makes of those gone by.
    Forecast(&'a dyn Fn() -> Box<dyn Forecaster>),
}

/// How the loop runs.
pub struct Conditions<'a> {
    /// What is known.
    pub foresight: Foresight<'a>,
    /// How plans are carried out.
    pub execution: Execution,
    /// Seconds between two solves; the end of a retraining is answered at the next second anyhow.
    pub every_s: usize,
    /// Whether nothing is planned while a transition is under way, as the coordinator does, and for how many seconds after it.
    pub dwell_s: Option<f64>,
    /// How to solve; the generation is the loop's.
    pub options: SolveOptions,
}

impl Default for Conditions<'_> {
    fn default() -> Self {
        Conditions {
            foresight: Foresight::Perfect,
            execution: Execution::Placed,
            every_s: 1,
            dwell_s: None,
            options: SolveOptions::default(),
        }
    }
}

/// What became of a window.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Run {
    /// Σ answers on time × accuracy.
    pub goodput: f64,
    /// Answers on time.
    pub on_time: f64,
    /// Arrivals.
    pub arrivals: f64,
    /// Retrainings that were due and not published.
    pub missed: u32,
    /// Inference or retraining instances started.
    pub starts: u32,
    /// Transitions begun.
    pub transitions: u32,
    /// Solves.
    pub solves: u32,
    /// Plans with defects; none may be.
    pub defects: u32,
    /// Goodput by second.
    pub by_second: Vec<f64>,
}

/// UB* of the window: no policy gets more goodput.
pub fn upper_bound(window: &Window) -> f64 {
    clairvoyant::upper_bound(&problem(window, &Known::start(window)), clairvoyant::ITERATIONS)
}

/// Runs one window.
pub fn run(window: &Window, conditions: &Conditions, planner: &mut Planner) -> Run {
    let mut run = Loop::new(window, conditions);
    run.start(planner);
    for second in 0..window.seconds {
        run.plan(second, planner);
        run.serve(second);
    }
    run.finish()
}

struct Loop<'a> {
    window: &'a Window,
    conditions: &'a Conditions<'a>,
    forecasters: Vec<Box<dyn Forecaster>>,
    host: Host,
    known: Known,
    previous: Option<Plan>,
    generation: u64,
    /// A retraining has ended since the last solve.
    event: bool,
    run: Run,
}

impl<'a> Loop<'a> {
    fn new(window: &'a Window, conditions: &'a Conditions<'a>) -> Loop<'a> {
        let mut forecasters: Vec<Box<dyn Forecaster>> = match conditions.foresight {
            Foresight::Perfect => Vec::new(),
            Foresight::Forecast(make) => window.tenants.iter().map(|_| make()).collect(),
        };
        for (forecaster, tenant) in forecasters.iter_mut().zip(&window.tenants) {
            tenant.history.iter().chain(&tenant.arrivals[..LEAD_S]).for_each(|&count| forecaster.observe(count));
        }
        let host = Host::new(conditions.execution);
        let known = Known::start(window);
        Loop { window, conditions, forecasters, host, known, previous: None, generation: 0, event: false, run: Run::default() }
    }

    /// Before the window: a plan for the demand of the last minute without retrainings is in force.
    fn start(&mut self, planner: &mut Planner) {
        let due = std::mem::replace(&mut self.known.work_left, vec![None; self.window.tenants.len()]);
        let mean = |arrivals: &[f64]| arrivals[LEAD_S - 60..LEAD_S].iter().sum::<f64>() / 60.0;
        self.known.demand = self.window.tenants.iter().map(|tenant| Scenario::certain(vec![mean(&tenant.arrivals)])).collect();
        let options = self.options();
        let outcome = planner(&problem(self.window, &self.known), None, &options);
        self.host.install(&outcome.plan);
        self.known.work_left = due;
        self.previous = Some(outcome.plan);
    }

    fn options(&mut self) -> SolveOptions {
        self.generation += 1;
        SolveOptions { generation: Generation(self.generation), ..self.conditions.options.clone() }
    }

    fn plan(&mut self, second: usize, planner: &mut Planner) {
        let now_s = second as f64;
        let busy = self.conditions.dwell_s.is_some_and(|dwell_s| self.run.solves > 0 && now_s < self.host.done_s + dwell_s);
        if busy || !(self.event || second.is_multiple_of(self.conditions.every_s.max(1))) {
            return;
        }
        self.event = false;
        self.known.second = second;
        self.known.instances = self.host.instances(self.window.gpus.len(), now_s);
        self.known.demand = self.demand(second);
        let problem = problem(self.window, &self.known);
        let options = self.options();
        let outcome = planner(&problem, self.previous.as_ref(), &options);
        self.run.solves += 1;
        let in_force = self.previous.as_ref().map_or(Generation(0), |plan| plan.generation);
        if audit_after(&problem, in_force, &outcome.plan).is_empty() {
            self.host.begin(&problem, &outcome.plan, now_s);
        } else {
            self.run.defects += 1;
        }
        self.previous = Some(outcome.plan);
    }

    fn demand(&self, second: usize) -> Vec<Vec<Scenario>> {
        let tenants = self.window.tenants.iter().enumerate();
        let horizon = self.window.seconds - second + 60;
        tenants
            .map(|(index, tenant)| match self.forecasters.get(index) {
                Some(forecaster) => forecaster.scenarios(horizon),
                None => Scenario::certain(future(self.window, tenant, second)),
            })
            .collect()
    }

    fn serve(&mut self, second: usize) {
        let (from_s, to_s) = (second as f64, second as f64 + 1.0);
        let mut capacity = vec![0.0; self.window.tenants.len()];
        let mut ends: Vec<(Task, f64)> = Vec::new();
        for (one, a, b) in self.host.working(from_s, to_s) {
            let Some(task) = one.task else { continue };
            let (index, model, q) = (task.tenant.index(), self.window.gpus[one.gpu], one.site.profile.index());
            match task.kind {
                TaskKind::Inference => capacity[index] += (b - a) * self.window.tenants[index].capacity_rps(&self.window.models[model])[q],
                TaskKind::Retraining => {
                    let Some((work, left)) = self.window.tenants[index].retraining.zip(self.known.work_left[index].as_mut()) else {
                        continue;
                    };
                    let all_s = work.seconds(&self.window.models[model])[q].max(1e-6);
                    let needed_s = *left * all_s;
                    *left = (*left - (b - a) / all_s).max(0.0);
                    if needed_s <= b - a + 1e-9 {
                        ends.push((task, a + needed_s));
                    }
                }
            }
        }
        self.count(second, &capacity, &ends);
        for &(task, at_s) in &ends {
            self.publish(task, at_s);
        }
        for (forecaster, tenant) in self.forecasters.iter_mut().zip(&self.window.tenants) {
            forecaster.observe(tenant.arrivals_at(second));
        }
    }

    fn count(&mut self, second: usize, capacity: &[f64], ends: &[(Task, f64)]) {
        let mut goodput = 0.0;
        for (index, tenant) in self.window.tenants.iter().enumerate() {
            let arrivals = tenant.arrivals_at(second);
            let served = arrivals.min(capacity[index]);
            let now = self.known.accuracy[index];
            let end = ends.iter().find(|(task, _)| task.tenant == TenantId(index as u16));
            let after =
                end.zip(tenant.retraining).map_or(0.0, |((_, at_s), work)| (work.accuracy_after - now) * (second as f64 + 1.0 - at_s));
            goodput += served * (now + after);
            self.run.on_time += served;
            self.run.arrivals += arrivals;
        }
        self.run.goodput += goodput;
        self.run.by_second.push(goodput);
    }

    fn publish(&mut self, task: Task, at_s: f64) {
        let index = task.tenant.index();
        self.host.finish(task, at_s);
        self.known.work_left[index] = None;
        if let Some(work) = self.window.tenants[index].retraining {
            self.known.accuracy[index] = work.accuracy_after;
        }
        self.event = true;
    }

    fn finish(mut self) -> Run {
        self.run.missed = self.known.work_left.iter().flatten().count() as u32;
        (self.run.starts, self.run.transitions) = (self.host.starts, self.host.transitions);
        self.run
    }
}

#[cfg(test)]
mod tests {
    use migrator_solver::forecast::LastValue;
    use migrator_solver::{PolicyName, solve};

    use super::*;
    use crate::generate::{Spec, window};

    fn greedy() -> SolveOptions {
        SolveOptions { policy: PolicyName::Greedy, ..SolveOptions::default() }
    }

    fn plan(problem: &Problem, previous: Option<&Plan>, options: &SolveOptions) -> Outcome {
        solve(problem, previous, options).unwrap()
    }

    #[test]
    fn no_run_is_above_the_bound_and_no_plan_has_defects() {
        for seed in 0..6 {
            let spec = Spec { seconds: 60, preload: seed % 2 == 0, ..Spec::new(1 + seed as usize % 2, 4) };
            let window = window(&spec, seed);
            let bound = upper_bound(&window);
            for execution in [Execution::Placed, Execution::Counted] {
                for dwell_s in [None, Some(0.0)] {
                    let run = run(&window, &Conditions { execution, dwell_s, options: greedy(), ..Conditions::default() }, &mut plan);
                    assert!(run.goodput <= bound && run.goodput > 0.3 * bound, "seed {seed}: {} of {bound}", run.goodput);
                    assert_eq!(run.defects, 0);
                }
            }
        }
    }

    #[test]
    fn nothing_changes_without_plans() {
        let window = window(&Spec { seconds: 30, ..Spec::new(1, 3) }, 2);
        let options = SolveOptions { policy: PolicyName::Keep, ..SolveOptions::default() };
        let run = run(&window, &Conditions { options, ..Conditions::default() }, &mut plan);
        assert_eq!((run.goodput, run.starts, run.missed, run.solves), (0.0, 0, 3, 30));
    }

    #[test]
    fn changes_that_take_no_time_lose_nothing() {
        let spec = Spec { seconds: 60, ..Spec::new(1, 4) };
        let goodput = |window: &Window| run(window, &Conditions { options: greedy(), ..Conditions::default() }, &mut plan).goodput;
        let (with, without) =
            (0..4).map(|seed| window(&spec, seed)).fold((0.0, 0.0), |(a, b), w| (a + goodput(&w), b + goodput(&w.free())));
        assert!(without > with, "{without} {with}");
    }

    #[test]
    fn a_forecaster_sees_what_is_gone_and_nothing_else() {
        let window = window(&Spec { seconds: 20, ..Spec::new(1, 2) }, 1);
        let make = || Box::new(LastValue::default()) as Box<dyn Forecaster>;
        let mut seen = Vec::new();
        let mut spy = |problem: &Problem, previous: Option<&Plan>, options: &SolveOptions| {
            seen.push(problem.tenants[1].demand[0].rps[7]);
            plan(problem, previous, options)
        };
        // Before the window the problem's forecast is one value.
        let conditions = Conditions { foresight: Foresight::Forecast(&make), options: greedy(), ..Conditions::default() };
        let mut guarded = |problem: &Problem, previous: Option<&Plan>, options: &SolveOptions| {
            if problem.tenants[1].demand[0].rps.len() > 7 { spy(problem, previous, options) } else { plan(problem, previous, options) }
        };
        run(&window, &conditions, &mut guarded);
        let expected: Vec<f64> = (0..20).map(|second| window.tenants[1].arrivals[LEAD_S + second - 1]).collect();
        assert_eq!(seen, expected);
    }
}
