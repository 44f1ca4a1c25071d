//! The golden model: a bigger model that labels a share of a tenant's live requests, off the way that requests take (Ekya, section 3).
//!
//! A request's row is offered after its answer; when the queue is full it is not looked at. A worker of its own in the staging area labels what
//! was taken, no faster than it may.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use actix::Addr;
use bytes::Bytes;
use metrics::{Counter, counter};
use migrator_models::{ModelSpec, row};
use migrator_solver::TenantId;
use migrator_wire::client::WorkerHandle;
use migrator_wire::message::{FromWorker, ModelKey, ToWorker};
use tokio::sync::mpsc;
use tokio::time::Instant;

use crate::launcher::{Launcher, RELEASE};
use crate::message::{AddLabels, Labelled, Origin};
use crate::tenant::{TenantActor, argmax, confidence};

/// Rows that wait for the golden model, at most.
const QUEUE: usize = 256;
/// Pause after the first failure; doubled by each further one in a row.
const BACKOFF: Duration = Duration::from_secs(1);
/// Longest pause.
const LONGEST_BACKOFF: Duration = Duration::from_secs(60);
/// Key of the model in its worker.
const KEY: ModelKey = ModelKey(1);

/// A row that was answered.
#[derive(Debug)]
pub struct Answered {
    /// What was asked: the inputs in the model's order, concatenated.
    pub features: Vec<u8>,
    /// The class that was answered.
    pub answered: u32,
    /// Version that answered.
    pub version: u32,
}

/// Where a tenant's actor offers rows.
#[derive(Debug)]
pub struct Golden {
    share: f64,
    seen: u64,
    queue: mpsc::Sender<Answered>,
    dropped: Counter,
}

impl Golden {
    /// For this share of a tenant's requests, 0 to 1; what is offered comes out of the receiver.
    pub fn new(tenant: &str, share: f64) -> (Golden, mpsc::Receiver<Answered>) {
        let (queue, offered) = mpsc::channel(QUEUE);
        (Golden { share, seen: 0, queue, dropped: requests(tenant, "dropped") }, offered)
    }

    /// Whether the next request is looked at: a row of it, counted from 0, of `rows`.
    pub fn draw(&mut self, rows: u32) -> Option<u32> {
        self.seen += 1;
        let dice = mix(self.seen);
        // The upper half decides whether, the lower half which.
        let drawn = ((dice >> 32) as f64) < self.share * 4_294_967_296.0;
        drawn.then(|| (dice as u32) % rows.max(1))
    }

    /// Has a row labelled, unless too many wait.
    pub fn offer(&self, row: Answered) {
        if self.queue.try_send(row).is_err() {
            self.dropped.increment(1);
        }
    }
}

/// SplitMix64's finaliser: which requests are drawn must not go with any rhythm of the clients'.
fn mix(n: u64) -> u64 {
    let n = n.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    let n = (n ^ (n >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let n = (n ^ (n >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    n ^ (n >> 31)
}

fn requests(tenant: &str, result: &'static str) -> Counter {
    counter!("migrator_golden_requests_total", "tenant" => tenant.to_owned(), "result" => result)
}

/// What labels rows.
pub struct GoldenParts {
    /// The tenant.
    pub id: TenantId,
    /// The tenant's name.
    pub name: String,
    /// The golden model: of the same inputs and classes as the tenant's.
    pub spec: Arc<ModelSpec>,
    /// Folder of its weights.
    pub folder: PathBuf,
    /// Most rows a second.
    pub max_rps: f64,
    /// Least confidence, the softmax's largest value, of an answer that becomes a label.
    pub min_confidence: f64,
    /// Starts its worker.
    pub launcher: Arc<Launcher>,
    /// Gets the labels.
    pub tenant: Addr<TenantActor>,
}

/// Labels what is offered until the tenant's actor is gone.
pub async fn run(parts: GoldenParts, mut offered: mpsc::Receiver<Answered>) {
    let mut teacher = Teacher { worker: None, failures: 0, next: Instant::now(), parts };
    let most = teacher.parts.spec.max_batch.max(1) as usize;
    let mut batch = Vec::new();
    while offered.recv_many(&mut batch, most).await > 0 {
        teacher.label(std::mem::take(&mut batch)).await;
    }
    if let Some(worker) = teacher.worker {
        worker.shutdown(RELEASE).await;
    }
}

struct Teacher {
    parts: GoldenParts,
    worker: Option<WorkerHandle>,
    /// In a row.
    failures: u32,
    /// When the next rows may be labelled.
    next: Instant,
}

impl Teacher {
    async fn label(&mut self, rows: Vec<Answered>) {
        tokio::time::sleep_until(self.next).await;
        let count = rows.len();
        let pause = match self.ask(&rows).await {
            Ok(output) => {
                self.failures = 0;
                self.tell(rows, &output).await;
                Duration::from_secs_f64(count as f64 / self.parts.max_rps)
            }
            Err(reason) => {
                tracing::warn!(tenant = %self.parts.name, reason, "the golden model could not label");
                requests(&self.parts.name, "failed").increment(count as u64);
                if let Some(worker) = self.worker.take() {
                    worker.kill().await;
                }
                self.failures = self.failures.saturating_add(1);
                (BACKOFF * 2u32.saturating_pow(self.failures - 1)).min(LONGEST_BACKOFF)
            }
        };
        self.next = self.next.max(Instant::now()) + pause;
    }

    async fn ask(&mut self, rows: &[Answered]) -> Result<Bytes, String> {
        let worker = match &self.worker {
            Some(worker) => worker.clone(),
            None => {
                let GoldenParts { id, spec, folder, launcher, .. } = &self.parts;
                let staged = launcher.stage_model(*id, spec, folder.clone(), KEY).await.map_err(|error| error.chain())?;
                tracing::info!(tenant = %self.parts.name, model = %spec.name, pid = staged.pid(), "the golden model is ready");
                self.worker.insert(staged).clone()
            }
        };
        let inputs = self.parts.spec.inputs();
        let mut columns = vec![Vec::new(); inputs.len()];
        for Answered { features, .. } in rows {
            let parts = row::parts(&inputs, features);
            columns.iter_mut().zip(parts).for_each(|(column, part)| column.extend_from_slice(&features[part]));
        }
        let lengths = columns.iter().map(|column| column.len() as u64).collect();
        let message = ToWorker::Infer { key: KEY, rows: rows.len() as u32, inputs: lengths };
        match worker.call(message, columns.into_iter().map(Bytes::from).collect()).await {
            Ok((FromWorker::Inferred { compute_us, .. }, output)) => {
                let name = self.parts.name.clone();
                counter!("migrator_golden_compute_microseconds_total", "tenant" => name).increment(u64::from(compute_us));
                Ok(output)
            }
            Ok((other, _)) => Err(format!("the worker answered out of turn: {other:?}")),
            Err(error) => Err(error.to_string()),
        }
    }

    /// Gives the labels to the tenant.
    async fn tell(&self, rows: Vec<Answered>, output: &[u8]) {
        let logits = output.chunks_exact(self.parts.spec.classes.max(1) as usize * size_of::<f32>());
        let all = rows.len();
        let sure = rows.into_iter().zip(logits).filter(|(_, logits)| confidence(logits) >= self.parts.min_confidence);
        let labels: Vec<Labelled> = sure
            .map(|(Answered { features, answered, version }, logits)| Labelled {
                features: Some(Bytes::from(features)),
                label: argmax(logits),
                answered,
                version,
            })
            .collect();
        let count = labels.len();
        requests(&self.parts.name, "unsure").increment((all - count) as u64);
        if labels.is_empty() {
            return;
        }
        let told = self.parts.tenant.send(AddLabels { labels, origin: Origin::Golden }).await;
        match told.map_err(|error| error.to_string()).and_then(|kept| kept.map_err(|error| error.to_string())) {
            Ok(_) => requests(&self.parts.name, "labelled").increment(count as u64),
            Err(reason) => {
                tracing::warn!(tenant = %self.parts.name, reason, "the golden model's labels were not kept");
                requests(&self.parts.name, "failed").increment(count as u64);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row() -> Answered {
        Answered { features: Vec::new(), answered: 0, version: 1 }
    }

    #[test]
    fn the_share_is_drawn_from_all_rows_alike() {
        let (mut golden, _offered) = Golden::new("a", 0.05);
        let drawn: Vec<u32> = (0..100_000).filter_map(|_| golden.draw(4)).collect();
        assert!((4700..5300).contains(&drawn.len()), "{}", drawn.len());
        for index in 0..4 {
            let share = drawn.iter().filter(|row| **row == index).count() as f64 / drawn.len() as f64;
            assert!((0.2..0.3).contains(&share), "row {index}: {share}");
        }
        let (mut all, _offered) = Golden::new("a", 1.0);
        assert_eq!((0..1000).filter(|_| all.draw(1) == Some(0)).count(), 1000);
    }

    #[test]
    fn what_the_queue_does_not_hold_is_not_looked_at() {
        let (golden, mut offered) = Golden::new("a", 1.0);
        (0..QUEUE + 10).for_each(|_| golden.offer(row()));
        let mut taken = 0;
        while offered.try_recv().is_ok() {
            taken += 1;
        }
        assert_eq!(taken, QUEUE);
        drop(offered);
        golden.offer(row());
    }
}
