//! Whatever comes in, parsing neither panics nor lets through what does not fit the model.

use bytes::Bytes;
use migrator_models::{Datatype, ModelSpec, Source, TensorSpec};
use proptest::prelude::*;

use super::batch;
use super::fuzz::{self, fits, model};
use super::request::InferRequest;
use super::sample;

const SEEDS: [&str; 4] = [
    r#"{"id":"x","parameters":{"timeout":5},"inputs":[{"name":"F","shape":[2,2,2],"datatype":"FP32","data":[[[1,2],[3,4]],[[5,6],[7,8e-1]]]},{"data":["a","\u00e9"],"name":"T","shape":[2,1],"datatype":"BYTES"},{"name":"B","shape":[2,1],"datatype":"BOOL","data":[true,false]}],"outputs":[{"name":"OUTPUT0"}]}"#,
    "{\"inputs\":[{\"name\":\"F\",\"shape\":[1,2,2],\"datatype\":\"FP32\",\"parameters\":{\"binary_data_size\":16}},{\"name\":\"T\",\"shape\":[1,1],\"datatype\":\"BYTES\",\"parameters\":{\"binary_data_size\":6}},{\"name\":\"B\",\"shape\":[1,1],\"datatype\":\"BOOL\",\"data\":[true]}]}0123456789abcdef\u{2}\0\0\0hi",
    r#"{"samples":[{"label":1,"inputs":[{"name":"F","data":[1,2,3,4]},{"name":"T","data":"hi","shape":[1],"datatype":"BYTES"},{"name":"B","data":[true]}]}]}"#,
    "{\"labels\":[1],\"inputs\":[{\"name\":\"INPUT0\",\"shape\":[1,1],\"datatype\":\"BYTES\",\"parameters\":{\"binary_data_size\":20}}]}\u{10}\x00\x00\x000123456789abcdef",
];

/// Where the JSON of a seed ends, when more follows.
fn json_len(seed: &str) -> Option<usize> {
    ["\u{10}\0\0\0", "0123456789abcdef"].into_iter().find_map(|tail| seed.find(tail))
}

/// Fragments that parsers trip over.
const FRAGMENTS: [&str; 22] = [
    "NaN",
    "-",
    "1e999",
    "null",
    "[",
    "]",
    "{",
    "}",
    "\"",
    "\\ud800",
    ",",
    ":",
    "0",
    "-1",
    "99999999999999999999",
    "\"data\":",
    "\"shape\":",
    "[[",
    "]]",
    "true",
    "\u{0}",
    "\u{ff}",
];

#[derive(Clone, Debug)]
enum Mutation {
    Cut(usize),
    Byte(usize, u8),
    Insert(usize, usize),
    Remove(usize, usize),
    Repeat(usize, usize),
}

fn mutation() -> impl Strategy<Value = Mutation> {
    prop_oneof![
        any::<usize>().prop_map(Mutation::Cut),
        (any::<usize>(), any::<u8>()).prop_map(|(at, byte)| Mutation::Byte(at, byte)),
        (any::<usize>(), 0..FRAGMENTS.len()).prop_map(|(at, which)| Mutation::Insert(at, which)),
        (any::<usize>(), 1..30usize).prop_map(|(at, length)| Mutation::Remove(at, length)),
        (any::<usize>(), 1..60usize).prop_map(|(at, length)| Mutation::Repeat(at, length)),
    ]
}

fn apply(body: &mut Vec<u8>, mutation: &Mutation) {
    let place = |at: usize| at % (body.len() + 1);
    match *mutation {
        Mutation::Cut(at) => body.truncate(place(at)),
        Mutation::Byte(at, byte) => {
            let at = place(at);
            if let Some(old) = body.get_mut(at) {
                *old = byte;
            }
        }
        Mutation::Insert(at, which) => {
            let at = place(at);
            body.splice(at..at, FRAGMENTS[which].bytes());
        }
        Mutation::Remove(at, length) => {
            let at = place(at);
            body.drain(at..(at + length).min(body.len()));
        }
        Mutation::Repeat(at, length) => {
            let at = place(at);
            let part = body[at..(at + length).min(body.len())].to_vec();
            body.splice(at..at, part);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 4000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn mutated_bodies_are_refused_or_fit(which in 0..4usize, split in prop::option::of(any::<usize>()), mutations in prop::collection::vec(mutation(), 0..6)) {
        let mut body = SEEDS[which].as_bytes().to_vec();
        mutations.iter().for_each(|m| apply(&mut body, m));
        let json_len = split.map(|s| s % (body.len() + 3)).or(json_len(SEEDS[which]));
        fuzz::samples(&body);
        fuzz::batch(&body, json_len.unwrap_or(body.len()));
        fuzz::body(&body, json_len);
    }
}

#[test]
fn the_seeds_themselves_are_accepted() {
    let (spec, inputs) = (model(), model().inputs());
    let json = InferRequest::parse(&spec, &inputs, &Bytes::from_static(SEEDS[0].as_bytes()), None).unwrap();
    assert!(json.rows == 2 && fits(&spec, 2, &json.inputs));
    let binary = InferRequest::parse(&spec, &inputs, &Bytes::from_static(SEEDS[1].as_bytes()), json_len(SEEDS[1])).unwrap();
    assert!(binary.rows == 1 && fits(&spec, 1, &binary.inputs));
    assert_eq!(sample::parse(&inputs, 3, SEEDS[2].as_bytes()).unwrap().len(), 1);
    let split = json_len(SEEDS[3]).unwrap();
    assert_eq!(batch::parse(&fuzz::text().inputs(), 3, &Bytes::from_static(SEEDS[3].as_bytes()), split).unwrap().len(), 1);
}

/// What the fuzzers of `tests/fuzz` once broke something with.
#[test]
fn what_fuzzers_found_is_refused_in_one_line() {
    for body in [r#"{"parameters":{"a\nb" 1}}"#, r#"{"parameters":{"triton_\n":1}}"#, r#"{"parameters":{"a\rb":[]}}"#] {
        fuzz::body(body.as_bytes(), None);
    }
}

#[test]
fn deep_nesting_is_refused_without_exhausting_the_stack() {
    let (spec, inputs) = (model(), model().inputs());
    for open in ["[", "{\"inputs\":[", "{\"a\":"] {
        let body = Bytes::from(format!("{{\"inputs\":[{{\"name\":\"F\",\"data\":{}", open.repeat(100_000)));
        assert!(InferRequest::parse(&spec, &inputs, &body, None).is_err());
    }
}

/// `cargo test --release -p migrator --lib http::mutation_tests::speed -- --ignored --nocapture`
#[test]
#[ignore = "a measurement"]
fn speed() {
    for shape in [vec![64u32], vec![3, 32, 32]] {
        let input = TensorSpec { name: "INPUT0".to_owned(), datatype: Datatype::Fp32, shape: shape.clone() };
        let spec = ModelSpec {
            name: "m".to_owned(),
            classes: 10,
            max_batch: 1,
            precision: Default::default(),
            source: Source::Torchscript { inputs: vec![input] },
        };
        let inputs = spec.inputs();
        let numbers: Vec<String> = (0..inputs[0].elements()).map(|i| format!("{}", (i as f32 * 0.37).sin())).collect();
        let dims: Vec<String> = std::iter::once(1).chain(shape).map(|n| n.to_string()).collect();
        let (dims, numbers) = (dims.join(","), numbers.join(","));
        let body = format!("{{\"inputs\":[{{\"name\":\"INPUT0\",\"shape\":[{dims}],\"datatype\":\"FP32\",\"data\":[{numbers}]}}]}}");
        let body = Bytes::from(body);
        let mut best = f64::MAX;
        for _ in 0..20 {
            let start = std::time::Instant::now();
            for _ in 0..200 {
                std::hint::black_box(InferRequest::parse(&spec, &inputs, std::hint::black_box(&body), None)).unwrap();
            }
            best = best.min(start.elapsed().as_secs_f64() / 200.0 * 1e6);
        }
        println!("[{dims}]: {} bytes, {best:.2} us", body.len());
    }
}
