//! Labelled samples in SQLite.
//!
//! Knows nothing of models: features are bytes, kept once however many samples have them. Calls block; one connection behind a mutex,
//! for writes are short and rare next to requests, and readers come once a window. Read in the order [`SqliteSamples`], `schema`, `bound`,
//! [`look`].

mod bound;
pub mod look;
mod schema;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, HashMap};
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};

use bytes::Bytes;
use migrator_actors::clock::Clock;
use migrator_actors::message::{Origin, Sample, SampleStore};
use rusqlite::{Connection, OptionalExtension, Row, TransactionBehavior, params};
use sha2::{Digest, Sha256};

use crate::config::{Config, RetrainingConfig, TenantConfig};

pub use migrator_actors::message::Bounds;
use schema::advise;

/// Labelled samples of all tenants in one SQLite file.
pub struct SqliteSamples {
    inner: Mutex<Inner>,
    /// What is kept of tenants that are not in `own`.
    usual: Bounds,
    own: RwLock<HashMap<String, Bounds>>,
}

/// What became of added samples.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Added {
    /// Of them, those that were kept.
    pub kept: usize,
    /// Samples that went for them, of theirs or older ones.
    pub removed: usize,
}

struct Inner {
    connection: Connection,
}

/// Why the file of samples cannot be used, and what to do.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct StorageError(String);

impl SqliteSamples {
    /// Opens or creates the file; a file of an earlier program is brought up to date.
    ///
    /// # Errors
    /// When the file is not ours, newer than this program, corrupt or cannot be written; the message says what to do.
    pub fn open(path: &Path, usual: Bounds) -> Result<SqliteSamples, StorageError> {
        if let Some(folder) = path.parent() {
            std::fs::create_dir_all(folder).map_err(|e| StorageError(format!("{}: cannot be created: {e}", folder.display())))?;
        }
        let connection = schema::prepare(path).map_err(|e| StorageError(format!("{}: {e}", path.display())))?;
        Ok(SqliteSamples { inner: Mutex::new(Inner { connection }), usual, own: RwLock::default() })
    }

    /// With other bounds for a tenant.
    pub fn bound(self, tenant: &str, bounds: Bounds) -> SqliteSamples {
        self.set_bounds(tenant, bounds);
        self
    }

    fn bounds(&self, tenant: &str) -> Bounds {
        self.own.read().unwrap_or_else(PoisonError::into_inner).get(tenant).copied().unwrap_or(self.usual)
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds samples that are to count as of the time `at_ms`, of more than the bound the last ones.
    ///
    /// # Errors
    /// What the store says, in one line.
    pub fn add_at(&self, tenant: &str, at_ms: u64, samples: &[Sample]) -> Result<Added, String> {
        self.add_patiently(tenant, at_ms, samples, 1)
    }

    /// As [`SqliteSamples::add_at`], but where another process writes for long it is tried so many times, 5 s each.
    ///
    /// # Errors
    /// What the store says, in one line.
    pub fn add_patiently(&self, tenant: &str, at_ms: u64, samples: &[Sample], tries: u32) -> Result<Added, String> {
        let mut tried = 1;
        loop {
            match self.lock().add(tenant, at_ms, samples, self.bounds(tenant)) {
                Err(error) if tried < tries && schema::is_busy(&error) => tried += 1,
                added => return added.map_err(|e| advise(&e)),
            }
        }
    }
}

impl SampleStore for SqliteSamples {
    fn add(&self, tenant: &str, at_ms: u64, samples: &[Sample]) -> Result<(), String> {
        self.add_at(tenant, at_ms, samples).map(|_| ())
    }

    fn between(&self, tenant: &str, from_ms: u64, to_ms: u64, limit: usize) -> Result<Vec<Sample>, String> {
        self.lock().between(tenant, from_ms, to_ms, limit).map_err(|e| advise(&e))
    }

    fn replay(&self, tenant: &str, before_ms: u64, limit: usize, seed: u64) -> Result<Vec<Sample>, String> {
        self.lock().replay(tenant, before_ms, limit, seed).map_err(|e| advise(&e))
    }

    fn set_bounds(&self, tenant: &str, bounds: Bounds) {
        self.own.write().unwrap_or_else(PoisonError::into_inner).insert(tenant.to_owned(), bounds);
    }

    fn count(&self, tenant: &str) -> Result<u64, String> {
        self.lock().count(tenant).map_err(|e| advise(&e))
    }
}

/// What a sample takes in the file beside its features, about: its row and its place in the indexes.
const OVERHEAD: u64 = 120;

impl Inner {
    fn add(&mut self, tenant: &str, at_ms: u64, samples: &[Sample], bounds: Bounds) -> rusqlite::Result<Added> {
        // What would go at once need not come.
        let most = usize::try_from(bounds.samples).unwrap_or(usize::MAX);
        let samples = &samples[samples.len().saturating_sub(most)..];
        // Another process may write too: whoever reads first would be refused when it goes on to write.
        let transaction = self.connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
        let tenant = tenant_id(&transaction, tenant)?;
        let mut kept = 0;
        for sample in samples {
            kept += usize::from(insert(&transaction, tenant, at_ms, sample)?);
        }
        let removed = bound::remove(&transaction, tenant, bounds, at_ms, bound::STEP.max(2 * samples.len()))?;
        transaction.commit()?;
        Ok(Added { kept, removed })
    }

    fn between(&self, tenant: &str, from_ms: u64, to_ms: u64, limit: usize) -> rusqlite::Result<Vec<Sample>> {
        let newest = "SELECT label, origin, features FROM sample JOIN blob ON blob.id = sample.blob \
                      WHERE tenant = (SELECT id FROM tenant WHERE name = ?1) AND at_ms >= ?2 AND at_ms < ?3 \
                      ORDER BY at_ms DESC, sample.id DESC LIMIT ?4";
        let mut query = self.connection.prepare_cached(newest)?;
        let rows = query.query_map(params![tenant, signed(from_ms), signed(to_ms), signed(limit as u64)], sample)?;
        let mut samples: Vec<Sample> = rows.collect::<rusqlite::Result<_>>()?;
        samples.reverse();
        Ok(samples)
    }

    fn replay(&self, tenant: &str, before_ms: u64, limit: usize, seed: u64) -> rusqlite::Result<Vec<Sample>> {
        let older = "SELECT label, id FROM sample WHERE tenant = (SELECT id FROM tenant WHERE name = ?1) AND at_ms < ?2";
        // Another process may remove between the two statements what the first one found.
        let transaction = self.connection.unchecked_transaction()?;
        let mut query = transaction.prepare_cached(older)?;
        let rows = query.query_map(params![tenant, signed(before_ms)], |row| Ok((row.get(0)?, row.get(1)?)))?;
        let mut classes: BTreeMap<u32, Vec<i64>> = BTreeMap::new();
        for row in rows {
            let (label, id) = row?;
            classes.entry(label).or_default().push(id);
        }
        let one = "SELECT label, origin, features FROM sample JOIN blob ON blob.id = sample.blob WHERE sample.id = ?1";
        let mut fetch = transaction.prepare_cached(one)?;
        draw(classes, limit, seed).into_iter().map(|id| fetch.query_row([id], sample)).collect()
    }

    fn count(&self, tenant: &str) -> rusqlite::Result<u64> {
        let mut query = self.connection.prepare_cached("SELECT samples FROM tenant WHERE name = ?1")?;
        Ok(query.query_row([tenant], |row| row.get(0)).optional()?.unwrap_or(0))
    }
}

fn tenant_id(connection: &Connection, name: &str) -> rusqlite::Result<i64> {
    connection.prepare_cached("INSERT INTO tenant (name) VALUES (?1) ON CONFLICT DO NOTHING")?.execute([name])?;
    connection.prepare_cached("SELECT id FROM tenant WHERE name = ?1")?.query_row([name], |row| row.get(0))
}

/// Adds one sample; what a client says of the same features goes before what the golden model says. Gives whether it was kept.
fn insert(connection: &Connection, tenant: i64, at_ms: u64, sample: &Sample) -> rusqlite::Result<bool> {
    let hash = Sha256::digest(&sample.features);
    let known = connection.prepare_cached("SELECT id FROM blob WHERE hash = ?1")?.query_row([&hash[..16]], |row| row.get(0)).optional()?;
    let blob: i64 = match known {
        Some(blob) => {
            let of_tenant = params![tenant, blob, code(Origin::Golden)];
            if sample.origin == Origin::Golden {
                let better = "SELECT EXISTS (SELECT 1 FROM sample WHERE tenant = ?1 AND blob = ?2 AND origin != ?3)";
                if connection.prepare_cached(better)?.query_row(of_tenant, |row| row.get(0))? {
                    return Ok(false);
                }
            } else {
                // The last use of a blob must not end before its next one begins.
                connection.prepare_cached("UPDATE blob SET uses = uses + 1 WHERE id = ?1")?.execute([blob])?;
                connection.prepare_cached("DELETE FROM sample WHERE tenant = ?1 AND blob = ?2 AND origin = ?3")?.execute(of_tenant)?;
                connection.prepare_cached("UPDATE blob SET uses = uses - 1 WHERE id = ?1")?.execute([blob])?;
            }
            blob
        }
        None => {
            let insert = "INSERT INTO blob (hash, features) VALUES (?1, ?2)";
            connection.prepare_cached(insert)?.execute(params![&hash[..16], &sample.features[..]])?;
            connection.last_insert_rowid()
        }
    };
    let insert = "INSERT INTO sample (tenant, at_ms, label, origin, bytes, blob) VALUES (?1, ?2, ?3, ?4, ?5, ?6)";
    let bytes = signed(sample.features.len() as u64 + OVERHEAD);
    connection.prepare_cached(insert)?.execute(params![tenant, signed(at_ms), sample.label, code(sample.origin), bytes, blob])?;
    Ok(true)
}

/// An origin in the file.
fn code(origin: Origin) -> i64 {
    match origin {
        Origin::Client => 0,
        Origin::Label => 1,
        Origin::Golden => 2,
        Origin::Import => 3,
    }
}

fn origin(code: i64) -> Origin {
    Origin::ALL.into_iter().find(|origin| self::code(*origin) == code).unwrap_or_default()
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
    Ok(Sample { label: row.get(0)?, origin: origin(row.get(1)?), features: Bytes::from(row.get::<_, Vec<u8>>(2)?) })
}

/// SQLite's integers are signed; nothing here comes near the end of them.
fn signed(n: u64) -> i64 {
    i64::try_from(n).unwrap_or(i64::MAX)
}

/// The samples of a configuration's tenants.
///
/// # Errors
/// As [`SqliteSamples::open`].
pub fn of(config: &Config) -> Result<SqliteSamples, StorageError> {
    let samples = SqliteSamples::open(&config.server.samples_file(), bounds(&config.retraining))?;
    let own = |samples: SqliteSamples, tenant: &TenantConfig| samples.bound(&tenant.name, bounds(&config.retraining_of(tenant)));
    Ok(config.tenants.iter().fold(samples, own))
}

/// How much is kept of a tenant's samples.
pub(crate) fn bounds(how: &RetrainingConfig) -> Bounds {
    Bounds {
        samples: u64::from(how.stored_samples.max(1)),
        bytes: how.stored_mib.map(|mib| u64::from(mib) << 20),
        age: how.stored_days.map(|days| std::time::Duration::from_secs_f64(days * 86_400.0)),
    }
}

/// Keeps every tenant's samples within their bounds from now on, also those of a tenant that gets no new ones; ends with the store. Their age
/// is told by the clock that they are stamped by.
pub fn watch(samples: &Arc<SqliteSamples>, clock: Clock) {
    bound::watch(Arc::downgrade(samples), move || clock.unix_ms());
}
