//! How a worker ended, in words.

use std::fmt;
use std::os::unix::process::ExitStatusExt;
use std::process::ExitStatus;

/// How a worker ended; its `Display` says it in words, e.g. `killed by signal 9 (out of memory)`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Exit {
    /// Exit code, unless a signal ended it.
    pub code: Option<i32>,
    /// The signal that ended it.
    pub signal: Option<i32>,
    /// The signal was sent by this side: at a deadline, or because the worker broke the protocol.
    pub killed: bool,
    /// Memory ran out, as far as can be told: the kernel killed for memory, or an allocation failed.
    pub out_of_memory: bool,
    /// What broke the connection, unless it was closed properly.
    pub broken: Option<String>,
    /// The last line on its standard error.
    pub last_words: Option<String>,
}

impl Exit {
    /// Exited with code 0.
    pub fn success(&self) -> bool {
        self.code == Some(0)
    }

    pub(super) fn unknown() -> Exit {
        Exit::default()
    }

    /// `kernel_kills` is how often the kernel killed for memory while the worker lived.
    pub(super) fn of(status: Option<ExitStatus>, kernel_kills: u64, killed: bool, last_words: Option<String>) -> Exit {
        let signal = status.and_then(|status| status.signal());
        let starved = |words: &String| ["bad_alloc", "not enough memory", "can't allocate memory"].iter().any(|sign| words.contains(sign));
        let out_of_memory = match signal {
            Some(9) => !killed && kernel_kills > 0,
            _ => last_words.as_ref().is_some_and(starved),
        };
        Exit { code: status.and_then(|status| status.code()), signal, killed, out_of_memory, broken: None, last_words }
    }
}

impl fmt::Display for Exit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.code, self.signal) {
            (Some(code), _) => write!(f, "exited with code {code}")?,
            (_, Some(signal)) => write!(f, "killed by signal {signal}")?,
            (None, None) => f.write_str("connection closed")?,
        }
        if self.killed && self.signal.is_some() {
            f.write_str(" (by the server)")?;
        }
        if self.out_of_memory {
            f.write_str(" (out of memory)")?;
        }
        if let Some(broken) = &self.broken {
            write!(f, ", {broken}")?;
        }
        match &self.last_words {
            Some(words) if !self.success() => write!(f, "; last words: {words}"),
            _ => Ok(()),
        }
    }
}

/// How often the kernel has killed a process for memory since boot; 0 where it does not count.
pub(super) fn kernel_kills() -> u64 {
    let counters = std::fs::read_to_string("/proc/vmstat").unwrap_or_default();
    counters.lines().find_map(|line| line.strip_prefix("oom_kill ")?.trim().parse().ok()).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_kill_by_the_kernel_for_memory_is_told_from_one_by_the_server() {
        let status = Some(ExitStatus::from_raw(9));
        assert_eq!(Exit::of(status, 0, false, None).to_string(), "killed by signal 9");
        assert_eq!(Exit::of(status, 1, false, None).to_string(), "killed by signal 9 (out of memory)");
        assert_eq!(Exit::of(status, 1, true, None).to_string(), "killed by signal 9 (by the server)");
    }

    #[test]
    fn a_failed_allocation_is_known_by_the_last_words() {
        let exit = Exit::of(Some(ExitStatus::from_raw(6)), 0, false, Some("what():  std::bad_alloc".into()));
        assert!(exit.out_of_memory);
        assert_eq!(exit.to_string(), "killed by signal 6 (out of memory); last words: what():  std::bad_alloc");
    }

    #[test]
    fn a_proper_end_needs_no_last_words() {
        let exit = Exit::of(Some(ExitStatus::from_raw(0)), 0, false, Some("bye".into()));
        assert_eq!((exit.to_string().as_str(), exit.success()), ("exited with code 0", true));
        assert_eq!(Exit::of(Some(ExitStatus::from_raw(2 << 8)), 0, false, None).to_string(), "exited with code 2");
    }
}
