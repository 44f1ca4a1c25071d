//! What a worker prints goes to this process's log, at a bounded rate.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::io::{AsyncBufReadExt, AsyncRead, AsyncReadExt, BufReader};
use tokio::time::Instant;
use tracing::{debug, error, info, warn};

/// Longest line; longer ones are split.
const LINE_LEN: u64 = 4096;

/// Lines per second and stream: enough for a start or a backtrace, too few to fill a disk.
const LINES_PER_SECOND: u32 = 50;

/// The last line of a worker's standard error.
#[derive(Clone, Debug, Default)]
pub(super) struct LastWords(Arc<Mutex<Option<String>>>);

impl LastWords {
    pub(super) fn take(&self) -> Option<String> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    fn set(&self, line: &str) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(line.to_owned());
    }
}

/// Logs every line of `stream` until it ends; remembers the last one in `last`.
pub(super) async fn forward(name: String, stream: impl AsyncRead + Unpin, last: Option<LastWords>) {
    let mut stream = BufReader::new(stream);
    let mut line = Vec::new();
    let mut rate = Rate::new(Instant::now());
    loop {
        line.clear();
        match (&mut stream).take(LINE_LEN).read_until(b'\n', &mut line).await {
            Ok(0) | Err(_) => break,
            Ok(_) => {}
        }
        let line = String::from_utf8_lossy(&line);
        let line = line.trim();
        if line.is_empty() {
            continue;
        }
        last.iter().for_each(|last| last.set(line));
        let (pass, dropped) = rate.admit(Instant::now());
        report_dropped(&name, dropped);
        if pass {
            log(&name, line);
        }
    }
    report_dropped(&name, rate.dropped);
}

fn report_dropped(name: &str, lines: u64) {
    if lines > 0 {
        warn!(worker = name, lines, "worker prints too much; lines dropped");
    }
}

/// The worker logs through `tracing` too, level first.
fn log(worker: &str, line: &str) {
    match line.split_once(' ').unwrap_or((line, "")) {
        ("ERROR", rest) => error!(worker, "{rest}"),
        ("WARN", rest) => warn!(worker, "{rest}"),
        ("INFO", rest) => info!(worker, "{rest}"),
        ("DEBUG" | "TRACE", rest) => debug!(worker, "{rest}"),
        _ => info!(worker, "{line}"),
    }
}

struct Rate {
    since: Instant,
    lines: u32,
    dropped: u64,
}

impl Rate {
    fn new(now: Instant) -> Rate {
        Rate { since: now, lines: 0, dropped: 0 }
    }

    /// Whether a line may pass, and how many were dropped before this second.
    fn admit(&mut self, now: Instant) -> (bool, u64) {
        let mut dropped = 0;
        if now - self.since >= Duration::from_secs(1) {
            dropped = self.dropped;
            *self = Rate::new(now);
        }
        self.lines += 1;
        let pass = self.lines <= LINES_PER_SECOND;
        self.dropped += u64::from(!pass);
        (pass, dropped)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_over_the_rate_are_counted_and_the_next_second_starts_afresh() {
        let start = Instant::now();
        let mut rate = Rate::new(start);
        let passed = (0..60).filter(|_| rate.admit(start).0).count();
        assert_eq!(passed, LINES_PER_SECOND as usize);
        assert_eq!(rate.admit(start + Duration::from_secs(1)), (true, 10));
    }

    #[tokio::test]
    async fn the_last_words_are_the_last_line_that_says_something() {
        let last = LastWords::default();
        forward("w".into(), &b"one\n\xfftwo\n\n"[..], Some(last.clone())).await;
        assert_eq!(last.take().as_deref(), Some("\u{fffd}two"));
    }
}
