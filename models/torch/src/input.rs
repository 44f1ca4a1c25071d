//! Bytes of a request to tensors.

use migrator_models::{Datatype, TensorSpec};
use tch::{Device, Kind, Tensor};

use crate::text::{self, Text};
use crate::{TorchError, place, upload};

/// The tensors of a batch on a device, numbers of 4 bytes as `kind`. The bytes are copied once, and once more to a GPU: a tensor
/// over borrowed, perhaps unaligned bytes saves nothing measurable.
pub(crate) fn tensors(
    specs: &[TensorSpec],
    text: Option<&Text>,
    inputs: &[&[u8]],
    rows: u32,
    (device, kind): (Device, Kind),
) -> Result<Vec<Tensor>, TorchError> {
    if inputs.len() != specs.len() {
        return Err(TorchError::BadInput(format!("{} inputs given, the model takes {}", inputs.len(), specs.len())));
    }
    if rows == 0 {
        return Err(TorchError::BadInput("a batch needs at least one row".to_owned()));
    }
    match text {
        Some(text) => {
            let ids = strings(inputs[0], rows, &specs[0].name)?.into_iter().map(|s| text.ids(s)).collect::<Result<Vec<_>, _>>()?;
            text::tensors(ids.iter().map(Vec::as_slice))?.into_iter().map(|ids| place::on(device, ids)).collect()
        }
        None if device.is_cuda() => {
            let upload =
                |(place, (spec, bytes)): (usize, (&TensorSpec, &&[u8]))| uploaded(place, spec, bytes, rows as usize, (device, kind));
            specs.iter().zip(inputs).enumerate().map(upload).collect()
        }
        None => specs.iter().zip(inputs).map(|(spec, bytes)| tensor(spec, bytes, rows as usize)).collect(),
    }
}

fn uploaded(place: usize, spec: &TensorSpec, bytes: &[u8], rows: usize, (device, wanted): (Device, Kind)) -> Result<Tensor, TorchError> {
    let (shape, kind) = checked(spec, bytes, rows)?;
    let tensor = upload::tensor(place, bytes, &shape, kind, device)?;
    Ok(if kind == Kind::Float && wanted != kind { tensor.f_to_kind(wanted)? } else { tensor })
}

/// A tensor of `rows` rows, on the host.
pub(crate) fn tensor(spec: &TensorSpec, bytes: &[u8], rows: usize) -> Result<Tensor, TorchError> {
    let (shape, kind) = checked(spec, bytes, rows)?;
    Ok(Tensor::f_from_data_size(bytes, &shape, kind)?)
}

/// Shape and element type, once the bytes are known to fit them.
fn checked(spec: &TensorSpec, bytes: &[u8], rows: usize) -> Result<(Vec<i64>, Kind), TorchError> {
    let (Some(kind), Some(size)) = (kind(spec.datatype), spec.datatype.size()) else {
        return Err(TorchError::BadModel(format!("input {} is BYTES, which only a text classifier takes", spec.name)));
    };
    let wants = rows * spec.elements() * size;
    if bytes.len() != wants {
        return Err(TorchError::BadInput(format!("input {} has {} bytes; {rows} rows take {wants}", spec.name, bytes.len())));
    }
    // Any other byte would be undefined behaviour once C++ reads it as bool.
    if spec.datatype == Datatype::Bool && bytes.iter().any(|&byte| byte > 1) {
        return Err(TorchError::BadInput(format!("input {} is BOOL; its bytes must be 0 or 1", spec.name)));
    }
    Ok((std::iter::once(rows as i64).chain(spec.shape.iter().map(|&n| i64::from(n))).collect(), kind))
}

fn kind(datatype: Datatype) -> Option<Kind> {
    Some(match datatype {
        Datatype::Bool => Kind::Bool,
        Datatype::Uint8 => Kind::Uint8,
        Datatype::Int32 => Kind::Int,
        Datatype::Int64 => Kind::Int64,
        Datatype::Fp32 => Kind::Float,
        Datatype::Fp64 => Kind::Double,
        Datatype::Bytes => return None,
    })
}

/// The elements of a `BYTES` input.
fn strings<'a>(mut bytes: &'a [u8], rows: u32, name: &str) -> Result<Vec<&'a str>, TorchError> {
    let bad = |reason: String| TorchError::BadInput(format!("input {name}: {reason}"));
    let mut strings = Vec::with_capacity((rows as usize).min(bytes.len()));
    for row in 0..rows {
        let (length, rest) =
            bytes.split_first_chunk::<4>().ok_or_else(|| bad(format!("it holds {row} texts; the batch has {rows} rows")))?;
        let length = u32::from_le_bytes(*length) as usize;
        let (text, rest) =
            rest.split_at_checked(length).ok_or_else(|| bad(format!("text {row} should have {length} bytes and has {}", rest.len())))?;
        strings.push(std::str::from_utf8(text).map_err(|_| bad(format!("text {row} is not UTF-8")))?);
        bytes = rest;
    }
    if bytes.is_empty() { Ok(strings) } else { Err(bad(format!("{} bytes are left after {rows} texts", bytes.len()))) }
}
