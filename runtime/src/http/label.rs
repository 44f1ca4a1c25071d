//! Labels that come after their requests: `POST /v1/tenants/{t}/labels`, by the ids that the clients gave their requests.
//!
//! ```json
//! {"labels": [{"id": "order-17", "label": 3}, {"id": "batch-4", "label": [0, 2, 2]}]}
//! ```

use actix_web::{HttpRequest, HttpResponse, web};
use bytes::Bytes;
use metrics::counter;
use migrator_actors::message::{AddLabels, Inferred, Labelled, Origin};
use migrator_actors::tenant::argmax;
use migrator_models::row;
use serde::{Deserialize, Serialize};
use serde_json::json;
use tokio::time::Instant;

use super::error::ApiError;
use super::recent::{Answered, Found, Recent, Row};
use super::rows::{self, MOST_ROWS};
use super::{AppState, Tenant, admin, body};

/// Counts what became of labels, by `result`.
const LABELS: &str = "migrator_late_labels_total";

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Body {
    #[serde(deserialize_with = "rows::list")]
    labels: Vec<Given>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Given {
    id: String,
    label: Classes,
}

/// Of a request's only row, or of each of its rows.
#[derive(Deserialize)]
#[serde(untagged, expecting = "label: must be a class, or a list with a class for each row")]
enum Classes {
    One(u64),
    Each(Vec<u64>),
}

impl Classes {
    fn each(&self) -> &[u64] {
        match self {
            Classes::One(class) => std::slice::from_ref(class),
            Classes::Each(classes) => classes,
        }
    }
}

/// A label that was not taken.
#[derive(Serialize)]
struct Refused {
    /// Its place in the body.
    index: usize,
    id: String,
    #[serde(skip)]
    result: &'static str,
    reason: String,
}

impl Tenant {
    /// Remembers an answered request, if labels are to come for it.
    pub(super) fn remember(&self, recent: &Recent, id: &str, inputs: &[Bytes], rows: u32, inferred: &Inferred) {
        let classes = inferred.output.chunks_exact(self.front.spec().classes.max(1) as usize * size_of::<f32>()).map(argmax);
        let kept = if recent.how.features { row::split(&self.inputs, inputs, rows as usize) } else { Vec::new() };
        let mut kept = kept.into_iter().map(Bytes::from);
        let rows = classes.map(|answered| Row { answered, features: kept.next() }).collect();
        recent.remember(Instant::now(), id, inferred.version, rows);
    }
}

/// Labels requests. All classes must be right; what becomes of each label is told one by one.
pub(super) async fn labels(state: web::Data<AppState>, http: HttpRequest, payload: web::Payload) -> Result<HttpResponse, ApiError> {
    let tenant = admin::named(&state, &http)?;
    let name = &tenant.name;
    let body = body::read(&http, payload, state.limits.max_body).await?;
    let Some(recent) = tenant.recent.get() else {
        let message = format!("tenant {name:?} takes no labels by request id: it needs [tenants.labels] in the configuration");
        return Err(ApiError::bad_request(message));
    };
    let Body { labels } = body::json(&body)?;
    check(&labels, tenant.front.spec().classes).map_err(ApiError::bad_request)?;
    let mut found = Lookup::default();
    for (index, given) in labels.into_iter().enumerate() {
        found.look(&tenant, recent, index, given);
    }
    let Lookup { taken, labels, refused } = found;
    for refused in &refused {
        counter!(LABELS, "tenant" => name.clone(), "result" => refused.result).increment(1);
    }
    let accepted = taken.len();
    if !labels.is_empty()
        && let Err(error) = tenant.front.add_labels(AddLabels { labels, origin: Origin::Label }).await
    {
        taken.into_iter().for_each(|taken| recent.give_back(taken));
        return Err(error.into());
    }
    counter!(LABELS, "tenant" => name.clone(), "result" => "accepted").increment(accepted as u64);
    Ok(HttpResponse::Ok().json(json!({ "accepted": accepted, "refused": refused })))
}

fn check(labels: &[Given], classes: u32) -> Result<(), String> {
    if labels.is_empty() {
        return Err("labels is empty".to_owned());
    }
    if labels.iter().map(|given| given.label.each().len()).sum::<usize>() > MOST_ROWS {
        return Err(rows::too_many());
    }
    for (index, given) in labels.iter().enumerate() {
        if let Some(wrong) = given.label.each().iter().find(|class| **class >= u64::from(classes)) {
            return Err(format!("label {index}, request {:?}: {wrong}: must be from 0 to {}", given.id, classes.saturating_sub(1)));
        }
    }
    Ok(())
}

#[derive(Default)]
struct Lookup {
    taken: Vec<Answered>,
    labels: Vec<Labelled>,
    refused: Vec<Refused>,
}

impl Lookup {
    fn look(&mut self, tenant: &Tenant, recent: &Recent, index: usize, given: Given) {
        let classes = given.label.each();
        let (result, reason) = match recent.take(Instant::now(), &given.id, classes.len()) {
            Found::Taken(answered) => match not_finite(tenant, &answered) {
                None => {
                    let label = |(row, class): (&Row, &u64)| Labelled {
                        features: row.features.clone(),
                        label: *class as u32,
                        answered: row.answered,
                        version: answered.version,
                    };
                    self.labels.extend(answered.rows.iter().zip(classes).map(label));
                    self.taken.push(answered);
                    return;
                }
                Some(reason) => ("features", reason),
            },
            Found::Rows(rows) => ("rows", format!("the request had {rows} rows, the label has {}", classes.len())),
            Found::Labelled => ("duplicate", "it has its label already".to_owned()),
            Found::Unknown => ("unknown", unknown(recent)),
        };
        self.refused.push(Refused { index, id: given.id, result, reason });
    }
}

fn unknown(recent: &Recent) -> String {
    let age = recent.how.age.as_secs_f64();
    format!("no request of this id was answered in the last {age} s, or there was no room to remember it")
}

fn not_finite(tenant: &Tenant, answered: &Answered) -> Option<String> {
    let rows = answered.rows.iter().filter_map(|row| row.features.as_ref());
    rows.filter_map(|features| row::not_finite(&tenant.inputs, features)).map(|found| found.explain(&tenant.inputs)).next()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use actix_web::http::StatusCode;
    use serde_json::{Value, json};

    use super::super::tests::{Front, Got, floats, front};
    use super::super::{inference, recent::Remember};
    use super::*;

    const PATH: &str = "/v1/tenants/a/labels";

    fn remembering(features: bool) -> Front {
        front().with(|state| state.remember("a", Remember { age: Duration::from_secs(60), bytes: 1 << 20, features }))
    }

    async fn ask(front: &Front, id: &str, rows: &[[f32; 3]]) {
        let body = json!({ "id": id, "inputs": [{ "name": "INPUT0", "shape": [rows.len(), 3], "datatype": "FP32", "data": rows }] });
        assert_eq!(front.infer("a", &body.to_string()).await.status, StatusCode::OK);
    }

    async fn label(front: &Front, labels: Value) -> Got {
        front.post(PATH, json!({ "labels": labels }).to_string()).await
    }

    #[actix_web::test]
    async fn a_label_finds_its_request_and_what_was_answered() {
        let front = remembering(true);
        ask(&front, "one", &[[1.0, 2.0, 3.0]]).await;
        ask(&front, "two", &[[4.0, 5.0, 6.0], [7.0, 8.0, 9.0]]).await;
        let got = label(&front, json!([{ "id": "two", "label": [1, 0] }, { "id": "one", "label": 1 }])).await;
        assert_eq!((got.status, got.json()), (StatusCode::OK, json!({ "accepted": 2, "refused": [] })));
        let row = |numbers: &[f32], label| Labelled { features: Some(floats(numbers).into()), label, answered: 0, version: 3 };
        let kept = front.fakes["a"].labels.lock().unwrap().clone();
        assert_eq!(kept, [row(&[4.0, 5.0, 6.0], 1), row(&[7.0, 8.0, 9.0], 0), row(&[1.0, 2.0, 3.0], 1)]);
    }

    #[actix_web::test]
    async fn each_label_that_is_not_taken_is_told_why() {
        let front = remembering(true);
        ask(&front, "one", &[[1.0, 2.0, 3.0]]).await;
        ask(&front, "", &[[1.0, 2.0, 3.0]]).await;
        let labels = json!([{ "id": "none", "label": 1 }, { "id": "one", "label": [1, 1] }, { "id": "one", "label": 1 },
            { "id": "one", "label": 1 }, { "id": "", "label": 0 }]);
        let got = label(&front, labels).await;
        assert_eq!((got.status, got.json()["accepted"].clone()), (StatusCode::OK, json!(1)));
        let refused: Vec<(u64, String)> = got.json()["refused"]
            .as_array()
            .unwrap()
            .iter()
            .map(|refused| (refused["index"].as_u64().unwrap(), refused["reason"].as_str().unwrap().to_owned()))
            .collect();
        let unknown = "no request of this id was answered in the last 60 s, or there was no room to remember it";
        let expected = [(0, unknown), (1, "the request had 1 rows, the label has 2"), (3, "it has its label already"), (4, unknown)];
        assert_eq!(refused, expected.map(|(index, reason)| (index, reason.to_owned())));
        assert_eq!(front.fakes["a"].labels.lock().unwrap().len(), 1);
    }

    #[actix_web::test]
    async fn a_body_that_does_not_fit_labels_nothing() {
        let front = remembering(true);
        ask(&front, "one", &[[1.0, 2.0, 3.0]]).await;
        let row = json!({ "id": "", "label": 1 });
        for (labels, line) in [
            (json!(vec![row.clone(); 50_001]), "more than 50000 rows: a body takes 1 to 50000"),
            (json!([row, { "id": "x", "label": vec![0; 50_000] }]), "more than 50000 rows: a body takes 1 to 50000"),
            (json!([{ "id": "one", "label": 1 }, { "id": "x", "label": [0, 2] }]), "label 1, request \"x\": 2: must be from 0 to 1"),
            (json!([]), "labels is empty"),
            (json!([{ "id": "one" }]), "missing field `label`"),
            (json!([{ "id": "one", "label": -1 }]), "label: must be a class, or a list with a class for each row"),
        ] {
            let got = label(&front, labels).await;
            assert!(got.status == StatusCode::BAD_REQUEST && got.error().contains(line), "{}", got.error());
        }
        assert!(front.post(PATH, "{").await.error().starts_with("EOF"));
        assert!(label(&front, json!([{ "id": "one", "label": 1 }])).await.json()["accepted"] == 1, "it was labelled by a refused body");
        let off = front.post("/v1/tenants/text/labels", r#"{"labels":[{"id":"one","label":1}]}"#).await;
        assert!(off.status == StatusCode::BAD_REQUEST && off.error().contains("it needs [tenants.labels]"), "{}", off.error());
        assert_eq!(front.post("/v1/tenants/digits/labels", "{}").await.status, StatusCode::NOT_FOUND);
    }

    #[actix_web::test]
    async fn what_could_not_be_stored_may_be_labelled_again() {
        let front = remembering(true);
        ask(&front, "one", &[[1.0, 2.0, 3.0]]).await;
        front.fakes["a"].full.store(true, std::sync::atomic::Ordering::Relaxed);
        let labels = json!([{ "id": "one", "label": 1 }]);
        assert_eq!(label(&front, labels.clone()).await.status, StatusCode::INTERNAL_SERVER_ERROR);
        front.fakes["a"].full.store(false, std::sync::atomic::Ordering::Relaxed);
        assert_eq!(label(&front, labels).await.json()["accepted"], 1);
    }

    #[actix_web::test]
    async fn without_features_a_label_still_tells_how_good_the_answer_was() {
        let front = remembering(false);
        ask(&front, "one", &[[1.0, 2.0, 3.0]]).await;
        assert_eq!(label(&front, json!([{ "id": "one", "label": 1 }])).await.json()["accepted"], 1);
        let kept = front.fakes["a"].labels.lock().unwrap().clone();
        assert_eq!(kept, [Labelled { features: None, label: 1, answered: 0, version: 3 }]);
    }

    #[actix_web::test]
    async fn a_request_of_nan_is_answered_but_not_learnt_from() {
        let front = remembering(true);
        let json = r#"{"id":"nan","inputs":[{"name":"INPUT0","shape":[1,3],"datatype":"FP32","parameters":{"binary_data_size":12}}]}"#;
        let body = [json.as_bytes(), &floats(&[1.0, f32::NAN, 3.0])].concat();
        let request = actix_web::test::TestRequest::post().uri("/v2/models/a/infer").insert_header((inference::JSON_LENGTH, json.len()));
        let request = request.insert_header(("content-length", body.len())).set_payload(body);
        assert_eq!(front.send(request).await.status, StatusCode::OK);
        let got = label(&front, json!([{ "id": "nan", "label": 1 }])).await;
        assert_eq!(got.json()["refused"][0]["reason"], "input \"INPUT0\", element 1: NaN: must be a finite number");
    }
}
