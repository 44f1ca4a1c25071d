//! A running server.

use std::fs::File;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::mpsc;

use serde_json::Value;

use super::{Client, DEADLINE, Reply, bin, data, eventually, process};
use migrator_models::reader::Row;

/// Lines of its log that are shown when a test fails.
const TAIL: usize = 30;

/// A running server; killed when dropped, and none of its workers may outlive it.
pub struct Server {
    child: Child,
    mark: String,
    log: PathBuf,
    /// The inference protocol and `/v1`.
    pub http: Client,
    /// `/metrics`.
    pub metrics: Client,
}

impl Server {
    pub(super) fn start(config: &Path, state: &Path, log: PathBuf) -> Server {
        let (mut child, mark) = spawn(config, state, &log);
        let listening = listening(&mut child);
        // From here on a failure cleans up after itself.
        let nowhere = Client::new("0.0.0.0:0");
        let mut server = Server { child, mark, log, http: nowhere.clone(), metrics: nowhere };
        let line = listening.recv_timeout(DEADLINE).expect("the server did not say where it listens");
        let (http, metrics) = line.strip_prefix("listening http=").and_then(|rest| rest.split_once(" metrics=")).expect(&line);
        let metrics = metrics.split(' ').next().unwrap_or_default();
        (server.http, server.metrics) = (Client::new(http), Client::new(metrics));
        eventually("every tenant is served", || (server.http.get("/v2/health/ready").status == 200).then_some(()));
        // `/v1` shows the view, which is published once a second: it says so a little later.
        eventually("the server shows every tenant as served", || {
            let seen = server.http.json("/v1/tenants");
            let tenants = seen["tenants"].as_array().unwrap();
            (!tenants.is_empty() && tenants.iter().all(|tenant| tenant["ready"] == true)).then_some(())
        });
        server
    }

    /// Starts one and kills it as soon as `when`, however far it has come; none of its processes is left then.
    pub(super) fn killed(config: &Path, state: &Path, log: PathBuf, what: &str, when: impl Fn() -> bool) {
        let (mut child, mark) = spawn(config, state, &log);
        let _output = listening(&mut child);
        let nowhere = Client::new("0.0.0.0:0");
        let mut server = Server { child, mark, log, http: nowhere.clone(), metrics: nowhere };
        eventually(what, || when().then_some(()));
        server.signal("KILL");
        server.ended();
        server.nothing_left();
    }

    /// Its process.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Its worker processes.
    pub fn workers(&self) -> Vec<u32> {
        process::marked(&self.mark).into_iter().filter(|pid| *pid != self.pid()).collect()
    }

    /// What it has logged.
    pub fn log(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap()
    }

    /// One tenant, as `/v1/tenants/{tenant}` shows it.
    pub fn tenant(&self, name: &str) -> Value {
        self.http.json(&format!("/v1/tenants/{name}"))
    }

    /// Instances that serve a tenant's requests now, by worker process.
    pub fn serving(&self, tenant: &str) -> Vec<u32> {
        let partition = self.http.json("/v1/partition");
        let gpus = partition["gpus"].as_array().unwrap();
        let instances = gpus.iter().flat_map(|gpu| gpu["instances"].as_array().unwrap());
        let own = instances.filter(|i| i["tenant"] == tenant && i["task"] == "inference" && i["state"] == "serving");
        own.filter_map(|i| i["pid"].as_u64()).map(|pid| pid as u32).collect()
    }

    /// Value of a series: the sum over its labels that contain `label`; 0 when there is none.
    pub fn metric(&self, name: &str, label: &str) -> f64 {
        let text = self.metrics.get("/metrics").text();
        let lines = text.lines().filter(|line| !line.starts_with('#') && line.contains(label));
        let values = lines.filter(|line| line.split(['{', ' ']).next() == Some(name));
        values.map(|line| line.rsplit(' ').next().unwrap().parse::<f64>().unwrap()).sum()
    }

    /// Asks for the classes of rows.
    pub fn infer(&self, tenant: &str, rows: &[Row]) -> Reply {
        self.http.post(&format!("/v2/models/{tenant}/infer"), data::request(rows).to_string())
    }

    /// Classes of rows, asked for a batch at a time.
    pub fn classes(&self, tenant: &str, rows: &[Row]) -> Vec<u32> {
        rows.chunks(8).flat_map(|rows| data::classes(&self.infer(tenant, rows).ok(tenant))).collect()
    }

    /// Sends a signal.
    pub fn signal(&self, name: &str) {
        process::signal(self.pid(), name);
    }

    /// Waits for its end.
    pub fn ended(&mut self) -> ExitStatus {
        let child = &mut self.child;
        eventually("the server ends", || child.try_wait().unwrap())
    }

    /// Waits until no process of it is left.
    pub fn nothing_left(&self) {
        eventually("no process of the server is left", || process::marked(&self.mark).is_empty().then_some(()));
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        if std::thread::panicking() {
            let log = self.log();
            let lines: Vec<&str> = log.lines().collect();
            eprintln!("last lines of the server's log:\n{}", lines[lines.len().saturating_sub(TAIL)..].join("\n"));
            process::marked(&self.mark).into_iter().for_each(|pid| process::signal(pid, "KILL"));
            return;
        }
        self.nothing_left();
    }
}

/// The process, and what its own processes are known by.
fn spawn(config: &Path, state: &Path, log: &Path) -> (Child, String) {
    static STARTED: AtomicU32 = AtomicU32::new(0);
    let mark = format!("{}-{}", std::process::id(), STARTED.fetch_add(1, Ordering::Relaxed));
    let file = File::options().create(true).append(true).open(log).unwrap();
    let mut command = Command::new(bin("migrator"));
    command.args(["--log", "info", "serve", "--http-port", "0", "--metrics-port", "0", "--grpc-port", "0"]);
    command.arg("--config").arg(config).arg("--state-dir").arg(state);
    command.env(process::MARK, &mark).env("NO_COLOR", "1").stdin(Stdio::null()).stdout(Stdio::piped()).stderr(file);
    (command.spawn().unwrap(), mark)
}

/// The first line of its output; the rest is read and dropped, so that it never blocks on a full pipe.
fn listening(child: &mut Child) -> mpsc::Receiver<String> {
    let lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let (tell, told) = mpsc::channel();
    std::thread::spawn(move || {
        for line in lines.map_while(Result::ok) {
            let _ = tell.send(line);
        }
    });
    told
}
