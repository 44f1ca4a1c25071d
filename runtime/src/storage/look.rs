//! What a file of samples holds, without changing it: also while a server uses it.

use std::collections::BTreeMap;
use std::path::Path;

use migrator_actors::message::Origin;
use rusqlite::{Connection, OptionalExtension, params};
use serde::Serialize;

use super::schema::{advise, read};
use super::{StorageError, origin, signed};

/// A tenant's samples.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Look {
    /// Their number.
    pub samples: u64,
    /// What they take, bytes; features that several share count for each.
    pub bytes: u64,
    /// Different features among them.
    pub distinct: u64,
    /// When the oldest came, Unix milliseconds.
    pub oldest_ms: u64,
    /// When the newest came, Unix milliseconds.
    pub newest_ms: u64,
    /// By class.
    pub classes: BTreeMap<u32, u64>,
    /// By who gave the label.
    pub origins: BTreeMap<&'static str, u64>,
    /// By the start of the period that they came in, Unix milliseconds.
    pub periods: BTreeMap<u64, u64>,
}

/// Samples kept in a file, by tenant; empty when there is no file.
///
/// # Errors
/// When it is not ours, newer than this program or corrupt; the message says what to do.
pub fn counts(path: &Path) -> Result<BTreeMap<String, u64>, StorageError> {
    if !path.exists() {
        return Ok(BTreeMap::new());
    }
    let count = || -> Result<BTreeMap<String, u64>, String> {
        let (connection, version) = read(path)?;
        let query = match version {
            1 => "SELECT tenant, COUNT(*) FROM sample GROUP BY tenant",
            _ => "SELECT name, samples FROM tenant WHERE samples > 0",
        };
        let counts = || {
            let mut query = connection.prepare(query)?;
            query.query_map([], |row| Ok((row.get(0)?, row.get(1)?)))?.collect::<rusqlite::Result<_>>()
        };
        counts().map_err(|e| advise(&e))
    };
    count().map_err(|e| StorageError(format!("{}: {e}", path.display())))
}

/// Looks at a tenant's samples, by periods of `period_ms`, and calls `each` with features and class of every one, oldest first.
/// Nothing when there is no file, or it holds none of this tenant.
///
/// # Errors
/// As [`counts`], and for a file of an earlier program.
pub fn look(path: &Path, tenant: &str, period_ms: u64, each: impl FnMut(&[u8], u32)) -> Result<Option<Look>, StorageError> {
    if !path.exists() {
        return Ok(None);
    }
    let look = || match read(path)? {
        (_, 1) => Err("was written by an earlier program: `migrator serve` and `migrator data import` bring it up to date".to_owned()),
        (connection, _) => of_tenant(&connection, tenant, period_ms.max(1), each).map_err(|e| advise(&e)),
    };
    look().map_err(|e| StorageError(format!("{}: {e}", path.display())))
}

fn of_tenant(connection: &Connection, name: &str, period_ms: u64, mut each: impl FnMut(&[u8], u32)) -> rusqlite::Result<Option<Look>> {
    // A server may write meanwhile: all that is told is of one moment.
    let connection = &*connection.unchecked_transaction()?;
    let mut look = Look::default();
    let found = connection
        .query_row("SELECT id, samples, bytes FROM tenant WHERE name = ?1", [name], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)))
        .optional()?;
    let Some((tenant, samples, bytes)) = found else { return Ok(None) };
    let tenant: i64 = tenant;
    (look.samples, look.bytes) = (samples, bytes);
    if samples == 0 {
        return Ok(None);
    }
    let span = "SELECT MIN(at_ms), MAX(at_ms), COUNT(DISTINCT blob) FROM sample WHERE tenant = ?1";
    (look.oldest_ms, look.newest_ms, look.distinct) =
        connection.query_row(span, [tenant], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)))?;
    look.classes = group(connection, "label", tenant, 0, |label| label as u32)?;
    look.origins = group(connection, "origin", tenant, 0, |code| Origin::name(origin(code)))?;
    look.periods = group(connection, "at_ms / ?2 * ?2", tenant, period_ms, |at| at as u64)?;
    let mut all =
        connection.prepare("SELECT features, label FROM sample JOIN blob ON blob.id = sample.blob WHERE tenant = ?1 ORDER BY sample.id")?;
    let mut rows = all.query([tenant])?;
    while let Some(row) = rows.next()? {
        each(row.get_ref(0)?.as_blob()?, row.get(1)?);
    }
    Ok(Some(look))
}

fn group<K: Ord>(
    connection: &Connection,
    by: &str,
    tenant: i64,
    period: u64,
    key: impl Fn(i64) -> K,
) -> rusqlite::Result<BTreeMap<K, u64>> {
    let mut query = connection.prepare(&format!("SELECT {by}, COUNT(*) FROM sample WHERE tenant = ?1 AND ?2 = ?2 GROUP BY 1"))?;
    query.query_map(params![tenant, signed(period)], |row| Ok((key(row.get(0)?), row.get(1)?)))?.collect()
}
