use super::*;
use crate::spec::{Architecture, ModelSpec, Source};

fn spec(name: &str) -> ModelSpec {
    let architecture = Architecture::Mlp { features: 2, hidden: vec![4] };
    ModelSpec { name: name.into(), classes: 2, max_batch: 1, precision: Default::default(), source: Source::Architecture { architecture } }
}

fn store() -> (tempfile::TempDir, Store) {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::open(folder.path()).unwrap();
    (folder, store)
}

fn publish(store: &Store, weights: &[u8]) -> u64 {
    let staged = store.staging("m").unwrap();
    fs::write(staged.join(WEIGHTS), weights).unwrap();
    store.publish("m", &staged, Manifest::new(spec("m"))).unwrap()
}

fn latest(store: &Store) -> Option<u64> {
    store.latest("m").unwrap().found.map(|manifest| manifest.version)
}

#[test]
fn what_is_published_comes_back() {
    let (_folder, store) = store();
    assert!(latest(&store).is_none());
    let staged = store.staging("m").unwrap();
    fs::write(staged.join(WEIGHTS), b"abc").unwrap();
    let manifest =
        Manifest { parent: Some(7), accuracy_before: Some(0.5), accuracy_after: Some(0.75), samples: 9, ..Manifest::new(spec("m")) };
    assert_eq!(store.publish("m", &staged, manifest.clone()).unwrap(), 1);
    let found = store.verify("m", 1).unwrap();
    assert_eq!((found.parent, found.accuracy_after, &found.spec), (Some(7), Some(0.75), &spec("m")));
    assert_eq!(found.files[WEIGHTS].sha256, "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
    assert_eq!(fs::read(store.folder("m", 1).unwrap().join(WEIGHTS)).unwrap(), b"abc");
    assert_eq!((publish(&store, b"d"), latest(&store)), (2, Some(2)));
    assert_eq!((store.models().unwrap(), store.versions("m").unwrap()), (vec!["m".to_owned()], vec![1, 2]));
}

#[test]
fn an_older_version_becomes_the_newest_again_unless_it_is_broken() {
    let (_folder, store) = store();
    publish(&store, b"good");
    publish(&store, b"bad");
    assert_eq!(store.republish("m", 1).unwrap(), 3);
    assert_eq!((latest(&store), store.verify("m", 3).unwrap().parent), (Some(3), Some(1)));
    assert_eq!(fs::read(store.folder("m", 3).unwrap().join(WEIGHTS)).unwrap(), b"good");
    fs::write(store.folder("m", 2).unwrap().join(WEIGHTS), b"worse").unwrap();
    assert!(matches!(store.republish("m", 2), Err(StoreError::Incomplete { .. })));
    assert!(store.republish("m", 9).is_err() && latest(&store) == Some(3));
}

#[test]
fn broken_versions_are_skipped_and_reported() {
    let (_folder, store) = store();
    (0..4).for_each(|_| assert!(publish(&store, b"weights") > 0));
    let file = |version, name| store.folder("m", version).unwrap().join(name);
    fs::write(file(2, WEIGHTS), b"weight").unwrap();
    fs::write(file(3, WEIGHTS), b"wEights").unwrap();
    fs::write(file(4, MANIFEST), b"version = ").unwrap();
    fs::create_dir(store.folder("m", 5).unwrap()).unwrap();
    let latest = store.latest("m").unwrap();
    assert_eq!(latest.found.unwrap().version, 1);
    let says: Vec<String> = latest.skipped.iter().map(|(_, why)| why.to_string()).collect();
    assert!(says[0].contains("5/manifest.toml: it cannot be read"), "{says:?}");
    assert!(says[1].contains("4/manifest.toml: it is no manifest"), "{says:?}");
    assert!(says[2].contains("3/weights.safetensors: its sha256 is"), "{says:?}");
    assert!(says[3].contains("2/weights.safetensors: it has 6 bytes and should have 7"), "{says:?}");
    assert_eq!(publish(&store, b"next"), 6, "numbers of broken versions are not used again");
}

#[test]
fn a_version_on_trial_is_nobodys_newest_until_it_is_found_good() {
    let (folder, store) = store();
    publish(&store, b"old");
    let staged = store.staging("m").unwrap();
    fs::write(staged.join(WEIGHTS), b"tried").unwrap();
    assert_eq!(store.publish_on_trial("m", &staged, Manifest::new(spec("m"))).unwrap(), 2);
    drop(store);
    let store = Store::open(folder.path()).unwrap();
    let seen = store.latest("m").unwrap();
    assert_eq!((seen.found.unwrap().version, seen.skipped.len(), seen.on_trial), (1, 0, vec![2]));
    assert_eq!((store.prune("m", 1, &[]).unwrap(), store.on_trial("m", 2)), (vec![], true));
    assert_eq!((store.republish("m", 2).unwrap(), latest(&store)), (3, Some(3)), "a copy of it is not on trial");
    store.found_good("m", 2).unwrap();
    store.found_good("m", 2).unwrap();
    assert_eq!((store.verify("m", 2).unwrap().version, store.on_trial("m", 2)), (2, false));
}

#[test]
fn names_that_leave_the_store_are_refused() {
    let (_folder, store) = store();
    for name in ["", "..", "a/b", "../a", ".staging", "a\0", "-a", "ä", &"a".repeat(101)] {
        assert!(matches!(store.latest(name), Err(StoreError::Name { .. })), "{name}");
        assert!(matches!(store.staging(name), Err(StoreError::Name { .. })), "{name}");
    }
    assert!(check_name("resnet-18_v1.5").is_ok());
}

#[test]
fn a_staged_folder_lacking_a_file_is_refused() {
    let (_folder, store) = store();
    let staged = store.staging("m").unwrap();
    let says = |manifest| store.publish("m", &staged, manifest).unwrap_err().to_string();
    assert!(says(Manifest::new(spec("m"))).ends_with("cannot be published: file weights.safetensors is missing"));
    assert!(says(Manifest::new(spec("other"))).contains("manifest is of other and should be of m"));
}

#[test]
fn concurrent_publishers_get_different_versions() {
    let (folder, _store) = store();
    let versions = std::sync::Mutex::new(Vec::new());
    std::thread::scope(|scope| {
        for thread in 0..4u8 {
            let (versions, root) = (&versions, folder.path());
            scope.spawn(move || {
                let store = Store::open(root).unwrap();
                for round in 0..8u8 {
                    let version = publish(&store, &[thread, round]);
                    assert_eq!(fs::read(store.folder("m", version).unwrap().join(WEIGHTS)).unwrap(), [thread, round]);
                    versions.lock().unwrap().push(version);
                }
            });
        }
    });
    let mut versions = versions.into_inner().unwrap();
    versions.sort_unstable();
    assert_eq!(versions, (1..=32).collect::<Vec<_>>());
}

#[test]
fn staging_of_a_stopped_process_goes_and_of_a_live_one_stays() {
    let (folder, store) = store();
    let live = store.staging("m").unwrap();
    let dead = folder.path().join(".staging/1-0");
    fs::create_dir_all(dead.join("m-0")).unwrap();
    fs::write(folder.path().join(".staging/1-0.lock"), b"").unwrap();
    let _other = Store::open(folder.path()).unwrap();
    assert!(live.is_dir() && !dead.exists() && !folder.path().join(".staging/1-0.lock").exists());
    drop(store);
    assert!(!live.exists());
}

#[test]
fn pruning_spares_the_newest_the_kept_and_those_in_use() {
    let (_folder, store) = store();
    (0..6).for_each(|_| assert!(publish(&store, b"weights") > 0));
    assert_eq!(store.prune("m", 2, &[2]).unwrap(), [1, 3, 4]);
    assert_eq!(store.versions("m").unwrap(), [2, 5, 6]);
    fs::remove_file(store.folder("m", 6).unwrap().join(WEIGHTS)).unwrap();
    assert_eq!(store.prune("m", 1, &[]).unwrap(), [2], "5 is the newest complete one");
    assert_eq!((store.prune("m", 0, &[]).unwrap(), latest(&store)), (vec![], Some(5)));
}
