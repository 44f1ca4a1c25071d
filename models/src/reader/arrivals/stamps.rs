//! The time of each request in the first column, with or without a header, other columns ignored (Azure LLM's are token counts).

use std::time::UNIX_EPOCH;

use super::{Lines, MAX_SECONDS, ReadError, Trace, shown};

const EXPECTED: &str = "a time in seconds or like 2023-11-16 18:17:03.98, not before the line above";

pub(super) fn read(lines: &Lines<'_>, skip: usize) -> Result<Trace, ReadError> {
    let mut times: Vec<f64> = Vec::new();
    let mut before = "";
    for (number, line) in lines.rows(skip) {
        let field = line.split(',').next().unwrap_or_default().trim();
        let bad = |what: String| Err(lines.bad(number, what, EXPECTED));
        let Some(time) = time(field) else { return bad(format!("{} is not a time", shown(field))) };
        if time < 0.0 {
            return bad(format!("time {} is negative", shown(field)));
        }
        let start = times.first().copied().unwrap_or(time);
        if times.last().is_some_and(|last| time < *last) {
            return bad(format!("time {} comes after {}", shown(field), shown(before)));
        }
        if time - start >= MAX_SECONDS as f64 {
            return bad(format!("time {} is more than {} days after the first", shown(field), MAX_SECONDS / 86_400));
        }
        times.push(time);
        before = field;
    }
    let Some(start) = times.first().copied() else { return Err(ReadError::empty(lines.path, EXPECTED)) };
    times.iter_mut().for_each(|time| *time -= start);
    Ok(Trace::Stamps(times))
}

/// Seconds that a field says, of any origin; `None` = it says no time.
pub(super) fn time(field: &str) -> Option<f64> {
    match field.parse::<f64>() {
        Ok(seconds) => Some(seconds).filter(|seconds| seconds.is_finite()),
        Err(_) => date(field),
    }
}

/// Whether a field is a date.
pub(super) fn is_date(field: &str) -> bool {
    date(field).is_some()
}

fn date(field: &str) -> Option<f64> {
    let at = humantime::parse_rfc3339_weak(field).ok()?;
    at.duration_since(UNIX_EPOCH).ok().map(|since| since.as_secs_f64())
}
