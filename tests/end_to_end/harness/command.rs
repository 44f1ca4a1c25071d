//! The binaries, and commands that run to their end.

use std::path::PathBuf;
use std::process::{Command, Stdio};

/// A binary of this build: beside the test executable's folder, or in the folder of `MIGRATOR_BIN` (which names `migrator`).
///
/// # Panics
/// When it was not built; cargo does not build another package's binaries for a test.
pub fn bin(name: &str) -> PathBuf {
    let path = match std::env::var_os("MIGRATOR_BIN") {
        Some(migrator) => PathBuf::from(migrator).with_file_name(name),
        // target/<profile>/deps/end_to_end-<hash>
        None => std::env::current_exe().unwrap().ancestors().nth(2).unwrap().join(name),
    };
    assert!(path.is_file(), "{} is missing: cargo build --workspace --bins", path.display());
    path
}

/// A command that has ended.
#[derive(Debug)]
pub struct Ran {
    /// Exit code; -1 = by a signal.
    pub code: i32,
    /// Standard output.
    pub out: String,
    /// Standard error.
    pub err: String,
}

impl Ran {
    /// The only line of the error.
    ///
    /// # Panics
    /// When it failed in another way than with code 1 and one line.
    pub fn one_line(&self) -> &str {
        let line = self.err.trim_end();
        assert!(self.code == 1 && !line.is_empty() && !line.contains('\n'), "{self:?}");
        line
    }
}

/// Runs `migrator` with these arguments.
pub fn run(args: &[&str]) -> Ran {
    let mut command = Command::new(bin("migrator"));
    command.args(["--log", "error"]).args(args).env("NO_COLOR", "1").stdin(Stdio::null());
    let output = command.output().unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    Ran { code: output.status.code().unwrap_or(-1), out: text(output.stdout), err: text(output.stderr) }
}
