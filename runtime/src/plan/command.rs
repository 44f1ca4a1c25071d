//! `migrator plan`.

use std::io::{Read, Write};
use std::process::ExitCode;

use anyhow::Context as _;
use migrator_solver::{Generation, Plan, SolveOptions};

use super::answer::{self, Answer, Depth};
use super::read;
use crate::cli::PlanArgs;
use crate::config::ConfigErrors;

/// Nothing can be served, whatever the plan.
const HOPELESS: u8 = 3;

/// Solves the problem of a file and prints the plan; exit code 0 with a plan, 1 when the problem is refused, 3 when no tenant fits
/// any profile.
///
/// # Errors
/// When the file or the previous plan cannot be read.
pub fn run(args: PlanArgs) -> anyhow::Result<ExitCode> {
    let (file, text) = text(&args)?;
    let (problem, mut options) = match read(&file, &text) {
        Ok(read) => read,
        Err(errors) => return Ok(refused(&errors)),
    };
    let previous = args.previous.as_deref().map(previous).transpose()?;
    override_options(&mut options, &args, previous.as_ref());
    let answer = match answer::solve(problem, previous.as_ref(), &options) {
        Ok(answer) => answer,
        Err(error) => {
            eprintln!("{file}: {error}");
            return Ok(ExitCode::FAILURE);
        }
    };
    print(&answer, &file, &args);
    Ok(if answer.advice.hopeless { ExitCode::from(HOPELESS) } else { ExitCode::SUCCESS })
}

fn text(args: &PlanArgs) -> anyhow::Result<(String, String)> {
    if args.problem.as_os_str() == "-" {
        let mut text = String::new();
        std::io::stdin().read_to_string(&mut text).context("standard input cannot be read")?;
        return Ok(("stdin".to_owned(), text));
    }
    let file = args.problem.display().to_string();
    let text = std::fs::read_to_string(&args.problem).with_context(|| format!("{file} cannot be read"))?;
    Ok((file, text))
}

fn refused(errors: &ConfigErrors) -> ExitCode {
    eprintln!("{errors}");
    ExitCode::FAILURE
}

/// A plan, or an answer that holds one.
fn previous(path: &std::path::Path) -> anyhow::Result<Plan> {
    let read = || -> anyhow::Result<Plan> {
        let mut json: serde_json::Value = serde_json::from_str(&std::fs::read_to_string(path)?)?;
        let plan = json.get_mut("plan").map(serde_json::Value::take);
        Ok(serde_json::from_value(plan.unwrap_or(json))?)
    };
    read().with_context(|| format!("--previous {}: not a plan in JSON, as `migrator plan --json` or GET /v1/plan gives it", path.display()))
}

fn override_options(options: &mut SolveOptions, args: &PlanArgs, previous: Option<&Plan>) {
    options.generation = Generation(previous.map_or(0, |plan| plan.generation.0) + 1);
    options.policy = args.policy.unwrap_or(options.policy);
    options.horizon_s = args.horizon.unwrap_or(options.horizon_s);
    options.time_limit_ms = args.time_limit.unwrap_or(options.time_limit_ms);
}

fn print(answer: &Answer, file: &str, args: &PlanArgs) {
    for warning in &answer.advice.warnings {
        eprintln!("{file}: warning: {warning}");
    }
    let depth = if args.explain { Depth::Explained } else { Depth::Plan };
    let text = if args.json { format!("{:#}\n", answer.json(depth)) } else { answer.text(depth) };
    // A reader that has seen enough, such as `head`, is no error.
    let _ = std::io::stdout().write_all(text.as_bytes());
}
