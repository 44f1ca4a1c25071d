//! A worker of one command's own, outside every instance.

use std::future::Future;
use std::time::Duration;

use anyhow::Context as _;
use migrator_wire::client::{SpawnOptions, Worker, WorkerHandle};

/// Runs `work` with a fresh worker and ends it afterwards.
pub(super) fn with_worker<T, F>(name: &str, work: impl FnOnce(WorkerHandle) -> F) -> anyhow::Result<T>
where
    F: Future<Output = anyhow::Result<T>>,
{
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().context("no runtime for the worker's socket")?;
    runtime.block_on(async {
        let options = SpawnOptions::new(crate::serve::worker_binary()?, name);
        let (handle, _exit) = Worker::spawn(options).await.context("the worker did not start")?;
        let result = work(handle.clone()).await;
        handle.shutdown(Duration::from_secs(5)).await;
        result
    })
}
