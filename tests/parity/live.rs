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
use migrator::storage::SqliteSamples;
use migrator_actors::message::Infer;
use migrator_models::store::{Manifest, Store, files_of};
use tokio::time::{Instant, sleep_until};
use tracing_subscriber::layer::SubscriberExt;

use crate::case::Case;
use crate::device::MemoryDevice;
use crate::log::Log;
use crate::worker::MemoryWorkers;

/// Tasks that run before an arrival at the same moment: more than a message takes from a worker's executor to the tenant's actor, so
/// that what ends at a moment frees its place for what arrives at it, as in the simulator.
const SETTLE: usize = 64;

/// What came of it.
pub struct Live {
    pub log: Log,
    /// Requests answered with a result, by tenant.
    pub served: Vec<usize>,
}

/// Runs the case on the product's own wiring.
pub fn run(case: &Case) -> Live {
    let folder = tempfile::tempdir().unwrap();
    let config = Config::parse("parity", &case.config(folder.path())).unwrap_or_else(|errors| panic!("{errors}"));
    fill_store(&config);
    let log = Log::default();
    let subscriber = tracing_subscriber::registry().with(log.clone());
    let served = tracing::subscriber::with_default(subscriber, || {
        let runtime = || tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build().unwrap();
        System::with_tokio_rt(runtime).block_on(serve(case, &config, folder.path()))
    });
    Live { log, served }
}

async fn serve(case: &Case, config: &Config, folder: &Path) -> Vec<usize> {
    let device = Arc::new(MemoryDevice::new(case.gpus()));
    let host = Host {
        workers: Box::new(MemoryWorkers::new(Arc::clone(&device), case.natures())),
        device,
        samples: Arc::new(SqliteSamples::open(&folder.join("samples.sqlite"), 1000).unwrap()),
        tenants: Arbiter::current(),
    };
    let setup = build(config, host).await.unwrap();
    let start = Instant::now();
    let fronts: BTreeMap<_, _> = setup.fronts.clone();
    let feeds: Vec<_> =
        case.tenants.iter().map(|tenant| feed(Arc::clone(&fronts[tenant.name]), tenant.arrivals_ms.clone(), start)).collect();
    let feeds: Vec<_> = feeds.into_iter().map(actix::spawn).collect();
    sleep_until(start + Duration::from_secs(case.seconds) - Duration::from_millis(1)).await;
    setup.hold().await;
    let mut served = Vec::new();
    for feed in feeds {
        served.push(feed.await.unwrap());
    }
    setup.stop().await;
    served
}

/// Sends a tenant's requests; gives how many were answered.
async fn feed(front: Arc<dyn TenantFront>, arrivals_ms: Vec<u64>, start: Instant) -> usize {
    let row = Bytes::from(vec![0; 2 * size_of::<f32>()]);
    let mut answers = Vec::new();
    for at in arrivals_ms {
        let arrived = start + Duration::from_millis(at);
        sleep_until(arrived).await;
        for _ in 0..SETTLE {
            tokio::task::yield_now().await;
        }
        answers.push(actix::spawn(front.infer(Infer { inputs: vec![row.clone()], rows: 1, arrived, timeout: None })));
    }
    let mut served = 0;
    for answer in answers {
        served += usize::from(answer.await.unwrap().is_ok());
    }
    served
}

/// A first version of every model; nobody looks at its weights.
fn fill_store(config: &Config) {
    let store = Store::open(&config.server.models_dir()).unwrap();
    for tenant in &config.tenants {
        let staged = store.staging(&tenant.model.name).unwrap();
        for file in files_of(&tenant.model) {
            std::fs::write(staged.join(file), "weights").unwrap();
        }
        store.publish(&tenant.model.name, &staged, Manifest::new(tenant.model.clone())).unwrap();
    }
}
