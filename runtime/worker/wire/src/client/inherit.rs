//! Hands one end of a socket pair to a child process as [`WORKER_FD`]. The only unsafe code of this crate.
#![allow(unsafe_code)]

use std::io;
use std::mem::ManuallyDrop;
use std::os::fd::{AsFd, FromRawFd, OwnedFd};

use rustix::io::{dup2, fcntl_dupfd_cloexec};
use tokio::process::Command;

use crate::message::WORKER_FD;

/// Starts `command` with `end` as its [`WORKER_FD`]; this process keeps no copy of it.
pub(super) fn spawn_with(mut command: Command, end: impl AsFd) -> io::Result<tokio::process::Child> {
    // A number well above WORKER_FD, so that dup2 in the child is never a no-op, which would leave close-on-exec set.
    // The caller's `end` stays open meanwhile: it keeps low numbers taken, so that the pipe by which std reports a failed exec
    // is not the WORKER_FD that dup2 replaces.
    let high: OwnedFd = fcntl_dupfd_cloexec(end, WORKER_FD + 1)?;
    let place_it = move || -> io::Result<()> {
        // SAFETY: the number is only borrowed as the target of dup2, which closes what it was; it is never dropped, and this
        // child's image, with every owner of that number, is about to be replaced by exec.
        let mut target = ManuallyDrop::new(unsafe { OwnedFd::from_raw_fd(WORKER_FD) });
        Ok(dup2(&high, &mut target)?)
    };
    // SAFETY: between fork and exec the closure makes one system call; it allocates nothing and takes no lock.
    unsafe { command.pre_exec(place_it) };
    command.spawn()
}
