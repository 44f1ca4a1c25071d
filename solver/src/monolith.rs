//! The whole window as one integer program (`reference/ilp.md` section 2, F3n): instance counts per time block, one interval per
//! retraining. Too slow for the live solve; the reference that the planner is measured and tested against.

use std::collections::BTreeMap;

use crate::evaluate::{Counts, start_charge};
use crate::options::SolveOptions;
use crate::problem::{InstanceState, Task, TenantId};
use crate::shape::{Kind, KindId, Shape};
use crate::view::View;
use good_lp::solvers::microlp::{MicroLpSolution, microlp};
use good_lp::{
    Expression, ProblemVariables, Solution, SolutionStatus, SolverModel, Variable, WithMipGap, WithTimeLimit, constraint, variable,
};

/// An answer of the integer program.
pub(crate) struct Answer {
    pub counts: Counts,
    /// The model's objective.
    pub value: f64,
    /// Upper bound on the model's objective, weighted goodput.
    pub bound: f64,
    /// Whether the bound was reached within the gap.
    pub optimal: bool,
}

/// Solves the integer program.
///
/// # Errors
/// Why there is no answer, for the report: a time limit before the first feasible point, or the solver's own failure.
pub(crate) fn solve(view: &View, shape: &Shape, options: &SolveOptions) -> Result<Answer, String> {
    let mut model = Model::new(view, shape);
    model.serve();
    model.retrain();
    model.fit();
    model.solve(options)
}

/// Starting the retraining of a tenant on a kind of instance in a block.
struct Interval {
    tenant: TenantId,
    kind: KindId,
    /// Whether it takes room: a pinned one does not.
    room: bool,
    block: usize,
    finish_s: f64,
    chosen: Variable,
}

struct Model<'a> {
    view: &'a View<'a>,
    shape: &'a Shape,
    variables: ProblemVariables,
    objective: Expression,
    rows: Vec<good_lp::Constraint>,
    /// n_iqb: inference instances of tenant i, kind q, block b.
    n: BTreeMap<(TenantId, KindId, usize), Variable>,
    intervals: Vec<Interval>,
}

impl<'a> Model<'a> {
    fn new(view: &'a View<'a>, shape: &'a Shape) -> Model<'a> {
        let (variables, objective) = (ProblemVariables::new(), Expression::from(0.0));
        Model { view, shape, variables, objective, rows: Vec::new(), n: BTreeMap::new(), intervals: Vec::new() }
    }

    fn blocks(&self) -> impl Iterator<Item = (usize, usize, usize)> + use<> {
        let ends = self.view.ends.clone();
        (0..ends.len()).map(move |b| (b, if b == 0 { 0 } else { ends[b - 1] }, ends[b]))
    }

    fn serve(&mut self) {
        for (id, _) in self.view.tenants() {
            let kinds: Vec<KindId> = self.shape.kind_ids().filter(|&kind| self.view.kind_rate(self.shape, id, kind) > 0.0).collect();
            // One warm-up per tenant: profiles differ by a tenth of a second.
            let warm_ups = kinds.iter().map(|&kind| self.switch_s(Task::inference(id), kind));
            let warm_up_s = warm_ups.sum::<f64>() / kinds.len().max(1) as f64;
            for (block, from, to) in self.blocks() {
                let mut all = Expression::from(self.view.pinned_rate(id));
                let mut kept = all.clone();
                for &kind in &kinds {
                    let (n, starts) = self.count(id, kind, block);
                    let rate = self.view.kind_rate(self.shape, id, kind);
                    all += rate * n;
                    kept += rate * n - rate * starts;
                }
                self.floor(id, all.clone(), (to - from) as f64);
                // Two groups of seconds, or the average would let capacity of the last second answer requests of the first.
                let ready_s = (from as f64 + warm_up_s).min(to as f64);
                self.served(id, block, kept, from as f64, ready_s);
                self.served(id, block, all, ready_s, to as f64);
            }
        }
    }

    fn switch_s(&self, task: Task, kind: KindId) -> f64 {
        let Kind { model, profile, .. } = self.shape.kind(kind);
        self.view.switch_s(task, model, profile)
    }

    /// Share of each slot within `[from_s, to_s)`, by the probability of its scenario, and its demand.
    fn slots(&self, id: TenantId, from_s: f64, to_s: f64) -> Vec<(f64, f64)> {
        let within = |t: usize| (to_s.min(t as f64 + 1.0) - from_s.max(t as f64)).max(0.0);
        let scenario = |(probability, rps): &(f64, Vec<f64>)| -> Vec<(f64, f64)> {
            rps.iter().enumerate().map(|(t, &rps)| (probability * within(t), rps)).collect()
        };
        self.view.scenarios[id.index()].iter().flat_map(scenario).collect()
    }

    /// A block earlier is better by a hair, so that ties do not put off what can be done now.
    fn worth(&self, id: TenantId, block: usize) -> f64 {
        self.view.answer_worth(id) * (1.0 - 1e-6 * block as f64)
    }

    fn count(&mut self, id: TenantId, kind: KindId, block: usize) -> (Variable, Variable) {
        let (now, rate) = (held_now(self.view, self.shape, id, kind), self.view.kind_rate(self.shape, id, kind));
        // By the horizon's demand, not the block's, or nothing could be made ready before it is needed.
        let needed = (self.view.peak_demand(id) / rate).ceil().min(64.0);
        let n = self.variables.add(variable().integer().min(0).max(needed.max(f64::from(now))));
        let starts = self.variables.add(variable().min(0));
        // (C1) s_iqb ≥ n_iqb − n_iq,b−1, with n_iq,−1 the instances held now
        let before = self.n.get(&(id, kind, block.wrapping_sub(1))).copied();
        let before = before.map_or(Expression::from(f64::from(now)), Expression::from);
        self.rows.push(constraint!(starts >= n - before));
        self.objective -= start_charge(self.view, id, rate) * starts;
        self.n.insert((id, kind, block), n);
        (n, starts)
    }

    /// Requests answered from `from_s` to `to_s` by `capacity` requests/s.
    fn served(&mut self, id: TenantId, block: usize, capacity: Expression, from_s: f64, to_s: f64) {
        let seconds = to_s - from_s;
        if seconds <= 1e-6 {
            return;
        }
        let slots = self.slots(id, from_s, to_s);
        let arrivals: f64 = slots.iter().map(|(share, rps)| share * rps).sum();
        // (C2) y_ib ≤ Σ_t λ_it
        let y = self.variables.add(variable().min(0).max(arrivals));
        // (C3) y_ib ≤ Δ_b Σ_q c_iq n_iqb, while starts warm up Δ_b Σ_q c_iq (n_iqb − s_iqb)
        self.rows.push(constraint!(y <= seconds * capacity.clone()));
        let mean = arrivals / seconds;
        if slots.iter().any(|&(share, rps)| share > 0.0 && rps > 1.05 * mean) {
            // (C4) bursts: y_ib ≤ Σ_{λ ≤ mean} λ + |{λ > mean}| C_ib, a tangent of Σ_t min(λ_t, C) at C = mean
            let below: f64 = slots.iter().filter(|(_, rps)| *rps <= mean).map(|(share, rps)| share * rps).sum();
            let above: f64 = slots.iter().filter(|(_, rps)| *rps > mean).map(|(share, _)| share).sum();
            self.rows.push(constraint!(y <= below + above * capacity));
        }
        self.objective += self.worth(id, block) * y;
    }

    fn floor(&mut self, id: TenantId, held: Expression, seconds: f64) {
        let floor = self.view.floor(id);
        if floor > 0.0 {
            // (C5) Σ_q c_iq n_iqb + z_ib ≥ floor_i; z is charged, so that no problem is infeasible
            let missing = self.variables.add(variable().min(0).max(floor));
            self.rows.push(constraint!(held + missing >= floor));
            self.objective -= self.view.floor_charge(id) * seconds * missing;
        }
    }

    fn retrain(&mut self) {
        for (id, tenant) in self.view.tenants() {
            let mut any = Expression::from(0.0);
            let running = self.view.running(id).map(|(gpu, old)| (self.shape.kind_of(gpu, old.site.profile), old));
            let mut options: Vec<(KindId, usize, f64, bool)> = Vec::new();
            for kind in self.shape.kind_ids() {
                let Kind { model, profile, .. } = self.shape.kind(kind);
                let Some(work_s) = self.view.retraining_s(id, model, profile) else { continue };
                // Going on pays no restore.
                let going_on = running.filter(|(on, _)| *on == kind).map(|(_, old)| old.ready_in_s + work_s);
                options.extend(going_on.map(|finish_s| (kind, 0, finish_s, true)));
                let start_s = self.switch_s(Task::retraining(id), kind);
                let starts = self.blocks().filter(|(block, _, _)| *block > 0 || going_on.is_none());
                options.extend(starts.map(|(block, from, _)| (kind, block, from as f64 + start_s + work_s, false)));
            }
            let fixed = running.is_some_and(|(_, old)| old.pinned);
            for (kind, block, finish_s, ran) in options.into_iter().filter(|(.., ran)| !fixed || *ran) {
                let gain = tenant.weight * self.view.accuracy_gain(id) * self.view.arrivals_after(id, finish_s);
                if gain > 0.0 && self.view.counts(finish_s, ran) {
                    let chosen = self.variables.add(variable().binary());
                    any += chosen;
                    self.objective += gain * chosen;
                    self.intervals.push(Interval { tenant: id, kind, room: !fixed, block, finish_s, chosen });
                }
            }
            // (C6) Σ_o r_io ≤ 1
            self.rows.push(constraint!(any <= 1));
        }
    }

    /// Instances of a kind in a block, retraining included.
    fn used(&self, kind: KindId, block: usize, from: usize) -> Expression {
        let inference = self.n.iter().filter(|((_, q, b), _)| *q == kind && *b == block).map(|(_, &n)| n);
        let occupies = |i: &&Interval| i.room && i.kind == kind && i.block <= block && i.finish_s > from as f64;
        inference.chain(self.intervals.iter().filter(occupies).map(|i| i.chosen)).map(Expression::from).sum()
    }

    fn fit(&mut self) {
        for (block, from, _) in self.blocks() {
            let used: Vec<Expression> = self.shape.kind_ids().map(|kind| self.used(kind, block, from)).collect();
            for row in self.shape.rows() {
                // (C7 a–d) Σ_q α_kq N_qb ≤ h_k |G|
                let sum: Expression = row.alpha.iter().zip(&used).map(|(&alpha, n)| f64::from(alpha) * n.clone()).sum();
                self.rows.push(constraint!(sum <= f64::from(row.most)));
            }
        }
    }

    fn solve(self, options: &SolveOptions) -> Result<Answer, String> {
        let Model { view, shape, variables, objective, rows, n, intervals } = self;
        let mut model = variables.maximise(objective.clone()).using(microlp).with_time_limit(f64::from(options.time_limit_ms) / 1000.0);
        model = model.with_mip_gap(options.mip_gap.max(0.0)).map_err(|error| error.to_string())?;
        for row in rows {
            model.add_constraint(row);
        }
        let solution = model.solve().map_err(|error| error.to_string())?;
        let counts = read(view, shape, &solution, &n, &intervals);
        let (reached, optimal) = (solution.eval(&objective), !matches!(solution.status(), SolutionStatus::TimeLimit));
        let bound = solution.into_inner().stats().best_bound.filter(|bound| bound.is_finite()).unwrap_or(f64::INFINITY).max(reached);
        Ok(Answer { counts, value: reached, bound, optimal })
    }
}

fn read(
    view: &View,
    shape: &Shape,
    solution: &MicroLpSolution,
    n: &BTreeMap<(TenantId, KindId, usize), Variable>,
    intervals: &[Interval],
) -> Counts {
    let (tenants, profiles) = (view.problem.tenants.len(), shape.kinds().len());
    let mut inference = vec![vec![vec![0; profiles]; tenants]; view.ends.len()];
    for ((id, profile, block), &variable) in n {
        inference[*block][id.index()][profile.index()] = solution.value(variable).round().max(0.0) as u32;
    }
    let mut retraining = vec![None; tenants];
    for interval in intervals.iter().filter(|interval| solution.value(interval.chosen) > 0.5) {
        retraining[interval.tenant.index()] = Some((interval.kind, interval.block));
    }
    Counts { inference, retraining }
}

/// Instances of a kind that a tenant's inference holds now, pinned ones left out.
pub(crate) fn held_now(view: &View, shape: &Shape, id: TenantId, kind: KindId) -> u32 {
    let own = |old: &InstanceState| !old.pinned && old.task == Some(Task::inference(id));
    view.instances().filter(|&(gpu, old)| own(old) && shape.kind_of(gpu, old.site.profile) == kind).count() as u32
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::problem::Problem;
    use crate::testing::{due, instance, problem, tenant};

    fn answer(problem: &Problem) -> Answer {
        let options = SolveOptions { time_limit_ms: 5000, ..SolveOptions::default() };
        let view = View::new(problem, &options);
        solve(&view, &Shape::new(problem), &options).unwrap()
    }

    fn capacity(problem: &Problem, counts: &[Vec<u32>], tenant: usize) -> f64 {
        counts[tenant].iter().zip(&problem.tenants[tenant].capacity_rps[0]).map(|(&n, rps)| f64::from(n) * rps).sum()
    }

    #[test]
    fn demand_that_fits_is_served_in_every_block() {
        let problem = problem(vec![tenant("vision", 25.0), tenant("speech", 15.0)]);
        let answer = answer(&problem);
        assert!(answer.optimal);
        for block in &answer.counts.inference {
            assert!(capacity(&problem, block, 0) >= 25.0 && capacity(&problem, block, 1) >= 15.0);
        }
    }

    #[test]
    fn a_retraining_that_pays_runs_and_one_that_cannot_end_in_time_does_not() {
        let mut problem = problem(vec![tenant("vision", 20.0), tenant("speech", 5.0)]);
        problem.tenants[0].retraining = due(120.0, 0.9);
        problem.tenants[1].retraining = due(1e6, 0.9);
        let answer = answer(&problem);
        assert!(answer.counts.retraining[0].is_some());
        assert_eq!(answer.counts.retraining[1], None);
    }

    #[test]
    fn going_on_pays_no_restore() {
        let mut problem = problem(vec![tenant("vision", 20.0)]);
        problem.tenants[0].retraining = due(270.0, 0.9);
        problem.window_left_s = 100.5;
        problem.gpus[0].instances = vec![instance(1, 2, 0, Some(Task::retraining(TenantId(0))))];
        problem.tenants[0].retraining.as_mut().unwrap().seconds_left = vec![vec![-1.0, -1.0, 100.0, -1.0, -1.0]];
        assert_eq!(answer(&problem).counts.retraining[0], Some((KindId(2), 0)));
        problem.gpus[0].instances.clear();
        assert_eq!(answer(&problem).counts.retraining[0], None);
    }

    #[test]
    fn a_floor_holds_against_a_tenant_of_much_more_worth() {
        let mut problem = problem(vec![tenant("vision", 500.0), tenant("speech", 5.0)]);
        problem.tenants[0].weight = 50.0;
        problem.tenants[1].floor_rps = 5.0;
        let answer = answer(&problem);
        assert!(answer.counts.inference.iter().all(|block| capacity(&problem, block, 1) >= 5.0));
    }

    #[test]
    fn another_catalog_is_planned_by_columns() {
        let mut problem = problem(vec![tenant("vision", 25.0)]);
        problem.models[0].catalog.profiles.truncate(2);
        problem.tenants[0].capacity_rps[0].truncate(2);
        problem.models[0].create_s.truncate(2);
        problem.models[0].destroy_s.truncate(2);
        assert!(answer(&problem).counts.inference.iter().all(|block| capacity(&problem, block, 0) >= 25.0));
    }
}
