//! Signals, and an end in order.

use std::time::Duration;

use actix_web::dev::ServerHandle;
use anyhow::Context as _;
use tokio::signal::unix::{Signal, SignalKind, signal};

use super::build::Setup;
use crate::grpc;

/// SIGINT and SIGTERM.
pub(super) struct Signals {
    interrupt: Signal,
    terminate: Signal,
}

impl Signals {
    /// From now on both are caught.
    pub fn listen() -> anyhow::Result<Signals> {
        let catch = |kind| signal(kind).context("signals cannot be caught");
        Ok(Signals { interrupt: catch(SignalKind::interrupt())?, terminate: catch(SignalKind::terminate())? })
    }

    /// Waits for the next; gives its name.
    pub async fn next(&mut self) -> &'static str {
        tokio::select! {
            _ = self.interrupt.recv() => "SIGINT",
            _ = self.terminate.recv() => "SIGTERM",
        }
    }
}

/// Finishes what is in flight within `drain_s`, then ends workers and instances. A second signal skips the waiting.
pub(super) async fn drain(
    setup: Setup,
    (http, metrics): (ServerHandle, ServerHandle),
    grpc: grpc::Running,
    drain_s: f64,
    mut signals: Signals,
) {
    setup.hold().await;
    let drain = Duration::from_secs_f64(drain_s);
    let answered = tokio::time::timeout(drain, async { tokio::join!(http.stop(true), grpc.stop(drain)) });
    tokio::select! {
        result = answered => if result.is_err() {
            tracing::warn!(drain_s, "connections were still open at the deadline");
        },
        signal = signals.next() => tracing::warn!(signal, "second signal: not waiting any longer"),
    }
    http.stop(false).await;
    setup.stop().await;
    metrics.stop(false).await;
}
