//! Request arrivals: CSV of `second,count`, with or without a header, seconds rising; missing seconds count as zero.

use std::path::Path;

use super::error::{ReadError, shown};

const EXPECTED: &str = "`second,count`: two whole numbers, seconds rising from 0";
/// Longest trace: a day. Guards against a timestamp in the place of a second, which would ask for gigabytes of zeros.
const MAX_SECONDS: usize = 86_400;

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

/// Reads a trace.
///
/// # Errors
/// [`ReadError`] with file and line.
pub fn read_arrivals(path: &Path) -> Result<Arrivals, ReadError> {
    let text = super::read_to_string(path)?;
    let mut arrivals = Arrivals::default();
    for (index, line) in text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty()) {
        match parse(line) {
            Ok((second, count)) => {
                push(&mut arrivals, second, count).map_err(|what| ReadError::at_line(path, index + 1, what, EXPECTED))?
            }
            Err(_) if index == 0 && is_header(line) => {}
            Err(what) => return Err(ReadError::at_line(path, index + 1, what, EXPECTED)),
        }
    }
    if arrivals.counts.is_empty() {
        return Err(ReadError::empty(path, EXPECTED));
    }
    Ok(arrivals)
}

fn parse(line: &str) -> Result<(usize, u32), String> {
    let (second, count) = line.split_once(',').ok_or_else(|| format!("{} has no comma", shown(line)))?;
    let second = second.trim().parse().map_err(|_| format!("second {} is not a whole number", shown(second)))?;
    let count = count.trim().parse().map_err(|_| format!("count {} is not a whole number", shown(count)))?;
    Ok((second, count))
}

fn is_header(line: &str) -> bool {
    line.split(',').count() == 2 && line.split(',').all(|field| field.trim().parse::<f64>().is_err())
}

fn push(arrivals: &mut Arrivals, second: usize, count: u32) -> Result<(), String> {
    if second >= MAX_SECONDS {
        return Err(format!("second {second} is beyond one day ({MAX_SECONDS} s)"));
    }
    if second < arrivals.counts.len() {
        return Err(format!("second {second} comes after second {}", arrivals.counts.len() - 1));
    }
    arrivals.counts.resize(second, 0);
    arrivals.counts.push(count);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::reader::{Given, real};

    fn file(name: &str, text: &str) -> Given {
        Given::new(&format!("{name}.csv"), text.as_bytes())
    }

    fn error(name: &str, text: &str) -> String {
        read_arrivals(&file(name, text)).unwrap_err().to_string()
    }

    #[test]
    fn a_header_is_optional_and_gaps_are_zero() {
        let with = read_arrivals(&file("with", "second,count\n0,3\n2,5\n")).unwrap();
        let without = read_arrivals(&file("without", "0,3\n2,5\n")).unwrap();
        assert_eq!(with.counts, [3, 0, 5]);
        assert_eq!(with, without);
        assert!((with.mean_rps() - 8.0 / 3.0).abs() < 1e-9);
    }

    #[test]
    fn an_error_names_file_line_and_what_is_right() {
        let text = error("bad", "second,count\n0,3\n1,-2\n");
        assert!(text.contains("bad.csv:3: count `-2` is not a whole number; expected `second,count`"), "{text}");
        assert!(error("order", "0,1\n5,1\n4,1\n").contains(":3: second 4 comes after second 5"));
        assert!(error("header", "0;1\n").contains(":1: `0;1` has no comma"));
        assert!(error("stamp", "1700000000,1\n").contains("beyond one day"));
        assert!(error("empty", "second,count\n").contains("holds no rows"));
    }

    #[test]
    fn real_traces_are_read() {
        let Some(path) = real::file("arrivals/common/twitter2021_h338_steady.csv") else { return };
        let arrivals = read_arrivals(&path).unwrap();
        assert!(arrivals.counts.len() >= 600 && arrivals.mean_rps() > 0.0, "{} s", arrivals.counts.len());
    }
}
