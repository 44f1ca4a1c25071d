//! `migrator gpu catalog`: what GPU models can be cut into.

use anyhow::bail;
use migrator_mig::{Board, board};
use serde_json::json;

/// The shipped board of this name.
///
/// # Errors
/// The names there are.
pub(crate) fn board(name: &str) -> anyhow::Result<&'static Board> {
    let Some(board) = board::find(name) else {
        let names: Vec<String> = board::shipped().iter().map(named).collect();
        bail!("no catalog of {name:?}; there are {}", names.join(", "));
    };
    Ok(board)
}

fn named(board: &Board) -> String {
    match board.short.first() {
        Some(short) => format!("{short} ({})", board.name),
        None => board.name.clone(),
    }
}

/// All boards, a line each.
pub(super) fn list() -> String {
    let mut text = format!("{:<12} {:<20} {:>10} {:>5} {:>11} {:>9}\n", "short", "model", "memory MiB", "SMs", "partitions", "maximal");
    for board in board::shipped() {
        let short = board.short.first().map_or("", String::as_str);
        let catalog = board.catalog();
        let (all, maximal) = match catalog.profiles.len() {
            0 => ("no MIG".to_owned(), String::new()),
            _ => (catalog.partitions().len().to_string(), catalog.maximal_partitions().len().to_string()),
        };
        text += &format!("{short:<12} {:<20} {:>10} {:>5} {all:>11} {maximal:>9}\n", board.name, board.memory_mib, board.multiprocessors);
    }
    text
}

/// One board and its profiles.
pub(super) fn describe(board: &Board) -> String {
    let mut text = format!(
        "{}: {} MiB, {} SMs, compute capability {}; ",
        board.name, board.memory_mib, board.multiprocessors, board.compute_capability
    );
    if board.profiles.is_empty() {
        return text + "no MIG: served as one instance\n";
    }
    text += &format!("{} compute and {} memory slices, at most {} instances\n", board.compute_slices, board.memory_slices, board.instances);
    text += if board.resetless { "the MIG mode switches without a reset\n" } else { "switching the MIG mode takes a reset of the GPU\n" };
    text += &format!(
        "\n{:<16} {:>3} {:>6} {:>10} {:>4} {:>4} {:>4} {:>4} {:>5} {:>4} {:>4}  planned  starts\n",
        "profile", "id", "slices", "memory MiB", "SMs", "most", "copy", "dec", "jpeg", "ofa", "enc"
    );
    for profile in &board.profiles {
        let starts: Vec<String> = profile.starts.iter().map(u8::to_string).collect();
        text += &format!(
            "{:<16} {:>3} {:>6} {:>10} {:>4} {:>4} {:>4} {:>4} {:>5} {:>4} {:>4}  {:<7}  {{{}}}:{}\n",
            profile.name,
            profile.id,
            profile.compute_slices,
            profile.memory_mib,
            profile.multiprocessors,
            profile.count,
            profile.copy,
            profile.decode,
            profile.jpeg,
            profile.ofa,
            profile.encode,
            if profile.is_plain() { "yes" } else { "no" },
            starts.join(","),
            profile.memory_slices
        );
    }
    for source in &board.sources {
        text += &format!("source: {source}\n");
    }
    text
}

/// One board, or all, for programs.
pub(super) fn json(board: Option<&Board>) -> serde_json::Value {
    match board {
        Some(board) => json!(board),
        None => json!(board::shipped()),
    }
}
