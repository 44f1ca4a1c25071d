//! safetensors: `x`, the features, one row a sample, and `y`, their classes.

use std::path::Path;

use safetensors::SafeTensors;
use safetensors::tensor::{Dtype, TensorView};

use super::error::ReadError;
use super::rows::Rows;
use super::set::{Features, Row};

/// Reads a file of two tensors: `x` (or `x0`, as in a data set of a retraining), numbers of any type, and `y`, whole numbers.
///
/// # Errors
/// [`ReadError`] with what the tensors are and should be.
pub fn read_tensors(path: &Path) -> Result<Rows, ReadError> {
    let bytes = std::fs::read(path).map_err(|source| ReadError::io(path, source))?;
    let (shape, x, y) = {
        let tensors = SafeTensors::deserialize(&bytes)
            .map_err(|error| ReadError::whole(path, format!("cannot be read ({error})"), "a safetensors file with tensors x and y"))?;
        let named = tensors.names().join(", ");
        let find = |names: &[&str]| {
            let found = names.iter().find_map(|name| tensors.tensor(name).ok());
            found.ok_or_else(|| ReadError::whole(path, format!("has no tensor {}", names[0]), format!("tensors x and y; it has {named}")))
        };
        let (x, y) = (find(&["x", "x0"])?, find(&["y"])?);
        let base = bytes.as_ptr() as usize;
        let place = |view: &TensorView<'_>| view.data().as_ptr() as usize - base;
        let (shape, classes) = (x.shape().to_vec(), y.shape().to_vec());
        if classes.len() != 1 || shape.len() < 2 || shape[0] != classes[0] || shape.contains(&0) {
            let what = format!("x has shape {shape:?} and y {classes:?}");
            return Err(ReadError::whole(path, what, "x [samples, …] and y [samples], of as many samples"));
        }
        (shape, column(path, "x", &x, place(&x), true)?, column(path, "y", &y, place(&y), false)?)
    };
    let (samples, width) = (shape[0], shape[1..].iter().product::<usize>());
    let path = path.to_owned();
    let rows = (0..samples).map(move |index| {
        let number = |at: usize| (x.number)(&bytes[x.start + at * x.size..][..x.size]) as f32;
        let class = (y.number)(&bytes[y.start + index * y.size..][..y.size]);
        if class.fract() != 0.0 || !(0.0..65_536.0).contains(&class) {
            return Err(ReadError::whole(&path, format!("y[{index}] is {class}"), "a whole number from 0, below 65536"));
        }
        Ok(Row { features: Features::Numbers((index * width..(index + 1) * width).map(number).collect()), label: class as u32 })
    });
    Ok(Rows::new(Some(samples as u64), rows))
}

/// Where a tensor lies in the file, and how its elements are read.
struct Column {
    start: usize,
    size: usize,
    number: fn(&[u8]) -> f64,
}

macro_rules! number {
    ($kind:ty) => {
        |raw| <$kind>::from_le_bytes(raw.try_into().unwrap_or_default()) as f64
    };
}

fn column(path: &Path, name: &str, tensor: &TensorView<'_>, start: usize, floats: bool) -> Result<Column, ReadError> {
    let (size, number): (usize, fn(&[u8]) -> f64) = match tensor.dtype() {
        Dtype::BOOL | Dtype::U8 => (1, |raw| f64::from(raw[0])),
        Dtype::I8 => (1, number!(i8)),
        Dtype::I16 => (2, number!(i16)),
        Dtype::U16 => (2, number!(u16)),
        Dtype::I32 => (4, number!(i32)),
        Dtype::U32 => (4, number!(u32)),
        Dtype::I64 => (8, number!(i64)),
        Dtype::U64 => (8, number!(u64)),
        Dtype::F32 if floats => (4, number!(f32)),
        Dtype::F64 if floats => (8, number!(f64)),
        other => {
            let expected = if floats { "F32, F64, BOOL or whole numbers" } else { "whole numbers (I64, I32, U8, …)" };
            return Err(ReadError::whole(path, format!("{name} is {other:?}"), expected));
        }
    };
    Ok(Column { start, size, number })
}

#[cfg(test)]
mod tests {
    use safetensors::tensor::serialize;

    use super::*;
    use crate::reader::Given;

    fn file(x: (Dtype, &[usize], &[u8]), y: (Dtype, &[usize], &[u8]), names: [&str; 2]) -> Given {
        let view = |(dtype, shape, bytes): (Dtype, &[usize], &[u8])| TensorView::new(dtype, shape.to_vec(), bytes).unwrap().data().to_vec();
        let (xs, ys) = (view(x), view(y));
        let views =
            [(names[0], TensorView::new(x.0, x.1.to_vec(), &xs).unwrap()), (names[1], TensorView::new(y.0, y.1.to_vec(), &ys).unwrap())];
        Given::new("set.safetensors", &serialize(views, None).unwrap())
    }

    fn error(given: &Given) -> String {
        read_tensors(given).and_then(Rows::collect_set).unwrap_err().to_string()
    }

    const Y: (Dtype, &[usize], &[u8]) = (Dtype::U8, &[2], &[3, 0]);

    #[test]
    fn numbers_of_any_type_become_rows() {
        let floats: Vec<u8> = [1f32, -2.5, 3.0, 4.0].iter().flat_map(|n| n.to_le_bytes()).collect();
        let classes: Vec<u8> = [3i64, 0].iter().flat_map(|n| n.to_le_bytes()).collect();
        let given = file((Dtype::F32, &[2, 1, 2], &floats), (Dtype::I64, &[2], &classes), ["x", "y"]);
        let set = read_tensors(&given).unwrap().collect_set().unwrap();
        assert_eq!(set.rows[0], Row { features: Features::Numbers(vec![1.0, -2.5]), label: 3 });
        let bytes = file((Dtype::U8, &[2, 2], &[0, 255, 7, 9]), Y, ["x0", "y"]);
        assert_eq!(read_tensors(&bytes).unwrap().collect_set().unwrap().rows[1].features, Features::Numbers(vec![7.0, 9.0]));
    }

    #[test]
    fn what_is_missing_or_of_another_shape_is_named() {
        assert!(error(&Given::new("cut.safetensors", b"abc")).contains("cut.safetensors: cannot be read"));
        let x = (Dtype::U8, &[2usize, 2][..], &[1u8, 2, 3, 4][..]);
        assert!(error(&file(x, Y, ["x", "z"])).contains("has no tensor y; expected tensors x and y; it has"));
        assert!(
            error(&file((Dtype::U8, &[4], &[1, 2, 3, 4]), Y, ["x", "y"])).contains("x has shape [4] and y [2]; expected x [samples, …]")
        );
        let floats = 1f32.to_le_bytes().repeat(2);
        assert!(error(&file(x, (Dtype::F32, &[2], &floats), ["x", "y"])).contains("y is F32; expected whole numbers"));
        assert!(error(&file(x, (Dtype::I8, &[2], &[1, 255]), ["x", "y"])).contains("y[1] is -1; expected a whole number"));
    }
}
