//! `migrator`: see [`migrator::cli`].

use std::process::ExitCode;

use clap::Parser;
use migrator::cli::{Cli, Command};

fn main() -> ExitCode {
    let cli = Cli::parse();
    if let Err(error) = migrator::log::start(&cli.log, cli.log_format) {
        eprintln!("error: --log {:?}: {error}", cli.log);
        return ExitCode::from(2);
    }
    let result = match cli.command {
        Command::Serve(args) => migrator::serve::run(args),
        Command::Check(args) => migrator::config::command::check(args),
        Command::Plan(args) => migrator::plan::run(args),
        Command::Profile(args) => migrator::profile::run(args),
        Command::Simulate(args) => migrator::simulate::run(args),
        Command::Demo(args) => migrator::demo::run(args),
        Command::Load(args) => migrator::load::run(args),
        Command::Models(command) => migrator::model::run(command),
        Command::Data(command) => migrator::data::run(command),
        Command::Gpu(command) => migrator::gpu::run(command),
    };
    match result {
        Ok(code) => code,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}
