//! Serving, measured: batch after batch on one worker.

use std::time::{Duration, Instant};

use bytes::Bytes;
use migrator_models::{Architecture, Datatype, ModelSpec, Source, TensorSpec, row};
use migrator_wire::client::WorkerHandle;
use migrator_wire::message::{ModelKey, ToWorker};
use serde::Serialize;

/// Batches of a size are measured for no less than so many, however long they take.
const LEAST_BATCHES: usize = 5;

/// Batches that take longer than so many SLOs are used by no plan, and larger ones are not measured.
const HOPELESS: f64 = 2.0;

/// What batches of one size take on one instance.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct BatchFigures {
    /// Rows.
    pub batch: u32,
    /// Median milliseconds of one batch alone, over the wire.
    pub p50_ms: f64,
    /// The same, of the slowest hundredth.
    pub p99_ms: f64,
    /// Rows per second with every executor busy.
    pub rows_per_s: f64,
}

impl BatchFigures {
    /// Milliseconds that the instance as a whole spends on a batch.
    pub fn batch_ms(&self) -> f64 {
        f64::from(self.batch) * 1000.0 / self.rows_per_s.max(1e-9)
    }
}

/// A model in a worker, to be measured.
pub(super) struct Subject<'w> {
    pub worker: &'w WorkerHandle,
    pub key: ModelKey,
    pub spec: &'w ModelSpec,
    /// Batches that the instance computes at the same time.
    pub executors: u32,
    pub slo_ms: f64,
}

impl Subject<'_> {
    /// Every batch size that a plan could use; `each` for as long.
    pub async fn measure(&self, each: Duration, mut told: impl FnMut(&BatchFigures)) -> anyhow::Result<Vec<BatchFigures>> {
        let mut figures: Vec<BatchFigures> = Vec::new();
        for batch in self.spec.batch_sizes() {
            if figures.last().is_some_and(|smaller| smaller.p50_ms > HOPELESS * self.slo_ms) {
                break;
            }
            let found = self.batch(batch, each).await?;
            told(&found);
            figures.push(found);
        }
        Ok(figures)
    }

    async fn batch(&self, batch: u32, each: Duration) -> anyhow::Result<BatchFigures> {
        let inputs = inputs(self.spec, batch);
        let (mut alone, _) = self.in_flight(batch, &inputs, 1, each / 2).await?;
        alone.sort_by(f64::total_cmp);
        // One more waits behind each executor, so that none waits for the way to the worker and back.
        let (all, seconds) = self.in_flight(batch, &inputs, 2 * self.executors, each).await?;
        let at = |share: f64| alone[((alone.len() - 1) as f64 * share).round() as usize];
        let rows_per_s = all.len() as f64 * f64::from(batch) / seconds;
        Ok(BatchFigures { batch, p50_ms: at(0.5), p99_ms: at(0.99), rows_per_s })
    }

    /// Milliseconds of each batch with so many in flight, and the seconds in all.
    async fn in_flight(&self, rows: u32, inputs: &[Bytes], count: u32, limit: Duration) -> anyhow::Result<(Vec<f64>, f64)> {
        // The first batches meet cold caches, and spend a quota that was saved up.
        for _ in 0..2 {
            self.infer(rows, inputs).await?;
        }
        let start = Instant::now();
        let lanes = (0..count).map(|_| async {
            let mut times = Vec::new();
            while times.len() < LEAST_BATCHES || start.elapsed() < limit {
                let sent = Instant::now();
                self.infer(rows, inputs).await?;
                times.push(sent.elapsed().as_secs_f64() * 1e3);
            }
            anyhow::Ok(times)
        });
        let times = futures::future::try_join_all(lanes).await?.concat();
        Ok((times, start.elapsed().as_secs_f64()))
    }

    async fn infer(&self, rows: u32, inputs: &[Bytes]) -> anyhow::Result<()> {
        let message = ToWorker::Infer { key: self.key, rows, inputs: inputs.iter().map(|input| input.len() as u64).collect() };
        self.worker.call(message, inputs.to_vec()).await?;
        Ok(())
    }
}

/// A batch as it may come, in the model's order.
fn inputs(spec: &ModelSpec, rows: u32) -> Vec<Bytes> {
    let text = text(spec);
    spec.inputs().iter().map(|input| row::made_up(input, rows as usize, 0, &text).into()).collect()
}

/// One row of all inputs, one after the other, different by `salt`.
pub(super) fn features(spec: &ModelSpec, salt: usize) -> Vec<u8> {
    let text = text(spec);
    let part = |input: &TensorSpec| row::made_up(input, 1, salt, &text);
    spec.inputs().iter().flat_map(part).collect()
}

/// As long a text as the model reads; empty where it reads none.
fn text(spec: &ModelSpec) -> String {
    match &spec.source {
        Source::Architecture { architecture: Architecture::TextClassifier { max_tokens, .. } } => "word ".repeat(*max_tokens as usize),
        _ if spec.inputs().iter().any(|input| input.datatype == Datatype::Bytes) => "some words of a text".to_owned(),
        _ => String::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_milliseconds_of_a_batch_follow_from_the_rate() {
        let figures = BatchFigures { batch: 8, p50_ms: 3.0, p99_ms: 5.0, rows_per_s: 4000.0 };
        assert_eq!(figures.batch_ms(), 2.0);
    }

    #[test]
    fn rows_of_a_text_model_are_texts_of_full_length() {
        let architecture = Architecture::TextClassifier { vocabulary: 100, max_tokens: 3, embedding: 4 };
        let source = Source::Architecture { architecture };
        let spec = ModelSpec { name: "text".into(), classes: 2, max_batch: 4, precision: Default::default(), source };
        assert_eq!(features(&spec, 5), b"\x0f\0\0\0word word word ");
        assert_eq!(inputs(&spec, 2)[0].len(), 2 * 19);
    }
}
