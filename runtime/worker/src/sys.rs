//! What std has no safe call for; `cuda` has the rest of the worker's unsafe code.
#![allow(unsafe_code)]

use std::cell::UnsafeCell;
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

/// The entry `CUDA_VISIBLE_DEVICES=…` of this process's environment, which CUDA reads when it is initialised.
struct Visible(UnsafeCell<[u8; VISIBLE_LEN]>);

/// The name, and a UUID of 40 bytes, several times over.
const VISIBLE_LEN: usize = 160;

const VISIBLE_NAME: &[u8] = b"CUDA_VISIBLE_DEVICES=";

// SAFETY: `show` alone writes it, once.
unsafe impl Sync for Visible {}

static VISIBLE: Visible = Visible(UnsafeCell::new([0; VISIBLE_LEN]));

/// Hides all GPUs from CUDA and readies the environment for [`show`]. To be called once, before there is a second thread.
pub(crate) fn hide_gpus() {
    // Segments that grow ask for rights on the whole GPU, which an instance does not give (pytorch#112377).
    if std::env::var_os("PYTORCH_CUDA_ALLOC_CONF").is_none() && std::env::var_os("PYTORCH_ALLOC_CONF").is_none() {
        // SAFETY: there is no other thread yet that could read the environment.
        unsafe { std::env::set_var("PYTORCH_CUDA_ALLOC_CONF", "expandable_segments:False") };
    }
    let entry = VISIBLE.0.get().cast::<u8>();
    // SAFETY: the name fits, and zeros follow it; nobody else knows the entry yet. `putenv` takes the array itself into the
    // environment, which a static outlives, and there is no other thread yet that could read it.
    unsafe {
        std::ptr::copy_nonoverlapping(VISIBLE_NAME.as_ptr(), entry, VISIBLE_NAME.len());
        libc::putenv(entry.cast());
    }
}

/// Lets CUDA see this device and no other, when it is initialised; false when the name is too long, holds a zero, or at the second call.
pub(crate) fn show(visible: &str) -> bool {
    static SHOWN: AtomicBool = AtomicBool::new(false);
    let room = VISIBLE_LEN - VISIBLE_NAME.len() - 1;
    if visible.len() > room || visible.contains('\0') || SHOWN.swap(true, Ordering::Relaxed) {
        return false;
    }
    // SAFETY: it fits and leaves a zero at the end. Whoever looks for another variable meanwhile compares names, which do not
    // change; the value is read by CUDA's initialisation alone, which the caller begins after this.
    unsafe { std::ptr::copy_nonoverlapping(visible.as_ptr(), VISIBLE.0.get().cast::<u8>().add(VISIBLE_NAME.len()), visible.len()) };
    true
}

/// Ends the process without running destructors: other threads may be deep inside libtorch, whose own would crash under them.
pub(crate) fn exit_now(code: i32) -> ! {
    // SAFETY: `_exit` takes any number and touches no memory of this process.
    unsafe { libc::_exit(code) }
}

/// Gives free memory of the heap back to the system; what is freed in passing the allocator keeps, for it is wanted again soon.
pub(crate) fn trim() {
    // Only glibc's allocator has this call.
    #[cfg(target_env = "gnu")]
    // SAFETY: it may be called at any time, from any thread, and touches nothing that is in use.
    unsafe {
        libc::malloc_trim(0);
    }
}

/// When a worker ends is for the server to decide, who gets the terminal's Ctrl-C as well.
pub(crate) fn ignore_interrupts() {
    for signal in [libc::SIGINT, libc::SIGTERM, libc::SIGHUP] {
        // SAFETY: ignoring installs no handler, so there is no code that would have to be async-signal-safe.
        unsafe { libc::signal(signal, libc::SIG_IGN) };
    }
}
