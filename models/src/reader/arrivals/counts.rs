//! CSV of `second,count`, seconds rising.

use super::{Lines, MAX_SECONDS, ReadError, Trace, count, shown, whole};

const EXPECTED: &str = "`second,count`: two whole numbers, seconds rising by 1 from 0";

pub(super) fn read(lines: &Lines<'_>, skip: usize, gaps_are_zero: bool) -> Result<Trace, ReadError> {
    let mut counts: Vec<u32> = Vec::new();
    for (number, line) in lines.rows(skip) {
        let (second, count) = parse(line).map_err(|what| lines.bad(number, what, EXPECTED))?;
        let next = counts.len();
        follows(second, next).map_err(|what| lines.bad(number, what, EXPECTED))?;
        if second > next && !gaps_are_zero {
            let what = format!("second {second} stands where second {next} is due");
            return Err(lines.bad(number, what, "every second, or gaps = \"zero\" where those left out had no arrivals"));
        }
        counts.resize(second, 0);
        counts.push(count);
    }
    if counts.is_empty() {
        return Err(ReadError::empty(lines.path, EXPECTED));
    }
    Ok(Trace::Counts { counts, each_s: 1.0 })
}

fn parse(line: &str) -> Result<(usize, u32), String> {
    let (second, requests) = line.split_once(',').ok_or_else(|| format!("{} has no comma", shown(line)))?;
    Ok((whole("second", second)? as usize, count(requests, 1)?))
}

/// Whether a second may stand where `next` is due.
fn follows(second: usize, next: usize) -> Result<(), String> {
    if second >= MAX_SECONDS {
        return Err(format!("second {second} is beyond {} days", MAX_SECONDS / 86_400));
    }
    if second < next {
        return Err(format!("second {second} comes after second {}", next - 1));
    }
    Ok(())
}
