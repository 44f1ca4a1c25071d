//! What is wrong with a file, where, and what would be right.

use std::path::{Path, PathBuf};

/// Why a file could not be read.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// The file itself.
    #[error("{}: cannot be read ({source})", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// A line of a text file.
    #[error("{}:{line}: {what}; expected {expected}", path.display())]
    Line {
        /// The file.
        path: PathBuf,
        /// Counted from 1.
        line: usize,
        /// What is there.
        what: String,
        /// What would be right.
        expected: String,
    },
    /// A byte of a binary file.
    #[error("{}: byte {offset}: {what}; expected {expected}", path.display())]
    Byte {
        /// The file.
        path: PathBuf,
        /// Counted from 0.
        offset: u64,
        /// What is there.
        what: String,
        /// What would be right.
        expected: String,
    },
    /// A file as such.
    #[error("{}: {what}; expected {expected}", path.display())]
    Whole {
        /// The file or folder.
        path: PathBuf,
        /// What is there.
        what: String,
        /// What would be right.
        expected: String,
    },
    /// No row at all.
    #[error("{}: holds no rows; expected {expected}", path.display())]
    Empty {
        /// The file.
        path: PathBuf,
        /// What would be right.
        expected: String,
    },
}

impl ReadError {
    pub(crate) fn io(path: &Path, source: std::io::Error) -> Self {
        ReadError::Io { path: path.to_owned(), source }
    }

    pub(crate) fn at_line(path: &Path, line: usize, what: impl Into<String>, expected: impl Into<String>) -> Self {
        ReadError::Line { path: path.to_owned(), line, what: what.into(), expected: expected.into() }
    }

    pub(crate) fn at_byte(path: &Path, offset: u64, what: impl Into<String>, expected: impl Into<String>) -> Self {
        ReadError::Byte { path: path.to_owned(), offset, what: what.into(), expected: expected.into() }
    }

    pub(crate) fn whole(path: &Path, what: impl Into<String>, expected: impl Into<String>) -> Self {
        ReadError::Whole { path: path.to_owned(), what: what.into(), expected: expected.into() }
    }

    pub(crate) fn empty(path: &Path, expected: impl Into<String>) -> Self {
        ReadError::Empty { path: path.to_owned(), expected: expected.into() }
    }
}

/// A field of a file, short enough for one line of an error.
pub(crate) fn shown(field: &str) -> String {
    let mut short: String = field.chars().take(24).collect();
    if short.len() < field.len() {
        short.push('…');
    }
    format!("`{short}`")
}
