//! Folders being filled, in `<root>/.staging/<area>/`, one area per open store.
//!
//! An area lives as long as the lock on `<area>.lock` is held; the kernel lets go of it with the process, however that ends.

use std::fs::{self, File, TryLockError};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use super::StoreError;

#[derive(Debug)]
pub(super) struct Staging {
    area: PathBuf,
    lock: PathBuf,
    count: AtomicU64,
    // Held for as long as the area is in use.
    _held: File,
}

impl Staging {
    /// Removes areas that nobody holds, then makes one.
    pub(super) fn open(root: &Path) -> Result<Staging, StoreError> {
        let all = root.join(".staging");
        let io = |e| StoreError::io(&all, e);
        fs::create_dir_all(&all).map_err(io)?;
        // One opener at a time: between making a lock file and locking it, an area looks abandoned.
        let gate = File::create(all.join("open.gate")).map_err(io)?;
        gate.lock().map_err(io)?;
        clean(&all).map_err(io)?;
        for number in 0u64.. {
            let (area, lock) =
                (all.join(format!("{}-{number}", std::process::id())), all.join(format!("{}-{number}.lock", std::process::id())));
            if lock.exists() {
                continue;
            }
            let held = File::create(&lock).map_err(io)?;
            held.lock().map_err(io)?;
            fs::create_dir_all(&area).map_err(io)?;
            return Ok(Staging { area, lock, count: AtomicU64::new(0), _held: held });
        }
        unreachable!("an area number is always free")
    }

    pub(super) fn folder(&self, model: &str) -> Result<PathBuf, StoreError> {
        let path = self.area.join(format!("{model}-{}", self.count.fetch_add(1, Ordering::Relaxed)));
        fs::create_dir(&path).map_err(|e| StoreError::io(&path, e))?;
        Ok(path)
    }

    /// Removes a folder of the store so that no half-removed one is ever seen.
    pub(super) fn remove(&self, path: &Path) -> Result<(), StoreError> {
        let aside = self.area.join(format!("removed-{}", self.count.fetch_add(1, Ordering::Relaxed)));
        fs::rename(path, &aside).and_then(|()| fs::remove_dir_all(&aside)).map_err(|e| StoreError::io(path, e))
    }
}

impl Drop for Staging {
    fn drop(&mut self) {
        // What stays is removed by the next opener.
        let _ = fs::remove_dir_all(&self.area);
        let _ = fs::remove_file(&self.lock);
    }
}

fn clean(all: &Path) -> io::Result<()> {
    for entry in fs::read_dir(all)? {
        let path = entry?.path();
        let lock = path.with_extension("lock");
        if path.is_dir() && !is_held(&lock)? {
            fs::remove_dir_all(&path)?;
        }
    }
    for entry in fs::read_dir(all)? {
        let path = entry?.path();
        if path.extension().is_some_and(|e| e == "lock") && !is_held(&path)? {
            fs::remove_file(&path)?;
        }
    }
    Ok(())
}

fn is_held(lock: &Path) -> io::Result<bool> {
    match File::open(lock) {
        Ok(file) => match file.try_lock() {
            Ok(()) => Ok(false),
            Err(TryLockError::WouldBlock) => Ok(true),
            Err(TryLockError::Error(e)) => Err(e),
        },
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(e) => Err(e),
    }
}
