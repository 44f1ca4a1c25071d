//! How much is kept of a tenant's samples: by number, size and age. The oldest go, a bounded number at a time.

use std::sync::Weak;
use std::time::Duration;

use migrator_actors::message::Bounds;
use rusqlite::{Connection, params};

use super::schema::advise;
use super::{Inner, SqliteSamples, signed};

/// Samples removed at once while the store is locked, at least: 3 ms for rows of 40 bytes, 40 ms for 12 KiB, on a busy host.
pub(super) const STEP: usize = 256;

/// How often it is looked whether samples have become too old.
const EVERY: Duration = Duration::from_secs(30);

/// Pages given back to the file system at once, of 4 KiB.
const PAGES: u32 = 256;

/// Removes the oldest samples beyond the bounds, at most `step` of them; gives how many went.
pub(super) fn remove(connection: &Connection, tenant: i64, bounds: Bounds, now_ms: u64, step: usize) -> rusqlite::Result<usize> {
    let has = "SELECT samples, bytes FROM tenant WHERE id = ?1";
    let (mut samples, mut bytes): (u64, u64) = connection.prepare_cached(has)?.query_row([tenant], |row| Ok((row.get(0)?, row.get(1)?)))?;
    let horizon = bounds.age.map_or(0, |age| now_ms.saturating_sub(u64::try_from(age.as_millis()).unwrap_or(u64::MAX)));
    let most = bounds.bytes.unwrap_or(u64::MAX);
    let mut last = None;
    let mut gone = 0;
    {
        let mut oldest = connection.prepare_cached("SELECT id, at_ms, bytes FROM sample WHERE tenant = ?1 ORDER BY id LIMIT ?2")?;
        let mut rows = oldest.query(params![tenant, signed(step as u64)])?;
        while let Some(row) = rows.next()? {
            if samples <= bounds.samples && bytes <= most && row.get::<_, u64>(1)? >= horizon {
                break;
            }
            last = Some(row.get::<_, i64>(0)?);
            bytes = bytes.saturating_sub(row.get(2)?);
            samples = samples.saturating_sub(1);
            gone += 1;
        }
    }
    if let Some(last) = last {
        connection.prepare_cached("DELETE FROM sample WHERE tenant = ?1 AND id <= ?2")?.execute(params![tenant, last])?;
    }
    Ok(gone)
}

impl SqliteSamples {
    /// Brings every tenant's samples within their bounds, step by step: others may write between two steps. Gives how many went.
    ///
    /// # Errors
    /// What the store says, in one line.
    pub fn sweep(&self, now_ms: u64) -> Result<usize, String> {
        let tenants = self.lock().tenants().map_err(|e| advise(&e))?;
        let mut all = 0;
        for (tenant, name) in tenants {
            loop {
                let gone = self.lock().sweep(tenant, self.bounds(&name), now_ms).map_err(|e| advise(&e))?;
                all += gone;
                if gone < STEP {
                    break;
                }
            }
        }
        while self.lock().shrink().map_err(|e| advise(&e))? {}
        Ok(all)
    }
}

impl Inner {
    fn tenants(&self) -> rusqlite::Result<Vec<(i64, String)>> {
        let mut query = self.connection.prepare_cached("SELECT id, name FROM tenant")?;
        query.query_map([], |row| Ok((row.get(0)?, row.get(1)?)))?.collect()
    }

    fn sweep(&mut self, tenant: i64, bounds: Bounds, now_ms: u64) -> rusqlite::Result<usize> {
        let transaction = self.connection.transaction_with_behavior(rusqlite::TransactionBehavior::Immediate)?;
        let gone = remove(&transaction, tenant, bounds, now_ms, STEP)?;
        transaction.commit()?;
        Ok(gone)
    }

    /// Gives some of the file's free pages back, when more than half of it is free; whether there is more to give.
    fn shrink(&self) -> rusqlite::Result<bool> {
        let pragma = |name: &str| self.connection.pragma_query_value(None, name, |row| row.get::<_, i64>(0));
        let (free, pages) = (pragma("freelist_count")?, pragma("page_count")?);
        if free * 2 <= pages || free < i64::from(PAGES) || pragma("auto_vacuum")? != 2 {
            return Ok(false);
        }
        let mut vacuum = self.connection.prepare(&format!("PRAGMA incremental_vacuum({PAGES})"))?;
        let mut rows = vacuum.query([])?;
        while rows.next()?.is_some() {}
        Ok(true)
    }
}

/// Sweeps again and again, in a thread of its own, until the store is gone.
pub(super) fn watch(samples: Weak<SqliteSamples>, now_ms: impl Fn() -> u64 + Send + 'static) {
    let run = move || {
        while let Some(store) = samples.upgrade() {
            match store.sweep(now_ms()) {
                Ok(0) => {}
                Ok(gone) => tracing::debug!(gone, "samples beyond their bounds were removed"),
                Err(reason) => tracing::warn!(reason, "samples beyond their bounds stay"),
            }
            drop(store);
            std::thread::park_timeout(EVERY);
        }
    };
    if let Err(error) = std::thread::Builder::new().name("samples".to_owned()).spawn(run) {
        tracing::warn!(%error, "samples are only removed when others come");
    }
}
