//! Numeric tables: one row a line, separated by commas, semicolons or blanks; the label is the last column, or one line each in a
//! sibling file (`x_data.dat` + `x_label.dat`, `x.data` + `x.labels`). Under a header, a leading row number without a name and
//! columns that are not numbers (dates) are left out.

use std::path::{Path, PathBuf};

use super::error::{ReadError, shown};
use super::set::{Features, LabelledSet, Row};

/// Reads a numeric table, every feature multiplied by `scale`.
///
/// # Errors
/// [`ReadError`] with file and line.
pub fn read_table(path: &Path, scale: f32) -> Result<LabelledSet, ReadError> {
    let text = super::read_to_string(path)?;
    let labels = label_file(path).filter(|sibling| sibling.exists()).map(|sibling| read_labels(&sibling)).transpose()?;
    let lines: Vec<(usize, &str)> = text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty()).collect();
    let layout = Layout::of(path, &lines, labels.is_none())?;
    let mut rows = Vec::with_capacity(lines.len());
    for &(index, line) in &lines[usize::from(layout.header)..] {
        let at = |(what, expected): (String, String)| ReadError::at_line(path, index + 1, what, expected);
        let (features, own) = layout.parse(line, scale).map_err(at)?;
        let label = match &labels {
            Some(labels) => *labels.get(rows.len()).ok_or_else(|| at(too_few(labels.len())))?,
            None => own.unwrap_or_default(),
        };
        rows.push(Row { features: Features::Numbers(features), label });
    }
    match rows.is_empty() {
        true => Err(ReadError::empty(path, "rows of numbers, the label last")),
        false => Ok(LabelledSet::new(rows)),
    }
}

fn too_few(labels: usize) -> (String, String) {
    (format!("row without a label: the label file has {labels} lines"), "one label for every row".to_owned())
}

/// Where the labels of a table are when they are not in it.
fn label_file(path: &Path) -> Option<PathBuf> {
    let name = path.file_name()?.to_str()?;
    let sibling = match name.strip_suffix(".data") {
        Some(stem) => format!("{stem}.labels"),
        None if name.contains("_data.") => name.replace("_data.", "_label."),
        None => return None,
    };
    Some(path.with_file_name(sibling))
}

fn read_labels(path: &Path) -> Result<Vec<u32>, ReadError> {
    let text = super::read_to_string(path)?;
    let parse = |(i, line): (usize, &str)| label(line.trim()).map_err(|(what, expected)| ReadError::at_line(path, i + 1, what, expected));
    text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty()).map(parse).collect()
}

/// What the first lines say about the rest.
struct Layout {
    separator: Option<char>,
    header: bool,
    /// Fields of a row.
    fields: usize,
    /// Fields that are features.
    features: Vec<usize>,
    labelled: bool,
}

impl Layout {
    fn of(path: &Path, lines: &[(usize, &str)], labelled: bool) -> Result<Self, ReadError> {
        let Some(&(_, first)) = lines.first() else { return Err(ReadError::empty(path, "rows of numbers, the label last")) };
        let separator = [',', ';'].into_iter().find(|&c| first.contains(c));
        let names = split(first, separator);
        let header = names.iter().all(|name| name.parse::<f64>().is_err());
        let Some(&(index, sample)) = lines.get(usize::from(header)) else { return Err(ReadError::empty(path, "rows under the header")) };
        let sample = split(sample, separator);
        let width = sample.len() - usize::from(labelled);
        if width == 0 {
            return Err(ReadError::at_line(
                path,
                index + 1,
                "one field",
                "at least one feature and the label, separated by commas or blanks",
            ));
        }
        let unnamed = usize::from(header && sample.len() == names.len() + 1);
        let is_feature = |&i: &usize| !header || sample[i].parse::<f64>().is_ok();
        Ok(Layout { separator, header, fields: sample.len(), features: (unnamed..width).filter(is_feature).collect(), labelled })
    }

    /// Features and label of a line, or what is wrong and what would be right.
    fn parse(&self, line: &str, scale: f32) -> Result<(Vec<f32>, Option<u32>), (String, String)> {
        let fields = split(line, self.separator);
        if fields.len() != self.fields {
            return Err((format!("{} fields", fields.len()), format!("{} as in the first row", self.fields)));
        }
        let features: Result<Vec<f32>, _> = self.features.iter().map(|&i| number(i, fields[i]).map(|n| n * scale)).collect();
        let label = if self.labelled { Some(label(fields[self.fields - 1])?) } else { None };
        Ok((features?, label))
    }
}

fn split(line: &str, separator: Option<char>) -> Vec<&str> {
    match separator {
        Some(separator) => line.split(separator).map(|field| field.trim().trim_matches('"').trim()).collect(),
        None => line.split_whitespace().collect(),
    }
}

fn number(column: usize, field: &str) -> Result<f32, (String, String)> {
    field
        .parse::<f32>()
        .ok()
        .filter(|n| n.is_finite())
        .ok_or_else(|| (format!("column {}: {}", column + 1, shown(field)), "a finite number".to_owned()))
}

/// A class: a whole number, written with or without a decimal part.
fn label(field: &str) -> Result<u32, (String, String)> {
    let whole = |n: &f64| n.fract() == 0.0 && (0.0..65_536.0).contains(n);
    let wrong = || (format!("label {}", shown(field)), "a whole number from 0, below 65536, in the last column".to_owned());
    field.parse::<f64>().ok().filter(whole).map(|n| n as u32).ok_or_else(wrong)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::reader::{Given, real};

    fn file(name: &str, text: &str) -> Given {
        Given::new(name, text.as_bytes())
    }

    fn read(name: &str, text: &str) -> LabelledSet {
        read_table(&file(name, text), 1.0).unwrap()
    }

    fn error(name: &str, text: &str) -> String {
        read_table(&file(name, text), 1.0).unwrap_err().to_string()
    }

    #[test]
    fn commas_blanks_and_headers_are_understood() {
        let plain = read("plain.csv", "1,2,0\n3,4,1\n");
        assert_eq!((plain.rows.len(), plain.classes, plain.width()), (2, 2, Some(2)));
        assert_eq!(read("blanks.txt", "1 2  0\n3 4 1\n"), plain);
        assert_eq!(read("header.csv", "a,b,class\n1,2,0\n3,4,1.0\n"), plain);
        assert_eq!(read_table(&file("scaled.csv", "16,0\n"), 1.0 / 16.0).unwrap().rows[0].features, Features::Numbers(vec![1.0]));
    }

    #[test]
    fn dates_and_row_numbers_under_a_header_are_left_out() {
        let set = read("dates.csv", "\"date\",\"t\",\"y\"\n\"1\",\"2015-02-04 17:51:00\",23.5,1\n\"2\",2015-02-05 10:00:00,20,0\n");
        assert_eq!(set.rows[1].features, Features::Numbers(vec![20.0]));
        assert_eq!(set.rows[0].label, 1);
    }

    #[test]
    fn labels_may_stand_in_a_sibling_file() {
        let data = file("pair.data", "1 2\n3 4\n");
        let labels = data.with_extension("labels");
        std::fs::write(&labels, "1\n0\n").unwrap();
        assert_eq!(read_table(&data, 1.0).unwrap().rows.iter().map(|r| r.label).collect::<Vec<_>>(), [1, 0]);
        std::fs::write(&labels, "1\n").unwrap();
        assert!(read_table(&data, 1.0).unwrap_err().to_string().contains(":2: row without a label: the label file has 1 lines"));
    }

    #[test]
    fn an_error_names_the_line_and_what_is_right() {
        assert!(error("short.csv", "1,2,0\n1,0\n").contains("short.csv:2: 2 fields; expected 3 as in the first row"));
        assert!(error("word.csv", "1,2,0\n1,x,0\n").contains(":2: column 2: `x`; expected a finite number"));
        assert!(error("nan.csv", "1,nan,0\n").contains("column 2: `nan`"));
        assert!(error("label.csv", "1,2,0.5\n").contains(":1: label `0.5`; expected a whole number"));
        assert!(error("one.csv", "1\n2\n").contains("at least one feature and the label"));
        assert!(error("head.csv", "a,b\n").contains("holds no rows"));
        assert!(error("empty.csv", "").contains("holds no rows"));
    }

    #[test]
    fn real_tables_are_read() {
        let expected = [
            ("datasets/uci_optdigits/optdigits.tra", 3823, 64, 10),
            ("datasets/uci_optdigits/optdigits.tes", 1797, 64, 10),
            ("datasets/uci_occupancy/datatraining.txt", 8143, 5, 2),
            ("datasets/uci_occupancy/datatest2.txt", 9752, 5, 2),
            ("datasets/drift_elec2/elec2_data.dat", 45_312, 8, 2),
            ("datasets/drift_keystroke/keystroke.data", 1600, 10, 4),
        ];
        for (name, rows, width, classes) in expected {
            let Some(path) = real::file(name) else { return };
            let set = read_table(&path, 1.0).unwrap();
            assert_eq!((set.rows.len(), set.width(), set.classes), (rows, Some(width), classes), "{name}");
        }
    }
}
