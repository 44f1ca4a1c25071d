//! `migrator check`.

use std::process::ExitCode;

use crate::cli::CheckArgs;

use super::{Config, explain};

/// Checks a configuration and explains it; exit code 1 when anything is wrong.
///
/// # Errors
/// Never: what is wrong is printed, one line each.
pub fn check(args: CheckArgs) -> anyhow::Result<ExitCode> {
    let mut config = match Config::load(&args.config) {
        Ok(config) => config,
        Err(errors) => {
            eprintln!("{errors}");
            return Ok(ExitCode::FAILURE);
        }
    };
    if let Some(dir) = args.state_dir {
        config.server.state_dir = dir;
    }
    let host_cores = std::thread::available_parallelism().map_or(1.0, |n| n.get() as f64);
    let explanation = explain(&config, host_cores);
    print!("{}", explanation.text);
    for problem in &explanation.problems {
        eprintln!("{}: {problem}", args.config.display());
    }
    if explanation.problems.is_empty() {
        println!("{} is in order", args.config.display());
        return Ok(ExitCode::SUCCESS);
    }
    Ok(ExitCode::FAILURE)
}
