//! What fuzzers and property tests demand of everything that is parsed before a tenant sees it: refused in one line, or fitting the
//! model. Built for them only.

use bytes::Bytes;
use migrator_actors::message::Sample;
use migrator_models::data::{self, DataError, Part};
use migrator_models::{Architecture, Datatype, ModelSpec, Source, TensorSpec, row};
use migrator_protocol::ModelInferRequest;

use super::batch;
use super::codec::Codec;
use super::input::check_raw;
use super::request::InferRequest;
use super::response::Answer;
use super::sample;

/// A model that takes numbers, texts and truths.
pub(super) fn model() -> ModelSpec {
    let input = |name: &str, datatype, shape: &[u32]| TensorSpec { name: name.to_owned(), datatype, shape: shape.to_vec() };
    let inputs = vec![input("F", Datatype::Fp32, &[2, 2]), input("T", Datatype::Bytes, &[1]), input("B", Datatype::Bool, &[1])];
    ModelSpec { name: "m".to_owned(), classes: 3, max_batch: 3, precision: Default::default(), source: Source::Torchscript { inputs } }
}

/// A model whose only input may come without JSON.
fn plain() -> ModelSpec {
    let inputs = vec![TensorSpec { name: "I".to_owned(), datatype: Datatype::Int32, shape: vec![2] }];
    ModelSpec { source: Source::Torchscript { inputs }, ..model() }
}

/// A model of texts.
pub(super) fn text() -> ModelSpec {
    let architecture = Architecture::TextClassifier { vocabulary: 9, max_tokens: 9, embedding: 2 };
    ModelSpec { source: Source::Architecture { architecture }, ..model() }
}

/// A body of an inference request, of which `json_len` bytes are JSON.
///
/// # Panics
/// When something came through that does not fit the model, or an answer to it is not what its client could read.
pub fn body(body: &[u8], json_len: Option<usize>) {
    for spec in [model(), plain(), text()] {
        let parsed = InferRequest::parse(&spec, &spec.inputs(), &Bytes::copy_from_slice(body), json_len);
        demand(&spec, &parsed);
        if let Ok(request) = parsed {
            answer(&spec, &request);
        }
    }
}

/// A body of labelled samples.
///
/// # Panics
/// When something came through that does not fit the model.
pub fn samples(body: &[u8]) {
    for spec in [model(), plain(), text()] {
        learnable(&spec, sample::parse(&spec.inputs(), spec.classes, body));
    }
}

/// A body of labelled samples as tensors, of which `json_len` bytes are JSON.
///
/// # Panics
/// When something came through that does not fit the model.
pub fn batch(body: &[u8], json_len: usize) {
    for spec in [model(), plain(), text()] {
        learnable(&spec, batch::parse(&spec.inputs(), spec.classes, &Bytes::copy_from_slice(body), json_len));
    }
}

/// One sample that does not fit a data set spoils it for all.
fn learnable(spec: &ModelSpec, parsed: Result<Vec<Sample>, String>) {
    match parsed {
        Ok(samples) => {
            for (index, Sample { features, label, .. }) in samples.iter().enumerate() {
                assert!(*label < spec.classes && row::not_finite(&spec.inputs(), features).is_none());
                match data::check(spec, index, &data::Sample { features, label: *label, part: Part::Train }) {
                    // Nothing is learnt from texts beside other inputs.
                    Ok(()) | Err(DataError::Inputs { .. }) => {}
                    Err(error) => panic!("{error}"),
                }
            }
        }
        Err(line) => one_line(&line),
    }
}

/// A message of gRPC.
///
/// # Panics
/// As [`body`].
pub fn message(message: ModelInferRequest) {
    let spec = model();
    demand(&spec, &crate::grpc::infer::parse(&spec, &spec.inputs(), message));
}

/// A packed body.
///
/// # Panics
/// When more is unpacked than may be.
pub fn packed(bytes: &[u8], limit: usize) {
    for codec in [Codec::Gzip, Codec::Deflate] {
        if let Ok(plain) = codec.unpack(bytes, limit) {
            assert!(plain.len() <= limit);
        }
    }
}

fn demand(spec: &ModelSpec, parsed: &Result<InferRequest, String>) {
    match parsed {
        Ok(request) => {
            assert!((1..=spec.max_batch).contains(&request.rows));
            assert!(fits(spec, u64::from(request.rows), &request.inputs));
        }
        Err(line) => one_line(line),
    }
}

fn one_line(line: &str) {
    assert!(!line.is_empty() && !line.contains('\n'), "{line:?}");
}

/// What a tenant may rely on.
pub(super) fn fits(spec: &ModelSpec, rows: u64, inputs: &[Bytes]) -> bool {
    let specs = spec.inputs();
    inputs.len() == specs.len()
        && specs.iter().zip(inputs).all(|(input, raw)| {
            let sized = input.datatype.size().is_none_or(|each| raw.len() as u64 == (each * input.elements()) as u64 * rows);
            sized && check_raw(input, rows, raw).is_ok()
        })
}

/// The answer's JSON says what the request was called.
fn answer(spec: &ModelSpec, request: &InferRequest) {
    let raw: Vec<u8> = (0..request.rows * spec.classes).flat_map(|n| (n as f32 * 0.1).to_le_bytes()).collect();
    let answer = Answer { model: "m", version: 1, output: "OUTPUT0", classes: spec.classes, request, raw: &raw };
    let body = answer.write().expect("a finite answer of the right size");
    let json: serde_json::Value = serde_json::from_slice(&body.bytes[..body.json_len.unwrap_or(body.bytes.len())]).expect("JSON");
    assert_eq!(json.get("id").and_then(|id| id.as_str()), request.id.as_deref());
}
