//! `migrator check`.

use std::process::ExitCode;

use crate::cli::CheckArgs;

use super::{Config, explain};

/// Checks a configuration and explains it; exit code 1 when anything is wrong.
///
/// # Errors
/// Never for a wrong configuration: its defects are printed.
pub fn check(args: CheckArgs) -> anyhow::Result<ExitCode> {
    match Config::load(&args.config) {
        Ok(mut config) => {
            if let Some(dir) = args.state_dir {
                config.server.state_dir = dir;
            }
            print!("{}", explain(&config));
            Ok(ExitCode::SUCCESS)
        }
        Err(errors) => {
            eprintln!("{errors}");
            Ok(ExitCode::FAILURE)
        }
    }
}
