//! A tenant's actor as the HTTP front sees it.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use actix::Addr;
use futures::FutureExt;
use futures::future::BoxFuture;
use migrator_actors::message::{AddLabels, AddSamples, Infer, InferError, Inferred, SampleError};
use migrator_actors::statistic::Counts;
use migrator_actors::tenant::{SwapVersion, TenantActor, TenantFlags};
use migrator_machine::tenant::ShedReason;
use migrator_models::ModelSpec;
use migrator_models::store::Store;

use crate::http::TenantFront;

pub(super) struct ActorFront {
    pub address: Addr<TenantActor>,
    pub spec: Arc<ModelSpec>,
    pub flags: Arc<TenantFlags>,
    pub store: Arc<Store>,
}

impl TenantFront for ActorFront {
    fn infer(&self, infer: Infer) -> BoxFuture<'static, Result<Inferred, InferError>> {
        let asked = self.address.send(infer);
        // Its actor is gone when the tenant was removed while this request's body still arrived.
        let gone = || InferError::Shed { reason: ShedReason::Closing.text(), retry_after: Duration::from_secs(1) };
        asked.map(move |answer| answer.unwrap_or_else(|_| Err(gone()))).boxed()
    }

    fn add_samples(&self, samples: AddSamples) -> BoxFuture<'static, Result<usize, SampleError>> {
        let asked = self.address.send(samples);
        asked.map(|answer| answer.unwrap_or(Err(SampleError::Busy))).boxed()
    }

    fn add_labels(&self, labels: AddLabels) -> BoxFuture<'static, Result<usize, SampleError>> {
        let asked = self.address.send(labels);
        asked.map(|answer| answer.unwrap_or(Err(SampleError::Busy))).boxed()
    }

    fn spec(&self) -> &ModelSpec {
        &self.spec
    }

    fn version(&self) -> u32 {
        self.flags.version.load(Ordering::Acquire)
    }

    fn ready(&self) -> bool {
        self.flags.ready.load(Ordering::Acquire)
    }

    fn counts(&self) -> Counts {
        self.flags.statistics.counts()
    }

    fn pending(&self) -> u32 {
        self.flags.pending.load(Ordering::Relaxed)
    }

    fn load(&self) -> BoxFuture<'static, Result<u32, String>> {
        let (address, store, model, in_service) = (self.address.clone(), Arc::clone(&self.store), self.spec.name.clone(), self.version());
        async move {
            let newest = tokio::task::spawn_blocking(move || store.latest(&model)).await;
            let newest =
                newest.map_err(|e| e.to_string())?.map_err(|e| e.to_string())?.found.ok_or("the store holds no complete version")?;
            let version = u32::try_from(newest.version).map_err(|e| e.to_string())?;
            if version <= in_service {
                return Ok(in_service);
            }
            // An imported version comes without a measured accuracy; what it is worth shows in service.
            let (accuracy, held_out) = newest.accuracy_after.map_or((0.5, 1), |accuracy| (accuracy, newest.samples / 4));
            let swapped = address.send(SwapVersion { version, accuracy, held_out }).await;
            swapped.map_err(|e| format!("the tenant's actor is gone: {e}"))??;
            Ok(version)
        }
        .boxed()
    }
}
