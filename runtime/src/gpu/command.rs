//! The verbs.

use std::io::Write;
use std::process::ExitCode;

use anyhow::Context as _;
use migrator_device::nvml::{self, ModeChange};
use serde_json::json;

use super::transition::Asked;
use super::{catalog, inventory};
use crate::cli::{CatalogArgs, GpuCommand, LibraryArgs, ModeArgs, Switch, TransitionArgs};

/// `migrator gpu …`; exit code 1 when the driver cannot be reached or refuses.
///
/// # Errors
/// What cannot be done and why.
pub fn run(command: GpuCommand) -> anyhow::Result<ExitCode> {
    match command {
        GpuCommand::List(args) => found(&args, inventory::list),
        GpuCommand::State(args) => found(&args, inventory::state),
        GpuCommand::Catalog(args) => show(&args),
        GpuCommand::PlanTransition(args) => plan(&args),
        GpuCommand::Mode(args) => mode(&args),
    }
}

fn print(text: &str) -> ExitCode {
    // A reader that has seen enough, such as `head`, is no error.
    let _ = std::io::stdout().lock().write_all(text.as_bytes());
    ExitCode::SUCCESS
}

fn found(args: &LibraryArgs, text: fn(&[nvml::Found]) -> String) -> anyhow::Result<ExitCode> {
    let found = nvml::inspect(args.library.as_deref())?;
    Ok(print(&if args.json { format!("{:#}\n", json!({ "gpus": found })) } else { text(&found) }))
}

fn show(args: &CatalogArgs) -> anyhow::Result<ExitCode> {
    let board = args.board.as_deref().map(catalog::board).transpose()?;
    let text = match (board, args.json) {
        (board, true) => format!("{:#}\n", catalog::json(board)),
        (Some(board), false) => catalog::describe(board),
        (None, false) => catalog::list(),
    };
    Ok(print(&text))
}

fn plan(args: &TransitionArgs) -> anyhow::Result<ExitCode> {
    let asked = Asked::new(catalog::board(&args.board).context("--board")?, &args.from, &args.to, !args.no_preload)?;
    Ok(print(&if args.json { format!("{:#}\n", asked.json()) } else { asked.text() }))
}

fn mode(args: &ModeArgs) -> anyhow::Result<ExitCode> {
    let on = args.mode == Switch::On;
    let change = nvml::set_mode(args.library.library.as_deref(), &args.gpu, on)?;
    let (gpu, word) = (&args.gpu, if on { "on" } else { "off" });
    let (done, said) = match &change {
        ModeChange::Unchanged => (true, format!("MIG of GPU {gpu} is {word} already")),
        ModeChange::Done => (true, format!("MIG of GPU {gpu} is {word}")),
        ModeChange::NeedsReset => (
            false,
            format!("MIG of GPU {gpu} will be {word} after a reset: nvidia-smi --gpu-reset -i {gpu}, or a reboot of a virtual machine"),
        ),
        ModeChange::InUse { processes } if processes.is_empty() => {
            (false, format!("GPU {gpu} is in use: stop what monitors it (DCGM, nvsm) and nvidia-persistenced, and try again"))
        }
        ModeChange::InUse { processes } => {
            let processes: Vec<String> = processes.iter().map(u32::to_string).collect();
            (false, format!("GPU {gpu} is in use by processes {}: stop them, and try again", processes.join(", ")))
        }
        ModeChange::Refused { code } => (false, format!("the driver did not switch MIG of GPU {gpu} {word}: nvmlReturn_t {code}")),
    };
    if args.library.json {
        print(&format!("{:#}\n", json!({ "gpu": gpu, "on": on, "change": change })));
    } else if done {
        print(&format!("{said}\n"));
    } else {
        eprintln!("{said}");
    }
    Ok(if done { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
