//! An inference answer, written from the raw output into one buffer.

use std::io::Write;

use super::classification;
use super::request::InferRequest;

/// What the answer says besides its numbers.
pub(super) struct Answer<'a> {
    /// The model as the client called it.
    pub model: &'a str,
    /// Version that answered.
    pub version: u32,
    /// Name of the output.
    pub output: &'a str,
    /// Columns.
    pub classes: u32,
    /// The request.
    pub request: &'a InferRequest,
    /// `FP32`, little-endian, rows × classes.
    pub raw: &'a [u8],
}

/// A body, and the length of its JSON when binary data follows.
pub(super) struct Body {
    /// The bytes.
    pub bytes: Vec<u8>,
    /// Length of the JSON; `None` = all of it.
    pub json_len: Option<usize>,
}

impl Answer<'_> {
    /// Writes the body.
    ///
    /// # Errors
    /// When the worker's output is not of the size it must be, or holds a number that JSON cannot express.
    pub fn write(&self) -> Result<Body, String> {
        let elements = self.request.rows as usize * self.classes as usize;
        if self.raw.len() != elements * 4 {
            return Err(format!("the worker answered {} bytes instead of {}", self.raw.len(), elements * 4));
        }
        let mut out = Vec::with_capacity(192 + self.model.len() + elements * 12);
        self.head(&mut out);
        let texts = self.request.output.top.map(|top| classification::texts(self.raw, self.classes, top));
        if self.request.output.binary {
            let packed = texts.map(|texts| classification::packed(&texts));
            let raw = packed.as_deref().unwrap_or(self.raw);
            let _ = write!(out, ",\"parameters\":{{\"binary_data_size\":{}}}}}]}}", raw.len());
            let json_len = Some(out.len());
            out.extend_from_slice(raw);
            return Ok(Body { bytes: out, json_len });
        }
        out.extend_from_slice(b",\"data\":[");
        match texts {
            Some(texts) => {
                let texts: Vec<String> = texts.iter().map(|text| format!("\"{text}\"")).collect();
                out.extend_from_slice(texts.join(",").as_bytes());
            }
            None => self.numbers(&mut out)?,
        }
        out.extend_from_slice(b"]}]}");
        Ok(Body { bytes: out, json_len: None })
    }

    /// Writing into a `Vec` cannot fail.
    fn head(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(b"{\"model_name\":");
        let _ = serde_json::to_writer(&mut *out, self.model);
        let _ = write!(out, ",\"model_version\":\"{}\"", self.version);
        if let Some(id) = &self.request.id {
            out.extend_from_slice(b",\"id\":");
            let _ = serde_json::to_writer(&mut *out, id);
        }
        out.extend_from_slice(b",\"outputs\":[{\"name\":");
        let _ = serde_json::to_writer(&mut *out, self.output);
        let (datatype, columns) = self.request.output.top.map_or(("FP32", self.classes), |top| ("BYTES", top.min(self.classes)));
        let _ = write!(out, ",\"datatype\":\"{datatype}\",\"shape\":[{},{columns}]", self.request.rows);
    }

    fn numbers(&self, out: &mut Vec<u8>) -> Result<(), String> {
        let mut buffer = zmij::Buffer::new();
        let (numbers, _) = self.raw.as_chunks::<4>();
        for (index, bytes) in numbers.iter().enumerate() {
            let number = f32::from_le_bytes(*bytes);
            if !number.is_finite() {
                return Err(format!(
                    "output {:?}, element {index} is {number}, which JSON cannot express: ask for binary data",
                    self.output
                ));
            }
            if index > 0 {
                out.push(b',');
            }
            out.extend_from_slice(buffer.format_finite(number).as_bytes());
        }
        Ok(())
    }
}
