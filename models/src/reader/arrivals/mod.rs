//! Recorded arrivals: counts by second, counts by minute of one Azure function, or the time of each request; told apart by the first line.
//!
//! Read in the order [`Trace`], [`read_trace`], then one module per format.

mod counts;
mod functions;
mod stamps;
#[cfg(test)]
mod tests;

use std::path::Path;

use rand::Rng;
use rand::rngs::StdRng;

use super::error::{ReadError, shown};

/// Longest trace, seconds: 31 days. Guards against a timestamp in the place of a second, which would ask for gigabytes of zeros.
const MAX_SECONDS: usize = 31 * 86_400;
/// Most arrivals in a second.
const MAX_COUNT: u32 = 1_000_000;

const KNOWN: &str = "`second,count`; Azure Functions' `HashOwner,HashApp,HashFunction,Trigger,1,2,…`; Azure LLM's \
                     `TIMESTAMP,ContextTokens,GeneratedTokens`; or one time a line, in seconds or like 2023-11-16 18:17:03.98";

/// Arrivals as they were recorded.
#[derive(Clone, Debug, PartialEq)]
pub enum Trace {
    /// Requests in each stretch of so many seconds.
    Counts {
        /// Requests in each stretch.
        counts: Vec<u32>,
        /// Length of a stretch, seconds.
        each_s: f64,
    },
    /// Seconds of each request after the first one, rising.
    Stamps(Vec<f64>),
}

/// How a trace is read.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TraceOptions {
    /// Whether seconds that a file of counts leaves out had no arrivals; otherwise a gap is an error.
    pub gaps_are_zero: bool,
    /// Which function of an Azure Functions file.
    pub row: Option<Row>,
}

/// A row of an Azure Functions file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Row {
    /// Counted from 0, without the header.
    Index(usize),
    /// The one whose function's hash begins like this.
    Function(String),
}

/// Requests per second of one trace.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Arrivals {
    /// Requests in each second from the start.
    pub counts: Vec<u32>,
}

impl Arrivals {
    /// Mean requests/s over the trace.
    pub fn mean_rps(&self) -> f64 {
        let total: u64 = self.counts.iter().map(|&n| u64::from(n)).sum();
        total as f64 / self.counts.len().max(1) as f64
    }
}

impl Trace {
    /// Requests in each second when it is run `compress` times faster than recorded. What was recorded more coarsely than by second is spread at
    /// random inside its stretch.
    pub fn seconds(&self, compress: f64, rng: &mut StdRng) -> Arrivals {
        let counts = match self {
            Trace::Counts { counts, each_s } if *each_s == compress => counts.clone(),
            Trace::Counts { counts, each_s } => spread(counts, each_s / compress, rng),
            Trace::Stamps(times) => {
                let mut counts = vec![0; (times.last().copied().unwrap_or(0.0) / compress) as usize + 1];
                times.iter().for_each(|time| add(&mut counts, (time / compress) as usize));
                counts
            }
        };
        Arrivals { counts }
    }
}

fn spread(counts: &[u32], each_s: f64, rng: &mut StdRng) -> Vec<u32> {
    let mut seconds = vec![0; (counts.len() as f64 * each_s).ceil() as usize];
    for (stretch, &count) in counts.iter().enumerate() {
        for _ in 0..count {
            add(&mut seconds, ((stretch as f64 + rng.random::<f64>()) * each_s) as usize);
        }
    }
    seconds
}

fn add(counts: &mut [u32], second: usize) {
    if let Some(count) = counts.get_mut(second) {
        *count = count.saturating_add(1);
    }
}

/// Reads a trace by second as it was recorded; seconds that a file leaves out had no arrivals, and of Azure Functions the only row is taken.
///
/// # Errors
/// As [`read_trace`].
pub fn read_arrivals(path: &Path) -> Result<Arrivals, ReadError> {
    use rand::SeedableRng as _;
    let trace = read_trace(path, &TraceOptions { gaps_are_zero: true, row: None })?;
    Ok(trace.seconds(1.0, &mut StdRng::seed_from_u64(0)))
}

/// Reads a trace.
///
/// # Errors
/// [`ReadError`] with file, line and what would be right: an unknown first line, no rows, no number, a number below zero or beyond reason, time
/// that runs backwards, a gap.
pub fn read_trace(path: &Path, options: &TraceOptions) -> Result<Trace, ReadError> {
    let bytes = std::fs::read(path).map_err(|source| ReadError::io(path, source))?;
    let text =
        String::from_utf8(bytes).map_err(|e| ReadError::at_byte(path, e.utf8_error().valid_up_to() as u64, "is not UTF-8", KNOWN))?;
    let lines = Lines { path, lines: text.trim_start_matches('\u{feff}').lines().map(str::trim).collect() };
    let Some((number, first)) = lines.rows(0).next() else { return Err(ReadError::empty(path, KNOWN)) };
    let fields: Vec<&str> = first.split(',').map(str::trim).collect();
    let headed = |names: &[&str]| names.iter().any(|name| fields[0].eq_ignore_ascii_case(name));
    match fields.len() {
        _ if headed(&["HashOwner"]) => functions::read(&lines, number, options.row.as_ref()),
        _ if headed(&["timestamp", "time", "arrival", "arrival_time"]) => stamps::read(&lines, number),
        1 if stamps::time(fields[0]).is_some() => stamps::read(&lines, 0),
        _ if stamps::is_date(fields[0]) => stamps::read(&lines, 0),
        2 if fields.iter().all(|field| field.parse::<f64>().is_err()) => counts::read(&lines, number, options.gaps_are_zero),
        2 => counts::read(&lines, 0, options.gaps_are_zero),
        _ => Err(lines.bad(number, format!("{} begins no trace that is known", shown(first)), KNOWN)),
    }
}

/// The lines of a file, trimmed.
struct Lines<'t> {
    path: &'t Path,
    lines: Vec<&'t str>,
}

impl<'t> Lines<'t> {
    /// The lines after the first `skip` that are not empty, with their numbers from 1.
    fn rows(&self, skip: usize) -> impl Iterator<Item = (usize, &'t str)> {
        self.lines.iter().enumerate().skip(skip).filter(|(_, line)| !line.is_empty()).map(|(index, line)| (index + 1, *line))
    }

    fn bad(&self, line: usize, what: String, expected: &str) -> ReadError {
        ReadError::at_line(self.path, line, what, expected)
    }
}

/// A whole number from 0, or what is wrong with it.
fn whole(name: &str, field: &str) -> Result<u64, String> {
    let field = field.trim();
    field.parse().map_err(|_| match field.parse::<f64>() {
        Ok(number) if number < 0.0 => format!("{name} {} is negative", shown(field)),
        _ => format!("{name} {} is not a whole number", shown(field)),
    })
}

/// A count of arrivals in `each_s` seconds, or what is wrong with it.
fn count(field: &str, each_s: u32) -> Result<u32, String> {
    let most = MAX_COUNT.saturating_mul(each_s);
    let count = whole("count", field)?;
    u32::try_from(count).ok().filter(|count| *count <= most).ok_or_else(|| format!("count {count} is beyond reason, more than {most}"))
}
