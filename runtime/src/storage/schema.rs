//! The tables, and what is checked before they are used.

use std::path::Path;
use std::time::Duration;

use bytes::Bytes;
use migrator_actors::message::{Origin, Sample};
use rusqlite::{Connection, ErrorCode, OpenFlags};

/// Version of the tables; kept in `user_version`.
pub(super) const SCHEMA: i64 = 2;

/// `application_id` of our files: "MIGR".
const APPLICATION: i64 = 0x4d49_4752;

/// Files up to this size are checked whole when they are opened (about 1 s per GiB).
const CHECKED_BYTES: u64 = 512 << 20;

/// Longest wait for another process that writes.
const PATIENCE: Duration = Duration::from_secs(5);

/// What samples and bytes a tenant has is kept in step by the file itself, for more than one process may write to it.
const TABLES: &str = "
    CREATE TABLE tenant (
        id INTEGER PRIMARY KEY,
        name TEXT NOT NULL UNIQUE,
        samples INTEGER NOT NULL DEFAULT 0,
        bytes INTEGER NOT NULL DEFAULT 0
    ) STRICT;
    CREATE TABLE blob (
        id INTEGER PRIMARY KEY,
        hash BLOB NOT NULL UNIQUE,
        uses INTEGER NOT NULL DEFAULT 0,
        features BLOB NOT NULL
    ) STRICT;
    CREATE TABLE sample (
        id INTEGER PRIMARY KEY AUTOINCREMENT,
        tenant INTEGER NOT NULL REFERENCES tenant,
        at_ms INTEGER NOT NULL,
        label INTEGER NOT NULL,
        origin INTEGER NOT NULL,
        bytes INTEGER NOT NULL,
        blob INTEGER NOT NULL REFERENCES blob
    ) STRICT;
    CREATE INDEX sample_by_time ON sample (tenant, at_ms, id, label);
    CREATE INDEX sample_by_age ON sample (tenant, id);
    CREATE INDEX sample_by_blob ON sample (blob, tenant, origin);
    CREATE TRIGGER sample_comes AFTER INSERT ON sample BEGIN
        UPDATE blob SET uses = uses + 1 WHERE id = NEW.blob;
        UPDATE tenant SET samples = samples + 1, bytes = bytes + NEW.bytes WHERE id = NEW.tenant;
    END;
    CREATE TRIGGER sample_goes AFTER DELETE ON sample BEGIN
        UPDATE blob SET uses = uses - 1 WHERE id = OLD.blob;
        DELETE FROM blob WHERE id = OLD.blob AND uses = 0;
        UPDATE tenant SET samples = samples - 1, bytes = bytes - OLD.bytes WHERE id = OLD.tenant;
    END;
";

/// Opens a file for writing; makes the tables in a new one, and brings an older one up to date.
pub(super) fn prepare(path: &Path) -> Result<Connection, String> {
    let mut connection = Connection::open(path).map_err(|e| advise(&e))?;
    let set = |connection: &Connection| -> rusqlite::Result<i64> {
        connection.busy_timeout(PATIENCE)?;
        let tables = connection.query_row("SELECT COUNT(*) FROM sqlite_schema", [], |r| r.get(0))?;
        if tables == 0 {
            // Only a file without a page can still be made so.
            connection.pragma_update(None, "auto_vacuum", "INCREMENTAL")?;
        }
        connection.pragma_update_and_check(None, "journal_mode", "WAL", |_| Ok(()))?;
        connection.pragma_update(None, "synchronous", "NORMAL")?;
        Ok(tables)
    };
    if set(&connection).map_err(|e| advise(&e))? == 0 {
        create(&mut connection).map_err(|e| advise(&e))?;
    }
    if version(&connection)? == 1 {
        update(&mut connection).map_err(|e| advise(&e))?;
    }
    check_version(&connection)?;
    if path.metadata().is_ok_and(|m| m.len() <= CHECKED_BYTES) {
        check_whole(&connection)?;
    }
    connection.set_prepared_statement_cache_capacity(32);
    Ok(connection)
}

/// Opens a file that is there for reading; gives the version of its tables too.
pub(super) fn read(path: &Path) -> Result<(Connection, i64), String> {
    let connection = Connection::open_with_flags(path, OpenFlags::SQLITE_OPEN_READ_ONLY).map_err(|e| advise(&e))?;
    connection.busy_timeout(PATIENCE).map_err(|e| advise(&e))?;
    let version = version(&connection)?;
    if version != 1 {
        check_version(&connection)?;
    }
    Ok((connection, version))
}

fn create(connection: &mut Connection) -> rusqlite::Result<()> {
    let transaction = connection.transaction()?;
    transaction.execute_batch(TABLES)?;
    mark(&transaction)?;
    transaction.commit()
}

fn mark(connection: &Connection) -> rusqlite::Result<()> {
    connection.execute_batch(&format!("PRAGMA application_id = {APPLICATION}; PRAGMA user_version = {SCHEMA};"))
}

/// From version 1, where every sample held its own features.
fn update(connection: &mut Connection) -> rusqlite::Result<()> {
    let transaction = connection.transaction()?;
    transaction.execute_batch(
        "ALTER TABLE sample RENAME TO old; DROP INDEX sample_by_time; DROP INDEX sample_by_label; DROP INDEX sample_by_age;",
    )?;
    transaction.execute_batch(TABLES)?;
    {
        let mut old = transaction.prepare("SELECT tenant, at_ms, label, features FROM old ORDER BY id")?;
        let mut rows = old.query([])?;
        while let Some(row) = rows.next()? {
            let tenant = super::tenant_id(&transaction, &row.get::<_, String>(0)?)?;
            let sample = Sample { label: row.get(2)?, features: Bytes::from(row.get::<_, Vec<u8>>(3)?), origin: Origin::Client };
            super::insert(&transaction, tenant, row.get(1)?, &sample)?;
        }
    }
    transaction.execute_batch("DROP TABLE old;")?;
    mark(&transaction)?;
    transaction.commit()
}

fn pragma(connection: &Connection, name: &str) -> Result<i64, String> {
    connection.pragma_query_value(None, name, |r| r.get::<_, i64>(0)).map_err(|e| advise(&e))
}

/// Version of the tables of a file that is ours.
fn version(connection: &Connection) -> Result<i64, String> {
    if pragma(connection, "application_id")? != APPLICATION {
        return Err("is a SQLite file, but not one of migrator: choose another state_dir".to_owned());
    }
    pragma(connection, "user_version")
}

fn check_version(connection: &Connection) -> Result<(), String> {
    match version(connection)? {
        SCHEMA => Ok(()),
        other => Err(format!("has schema version {other}, this program knows {SCHEMA}: use the program that wrote it, or move it away")),
    }
}

fn check_whole(connection: &Connection) -> Result<(), String> {
    let found: String = connection.query_row("PRAGMA quick_check(1)", [], |r| r.get(0)).map_err(|e| advise(&e))?;
    if found == "ok" { Ok(()) } else { Err(format!("is corrupt ({}): {MOVE_AWAY}", found.replace('\n', " "))) }
}

const MOVE_AWAY: &str = "move it away (with its -wal and -shm) and start again; only collected samples are lost, models are not";

/// Whether another process has the file, which may be over soon.
pub(super) fn is_busy(error: &rusqlite::Error) -> bool {
    matches!(error.sqlite_error_code(), Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked))
}

/// One line for an error of SQLite, and what to do about it.
pub(super) fn advise(error: &rusqlite::Error) -> String {
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
