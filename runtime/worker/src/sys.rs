//! What std has no safe call for. The only unsafe code of the worker.
#![allow(unsafe_code)]

use std::os::fd::{BorrowedFd, FromRawFd};
use std::os::unix::net::UnixStream;
use std::sync::atomic::{AtomicBool, Ordering};

use migrator_wire::message::WORKER_FD;
use rustix::io::{FdFlags, fcntl_setfd};
use rustix::net::sockopt::{socket_domain, socket_type};
use rustix::net::{AddressFamily, SocketType};

/// The socket to the server that this process was started with; `None` when there is none, or at the second call.
pub(crate) fn claim_socket() -> Option<UnixStream> {
    static CLAIMED: AtomicBool = AtomicBool::new(false);
    if CLAIMED.swap(true, Ordering::Relaxed) {
        return None;
    }
    // SAFETY: nothing closes the number meanwhile, for nothing of this process owns it before the line below; where it is not
    // open at all, both calls say so.
    let candidate = unsafe { BorrowedFd::borrow_raw(WORKER_FD) };
    let is_stream = socket_type(candidate) == Ok(SocketType::STREAM) && socket_domain(candidate) == Ok(AddressFamily::UNIX);
    if !is_stream {
        return None;
    }
    fcntl_setfd(candidate, FdFlags::CLOEXEC).ok()?;
    // SAFETY: it is an open socket (just asked), inherited from the parent for this very purpose, and claimed only once.
    Some(unsafe { UnixStream::from_raw_fd(WORKER_FD) })
}

/// Ends the process without running destructors: other threads may be deep inside libtorch, whose own would crash under them.
pub(crate) fn exit_now(code: i32) -> ! {
    // SAFETY: `_exit` takes any number and touches no memory of this process.
    unsafe { libc::_exit(code) }
}

/// When a worker ends is for the server to decide, who gets the terminal's Ctrl-C as well.
pub(crate) fn ignore_interrupts() {
    for signal in [libc::SIGINT, libc::SIGTERM, libc::SIGHUP] {
        // SAFETY: ignoring installs no handler, so there is no code that would have to be async-signal-safe.
        unsafe { libc::signal(signal, libc::SIG_IGN) };
    }
}
