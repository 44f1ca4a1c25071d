//! `migrator serve`: everything wired together, from the first log line to the last.

pub mod build;
mod device;
mod front;
mod stop;

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::Context as _;
use metrics_exporter_prometheus::{Matcher, PrometheusBuilder, PrometheusHandle};
use migrator_actors::meter;

use crate::cli::ServeArgs;
use crate::config::Config;
use crate::grpc;
use crate::http::{self, AppState, Limits};

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
    config.server.http_port = args.http_port.unwrap_or(config.server.http_port);
    config.server.metrics_port = args.metrics_port.unwrap_or(config.server.metrics_port);
    config.server.grpc_port = args.grpc_port.unwrap_or(config.server.grpc_port);
    config.planner.preload &= !args.no_preload;
    if let Some(dir) = args.state_dir {
        config.server.state_dir = dir;
    }
    actix::System::new().block_on(serve(config))
}

async fn serve(config: Config) -> anyhow::Result<ExitCode> {
    // Before anything slow, so that a signal during start is not lost.
    let mut signals = stop::Signals::listen()?;
    let prometheus = recorder()?;
    let setup = tokio::select! {
        setup = start(&config) => setup?,
        signal = signals.next() => {
            tracing::info!(signal, "stopped while starting");
            return Ok(ExitCode::SUCCESS);
        }
    };
    let draining = Arc::new(AtomicBool::new(false));
    let limits = Limits {
        max_body: config.server.max_body_mib as usize * 1024 * 1024,
        workers: http_threads(),
        drain_s: config.server.drain_s.ceil() as u64,
    };
    let fronts = setup.fronts.clone();
    let state = Arc::new(AppState::new(fronts, setup.view.clone(), Arc::clone(&draining), limits));
    let (server, host) = (&config.server, &config.server.host);
    let listening = http::start(Arc::clone(&state), host, server.http_port).and_then(|http| {
        let metrics = http::metrics::start(prometheus, Some(Arc::clone(&state)), host, server.metrics_port)?;
        Ok((http, metrics, grpc::start(state, host, server.grpc_port)?))
    });
    let ((server, http_port), (metrics_server, metrics_port), grpc) = match listening {
        Ok(listening) => listening,
        Err(error) => {
            setup.stop().await;
            return Err(error.into());
        }
    };
    let handles = (server.handle(), metrics_server.handle());
    actix::spawn(server);
    actix::spawn(metrics_server);
    let grpc_port = grpc.address.port();
    println!("listening http={host}:{http_port} metrics={host}:{metrics_port} grpc={host}:{grpc_port}");
    let signal = signals.next().await;
    tracing::info!(signal, "draining");
    draining.store(true, Ordering::Release);
    stop::drain(setup, handles, grpc, config.server.drain_s, signals).await;
    tracing::info!("stopped");
    Ok(ExitCode::SUCCESS)
}

async fn start(config: &Config) -> anyhow::Result<build::Setup> {
    build::build(config, build::Host::of(config)?).await
}

fn recorder() -> anyhow::Result<PrometheusHandle> {
    let buckets = |builder: PrometheusBuilder, name: &str, values: &[f64]| {
        builder.set_buckets_for_metric(Matcher::Full(name.to_owned()), values).context("histogram buckets")
    };
    let builder = buckets(PrometheusBuilder::new(), "migrator_request_seconds", &meter::LATENCY_BUCKETS_S)?;
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
