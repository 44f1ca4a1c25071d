//! What it costs to keep samples: SQLite as it is, without sharing features, and a file for each sample's features.
//!
//! `cargo bench -p migrator --bench samples`

#![allow(clippy::unwrap_used, reason = "it measures")]

use std::path::Path;
use std::time::Instant;

use bytes::Bytes;
use migrator::storage::{Bounds, SqliteSamples};
use migrator_actors::message::{Origin, Sample, SampleStore};
use rusqlite::{Connection, params};
use sha2::{Digest, Sha256};

/// Samples of a call, as clients send them.
const BATCH: usize = 16;

fn samples(count: usize, size: usize, seed: u64) -> Vec<Sample> {
    let one = |index: usize| {
        let mut state = seed ^ (index as u64 + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        let mut features = Vec::with_capacity(size + 8);
        while features.len() < size {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            features.extend_from_slice(&state.to_le_bytes());
        }
        features.truncate(size);
        Sample { features: Bytes::from(features), label: (index % 10) as u32, origin: Origin::Client }
    };
    (0..count).map(one).collect()
}

/// Microseconds a sample.
fn timed(count: usize, work: impl FnOnce()) -> f64 {
    let began = Instant::now();
    work();
    began.elapsed().as_secs_f64() * 1e6 / count as f64
}

fn on_disk(folder: &Path) -> u64 {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    let size = |entry: std::fs::DirEntry| match entry.metadata() {
        Ok(metadata) if metadata.is_dir() => on_disk(&entry.path()),
        Ok(metadata) => std::os::unix::fs::MetadataExt::blocks(&metadata) * 512,
        Err(_) => 0,
    };
    entries.map(size).sum()
}

struct Figures {
    add_us: f64,
    read_us: f64,
    disk: u64,
}

fn ours(samples: &[Sample], folder: &Path, rounds: usize) -> Figures {
    let store = SqliteSamples::open(&folder.join("samples.sqlite"), Bounds::samples(u64::MAX)).unwrap();
    let add = || (0..rounds).for_each(|at| samples.chunks(BATCH).for_each(|batch| store.add("a", at as u64, batch).unwrap()));
    let add_us = timed(samples.len() * rounds, add);
    let read_us = timed(samples.len(), || assert_eq!(store.between("a", 0, 1, samples.len()).unwrap().len(), samples.len()));
    drop(store);
    Figures { add_us, read_us, disk: on_disk(folder) }
}

/// The tables of before: features in every row.
fn plain(samples: &[Sample], folder: &Path, rounds: usize) -> Figures {
    let mut connection = Connection::open(folder.join("samples.sqlite")).unwrap();
    let tables = "PRAGMA journal_mode = WAL; PRAGMA synchronous = NORMAL;
        CREATE TABLE sample (id INTEGER PRIMARY KEY AUTOINCREMENT, tenant TEXT NOT NULL, at_ms INTEGER NOT NULL, label INTEGER NOT NULL, features BLOB NOT NULL) STRICT;
        CREATE INDEX sample_by_time ON sample (tenant, at_ms);
        CREATE INDEX sample_by_label ON sample (tenant, label, at_ms);
        CREATE INDEX sample_by_age ON sample (tenant, id);";
    connection.execute_batch(tables).unwrap();
    let add_us = timed(samples.len() * rounds, || {
        for at in 0..rounds {
            for batch in samples.chunks(BATCH) {
                let transaction = connection.transaction().unwrap();
                for sample in batch {
                    let insert = "INSERT INTO sample (tenant, at_ms, label, features) VALUES (?1, ?2, ?3, ?4)";
                    let mut insert = transaction.prepare_cached(insert).unwrap();
                    insert.execute(params!["a", at as i64, sample.label, &sample.features[..]]).unwrap();
                }
                transaction.commit().unwrap();
            }
        }
    });
    let read_us = timed(samples.len(), || {
        let mut query = connection.prepare("SELECT label, features FROM sample WHERE tenant = 'a' AND at_ms = 0").unwrap();
        let rows = query.query_map([], |row| Ok((row.get::<_, u32>(0)?, row.get::<_, Vec<u8>>(1)?))).unwrap();
        assert_eq!(rows.filter(Result::is_ok).count(), samples.len());
    });
    drop(connection);
    Figures { add_us, read_us, disk: on_disk(folder) }
}

/// An index in SQLite, and a file by its hash for each sample's features, written whole and renamed.
fn files(samples: &[Sample], folder: &Path, rounds: usize) -> Figures {
    let mut connection = Connection::open(folder.join("samples.sqlite")).unwrap();
    let tables = "PRAGMA journal_mode = WAL; PRAGMA synchronous = NORMAL;
        CREATE TABLE sample (id INTEGER PRIMARY KEY AUTOINCREMENT, tenant TEXT NOT NULL, at_ms INTEGER NOT NULL, label INTEGER NOT NULL, hash TEXT NOT NULL) STRICT;
        CREATE INDEX sample_by_time ON sample (tenant, at_ms);
        CREATE INDEX sample_by_age ON sample (tenant, id);";
    connection.execute_batch(tables).unwrap();
    let name = |hash: &str| folder.join(&hash[..2]).join(&hash[2..]);
    let add_us = timed(samples.len() * rounds, || {
        for at in 0..rounds {
            for batch in samples.chunks(BATCH) {
                let transaction = connection.transaction().unwrap();
                for sample in batch {
                    let hash: String = Sha256::digest(&sample.features).iter().map(|byte| format!("{byte:02x}")).collect();
                    let file = name(&hash);
                    if !file.exists() {
                        std::fs::create_dir_all(file.parent().unwrap()).unwrap();
                        let part = file.with_extension("part");
                        std::fs::write(&part, &sample.features).unwrap();
                        std::fs::rename(&part, &file).unwrap();
                    }
                    let insert = "INSERT INTO sample (tenant, at_ms, label, hash) VALUES (?1, ?2, ?3, ?4)";
                    transaction.prepare_cached(insert).unwrap().execute(params!["a", at as i64, sample.label, hash]).unwrap();
                }
                transaction.commit().unwrap();
            }
        }
    });
    let read_us = timed(samples.len(), || {
        let mut query = connection.prepare("SELECT hash FROM sample WHERE tenant = 'a' AND at_ms = 0").unwrap();
        let rows = query.query_map([], |row| row.get::<_, String>(0)).unwrap();
        let bytes: usize = rows.map(|hash| std::fs::read(name(&hash.unwrap())).unwrap().len()).sum();
        assert!(bytes > 0);
    });
    drop(connection);
    Figures { add_us, read_us, disk: on_disk(folder) }
}

fn main() {
    println!("| features | store | µs to add one | again | µs to read one | MiB on disk | after twice |");
    println!("|---|---|---|---|---|---|---|");
    for (size, count) in [(40, 20_000), (256, 20_000), (12_288, 10_000), (150_528, 1000)] {
        let samples = samples(count, size, 7);
        type Store = fn(&[Sample], &Path, usize) -> Figures;
        for (name, store) in [("this one", ours as Store), ("features in every row", plain), ("a file each", files)] {
            let (once, twice) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
            let (first, second) = (store(&samples, once.path(), 1), store(&samples, twice.path(), 2));
            let mib = |bytes: u64| bytes as f64 / (1 << 20) as f64;
            let again = 2.0 * second.add_us - first.add_us;
            println!(
                "| {size} B × {count} | {name} | {:.1} | {again:.1} | {:.1} | {:.1} | {:.1} |",
                first.add_us,
                first.read_us,
                mib(first.disk),
                mib(second.disk)
            );
        }
    }
}
