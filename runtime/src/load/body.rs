//! Requests as bytes: rendered once per sample, sent as they are.

use std::cell::RefCell;
use std::fmt::Write;
use std::rc::Rc;
use std::sync::Arc;

use migrator_models::reader::{Features, LabelledSet, Row};
use migrator_models::synthetic::Generator;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use super::client;
use super::plan::{OverTime, Samples};

/// Rendered rows of a set are kept up to this many bytes per tenant; a CIFAR-10 row takes about 30 kB.
const CACHE_BYTES: usize = 64 << 20;
/// Generated samples kept at once, and for how long they are sent: drawing and rendering 256 numbers costs ten times as much as
/// sending them, and within 2 s nothing drifts.
const POOL: usize = 256;
const FRESH_S: f64 = 2.0;

/// The model's one input, as its metadata describe it.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct InputFormat {
    /// Name in the protocol.
    pub name: String,
    /// Open Inference Protocol name.
    pub datatype: String,
    /// Without the batch dimension.
    pub shape: Vec<u64>,
}

impl InputFormat {
    /// Whether a row can be sent, or what would be right.
    pub(super) fn check(&self, features: &Features) -> Result<(), String> {
        let text = self.datatype == "BYTES";
        let elements = self.shape.iter().product::<u64>();
        match features {
            Features::Text(_) if text => Ok(()),
            Features::Text(_) => Err(format!("the samples are texts, but the model takes {elements} × {}", self.datatype)),
            Features::Numbers(_) if text => Err("the samples are numbers, but the model takes texts (label<TAB>text, .tsv)".to_owned()),
            Features::Numbers(n) if n.len() as u64 == elements => Ok(()),
            Features::Numbers(n) => Err(format!("the samples have {} features, but the model takes {elements}", n.len())),
        }
    }

    /// `{"name":…,"datatype":…,"shape":[1,…],"data":[…]}`.
    fn render(&self, features: &Features) -> String {
        let mut json = String::with_capacity(256);
        let _ = write!(json, "{{\"name\":\"{}\",\"datatype\":\"{}\",\"shape\":[1", self.name, self.datatype);
        for n in &self.shape {
            let _ = write!(json, ",{n}");
        }
        json.push_str("],\"data\":[");
        match features {
            Features::Text(text) => json.push_str(&serde_json::Value::from(text.as_str()).to_string()),
            Features::Numbers(numbers) => self.render_numbers(numbers, &mut json),
        }
        json.push_str("]}");
        json
    }

    fn render_numbers(&self, numbers: &[f32], json: &mut String) {
        let whole = !self.datatype.starts_with("FP");
        for (i, number) in numbers.iter().enumerate() {
            let comma = if i == 0 { "" } else { "," };
            let _ = if whole { write!(json, "{comma}{}", *number as i64) } else { write!(json, "{comma}{number}") };
        }
    }
}

/// A sample, ready to be sent.
#[derive(Debug)]
pub(super) struct Prepared {
    /// The whole HTTP request.
    pub request: Vec<u8>,
    /// The true class.
    pub label: u32,
    /// The sample as the server takes it with its label.
    pub labelled: String,
}

/// Renders samples of one tenant.
pub(super) struct Renderer {
    /// `host:port`.
    pub host: String,
    /// The tenant.
    pub tenant: String,
    /// Its input.
    pub input: InputFormat,
}

impl Renderer {
    fn prepare(&self, row: &Row) -> Prepared {
        let input = self.input.render(&row.features);
        let path = format!("/v2/models/{}/infer", self.tenant);
        let request = client::request(&self.host, &path, Some(&format!("{{\"inputs\":[{input}]}}")));
        Prepared { request, label: row.label, labelled: format!("{{\"inputs\":[{input}],\"label\":{}}}", row.label) }
    }

    /// The request that gives labelled samples to the server.
    pub(super) fn samples(&self, labelled: &[Rc<Prepared>]) -> Vec<u8> {
        let samples: Vec<&str> = labelled.iter().map(|sample| sample.labelled.as_str()).collect();
        let body = format!("{{\"samples\":[{}]}}", samples.join(","));
        client::request(&self.host, &format!("/v1/tenants/{}/samples", self.tenant), Some(&body))
    }
}

/// Gives one prepared sample after the other.
pub(super) struct Supply {
    renderer: Renderer,
    rng: StdRng,
    source: Source,
}

enum Source {
    Set { set: Arc<LabelledSet>, cache: Vec<Option<Rc<Prepared>>>, bytes: usize },
    Drifting { generator: Box<Generator>, drift: OverTime, pool: Vec<(f64, Rc<Prepared>)> },
}

impl Supply {
    /// Samples of a plan, as `renderer` renders them.
    ///
    /// # Errors
    /// When they do not fit the model.
    pub(super) fn new(renderer: Renderer, samples: &Samples, seed: u64) -> Result<Self, String> {
        let source = match samples {
            Samples::Set(set) => {
                let first = set.rows.first().ok_or("there are no samples")?;
                renderer.input.check(&first.features)?;
                Source::Set { set: set.clone(), cache: vec![None; set.rows.len()], bytes: 0 }
            }
            Samples::Drifting { kind, seed, stream, drift } => {
                let mut generator = Generator::new(*kind, *seed).with_stream(*seed, *stream);
                renderer.input.check(&generator.sample(0.0).features)?;
                Source::Drifting { generator: Box::new(generator), drift: drift.clone(), pool: Vec::with_capacity(POOL) }
            }
        };
        Ok(Supply { renderer, rng: StdRng::seed_from_u64(seed), source })
    }

    /// A sample for a request due `at_s` seconds after the start.
    pub(super) fn next(&mut self, at_s: f64) -> Rc<Prepared> {
        match &mut self.source {
            Source::Set { set, cache, bytes } => {
                let index = self.rng.random_range(0..set.rows.len());
                if let Some(prepared) = &cache[index] {
                    return prepared.clone();
                }
                let prepared = Rc::new(self.renderer.prepare(&set.rows[index]));
                let size = prepared.request.len() + prepared.labelled.len();
                if *bytes + size <= CACHE_BYTES {
                    *bytes += size;
                    cache[index] = Some(prepared.clone());
                }
                prepared
            }
            Source::Drifting { generator, drift, pool } => {
                let index = self.rng.random_range(0..POOL);
                if let Some((born, prepared)) = pool.get(index)
                    && at_s - born < FRESH_S
                {
                    return prepared.clone();
                }
                let prepared = Rc::new(self.renderer.prepare(&generator.sample(drift(at_s))));
                match pool.get_mut(index) {
                    Some(entry) => *entry = (at_s, prepared.clone()),
                    None => pool.push((at_s, prepared.clone())),
                }
                prepared
            }
        }
    }

    /// What renders the samples.
    pub(super) fn renderer(&self) -> &Renderer {
        &self.renderer
    }
}

/// Shared by the tasks of one tenant, all on one thread.
pub(super) type SharedSupply = Rc<RefCell<Supply>>;

/// The class that an answer puts first: the largest number of its first output. `None` when there is none.
pub(super) fn argmax(body: &[u8]) -> Option<u32> {
    let key = b"\"data\":";
    let start = body.windows(key.len()).position(|w| w == key)? + key.len();
    let end = start + body[start..].iter().position(|&b| b == b']')?;
    let numbers = std::str::from_utf8(&body[start..end]).ok()?.trim_start().strip_prefix('[')?.trim_start_matches('[');
    let mut best: Option<(u32, f32)> = None;
    for (class, number) in numbers.split(',').enumerate() {
        let number: f32 = number.trim().parse().ok()?;
        if best.is_none_or(|(_, most)| number > most) {
            best = Some((class as u32, number));
        }
    }
    best.map(|(class, _)| class)
}

#[cfg(test)]
mod tests {
    use migrator_models::synthetic::Kind;

    use super::*;

    fn renderer(datatype: &str, shape: &[u64]) -> Renderer {
        let input = InputFormat { name: "INPUT0".into(), datatype: datatype.into(), shape: shape.to_vec() };
        Renderer { host: "h:1".into(), tenant: "t".into(), input }
    }

    fn row(features: Features) -> Row {
        Row { features, label: 3 }
    }

    #[test]
    fn a_sample_is_rendered_as_the_protocol_wants_it() {
        let prepared = renderer("FP32", &[1, 2]).prepare(&row(Features::Numbers(vec![0.5, -2.0])));
        let text = String::from_utf8(prepared.request).unwrap();
        let input = r#"{"inputs":[{"name":"INPUT0","datatype":"FP32","shape":[1,1,2],"data":[0.5,-2]}]"#;
        assert!(text.starts_with("POST /v2/models/t/infer ") && text.ends_with(&format!("{input}}}")), "{text}");
        assert_eq!(prepared.labelled, format!("{input},\"label\":3}}"));
    }

    #[test]
    fn texts_are_escaped_and_whole_numbers_stay_whole() {
        let text = renderer("BYTES", &[1]).input.render(&Features::Text("a \"b\"".into()));
        assert!(text.ends_with(r#""data":["a \"b\""]}"#), "{text}");
        assert!(renderer("INT64", &[2]).input.render(&Features::Numbers(vec![3.0, 4.0])).ends_with("[3,4]}"));
    }

    #[test]
    fn samples_that_do_not_fit_are_refused_in_words() {
        let wide = renderer("FP32", &[1, 2]).input.check(&Features::Numbers(vec![0.0; 3])).unwrap_err();
        assert_eq!(wide, "the samples have 3 features, but the model takes 2");
        assert!(renderer("BYTES", &[1]).input.check(&Features::Numbers(vec![0.0])).is_err());
        assert!(renderer("FP32", &[1]).input.check(&Features::Text("x".into())).is_err());
    }

    #[test]
    fn the_largest_number_of_the_answer_is_found() {
        assert_eq!(argmax(br#"{"outputs":[{"name":"OUTPUT0","shape":[1,3],"datatype":"FP32","data":[-1.5, 2e1,3]}]}"#), Some(1));
        assert_eq!(argmax(br#"{"outputs":[{"data": [[-3.0,-2.0]]}]}"#), Some(1));
        assert_eq!(argmax(br#"{"error":"no"}"#), None);
        assert_eq!(argmax(br#"{"outputs":[{"data":[]}]}"#), None);
    }

    #[test]
    fn generated_samples_are_sent_again_only_while_fresh() {
        let samples = Samples::Drifting { kind: Kind::Sensor, seed: 1, stream: 1, drift: Arc::new(|s| s) };
        let mut supply = Supply::new(renderer("FP32", &[32]), &samples, 1).unwrap();
        let early: Vec<Rc<Prepared>> = (0..4 * POOL).map(|_| supply.next(0.0)).collect();
        let late: Vec<Rc<Prepared>> = (0..POOL).map(|_| supply.next(FRESH_S)).collect();
        assert!(late.iter().all(|l| early.iter().all(|e| !Rc::ptr_eq(l, e))));
    }
}
