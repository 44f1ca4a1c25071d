//! CIFAR-10 binary: rows of 1 label byte and 3,072 pixel bytes, channel by channel (red, green, blue), each 32×32 row-major.

use std::fs::File;
use std::io::{BufReader, Read};
use std::path::Path;

use super::error::ReadError;
use super::rows::Rows;
use super::set::{Features, Row};

const PIXELS: usize = 3 * 32 * 32;
const ROW: usize = 1 + PIXELS;
const CLASSES: u8 = 10;

/// Reads a CIFAR-10 binary file; pixels are divided by `most` (255 makes 0–1 of them), shape 3×32×32.
///
/// # Errors
/// [`ReadError`] with the offset of the byte that does not fit.
pub fn read_cifar10(path: &Path, most: f32) -> Result<Rows, ReadError> {
    let io = |source| ReadError::io(path, source);
    let file = File::open(path).map_err(io)?;
    let bytes = file.metadata().map_err(io)?.len();
    if bytes == 0 {
        return Err(ReadError::empty(path, "rows of 1 label byte and 3072 pixel bytes"));
    }
    let whole = bytes / ROW as u64;
    if bytes % ROW as u64 != 0 {
        let what = format!("the last row has {} bytes", bytes % ROW as u64);
        return Err(ReadError::at_byte(path, whole * ROW as u64, what, "rows of 3073 bytes (1 label byte and 3072 pixel bytes)"));
    }
    let (path, mut file) = (path.to_owned(), BufReader::with_capacity(64 * ROW, file));
    let rows = (0..whole).map(move |index| {
        let mut row = [0; ROW];
        file.read_exact(&mut row).map_err(|source| ReadError::io(&path, source))?;
        parse(&path, index, &row, most)
    });
    Ok(Rows::new(Some(whole), rows).with_classes(u32::from(CLASSES)))
}

fn parse(path: &Path, index: u64, row: &[u8; ROW], most: f32) -> Result<Row, ReadError> {
    if row[0] >= CLASSES {
        return Err(ReadError::at_byte(path, index * ROW as u64, format!("label {}", row[0]), "a label of 0–9"));
    }
    let pixels = row[1..].iter().map(|&p| f32::from(p) / most).collect();
    Ok(Row { features: Features::Numbers(pixels), label: u32::from(row[0]) })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::reader::{Given, real};

    fn read(path: &Path) -> Result<crate::reader::LabelledSet, ReadError> {
        read_cifar10(path, 255.0)?.collect_set()
    }

    fn file(name: &str, bytes: &[u8]) -> Given {
        Given::new(&format!("{name}.bin"), bytes)
    }

    #[test]
    fn pixels_are_scaled_to_one() {
        let mut bytes = vec![255u8; ROW];
        bytes[0] = 7;
        bytes[1] = 0;
        let set = read(&file("good", &bytes)).unwrap();
        assert_eq!((set.classes, set.rows[0].label, set.width()), (10, 7, Some(PIXELS)));
        let Features::Numbers(pixels) = &set.rows[0].features else { panic!("numbers") };
        assert_eq!(pixels[..2], [0.0, 1.0]);
    }

    #[test]
    fn a_cut_file_and_a_wrong_label_are_placed() {
        let cut = read(&file("cut", &vec![0u8; ROW + 5])).unwrap_err().to_string();
        assert!(cut.contains("byte 3073: the last row has 5 bytes; expected rows of 3073 bytes"), "{cut}");
        let label = read(&file("label", &vec![11u8; ROW])).unwrap_err().to_string();
        assert!(label.contains("byte 0: label 11; expected a label of 0–9"), "{label}");
    }

    #[test]
    fn the_real_test_images_are_read() {
        let Some(path) = real::file("datasets/cifar10_jpg/cifar10_dev_test.bin") else { return };
        let set = read(&path).unwrap();
        assert_eq!((set.rows.len(), set.classes), (1000, 10));
    }
}
