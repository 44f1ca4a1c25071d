//! How far a batch is, on standard error: a bar on a terminal, else a line now and then.

use std::io::IsTerminal;
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use super::batch::Done;

/// Pause between two lines where there is no terminal.
const PAUSE: Duration = Duration::from_secs(5);

/// Tells how far a batch is.
pub struct Progress {
    total: Done,
    start: Instant,
    form: Form,
}

enum Form {
    Bar(ProgressBar),
    Lines { last: Instant },
    Silent,
}

impl Progress {
    /// Tells of a batch of `total`; nothing when `quiet`.
    pub fn new(total: Done, quiet: bool) -> Progress {
        let start = Instant::now();
        let form = match (quiet, std::io::stderr().is_terminal()) {
            (true, _) => Form::Silent,
            (false, true) => Form::Bar(bar(total.seconds)),
            (false, false) => Form::Lines { last: start },
        };
        Progress { total, start, form }
    }

    /// It is so far.
    pub fn at(&mut self, done: Done) {
        let elapsed = self.start.elapsed();
        let message = message(done, self.total, elapsed.as_secs_f64());
        match &mut self.form {
            Form::Bar(bar) => {
                bar.set_position(done.seconds);
                bar.set_message(message);
            }
            Form::Lines { last } if last.elapsed() >= PAUSE => {
                *last = Instant::now();
                eprintln!("{message}");
            }
            Form::Lines { .. } | Form::Silent => {}
        }
    }

    /// It is over.
    pub fn end(&self) {
        if let Form::Bar(bar) = &self.form {
            bar.finish_and_clear();
        }
    }
}

fn bar(seconds: u64) -> ProgressBar {
    let style = ProgressStyle::with_template("{elapsed_precise} [{bar:30}] {msg}").unwrap_or_else(|_| ProgressStyle::default_bar());
    ProgressBar::with_draw_target(Some(seconds), ProgressDrawTarget::stderr()).with_style(style)
}

fn message(done: Done, total: Done, elapsed_s: f64) -> String {
    let rate = done.seconds as f64 / elapsed_s.max(1e-3);
    let left = total.seconds.saturating_sub(done.seconds) as f64;
    let eta = if rate > 0.0 { format!("{:.0} s to go", left / rate) } else { "waiting".to_owned() };
    format!("{} of {} simulated seconds, {} of {} runs, {rate:.0} s/s, {eta}", done.seconds, total.seconds, done.runs, total.runs)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_message_tells_what_is_done_and_what_is_left() {
        let (done, total) = (Done { seconds: 600, runs: 1 }, Done { seconds: 3600, runs: 6 });
        assert_eq!(message(done, total, 2.0), "600 of 3600 simulated seconds, 1 of 6 runs, 300 s/s, 10 s to go");
        assert!(message(Done::default(), total, 0.0).ends_with("0 s/s, waiting"));
    }
}
