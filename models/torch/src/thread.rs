//! One thread per call, and what it spent.

use std::cell::Cell;

use rustix::time::{ClockId, clock_gettime};

use crate::{place, upload};

/// Makes libtorch compute on this thread alone, without a pool of its own: executors are the caller's threads, and their CPU
/// time is what instances are billed for. Cheap after the first call on a thread.
pub(crate) fn alone() {
    thread_local!(static DONE: Cell<bool> = const { Cell::new(false) });
    // OpenMP keeps the setting per thread, so once per process is not enough.
    DONE.with(|done| {
        if !done.replace(true) {
            tch::set_num_threads(1);
        }
    });
    if place::device().is_cuda() {
        upload::own_stream();
    }
}

/// Seconds that count as spent by the calling thread: of the CPU, or all that pass where it waits for a GPU.
pub(crate) fn spent_s() -> f64 {
    seconds(if place::device().is_cuda() { ClockId::Monotonic } else { ClockId::ThreadCPUTime })
}

fn seconds(clock: ClockId) -> f64 {
    let now = clock_gettime(clock);
    now.tv_sec as f64 + now.tv_nsec as f64 * 1e-9
}
