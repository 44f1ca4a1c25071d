//! Numeric tables: one row a line, separated by commas, semicolons or blanks; the label is the last column, or one line each in a
//! sibling file (`x_data.dat` + `x_label.dat`, `x.data` + `x.labels`). Under a header, a leading row number without a name and
//! columns that are not numbers (dates) are left out.

use std::path::{Path, PathBuf};

use super::ReadOptions;
use super::error::{ReadError, shown};
use super::label::label;
use super::lines::Lines;
use super::rows::Rows;
use super::set::{Features, Row};

/// Reads a numeric table, every feature multiplied by `scale`.
///
/// # Errors
/// [`ReadError`] with file and line.
pub fn read_table(path: &Path, options: &ReadOptions) -> Result<Rows, ReadError> {
    let names = options.classes.clone();
    let sibling = label_file(path).filter(|sibling| options.label.is_none() && sibling.exists());
    let labels = sibling.map(|sibling| read_labels(&sibling, &names)).transpose()?;
    let mut lines = Lines::open(path)?;
    let empty = || ReadError::empty(path, "rows of numbers, the label last");
    let first = lines.next().ok_or_else(empty)??;
    let second = lines.next().transpose()?;
    let layout = Layout::of(path, &first, second.as_ref(), labels.is_none(), options)?;
    let total = labels.as_ref().map(|labels| labels.len() as u64);
    let before = [Some(first).filter(|_| !layout.header), second].into_iter().flatten().map(Ok);
    let (path, scale, mut row) = (path.to_owned(), options.scale, 0);
    let rows = before.chain(lines).map(move |line| {
        let (number, line) = line?;
        let at = |(what, expected): (String, String)| ReadError::at_line(&path, number, what, expected);
        let index = row;
        row += 1;
        let (features, own) = layout.parse(&line, scale, &names).map_err(at)?;
        let label = match &labels {
            Some(labels) => *labels.get(index).ok_or_else(|| at(too_few(labels.len())))?,
            None => own.unwrap_or_default(),
        };
        Ok(Row { features: Features::Numbers(features), label })
    });
    Ok(Rows::new(total, rows).with_names(options.classes.clone()))
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

fn read_labels(path: &Path, names: &[String]) -> Result<Vec<u32>, ReadError> {
    let parse = |line: Result<(usize, String), ReadError>| {
        let (number, line) = line?;
        label(line.trim(), names).map_err(|(what, expected)| ReadError::at_line(path, number, what, expected))
    };
    Lines::open(path)?.map(parse).collect()
}

/// What the first lines say about the rest.
struct Layout {
    separator: Option<char>,
    header: bool,
    /// Fields of a row.
    fields: usize,
    /// Fields that are features.
    features: Vec<usize>,
    /// The field that is the label.
    label: Option<usize>,
}

impl Layout {
    fn of(
        path: &Path,
        (number, first): &(usize, String),
        second: Option<&(usize, String)>,
        labelled: bool,
        options: &ReadOptions,
    ) -> Result<Self, ReadError> {
        let separator = [',', ';'].into_iter().find(|&c| first.contains(c));
        let names = split(first, separator);
        let header = options.header.unwrap_or_else(|| names.iter().all(|name| name.parse::<f64>().is_err()));
        let (index, sample) = match (header, second) {
            (false, _) => (*number, first),
            (true, Some((number, second))) => (*number, second),
            (true, None) => return Err(ReadError::empty(path, "rows under the header")),
        };
        let sample = split(sample, separator);
        if sample.len() < 1 + usize::from(labelled) {
            let expected = "at least one feature and the label, separated by commas or blanks";
            return Err(ReadError::at_line(path, index, "one field", expected));
        }
        let unnamed = usize::from(header && sample.len() == names.len() + 1);
        let label = if labelled { Some(label_field(path, *number, &names, header, unnamed, sample.len(), options)?) } else { None };
        let is_feature = |&i: &usize| Some(i) != label && (!header || sample[i].parse::<f64>().is_ok());
        Ok(Layout { separator, header, fields: sample.len(), features: (unnamed..sample.len()).filter(is_feature).collect(), label })
    }

    /// Features and label of a line, or what is wrong and what would be right.
    fn parse(&self, line: &str, scale: f32, names: &[String]) -> Result<(Vec<f32>, Option<u32>), (String, String)> {
        let fields = split(line, self.separator);
        if fields.len() != self.fields {
            return Err((format!("{} fields", fields.len()), format!("{} as in the first row", self.fields)));
        }
        let features: Result<Vec<f32>, _> = self.features.iter().map(|&i| number(i, fields[i]).map(|n| n * scale)).collect();
        let label = self.label.map(|field| label(fields[field], names)).transpose()?;
        Ok((features?, label))
    }
}

/// Which field is the label: the last, or what was asked for by name or by number from 1.
fn label_field(
    path: &Path,
    line: usize,
    names: &[&str],
    header: bool,
    unnamed: usize,
    fields: usize,
    options: &ReadOptions,
) -> Result<usize, ReadError> {
    let Some(wanted) = &options.label else { return Ok(fields - 1) };
    if header && let Some(at) = names.iter().position(|name| name == wanted) {
        return Ok(at + unnamed);
    }
    match wanted.parse::<usize>() {
        Ok(number) if (1..=fields).contains(&number) => Ok(number - 1),
        _ => {
            let known = if header { format!("one of {}, or ", names.join(", ")) } else { String::new() };
            Err(ReadError::at_line(
                path,
                line,
                format!("there is no column {}", shown(wanted)),
                format!("{known}a number from 1 to {fields}"),
            ))
        }
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::reader::{Given, LabelledSet, real};

    fn file(name: &str, text: &str) -> Given {
        Given::new(name, text.as_bytes())
    }

    fn set(path: &Path, options: &ReadOptions) -> Result<LabelledSet, ReadError> {
        read_table(path, options)?.collect_set()
    }

    fn read(name: &str, text: &str) -> LabelledSet {
        set(&file(name, text), &ReadOptions::default()).unwrap()
    }

    fn error(name: &str, text: &str) -> String {
        set(&file(name, text), &ReadOptions::default()).unwrap_err().to_string()
    }

    #[test]
    fn the_label_may_be_any_column_and_a_name() {
        let options = |label: &str, classes: &[&str]| ReadOptions {
            label: Some(label.to_owned()),
            classes: classes.iter().map(|name| (*name).to_owned()).collect(),
            ..ReadOptions::default()
        };
        let named = file("named.csv", "x,move,y\n1,UP,2\n3,DOWN,4\n");
        let found = set(&named, &options("move", &["DOWN", "UP"])).unwrap();
        assert_eq!(found.rows.iter().map(|row| row.label).collect::<Vec<_>>(), [1, 0]);
        assert_eq!(found.rows[1].features, Features::Numbers(vec![3.0, 4.0]));
        assert_eq!(set(&file("first.csv", "1,5,6\n0,7,8\n"), &options("1", &[])).unwrap().rows[0].label, 1);
        let wrong = set(&named, &options("up", &[])).unwrap_err().to_string();
        assert!(wrong.contains(":1: there is no column `up`; expected one of x, move, y, or a number from 1 to 3"), "{wrong}");
        let other = set(&named, &options("move", &["UP"])).unwrap_err().to_string();
        assert!(other.contains(":3: label `DOWN`; expected one of UP"), "{other}");
        let header = ReadOptions { header: Some(true), ..ReadOptions::default() };
        assert_eq!(set(&file("numbers.csv", "1,2\n3,4\n"), &header).unwrap().rows.len(), 1);
    }

    #[test]
    fn rows_after_a_bad_one_are_read() {
        let rows: Vec<_> = read_table(&file("some.csv", "1,2,0\n1,x,0\n3,4,1\n"), &ReadOptions::default()).unwrap().collect();
        assert!(rows[0].is_ok() && rows[1].is_err() && rows[2].is_ok());
    }

    #[test]
    fn commas_blanks_and_headers_are_understood() {
        let plain = read("plain.csv", "1,2,0\n3,4,1\n");
        assert_eq!((plain.rows.len(), plain.classes, plain.width()), (2, 2, Some(2)));
        assert_eq!(read("blanks.txt", "1 2  0\n3 4 1\n"), plain);
        assert_eq!(read("header.csv", "a,b,class\n1,2,0\n3,4,1.0\n"), plain);
        assert_eq!(
            set(&file("scaled.csv", "16,0\n"), &ReadOptions { scale: 1.0 / 16.0, ..ReadOptions::default() }).unwrap().rows[0].features,
            Features::Numbers(vec![1.0])
        );
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
        assert_eq!(set(&data, &ReadOptions::default()).unwrap().rows.iter().map(|r| r.label).collect::<Vec<_>>(), [1, 0]);
        std::fs::write(&labels, "1\n").unwrap();
        assert!(
            set(&data, &ReadOptions::default()).unwrap_err().to_string().contains(":2: row without a label: the label file has 1 lines")
        );
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
            let set = set(&path, &ReadOptions::default()).unwrap();
            assert_eq!((set.rows.len(), set.width(), set.classes), (rows, Some(width), classes), "{name}");
        }
    }
}
