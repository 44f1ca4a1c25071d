//! `migrator serve`: everything wired together, from the first log line to the last.

pub mod build;
pub(crate) mod device;
mod front;
mod golden;
mod maker;
mod profiled;
mod reload;
mod seat;
mod stop;
mod tls;

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use actix_web::dev::{Server, ServerHandle};
use anyhow::Context as _;
use metrics_exporter_prometheus::{Matcher, PrometheusBuilder, PrometheusHandle};
use migrator_actors::meter;
use sd_notify::NotifyState;
use tokio::runtime::Handle;
use tokio::sync::mpsc;

use crate::cli::ServeArgs;
use crate::config::Config;
use crate::grpc;
use crate::http::span::Spans;
use crate::http::{self, AppState, Door, Limits, Listen};

/// Serves until SIGINT or SIGTERM, then drains; exit code 0 when everything ended in order.
///
/// # Errors
/// One that names what could not be set up; nothing is left behind then.
pub fn run(args: ServeArgs) -> anyhow::Result<ExitCode> {
    let mut config = match Config::load(&args.config) {
        Ok(config) => config,
        Err(errors) => {
            eprintln!("{errors}");
            return Ok(ExitCode::FAILURE);
        }
    };
    args.apply(&mut config);
    actix::System::new().block_on(serve(config, args))
}

impl ServeArgs {
    /// Lets the flags go before the file.
    fn apply(&self, config: &mut Config) {
        let server = &mut config.server;
        server.http_port = self.http_port.unwrap_or(server.http_port);
        server.metrics_port = self.metrics_port.unwrap_or(server.metrics_port);
        server.grpc_port = self.grpc_port.unwrap_or(server.grpc_port);
        if let Some(dir) = &self.state_dir {
            server.state_dir.clone_from(dir);
        }
        config.planner.preload &= !self.no_preload;
    }
}

async fn serve(config: Config, args: ServeArgs) -> anyhow::Result<ExitCode> {
    // Before anything slow, so that a signal during start is not lost.
    let mut signals = stop::Signals::listen()?;
    let prometheus = recorder()?;
    crate::config::warnings(&config).iter().for_each(|warning| tracing::warn!("{warning}"));
    let setup = tokio::select! {
        setup = start(&config) => setup?,
        signal = signals.next_stop() => {
            tracing::info!(signal, "stopped while starting");
            return Ok(ExitCode::SUCCESS);
        }
    };
    let draining = Arc::new(AtomicBool::new(false));
    let (wishes, mut wished) = mpsc::channel(1);
    let opened = state(&config, &setup, Arc::clone(&draining)).and_then(|state| {
        let state = Arc::new(state.reloaded_by(wishes));
        Ports::open(&config, &state, prometheus).map(|ports| (state, ports))
    });
    let (state, ports) = match opened {
        Ok(opened) => opened,
        Err(error) => {
            setup.stop().await;
            return Err(error);
        }
    };
    let (certificate, leave) = (ports.certificate.clone(), Duration::from_secs_f64(config.server.leave_s));
    let drain_s = config.server.drain_s;
    println!("{}", ports.line(&config.server.host));
    notify(&[NotifyState::Ready]);
    let mut reload = reload::Reload { args, current: config, state: Arc::clone(&state), certificate };
    let mut refining = tokio::time::interval_at(tokio::time::Instant::now() + profiled::EVERY, profiled::EVERY);
    let signal = loop {
        let wish = tokio::select! {
            signal = signals.next() => if signal == stop::HANGUP { None } else { break signal },
            wish = wished.recv() => wish,
            _ = refining.tick() => {
                setup.refine().await;
                continue;
            }
        };
        let now = NotifyState::monotonic_usec_now();
        now.map_or_else(|_| notify(&[NotifyState::Reloading]), |now| notify(&[NotifyState::Reloading, now]));
        // New tenants are measured for seconds, which a stop does not wait for.
        let reloaded = tokio::select! {
            reloaded = reload.reload(&setup) => reloaded,
            signal = signals.stop() => break signal,
        };
        if let Some(wish) = wish {
            // Who asked may have hung up.
            let _ = wish.send(reloaded);
        }
        notify(&[NotifyState::Ready]);
    };
    notify(&[NotifyState::Stopping]);
    tracing::info!(signal, "draining");
    state.leave();
    tokio::select! {
        () = tokio::time::sleep(leave) => {}
        _ = signals.next_stop() => {}
    }
    draining.store(true, Ordering::Release);
    setup.refine().await;
    stop::drain(setup, ports, drain_s, signals).await;
    // It blocks, and what it waits for may need this thread.
    let _ = tokio::task::spawn_blocking(move || state.close()).await;
    tracing::info!("stopped");
    Ok(ExitCode::SUCCESS)
}

/// Tells systemd, where it started the server.
fn notify(states: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(false, states) {
        tracing::warn!(%error, "systemd could not be told");
    }
}

fn state(config: &Config, setup: &build::Setup, draining: Arc<AtomicBool>) -> anyhow::Result<AppState> {
    let limits = Limits {
        max_body: config.server.max_body_mib as usize * 1024 * 1024,
        workers: http_threads(),
        drain_s: config.server.drain_s.ceil() as u64,
        connections: config.server.max_connections as usize,
        idle_s: config.server.idle_s.ceil() as u64,
    };
    let otlp = config.server.otlp.as_ref();
    let spans = otlp.map(|otlp| Spans::open(otlp, Handle::current())).transpose().context("server.otlp")?;
    let state = AppState::new(setup.fronts.clone(), setup.view.clone(), draining, limits).log_access(config.server.access_log);
    let mut state = state.spanned(spans);
    state.set_access(reload::access(config)?);
    for (tenant, how) in config.tenants.iter().filter_map(|tenant| Some((tenant, reload::labels(tenant)?))) {
        state = state.remember(&tenant.name, how);
    }
    for tenant in &config.tenants {
        state.set_quota(&tenant.name, reload::quota(tenant));
    }
    Ok(state)
}

/// The ports that are open.
struct Ports {
    http: (ServerHandle, u16),
    admin: Option<(ServerHandle, u16)>,
    metrics: (ServerHandle, u16),
    grpc: grpc::Running,
    certificate: Option<Arc<tls::Certificate>>,
}

impl Ports {
    fn open(config: &Config, state: &Arc<AppState>, prometheus: PrometheusHandle) -> anyhow::Result<Ports> {
        let (server, host) = (&config.server, config.server.host.as_str());
        let certificate = server.tls.as_ref().map(tls::Certificate::open).transpose().context("server.tls")?;
        let tls = |protocols: &[&[u8]]| certificate.as_ref().map(|certificate| certificate.server(protocols)).transpose();
        // actix-web adds the protocols of HTTP itself.
        let listen = |port, door| anyhow::Ok(Listen { host, port, door, tls: tls(&[])? });
        let (door, admin) = match server.admin_port {
            None => (Door::Both, None),
            Some(port) => (Door::Public, Some(http::start(Arc::clone(state), listen(port, Door::Admin)?)?)),
        };
        let http = http::start(Arc::clone(state), listen(server.http_port, door)?)?;
        let metrics = http::metrics::start(prometheus, Some(Arc::clone(state)), host, server.metrics_port)?;
        let grpc = grpc::start(Arc::clone(state), host, server.grpc_port, tls(&[b"h2"])?)?;
        let run = |(server, port): (Server, u16)| {
            let handle = server.handle();
            actix::spawn(server);
            (handle, port)
        };
        Ok(Ports { http: run(http), admin: admin.map(run), metrics: run(metrics), grpc, certificate })
    }

    /// The line that says where the server listens.
    fn line(&self, host: &str) -> String {
        let admin = self.admin.as_ref().map(|(_, port)| format!(" admin={host}:{port}")).unwrap_or_default();
        let (http, metrics, grpc) = (self.http.1, self.metrics.1, self.grpc.address.port());
        format!("listening http={host}:{http} metrics={host}:{metrics} grpc={host}:{grpc}{admin}")
    }
}

async fn start(config: &Config) -> anyhow::Result<build::Setup> {
    build::build(config, build::Host::of(config)?).await
}

fn recorder() -> anyhow::Result<PrometheusHandle> {
    let buckets = |builder: PrometheusBuilder, name: &str, values: &[f64]| {
        builder.set_buckets_for_metric(Matcher::Full(name.to_owned()), values).context("histogram buckets")
    };
    let builder = buckets(PrometheusBuilder::new(), "migrator_request_seconds", &meter::LATENCY_BUCKETS_S)?;
    let builder = buckets(builder, "migrator_added_seconds", &meter::ADDED_BUCKETS_S)?;
    let builder = buckets(builder, "migrator_plan_solve_milliseconds", &meter::SOLVE_BUCKETS_MS)?;
    let builder = buckets(builder, "migrator_step_seconds", &meter::STEP_BUCKETS_S)?;
    let builder = buckets(builder, "migrator_reconfiguration_seconds", &meter::STEP_BUCKETS_S)?;
    let builder = buckets(builder, "migrator_reconfiguration_lost_service_seconds", &meter::STEP_BUCKETS_S)?;
    let builder = buckets(builder, "migrator_reconfiguration_idle_slice_seconds", &meter::STEP_BUCKETS_S)?;
    let handle = builder.install_recorder().context("the metrics recorder could not be installed")?;
    meter::describe();
    Ok(handle)
}

/// Threads that parse and answer HTTP: few, for the cores belong to the instances.
fn http_threads() -> usize {
    std::thread::available_parallelism().map_or(1, |cores| (cores.get() / 4).clamp(1, 8))
}

/// The worker binary: `MIGRATOR_WORKER`, else beside this program.
///
/// # Errors
/// When there is none; says how to build it.
pub fn worker_binary() -> anyhow::Result<PathBuf> {
    if let Some(path) = std::env::var_os("MIGRATOR_WORKER") {
        return Ok(path.into());
    }
    let program = std::env::current_exe().context("this program's own path is unknown")?;
    let beside = program.ancestors().skip(1).take(2).map(|folder| folder.join("migrator-worker")).find(|path| path.is_file());
    beside.with_context(|| {
        format!("no migrator-worker beside {}: build it with `make build`, or name it in MIGRATOR_WORKER", program.display())
    })
}
