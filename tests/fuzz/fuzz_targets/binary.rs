//! Bodies of JSON and raw tensors, of requests and of labelled samples, and packed bodies. The first two bytes say how much is JSON.
#![no_main]

use libfuzzer_sys::fuzz_target;
use migrator::http::fuzz;

/// Bytes that a packed body may unpack to: more than any input holds.
const LIMIT: usize = 1 << 16;

fuzz_target!(|data: &[u8]| {
    let Some((head, body)) = data.split_first_chunk::<2>() else { return };
    let json_len = u16::from_le_bytes(*head).into();
    fuzz::body(body, Some(json_len));
    fuzz::batch(body, json_len);
    fuzz::packed(body, LIMIT);
});
