//! CIFAR-10 binary: rows of 1 label byte and 3,072 pixel bytes, channel by channel (red, green, blue), each 32×32 row-major.

use std::path::Path;

use super::error::ReadError;
use super::set::{Features, LabelledSet, Row};

const PIXELS: usize = 3 * 32 * 32;
const ROW: usize = 1 + PIXELS;
const CLASSES: u8 = 10;

/// Reads a CIFAR-10 binary file; pixels become `f32` in 0–1, shape 3×32×32.
///
/// # Errors
/// [`ReadError`] with the offset of the byte that does not fit.
pub fn read_cifar10(path: &Path) -> Result<LabelledSet, ReadError> {
    let bytes = std::fs::read(path).map_err(|source| ReadError::io(path, source))?;
    if bytes.is_empty() {
        return Err(ReadError::empty(path, "rows of 1 label byte and 3072 pixel bytes"));
    }
    if bytes.len() % ROW != 0 {
        let whole = bytes.len() / ROW * ROW;
        let what = format!("the last row has {} bytes", bytes.len() - whole);
        return Err(ReadError::at_byte(path, whole as u64, what, "rows of 3073 bytes (1 label byte and 3072 pixel bytes)"));
    }
    let rows: Result<Vec<Row>, ReadError> = bytes.chunks_exact(ROW).enumerate().map(|(i, row)| parse(path, i, row)).collect();
    Ok(LabelledSet { rows: rows?, classes: u32::from(CLASSES) })
}

fn parse(path: &Path, index: usize, row: &[u8]) -> Result<Row, ReadError> {
    if row[0] >= CLASSES {
        return Err(ReadError::at_byte(path, (index * ROW) as u64, format!("label {}", row[0]), "a label of 0–9"));
    }
    let pixels = row[1..].iter().map(|&p| f32::from(p) / 255.0).collect();
    Ok(Row { features: Features::Numbers(pixels), label: u32::from(row[0]) })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::reader::{Given, real};

    fn file(name: &str, bytes: &[u8]) -> Given {
        Given::new(&format!("{name}.bin"), bytes)
    }

    #[test]
    fn pixels_are_scaled_to_one() {
        let mut bytes = vec![255u8; ROW];
        bytes[0] = 7;
        bytes[1] = 0;
        let set = read_cifar10(&file("good", &bytes)).unwrap();
        assert_eq!((set.classes, set.rows[0].label, set.width()), (10, 7, Some(PIXELS)));
        let Features::Numbers(pixels) = &set.rows[0].features else { panic!("numbers") };
        assert_eq!(pixels[..2], [0.0, 1.0]);
    }

    #[test]
    fn a_cut_file_and_a_wrong_label_are_placed() {
        let cut = read_cifar10(&file("cut", &vec![0u8; ROW + 5])).unwrap_err().to_string();
        assert!(cut.contains("byte 3073: the last row has 5 bytes; expected rows of 3073 bytes"), "{cut}");
        let label = read_cifar10(&file("label", &vec![11u8; ROW])).unwrap_err().to_string();
        assert!(label.contains("byte 0: label 11; expected a label of 0–9"), "{label}");
    }

    #[test]
    fn the_real_test_images_are_read() {
        let Some(path) = real::file("datasets/cifar10_jpg/cifar10_dev_test.bin") else { return };
        let set = read_cifar10(&path).unwrap();
        assert_eq!((set.rows.len(), set.classes), (1000, 10));
    }
}
