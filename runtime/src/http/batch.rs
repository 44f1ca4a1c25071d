//! Labelled samples as tensors: the body of `POST /v1/tenants/{t}/samples` with `Inference-Header-Content-Length`.
//!
//! ```json
//! {"labels": [3, 1], "inputs": [{"name": "INPUT0", "shape": [2, 64], "datatype": "FP32", "parameters": {"binary_data_size": 512}}]}
//! ```
//!
//! The inputs are those of an inference request of as many rows as there are samples; the raw tensors follow the JSON.

use std::fmt;

use bytes::Bytes;
use migrator_actors::message::{Origin, Sample};
use migrator_models::{TensorSpec, row};
use serde::Deserialize;
use serde::de::{Deserializer, Error as _, IgnoredAny, MapAccess, Visitor};

use super::input::{InputList, Inputs, inside};
use super::request::{json_part, tensors};
use super::rows;

/// Parses a body of which `json_len` bytes are JSON; all samples or none.
///
/// # Errors
/// One line that names the sample, the input and the element.
pub(super) fn parse(specs: &[TensorSpec], classes: u32, body: &Bytes, json_len: usize) -> Result<Vec<Sample>, String> {
    let (json, tail) = json_part(body, json_len)?;
    let mut parse = Parse { inputs: Inputs::of_samples(specs), has_inputs: false, labels: None };
    let mut deserializer = serde_json::Deserializer::from_slice(&json);
    let parsed = deserializer.deserialize_map(&mut parse).and_then(|()| deserializer.end());
    parsed.map_err(|e| parse.inputs.place.explain(&e))?;
    let labels = parse.labels.ok_or("labels is missing")?;
    if !parse.has_inputs {
        return Err("inputs is missing".to_owned());
    }
    let rows = parse.inputs.rows()?;
    if labels.len() as u64 != rows {
        return Err(format!("{} labels, but the inputs have {rows} rows", labels.len()));
    }
    if let Some((index, label)) = labels.iter().enumerate().find(|(_, label)| **label >= u64::from(classes)) {
        return Err(format!("sample {index}: label {label}: must be from 0 to {}", classes.saturating_sub(1)));
    }
    let rows = row::split(specs, &tensors(parse.inputs, specs, rows, &tail)?, labels.len());
    let sample = |(index, (features, label)): (usize, (Vec<u8>, &u64))| match row::not_finite(specs, &features) {
        Some(wrong) => Err(format!("sample {index}: {}", wrong.explain(specs))),
        None => Ok(Sample { features: Bytes::from(features), label: *label as u32, origin: Origin::Client }),
    };
    rows.into_iter().zip(&labels).enumerate().map(sample).collect()
}

struct Parse<'m> {
    inputs: Inputs<'m>,
    has_inputs: bool,
    labels: Option<Vec<u64>>,
}

#[derive(Deserialize)]
struct Labels(#[serde(deserialize_with = "rows::list")] Vec<u64>);

#[derive(Deserialize)]
#[serde(field_identifier, rename_all = "snake_case")]
enum Field {
    Labels,
    Inputs,
    #[serde(other)]
    Other,
}

impl<'de> Visitor<'de> for &mut Parse<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("labelled samples: an object with labels and inputs")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        while let Some(field) = map.next_key::<Field>()? {
            match field {
                Field::Labels if self.labels.is_some() => return Err(A::Error::custom("labels is given twice")),
                Field::Labels => {
                    let Labels(labels) = map.next_value().map_err(|e| inside("labels", e))?;
                    self.labels = Some(labels);
                }
                Field::Inputs if self.has_inputs => return Err(A::Error::custom("inputs is given twice")),
                Field::Inputs => {
                    map.next_value_seed(InputList(&mut self.inputs))?;
                    self.has_inputs = true;
                }
                Field::Other => drop(map.next_value::<IgnoredAny>()?),
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use actix_web::http::StatusCode;
    use actix_web::test::TestRequest;

    use super::super::inference::JSON_LENGTH;
    use super::super::tests::{Front, Got, floats, front};

    async fn send(front: &Front, tenant: &str, length: &str, body: Vec<u8>) -> Got {
        let request = TestRequest::post().uri(&format!("/v1/tenants/{tenant}/samples")).insert_header((JSON_LENGTH, length));
        front.send(request.insert_header(("content-length", body.len())).set_payload(body)).await
    }

    async fn post(front: &Front, json: &str, tail: &[u8]) -> Got {
        send(front, "a", &json.len().to_string(), [json.as_bytes(), tail].concat()).await
    }

    fn head(labels: &str, shape: &str, size: usize) -> String {
        format!(
            r#"{{"labels":{labels},"inputs":[{{"name":"INPUT0","shape":{shape},"datatype":"FP32","parameters":{{"binary_data_size":{size}}}}}]}}"#
        )
    }

    #[actix_web::test]
    async fn rows_of_tensors_become_samples() {
        let front = front();
        let numbers: Vec<f32> = (0..15).map(|n| n as f32).collect();
        let got = post(&front, &head("[1,0,1,1,0]", "[5,3]", 60), &floats(&numbers)).await;
        assert_eq!((got.status, got.json()["accepted"].as_u64()), (StatusCode::OK, Some(5)), "more samples than a batch holds");
        let kept = front.fakes["a"].take_samples();
        assert_eq!(kept.iter().map(|sample| sample.label).collect::<Vec<_>>(), [1, 0, 1, 1, 0]);
        assert_eq!(kept[4].features, floats(&[12.0, 13.0, 14.0]));
    }

    #[actix_web::test]
    async fn texts_and_several_inputs_are_cut_where_their_rows_end() {
        let front = front();
        let json = r#"{"inputs":[{"name":"INPUT0","shape":[2,1],"datatype":"BYTES","parameters":{"binary_data_size":11}}],"labels":[1,0]}"#;
        let got = send(&front, "text", &json.len().to_string(), [json.as_bytes(), b"\x02\0\0\0hi\x01\0\0\0y"].concat()).await;
        assert_eq!(got.status, StatusCode::OK, "{:?}", got.body);
        let kept = front.fakes["text"].take_samples();
        assert_eq!((&kept[0].features[..], &kept[1].features[..]), (&b"\x02\0\0\0hi"[..], &b"\x01\0\0\0y"[..]));

        let input = |name: &str, datatype: &str, shape: &str, size: usize| {
            format!(r#"{{"name":"{name}","shape":{shape},"datatype":"{datatype}","parameters":{{"binary_data_size":{size}}}}}"#)
        };
        let inputs = [
            input("I32", "INT32", "[2,2]", 16),
            r#"{"name":"B","shape":[2,1],"datatype":"BOOL","data":[true,false]}"#.to_owned(),
            input("U8", "UINT8", "[2,1]", 2),
            input("I64", "INT64", "[2,1]", 16),
            input("F64", "FP64", "[2,2,2]", 64),
        ];
        let json = format!(r#"{{"inputs":[{}],"labels":[1,0]}}"#, inputs.join(","));
        let tail = [vec![1; 16], vec![2; 2], vec![3; 16], vec![4; 64]].concat();
        let got = send(&front, "mixed", &json.len().to_string(), [json.as_bytes(), &tail].concat()).await;
        assert_eq!(got.status, StatusCode::OK, "{:?}", got.body);
        let kept = front.fakes["mixed"].take_samples();
        assert_eq!(kept[1].features, [vec![1; 8], vec![0], vec![2], vec![3; 8], vec![4; 32]].concat());
    }

    #[actix_web::test]
    async fn what_does_not_fit_is_refused_whole_with_its_place() {
        let front = front();
        let raw = floats(&[1.0, 2.0, 3.0, 4.0, f32::NAN, 6.0]);
        for (json, tail, line) in [
            (head("[0,1]", "[2,3]", 24), &raw[..], "sample 1: input \"INPUT0\", element 1: NaN: must be a finite number"),
            (head("[0,2]", "[2,3]", 24), &raw, "sample 1: label 2: must be from 0 to 1"),
            (head("[0]", "[2,3]", 24), &raw, "1 labels, but the inputs have 2 rows"),
            (head("[0,-1]", "[2,3]", 24), &raw, "labels: invalid value: integer `-1`"),
            (head("[0,1]", "[2,4]", 24), &raw, "input \"INPUT0\": shape [2, 4]: the model takes [rows, 3]"),
            (head("[0,1]", "[2,3]", 20), &raw, "input \"INPUT0\": binary_data_size 20: shape [2, 3] takes 24 bytes"),
            (head("[0,1]", "[2,3]", 24), &raw[..20], "input \"INPUT0\": binary_data_size 24: the body has 20 bytes left"),
            (head("[0,1]", "[1,3]", 12), &raw[..12], "2 labels, but the inputs have 1 rows"),
            (head("[0]", "[1,3]", 12), &raw[..13], "1 bytes after the last binary input"),
            (head("[]", "[0,3]", 0), &raw[..0], "input \"INPUT0\": 0 rows: a body takes 1 to 50000"),
            (head("[0]", "[50001,3]", 0), &raw[..0], "input \"INPUT0\": 50001 rows: a body takes 1 to 50000"),
            (
                head(&format!("[0{}]", ",0".repeat(50_000)), "[1,3]", 12),
                &raw[..12],
                "labels: more than 50000 rows: a body takes 1 to 50000",
            ),
            (head("[0]", "[999999999999,3]", 0), &raw[..0], "input \"INPUT0\": 999999999999 rows: a body takes 1 to 50000"),
            ("{\"labels\":[0]}".to_owned(), &raw[..0], "inputs is missing"),
            ("{\"inputs\":[]}".to_owned(), &raw[..0], "labels is missing"),
            ("[]".to_owned(), &raw[..0], "invalid type: sequence, expected labelled samples"),
        ] {
            let got = post(&front, &json, tail).await;
            assert_eq!(got.status, StatusCode::BAD_REQUEST, "{json}");
            assert!(got.error().starts_with(line), "{json}\n  gives  {}\n  not    {line}", got.error());
        }
        assert!(
            send(&front, "a", "9999", raw.clone()).await.error().contains("Inference-Header-Content-Length 9999: the body has 24 bytes")
        );
        assert!(send(&front, "a", "x", raw).await.error().contains("is not a number of bytes"));
        assert!(front.fakes["a"].take_samples().is_empty(), "samples of a refused body were kept");
    }

    #[actix_web::test]
    async fn a_text_that_is_not_utf_8_is_refused_for_no_data_set_could_hold_it() {
        let front = front();
        let json = r#"{"inputs":[{"name":"INPUT0","shape":[2,1],"datatype":"BYTES","parameters":{"binary_data_size":11}}],"labels":[1,0]}"#;
        let got = send(&front, "text", &json.len().to_string(), [json.as_bytes(), b"\x02\0\0\0hi\x01\0\0\0\xff"].concat()).await;
        assert_eq!((got.status, &got.error()[..]), (StatusCode::BAD_REQUEST, "input \"INPUT0\": element 1: byte 0 is not UTF-8"));
        assert!(front.fakes["text"].take_samples().is_empty());
    }

    #[actix_web::test]
    async fn a_shape_alone_makes_the_server_set_aside_no_memory() {
        let front = front();
        let json = r#"{"labels":[0],"inputs":[{"name":"INPUT0","shape":[50000,3],"datatype":"FP32","data":[1,2,3]}]}"#;
        let got = post(&front, json, &[]).await;
        assert!(got.error().contains("3 elements instead of 150000"), "{}", got.error());
    }
}
