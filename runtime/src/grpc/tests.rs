//! Messages against a model: what fits becomes the same request as over HTTP, what does not is told in one line.

use std::time::Duration;

use bytes::Bytes;
use migrator_models::{Datatype, ModelSpec, Source, TensorSpec};
use migrator_protocol::infer_parameter::ParameterChoice;
use migrator_protocol::model_infer_request::{InferInputTensor, InferRequestedOutputTensor};
use migrator_protocol::{InferParameter, InferTensorContents, ModelInferRequest};
use tonic::Code;

use super::{infer, status};
use crate::http::ApiError;
use crate::http::recent::Remember;
use crate::http::request::InferRequest;
use crate::http::tests::front;

fn model() -> ModelSpec {
    let input = |name: &str, datatype, shape: &[u32]| TensorSpec { name: name.to_owned(), datatype, shape: shape.to_vec() };
    let inputs = vec![input("F", Datatype::Fp32, &[2]), input("U", Datatype::Uint8, &[1]), input("T", Datatype::Bytes, &[1])];
    ModelSpec { name: "m".to_owned(), classes: 3, max_batch: 4, precision: Default::default(), source: Source::Torchscript { inputs } }
}

fn tensor(name: &str, datatype: &str, shape: &[i64], contents: InferTensorContents) -> InferInputTensor {
    let contents = Some(contents).filter(|contents| *contents != Default::default());
    InferInputTensor { name: name.to_owned(), datatype: datatype.to_owned(), shape: shape.to_vec(), contents, ..Default::default() }
}

fn typed() -> ModelInferRequest {
    let inputs = vec![
        tensor("T", "BYTES", &[1, 1], InferTensorContents { bytes_contents: vec![b"hi".to_vec()], ..Default::default() }),
        tensor("F", "FP32", &[1, 2], InferTensorContents { fp32_contents: vec![1.0, 2.0], ..Default::default() }),
        tensor("U", "UINT8", &[1, 1], InferTensorContents { uint_contents: vec![7], ..Default::default() }),
    ];
    ModelInferRequest { model_name: "m".to_owned(), id: "x".to_owned(), inputs, ..Default::default() }
}

fn raw() -> ModelInferRequest {
    let mut request = typed();
    request.inputs.iter_mut().for_each(|input| input.contents = None);
    let f: Vec<u8> = [1.0f32, 2.0].iter().flat_map(|v| v.to_le_bytes()).collect();
    request.raw_input_contents = vec![Bytes::from_static(b"\x02\0\0\0hi"), Bytes::from(f), Bytes::from_static(&[7])];
    request
}

fn parse(request: ModelInferRequest) -> Result<InferRequest, String> {
    infer::parse(&model(), &model().inputs(), request)
}

fn parameter(choice: ParameterChoice) -> InferParameter {
    InferParameter { parameter_choice: Some(choice) }
}

#[test]
fn typed_and_raw_contents_are_the_same_request() {
    let request = parse(typed()).unwrap();
    assert_eq!(request, parse(raw()).unwrap());
    assert_eq!((request.id.as_deref(), request.rows, &request.inputs[1][..]), (Some("x"), 1, &[7u8][..]));
    assert_eq!(request.inputs[2], &b"\x02\0\0\0hi"[..]);
}

#[test]
fn raw_contents_are_not_copied() {
    let message = raw();
    let sent = message.raw_input_contents[1].as_ptr();
    assert_eq!(parse(message).unwrap().inputs[0].as_ptr(), sent);
}

#[test]
fn parameters_and_outputs_are_taken() {
    let mut request = typed();
    request.parameters.insert("timeout".to_owned(), parameter(ParameterChoice::Int64Param(2000)));
    request.parameters.insert("priority".to_owned(), parameter(ParameterChoice::Uint64Param(2)));
    let mut output = InferRequestedOutputTensor { name: "OUTPUT0".to_owned(), ..Default::default() };
    output.parameters.insert("classification".to_owned(), parameter(ParameterChoice::Int64Param(2)));
    request.outputs = vec![output];
    let parsed = parse(request).unwrap();
    assert_eq!((parsed.timeout, parsed.priority, parsed.output.top), (Some(std::time::Duration::from_millis(2)), 2, Some(2)));
}

#[test]
fn what_does_not_fit_is_told_in_one_line() {
    type Change = fn(&mut ModelInferRequest);
    let cases: [(Change, &str); 12] = [
        (|r| drop(r.inputs.pop()), "input \"U\" is missing"),
        (|r| r.inputs[1].name = "X".to_owned(), "input \"X\": the model takes F, U, T"),
        (|r| r.inputs[1].shape = vec![1, 3], "input \"F\": shape [1, 3]: the model takes [rows, 2]"),
        (|r| r.inputs[1].shape = vec![-1, 2], "input \"F\": shape [-1, 2]: sizes must not be below 0"),
        (|r| r.inputs[1].datatype = "FP64".to_owned(), "input \"F\": datatype \"FP64\": the model takes FP32"),
        (|r| r.inputs[1].contents = None, "input \"F\": 0 bytes: shape [1, 2] takes 8 bytes"),
        (|r| r.inputs[2].contents.as_mut().unwrap().uint_contents = vec![256], "input \"U\": element 0: 256 does not fit UINT8"),
        (
            |r| r.inputs[2].contents.as_mut().unwrap().int_contents = vec![1],
            "input \"U\": int_contents is given: UINT8 belongs into uint_contents",
        ),
        (|r| r.raw_input_contents = vec![Bytes::new()], "raw_input_contents has 1 tensors for 3 inputs"),
        (|r| r.raw_input_contents = vec![Bytes::new(); 3], "input \"T\": has both contents and raw_input_contents"),
        (|r| r.outputs = vec![Default::default()], "output \"\": the model gives OUTPUT0"),
        (|r| drop(r.parameters.insert("priority".to_owned(), parameter(ParameterChoice::Int64Param(-1)))), "priority: -1 is below 0"),
    ];
    for (change, line) in cases {
        let mut request = typed();
        change(&mut request);
        assert_eq!(parse(request), Err(line.to_owned()));
    }
}

#[actix_web::test]
async fn a_request_over_grpc_may_be_labelled_later() {
    let how = Remember { age: Duration::from_secs(60), bytes: 1 << 20, features: true };
    let front = front().with(|state| state.remember("a", how));
    let contents = InferTensorContents { fp32_contents: vec![1.0, 2.0, 3.0], ..Default::default() };
    let inputs = vec![tensor("INPUT0", "FP32", &[1, 3], contents)];
    let message = ModelInferRequest { model_name: "a".to_owned(), id: "x".to_owned(), inputs, ..Default::default() };
    infer::infer(&front.state, tokio::time::Instant::now(), None, message).await.unwrap();
    let got = front.post("/v1/tenants/a/labels", r#"{"labels":[{"id":"x","label":1}]}"#).await;
    assert_eq!(got.json()["accepted"], 1);
}

#[test]
fn refusals_have_grpcs_codes_and_say_when_to_try_again() {
    let shed = migrator_actors::message::InferError::Shed { reason: "queue full", retry_after: std::time::Duration::from_millis(30) };
    let refused = status(ApiError::from(shed));
    assert_eq!((refused.code(), refused.metadata().get("grpc-retry-pushback-ms").unwrap().to_str().unwrap()), (Code::Unavailable, "30"));
    assert_eq!(status(ApiError::bad_request("x")).code(), Code::InvalidArgument);
    assert_eq!(status(ApiError::not_found("x")).code(), Code::NotFound);
}
