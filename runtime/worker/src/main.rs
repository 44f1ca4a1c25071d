//! The worker process: computes batches and retrains models on one instance, at the server's word.
//!
//! It speaks `migrator-wire` over file descriptor 3 and ends when that closes, so that none outlives its server. Knows nothing of
//! tenants, plans or SLOs. Read in the order `service`, `executor`, `registry`,
//! `training`, `attach`, `answer`, `cuda`, `sys`.

use std::io::Write;
use std::process::ExitCode;

use tracing_subscriber::EnvFilter;

mod answer;
mod attach;
mod cuda;
mod executor;
mod memory;
mod registry;
mod service;
mod sys;
mod training;

fn main() -> ExitCode {
    let Some(socket) = sys::claim_socket() else {
        // A closed standard error leaves nobody to tell.
        let _ = writeln!(
            std::io::stderr(),
            "migrator-worker: not started by migrator (file descriptor {} is no socket); run `migrator serve`, which starts its workers",
            migrator_wire::message::WORKER_FD
        );
        return ExitCode::from(2);
    };
    sys::ignore_interrupts();
    sys::hide_gpus();
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("info"));
    // Level first, no time: the server's log adds its own and reads the level back.
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(false)
        .without_time()
        .with_target(false)
        .init();
    match service::run(socket) {
        Ok(()) => sys::exit_now(0),
        Err(error) => {
            let _ = writeln!(std::io::stderr(), "migrator-worker: cannot understand the server: {error}");
            sys::exit_now(3)
        }
    }
}
