//! What the live server logs: its decisions, and its complaints.

use std::fmt::Debug;
use std::sync::{Arc, Mutex, PoisonError};

use tracing::field::{Field, Visit};
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::layer::{Context, Layer};

/// Lines heard so far.
#[derive(Clone, Debug, Default)]
pub struct Log {
    decisions: Arc<Mutex<Vec<String>>>,
    complaints: Arc<Mutex<Vec<String>>>,
}

impl Log {
    pub fn decisions(&self) -> Vec<String> {
        self.decisions.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Everything at level WARN and above.
    pub fn complaints(&self) -> Vec<String> {
        self.complaints.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl<S: Subscriber> Layer<S> for Log {
    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        let list = match (event.metadata().target(), *event.metadata().level()) {
            ("migrator::decision", _) => &self.decisions,
            (target, Level::WARN | Level::ERROR) if target.starts_with("migrator") => &self.complaints,
            _ => return,
        };
        let mut line = Line::default();
        event.record(&mut line);
        list.lock().unwrap_or_else(PoisonError::into_inner).push(line.message + &line.rest);
    }
}

#[derive(Default)]
struct Line {
    message: String,
    rest: String,
}

impl Visit for Line {
    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        match field.name() {
            "message" => self.message = format!("{value:?}"),
            name => self.rest += &format!(" {name}={value:?}"),
        }
    }
}
