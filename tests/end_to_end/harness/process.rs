//! Processes, as `/proc` shows them.

use std::path::Path;

/// Name of the variable in the environment of a server, which its workers inherit, also as orphans.
pub const MARK: &str = "END_TO_END_MARK";

/// Processes that carry a mark, dead ones not counted.
pub fn marked(mark: &str) -> Vec<u32> {
    let wanted = format!("{MARK}={mark}");
    let carries = |pid: &u32| {
        let environment = std::fs::read(format!("/proc/{pid}/environ")).unwrap_or_default();
        environment.split(|byte| *byte == 0).any(|variable| variable == wanted.as_bytes())
    };
    all().filter(carries).collect()
}

/// Whether this process has mapped a file whose name contains `library`.
///
/// # Panics
/// When the process is gone.
pub fn maps(pid: u32, library: &str) -> bool {
    let maps = std::fs::read_to_string(format!("/proc/{pid}/maps")).unwrap();
    maps.lines()
        .filter_map(|line| line.split_whitespace().nth(5))
        .any(|file| Path::new(file).file_name().is_some_and(|name| name.to_string_lossy().contains(library)))
}

/// Sends a signal by its name; a process that is gone is left alone.
pub fn signal(pid: u32, name: &str) {
    let _ = std::process::Command::new("kill").args([&format!("-{name}"), &pid.to_string()]).status();
}

fn all() -> impl Iterator<Item = u32> {
    std::fs::read_dir("/proc").unwrap().flatten().filter_map(|entry| entry.file_name().to_str()?.parse().ok())
}
