//! Labelled samples in SQLite.
//!
//! Knows nothing of models: features are bytes. Calls block; one connection behind a mutex, for writes are short and rare next to
//! requests, and readers come once a window.

use std::collections::{BTreeMap, HashMap};
use std::path::Path;
use std::sync::{Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use migrator_actors::message::{Sample, SampleStore};
use rusqlite::{Connection, ErrorCode, OpenFlags, Row, params};

/// Version of the tables; kept in `user_version`.
const SCHEMA: i64 = 1;

/// `application_id` of our files: "MIGR".
const APPLICATION: i64 = 0x4d49_4752;

/// Files up to this size are checked whole when they are opened (about 1 s per GiB).
const CHECKED_BYTES: u64 = 512 << 20;

const TABLES: &str = "
    CREATE TABLE sample (
        id INTEGER PRIMARY KEY AUTOINCREMENT,
        tenant TEXT NOT NULL,
        at_ms INTEGER NOT NULL,
        label INTEGER NOT NULL,
        features BLOB NOT NULL
    ) STRICT;
    CREATE INDEX sample_by_time ON sample (tenant, at_ms);
    CREATE INDEX sample_by_label ON sample (tenant, label, at_ms);
    CREATE INDEX sample_by_age ON sample (tenant, id);
";

/// Labelled samples of all tenants in one SQLite file.
pub struct SqliteSamples {
    inner: Mutex<Inner>,
}

struct Inner {
    connection: Connection,
    /// Most samples kept per tenant.
    stored_samples: u64,
    /// Samples kept, by tenant; counted once, then kept in step.
    counts: HashMap<String, u64>,
}

/// Why the file of samples cannot be used, and what to do.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct StorageError(String);

impl SqliteSamples {
    /// Opens or creates the file; keeps at most `stored_samples` per tenant.
    ///
    /// # Errors
    /// When the file is not ours, newer than this program, corrupt or cannot be written; the message says what to do.
    pub fn open(path: &Path, stored_samples: u32) -> Result<SqliteSamples, StorageError> {
        if let Some(folder) = path.parent() {
            std::fs::create_dir_all(folder).map_err(|e| StorageError(format!("{}: cannot be created: {e}", folder.display())))?;
        }
        let connection = prepare(path).map_err(|e| StorageError(format!("{}: {e}", path.display())))?;
        let inner = Inner { connection, stored_samples: u64::from(stored_samples.max(1)), counts: HashMap::new() };
        Ok(SqliteSamples { inner: Mutex::new(inner) })
    }

    /// Samples kept in a file, by tenant, without changing it; empty when there is no file.
    ///
    /// # Errors
    /// As [`SqliteSamples::open`].
    pub fn counts(path: &Path) -> Result<BTreeMap<String, u64>, StorageError> {
        if !path.exists() {
            return Ok(BTreeMap::new());
        }
        let read = || -> Result<BTreeMap<String, u64>, String> {
            let connection = Connection::open_with_flags(path, OpenFlags::SQLITE_OPEN_READ_ONLY).map_err(|e| advise(&e))?;
            check_ours(&connection)?;
            let mut query = connection.prepare("SELECT tenant, COUNT(*) FROM sample GROUP BY tenant").map_err(|e| advise(&e))?;
            let rows = query.query_map([], |row| Ok((row.get(0)?, row.get(1)?))).map_err(|e| advise(&e))?;
            rows.collect::<rusqlite::Result<_>>().map_err(|e| advise(&e))
        };
        read().map_err(|e| StorageError(format!("{}: {e}", path.display())))
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn prepare(path: &Path) -> Result<Connection, String> {
    let connection = Connection::open(path).map_err(|e| advise(&e))?;
    let set = || -> rusqlite::Result<()> {
        connection.busy_timeout(std::time::Duration::from_secs(5))?;
        connection.pragma_update_and_check(None, "journal_mode", "WAL", |_| Ok(()))?;
        connection.pragma_update(None, "synchronous", "NORMAL")
    };
    set().map_err(|e| advise(&e))?;
    let empty: i64 = connection.query_row("SELECT COUNT(*) FROM sqlite_schema", [], |r| r.get(0)).map_err(|e| advise(&e))?;
    if empty == 0 {
        create(&connection).map_err(|e| advise(&e))?;
    }
    check_ours(&connection)?;
    if path.metadata().is_ok_and(|m| m.len() <= CHECKED_BYTES) {
        check_whole(&connection)?;
    }
    Ok(connection)
}

fn create(connection: &Connection) -> rusqlite::Result<()> {
    connection.execute_batch(&format!("BEGIN; {TABLES} PRAGMA application_id = {APPLICATION}; PRAGMA user_version = {SCHEMA}; COMMIT;"))
}

fn check_ours(connection: &Connection) -> Result<(), String> {
    let pragma = |name: &str| connection.pragma_query_value(None, name, |r| r.get::<_, i64>(0)).map_err(|e| advise(&e));
    if pragma("application_id")? != APPLICATION {
        return Err("is a SQLite file, but not one of migrator: choose another state_dir".to_owned());
    }
    match pragma("user_version")? {
        SCHEMA => Ok(()),
        other => Err(format!("has schema version {other}, this program knows {SCHEMA}: use the program that wrote it, or move it away")),
    }
}

fn check_whole(connection: &Connection) -> Result<(), String> {
    let found: String = connection.query_row("PRAGMA quick_check(1)", [], |r| r.get(0)).map_err(|e| advise(&e))?;
    if found == "ok" { Ok(()) } else { Err(format!("is corrupt ({}): {MOVE_AWAY}", found.replace('\n', " "))) }
}

const MOVE_AWAY: &str = "move it away (with its -wal and -shm) and start again; only collected samples are lost, models are not";

/// One line for an error of SQLite, and what to do about it.
fn advise(error: &rusqlite::Error) -> String {
    match error.sqlite_error_code() {
        Some(ErrorCode::NotADatabase | ErrorCode::DatabaseCorrupt) => format!("is corrupt ({error}): {MOVE_AWAY}"),
        Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => {
            format!("is in use by another process ({error}): stop it, or choose another state_dir")
        }
        Some(ErrorCode::DiskFull) => format!("cannot be written ({error}): free disk space"),
        Some(ErrorCode::ReadOnly | ErrorCode::CannotOpen | ErrorCode::PermissionDenied) => {
            format!("cannot be opened for writing ({error}): check its owner and permissions")
        }
        _ => error.to_string(),
    }
}

impl SampleStore for SqliteSamples {
    fn add(&self, tenant: &str, at_ms: u64, samples: &[Sample]) -> Result<(), String> {
        self.lock().add(tenant, at_ms, samples).map_err(|e| advise(&e))
    }

    fn between(&self, tenant: &str, from_ms: u64, to_ms: u64, limit: usize) -> Result<Vec<Sample>, String> {
        self.lock().between(tenant, from_ms, to_ms, limit).map_err(|e| advise(&e))
    }

    fn replay(&self, tenant: &str, before_ms: u64, limit: usize, seed: u64) -> Result<Vec<Sample>, String> {
        self.lock().replay(tenant, before_ms, limit, seed).map_err(|e| advise(&e))
    }

    fn count(&self, tenant: &str) -> Result<u64, String> {
        self.lock().count(tenant).map_err(|e| advise(&e))
    }
}

impl Inner {
    fn add(&mut self, tenant: &str, at_ms: u64, samples: &[Sample]) -> rusqlite::Result<()> {
        let before = self.count(tenant)?;
        let after = before + samples.len() as u64;
        let surplus = after.saturating_sub(self.stored_samples);
        let transaction = self.connection.transaction()?;
        {
            let mut insert = transaction.prepare_cached("INSERT INTO sample (tenant, at_ms, label, features) VALUES (?1, ?2, ?3, ?4)")?;
            for sample in samples {
                insert.execute(params![tenant, millis(at_ms), sample.label, &sample.features[..]])?;
            }
            if surplus > 0 {
                let oldest = "DELETE FROM sample WHERE id IN (SELECT id FROM sample WHERE tenant = ?1 ORDER BY id LIMIT ?2)";
                transaction.prepare_cached(oldest)?.execute(params![tenant, millis(surplus)])?;
            }
        }
        transaction.commit()?;
        self.counts.insert(tenant.to_owned(), after - surplus);
        Ok(())
    }

    fn between(&self, tenant: &str, from_ms: u64, to_ms: u64, limit: usize) -> rusqlite::Result<Vec<Sample>> {
        let newest = "SELECT label, features FROM sample WHERE tenant = ?1 AND at_ms >= ?2 AND at_ms < ?3 \
                      ORDER BY at_ms DESC, id DESC LIMIT ?4";
        let mut query = self.connection.prepare_cached(newest)?;
        let rows = query.query_map(params![tenant, millis(from_ms), millis(to_ms), millis(limit as u64)], sample)?;
        let mut samples: Vec<Sample> = rows.collect::<rusqlite::Result<_>>()?;
        samples.reverse();
        Ok(samples)
    }

    fn replay(&self, tenant: &str, before_ms: u64, limit: usize, seed: u64) -> rusqlite::Result<Vec<Sample>> {
        let mut query = self.connection.prepare_cached("SELECT label, id FROM sample WHERE tenant = ?1 AND at_ms < ?2")?;
        let rows = query.query_map(params![tenant, millis(before_ms)], |row| Ok((row.get(0)?, row.get(1)?)))?;
        let mut classes: BTreeMap<u32, Vec<i64>> = BTreeMap::new();
        for row in rows {
            let (label, id) = row?;
            classes.entry(label).or_default().push(id);
        }
        let mut fetch = self.connection.prepare_cached("SELECT label, features FROM sample WHERE id = ?1")?;
        draw(classes, limit, seed).into_iter().map(|id| fetch.query_row([id], sample)).collect()
    }

    fn count(&mut self, tenant: &str) -> rusqlite::Result<u64> {
        if let Some(&count) = self.counts.get(tenant) {
            return Ok(count);
        }
        let count = self.connection.query_row("SELECT COUNT(*) FROM sample WHERE tenant = ?1", [tenant], |r| r.get(0))?;
        self.counts.insert(tenant.to_owned(), count);
        Ok(count)
    }
}

/// Draws ids class by class in turn until there are enough or none is left; oldest first. Which of a class come first is decided by
/// a hash of id and seed, so that it depends on neither SQLite's order nor a generator's version.
fn draw(mut classes: BTreeMap<u32, Vec<i64>>, limit: usize, seed: u64) -> Vec<i64> {
    for ids in classes.values_mut() {
        ids.sort_by_cached_key(|&id| std::cmp::Reverse((mix(seed ^ mix(id as u64)), id)));
    }
    let mut drawn = Vec::new();
    while drawn.len() < limit && !classes.is_empty() {
        classes.retain(|_, ids| {
            if drawn.len() < limit {
                drawn.extend(ids.pop());
            }
            !ids.is_empty()
        });
    }
    drawn.sort_unstable();
    drawn
}

/// SplitMix64's finaliser.
fn mix(n: u64) -> u64 {
    let n = n.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let n = (n ^ (n >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let n = (n ^ (n >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    n ^ (n >> 31)
}

fn sample(row: &Row<'_>) -> rusqlite::Result<Sample> {
    Ok(Sample { label: row.get(0)?, features: Bytes::from(row.get::<_, Vec<u8>>(1)?) })
}

/// SQLite's integers are signed; nothing here comes near the end of them.
fn millis(n: u64) -> i64 {
    i64::try_from(n).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn store(stored_samples: u32) -> (tempfile::TempDir, SqliteSamples) {
        let folder = tempfile::tempdir().unwrap();
        let store = SqliteSamples::open(&folder.path().join("new/samples.sqlite"), stored_samples).unwrap();
        (folder, store)
    }

    fn samples(labels: &[u32]) -> Vec<Sample> {
        labels.iter().enumerate().map(|(i, &label)| Sample { features: Bytes::from(vec![i as u8; 3]), label }).collect()
    }

    fn labels(samples: &[Sample]) -> Vec<u32> {
        samples.iter().map(|s| s.label).collect()
    }

    #[test]
    fn the_oldest_beyond_the_bound_go_and_other_tenants_are_untouched() {
        let (_folder, store) = store(3);
        store.add("b", 5, &samples(&[9])).unwrap();
        store.add("a", 10, &samples(&[0, 1])).unwrap();
        store.add("a", 20, &samples(&[2, 3])).unwrap();
        assert_eq!((store.count("a"), store.count("b")), (Ok(3), Ok(1)));
        assert_eq!(labels(&store.between("a", 0, 100, 10).unwrap()), [1, 2, 3]);
        store.add("a", 30, &samples(&[4, 5, 6, 7, 8])).unwrap();
        assert_eq!(labels(&store.between("a", 0, 100, 10).unwrap()), [6, 7, 8]);
    }

    #[test]
    fn a_span_holds_its_start_but_not_its_end_and_gives_the_newest_oldest_first() {
        let (_folder, store) = store(100);
        for at in [10, 20, 30] {
            store.add("a", at, &samples(&[at as u32])).unwrap();
        }
        assert_eq!(labels(&store.between("a", 10, 30, 10).unwrap()), [10, 20]);
        assert_eq!(labels(&store.between("a", 0, 99, 2).unwrap()), [20, 30]);
        assert_eq!(store.between("nobody", 0, 99, 2).unwrap(), []);
    }

    #[test]
    fn replay_is_even_over_classes_and_the_same_for_the_same_seed() {
        let (_folder, store) = store(1000);
        let mut all = vec![0; 90];
        all.extend([1; 9]);
        all.push(2);
        store.add("a", 10, &samples(&all)).unwrap();
        let drawn = store.replay("a", 11, 11, 7).unwrap();
        let of = |class| drawn.iter().filter(|s| s.label == class).count();
        assert_eq!((of(0), of(1), of(2)), (5, 5, 1));
        assert_eq!(store.replay("a", 11, 11, 7).unwrap(), drawn);
        assert_ne!(store.replay("a", 11, 11, 8).unwrap(), drawn);
        assert_eq!(store.replay("a", 10, 11, 7).unwrap(), [], "before means before");
        assert_eq!(store.replay("a", 11, 5000, 7).unwrap().len(), 100);
    }

    #[test]
    fn samples_outlive_the_process() {
        let (folder, store) = store(10);
        store.add("a", 10, &samples(&[4])).unwrap();
        drop(store);
        let path = folder.path().join("new/samples.sqlite");
        assert_eq!(SqliteSamples::counts(&path).unwrap(), BTreeMap::from([("a".to_owned(), 1)]));
        assert_eq!(SqliteSamples::open(&path, 10).unwrap().count("a"), Ok(1));
    }

    #[test]
    fn a_file_that_is_not_ours_is_named_with_what_to_do() {
        let folder = tempfile::tempdir().unwrap();
        let refused = |name: &str| match SqliteSamples::open(&folder.path().join(name), 10) {
            Ok(_) => panic!("{name} was opened"),
            Err(error) => error.to_string(),
        };
        std::fs::write(folder.path().join("text"), "not a database, but long enough to look at".repeat(40)).unwrap();
        assert!(refused("text").contains("text: is corrupt") && refused("text").contains("move it away"), "{}", refused("text"));
        Connection::open(folder.path().join("other")).unwrap().execute_batch("CREATE TABLE t (x)").unwrap();
        assert!(refused("other").contains("not one of migrator"));
        drop(SqliteSamples::open(&folder.path().join("new"), 10).unwrap());
        Connection::open(folder.path().join("new")).unwrap().pragma_update(None, "user_version", 9).unwrap();
        assert!(refused("new").contains("has schema version 9, this program knows 1"));
    }

    #[test]
    fn a_damaged_page_is_found_when_the_file_is_opened() {
        let (folder, store) = store(1000);
        store.add("a", 10, &samples(&[1; 500])).unwrap();
        drop(store);
        let path = folder.path().join("new/samples.sqlite");
        let mut bytes = std::fs::read(&path).unwrap();
        for byte in bytes.iter_mut().skip(4096 * 3).take(4096) {
            *byte = 0xAA;
        }
        std::fs::write(&path, bytes).unwrap();
        let error = SqliteSamples::open(&path, 10).err().unwrap().to_string();
        assert!(error.contains("is corrupt") && error.contains("move it away"), "{error}");
    }
}
