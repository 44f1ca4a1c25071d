//! The demo: the real server with three tenants on drifting data, driven over HTTP with load that bursts and shifts.
//!
//! Knows the server as any client does: by its command line and by HTTP. Read in the order [`setting`], [`prepare`], [`server`],
//! [`demand`], [`screen`], [`story`].

mod demand;
mod prepare;
mod screen;
mod seen;
mod server;
mod setting;
mod story;

use std::process::ExitCode;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context, Result, anyhow, bail};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::{oneshot, watch};
use tokio::time::{MissedTickBehavior, interval};

use self::demand::{Demand, TURN_S};
use self::screen::Screen;
use self::seen::Seen;
use self::server::Server;
use self::setting::Setting;
use self::story::Published;
use crate::cli::DemoArgs;
use crate::load::target::Target;
use crate::load::{Arrivals, LoadPlan, LoadReport, Progress, Samples, Stop, TenantLoad, run_plan};

/// The last window's retraining runs in the window after it; the demo waits this much longer for it, as a share of a window.
const GRACE: f64 = 0.5;
/// Share of the requests whose label comes back.
const LABEL_SHARE: f64 = 0.2;
/// Drift of the data in one retraining window.
const DRIFT_PER_WINDOW: f64 = 1.0;
/// The load draws other samples than those the first versions were trained on.
const STREAM: u64 = 1;

/// `migrator demo`.
///
/// # Errors
/// One line that says what went wrong and what to do.
pub fn run(args: DemoArgs) -> Result<ExitCode> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().context("cannot start the demo")?;
    runtime.block_on(demo(args))
}

async fn demo(args: DemoArgs) -> Result<ExitCode> {
    let mut interrupted = interrupts()?;
    let setting = Setting::new(args)?;
    eprintln!("training the first version of {} models on data generated for seed {}", setting.kinds.len(), setting.args.seed);
    tokio::select! {
        trained = prepare::first_versions(&setting) => trained?,
        () = raised(&mut interrupted) => return Ok(ExitCode::from(130)),
    }
    eprintln!("starting the server");
    let mut server = tokio::select! {
        server = Server::start(&setting) => server?,
        () = raised(&mut interrupted) => return Ok(ExitCode::from(130)),
    };
    println!("serving on {}, metrics on {}/metrics; try: curl '{}/v1/plan?format=text'", server.http, server.metrics, server.http);
    let told = drive(&setting, &mut server, &mut interrupted).await;
    match &told {
        Ok(story) => println!("{story}"),
        Err(error) => eprintln!("error: {error:#}"),
    }
    if told.is_ok() && !setting.args.exit && !*interrupted.borrow() {
        println!("still serving on {}; Ctrl-C ends it", server.http);
        tokio::select! {
            ended = server.wait() => bail!("the server ended by itself ({})", ended?),
            () = raised(&mut interrupted) => {}
        }
    }
    server.stop().await?;
    Ok(if told.is_ok() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Turns true with the first SIGINT or SIGTERM.
fn interrupts() -> Result<watch::Receiver<bool>> {
    let catch = |kind| signal(kind).context("signals cannot be caught");
    let (mut interrupt, mut terminate) = (catch(SignalKind::interrupt())?, catch(SignalKind::terminate())?);
    let (sender, receiver) = watch::channel(false);
    tokio::spawn(async move {
        loop {
            tokio::select! { _ = interrupt.recv() => {}, _ = terminate.recv() => {} }
            sender.send_replace(true);
        }
    });
    Ok(receiver)
}

async fn raised(interrupted: &mut watch::Receiver<bool>) {
    // The sender lives as long as the runtime.
    let _ = interrupted.wait_for(|raised| *raised).await;
}

/// Drives the server through the windows and tells what happened.
async fn drive(setting: &Setting, server: &mut Server, interrupted: &mut watch::Receiver<bool>) -> Result<String> {
    let target = Target::new(&server.http)?;
    let seen = Seen::look(&target).await?;
    let cores = std::thread::available_parallelism().map_or(1.0, |n| n.get() as f64);
    let demands = demand::fit(&seen, &setting.kinds, cores, setting.args.scale).map_err(|what| anyhow!(what))?;
    announce(&demands, setting);
    let plan = plan(setting, server, &demands, &seen);
    let mut watcher = Watcher::new(plan.stop.clone(), setting.args.windows as usize, demands.len(), plan.duration.as_secs_f64());
    let mut load = start(plan, watcher.progress.clone())?;
    let mut second = interval(Duration::from_secs(1));
    second.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let report = loop {
        tokio::select! {
            report = &mut load => break report.context("the load generator broke")?,
            _ = second.tick() => watcher.look(&target, server).await?,
            () = raised(interrupted), if !watcher.stop.raised() => watcher.stop.raise(),
        }
    };
    watcher.finish(report?, server, &target).await
}

fn announce(demands: &[Demand], setting: &Setting) {
    let peak =
        |d: &Demand| format!("{} up to {:.0} req/s", d.kind.name(), (0..60).map(|t| d.rps(f64::from(t) * TURN_S)).fold(0.0, f64::max));
    let peaks: Vec<String> = demands.iter().map(peak).collect();
    let (windows, window_s) = (setting.args.windows, setting.window_s());
    println!("demand fitted to this host: {}; every {TURN_S:.0} s another tenant bursts", peaks.join(", "));
    println!("{windows} retraining windows of {window_s:.0} s; the data drift all the time");
}

fn plan(setting: &Setting, server: &Server, demands: &[Demand], seen: &Seen) -> LoadPlan {
    let window_s = setting.window_s();
    let duration_s = (f64::from(setting.args.windows) + GRACE) * window_s - seen.window.elapsed_s;
    let tenant = |&demand: &Demand| TenantLoad {
        tenant: demand.kind.name().to_owned(),
        arrivals: Arrivals::Rate(Arc::new(move |at_s| demand.rps(at_s))),
        samples: Samples::Drifting {
            kind: demand.kind,
            seed: setting.args.seed,
            stream: STREAM,
            drift: Arc::new(move |at_s| at_s / window_s * DRIFT_PER_WINDOW),
        },
        label_share: LABEL_SHARE,
        slo_ms: None,
    };
    let plan = LoadPlan::new(&server.http, demands.iter().map(tenant).collect(), Duration::from_secs_f64(duration_s.max(window_s)));
    LoadPlan { seed: setting.args.seed, ..plan }
}

/// Runs the load on a thread of its own: its clock must not wait for the screen.
fn start(plan: LoadPlan, progress: Arc<Mutex<Progress>>) -> Result<oneshot::Receiver<Result<LoadReport>>> {
    let (sender, receiver) = oneshot::channel();
    let observe = move |now: &Progress| *progress.lock().unwrap_or_else(PoisonError::into_inner) = now.clone();
    let work = move || {
        // Nobody waits any more when the demo has failed meanwhile.
        let _ = sender.send(run_plan(&plan, observe));
    };
    std::thread::Builder::new().name("load".to_owned()).spawn(work).context("cannot start the load generator")?;
    Ok(receiver)
}

/// Looks at the server once a second while the load runs.
struct Watcher {
    stop: Stop,
    windows: usize,
    screen: Screen,
    progress: Arc<Mutex<Progress>>,
    seen: Seen,
    published: Published,
}

impl Watcher {
    fn new(stop: Stop, windows: usize, tenants: usize, duration_s: f64) -> Self {
        let screen = Screen::new(tenants, duration_s);
        Watcher { stop, windows, screen, progress: Arc::default(), seen: Seen::default(), published: Published::new() }
    }

    /// Ends the load once every tenant has had its windows.
    async fn look(&mut self, target: &Target, server: &mut Server) -> Result<()> {
        if let Some(status) = server.ended()? {
            self.stop.raise();
            bail!("the server ended under load ({status}); run again with --state-dir DIR and see server.log there");
        }
        // A look that fails is made up for by the next.
        let Ok(seen) = Seen::look(target).await else { return Ok(()) };
        let progress = self.progress.lock().unwrap_or_else(PoisonError::into_inner).clone();
        for tenant in &seen.tenants {
            self.published.entry((tenant.name.clone(), tenant.version)).or_insert(progress.elapsed_s);
        }
        self.screen.show(&progress, &seen);
        let served =
            |t: &seen::Tenant| t.windows.last().and_then(|w| w.published).is_none_or(|version| self.settled(&t.name, version, &progress));
        if seen.tenants.iter().all(|t| t.windows.len() >= self.windows && served(t)) {
            self.stop.raise();
        }
        self.seen = seen;
        Ok(())
    }

    /// Whether a version has been in service long enough to measure it.
    fn settled(&self, tenant: &str, version: u32, progress: &Progress) -> bool {
        let since = self.published.get(&(tenant.to_owned(), version));
        since.is_some_and(|since| progress.elapsed_s - since > story::ENOUGH_S)
    }

    async fn finish(self, report: LoadReport, server: &Server, target: &Target) -> Result<String> {
        self.screen.clear();
        let seen = Seen::look(target).await.unwrap_or(self.seen);
        let metrics = Target::new(&server.metrics)?.get("/metrics").await.map(|(_, body)| body).unwrap_or_default();
        Ok(story::tell(&report, &seen, &self.published, &String::from_utf8_lossy(&metrics)))
    }
}
