//! Messages of `ModelInfer`.
#![no_main]

use libfuzzer_sys::fuzz_target;
use migrator::http::fuzz;
use migrator_protocol::ModelInferRequest;
use prost::Message;

fuzz_target!(|data: &[u8]| {
    if let Ok(message) = ModelInferRequest::decode(data) {
        fuzz::message(message);
    }
});
