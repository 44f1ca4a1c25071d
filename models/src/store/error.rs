//! Why the store refused.

use std::path::{Path, PathBuf};

/// Why the store refused; names the file and what would be right.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// Not a model's name.
    #[error("{name:?} is no model name: letters, digits, '.', '_' and '-', the first a letter or digit, at most 100")]
    Name {
        /// The name.
        name: String,
    },
    /// The file system refused.
    #[error("{}", path.display())]
    Io {
        /// The file or folder.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// A version lacks a file, or a file is not what the manifest says.
    #[error("{}: {reason}", path.display())]
    Incomplete {
        /// The file.
        path: PathBuf,
        /// What is wrong and what would be right.
        reason: String,
    },
    /// A staged folder cannot become a version.
    #[error("{} cannot be published: {reason}", path.display())]
    Unpublishable {
        /// The staged folder.
        path: PathBuf,
        /// Why.
        reason: String,
    },
}

impl StoreError {
    pub(super) fn io(path: &Path, source: std::io::Error) -> StoreError {
        StoreError::Io { path: path.to_owned(), source }
    }
}
