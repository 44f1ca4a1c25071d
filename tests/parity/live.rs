//! The live actors on the paused clock.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use actix::{Arbiter, System};
use bytes::Bytes;
use migrator::config::Config;
use migrator::http::TenantFront;
use migrator::serve::build::{Host, build};
use migrator::storage::{Bounds, SqliteSamples};
use migrator_actors::message::{AddSamples, Infer, Sample};
use migrator_device::Device;
use migrator_models::store::{Manifest, Store, files_of};
use tokio::time::{Instant, sleep_until};
use tracing_subscriber::layer::SubscriberExt;

use crate::case::Case;
use crate::device::MemoryDevice;
use crate::log::Log;
use crate::weather::Weather;
use crate::worker::{MemoryWorkers, Swaps, logits};

/// Turns that everybody gets in a round of [`settle`]: more than a message takes from a worker's executor to the coordinator.
const TURNS: usize = 64;

/// Rounds without a call of the device after which nothing goes on: between two calls of a migration, at most one thing is looked up.
const QUIET: u32 = 3;

/// What came of it.
pub struct Live {
    pub log: Log,
    /// Requests answered with a result, and those answered rightly, by tenant.
    pub served: Vec<u64>,
    pub right: Vec<u64>,
    /// Versions in service at the end, by tenant.
    pub versions: Vec<u32>,
    /// Lanes that each version was loaded on while they served another, by tenant and version.
    pub swaps: Swaps,
}

/// Runs the case on the product's own wiring.
pub fn run(case: &Case) -> Live {
    let folder = tempfile::tempdir().unwrap();
    let config = Config::parse("parity", &case.config(folder.path())).unwrap_or_else(|errors| panic!("{errors}"));
    fill_store(&config);
    let log = Log::default();
    let subscriber = tracing_subscriber::registry().with(log.clone());
    tracing::subscriber::with_default(subscriber, || {
        let runtime =
            || tokio::runtime::Builder::new_current_thread().max_blocking_threads(1).enable_all().start_paused(true).build().unwrap();
        System::with_tokio_rt(runtime).block_on(serve(case, &config, folder.path(), log))
    })
}

async fn serve(case: &Case, config: &Config, folder: &Path, log: Log) -> Live {
    let device = Arc::new(MemoryDevice::new(case.gpus()));
    // Loading to measure comes before the server's time begins.
    let loads: u64 = case.tenants.iter().map(|tenant| tenant.load_ms).sum();
    let weather = Weather::new(Instant::now() + Duration::from_millis(loads), case.changes_s());
    let workers = MemoryWorkers::new(Arc::clone(&device), weather.clone(), case.natures());
    let swaps = workers.swaps();
    let host = Host {
        workers: Box::new(workers),
        device: Arc::clone(&device) as Arc<dyn Device>,
        samples: Arc::new(SqliteSamples::open(&folder.join("samples.sqlite"), Bounds::samples(1000)).unwrap()),
        tenants: Arbiter::current(),
    };
    let setup = build(config, host).await.unwrap();
    let start = Instant::now();
    let fronts: BTreeMap<_, _> = setup.fronts.clone();
    let feeds: Vec<_> = case
        .tenants
        .iter()
        .map(|tenant| feed(Arc::clone(&fronts[tenant.name]), tenant.arrivals_ms.clone(), start, Arc::clone(&device)))
        .collect();
    let feeds: Vec<_> = feeds.into_iter().map(actix::spawn).collect();
    for tenant in &case.tenants {
        actix::spawn(label(Arc::clone(&fronts[tenant.name]), case.labels(tenant), start, weather.clone()));
    }
    sleep_until(start + Duration::from_secs(case.seconds) - Duration::from_millis(1)).await;
    setup.hold().await;
    let versions = setup.view.borrow().tenants.iter().map(|tenant| tenant.version).collect();
    let mut answered = Vec::new();
    for feed in feeds {
        answered.push(feed.await.unwrap());
    }
    setup.stop().await;
    let (served, right) = answered.into_iter().unzip();
    let swaps = swaps.lock().unwrap().clone();
    Live { log, served, right, versions, swaps }
}

/// Sends a tenant's requests; gives how many were answered, and how many rightly.
async fn feed(front: Arc<dyn TenantFront>, arrivals_ms: Vec<u64>, start: Instant, device: Arc<MemoryDevice>) -> (u64, u64) {
    let row = Bytes::from(vec![0; 2 * size_of::<f32>()]);
    let mut answers = Vec::new();
    for at in arrivals_ms {
        let arrived = start + Duration::from_millis(at);
        sleep_until(arrived).await;
        settle(&device).await;
        answers.push(actix::spawn(front.infer(Infer { inputs: vec![row.clone()], rows: 1, arrived, timeout: None, priority: 0 })));
    }
    let (mut served, mut right) = (0, 0);
    for answer in answers {
        if let Ok(inferred) = answer.await.unwrap() {
            served += 1;
            right += u64::from(inferred.output[..] == logits(true));
        }
    }
    (served, right)
}

/// Sends what is labelled of each second's requests, half a second after its end.
async fn label(front: Arc<dyn TenantFront>, counts: Vec<u64>, start: Instant, weather: Weather) {
    for (second, count) in counts.into_iter().enumerate() {
        sleep_until(start + Duration::from_millis(second as u64 * 1000 + 1500)).await;
        let features: Vec<u8> = [weather.now() as f32, 0.0].iter().flat_map(|value| value.to_le_bytes()).collect();
        let sample = Sample { features: Bytes::from(features), label: 1, origin: Default::default() };
        if count > 0 {
            front.add_samples(AddSamples { samples: vec![sample; count as usize] }).await.unwrap();
        }
    }
}

/// Lets happen whatever happens at this moment: what ends frees its place for what arrives at the same time, as in the simulator.
async fn settle(device: &MemoryDevice) {
    let (mut calls, mut quiet) = (device.calls(), 0);
    while quiet < QUIET {
        // There is one thread for what blocks, so this waits for all that blocks now.
        tokio::task::spawn_blocking(|| ()).await.unwrap();
        for _ in 0..TURNS {
            tokio::task::yield_now().await;
        }
        quiet = if device.calls() == calls { quiet + 1 } else { 0 };
        calls = device.calls();
    }
}

/// A first version of every model, which knows the first weather.
fn fill_store(config: &Config) {
    let store = Store::open(&config.server.models_dir()).unwrap();
    for tenant in &config.tenants {
        let staged = store.staging(&tenant.model.name).unwrap();
        for file in files_of(&tenant.model) {
            std::fs::write(staged.join(file), "0").unwrap();
        }
        let manifest = Manifest { accuracy_after: Some(1.0), ..Manifest::new(tenant.model.clone()) };
        store.publish(&tenant.model.name, &staged, manifest).unwrap();
    }
}
