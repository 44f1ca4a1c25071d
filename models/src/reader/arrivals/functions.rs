//! Azure Functions 2019: one row a function, its counts by minute of a day in the columns after the fourth.

use super::{Lines, ReadError, Row, Trace, count, shown};

/// Columns before the counts: owner, app and function as hashes, and the trigger.
const BEFORE: usize = 4;
const FUNCTION: usize = 2;
const MINUTE_S: u32 = 60;
const EXPECTED: &str = "`HashOwner,HashApp,HashFunction,Trigger` and a whole number for each minute";

pub(super) fn read(lines: &Lines<'_>, header: usize, row: Option<&Row>) -> Result<Trace, ReadError> {
    let minutes = lines.lines[header - 1].split(',').count().saturating_sub(BEFORE);
    if minutes == 0 {
        return Err(lines.bad(header, "names no minutes".to_owned(), EXPECTED));
    }
    let (number, line) = choose(lines, header, row)?;
    let fields: Vec<&str> = line.split(',').collect();
    if fields.len() != BEFORE + minutes {
        let what = format!("has {} columns where the header has {}", fields.len(), BEFORE + minutes);
        return Err(lines.bad(number, what, EXPECTED));
    }
    let counts: Result<Vec<u32>, String> = fields[BEFORE..].iter().map(|field| count(field, MINUTE_S)).collect();
    let counts = counts.map_err(|what| lines.bad(number, what, EXPECTED))?;
    Ok(Trace::Counts { counts, each_s: f64::from(MINUTE_S) })
}

/// The row that was asked for.
fn choose<'t>(lines: &Lines<'t>, header: usize, row: Option<&Row>) -> Result<(usize, &'t str), ReadError> {
    let rows = || lines.rows(header);
    let function = |line: &'t str| line.split(',').nth(FUNCTION).unwrap_or_default();
    let refused = |what: String, expected: String| lines.bad(header, what, &expected);
    let total = rows().count();
    let mut found = match row {
        None => rows().collect::<Vec<_>>(),
        Some(Row::Index(index)) => rows().skip(*index).take(1).collect(),
        Some(Row::Function(hash)) => rows().filter(|(_, line)| function(line).starts_with(hash.as_str())).collect(),
    };
    match (found.len(), row) {
        (1, _) => Ok(found.remove(0)),
        (_, _) if total == 0 => Err(ReadError::empty(lines.path, EXPECTED)),
        (_, None) => {
            Err(refused(format!("holds {total} functions"), format!("row = 0 to {} or function = the beginning of a hash", total - 1)))
        }
        (_, Some(Row::Index(index))) => Err(refused(format!("has no row {index}"), format!("a row from 0 to {}", total - 1))),
        (0, Some(Row::Function(hash))) => {
            Err(refused(format!("has no function {}", shown(hash)), "the beginning of a hash in column HashFunction".to_owned()))
        }
        (many, Some(Row::Function(hash))) => Err(refused(format!("has {many} functions {}", shown(hash)), "more of the hash".to_owned())),
    }
}
