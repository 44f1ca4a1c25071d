//! Bodies of inference requests and of labelled samples, JSON all through.
#![no_main]

use libfuzzer_sys::fuzz_target;
use migrator::http::fuzz;

fuzz_target!(|body: &[u8]| {
    fuzz::body(body, None);
    fuzz::samples(body);
});
