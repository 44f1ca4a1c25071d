//! What `/proc` says about a process, and what can be done to it without being its parent.

use std::collections::BTreeMap;
use std::fs;
use std::io;

use rustix::process::{Pid, Resource, Rlimit, Signal, kill_process, prlimit, setpriority_process};
use rustix::thread::{CpuSet, sched_setaffinity};

/// A process that cannot be confused with a later one of the same pid.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Process {
    pub(crate) pid: u32,
    /// Clock ticks after boot at which it started.
    pub(crate) start: u64,
}

impl Process {
    /// The running process of this pid; ESRCH when there is none or it is a zombie.
    pub(crate) fn find(pid: u32) -> io::Result<Process> {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok();
        let start = stat.as_deref().and_then(start_of_living).ok_or_else(no_process)?;
        Ok(Process { pid, start })
    }

    /// This process.
    pub(crate) fn own() -> io::Result<Process> {
        Process::find(std::process::id())
    }

    /// Whether it still runs.
    pub(crate) fn is_alive(self) -> bool {
        Process::find(self.pid).is_ok_and(|found| found == self)
    }

    /// Sends a signal, unless the process is gone.
    pub(crate) fn signal(self, signal: Signal) {
        if self.is_alive()
            && let Ok(pid) = raw(self.pid)
        {
            // It may have ended since, which is as good.
            let _ = kill_process(pid, signal);
        }
    }

    /// CPU time of each of its threads, ns, by thread id.
    ///
    /// `schedstat` counts in ns where `stat` counts in ticks of 10 ms; a running thread's number lags by at most one
    /// scheduler tick (4 ms at 250 Hz).
    pub(crate) fn cpu_ns_by_thread(self) -> BTreeMap<u32, u64> {
        let mut times = BTreeMap::new();
        for tid in threads(self.pid).unwrap_or_default() {
            let text = fs::read_to_string(format!("/proc/{}/task/{tid}/schedstat", self.pid)).unwrap_or_default();
            if let Some(ns) = text.split_whitespace().next().and_then(|ns| ns.parse().ok()) {
                times.insert(tid, ns);
            }
        }
        times
    }

    /// Memory it holds that no file backs, MiB.
    pub(crate) fn anonymous_mib(self) -> u64 {
        let text = fs::read_to_string(format!("/proc/{}/status", self.pid)).unwrap_or_default();
        let kib = |line: &str| line.split_whitespace().nth(1).and_then(|kib| kib.parse::<u64>().ok());
        text.lines().find(|line| line.starts_with("RssAnon:")).and_then(kib).unwrap_or(0) / 1024
    }

    /// Pins all its threads to these cores; threads started later inherit it.
    pub(crate) fn pin(self, cores: &[usize]) -> io::Result<()> {
        let mut set = CpuSet::new();
        cores.iter().for_each(|&core| set.set(core));
        self.for_each_thread(|tid| sched_setaffinity(Some(tid), &set))
    }

    /// Sets the nice value of all its threads; threads started later inherit it.
    pub(crate) fn renice(self, nice: i32) -> io::Result<()> {
        self.for_each_thread(|tid| setpriority_process(Some(tid), nice))
    }

    /// Bounds its private writable memory, MiB; `None` lifts the bound.
    ///
    /// Only the soft limit moves, so that no privilege is needed to lift it again.
    pub(crate) fn limit_data(self, mib: Option<u64>) -> io::Result<()> {
        let pid = Some(raw(self.pid)?);
        // prlimit tells the old limits only while setting new ones, hence the hard limit from /proc.
        let maximum = hard_data_limit(self.pid);
        let bytes = mib.map(|mib| mib.saturating_mul(1024 * 1024));
        let current = match (bytes, maximum) {
            (Some(bytes), Some(maximum)) => Some(bytes.min(maximum)),
            (bytes, maximum) => bytes.or(maximum),
        };
        prlimit(pid, Resource::Data, Rlimit { current, maximum })?;
        Ok(())
    }

    /// Applies `change` to all threads, until a look at them finds none that it was not applied to: a thread not yet
    /// changed may have started another one meanwhile.
    fn for_each_thread(self, change: impl Fn(Pid) -> rustix::io::Result<()>) -> io::Result<()> {
        let mut done = Vec::new();
        loop {
            let new: Vec<u32> = threads(self.pid)?.into_iter().filter(|tid| !done.contains(tid)).collect();
            if new.is_empty() {
                return Ok(());
            }
            for tid in new {
                match change(raw(tid)?) {
                    Ok(()) | Err(rustix::io::Errno::SRCH) => done.push(tid),
                    Err(error) => return Err(error.into()),
                }
            }
        }
    }
}

fn no_process() -> io::Error {
    rustix::io::Errno::SRCH.into()
}

fn raw(pid: u32) -> io::Result<Pid> {
    i32::try_from(pid).ok().and_then(Pid::from_raw).ok_or_else(no_process)
}

fn threads(pid: u32) -> io::Result<Vec<u32>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(format!("/proc/{pid}/task"))? {
        found.extend(entry?.file_name().to_str().and_then(|name| name.parse::<u32>().ok()));
    }
    Ok(found)
}

/// Field 22 of `/proc/<pid>/stat`, unless the process is a zombie or dead (proc(5)).
fn start_of_living(stat: &str) -> Option<u64> {
    // The second field is the name in parentheses, which may itself hold spaces and parentheses.
    let after_name = &stat[stat.rfind(')')? + 1..];
    let mut fields = after_name.split_whitespace();
    if matches!(fields.next()?, "Z" | "X" | "x") {
        return None;
    }
    fields.nth(18)?.parse().ok()
}

fn hard_data_limit(pid: u32) -> Option<u64> {
    let text = fs::read_to_string(format!("/proc/{pid}/limits")).unwrap_or_default();
    let line = text.lines().find(|line| line.starts_with("Max data size"))?;
    line.split_whitespace().nth(4)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_is_known_by_pid_and_start() {
        let own = Process::own().unwrap();
        assert!(own.is_alive());
        assert!(!Process { start: own.start + 1, ..own }.is_alive());
        assert!(!own.cpu_ns_by_thread().is_empty());
        assert_eq!(Process::find(u32::MAX).unwrap_err().raw_os_error(), Some(3));
    }

    #[test]
    fn a_name_with_parentheses_and_a_zombie_are_read_right() {
        let rest = "1 1 1 0 -1 4194560 1 0 0 0 0 0 0 0 20 0 1 0 4711 1 1";
        assert_eq!(start_of_living(&format!("7 (a) b) S {rest}")), Some(4711));
        assert_eq!(start_of_living(&format!("7 (a) Z {rest}")), None);
        assert_eq!(start_of_living("nonsense"), None);
    }
}
