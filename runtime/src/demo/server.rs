//! The real server as a child process.

use std::fs::File;
use std::net::TcpListener;
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use rustix::process::{Pid, Signal, kill_process};
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{Child, Command};
use tokio::time::{Instant, sleep, timeout};

use super::seen::Seen;
use super::setting::Setting;
use crate::load::target::Target;

/// The server measures its models before it listens, on shares of few cores.
const START: Duration = Duration::from_secs(180);
/// Longer than a server that drains may take.
const AFTER_DRAIN: Duration = Duration::from_secs(10);
/// Lines of the server's log that are shown when it fails.
const TAIL: usize = 12;

/// A running server; dropping it kills it.
pub(super) struct Server {
    child: Child,
    /// The inference protocol, `http://host:port`.
    pub http: String,
    /// Where `/metrics` is, `http://host:port`.
    pub metrics: String,
    drain: Duration,
}

impl Server {
    /// Starts it and waits until every tenant is served.
    ///
    /// # Errors
    /// When it ends, or is not ready in time; with the end of its log.
    pub(super) async fn start(setting: &Setting) -> Result<Self> {
        let mut child = spawn(setting)?;
        let deadline = Instant::now() + START;
        let listening = timeout(START, listening(&mut child)).await;
        let (http, metrics) = match listening {
            Ok(Ok(ports)) => ports,
            Ok(Err(error)) => bail!("{error:#}\n{}", tail(setting)),
            Err(_) => bail!("the server did not listen within {} s\n{}", START.as_secs(), tail(setting)),
        };
        let drain = Duration::from_secs_f64(setting.config.server.drain_s);
        let mut server = Server { child, http, metrics, drain };
        server.ready(setting, deadline).await?;
        Ok(server)
    }

    async fn ready(&mut self, setting: &Setting, deadline: Instant) -> Result<()> {
        let target = Target::new(&self.http)?;
        loop {
            if let Some(status) = self.ended()? {
                bail!("the server ended while starting ({status})\n{}", tail(setting));
            }
            let seen = Seen::look(&target).await.unwrap_or_default();
            if seen.ready() && seen.tenants.iter().all(|tenant| tenant.capacity_rps > 0.0 && seen.slices(&tenant.name) > 0) {
                return Ok(());
            }
            if Instant::now() > deadline {
                let missing: Vec<&str> = seen.tenants.iter().filter(|t| !t.ready).map(|t| t.name.as_str()).collect();
                bail!("not ready within {} s, waiting for {}\n{}", START.as_secs(), missing.join(", "), tail(setting));
            }
            sleep(Duration::from_millis(200)).await;
        }
    }

    /// How it ended, if it has.
    ///
    /// # Errors
    /// When the system cannot tell.
    pub(super) fn ended(&mut self) -> Result<Option<ExitStatus>> {
        self.child.try_wait().context("the server's process cannot be watched")
    }

    /// Waits until it ends by itself.
    ///
    /// # Errors
    /// When the system cannot tell.
    pub(super) async fn wait(&mut self) -> Result<ExitStatus> {
        self.child.wait().await.context("the server's process cannot be watched")
    }

    /// Asks it to drain and end, and waits for it; kills it when that takes too long.
    ///
    /// # Errors
    /// When it had to be killed or did not end in order.
    pub(super) async fn stop(mut self) -> Result<()> {
        let Some(pid) = self.child.id().and_then(|id| Pid::from_raw(id as i32)) else { return Ok(()) };
        // It may have ended by itself just now, or been asked already: Ctrl-C reaches the whole terminal.
        let _ = kill_process(pid, Signal::TERM);
        match timeout(self.drain + AFTER_DRAIN, self.child.wait()).await {
            Ok(Ok(status)) if status.success() => Ok(()),
            Ok(Ok(status)) => bail!("the server did not end in order ({status})"),
            Ok(Err(error)) => Err(error).context("the server's process cannot be watched"),
            Err(_) => {
                self.child.kill().await.context("the server cannot be killed")?;
                bail!("the server did not end within {} s and was killed", (self.drain + AFTER_DRAIN).as_secs())
            }
        }
    }
}

fn spawn(setting: &Setting) -> Result<Child> {
    let program = std::env::current_exe().context("this program's own path is unknown")?;
    let log = setting.state.log();
    let file = File::create(&log).with_context(|| format!("{}: cannot be written", log.display()))?;
    let (args, server) = (&setting.args, &setting.config.server);
    let mut command = Command::new(program);
    command.args(["--log", "info", "serve"]).arg("--config").arg(&setting.config_file).arg("--state-dir").arg(setting.state.path());
    command.args(["--http-port", &port(args.http_port, server.http_port, &server.host).to_string()]);
    command.args(["--grpc-port", &port(None, server.grpc_port, &server.host).to_string()]);
    command.args(["--metrics-port", &port(args.metrics_port, server.metrics_port, &server.host).to_string()]);
    if args.no_preload {
        command.arg("--no-preload");
    }
    // The log is a file: no colours in it.
    command.env("NO_COLOR", "1").stdin(Stdio::null()).stdout(Stdio::piped()).stderr(file).kill_on_drop(true);
    command.spawn().context("cannot start the server")
}

/// The port asked for; without one the file's, unless somebody has it: then a free one.
fn port(asked: Option<u16>, configured: u16, host: &str) -> u16 {
    asked.unwrap_or_else(|| if TcpListener::bind((host, configured)).is_ok() { configured } else { 0 })
}

/// Reads `listening http=HOST:PORT metrics=HOST:PORT` from the server's output; what follows is read and dropped, so that it never
/// blocks on a full pipe.
async fn listening(child: &mut Child) -> Result<(String, String)> {
    let stdout = child.stdout.take().context("the server has no output")?;
    let mut lines = BufReader::new(stdout).lines();
    while let Some(line) = lines.next_line().await.context("the server's output cannot be read")? {
        if let Some(ports) = parse_listening(&line) {
            tokio::spawn(async move { while let Ok(Some(_)) = lines.next_line().await {} });
            return Ok(ports);
        }
    }
    bail!("the server ended before it listened ({})", child.wait().await.context("the server's process cannot be watched")?)
}

fn parse_listening(line: &str) -> Option<(String, String)> {
    let (http, metrics) = line.strip_prefix("listening http=")?.split_once(" metrics=")?;
    let metrics = metrics.split_whitespace().next()?;
    Some((format!("http://{}", http.trim()), format!("http://{}", metrics.trim())))
}

/// The end of the server's log, for a person who must find out what went wrong.
fn tail(setting: &Setting) -> String {
    let log = std::fs::read_to_string(setting.state.log()).unwrap_or_default();
    let lines: Vec<&str> = log.lines().collect();
    let last = &lines[lines.len().saturating_sub(TAIL)..];
    format!("last lines of its log (keep it with --state-dir DIR):\n  {}", last.join("\n  "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_ports_are_read_from_the_servers_line() {
        let ports = parse_listening("listening http=127.0.0.1:8000 metrics=127.0.0.1:8002").unwrap();
        assert_eq!(ports, ("http://127.0.0.1:8000".to_owned(), "http://127.0.0.1:8002".to_owned()));
        assert_eq!(parse_listening("loading"), None);
    }

    #[test]
    fn a_port_in_use_is_replaced_unless_it_was_asked_for() {
        let taken = TcpListener::bind("127.0.0.1:0").unwrap();
        let number = taken.local_addr().unwrap().port();
        assert_eq!(port(None, number, "127.0.0.1"), 0);
        assert_eq!(port(Some(number), 1, "127.0.0.1"), number);
    }
}
