//! An outcome as an operator reads it: partitions as a picture, the reasons, what each tenant may expect, the steps.
//!
//! Words and layout only; every number comes from the [`Report`] or the problem.

mod picture;
mod steps;

use std::fmt::Write;

pub use steps::{TimedStep, steps};

use crate::plan::{Outcome, Report, SolveStatus, TenantOutlook};
use crate::problem::Problem;

/// Writing into a `String` cannot fail.
macro_rules! line {
    ($out:expr, $($arg:tt)*) => {{
        let _ = writeln!($out, $($arg)*);
    }};
}

/// The plan in words and pictures; `with_steps` adds the steps of the transition and everything that is scarce.
pub fn text(problem: &Problem, outcome: &Outcome, with_steps: bool) -> String {
    let (plan, report) = (&outcome.plan, &outcome.report);
    let mut out = String::new();
    decision(&mut out, outcome);
    for gpu in 0..problem.gpus.len() {
        out.push('\n');
        out += &picture::gpu(problem, plan, gpu);
    }
    section(&mut out, "What changes and why", &report.changes, Some("nothing: everything stays as it is"));
    section(&mut out, "What is not done and why", &report.declined, None);
    tenants(&mut out, report);
    let most = if with_steps { usize::MAX } else { 1 };
    section(&mut out, "What is scarce", &report.binding[..report.binding.len().min(most)], None);
    if let Some(other) = &report.runner_up {
        section(&mut out, "The runner-up", &[format!("{}: {}", other.what, difference(other.objective, report.objective))], None);
    }
    if with_steps {
        step_list(&mut out, problem, outcome);
    }
    out
}

fn section(out: &mut String, title: &str, lines: &[String], otherwise: Option<&str>) {
    if lines.is_empty() && otherwise.is_none() {
        return;
    }
    line!(out, "\n{title}");
    lines.iter().map(String::as_str).chain(otherwise.filter(|_| lines.is_empty())).for_each(|text| line!(out, "  - {text}"));
}

fn decision(out: &mut String, outcome: &Outcome) {
    let (plan, report) = (&outcome.plan, &outcome.report);
    let verdict = if report.worth_it { "change" } else { "keep everything" };
    let status = status(report);
    line!(out, "Plan {}: {verdict}; {status}, solved in {:.1} ms", plan.generation.0, report.solve_ms);
    if let Some(reason) = &report.reason {
        line!(out, "  because {reason}");
    }
    let keeping = difference(report.keep_objective, report.objective);
    let effort = match (report.columns, report.nodes) {
        (0, 0) => String::new(),
        (columns, nodes) => format!(" ({columns} columns, {nodes} rounds, stopped by its {})", report.stopped),
    };
    line!(
        out,
        "Expected: {:.0} correct answers; keeping everything: {keeping}; no plan gives more than {:.0}{effort}",
        report.objective,
        report.bound
    );
}

fn status(report: &Report) -> String {
    let gap = 100.0 * report.gap;
    match report.status {
        SolveStatus::Optimal => format!("proven within {gap:.2} % of the best"),
        SolveStatus::TimeLimit => format!("the best found in time, at most {gap:.2} % below the best there is"),
        SolveStatus::Greedy => format!("by the greedy planner, at most {gap:.2} % below the best there is"),
        SolveStatus::Rule => "by the policy's own rule".to_owned(),
        SolveStatus::Kept if report.reason.is_some() || report.objective > report.keep_objective + 0.5 => {
            format!("nothing to do now (the plan is at most {gap:.2} % below the best there is)")
        }
        SolveStatus::Kept => format!("no change pays (keeping is at most {gap:.2} % below the best there is)"),
    }
}

/// `-214 (-1.8 %)`: one objective as seen from another.
fn difference(other: f64, than: f64) -> String {
    let less = other - than;
    if less.abs() < 0.5 { "the same".to_owned() } else { format!("{less:+.0} ({:+.1} %)", 100.0 * less / than.abs().max(1.0)) }
}

fn tenants(out: &mut String, report: &Report) {
    let width = report.tenants.iter().map(|tenant| tenant.name.chars().count()).max().unwrap_or(0).max(6);
    line!(out, "\nWhat to expect");
    line!(
        out,
        "  {:width$}  {:>8}  {:>10}  {:>7}  {:>8}  {:>7}  retraining",
        "tenant",
        "demand/s",
        "capacity/s",
        "on time",
        "accuracy",
        "correct"
    );
    for tenant in &report.tenants {
        let TenantOutlook { name, demand_rps, capacity_rps, accuracy, goodput, .. } = tenant;
        let _ = write!(out, "  {name:width$}  {demand_rps:>8.1}  {capacity_rps:>10.1}  {:>5.1} %  ", 100.0 * tenant.slo_attainment);
        line!(out, "{accuracy:>8.3}  {goodput:>7.0}  {}", tenant.retraining.as_deref().unwrap_or("-"));
    }
}

fn step_list(out: &mut String, problem: &Problem, outcome: &Outcome) {
    let steps = steps(problem, &outcome.plan);
    line!(out, "\nThe steps, in seconds from the start");
    if steps.is_empty() {
        line!(out, "  none");
    }
    for TimedStep { step, begins_s, ends_s } in steps {
        let after: Vec<String> = step.after.iter().map(usize::to_string).collect();
        let after = if after.is_empty() { String::new() } else { format!(" (after {})", after.join(", ")) };
        line!(out, "  {begins_s:>5.1} to {ends_s:>5.1}  {:>2} {}{after}", step.id, step.step.describe(problem));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::problem::{Task, TenantId};
    use crate::testing::{instance, problem, tenant};
    use crate::{Generation, SolveOptions, solve};

    #[test]
    fn the_text_shows_partitions_reasons_expectations_and_steps() {
        let mut problem = problem(vec![tenant("vision", 41.0), tenant("speech", 8.0)]);
        let (vision, speech) = (Task::inference(TenantId(0)), Task::inference(TenantId(1)));
        problem.gpus[0].instances = vec![instance(1, 1, 0, Some(vision)), instance(2, 2, 4, Some(speech))];
        let options = SolveOptions { time_limit_ms: 20_000, ..SolveOptions::new(Generation(2)) };
        let outcome = solve(&problem, None, &options).unwrap();
        let text = text(&problem, &outcome, true);
        let parts = [
            "Plan 2: change",
            "GPU 0 (A100-SXM4-80GB)",
            "| 2g vision ",
            "| 3g speech ",
            "What changes and why\n  - vision ",
            "What to expect",
            "speech ",
            "The runner-up\n  - ",
            "The steps",
            "preload vision inference",
        ];
        for part in parts {
            assert!(text.contains(part), "{part:?} is not in\n{text}");
        }
    }
}
