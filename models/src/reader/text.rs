//! Labelled text: `label<TAB>text`, one row a line.

use std::path::Path;

use super::error::{ReadError, shown};
use super::label::label;
use super::lines::Lines;
use super::rows::Rows;
use super::set::{Features, Row};

const EXPECTED: &str = "`label<TAB>text`, the label a whole number from 0";

/// Reads labelled texts; labels may be `names` of classes.
///
/// # Errors
/// [`ReadError`] with file and line.
pub fn read_text(path: &Path, names: &[String]) -> Result<Rows, ReadError> {
    let mut lines = Lines::open(path)?.peekable();
    if lines.peek().is_none() {
        return Err(ReadError::empty(path, EXPECTED));
    }
    let (path, classes) = (path.to_owned(), names.to_vec());
    let rows = lines.map(move |line| {
        let (number, line) = line?;
        parse(&line, &classes).map_err(|(what, expected)| ReadError::at_line(&path, number, what, expected))
    });
    Ok(Rows::new(None, rows).with_names(names.to_vec()))
}

fn parse(line: &str, names: &[String]) -> Result<Row, (String, String)> {
    let line = line.trim_end_matches(['\n', '\r']);
    let (class, text) = line.split_once('\t').ok_or_else(|| (format!("{} has no tab", shown(line)), EXPECTED.to_owned()))?;
    Ok(Row { label: label(class.trim(), names)?, features: Features::Text(text.trim().to_owned()) })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::reader::Given;

    fn file(name: &str, text: &str) -> Given {
        Given::new(&format!("{name}.tsv"), text.as_bytes())
    }

    fn error(name: &str, text: &str) -> String {
        read_text(&file(name, text), &[]).and_then(Rows::collect_set).unwrap_err().to_string()
    }

    #[test]
    fn labels_and_texts_are_split_at_the_first_tab() {
        let set = read_text(&file("good", "2\tthe river\tbank\n\n0\tmoon\n"), &[]).unwrap().collect_set().unwrap();
        assert_eq!((set.rows.len(), set.classes), (2, 3));
        assert_eq!(set.rows[0].features, Features::Text("the river\tbank".into()));
    }

    #[test]
    fn a_line_without_tab_or_label_is_named() {
        let tab = error("tab", "1\tok\nno tab here\n");
        assert!(tab.contains(".tsv:2: `no tab here` has no tab; expected `label<TAB>text`"), "{tab}");
        assert!(error("label", "x\ttext\n").contains(":1: label `x`"));
        assert!(error("empty", "\n").contains("holds no rows"));
    }
}
