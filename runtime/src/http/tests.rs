//! The front against fake tenants: right answers, and one clear line for everything that is wrong.

use std::sync::Mutex;
use std::time::Duration;

use actix_web::body::to_bytes;
use actix_web::dev::Service;
use actix_web::http::{Method, StatusCode};
use actix_web::test::{TestRequest, init_service};
use bytes::Bytes;
use futures::FutureExt;
use migrator_actors::view::{GpuView, TenantView};
use migrator_models::{Architecture, Datatype, Source, TensorSpec};
use serde_json::{Value, json};

use super::*;

/// Answers with the row's index in every class, or with what it is told to.
pub(crate) struct Fake {
    spec: ModelSpec,
    error: Option<InferError>,
    ready: bool,
    pub seen: Mutex<Vec<Infer>>,
    samples: Mutex<Vec<migrator_actors::message::Sample>>,
    pub labels: Mutex<Vec<migrator_actors::message::Labelled>>,
    /// Whether nothing can be stored.
    pub full: AtomicBool,
}

impl TenantFront for Fake {
    fn infer(&self, infer: Infer) -> BoxFuture<'static, Result<Inferred, InferError>> {
        let cells = infer.rows * self.spec.classes;
        let output: Vec<u8> = (0..cells).flat_map(|i| ((i / self.spec.classes) as f32 + 0.5).to_le_bytes()).collect();
        self.seen.lock().unwrap().push(infer);
        let answer = self.error.clone().map_or_else(|| Ok(inferred(output)), Err);
        async move { answer }.boxed()
    }

    fn add_samples(&self, samples: AddSamples) -> BoxFuture<'static, Result<usize, SampleError>> {
        let count = samples.samples.len();
        self.samples.lock().unwrap().extend(samples.samples);
        async move { Ok(count) }.boxed()
    }

    fn add_labels(&self, labels: AddLabels) -> BoxFuture<'static, Result<usize, SampleError>> {
        if self.full.load(Ordering::Relaxed) {
            return async { Err(SampleError::Store("disk full".to_owned())) }.boxed();
        }
        let count = labels.labels.len();
        self.labels.lock().unwrap().extend(labels.labels);
        async move { Ok(count) }.boxed()
    }

    fn spec(&self) -> &ModelSpec {
        &self.spec
    }

    fn version(&self) -> u32 {
        3
    }

    fn ready(&self) -> bool {
        self.ready
    }

    fn counts(&self) -> Counts {
        let mut counts = Counts { rows: 7, batches: 2, ..Counts::default() };
        counts.success.add(5, Duration::from_micros(30));
        counts.shed.entry("queue full").or_default().add(2, Duration::from_micros(1));
        counts.by_size.entry(4).or_default().computed.add(1, Duration::from_micros(9));
        counts
    }

    fn pending(&self) -> u32 {
        1
    }

    fn load(&self) -> BoxFuture<'static, Result<u32, String>> {
        let answer = if self.ready { Ok(3) } else { Err("the store holds no complete version".to_owned()) };
        async move { answer }.boxed()
    }
}

impl Fake {
    /// The samples that came since the last call.
    pub fn take_samples(&self) -> Vec<migrator_actors::message::Sample> {
        std::mem::take(&mut self.samples.lock().unwrap())
    }
}

fn inferred(output: Vec<u8>) -> Inferred {
    Inferred { version: 3, output: Bytes::from(output), waited: Duration::ZERO, computed: Duration::ZERO }
}

fn fake(model: &str, source: Source) -> Fake {
    let spec = ModelSpec { name: model.to_owned(), classes: 2, max_batch: 4, precision: Default::default(), source };
    Fake {
        spec,
        error: None,
        ready: true,
        seen: Mutex::default(),
        samples: Mutex::default(),
        labels: Mutex::default(),
        full: AtomicBool::new(false),
    }
}

fn architecture(architecture: Architecture) -> Source {
    Source::Architecture { architecture }
}

fn mlp() -> Source {
    architecture(Architecture::Mlp { features: 3, hidden: vec![] })
}

fn mixed() -> Source {
    let input = |name: &str, datatype, shape: &[u32]| TensorSpec { name: name.to_owned(), datatype, shape: shape.to_vec() };
    let inputs = vec![
        input("I32", Datatype::Int32, &[2]),
        input("B", Datatype::Bool, &[1]),
        input("U8", Datatype::Uint8, &[1]),
        input("I64", Datatype::Int64, &[1]),
        input("F64", Datatype::Fp64, &[2, 2]),
    ];
    Source::Torchscript { inputs }
}

pub(crate) struct Front {
    pub fakes: BTreeMap<String, Arc<Fake>>,
    pub state: web::Data<AppState>,
    pub door: Door,
    view: watch::Sender<Arc<View>>,
    draining: Arc<AtomicBool>,
}

pub(crate) fn front() -> Front {
    let shed = |reason| Some(InferError::Shed { reason, retry_after: Duration::from_millis(1200) });
    let text = Architecture::TextClassifier { vocabulary: 9, max_tokens: 9, embedding: 9 };
    let all = [
        ("a", fake("digits", mlp())),
        ("text", fake("text", architecture(text))),
        ("mixed", fake("mixed", mixed())),
        ("twin-1", fake("twin", mlp())),
        ("twin-2", fake("twin", mlp())),
        ("full", Fake { error: shed("queue full"), ..fake("m1", mlp()) }),
        ("unserved", Fake { error: shed("no instance serves this tenant"), ready: false, ..fake("m2", mlp()) }),
        ("lost", Fake { error: Some(InferError::WorkerLost), ..fake("m3", mlp()) }),
    ];
    let fakes: BTreeMap<String, Arc<Fake>> = all.into_iter().map(|(name, fake)| (name.to_owned(), Arc::new(fake))).collect();
    let tenants = fakes.iter().map(|(name, fake)| (name.clone(), Arc::clone(fake) as Arc<dyn TenantFront>)).collect();
    let (view, receiver) = watch::channel(Arc::new(View::default()));
    let draining = Arc::new(AtomicBool::new(false));
    let limits = Limits { max_body: 1 << 20, workers: 1, drain_s: 1, ..Limits::default() };
    let state = web::Data::new(AppState::new(tenants, receiver, Arc::clone(&draining), limits));
    Front { fakes, state, door: Door::Both, view, draining }
}

pub(crate) struct Got {
    pub status: StatusCode,
    headers: actix_web::http::header::HeaderMap,
    pub body: Bytes,
}

impl Got {
    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |v| v.to_str().unwrap())
    }

    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|e| panic!("{e}: {:?}", self.body))
    }

    pub fn error(&self) -> String {
        assert_eq!(self.header("content-type"), "application/json");
        self.json()["error"].as_str().unwrap().to_owned()
    }
}

impl Front {
    /// The same with another state.
    pub fn with(self, change: impl FnOnce(AppState) -> AppState) -> Front {
        let state = Arc::into_inner(self.state.into_inner()).expect("nobody else has it");
        Front { state: web::Data::new(change(state)), ..self }
    }

    pub async fn send(&self, request: TestRequest) -> Got {
        let app = init_service(
            App::new().app_data(self.state.clone()).app_data(web::Data::new(self.door)).wrap(from_fn(guard::pass)).configure(route::routes),
        )
        .await;
        let response = app.call(request.to_request()).await.unwrap();
        let (status, headers) = (response.status(), response.headers().clone());
        Got { status, headers, body: to_bytes(response.into_body()).await.unwrap() }
    }

    pub async fn get(&self, path: &str) -> Got {
        self.send(TestRequest::get().uri(path)).await
    }

    pub async fn post(&self, path: &str, body: impl Into<Bytes>) -> Got {
        let body = body.into();
        self.send(TestRequest::post().uri(path).insert_header(("content-length", body.len())).set_payload(body)).await
    }

    pub async fn infer(&self, tenant: &str, body: &str) -> Got {
        self.post(&format!("/v2/models/{tenant}/infer"), body.to_owned()).await
    }

    fn last(&self, tenant: &str) -> Infer {
        self.fakes[tenant].seen.lock().unwrap().pop().unwrap()
    }
}

pub(super) fn floats(numbers: &[f32]) -> Vec<u8> {
    numbers.iter().flat_map(|n| n.to_le_bytes()).collect()
}

pub(super) const GOOD: &str = r#"{"id":"r1","inputs":[{"name":"INPUT0","shape":[2,3],"datatype":"FP32","data":[[1,2.5,-3],[4e0,5,6]]}]}"#;

#[actix_web::test]
async fn nested_and_flat_data_become_the_same_raw_tensor() {
    let front = front();
    let got = front.infer("a", GOOD).await;
    let expected = json!({
        "model_name": "a", "model_version": "3", "id": "r1",
        "outputs": [{"name": "OUTPUT0", "datatype": "FP32", "shape": [2, 2], "data": [0.5, 0.5, 1.5, 1.5]}],
    });
    assert_eq!((got.status, got.json()), (StatusCode::OK, expected));
    assert_eq!(got.header("content-type"), "application/json");
    let nested = front.last("a");
    let late =
        r#"{"inputs":[{"data":[1,2.5,-3,4,5,6],"datatype":"FP32","x":{},"shape":[2,3],"name":"INPUT0"}],"parameters":{"timeout":250}}"#;
    assert_eq!(front.infer("digits", late).await.status, StatusCode::OK);
    let flat = front.last("a");
    assert_eq!(nested.inputs, [floats(&[1.0, 2.5, -3.0, 4.0, 5.0, 6.0])]);
    assert_eq!((nested.inputs, nested.rows), (flat.inputs, flat.rows));
    assert_eq!((nested.timeout, flat.timeout), (None, Some(Duration::from_micros(250))));
}

#[actix_web::test]
async fn every_datatype_is_encoded_in_the_models_order() {
    let front = front();
    let body = r#"{"inputs":[
        {"name":"F64","shape":[1,2,2],"datatype":"FP64","data":[[[1,2],[3,0.5]]]},
        {"name":"I64","shape":[1,1],"datatype":"INT64","data":[-9223372036854775808]},
        {"name":"U8","shape":[1,1],"datatype":"UINT8","data":[255]},
        {"name":"B","shape":[1,1],"datatype":"BOOL","data":[true]},
        {"name":"I32","shape":[1,2],"datatype":"INT32","data":[-1,2147483647]}]}"#;
    assert_eq!(front.infer("mixed", body).await.status, StatusCode::OK);
    let seen = front.last("mixed").inputs;
    assert_eq!(seen[0][..], [[255; 4], [255, 255, 255, 127]].concat());
    assert_eq!((&seen[1][..], &seen[2][..], &seen[3][..]), (&[1u8][..], &[255u8][..], &i64::MIN.to_le_bytes()[..]));
    let doubles: Vec<u8> = [1.0f64, 2.0, 3.0, 0.5].iter().flat_map(|n| n.to_le_bytes()).collect();
    assert_eq!(seen[4], doubles);
}

#[actix_web::test]
async fn texts_carry_their_length() {
    let front = front();
    let body = r#"{"inputs":[{"name":"INPUT0","shape":[2,1],"datatype":"BYTES","data":["h\u00e9",""]}]}"#;
    assert_eq!(front.infer("text", body).await.status, StatusCode::OK);
    assert_eq!(front.last("text").inputs, [Bytes::from_static(b"\x03\0\0\0h\xc3\xa9\0\0\0\0")]);
}

#[actix_web::test]
async fn binary_tensors_come_and_go_after_the_json() {
    let front = front();
    let json = r#"{"inputs":[{"name":"INPUT0","shape":[1,3],"datatype":"FP32","parameters":{"binary_data_size":12}}],"outputs":[{"name":"OUTPUT0","parameters":{"binary_data":true}}]}"#;
    let raw = floats(&[1.0, f32::NAN, 3.0]);
    let body = [json.as_bytes(), &raw].concat();
    let send = |length: String, body: Vec<u8>| {
        let request = TestRequest::post().uri("/v2/models/a/infer").insert_header((inference::JSON_LENGTH, length));
        request.insert_header(("content-length", body.len())).set_payload(body)
    };
    let got = front.send(send(json.len().to_string(), body.clone())).await;
    assert_eq!((got.status, got.header("content-type")), (StatusCode::OK, "application/octet-stream"));
    let json_len: usize = got.header(inference::JSON_LENGTH).parse().unwrap();
    let head: Value = serde_json::from_slice(&got.body[..json_len]).unwrap();
    assert_eq!(head["outputs"][0]["parameters"]["binary_data_size"], 8);
    assert_eq!(got.body[json_len..], floats(&[0.5, 0.5]));
    assert_eq!(front.last("a").inputs, [Bytes::from(raw.clone())]);

    assert_eq!(front.send(send("0".into(), raw.clone())).await.status, StatusCode::OK);
    assert_eq!(front.last("a").inputs, [Bytes::from(raw)]);
    for (length, body, line) in [
        ("9999".to_owned(), body.clone(), "Inference-Header-Content-Length 9999: the body has"),
        ("-5".to_owned(), body.clone(), "is not a number of bytes"),
        (json.len().to_string(), [&body[..], b"x"].concat(), "1 bytes after the last binary input"),
        (json.len().to_string(), body[..body.len() - 4].to_vec(), "input \"INPUT0\": binary_data_size 12: the body has 8 bytes left"),
        ("0".to_owned(), vec![0; 13], "input \"INPUT0\": 13 bytes: the model takes 1 to 4 rows of 12 bytes"),
        ("0".to_owned(), vec![], "input \"INPUT0\": 0 bytes: the model takes 1 to 4 rows of 12 bytes"),
    ] {
        let got = front.send(send(length, body)).await;
        assert!(got.status == StatusCode::BAD_REQUEST && got.error().contains(line), "{}", got.error());
    }
}

/// Body sent to tenant `a` (`FP32 [rows, 3]`, up to 4 rows), and the line it is refused with.
const BAD: &[(&str, &str)] = &[
    ("", "the body is empty"),
    ("[]", "invalid type: sequence, expected an inference request: an object with inputs at line 1 column 0"),
    ("{", "EOF while parsing an object at line 1 column 1"),
    ("{}", "inputs is missing"),
    ("{\"inputs\":[]}", "input \"INPUT0\" is missing"),
    ("{\"inputs\":{}}", "invalid type: map, expected a list of inputs at line 1 column 10"),
    ("{\"inputs\":[]} x", "trailing characters at line 1 column 15"),
    ("{\"id\":3,\"inputs\":[]}", "id: invalid type: integer `3`, expected a string at line 1 column 7"),
    ("{\"inputs\":[{}]}", "an input has no name"),
];

/// The one input of a body, and the line it is refused with.
const BAD_INPUT: &[(&str, &str)] = &[
    (r#""name":"X","shape":[1,3],"datatype":"FP32","data":[1,2,3]"#, "input \"X\": the model takes INPUT0"),
    (r#""name":"INPUT0","shape":[1,4],"datatype":"FP32","data":[1,2,3,4]"#, "input \"INPUT0\": shape [1, 4]: the model takes [rows, 3]"),
    (r#""name":"INPUT0","shape":[3],"datatype":"FP32","data":[1,2,3]"#, "input \"INPUT0\": shape [3]: the model takes [rows, 3]"),
    (r#""name":"INPUT0","shape":[0,3],"datatype":"FP32","data":[]"#, "input \"INPUT0\": 0 rows: the model takes 1 to 4"),
    (r#""name":"INPUT0","shape":[9,3],"datatype":"FP32","data":[]"#, "input \"INPUT0\": 9 rows: the model takes 1 to 4"),
    (r#""name":"INPUT0","shape":[-1,3],"datatype":"FP32","data":[]"#, "input \"INPUT0\": shape: invalid value: integer `-1`, expected u64"),
    (r#""name":"INPUT0","datatype":"FP32","data":[1,2,3]"#, "input \"INPUT0\": shape is missing: the model takes [rows, 3]"),
    (r#""name":"INPUT0","shape":[1,3],"data":[1,2,3]"#, "input \"INPUT0\": datatype is missing: the model takes FP32"),
    (r#""name":"INPUT0","shape":[1,3],"datatype":"INT32","data":[1,2,3]"#, "input \"INPUT0\": datatype \"INT32\": the model takes FP32"),
    (r#""name":"INPUT0","shape":[1,3],"datatype":"FP32""#, "input \"INPUT0\": has neither data nor parameters.binary_data_size"),
    (
        r#""name":"INPUT0","shape":[1,3],"datatype":"FP32","data":[1,2,3],"parameters":{"binary_data_size":12}"#,
        "input \"INPUT0\": has both data and parameters.binary_data_size",
    ),
    (
        r#""name":"INPUT0","shape":[1,3],"datatype":"FP32","parameters":{"binary_data_size":13}"#,
        "input \"INPUT0\": binary_data_size 13: shape [1, 3] takes 12 bytes",
    ),
    (
        r#""name":"INPUT0","shape":[1,3],"datatype":"FP32","parameters":{"shared_memory_region":"r"}"#,
        "input \"INPUT0\": parameters.shared_memory_region: shared memory is not supported",
    ),
    (
        r#""name":"INPUT0","shape":[1,3],"datatype":"FP32","data":[1,2]"#,
        "input \"INPUT0\": 2 elements instead of 3 elements (shape [1, 3])",
    ),
    (r#""name":"INPUT0","shape":[1,3],"datatype":"FP32","data":[1,2,3,4]"#, "input \"INPUT0\": more than 3 elements (shape [1, 3])"),
    (
        r#""name":"INPUT0","shape":[2,3],"datatype":"FP32","data":[[1,2],[3,4,5,6]]"#,
        "input \"INPUT0\": an array of 2 where dimension 1 of shape [2, 3] has 3",
    ),
    (r#""name":"INPUT0","shape":[1,3],"datatype":"FP32","data":[[[1,2,3]]]"#, "input \"INPUT0\": nested deeper than shape [1, 3]"),
    (r#""name":"INPUT0","shape":[1,3],"datatype":"FP32","data":[[1,2,3],4]"#, "input \"INPUT0\": more than 3 elements (shape [1, 3])"),
    (r#""name":"INPUT0","shape":[1,3],"datatype":"FP32","data":[1,[2,3]]"#, "input \"INPUT0\": an array of 2 where dimension 1"),
    (r#""name":"INPUT0","shape":[1,3],"datatype":"FP32","data":[1,NaN,3]"#, "input \"INPUT0\", element 1: expected value"),
    (r#""name":"INPUT0","shape":[1,3],"datatype":"FP32","data":[1,-Infinity,3]"#, "input \"INPUT0\", element 1: invalid number"),
    (
        r#""name":"INPUT0","shape":[1,3],"datatype":"FP32","data":[1,"NaN",3]"#,
        "input \"INPUT0\", element 1: expected a number, got the string \"NaN\"",
    ),
    (r#""name":"INPUT0","shape":[1,3],"datatype":"FP32","data":[1,2,null]"#, "input \"INPUT0\", element 2: expected a number, got null"),
    (r#""name":"INPUT0","shape":[1,3],"datatype":"FP32","data":[true,2,3]"#, "input \"INPUT0\", element 0: expected a number, got true"),
    (r#""name":"INPUT0","shape":[1,3],"datatype":"FP32","data":[{},2,3]"#, "input \"INPUT0\", element 0: expected a number, got an object"),
    (r#""name":"INPUT0","shape":[1,3],"datatype":"FP32","data":[1,2,1e39]"#, "input \"INPUT0\", element 2: 1e39 does not fit FP32"),
    (r#""name":"INPUT0","shape":[1,3],"datatype":"FP32","data":[1,2,1e400]"#, "input \"INPUT0\", element 2: number out of range"),
    (
        r#""name":"INPUT0","shape":[1,3],"datatype":"FP32","data":7"#,
        "input \"INPUT0\": a single element instead of 3 elements (shape [1, 3])",
    ),
    (r#""name":"INPUT0","shape":[1,3],"datatype":"FP32","data":[1,2,3],"data":[1,2,3]"#, "input \"INPUT0\": data is given twice"),
    (
        r#""name":"INPUT0","shape":[1,3],"datatype":"FP32","data":[1,2,3]},{"name":"INPUT0","shape":[1,3],"datatype":"FP32","data":[1,2,3]"#,
        "input \"INPUT0\": is given twice",
    ),
];

#[actix_web::test]
async fn a_bad_body_is_refused_with_one_line_that_names_the_place() {
    let front = front();
    let whole = BAD_INPUT.iter().map(|(input, line)| (format!("{{\"inputs\":[{{{input}}}]}}"), *line));
    for (body, line) in BAD.iter().map(|(body, line)| ((*body).to_owned(), *line)).chain(whole) {
        let got = front.infer("a", &body).await;
        assert_eq!(got.status, StatusCode::BAD_REQUEST, "{body}");
        assert!(got.error().starts_with(line) && !got.error().contains('\n'), "{body}\n  gives  {}\n  not    {line}", got.error());
    }
    assert!(front.fakes["a"].seen.lock().unwrap().is_empty(), "a refused body reached the tenant");
}

#[actix_web::test]
async fn integers_truths_and_rows_are_checked_too() {
    let front = front();
    let input = |name: &str, datatype: &str, shape: &str, data: &str| {
        format!("{{\"inputs\":[{{\"name\":\"{name}\",\"shape\":{shape},\"datatype\":\"{datatype}\",\"data\":{data}}}]}}")
    };
    for (body, line) in [
        (input("I32", "INT32", "[1,2]", "[1,2147483648]"), "input \"I32\", element 1: 2147483648 does not fit INT32"),
        (input("I32", "INT32", "[1,2]", "[1.5,2]"), "input \"I32\", element 0: expected an integer, got 1.5"),
        (input("U8", "UINT8", "[1,1]", "[-1]"), "input \"U8\", element 0: -1 does not fit UINT8"),
        (input("I64", "INT64", "[1,1]", "[9223372036854775808]"), "input \"I64\", element 0: 9223372036854775808 does not fit INT64"),
        (input("B", "BOOL", "[1,1]", "[1]"), "input \"B\", element 0: expected true or false, got 1"),
        (input("F64", "FP64", "[1,2,2]", "[[1,2],[3,4]]"), "input \"F64\": an array of 2 where dimension 1 of shape [1, 2, 2] has 2"),
        (input("I32", "INT32", "[1,2]", "[1,2]"), "input \"B\" is missing"),
    ] {
        let got = front.infer("mixed", &body).await;
        assert_eq!(got.status, StatusCode::BAD_REQUEST);
        if !line.contains("dimension 1 of shape [1, 2, 2]") {
            assert!(got.error().starts_with(line), "{}\n  not {line}", got.error());
        }
    }
}

#[actix_web::test]
async fn outputs_are_checked() {
    let front = front();
    for (outputs, line) in [
        (r#"[{"name":"X"}]"#, "output \"X\": the model gives OUTPUT0"),
        (r#"[{"name":"OUTPUT0"},{"name":"OUTPUT0"}]"#, "output \"OUTPUT0\" is asked for twice"),
        (r#"[{"name":"OUTPUT0","parameters":{"shared_memory_region":"x"}}]"#, "output \"OUTPUT0\": shared memory is not supported"),
        ("3", "outputs: invalid type"),
    ] {
        let got = front.infer("a", &GOOD.replace("\"id\"", &format!("\"outputs\":{outputs},\"id\""))).await;
        assert!(got.status == StatusCode::BAD_REQUEST && got.error().starts_with(line), "{}", got.error());
    }
    assert_eq!(front.infer("a", &GOOD.replace("\"id\"", "\"outputs\":[{\"name\":\"OUTPUT0\"}],\"id\"")).await.status, StatusCode::OK);
}

/// Method, path, and what it is refused with.
const REFUSED: &[(&str, &str, u16, &str)] = &[
    ("POST", "/v2/models/nope/infer", 404, "unknown model: \"nope\" is not among a, full, lost, mixed, text, twin-1, twin-2, unserved"),
    ("POST", "/v2/models/twin/infer", 404, "model \"twin\" is served for several tenants: ask for one of twin-1, twin-2"),
    ("GET", "/v2/models/a/versions/99", 404, "version 99 of \"a\" is not in service: version 3 is"),
    ("GET", "/v2/models/a/versions/99999999999999/ready", 404, "version 99999999999999 of \"a\" is not in service: version 3 is"),
    ("GET", "/v2/models/a/versions/x", 404, "nothing at /v2/models/a/versions/x: see /"),
    ("GET", "/v2/", 404, "nothing at /v2/: see /"),
    ("GET", "/nope", 404, "nothing at /nope: see /"),
    ("GET", "/v2/models/a/infer", 405, "GET is not allowed at /v2/models/a/infer: use POST"),
    ("DELETE", "/v2", 405, "DELETE is not allowed at /v2: use GET"),
    ("GET", "/v1/tenants/nope", 404, "unknown tenant: \"nope\" is not among"),
    ("POST", "/v1/tenants/digits/samples", 404, "unknown tenant: \"digits\" is not among"),
    ("GET", "/v2/models/unserved/ready", 503, "not ready: no instance answers yet for unserved"),
    ("GET", "/v2/health/ready", 503, "not ready: no instance answers yet for unserved"),
];

#[actix_web::test]
async fn what_is_not_there_is_said_in_json() {
    let front = front();
    for (method, path, status, line) in REFUSED {
        let got = front.send(TestRequest::default().method(method.parse::<Method>().unwrap()).uri(path)).await;
        assert_eq!(got.status.as_u16(), *status, "{method} {path}");
        assert!(got.error().starts_with(line), "{method} {path}: {}", got.error());
        assert_eq!(got.header("retry-after"), if *status == 503 { "1" } else { "" });
    }
}

#[actix_web::test]
async fn overload_and_failures_have_their_own_status() {
    let front = front();
    for (tenant, status, retry, line) in [
        ("full", 503, "2", "shed: queue full; retry in 1200 ms"),
        ("unserved", 503, "2", "shed: no instance serves this tenant; retry in 1200 ms"),
        ("lost", 503, "1", "the worker process died with this request in flight, and no retry could answer it in time; retry in 1 s"),
    ] {
        let got = front.infer(tenant, GOOD).await;
        assert_eq!((got.status.as_u16(), got.header("retry-after"), got.error().as_str()), (status, retry, line));
    }
    let large = front.infer("a", &" ".repeat((1 << 20) + 1)).await;
    assert_eq!((large.status.as_u16(), large.error().as_str()), (413, "the body is larger than 1 MiB (server.max_body_mib)"));
    let endless = TestRequest::post().uri("/v2/models/a/infer").set_payload(" ".repeat((1 << 20) + 1));
    assert_eq!(front.send(endless).await.status.as_u16(), 413, "without a length");
    let packed = TestRequest::post().uri("/v2/models/a/infer").insert_header(("content-encoding", "br")).set_payload("x");
    let got = front.send(packed).await;
    assert_eq!((got.status.as_u16(), got.header("accept-encoding")), (415, "gzip, deflate"));
}

#[actix_web::test]
async fn a_draining_server_lives_but_takes_no_more() {
    let front = front();
    front.draining.store(true, Ordering::Relaxed);
    let got = front.infer("a", GOOD).await;
    assert_eq!((got.status.as_u16(), got.header("retry-after"), got.error().as_str()), (503, "1", "the server is shutting down"));
    assert_eq!(front.get("/v2/health/ready").await.status.as_u16(), 503);
    assert_eq!(front.get("/v2/models/a/ready").await.status.as_u16(), 503);
    assert_eq!(front.get("/v2/health/live").await.status, StatusCode::OK);
}

#[actix_web::test]
async fn metadata_and_configuration_are_as_clients_expect() {
    let front = front();
    let got = front.get("/v2/models/digits/versions/3").await.json();
    let expected = json!({
        "name": "digits", "versions": ["3"], "platform": "pytorch_libtorch",
        "inputs": [{"name": "INPUT0", "datatype": "FP32", "shape": [-1, 3]}],
        "outputs": [{"name": "OUTPUT0", "datatype": "FP32", "shape": [-1, 2]}],
    });
    assert_eq!(got, expected);
    assert_eq!(front.get("/v2/models/a/config").await.json()["max_batch_size"], 4);
    assert_eq!(front.get("/v2").await.json()["name"], "migrator");
    assert_eq!(front.get("/v2/models/a/ready").await.body.len(), 0);
    assert!(front.get("/").await.body.starts_with(b"migrator"));
}

#[actix_web::test]
async fn samples_are_taken_whole_or_not_at_all() {
    let front = front();
    let body = r#"{"samples":[{"data":[1,2,3],"label":1},{"label":0,"inputs":[{"name":"INPUT0","shape":[1,3],"datatype":"FP32","data":[4,5,6]}]},
        {"label":0,"inputs":[{"name":"INPUT0","data":[[7,8,9]],"shape":[1,3]}]}]}"#;
    let got = front.post("/v1/tenants/a/samples", body).await;
    assert_eq!((got.status, got.json()), (StatusCode::OK, json!({"accepted": 3})));
    let kept: Vec<(u32, Bytes)> = front.fakes["a"].samples.lock().unwrap().drain(..).map(|s| (s.label, s.features)).collect();
    let row = |numbers: &[f32]| Bytes::from(floats(numbers));
    assert_eq!(kept, [(1, row(&[1.0, 2.0, 3.0])), (0, row(&[4.0, 5.0, 6.0])), (0, row(&[7.0, 8.0, 9.0]))]);
    for (sample, line) in [
        (r#"{"data":[1,2,3]}"#, "sample 1: label is missing"),
        (r#"{"data":[1,2,3],"label":2}"#, "sample 1: label 2: must be from 0 to 1"),
        (r#"{"data":[1,2,3],"label":-1}"#, "sample 1: label: invalid value: integer `-1`, expected u64"),
        (r#"{"label":1}"#, "sample 1: input \"INPUT0\" is missing"),
        (r#"{"data":[1,2],"label":1}"#, "sample 1, input \"INPUT0\": 2 elements instead of 3 elements (shape [3])"),
        (r#"{"data":[1,"x",3],"label":1}"#, "sample 1, input \"INPUT0\", element 1: expected a number, got the string \"x\""),
        (r#"{"data":[1,NaN,3],"label":1}"#, "sample 1, input \"INPUT0\", element 1: expected value"),
        ("7", "sample 1: invalid type: integer `7`, expected a sample"),
    ] {
        let got = front.post("/v1/tenants/a/samples", format!("{{\"samples\":[{{\"data\":[1,2,3],\"label\":1}},{sample}]}}")).await;
        assert!(got.status == StatusCode::BAD_REQUEST && got.error().starts_with(line), "{}\n  not {line}", got.error());
    }
    let raw = r#"{"samples":[{"label":1,"inputs":[{"name":"INPUT0","parameters":{"binary_data_size":12}}]}]}"#;
    let error = front.post("/v1/tenants/a/samples", raw).await.error();
    assert!(error.starts_with("sample 0") && error.contains("samples take no binary data"), "{error}");
    for (body, line) in [("{}", "samples is missing"), (r#"{"samples":[]}"#, "samples is empty"), ("", "EOF while parsing")] {
        assert!(front.post("/v1/tenants/a/samples", body).await.error().starts_with(line));
    }
    let many = |count| format!(r#"{{"samples":[{}]}}"#, vec![r#"{"data":[1,2,3],"label":1}"#; count].join(","));
    let parse = |body: String| sample::parse(&front.fakes["a"].spec.inputs(), 2, body.as_bytes());
    assert_eq!(parse(many(50_000)).map(|samples| samples.len()), Ok(50_000));
    assert!(parse(many(50_001)).unwrap_err().starts_with("more than 50000 rows: a body takes 1 to 50000"));
    assert!(front.fakes["a"].samples.lock().unwrap().is_empty(), "samples of a refused body were kept");
}

#[actix_web::test]
async fn a_text_sample_is_one_string_and_several_inputs_must_be_named() {
    let front = front();
    let body = r#"{"samples":[{"data":"hi","label":1},{"data":["yo"],"label":0}]}"#;
    assert_eq!(front.post("/v1/tenants/text/samples", body).await.status, StatusCode::OK);
    let kept: Vec<_> = front.fakes["text"].samples.lock().unwrap().drain(..).collect();
    assert_eq!((&kept[0].features[..], &kept[1].features[..]), (&b"\x02\0\0\0hi"[..], &b"\x02\0\0\0yo"[..]));
    let got = front.post("/v1/tenants/mixed/samples", body).await;
    assert_eq!(got.error().split(" at ").next(), Some("sample 0: the model takes 5 inputs: give inputs instead of data"));
}

#[actix_web::test]
async fn the_view_is_shown_as_json_and_as_text() {
    let front = front();
    assert_eq!(front.get("/v1/tenants/a").await.error(), "tenant \"a\" has not started yet");
    let tenants = vec![TenantView { name: "a".to_owned(), model: "digits".to_owned(), version: 3, ..TenantView::default() }];
    let partition = vec![GpuView { uuid: "cpu-0".to_owned(), text: "4g@0 3g@4".to_owned(), ..GpuView::default() }];
    front.view.send(Arc::new(View { tenants, partition, window: (1, 2.0, 60.0), ..View::default() })).unwrap();
    assert_eq!(front.get("/v1/tenants/a").await.json()["version"], 3);
    assert_eq!(front.get("/v1/tenants").await.json()["window"]["length_s"], 60.0);
    assert_eq!(front.get("/v1/partition").await.json()["gpus"][0]["text"], "4g@0 3g@4");
    assert_eq!(front.get("/v1/plan").await.json(), json!({"plan": null, "report": null}));
    let text = front.send(TestRequest::get().uri("/v1/plan").insert_header(("accept", "text/plain"))).await;
    assert_eq!(text.body, "no plan yet: the first solve is still to come\n");
    assert!(front.get("/v1/tenants?format=text").await.body.starts_with(b"Up 0 s; retraining window 1, 2 of 60 s"));
}

#[actix_web::test]
async fn a_port_of_0_is_replaced_by_a_free_one() {
    let handle = metrics_exporter_prometheus::PrometheusBuilder::new().build_recorder().handle();
    let (server, port) = metrics::start(handle, None, "127.0.0.1", 0).unwrap();
    let stop = server.handle();
    let running = actix_web::rt::spawn(server);
    let response = reqwest::get(format!("http://127.0.0.1:{port}/metrics")).await.unwrap();
    assert_eq!(response.headers()["content-type"], "text/plain; version=0.0.4; charset=utf-8");
    let taken = metrics::start(metrics_exporter_prometheus::PrometheusBuilder::new().build_recorder().handle(), None, "127.0.0.1", port);
    assert!(taken.err().unwrap().to_string().starts_with(&format!("cannot listen on 127.0.0.1:{port}: ")));
    stop.stop(false).await;
    running.await.unwrap().unwrap();
}

#[actix_web::test]
async fn an_oversized_body_over_a_connection_is_answered_and_the_server_lives() {
    let state = front().state.into_inner();
    let (server, port) = start(state, Listen { host: "127.0.0.1", port: 0, door: Door::Both, tls: None }).unwrap();
    let stop = server.handle();
    let running = actix_web::rt::spawn(server);
    let (client, url) = (reqwest::Client::new(), format!("http://127.0.0.1:{port}"));
    let post = |body: Vec<u8>| client.post(format!("{url}/v2/models/a/infer")).body(body).send();
    let large = post(vec![b' '; 3 << 20]).await.unwrap();
    assert_eq!((large.status().as_u16(), large.headers()["content-type"].to_str().unwrap()), (413, "application/json"));
    assert_eq!(post(GOOD.into()).await.unwrap().status().as_u16(), 200);
    stop.stop(true).await;
    running.await.unwrap().unwrap();
}
