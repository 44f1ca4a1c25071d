//! A tenant's actor as the HTTP front sees it.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use actix::Addr;
use futures::FutureExt;
use futures::future::BoxFuture;
use migrator_actors::message::{AddSamples, Infer, InferError, Inferred, SampleError};
use migrator_actors::tenant::{TenantActor, TenantFlags};
use migrator_models::ModelSpec;

use crate::http::TenantFront;

pub(super) struct ActorFront {
    pub address: Addr<TenantActor>,
    pub spec: Arc<ModelSpec>,
    pub flags: Arc<TenantFlags>,
}

impl TenantFront for ActorFront {
    fn infer(&self, infer: Infer) -> BoxFuture<'static, Result<Inferred, InferError>> {
        let asked = self.address.send(infer);
        asked.map(|answer| answer.unwrap_or_else(|error| Err(InferError::Failed(format!("the tenant's actor is gone: {error}"))))).boxed()
    }

    fn add_samples(&self, samples: AddSamples) -> BoxFuture<'static, Result<usize, SampleError>> {
        let asked = self.address.send(samples);
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
}
