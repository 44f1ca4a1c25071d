//! Files → samples and arrivals: numeric tables with the label last, CIFAR-10 binary, labelled text, traces of arrivals.
//!
//! Knows nothing of models: a reader says what is in the file, the caller whether it fits. Read in the order [`set`], [`error`],
//! then one module per format.

pub mod arrivals;
pub mod cifar;
pub mod error;
pub mod set;
pub mod table;
pub mod text;
pub mod write;

use std::path::Path;
use std::str::FromStr;

pub use arrivals::{Arrivals, Row as TraceRow, Trace, TraceOptions, read_arrivals, read_trace};
pub use error::ReadError;
pub use set::{Features, LabelledSet, Row};
pub use write::write_set;

/// The formats of labelled samples.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// Numbers separated by commas, semicolons or blanks, one row a line, the label last (or in a sibling file).
    Table,
    /// CIFAR-10 binary: 1 label byte and 3,072 pixel bytes a row.
    Cifar10,
    /// `label<TAB>text`, one row a line.
    Text,
}

impl Format {
    /// The format a file's name suggests: `.bin` is CIFAR-10, `.tsv` is text, anything else a table.
    pub fn of(path: &Path) -> Format {
        match path.extension().and_then(|e| e.to_str()) {
            Some("bin") => Format::Cifar10,
            Some("tsv") => Format::Text,
            _ => Format::Table,
        }
    }
}

impl FromStr for Format {
    type Err = String;

    fn from_str(name: &str) -> Result<Self, String> {
        match name {
            "table" => Ok(Format::Table),
            "cifar10" => Ok(Format::Cifar10),
            "text" => Ok(Format::Text),
            other => Err(format!("unknown sample format `{other}`; allowed: table, cifar10, text")),
        }
    }
}

/// How samples are read.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ReadOptions {
    /// The format; `None` takes the one the file's name suggests.
    pub format: Option<Format>,
    /// Factor on every number of a table (optdigits: 1/16 brings counts to 0–1). CIFAR-10 pixels are always divided by 255.
    pub scale: f32,
}

impl Default for ReadOptions {
    fn default() -> Self {
        ReadOptions { format: None, scale: 1.0 }
    }
}

/// Reads the labelled samples of a file.
///
/// # Errors
/// [`ReadError`] with the file, the place in it and what would be right there; a file without rows is an error too.
pub fn read_set(path: &Path, options: ReadOptions) -> Result<LabelledSet, ReadError> {
    match options.format.unwrap_or_else(|| Format::of(path)) {
        Format::Table => table::read_table(path, options.scale),
        Format::Cifar10 => cifar::read_cifar10(path),
        Format::Text => text::read_text(path),
    }
}

/// The whole file as text.
fn read_to_string(path: &Path) -> Result<String, ReadError> {
    let bytes = std::fs::read(path).map_err(|source| ReadError::io(path, source))?;
    String::from_utf8(bytes).map_err(|e| {
        ReadError::at_byte(
            path,
            e.utf8_error().valid_up_to() as u64,
            "is not UTF-8",
            "a text file; `.bin` files are read as CIFAR-10 binary",
        )
    })
}

/// A file that a test writes; it goes with its folder.
#[cfg(test)]
pub(crate) struct Given {
    _folder: tempfile::TempDir,
    path: std::path::PathBuf,
}

#[cfg(test)]
impl Given {
    pub(crate) fn new(name: &str, bytes: &[u8]) -> Given {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(name);
        std::fs::write(&path, bytes).unwrap();
        Given { _folder: folder, path }
    }
}

#[cfg(test)]
impl std::ops::Deref for Given {
    type Target = Path;

    fn deref(&self) -> &Path {
        &self.path
    }
}

#[cfg(test)]
pub(crate) mod real {
    //! Where the real files are; tests that need them say why they are skipped.
    use std::path::PathBuf;

    /// The file under `MIGRATOR_DATA` or `../shared/data`; `None`, with a printed reason, where it is absent.
    pub(crate) fn file(name: &str) -> Option<PathBuf> {
        let root = std::env::var_os("MIGRATOR_DATA").map_or_else(default_root, PathBuf::from);
        let path = root.join(name);
        if path.exists() {
            return Some(path);
        }
        eprintln!("skipped: {} is not there (set MIGRATOR_DATA to the folder of real data)", path.display());
        None
    }

    fn default_root() -> PathBuf {
        PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../shared/data")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_name_suggests_its_format() {
        assert_eq!(Format::of(Path::new("a/test.bin")), Format::Cifar10);
        assert_eq!(Format::of(Path::new("a/b.tsv")), Format::Text);
        assert_eq!(Format::of(Path::new("optdigits.tra")), Format::Table);
    }

    #[test]
    fn a_missing_file_is_named() {
        let error = read_set(Path::new("/nowhere/x.csv"), ReadOptions::default()).unwrap_err();
        assert!(error.to_string().starts_with("/nowhere/x.csv: cannot be read"), "{error}");
    }

    #[test]
    fn an_unknown_format_is_told_what_is_allowed() {
        assert!("jpeg".parse::<Format>().unwrap_err().contains("table, cifar10, text"));
    }
}
