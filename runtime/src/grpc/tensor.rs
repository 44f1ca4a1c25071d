//! Contents of a tensor, from the field that fits its datatype to raw little-endian bytes.

use bytes::Bytes;
use migrator_models::Datatype;
use migrator_protocol::InferTensorContents;

/// The raw tensor. What is in the fields of other datatypes must be empty.
///
/// # Errors
/// One line.
pub(super) fn raw(datatype: Datatype, contents: &InferTensorContents) -> Result<Bytes, String> {
    let c = contents;
    let given = [
        ("bool_contents", c.bool_contents.len()),
        ("int_contents", c.int_contents.len()),
        ("int64_contents", c.int64_contents.len()),
        ("uint_contents", c.uint_contents.len()),
        ("uint64_contents", c.uint64_contents.len()),
        ("fp32_contents", c.fp32_contents.len()),
        ("fp64_contents", c.fp64_contents.len()),
        ("bytes_contents", c.bytes_contents.len()),
    ];
    let (fits, raw) = match datatype {
        Datatype::Bool => ("bool_contents", c.bool_contents.iter().map(|&v| u8::from(v)).collect()),
        Datatype::Uint8 => ("uint_contents", bytes(&c.uint_contents)?),
        Datatype::Int32 => ("int_contents", c.int_contents.iter().flat_map(|v| v.to_le_bytes()).collect()),
        Datatype::Int64 => ("int64_contents", c.int64_contents.iter().flat_map(|v| v.to_le_bytes()).collect()),
        Datatype::Fp32 => ("fp32_contents", c.fp32_contents.iter().flat_map(|v| v.to_le_bytes()).collect()),
        Datatype::Fp64 => ("fp64_contents", c.fp64_contents.iter().flat_map(|v| v.to_le_bytes()).collect()),
        Datatype::Bytes => ("bytes_contents", texts(&c.bytes_contents)?),
    };
    match given.iter().find(|(name, len)| *len > 0 && *name != fits) {
        Some((other, _)) => Err(format!("{other} is given: {} belongs into {fits}", datatype.name())),
        None => Ok(Bytes::from(raw)),
    }
}

fn bytes(values: &[u32]) -> Result<Vec<u8>, String> {
    let one = |(element, &value): (usize, &u32)| u8::try_from(value).map_err(|_| format!("element {element}: {value} does not fit UINT8"));
    values.iter().enumerate().map(one).collect()
}

fn texts(texts: &[Vec<u8>]) -> Result<Vec<u8>, String> {
    let mut out = Vec::with_capacity(texts.iter().map(|text| 4 + text.len()).sum());
    for text in texts {
        let length = u32::try_from(text.len()).map_err(|_| "a text is longer than 4 GiB")?;
        out.extend_from_slice(&length.to_le_bytes());
        out.extend_from_slice(text);
    }
    Ok(out)
}
