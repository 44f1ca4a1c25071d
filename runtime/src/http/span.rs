//! OpenTelemetry: what became of requests, stage by stage, exported as spans by OTLP over HTTP.
//!
//! A request's spans are made when it is answered, of times that are taken anyway, and only for those that are sampled. They wait in a
//! bounded queue for a thread of their own; what does not fit is dropped. A request never waits for a collector.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, SystemTime};

use anyhow::Context as _;
use opentelemetry::propagation::{Extractor, TextMapPropagator as _};
use opentelemetry::trace::{Span as _, SpanKind, Status, TraceContextExt as _, Tracer as _, TracerProvider as _};
use opentelemetry::{Context, KeyValue};
use opentelemetry_http::{Bytes, HttpClient, HttpError, Request, Response};
use opentelemetry_otlp::{Protocol, SpanExporter, WithExportConfig as _, WithHttpConfig as _};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::propagation::TraceContextPropagator;
use opentelemetry_sdk::trace::{BatchConfigBuilder, BatchSpanProcessor, Sampler, SdkTracer, SdkTracerProvider};
use tokio::runtime::Handle;

use super::error::ApiError;
use crate::config::OtlpConfig;

/// Longest that a collector may take to answer.
const EXPORT: Duration = Duration::from_secs(10);
/// Longest that a stop waits for the last spans.
const LAST: Duration = Duration::from_secs(2);

/// Makes and exports spans.
pub struct Spans {
    provider: SdkTracerProvider,
    tracer: SdkTracer,
    share: f64,
    /// Requests without a trace of their client's.
    seen: AtomicU64,
}

/// When a request that was answered went through each stage, from its arrival.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Passed {
    /// Body read and parsed.
    pub parsed: Duration,
    /// Its batch was sent to a worker.
    pub waited: Duration,
    /// How long the worker computed.
    pub computed: Duration,
    /// Answer in hand.
    pub answered: Duration,
    /// Version that answered.
    pub version: u32,
}

/// A request that is over.
pub(crate) struct Over<'a> {
    /// The tenant.
    pub tenant: &'a str,
    /// How long it took.
    pub took: Duration,
    /// Its stages; `None` = it was refused.
    pub passed: Option<&'a Passed>,
    /// Why it was.
    pub error: Option<&'a ApiError>,
}

impl Spans {
    /// Exports from now on, by the tasks of this runtime.
    ///
    /// # Errors
    /// When the endpoint is no address.
    pub fn open(config: &OtlpConfig, runtime: Handle) -> anyhow::Result<Spans> {
        let client = reqwest::Client::builder().timeout(EXPORT).build().context("no HTTP client")?;
        let sender = Sender { client, runtime, failing: AtomicBool::new(false) };
        let exporter = SpanExporter::builder()
            .with_http()
            .with_http_client(sender)
            .with_protocol(Protocol::HttpBinary)
            .with_endpoint(&config.endpoint)
            .with_timeout(EXPORT)
            .build()
            .with_context(|| config.endpoint.clone())?;
        let queue = BatchConfigBuilder::default().with_max_queue_size(config.queue as usize).build();
        let processor = BatchSpanProcessor::builder(exporter).with_batch_config(queue).build();
        let version = KeyValue::new("service.version", env!("CARGO_PKG_VERSION"));
        let provider = SdkTracerProvider::builder()
            .with_span_processor(processor)
            // Which are sampled is decided before a span is made.
            .with_sampler(Sampler::AlwaysOn)
            .with_resource(Resource::builder().with_service_name("migrator").with_attribute(version).build())
            .build();
        Ok(Spans { tracer: provider.tracer("migrator"), provider, share: config.share, seen: AtomicU64::new(0) })
    }

    /// Makes a request's spans, if it is one to sample: where its client has a trace, that says; of the rest, a share.
    pub(crate) fn over(&self, traceparent: Option<&str>, request: &Over<'_>) {
        let Some(parent) = sampled(traceparent, || self.due()) else { return };
        let ended = SystemTime::now();
        let arrived = ended.checked_sub(request.took).unwrap_or(ended);
        let mut attributes = vec![KeyValue::new("migrator.tenant", request.tenant.to_owned())];
        let status = request.error.map_or(200, |error| error.status.as_u16());
        attributes.push(KeyValue::new("http.response.status_code", i64::from(status)));
        if let Some(passed) = request.passed {
            attributes.push(KeyValue::new("migrator.version", i64::from(passed.version)));
        }
        let whole = self.tracer.span_builder("infer").with_kind(SpanKind::Server).with_start_time(arrived).with_attributes(attributes);
        let mut whole = self.tracer.build_with_context(whole, &parent);
        if let Some(error) = request.error.filter(|error| error.status.is_server_error()) {
            whole.set_status(Status::error(error.message.clone()));
        }
        let within = parent.with_remote_span_context(whole.span_context().clone());
        if let Some(passed) = request.passed {
            for (name, from, to) in stages(passed, request.took) {
                self.stage(name, arrived + from, arrived + to, passed, &within);
            }
        }
        whole.end_with_timestamp(ended);
    }

    /// Whether this request is one of the share that is exported: evenly spread, not drawn.
    fn due(&self) -> bool {
        let before = self.seen.fetch_add(1, Ordering::Relaxed) as f64;
        ((before + 1.0) * self.share).floor() > (before * self.share).floor()
    }

    fn stage(&self, name: &'static str, from: SystemTime, to: SystemTime, passed: &Passed, within: &Context) {
        let mut stage = self.tracer.span_builder(name).with_start_time(from);
        if name == "compute" {
            let us = i64::try_from(passed.computed.as_micros()).unwrap_or(i64::MAX);
            stage = stage.with_attributes([KeyValue::new("migrator.computed_us", us)]);
        }
        self.tracer.build_with_context(stage, within).end_with_timestamp(to);
    }

    /// Exports what waits; blocks.
    pub fn close(&self) {
        if let Err(error) = self.provider.shutdown_with_timeout(LAST) {
            tracing::warn!(%error, "the last spans were not exported");
        }
    }
}

/// The stages of an answered request; `compute` is with the way to the worker and back.
fn stages(passed: &Passed, took: Duration) -> [(&'static str, Duration, Duration); 4] {
    let Passed { parsed, waited, answered, .. } = *passed;
    let queued = waited.max(parsed);
    [
        ("parse", Duration::ZERO, parsed),
        ("queue", parsed, queued),
        ("compute", queued, answered.max(queued)),
        ("write", answered.max(queued), took.max(answered).max(queued)),
    ]
}

/// What a request's spans belong to, if it is sampled.
fn sampled(traceparent: Option<&str>, due: impl FnOnce() -> bool) -> Option<Context> {
    let parent = traceparent.map(|sent| TraceContextPropagator::new().extract_with_context(&Context::new(), &Parent(sent)));
    match parent.filter(|parent| parent.span().span_context().is_valid()) {
        Some(parent) => parent.span().span_context().is_sampled().then_some(parent.clone()),
        None => due().then(Context::new),
    }
}

/// The header `traceparent`.
struct Parent<'a>(&'a str);

impl Extractor for Parent<'_> {
    fn get(&self, key: &str) -> Option<&str> {
        (key == "traceparent").then_some(self.0)
    }

    fn keys(&self) -> Vec<&str> {
        vec!["traceparent"]
    }
}

/// Sends on the server's runtime: the exporter's thread has none.
#[derive(Debug)]
struct Sender {
    client: reqwest::Client,
    runtime: Handle,
    failing: AtomicBool,
}

#[tonic::async_trait]
impl HttpClient for Sender {
    async fn send_bytes(&self, request: Request<Bytes>) -> Result<Response<Bytes>, HttpError> {
        let (client, request) = (self.client.clone(), reqwest::Request::try_from(request)?);
        let sent = self.runtime.spawn(async move {
            let response = client.execute(request).await?;
            let status = response.status();
            Ok::<_, reqwest::Error>((status, response.bytes().await?))
        });
        let sent = sent.await.map_err(HttpError::from).and_then(|sent| sent.map_err(HttpError::from));
        let good = matches!(&sent, Ok((status, _)) if status.is_success());
        if !good && !self.failing.swap(true, Ordering::Relaxed) {
            let why = sent.as_ref().map_or_else(ToString::to_string, |(status, _)| status.to_string());
            tracing::warn!(why, "the collector takes no spans; they are dropped until it does");
        }
        if good && self.failing.swap(false, Ordering::Relaxed) {
            tracing::info!("the collector takes spans again");
        }
        let result = if good { "ok" } else { "failed" };
        metrics::counter!("migrator_span_exports_total", "result" => result).increment(1);
        let (status, body) = sent?;
        let mut response = Response::new(body);
        *response.status_mut() = status;
        Ok(response)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SAMPLED: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

    #[test]
    fn a_clients_trace_says_whether_a_request_is_sampled_and_the_share_for_the_rest() {
        let parent = sampled(Some(SAMPLED), || false).unwrap();
        assert_eq!(parent.span().span_context().trace_id().to_string(), "0af7651916cd43dd8448eb211c80319c");
        assert!(sampled(Some(&SAMPLED.replace("-01", "-00")), || true).is_none());
        for none in [None, Some(""), Some("00-0-0-01"), Some("nonsense")] {
            assert!(sampled(none, || false).is_none());
            assert!(!sampled(none, || true).unwrap().span().span_context().is_valid());
        }
    }

    #[test]
    fn stages_follow_each_other_and_fill_the_request() {
        let ms = Duration::from_millis;
        let passed = Passed { parsed: ms(1), waited: ms(4), computed: ms(2), answered: ms(9), version: 1 };
        let found = stages(&passed, ms(10));
        assert_eq!(found.map(|(name, ..)| name), ["parse", "queue", "compute", "write"]);
        assert!(found.windows(2).all(|pair| pair[0].2 == pair[1].1));
        assert_eq!((found[0].1, found[3].2), (ms(0), ms(10)));
        // Clocks of several threads may disagree by a little.
        let odd = Passed { waited: ms(0), answered: ms(0), ..passed };
        assert!(stages(&odd, ms(0)).iter().all(|(_, from, to)| from <= to));
    }
}
