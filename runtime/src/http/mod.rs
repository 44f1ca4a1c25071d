//! The front: Open Inference Protocol v2 and the server's own `/v1`, on actix-web.
//!
//! Knows tenants by [`TenantFront`] only and the rest of the server by its published [`View`]; knows nothing of actors, plans or
//! devices. Read in the order [`AppState`], [`start`], `route`, `inference`, `request`, `input`, `tensor`, `response`, `sample`.

mod admin;
mod batch;
mod body;
pub(crate) mod classification;
mod codec;
mod error;
#[cfg(test)]
mod extension_tests;
#[cfg(any(test, fuzzing))]
pub mod fuzz;
mod guard;
pub(crate) mod inference;
mod input;
pub mod key;
pub(crate) mod label;
pub mod limit;
pub mod metrics;
pub(crate) mod model;
#[cfg(test)]
mod mutation_tests;
mod openapi;
mod parameter;
mod plan;
#[cfg(test)]
mod plan_tests;
pub mod recent;
pub mod reload;
pub(crate) mod repository;
pub(crate) mod request;
mod response;
pub(crate) mod roster;
mod route;
mod rows;
mod sample;
pub(crate) mod setting;
pub mod span;
mod statistic;
mod tensor;
#[cfg(test)]
pub(crate) mod tests;
mod text;
pub mod token;
pub(crate) mod trace;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use actix_web::dev::Server;
use actix_web::middleware::from_fn;
use actix_web::{App, HttpServer, web};
use arc_swap::ArcSwap;
use futures::future::BoxFuture;
use migrator_actors::message::{AddLabels, AddSamples, Infer, InferError, Inferred, SampleError};
use migrator_actors::statistic::Counts;
use migrator_actors::view::View;
use migrator_models::ModelSpec;
use tokio::sync::{Semaphore, watch};

use crate::config::Scope;
pub use error::ApiError;
use key::Access;
use limit::Quota;
use reload::Wishes;
pub(crate) use roster::Tenant;
use roster::{Roster, list};

/// What the front knows of a tenant.
pub trait TenantFront: Send + Sync {
    /// Answers a request that was checked against [`TenantFront::spec`].
    fn infer(&self, infer: Infer) -> BoxFuture<'static, Result<Inferred, InferError>>;
    /// Keeps labelled samples that were checked against [`TenantFront::spec`]; gives how many were kept.
    fn add_samples(&self, samples: AddSamples) -> BoxFuture<'static, Result<usize, SampleError>>;
    /// Keeps labels of requests that it answered; gives how many became samples.
    fn add_labels(&self, labels: AddLabels) -> BoxFuture<'static, Result<usize, SampleError>>;
    /// The model.
    fn spec(&self) -> &ModelSpec;
    /// Version in service; 0 = none yet.
    fn version(&self) -> u32;
    /// Whether an instance answers now.
    fn ready(&self) -> bool;
    /// What it has answered since the start.
    fn counts(&self) -> Counts;
    /// Requests that have no answer yet.
    fn pending(&self) -> u32;
    /// Puts the newest complete version of the store in service, if that is not the case; gives it.
    fn load(&self) -> BoxFuture<'static, Result<u32, String>>;
}

/// What every handler sees.
pub struct AppState {
    pub(crate) tenants: Roster,
    view: watch::Receiver<Arc<View>>,
    draining: Arc<AtomicBool>,
    leaving: AtomicBool,
    pub(crate) limits: Limits,
    pub(crate) trace: trace::Trace,
    /// Exports spans, where that is wanted.
    pub(crate) spans: Option<span::Spans>,
    /// Who may ask for what.
    access: ArcSwap<Access>,
    /// Whether every answer leaves a line in the log.
    pub(crate) access_log: bool,
    /// One what-if at a time.
    what_if: Arc<Semaphore>,
    /// Who reads the configuration again.
    wishes: Option<Wishes>,
}

/// Bounds of the front.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Largest request body, bytes.
    pub max_body: usize,
    /// Threads that answer HTTP.
    pub workers: usize,
    /// Seconds that connections get to finish when the server stops.
    pub drain_s: u64,
    /// Connections at once, all threads together; more wait to be accepted.
    pub connections: usize,
    /// Seconds that a connection may be idle between requests.
    pub idle_s: u64,
}

/// Seconds that the headers of a request may take to arrive.
const HEADERS_S: u64 = 5;

/// Who comes in by a port.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Door {
    /// Everybody: there is no other.
    Both,
    /// Tenants' clients.
    Public,
    /// Administrators, and everybody else.
    Admin,
}

/// Where and how to listen.
#[derive(Clone)]
pub struct Listen<'a> {
    /// Address.
    pub host: &'a str,
    /// Port; 0 = a free one.
    pub port: u16,
    /// Who comes in there.
    pub door: Door,
    /// TLS, where there is any.
    pub tls: Option<rustls::ServerConfig>,
}

impl Default for Limits {
    fn default() -> Self {
        Limits { max_body: 64 << 20, workers: 2, drain_s: 10, connections: 16_384, idle_s: 75 }
    }
}

impl AppState {
    /// Tenants by name; the view published by the coordinator; the flag that is raised when the server begins to drain.
    pub fn new(
        tenants: BTreeMap<String, Arc<dyn TenantFront>>,
        view: watch::Receiver<Arc<View>>,
        draining: Arc<AtomicBool>,
        limits: Limits,
    ) -> AppState {
        AppState {
            tenants: Roster::new(tenants),
            view,
            draining,
            leaving: AtomicBool::new(false),
            limits,
            trace: trace::Trace::default(),
            spans: None,
            access: ArcSwap::default(),
            access_log: false,
            what_if: Arc::new(Semaphore::new(1)),
            wishes: None,
        }
    }

    /// Whose wish to read the configuration again is heard there.
    pub fn reloaded_by(mut self, wishes: Wishes) -> AppState {
        self.wishes = Some(wishes);
        self
    }

    /// Serves one tenant more.
    pub fn join(&self, tenant: &str, front: Arc<dyn TenantFront>, quota: Quota, labels: Option<recent::Remember>) {
        self.tenants.join(tenant, front, quota, labels);
    }

    /// Serves a tenant no longer: from now on its name is unknown. Resolves when what was let in before is answered.
    pub fn leave_tenant(&self, name: &str) -> impl Future<Output = ()> + use<> {
        let tenant = self.tenants.leave(name);
        async move {
            if let Some(tenant) = tenant {
                tenant.gate.close().await;
            }
        }
    }

    /// Shows no series of a tenant that has left.
    pub fn forget_tenant(&self, name: &str) {
        self.tenants.forget(name);
    }

    /// With a line in the log for every answer.
    pub fn log_access(mut self, on: bool) -> AppState {
        self.access_log = on;
        self
    }

    /// With a tenant's answered requests remembered for labels that come later.
    pub fn remember(self, tenant: &str, how: recent::Remember) -> AppState {
        if let Some(tenant) = self.tenants.get(tenant) {
            let _ = tenant.recent.set(recent::Recent::new(how));
        }
        self
    }

    /// Exporting spans.
    pub fn spanned(mut self, spans: Option<span::Spans>) -> AppState {
        self.spans = spans;
        self
    }

    /// Exports the last spans; blocks.
    pub fn close(&self) {
        if let Some(spans) = &self.spans {
            spans.close();
        }
    }

    /// Goes by these keys and tokens from now on.
    pub fn set_access(&self, access: Access) {
        self.access.store(Arc::new(access));
    }

    /// Goes by this quota of a tenant from now on.
    pub fn set_quota(&self, tenant: &str, quota: Quota) {
        if let Some(tenant) = self.tenants.get(tenant) {
            tenant.gate.set(quota);
        }
    }

    /// Says "not ready" from now on, and goes on answering: whoever sends requests here gets time to notice.
    pub fn leave(&self) {
        self.leaving.store(true, Ordering::Relaxed);
    }

    /// Whether it was told to [`leave`](AppState::leave), or drains.
    pub(crate) fn leaving(&self) -> bool {
        self.leaving.load(Ordering::Relaxed) || self.draining()
    }

    /// The tenant that a name in a URL means: a tenant's name, or the name of a model that one tenant only serves.
    pub(crate) fn tenant(&self, name: &str) -> Result<Arc<Tenant>, ApiError> {
        self.tenants.meant(name)
    }

    /// Whether everybody may do everything.
    pub(crate) fn open(&self) -> bool {
        self.access.load().open()
    }

    /// Whether what a request says of itself (its header `Authorization`) is for this; a model's name means its tenant.
    ///
    /// # Errors
    /// 401 without a known key or a good token, 403 with one that is not for this.
    pub(crate) fn allow(&self, sent: Option<&str>, scope: Scope, model: Option<&str>) -> Result<(), ApiError> {
        let access = self.access.load();
        if access.open() {
            return Ok(());
        }
        let tenant = model.and_then(|name| self.tenant(name).ok());
        // What means no tenant stays as it is.
        access.check(sent, scope, tenant.as_ref().map(|tenant| tenant.name.as_str()).or(model))
    }

    /// The newest view.
    pub(crate) fn view(&self) -> Arc<View> {
        self.view.borrow().clone()
    }

    /// Whether the server is draining: new inference requests are refused with 503.
    pub fn draining(&self) -> bool {
        self.draining.load(Ordering::Relaxed)
    }
}

/// Starts to listen; gives the server (await it, or stop it by its handle) and the port it got. Signals are left to the caller.
///
/// # Errors
/// When the address cannot be bound; the message names it.
pub fn start(state: Arc<AppState>, listen: Listen<'_>) -> std::io::Result<(Server, u16)> {
    let Listen { host, port, door, tls } = listen;
    let limits = state.limits;
    let (state, door) = (web::Data::from(state), web::Data::new(door));
    let app = move || App::new().app_data(state.clone()).app_data(door.clone()).wrap(from_fn(guard::pass)).configure(route::routes);
    let server = HttpServer::new(app)
        .workers(limits.workers.max(1))
        .disable_signals()
        .shutdown_timeout(limits.drain_s)
        .max_connections(limits.connections.div_ceil(limits.workers.max(1)))
        .keep_alive(Duration::from_secs(limits.idle_s))
        .client_request_timeout(Duration::from_secs(HEADERS_S));
    let server = match tls {
        None => server.bind((host, port)),
        Some(tls) => server.bind_rustls_0_23((host, port), tls),
    };
    let server = server.map_err(|e| cannot_listen(host, port, &e))?;
    let port = server.addrs().first().map_or(port, std::net::SocketAddr::port);
    Ok((server.run(), port))
}

pub(crate) fn cannot_listen(host: &str, port: u16, error: &std::io::Error) -> std::io::Error {
    std::io::Error::new(error.kind(), format!("cannot listen on {host}:{port}: {error}"))
}
