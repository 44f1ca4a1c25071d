//! Labelled text: `label<TAB>text`, one row a line.

use std::path::Path;

use super::error::{ReadError, shown};
use super::set::{Features, LabelledSet, Row};

const EXPECTED: &str = "`label<TAB>text`, the label a whole number from 0";

/// Reads labelled texts.
///
/// # Errors
/// [`ReadError`] with file and line.
pub fn read_text(path: &Path) -> Result<LabelledSet, ReadError> {
    let text = super::read_to_string(path)?;
    let lines = text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty());
    let rows: Result<Vec<Row>, ReadError> =
        lines.map(|(i, line)| parse(line).map_err(|what| ReadError::at_line(path, i + 1, what, EXPECTED))).collect();
    match rows? {
        rows if rows.is_empty() => Err(ReadError::empty(path, EXPECTED)),
        rows => Ok(LabelledSet::new(rows)),
    }
}

fn parse(line: &str) -> Result<Row, String> {
    let (label, text) = line.split_once('\t').ok_or_else(|| format!("{} has no tab", shown(line)))?;
    let label = label.trim().parse::<u16>().map_err(|_| format!("label {} is not a whole number below 65536", shown(label)))?;
    Ok(Row { features: Features::Text(text.trim().to_owned()), label: u32::from(label) })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::reader::Given;

    fn file(name: &str, text: &str) -> Given {
        Given::new(&format!("{name}.tsv"), text.as_bytes())
    }

    #[test]
    fn labels_and_texts_are_split_at_the_first_tab() {
        let set = read_text(&file("good", "2\tthe river\tbank\n\n0\tmoon\n")).unwrap();
        assert_eq!((set.rows.len(), set.classes), (2, 3));
        assert_eq!(set.rows[0].features, Features::Text("the river\tbank".into()));
    }

    #[test]
    fn a_line_without_tab_or_label_is_named() {
        let error = read_text(&file("tab", "1\tok\nno tab here\n")).unwrap_err().to_string();
        assert!(error.contains(".tsv:2: `no tab here` has no tab; expected `label<TAB>text`"), "{error}");
        assert!(read_text(&file("label", "x\ttext\n")).unwrap_err().to_string().contains(":1: label `x`"));
        assert!(read_text(&file("empty", "\n")).unwrap_err().to_string().contains("holds no rows"));
    }
}
