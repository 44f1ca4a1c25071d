//! The classification extension: rows of logits as texts `value:class`, the most likely first.

/// The texts of all rows, at most `top` of each.
pub(crate) fn texts(raw: &[u8], classes: u32, top: u32) -> Vec<String> {
    let (numbers, _) = raw.as_chunks::<4>();
    numbers.chunks(classes.max(1) as usize).flat_map(|row| of_row(row, top as usize)).collect()
}

fn of_row(row: &[[u8; 4]], top: usize) -> Vec<String> {
    let mut ranked: Vec<(f32, usize)> = row.iter().enumerate().map(|(class, bytes)| (f32::from_le_bytes(*bytes), class)).collect();
    // The lower class first among equals; what is no number last.
    ranked.sort_by(|a, b| rank(b.0).total_cmp(&rank(a.0)).then(a.1.cmp(&b.1)));
    ranked.iter().take(top).map(|(value, class)| format!("{value:.6}:{class}")).collect()
}

fn rank(value: f32) -> f32 {
    if value.is_nan() { f32::NEG_INFINITY } else { value }
}

/// Texts as a raw tensor of `BYTES`.
pub(crate) fn packed(texts: &[String]) -> Vec<u8> {
    let mut out = Vec::with_capacity(texts.iter().map(|text| 4 + text.len()).sum());
    for text in texts {
        // A text is shorter than 100 bytes.
        out.extend_from_slice(&(text.len() as u32).to_le_bytes());
        out.extend_from_slice(text.as_bytes());
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn raw(values: &[f32]) -> Vec<u8> {
        values.iter().flat_map(|value| value.to_le_bytes()).collect()
    }

    #[test]
    fn the_most_likely_classes_come_first_row_by_row() {
        let raw = raw(&[0.5, 2.0, -1.0, 7.0, 7.0, f32::NAN]);
        assert_eq!(texts(&raw, 3, 2), ["2.000000:1", "0.500000:0", "7.000000:0", "7.000000:1"]);
        assert_eq!(texts(&raw, 3, 9).len(), 6, "no more than there are");
        assert_eq!(texts(&raw, 3, 3)[5], "NaN:2");
    }

    #[test]
    fn a_text_is_packed_behind_its_length() {
        assert_eq!(packed(&["1:0".to_owned(), "x".to_owned()]), b"\x03\0\0\x001:0\x01\0\0\0x");
    }
}
