//! Signals, and an end in order.

use std::time::Duration;

use anyhow::Context as _;
use tokio::signal::unix::{Signal, SignalKind, signal};

use super::Ports;
use super::build::Setup;

/// SIGHUP: read the configuration again.
pub(super) const HANGUP: &str = "SIGHUP";

/// SIGINT, SIGTERM and SIGHUP.
pub(super) struct Signals {
    interrupt: Signal,
    terminate: Signal,
    hangup: Signal,
}

impl Signals {
    /// From now on they are caught.
    pub fn listen() -> anyhow::Result<Signals> {
        let catch = |kind| signal(kind).context("signals cannot be caught");
        Ok(Signals {
            interrupt: catch(SignalKind::interrupt())?,
            terminate: catch(SignalKind::terminate())?,
            hangup: catch(SignalKind::hangup())?,
        })
    }

    /// Waits for the next; gives its name.
    pub async fn next(&mut self) -> &'static str {
        tokio::select! {
            _ = self.interrupt.recv() => "SIGINT",
            _ = self.terminate.recv() => "SIGTERM",
            _ = self.hangup.recv() => HANGUP,
        }
    }

    /// Waits for the next that means "stop"; what else comes meanwhile waits.
    pub async fn stop(&mut self) -> &'static str {
        tokio::select! {
            _ = self.interrupt.recv() => "SIGINT",
            _ = self.terminate.recv() => "SIGTERM",
        }
    }

    /// Waits for the next that means "stop"; SIGHUP is not heard.
    pub async fn next_stop(&mut self) -> &'static str {
        loop {
            match self.next().await {
                HANGUP => tracing::warn!("SIGHUP: the server is starting or stopping: the configuration is not read again"),
                signal => return signal,
            }
        }
    }
}

/// Finishes what is in flight within `drain_s`, then ends workers and instances. A second signal skips the waiting.
pub(super) async fn drain(setup: Setup, ports: Ports, drain_s: f64, mut signals: Signals) {
    setup.hold().await;
    let Ports { http: (http, _), admin, metrics: (metrics, _), grpc, .. } = ports;
    let drain = Duration::from_secs_f64(drain_s);
    let answered = tokio::time::timeout(drain, async { tokio::join!(http.stop(true), grpc.stop(drain)) });
    tokio::select! {
        result = answered => if result.is_err() {
            tracing::warn!(drain_s, "connections were still open at the deadline");
        },
        signal = signals.next_stop() => tracing::warn!(signal, "second signal: not waiting any longer"),
    }
    http.stop(false).await;
    setup.stop().await;
    if let Some((admin, _)) = admin {
        admin.stop(false).await;
    }
    metrics.stop(false).await;
}
