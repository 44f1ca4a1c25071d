//! Files → samples and arrivals: numeric tables, CIFAR-10 binary, MNIST, labelled text, folders of images or texts, safetensors; traces of
//! arrivals.
//!
//! Knows nothing of models: a reader says what is in the file, the caller whether it fits. Read in the order [`set`], [`error`], [`rows`],
//! then one module per format.

pub mod arrivals;
pub mod cifar;
pub mod error;
pub mod folder;
mod label;
mod lines;
pub mod mnist;
pub mod rows;
pub mod set;
pub mod table;
pub mod tensors;
pub mod text;
pub mod write;

use std::path::{Path, PathBuf};
use std::str::FromStr;

use crate::spec::{Datatype, TensorSpec};

pub use arrivals::{Arrivals, Row as TraceRow, Trace, TraceOptions, read_arrivals, read_trace};
pub use error::ReadError;
pub use folder::Picture;
pub use rows::Rows;
pub use set::{Features, LabelledSet, Row};
pub use write::write_set;

/// The formats of labelled samples.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// Numbers separated by commas, semicolons or blanks, one row a line, the label last (or in a sibling file).
    Table,
    /// CIFAR-10 binary: 1 label byte and 3,072 pixel bytes a row.
    Cifar10,
    /// MNIST's IDX: a file of images and one of labels.
    Mnist,
    /// `label<TAB>text`, one row a line.
    Text,
    /// A folder of images for each class.
    Images,
    /// A folder of texts for each class.
    Texts,
    /// Tensors `x` and `y`.
    Safetensors,
}

impl Format {
    /// Names, as in `--format`.
    pub const NAMES: [(&'static str, Format); 7] = [
        ("table", Format::Table),
        ("cifar10", Format::Cifar10),
        ("mnist", Format::Mnist),
        ("text", Format::Text),
        ("images", Format::Images),
        ("texts", Format::Texts),
        ("safetensors", Format::Safetensors),
    ];

    /// The format that a name suggests: `.bin` is CIFAR-10, `.tsv` is text, `idx3` is MNIST, a folder holds images or texts, anything else is
    /// a table.
    pub fn of(path: &Path) -> Format {
        if path.is_dir() {
            return if folder::holds_images(path) { Format::Images } else { Format::Texts };
        }
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        match path.extension().and_then(|e| e.to_str()) {
            _ if name.contains("idx3") => Format::Mnist,
            Some("bin") => Format::Cifar10,
            Some("tsv") => Format::Text,
            Some("safetensors") => Format::Safetensors,
            _ => Format::Table,
        }
    }
}

impl FromStr for Format {
    type Err = String;

    fn from_str(name: &str) -> Result<Self, String> {
        let found = Format::NAMES.iter().find(|(known, _)| *known == name).map(|(_, format)| *format);
        found.ok_or_else(|| {
            let known: Vec<&str> = Format::NAMES.iter().map(|(name, _)| *name).collect();
            format!("unknown sample format `{name}`; allowed: {}", known.join(", "))
        })
    }
}

/// How samples are read.
#[derive(Clone, Debug, PartialEq)]
pub struct ReadOptions {
    /// The format; `None` takes the one the file's name suggests.
    pub format: Option<Format>,
    /// Factor on every number of a table (optdigits: 1/16 brings counts to 0–1).
    pub scale: f32,
    /// What pixels are divided by.
    pub most: f32,
    /// What images become; without it they cannot be read.
    pub picture: Option<Picture>,
    /// Names of the classes, class 0 first; for tables, texts and folders. None = they are numbers, or the folders' names in order.
    pub classes: Vec<String>,
    /// Column of a table's label, by name or number from 1; none = the last.
    pub label: Option<String>,
    /// Whether a table has a header; none = it has one when no field of the first line is a number.
    pub header: Option<bool>,
    /// File of MNIST's labels; none = beside the images.
    pub labels: Option<PathBuf>,
}

impl Default for ReadOptions {
    fn default() -> Self {
        ReadOptions { format: None, scale: 1.0, most: 255.0, picture: None, classes: Vec::new(), label: None, header: None, labels: None }
    }
}

impl ReadOptions {
    /// What fits an input: images of its size, and pixels from 0 to 1, or as they are where it takes whole numbers.
    pub fn of(input: &TensorSpec) -> ReadOptions {
        let picture = match input.shape[..] {
            [channels, height, width] => Some(Picture { channels, height, width }),
            [height, width] => Some(Picture { channels: 1, height, width }),
            _ => None,
        };
        let floats = matches!(input.datatype, Datatype::Fp32 | Datatype::Fp64);
        ReadOptions { most: if floats { 255.0 } else { 1.0 }, picture, ..ReadOptions::default() }
    }
}

/// Reads the labelled samples of a file.
///
/// # Errors
/// [`ReadError`] with the file, the place in it and what would be right there; a file without rows is an error too.
pub fn read_set(path: &Path, options: ReadOptions) -> Result<LabelledSet, ReadError> {
    open(path, &options)?.collect_set()
}

/// Opens a file or folder of labelled samples.
///
/// # Errors
/// [`ReadError`] when it cannot be read at all, or holds no rows.
pub fn open(path: &Path, options: &ReadOptions) -> Result<Rows, ReadError> {
    match options.format.unwrap_or_else(|| Format::of(path)) {
        Format::Table => table::read_table(path, options),
        Format::Cifar10 => cifar::read_cifar10(path, options.most),
        Format::Mnist => mnist::read_mnist(path, options.labels.as_deref(), options.most),
        Format::Text => text::read_text(path, &options.classes),
        Format::Texts => folder::read_texts(path, &options.classes),
        Format::Safetensors => tensors::read_tensors(path),
        Format::Images => match options.picture {
            Some(picture) => folder::read_images(path, &options.classes, picture, options.most),
            None => Err(ReadError::whole(path, "images", "a model that takes [channels, height, width]")),
        },
    }
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
    fn an_input_tells_how_pixels_are_read() {
        let input = |datatype, shape: &[u32]| TensorSpec { name: "x".into(), datatype, shape: shape.to_vec() };
        let images = ReadOptions::of(&input(Datatype::Uint8, &[3, 8, 9]));
        assert_eq!((images.most, images.picture), (1.0, Some(Picture { channels: 3, height: 8, width: 9 })));
        assert_eq!(ReadOptions::of(&input(Datatype::Fp32, &[4])), ReadOptions::default());
    }

    #[test]
    fn a_missing_file_is_named() {
        let error = read_set(Path::new("/nowhere/x.csv"), ReadOptions::default()).unwrap_err();
        assert!(error.to_string().starts_with("/nowhere/x.csv: cannot be read"), "{error}");
    }

    #[test]
    fn an_unknown_format_is_told_what_is_allowed() {
        assert!("jpeg".parse::<Format>().unwrap_err().contains("table, cifar10, mnist, text"));
    }
}
