//! The folder that holds a host: what its hardware is, what it holds now, what is to go wrong, and what happened.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use migrator_mig::{Board, board};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::Code;
use crate::fault::{Fault, Rule, strike};
use crate::gpu::Gpu;
use crate::uuid;

/// What a host's hardware and driver are: `host.toml`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HostSpec {
    /// Factor on the measured times of creation and destruction; 0 = none.
    #[serde(default)]
    pub latency: f64,
    /// What the callers may do.
    #[serde(default)]
    pub permission: Permission,
    /// What the driver calls its version.
    #[serde(default = "driver")]
    pub driver: String,
    /// The GPUs by index.
    #[serde(rename = "gpu")]
    pub gpus: Vec<GpuSpec>,
}

/// One GPU of a host.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GpuSpec {
    /// Name of a board of `configs/catalog/`.
    pub board: String,
    /// Its UUID; one that depends on the folder and the index where it is not given.
    #[serde(default)]
    pub uuid: Option<String>,
    /// Whether MIG is on when the host starts; a board without MIG has it off all the same.
    #[serde(default)]
    pub mig: bool,
}

/// What callers may do.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Permission {
    /// Everything.
    #[default]
    Root,
    /// Look, but not at the list of instances, and change nothing.
    None,
}

/// Why there is no host in a folder.
#[derive(Debug, thiserror::Error)]
pub enum HostError {
    /// A file cannot be read or written.
    #[error("{0} cannot be used")]
    File(PathBuf, #[source] io::Error),
    /// `host.toml` cannot be understood.
    #[error("{0} is no description of a host")]
    Spec(PathBuf, #[source] Box<toml::de::Error>),
    /// `host.toml` cannot be written.
    #[error("the description of a host cannot be written")]
    Unwritable(#[source] toml::ser::Error),
    /// No such board is shipped.
    #[error("no board {0:?}")]
    Board(String),
}

/// What all processes that use the host share: `state.json`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct State {
    pub(crate) gpus: Vec<Gpu>,
}

/// Something that clients can wait for: one line of `events.jsonl`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Event {
    pub(crate) gpu: usize,
    /// `nvmlEventType*`.
    pub(crate) kind: u64,
    pub(crate) data: u64,
    pub(crate) instance: Option<u32>,
    pub(crate) compute: Option<u32>,
}

/// A call that changed something or failed: one line of `calls.jsonl`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Call {
    /// When it ended, ms since the epoch.
    pub time_ms: u64,
    /// Who called.
    pub pid: u32,
    /// The function.
    pub call: String,
    /// What it was given, handles in words.
    pub args: serde_json::Map<String, Value>,
    /// What it returned, an `nvmlReturn_t`.
    pub code: u32,
}

/// An opened host.
#[derive(Debug)]
pub(crate) struct Host {
    pub(crate) folder: PathBuf,
    pub(crate) spec: HostSpec,
    pub(crate) boards: Vec<&'static Board>,
    pub(crate) uuids: Vec<String>,
}

impl Host {
    pub(crate) fn create(folder: &Path, spec: &HostSpec) -> Result<Host, HostError> {
        fs::create_dir_all(folder).map_err(|e| HostError::File(folder.to_owned(), e))?;
        let path = folder.join("host.toml");
        let text = toml::to_string(spec).map_err(HostError::Unwritable)?;
        fs::write(&path, text).map_err(|e| HostError::File(path, e))?;
        Host::open(folder)
    }

    pub(crate) fn open(folder: &Path) -> Result<Host, HostError> {
        let folder = folder.canonicalize().map_err(|e| HostError::File(folder.to_owned(), e))?;
        let path = folder.join("host.toml");
        let text = fs::read_to_string(&path).map_err(|e| HostError::File(path.clone(), e))?;
        let spec: HostSpec = toml::from_str(&text).map_err(|e| HostError::Spec(path, Box::new(e)))?;
        let find = |gpu: &GpuSpec| board::find(&gpu.board).ok_or_else(|| HostError::Board(gpu.board.clone()));
        let boards = spec.gpus.iter().map(find).collect::<Result<_, _>>()?;
        let named = |(index, gpu): (usize, &GpuSpec)| gpu.uuid.clone().unwrap_or_else(|| uuid::of_gpu(&folder, index));
        let uuids = spec.gpus.iter().enumerate().map(named).collect();
        Ok(Host { folder, spec, boards, uuids })
    }

    /// What the host holds now. Files are replaced as a whole, so reading needs no lock.
    pub(crate) fn state(&self) -> io::Result<State> {
        let new = |(gpu, board): (&GpuSpec, &&Board)| Gpu::new(gpu.mig && board.instances > 0);
        Ok(self.read("state.json")?.unwrap_or_else(|| State { gpus: self.spec.gpus.iter().zip(&self.boards).map(new).collect() }))
    }

    /// Changes what the host holds, unless `change` fails.
    pub(crate) fn change<T>(&self, change: impl FnOnce(&mut State) -> Result<T, Code>) -> Result<T, Code> {
        let _lock = self.lock("state.lock")?;
        let mut state = self.state().map_err(|_| Code::UNKNOWN)?;
        let value = change(&mut state)?;
        self.write("state.json", &state).map_err(|_| Code::UNKNOWN)?;
        Ok(value)
    }

    /// Holds a lock of the host until it is dropped or the process ends.
    pub(crate) fn lock(&self, name: &str) -> Result<File, Code> {
        let open = || -> io::Result<File> {
            let file = OpenOptions::new().create(true).append(true).open(self.folder.join(name))?;
            file.lock()?;
            Ok(file)
        };
        open().map_err(|_| Code::UNKNOWN)
    }

    /// What goes wrong with this call.
    pub(crate) fn fault(&self, call: &str) -> Option<Fault> {
        if !self.folder.join("faults.json").exists() {
            return None;
        }
        let _lock = self.lock("faults.lock").ok()?;
        let mut rules = self.rules().ok()?;
        let fault = strike(&mut rules, call);
        self.write("faults.json", &rules).ok()?;
        fault
    }

    pub(crate) fn rules(&self) -> io::Result<Vec<Rule>> {
        Ok(self.read("faults.json")?.unwrap_or_default())
    }

    /// Adds a rule, or with `None` takes all away.
    pub(crate) fn set_rule(&self, rule: Option<Rule>) -> io::Result<()> {
        let _lock = self.lock("faults.lock").map_err(io::Error::other)?;
        match rule {
            Some(rule) => self.write("faults.json", &[self.rules()?, vec![rule]].concat()),
            None => match fs::remove_file(self.folder.join("faults.json")) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
                _ => Ok(()),
            },
        }
    }

    /// Appends a line to a log of the host.
    pub(crate) fn append(&self, name: &str, line: &impl Serialize) -> io::Result<()> {
        let mut text = serde_json::to_string(line)?;
        text.push('\n');
        // One write of an append-only file, so lines of several processes do not mix.
        OpenOptions::new().create(true).append(true).open(self.folder.join(name))?.write_all(text.as_bytes())
    }

    /// The whole lines of a log from a byte on, and the byte after them.
    pub(crate) fn lines<T: DeserializeOwned>(&self, name: &str, from: u64) -> io::Result<(Vec<T>, u64)> {
        let bytes = match fs::read(self.folder.join(name)) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok((Vec::new(), from)),
            bytes => bytes?,
        };
        let new = bytes.get(from as usize..).unwrap_or_default();
        let whole = new.iter().rposition(|byte| *byte == b'\n').map_or(0, |last| last + 1);
        let lines = new[..whole].split(|byte| *byte == b'\n').filter(|line| !line.is_empty());
        Ok((lines.map(serde_json::from_slice).collect::<Result<_, _>>()?, from + whole as u64))
    }

    /// Bytes of a log; 0 when nothing was written yet.
    pub(crate) fn length(&self, name: &str) -> u64 {
        fs::metadata(self.folder.join(name)).map_or(0, |data| data.len())
    }

    fn read<T: DeserializeOwned>(&self, name: &str) -> io::Result<Option<T>> {
        match fs::read(self.folder.join(name)) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            bytes => Ok(Some(serde_json::from_slice(&bytes?)?)),
        }
    }

    /// Replaces a file as a whole; the caller holds its lock, so the temporary name is its own.
    fn write(&self, name: &str, value: &impl Serialize) -> io::Result<()> {
        let new = self.folder.join(format!("{name}.new"));
        fs::write(&new, serde_json::to_vec_pretty(value)?)?;
        fs::rename(new, self.folder.join(name))
    }
}

/// Milliseconds since the epoch.
pub(crate) fn now_ms() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis() as u64)
}

fn driver() -> String {
    "580.65.06".to_owned()
}
