//! Structured logs on standard error, whose level can be changed while the program runs.

use std::io::IsTerminal;
use std::sync::{Mutex, OnceLock, PoisonError};

use tracing_subscriber::EnvFilter;

use crate::cli::LogFormat;

/// What logging does now.
struct Running {
    format: LogFormat,
    filter: Mutex<String>,
    change: Box<dyn Fn(EnvFilter) -> Result<(), String> + Send + Sync>,
}

static RUNNING: OnceLock<Running> = OnceLock::new();

/// Starts logging.
///
/// # Errors
/// When the filter cannot be understood.
pub fn start(filter: &str, format: LogFormat) -> anyhow::Result<()> {
    let parsed: EnvFilter = filter.parse()?;
    let subscriber =
        tracing_subscriber::fmt().with_env_filter(parsed).with_ansi(std::io::stderr().is_terminal()).with_writer(std::io::stderr);
    let change: Box<dyn Fn(EnvFilter) -> Result<(), String> + Send + Sync> = match format {
        LogFormat::Text => {
            let subscriber = subscriber.with_filter_reloading();
            let handle = subscriber.reload_handle();
            subscriber.init();
            Box::new(move |filter| handle.reload(filter).map_err(|e| e.to_string()))
        }
        LogFormat::Json => {
            let subscriber = subscriber.json().flatten_event(true).with_filter_reloading();
            let handle = subscriber.reload_handle();
            subscriber.init();
            Box::new(move |filter| handle.reload(filter).map_err(|e| e.to_string()))
        }
    };
    let _ = RUNNING.set(Running { format, filter: Mutex::new(filter.to_owned()), change });
    Ok(())
}

/// The filter in force; `None` when logging was not started.
pub fn filter() -> Option<String> {
    RUNNING.get().map(|running| running.filter.lock().unwrap_or_else(PoisonError::into_inner).clone())
}

/// The format; text when logging was not started.
pub fn format() -> LogFormat {
    RUNNING.get().map_or(LogFormat::Text, |running| running.format)
}

/// Logs by another filter from now on.
///
/// # Errors
/// One line: it cannot be understood, or logging was not started.
pub fn change(filter: &str) -> Result<(), String> {
    let running = RUNNING.get().ok_or("logging was not started")?;
    let parsed: EnvFilter = filter.parse().map_err(|e: tracing_subscriber::filter::ParseError| e.to_string())?;
    // Held across the change, so that what is told is what is in force.
    let mut current = running.filter.lock().unwrap_or_else(PoisonError::into_inner);
    (running.change)(parsed)?;
    filter.clone_into(&mut current);
    Ok(())
}
