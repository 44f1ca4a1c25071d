//! A configuration and a state folder, on a host that is otherwise quiet.

use std::ops::Deref;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

use fake_nvml::{FakeHost, HostSpec};
use migrator::storage;
use migrator_models::reader::LabelledSet;
use migrator_models::store::Store;
use tempfile::TempDir;

use super::config::Setup;
use super::{Ran, Server, data, run};

/// One server at a time: they share the host's cores.
static ALONE: Mutex<()> = Mutex::new(());

/// A configuration and a state folder of one test, which has the host for itself; removed when dropped.
pub struct World {
    folder: Folder,
    _alone: MutexGuard<'static, ()>,
}

impl World {
    /// A world whose models have a trained version 1 each.
    pub fn new(setup: &dyn Setup) -> World {
        let world = World::untrained(&setup.toml());
        copy(&trained(setup), &world.state().join("models"));
        if let Some(board) = setup.board() {
            let spec = HostSpec { latency: 1.0, ..HostSpec::of(&[board]) };
            let library = FakeHost::create(&world.fake_folder(), &spec).unwrap().library().unwrap();
            std::fs::write(world.config(), setup.toml().replace("LIBRARY", text(&library))).unwrap();
        }
        world
    }

    /// A world without any model.
    pub fn untrained(toml: &str) -> World {
        let alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
        World { folder: Folder::new(toml), _alone: alone }
    }
}

impl Deref for World {
    type Target = Folder;

    fn deref(&self) -> &Folder {
        &self.folder
    }
}

/// A configuration and a state folder.
pub struct Folder(TempDir);

impl Folder {
    fn new(toml: &str) -> Folder {
        let dir = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
        std::fs::write(dir.path().join("config.toml"), toml).unwrap();
        Folder(dir)
    }

    /// The configuration file.
    pub fn config(&self) -> PathBuf {
        self.file("config.toml")
    }

    /// The state folder.
    pub fn state(&self) -> PathBuf {
        self.file("state")
    }

    /// A file of this world.
    pub fn file(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    /// Folder of the fake NVIDIA driver.
    pub fn fake_folder(&self) -> PathBuf {
        self.file("fake-nvml")
    }

    /// The fake NVIDIA driver's side of the story.
    pub fn fake(&self) -> FakeHost {
        FakeHost::open(&self.fake_folder()).unwrap()
    }

    /// The model store.
    pub fn store(&self) -> Store {
        Store::open(&self.state().join("models")).unwrap()
    }

    /// Labelled samples of a tenant in the store, read beside the server.
    pub fn stored(&self, tenant: &str) -> u64 {
        storage::look::counts(&self.state().join("samples.sqlite")).unwrap().get(tenant).copied().unwrap_or(0)
    }

    /// The file of weights of a version.
    pub fn weights(&self, model: &str, version: u64) -> PathBuf {
        self.store().folder(model, version).unwrap().join("weights.safetensors")
    }

    /// Starts the server; every tenant is served when this returns.
    pub fn serve(&self) -> Server {
        Server::start(&self.config(), &self.state(), self.file("server.log"))
    }

    /// Starts the server and kills it as soon as `when`.
    pub fn serve_and_kill(&self, what: &str, when: impl Fn() -> bool) {
        Server::killed(&self.config(), &self.state(), self.file("server.log"), what, when);
    }

    /// Runs `migrator … --config … --state-dir …`.
    pub fn run(&self, args: &[&str]) -> Ran {
        let (config, state) = (self.config(), self.state());
        run(&[args, &["--config", text(&config), "--state-dir", text(&state)]].concat())
    }

    /// Trains the next version of a tenant's model.
    pub fn train(&self, tenant: &str, set: &LabelledSet) {
        let file = self.file(if set.width().is_some() { "training.csv" } else { "training.tsv" });
        data::write(&file, set);
        let ran = self.run(&["models", "train", "--tenant", tenant, "--data", text(&file)]);
        assert_eq!(ran.code, 0, "{ran:?}");
    }
}

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

/// A store with version 1 of every model of a setup, trained once a run.
fn trained(setup: &dyn Setup) -> PathBuf {
    let store = cache().join(setup.name());
    if !store.exists() {
        let folder = Folder::new(&setup.toml());
        for (tenant, set) in setup.training() {
            folder.train(tenant, &set);
        }
        copy(&folder.state().join("models"), &store);
    }
    store
}

/// A folder of this run; those of runs that are over go.
fn cache() -> PathBuf {
    let tmp = Path::new(env!("CARGO_TARGET_TMPDIR"));
    for entry in std::fs::read_dir(tmp).unwrap().flatten() {
        let name = entry.file_name().into_string().unwrap_or_default();
        if name.strip_prefix("trained-").is_some_and(|pid| !Path::new("/proc").join(pid).exists()) {
            let _ = std::fs::remove_dir_all(entry.path());
        }
    }
    tmp.join(format!("trained-{}", std::process::id()))
}

fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap().flatten() {
        let target = to.join(entry.file_name());
        match entry.file_type().unwrap().is_dir() {
            true => copy(&entry.path(), &target),
            false => drop(std::fs::copy(entry.path(), target).unwrap()),
        }
    }
}
