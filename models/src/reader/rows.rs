//! Rows of a file or folder, one after the other: what is large need not be in memory whole.

use super::error::ReadError;
use super::set::{LabelledSet, Row};

/// Rows as they are read. After a row that cannot be understood come the others, where the format allows.
pub struct Rows {
    /// Their number, where it is known beforehand.
    pub total: Option<u64>,
    /// Names of the classes, where the source has names for them: the first is class 0.
    pub names: Vec<String>,
    /// Classes that the format itself has.
    classes: Option<u32>,
    rows: Box<dyn Iterator<Item = Result<Row, ReadError>>>,
}

impl std::fmt::Debug for Rows {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Rows").field("total", &self.total).field("names", &self.names).finish_non_exhaustive()
    }
}

impl Rows {
    pub(super) fn new(total: Option<u64>, rows: impl Iterator<Item = Result<Row, ReadError>> + 'static) -> Rows {
        Rows { total, names: Vec::new(), classes: None, rows: Box::new(rows) }
    }

    pub(super) fn with_classes(self, classes: u32) -> Rows {
        Rows { classes: Some(classes), ..self }
    }

    pub(super) fn with_names(self, names: Vec<String>) -> Rows {
        Rows { names, ..self }
    }

    /// All of them.
    ///
    /// # Errors
    /// The first that cannot be read.
    pub fn collect_set(self) -> Result<LabelledSet, ReadError> {
        let classes = self.classes;
        let set = LabelledSet::new(self.collect::<Result<_, _>>()?);
        Ok(LabelledSet { classes: classes.unwrap_or(set.classes), ..set })
    }
}

impl Iterator for Rows {
    type Item = Result<Row, ReadError>;

    fn next(&mut self) -> Option<Self::Item> {
        self.rows.next()
    }
}
