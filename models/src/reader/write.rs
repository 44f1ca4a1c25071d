//! Writes a set in the format that [`super::read_set`] reads: a table of numbers with the label last, or `label<TAB>text`.

use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::Path;

use super::error::ReadError;
use super::set::{Features, LabelledSet, Row};

/// Writes `set`; numbers as CSV without a header, texts as TSV. Name the file `.csv` or `.tsv` so that it is read back the same way.
///
/// # Errors
/// [`ReadError::Io`] when the file cannot be written.
pub fn write_set(path: &Path, set: &LabelledSet) -> Result<(), ReadError> {
    write_rows(path, &set.rows).map_err(|source| ReadError::io(path, source))
}

fn write_rows(path: &Path, rows: &[Row]) -> std::io::Result<()> {
    let mut file = BufWriter::new(File::create(path)?);
    for row in rows {
        match &row.features {
            Features::Numbers(numbers) => {
                for number in numbers {
                    write!(file, "{number},")?;
                }
                writeln!(file, "{}", row.label)?;
            }
            // A line break inside a text would end its row.
            Features::Text(text) => writeln!(file, "{}\t{}", row.label, text.replace(['\n', '\r'], " "))?,
        }
    }
    file.flush()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::reader::{ReadOptions, read_set};

    fn round_trip(name: &str, set: &LabelledSet) -> LabelledSet {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(name);
        write_set(&path, set).unwrap();
        read_set(&path, ReadOptions::default()).unwrap()
    }

    #[test]
    fn numbers_come_back_exactly() {
        let row = |numbers: &[f32], label| Row { features: Features::Numbers(numbers.to_vec()), label };
        let set = LabelledSet::new(vec![row(&[0.1, -2.5e-7], 0), row(&[3.0, 1e9], 1)]);
        assert_eq!(round_trip("a.csv", &set), set);
    }

    #[test]
    fn texts_come_back_on_one_line_each() {
        let row = |text: &str, label| Row { features: Features::Text(text.into()), label };
        let back = round_trip("a.tsv", &LabelledSet::new(vec![row("two\nlines", 1), row("one", 0)]));
        assert_eq!(back.rows, [row("two lines", 1), row("one", 0)]);
    }
}
