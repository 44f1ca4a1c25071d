//! Samples kept, replayed, shared and removed.

use std::time::Duration;

use super::look::{counts, look};
use super::*;

fn store(stored_samples: u64) -> (tempfile::TempDir, SqliteSamples) {
    let folder = tempfile::tempdir().unwrap();
    let store = SqliteSamples::open(&folder.path().join("new/samples.sqlite"), Bounds::samples(stored_samples)).unwrap();
    (folder, store)
}

fn samples(labels: &[u32]) -> Vec<Sample> {
    labels.iter().enumerate().map(|(i, &label)| Sample { features: Bytes::from(vec![i as u8; 3]), label, origin: Origin::Client }).collect()
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
    assert_eq!(counts(&path).unwrap(), BTreeMap::from([("a".to_owned(), 1)]));
    assert_eq!(SqliteSamples::open(&path, Bounds::samples(10)).unwrap().count("a"), Ok(1));
}

#[test]
fn a_file_that_is_not_ours_is_named_with_what_to_do() {
    let folder = tempfile::tempdir().unwrap();
    let refused = |name: &str| match SqliteSamples::open(&folder.path().join(name), Bounds::samples(10)) {
        Ok(_) => panic!("{name} was opened"),
        Err(error) => error.to_string(),
    };
    std::fs::write(folder.path().join("text"), "not a database, but long enough to look at".repeat(40)).unwrap();
    assert!(refused("text").contains("text: is corrupt") && refused("text").contains("move it away"), "{}", refused("text"));
    Connection::open(folder.path().join("other")).unwrap().execute_batch("CREATE TABLE t (x)").unwrap();
    assert!(refused("other").contains("not one of migrator"));
    drop(SqliteSamples::open(&folder.path().join("new"), Bounds::samples(10)).unwrap());
    Connection::open(folder.path().join("new")).unwrap().pragma_update(None, "user_version", 9).unwrap();
    assert!(refused("new").contains("has schema version 9, this program knows 2"));
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
    let error = SqliteSamples::open(&path, Bounds::samples(10)).err().unwrap().to_string();
    assert!(error.contains("is corrupt") && error.contains("move it away"), "{error}");
}

fn sample(features: &[u8], label: u32, origin: Origin) -> Sample {
    Sample { features: Bytes::copy_from_slice(features), label, origin }
}

fn blobs(store: &SqliteSamples) -> u64 {
    store.lock().connection.query_row("SELECT COUNT(*) FROM blob", [], |row| row.get(0)).unwrap()
}

#[test]
fn features_that_samples_share_are_kept_once_and_as_long_as_one_has_them() {
    let (folder, store) = store(4);
    for at in 0..4 {
        store.add("a", at, &[sample(b"same", at as u32, Origin::Client)]).unwrap();
    }
    store.add("b", 9, &[sample(b"same", 7, Origin::Client)]).unwrap();
    assert_eq!((blobs(&store), store.count("a"), store.count("b")), (1, Ok(4), Ok(1)));
    store.add("a", 10, &[sample(b"1", 1, Origin::Client), sample(b"2", 1, Origin::Client), sample(b"3", 1, Origin::Client)]).unwrap();
    assert_eq!((blobs(&store), labels(&store.between("a", 0, 99, 9).unwrap())), (4, vec![3, 1, 1, 1]));
    store.add("a", 11, &[sample(b"4", 1, Origin::Client)]).unwrap();
    assert_eq!(blobs(&store), 5, "b still has it");
    let seen = look(&folder.path().join("new/samples.sqlite"), "a", 1000, |_, _| ()).unwrap().unwrap();
    assert_eq!((seen.samples, seen.distinct, seen.oldest_ms, seen.newest_ms), (4, 4, 10, 11));
}

#[test]
fn what_a_client_says_goes_before_what_the_golden_model_says() {
    let (_folder, store) = store(10);
    assert_eq!(store.add_at("a", 1, &[sample(b"x", 1, Origin::Golden)]), Ok(Added { kept: 1, removed: 0 }));
    assert_eq!(store.add_at("b", 1, &[sample(b"x", 1, Origin::Golden)]), Ok(Added { kept: 1, removed: 0 }));
    assert_eq!(store.add_at("a", 2, &[sample(b"x", 2, Origin::Label)]), Ok(Added { kept: 1, removed: 0 }));
    assert_eq!(store.add_at("a", 3, &[sample(b"x", 1, Origin::Golden)]), Ok(Added::default()));
    let kept = store.between("a", 0, 99, 9).unwrap();
    assert_eq!(kept, [sample(b"x", 2, Origin::Label)]);
    assert_eq!((store.count("a"), store.count("b"), blobs(&store)), (Ok(1), Ok(1), 1));
}

#[test]
fn samples_go_by_size_and_by_age() {
    let (_folder, store) = store(1000);
    let (by_size, by_age) = (Some(3 * (100 + OVERHEAD)), Some(Duration::from_secs(10)));
    let store = store.bound("size", Bounds { bytes: by_size, ..Bounds::samples(1000) });
    let store = store.bound("age", Bounds { age: by_age, ..Bounds::samples(1000) });
    for at in 0..6u64 {
        let sample = [sample(&[at as u8; 100], at as u32, Origin::Client)];
        store.add("size", at, &sample).unwrap();
        store.add("age", at * 4000, &sample).unwrap();
        store.add("neither", at, &sample).unwrap();
    }
    let kept = |tenant| labels(&store.between(tenant, 0, u64::MAX, 99).unwrap());
    assert_eq!((kept("size"), kept("age"), kept("neither").len()), (vec![3, 4, 5], vec![3, 4, 5], 6));
    assert_eq!(store.sweep(26_001).unwrap(), 2, "no new sample has to come");
    assert_eq!(kept("age"), [5]);
    store.add("size", 99, &[sample(&[9; 1000], 9, Origin::Client)]).unwrap();
    assert_eq!(kept("size"), [0u32; 0], "what alone is larger than the bound is not kept");
}

#[test]
fn a_tenant_that_comes_later_has_bounds_of_its_own() {
    let (_folder, store) = store(1000);
    let add = |at: u64| store.add("late", at, &[sample(&at.to_le_bytes(), 1, Origin::Client)]).unwrap();
    (0..4).for_each(add);
    store.set_bounds("late", Bounds::samples(2));
    add(4);
    assert_eq!(store.count("late"), Ok(2));
    store.set_bounds("late", Bounds::samples(3));
    (5..9).for_each(add);
    assert_eq!(store.count("late"), Ok(3));
}

#[test]
fn of_one_call_no_more_than_the_bound_is_written() {
    let (_folder, store) = store(100);
    store.add("a", 1, &samples(&[7])).unwrap();
    let many: Vec<Sample> = (0..1000u32).map(|n| sample(&n.to_le_bytes(), n, Origin::Client)).collect();
    assert_eq!(store.add_at("a", 2, &many), Ok(Added { kept: 100, removed: 1 }));
    assert_eq!(labels(&store.between("a", 0, 99, 999).unwrap()), (900..1000).collect::<Vec<u32>>());
    let written: u64 = store.lock().connection.query_row("SELECT MAX(id) FROM sample", [], |row| row.get(0)).unwrap();
    assert_eq!(written, 101, "the others were never in the file");
}

#[test]
fn a_watched_store_goes_by_the_clock_that_its_samples_are_stamped_by() {
    let (_folder, store) = store(100);
    let hour = Duration::from_secs(3600);
    let store = Arc::new(store.bound("a", Bounds { age: Some(hour), ..Bounds::samples(100) }));
    let now_ms = Clock::start().unix_ms();
    store.add("a", now_ms, &samples(&[1])).unwrap();
    bound::watch(Arc::downgrade(&store), move || now_ms + 2 * hour.as_millis() as u64);
    while store.count("a").unwrap() > 0 {
        std::thread::yield_now();
    }
}

#[test]
fn a_bound_that_was_lowered_is_reached_in_steps_and_the_file_becomes_smaller() {
    let (folder, store) = store(10_000);
    let many: Vec<Sample> = (0..5000u32).map(|n| sample(&[&n.to_le_bytes()[..], &[0; 2000]].concat(), 1, Origin::Client)).collect();
    store.add("a", 1, &many).unwrap();
    drop(store);
    let path = folder.path().join("new/samples.sqlite");
    let store = SqliteSamples::open(&path, Bounds::samples(100)).unwrap();
    store.add("a", 2, &many[..1]).unwrap();
    assert_eq!(store.count("a"), Ok(5001 - bound::STEP as u64), "one call removes no more than a step");
    assert_eq!(store.sweep(3).unwrap(), 5001 - bound::STEP - 100);
    assert_eq!(store.count("a"), Ok(100));
    drop(store);
    let size = path.metadata().unwrap().len();
    assert!(size < 2 << 20, "{size} bytes for 100 samples of 2 KiB");
    check_whole(&path);
}

fn check_whole(path: &Path) {
    assert!(SqliteSamples::open(path, Bounds::samples(100)).is_ok());
}

#[test]
fn a_file_of_an_earlier_program_is_brought_up_to_date() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("samples.sqlite");
    let old = Connection::open(&path).unwrap();
    old.execute_batch(
        "CREATE TABLE sample (id INTEGER PRIMARY KEY AUTOINCREMENT, tenant TEXT NOT NULL, at_ms INTEGER NOT NULL, label INTEGER NOT NULL, features BLOB NOT NULL) STRICT;
         CREATE INDEX sample_by_time ON sample (tenant, at_ms);
         CREATE INDEX sample_by_label ON sample (tenant, label, at_ms);
         CREATE INDEX sample_by_age ON sample (tenant, id);
         INSERT INTO sample (tenant, at_ms, label, features) VALUES ('a', 5, 1, x'01'), ('b', 6, 2, x'01'), ('a', 7, 3, x'02');
         PRAGMA application_id = 0x4d494752; PRAGMA user_version = 1;",
    )
    .unwrap();
    drop(old);
    assert_eq!(counts(&path).unwrap(), BTreeMap::from([("a".to_owned(), 2), ("b".to_owned(), 1)]));
    assert!(look(&path, "a", 1, |_, _| ()).unwrap_err().to_string().contains("written by an earlier program"));
    let store = SqliteSamples::open(&path, Bounds::samples(10)).unwrap();
    assert_eq!(store.between("a", 0, 99, 9).unwrap(), [sample(&[1], 1, Origin::Client), sample(&[2], 3, Origin::Client)]);
    assert_eq!((labels(&store.between("a", 6, 99, 9).unwrap()), store.count("b"), blobs(&store)), (vec![3], Ok(1), 2));
}

#[test]
fn a_look_tells_classes_origins_and_periods_while_the_store_is_in_use() {
    let (folder, store) = store(10);
    let path = folder.path().join("new/samples.sqlite");
    assert_eq!(look(&folder.path().join("none"), "a", 1, |_, _| ()).unwrap(), None);
    store.add("a", 1500, &[sample(b"x", 1, Origin::Client), sample(b"y", 1, Origin::Golden)]).unwrap();
    store.add("a", 2500, &[sample(b"x", 0, Origin::Import)]).unwrap();
    let mut seen = Vec::new();
    let found = look(&path, "a", 1000, |features, label| seen.push((features.to_vec(), label))).unwrap().unwrap();
    assert_eq!(seen, [(b"x".to_vec(), 1), (b"y".to_vec(), 1), (b"x".to_vec(), 0)]);
    assert_eq!((found.classes, found.periods), (BTreeMap::from([(0, 1), (1, 2)]), BTreeMap::from([(1000, 2), (2000, 1)])));
    assert_eq!(found.origins, BTreeMap::from([("client", 1), ("golden", 1), ("import", 1)]));
    assert_eq!((found.distinct, found.bytes), (2, 3 * (1 + OVERHEAD)));
    assert_eq!(look(&path, "nobody", 1000, |_, _| ()).unwrap(), None);
}

#[test]
fn a_watched_store_ends_with_its_last_owner() {
    let (_folder, store) = store(10);
    let store = Arc::new(store);
    watch(&store, Clock::start());
    let weak = Arc::downgrade(&store);
    drop(store);
    while weak.upgrade().is_some() {
        std::thread::yield_now();
    }
}
