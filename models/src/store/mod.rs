//! Model versions on disk: `<root>/<model>/<version>/{manifest.toml, weights.safetensors | model.pt, tokenizer.json?}`.
//!
//! A version is complete when its manifest parses and the files it lists have the sizes and SHA-256 it says. It appears in one
//! rename and never changes, but for the mark of a trial, which goes. Several processes may share a store: version numbers ascend, staging folders of a process that is
//! gone are removed by the next [`Store::open`].

mod error;
mod manifest;
mod staging;

use std::fs;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use sha2::{Digest, Sha256};

pub use error::StoreError;
pub use manifest::{FileEntry, MANIFEST, Manifest, ON_TRIAL, TOKENIZER, TORCHSCRIPT, WEIGHTS, files_of};

use crate::file;
use staging::Staging;

/// A model store.
#[derive(Debug)]
pub struct Store {
    root: PathBuf,
    staging: Staging,
}

/// The newest complete version, and the newer ones that are not, or not yet.
#[derive(Debug, Default)]
pub struct Latest {
    /// The newest complete version.
    pub found: Option<Manifest>,
    /// Newer versions that were skipped, newest first, and why.
    pub skipped: Vec<(u64, StoreError)>,
    /// Newer versions that were published [on trial](Store::publish_on_trial) and not found good since, newest first.
    pub on_trial: Vec<u64>,
}

impl Store {
    /// Opens a store, made if absent; removes what stopped processes left in staging.
    ///
    /// # Errors
    /// [`StoreError::Io`] when the folder cannot be made or read.
    pub fn open(root: &Path) -> Result<Store, StoreError> {
        fs::create_dir_all(root).map_err(|e| StoreError::io(root, e))?;
        let root = root.canonicalize().map_err(|e| StoreError::io(root, e))?;
        let staging = Staging::open(&root)?;
        Ok(Store { root, staging })
    }

    /// Where it lies, absolute.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// The models that have a folder, sorted.
    ///
    /// # Errors
    /// [`StoreError::Io`].
    pub fn models(&self) -> Result<Vec<String>, StoreError> {
        let mut models = folders(&self.root)?;
        models.retain(|name| check_name(name).is_ok());
        models.sort();
        Ok(models)
    }

    /// The versions of a model that have a manifest, ascending; complete or not. None for an unknown model.
    ///
    /// # Errors
    /// [`StoreError::Name`] or [`StoreError::Io`].
    pub fn versions(&self, model: &str) -> Result<Vec<u64>, StoreError> {
        let mut versions = self.numbers(model)?;
        versions.retain(|version| self.path(model, *version).join(MANIFEST).is_file());
        Ok(versions)
    }

    /// The newest complete version that is not on trial; every newer one is reported with what is wrong with it.
    ///
    /// # Errors
    /// [`StoreError::Name`] or [`StoreError::Io`] of the model's folder; a broken version is no error.
    pub fn latest(&self, model: &str) -> Result<Latest, StoreError> {
        let mut latest = Latest::default();
        for version in self.numbers(model)?.into_iter().rev() {
            if self.on_trial(model, version) {
                latest.on_trial.push(version);
                continue;
            }
            match self.verify(model, version) {
                Ok(manifest) => {
                    latest.found = Some(manifest);
                    break;
                }
                Err(why) => latest.skipped.push((version, why)),
            }
        }
        Ok(latest)
    }

    /// Folder of a version; it need not exist.
    ///
    /// # Errors
    /// [`StoreError::Name`].
    pub fn folder(&self, model: &str, version: u64) -> Result<PathBuf, StoreError> {
        check_name(model)?;
        Ok(self.path(model, version))
    }

    /// Manifest of a version; its files are not looked at.
    ///
    /// # Errors
    /// [`StoreError::Name`], or [`StoreError::Incomplete`] when there is none that can be read.
    pub fn manifest(&self, model: &str, version: u64) -> Result<Manifest, StoreError> {
        let path = self.folder(model, version)?.join(MANIFEST);
        let incomplete = |reason| StoreError::Incomplete { path: path.clone(), reason };
        let text = fs::read_to_string(&path).map_err(|e| incomplete(format!("it cannot be read ({e}); publish the version again")))?;
        let manifest: Manifest = toml::from_str(&text).map_err(|e| incomplete(format!("it is no manifest: {}", e.message())))?;
        match manifest.version == version && manifest.spec.name == model {
            true => Ok(manifest),
            false => Err(incomplete(format!("it describes version {} of {}", manifest.version, manifest.spec.name))),
        }
    }

    /// Checks a version: its manifest, and sizes and SHA-256 of its files.
    ///
    /// # Errors
    /// [`StoreError::Name`], [`StoreError::Incomplete`] naming the first file that is wrong.
    pub fn verify(&self, model: &str, version: u64) -> Result<Manifest, StoreError> {
        let manifest = self.manifest(model, version)?;
        let folder = self.path(model, version);
        for name in files_of(&manifest.spec) {
            let path = folder.join(name);
            let incomplete = |reason| StoreError::Incomplete { path: path.clone(), reason };
            let entry = manifest.files.get(*name).ok_or_else(|| incomplete("the manifest does not list it".to_owned()))?;
            let size = fs::metadata(&path).map_err(|e| incomplete(format!("it cannot be read ({e})")))?.len();
            if size != entry.bytes {
                return Err(incomplete(format!("it has {size} bytes and should have {}", entry.bytes)));
            }
            let found = entry_of(&path)?;
            if found != *entry {
                return Err(incomplete(format!("its sha256 is {} and should be {}", found.sha256, entry.sha256)));
            }
        }
        Ok(manifest)
    }

    /// A new, empty folder on the store's file system, to be filled and given to [`Store::publish`]. It goes when the store is
    /// dropped, or with the process.
    ///
    /// # Errors
    /// [`StoreError::Name`] or [`StoreError::Io`].
    pub fn staging(&self, model: &str) -> Result<PathBuf, StoreError> {
        check_name(model)?;
        self.staging.folder(model)
    }

    /// Makes a staged folder the next version: lists its files with size and SHA-256 in the manifest, syncs, renames. Version,
    /// creation time and files of `manifest` are set here. Gives the version.
    ///
    /// # Errors
    /// [`StoreError::Unpublishable`] when a file is missing or the manifest is another model's; [`StoreError::Io`].
    pub fn publish(&self, model: &str, staged: &Path, mut manifest: Manifest) -> Result<u64, StoreError> {
        check_name(model)?;
        let refuse = |reason| Err(StoreError::Unpublishable { path: staged.to_owned(), reason });
        if manifest.spec.name != model {
            return refuse(format!("its manifest is of {} and should be of {model}", manifest.spec.name));
        }
        manifest.files.clear();
        for name in files_of(&manifest.spec) {
            let path = staged.join(name);
            if !path.is_file() {
                return refuse(format!("file {name} is missing"));
            }
            fs::File::open(&path).and_then(|f| f.sync_all()).map_err(|e| StoreError::io(&path, e))?;
            manifest.files.insert((*name).to_owned(), entry_of(&path)?);
        }
        let parent = self.root.join(model);
        fs::create_dir_all(&parent).map_err(|e| StoreError::io(&parent, e))?;
        self.rename(model, staged, manifest)
    }

    /// As [`Store::publish`], but it is nobody's newest version until it is [found good](Store::found_good): whoever starts meanwhile, after a
    /// crash even, starts with the one before it.
    ///
    /// # Errors
    /// As [`Store::publish`].
    pub fn publish_on_trial(&self, model: &str, staged: &Path, manifest: Manifest) -> Result<u64, StoreError> {
        let mark = staged.join(ON_TRIAL);
        file::replace(&mark, b"").map_err(|e| StoreError::io(&mark, e))?;
        self.publish(model, staged, manifest)
    }

    /// Ends a version's trial: it counts from now on.
    ///
    /// # Errors
    /// [`StoreError::Name`] or [`StoreError::Io`]; a version that is not on trial is no error.
    pub fn found_good(&self, model: &str, version: u64) -> Result<(), StoreError> {
        let folder = self.folder(model, version)?;
        let mark = folder.join(ON_TRIAL);
        match fs::remove_file(&mark) {
            Ok(()) => file::sync_folder(&folder).map_err(|e| StoreError::io(&folder, e)),
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(()),
            Err(e) => Err(StoreError::io(&mark, e)),
        }
    }

    /// Whether a version is on trial.
    pub fn on_trial(&self, model: &str, version: u64) -> bool {
        self.path(model, version).join(ON_TRIAL).exists()
    }

    /// Publishes a copy of an older version as the newest one; that is its parent. Gives the new version.
    ///
    /// # Errors
    /// As [`Store::verify`] and [`Store::publish`].
    pub fn republish(&self, model: &str, version: u64) -> Result<u64, StoreError> {
        let old = self.verify(model, version)?;
        let staged = self.staging(model)?;
        for name in files_of(&old.spec) {
            let path = staged.join(name);
            fs::copy(self.path(model, version).join(name), &path).map_err(|e| StoreError::io(&path, e))?;
        }
        self.publish(model, &staged, Manifest { parent: Some(version), ..old })
    }

    /// Removes old versions: keeps the newest `keep`, the newest complete one and everything newer, and those `in_use`. Gives the removed.
    ///
    /// # Errors
    /// [`StoreError::Name`] or [`StoreError::Io`].
    pub fn prune(&self, model: &str, keep: usize, in_use: &[u64]) -> Result<Vec<u64>, StoreError> {
        let Some(newest) = self.latest(model)?.found.map(|manifest| manifest.version) else { return Ok(Vec::new()) };
        let versions = self.numbers(model)?;
        let old = &versions[..versions.len().saturating_sub(keep)];
        let doomed = old.iter().copied().filter(|version| *version < newest && !in_use.contains(version));
        doomed.map(|version| self.staging.remove(&self.path(model, version)).map(|()| version)).collect()
    }

    /// All folders with a number for a name, ascending.
    fn numbers(&self, model: &str) -> Result<Vec<u64>, StoreError> {
        check_name(model)?;
        let mut numbers: Vec<u64> = match folders(&self.root.join(model)) {
            Ok(names) => names.iter().filter_map(|name| name.parse().ok().filter(|n: &u64| n.to_string() == *name)).collect(),
            Err(StoreError::Io { source, .. }) if source.kind() == io::ErrorKind::NotFound => Vec::new(),
            Err(error) => return Err(error),
        };
        numbers.sort_unstable();
        Ok(numbers)
    }

    fn rename(&self, model: &str, staged: &Path, mut manifest: Manifest) -> Result<u64, StoreError> {
        loop {
            manifest.version = self.numbers(model)?.last().map_or(1, |newest| newest + 1);
            manifest.created_ms = now_ms();
            let text = toml::to_string(&manifest).map_err(|e| StoreError::Unpublishable {
                path: staged.to_owned(),
                reason: format!("its manifest cannot be written: {e}"),
            })?;
            let path = staged.join(MANIFEST);
            file::replace(&path, text.as_bytes()).map_err(|e| StoreError::io(&path, e))?;
            let target = self.path(model, manifest.version);
            match fs::rename(staged, &target) {
                Ok(()) => {
                    let parent = self.root.join(model);
                    file::sync_folder(&parent).map_err(|e| StoreError::io(&parent, e))?;
                    return Ok(manifest.version);
                }
                // Another publisher took the number: a folder that is not empty is never replaced by rename(2).
                Err(e) if matches!(e.kind(), io::ErrorKind::DirectoryNotEmpty | io::ErrorKind::AlreadyExists) => {}
                Err(e) => return Err(StoreError::io(&target, e)),
            }
        }
    }

    fn path(&self, model: &str, version: u64) -> PathBuf {
        self.root.join(model).join(version.to_string())
    }
}

/// Whether a name can be a model's: letters, digits, `.`, `_`, `-`; the first a letter or digit; at most 100 bytes.
///
/// # Errors
/// [`StoreError::Name`].
pub fn check_name(model: &str) -> Result<(), StoreError> {
    let first = model.bytes().next().is_some_and(|b| b.is_ascii_alphanumeric());
    let rest = model.bytes().all(|b| b.is_ascii_alphanumeric() || b"._-".contains(&b));
    if first && rest && model.len() <= 100 { Ok(()) } else { Err(StoreError::Name { name: model.to_owned() }) }
}

fn folders(path: &Path) -> Result<Vec<String>, StoreError> {
    let entries = fs::read_dir(path).map_err(|e| StoreError::io(path, e))?;
    let entries = entries.collect::<io::Result<Vec<_>>>().map_err(|e| StoreError::io(path, e))?;
    Ok(entries.iter().filter(|e| e.path().is_dir()).filter_map(|e| e.file_name().into_string().ok()).collect())
}

fn entry_of(path: &Path) -> Result<FileEntry, StoreError> {
    let mut file = fs::File::open(path).map_err(|e| StoreError::io(path, e))?;
    let (mut hash, mut bytes, mut buffer) = (Sha256::new(), 0, vec![0; 1 << 18]);
    loop {
        let read = file.read(&mut buffer).map_err(|e| StoreError::io(path, e))?;
        if read == 0 {
            let sha256 = hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect();
            return Ok(FileEntry { bytes, sha256 });
        }
        hash.update(&buffer[..read]);
        bytes += read as u64;
    }
}

fn now_ms() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis() as u64)
}

#[cfg(test)]
mod tests;
