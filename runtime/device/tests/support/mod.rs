//! Child processes that burn, hog or work periodically, and what they used. A child is this test binary itself, which runs
//! its ignored test `child` with the job in the environment.
#![allow(dead_code, reason = "each test binary uses a part")]
#![allow(clippy::disallowed_methods, reason = "enforcement is measured over wall time")]

use std::fs;
use std::hint::black_box;
use std::io::{BufRead, BufReader, Read, Write};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use migrator_device::{CpuDevice, CpuOptions, Device, Enforcement, Instance};
use migrator_mig::{Placement, Site};

/// No child outlives this, whatever happens to the test.
const LIFETIME: Duration = Duration::from_secs(40);

/// A running child.
pub struct Job {
    child: Child,
    stdin: Option<ChildStdin>,
    stdout: BufReader<ChildStdout>,
}

impl Job {
    /// Starts a child that waits for [`Job::go`]: `burn <threads>`, `hog <mib>`, `beat <cpu us> <every us>`.
    pub fn start(job: &str) -> Job {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["child", "--exact", "--ignored", "--nocapture"])
            .env("JOB", job)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let (stdin, stdout) = (child.stdin.take(), BufReader::new(child.stdout.take().unwrap()));
        let mut job = Job { child, stdin, stdout };
        job.read_line("ready");
        job
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    pub fn go(&mut self) {
        self.stdin.as_mut().unwrap().write_all(b"go\n").unwrap();
    }

    /// The next line of the form `<tag> <rest>`; what the test harness prints is skipped. `None` when the child is gone.
    pub fn read_line(&mut self, tag: &str) -> Option<String> {
        let mut line = String::new();
        while self.stdout.read_line(&mut line).unwrap_or(0) > 0 {
            // The harness prints `test child ... ` without a line end before the first line of ours.
            if let Some(at) = line.find(&format!("@{tag}")) {
                return Some(line[at + tag.len() + 1..].trim().to_owned());
            }
            line.clear();
        }
        None
    }

    /// Ends it and returns its result.
    pub fn finish(&mut self) -> Option<String> {
        drop(self.stdin.take());
        let result = self.read_line("result");
        let _ = self.child.wait();
        result
    }

    pub fn kill(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    /// CPU time used so far, s.
    pub fn cpu_s(&self) -> f64 {
        let tasks = fs::read_dir(format!("/proc/{}/task", self.pid())).into_iter().flatten().flatten();
        let ns =
            |task: fs::DirEntry| -> Option<u64> { fs::read_to_string(task.path().join("schedstat")).ok()?.split(' ').next()?.parse().ok() };
        tasks.filter_map(ns).sum::<u64>() as f64 / 1e9
    }
}

impl Drop for Job {
    fn drop(&mut self) {
        self.kill();
    }
}

/// The body of the ignored test `child`.
pub fn child() {
    let Ok(job) = std::env::var("JOB") else { return };
    thread::spawn(|| {
        thread::sleep(LIFETIME);
        std::process::exit(3);
    });
    say("ready");
    let mut line = String::new();
    std::io::stdin().read_line(&mut line).unwrap();
    let words: Vec<&str> = job.split(' ').collect();
    let number = |at: usize| words[at].parse::<u64>().unwrap();
    match words[0] {
        "burn" => burn(number(1)),
        "hog" => hog(number(1) as usize),
        _ => beat(Duration::from_micros(number(1)), Duration::from_micros(number(2))),
    }
    std::process::exit(0);
}

fn say(line: &str) {
    let mut out = std::io::stdout().lock();
    writeln!(out, "@{line}").unwrap();
    out.flush().unwrap();
}

/// True once the parent closed our input.
fn watch_input() -> &'static AtomicBool {
    static ENDED: AtomicBool = AtomicBool::new(false);
    thread::spawn(|| {
        let _ = std::io::stdin().read_to_end(&mut Vec::new());
        ENDED.store(true, Ordering::Relaxed);
    });
    &ENDED
}

fn burn(threads: u64) {
    static LOOPS: AtomicU64 = AtomicU64::new(0);
    let ended = watch_input();
    let busy: Vec<_> = (0..threads)
        .map(|_| {
            thread::spawn(move || {
                while !ended.load(Ordering::Relaxed) {
                    work(1000);
                    LOOPS.fetch_add(1, Ordering::Relaxed);
                }
            })
        })
        .collect();
    let began = Instant::now();
    busy.into_iter().for_each(|thread| thread.join().unwrap());
    say(&format!("result {}", LOOPS.load(Ordering::Relaxed) as f64 / began.elapsed().as_secs_f64()));
}

fn work(rounds: u64) {
    let mut x = 1_u64;
    for _ in 0..rounds {
        x = black_box(x.wrapping_mul(6364136223846793005).wrapping_add(1));
    }
}

/// Touches memory 4 MiB by 4 MiB; says how far it came after each.
fn hog(mib: usize) {
    let mut held: Vec<Vec<u8>> = Vec::new();
    while held.len() * 4 < mib {
        let mut block: Vec<u8> = Vec::new();
        if block.try_reserve_exact(4 << 20).is_err() {
            break;
        }
        block.resize(4 << 20, 1);
        held.push(black_box(block));
        say(&format!("held {}", held.len() * 4));
    }
    say("stop");
    let _ = std::io::stdin().read_to_end(&mut Vec::new());
    say(&format!("result {}", held.len() * 4));
}

/// `cpu` of work every `every`; result: latencies in µs, sorted.
fn beat(cpu: Duration, every: Duration) {
    let rounds = rounds_of(cpu);
    let ended = watch_input();
    let mut latencies = Vec::new();
    let mut due = Instant::now();
    while !ended.load(Ordering::Relaxed) {
        due += every;
        thread::sleep(due.saturating_duration_since(Instant::now()));
        work(rounds);
        latencies.push(due.elapsed().as_micros() as u64);
        // A late beat delays the following ones instead of piling up.
        due = due.max(Instant::now() - every);
    }
    latencies.sort_unstable();
    let text: Vec<String> = latencies.iter().map(u64::to_string).collect();
    say(&format!("result {}", text.join(" ")));
}

/// Rounds of [`work`] that take `cpu`: the best of many tries, since the child is limited and disturbed.
fn rounds_of(cpu: Duration) -> u64 {
    let time = |rounds| {
        let began = Instant::now();
        work(rounds);
        began.elapsed().as_nanos() as f64
    };
    let best = (0..200).map(|_| time(100_000)).fold(f64::INFINITY, f64::min);
    (100_000.0 * cpu.as_nanos() as f64 / best) as u64
}

/// Cores used by a child over a stretch of wall time, and cores idle meanwhile among `cores`.
pub fn usage(job: &Job, cores: &[usize], wall: Duration) -> (f64, f64) {
    let (began, cpu, idle) = (Instant::now(), job.cpu_s(), idle_s(cores));
    thread::sleep(wall);
    let elapsed = began.elapsed().as_secs_f64();
    ((job.cpu_s() - cpu) / elapsed, (idle_s(cores) - idle) / elapsed)
}

/// Idle time of these cores since boot, s.
fn idle_s(cores: &[usize]) -> f64 {
    let text = fs::read_to_string("/proc/stat").unwrap();
    let ticks = |core: &usize| {
        let line = text.lines().find(|line| line.starts_with(&format!("cpu{core} "))).unwrap();
        line.split_whitespace().skip(4).take(2).map(|t| t.parse::<u64>().unwrap()).sum::<u64>()
    };
    cores.iter().map(ticks).sum::<u64>() as f64 / 100.0
}

/// A device with its own state folder, or `None` after saying why there is none.
pub fn device(enforcement: Enforcement, change: impl FnOnce(&mut CpuOptions)) -> Option<(CpuDevice, tempfile::TempDir)> {
    let state = tempfile::tempdir().unwrap();
    let mut options = CpuOptions { enforcement, state_dir: Some(state.path().to_owned()), ..CpuOptions::default() };
    change(&mut options);
    match CpuDevice::new(options) {
        Ok(device) => Some((device, state)),
        Err(why) if enforcement == Enforcement::Cgroup => {
            println!("skipped: {why}");
            None
        }
        Err(why) => panic!("{why}"),
    }
}

/// The site of the profile with `slices` compute slices at `start`.
pub fn site(device: &CpuDevice, slices: u8, start: u8) -> Site {
    let catalog = &device.gpus()[0].catalog;
    let profile = catalog.by_name(&format!("{slices}g")).unwrap();
    Site { placement: Placement { start, size: catalog.profile(profile).memory_slices }, profile }
}

/// Creates an instance.
pub fn create(device: &CpuDevice, slices: u8, start: u8) -> Instance {
    device.create(0, site(device, slices, start)).unwrap()
}

/// Cores that a process may run on.
pub fn affinity(pid: u32) -> Vec<usize> {
    let pid = rustix::process::Pid::from_raw(pid as i32);
    let set = rustix::thread::sched_getaffinity(pid).unwrap();
    (0..1024).filter(|&core| set.is_set(core)).collect()
}
