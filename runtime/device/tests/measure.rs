//! How well the `cpu` device isolates; prints numbers, asserts nothing. On a quiet machine:
//! `cargo test --release -p migrator-device --test measure -- --ignored --nocapture --test-threads 1 measure`
#![allow(clippy::disallowed_methods, reason = "the measurements take wall time")]
#![allow(clippy::unwrap_used, reason = "helpers of tests fail as tests do")]

mod support;

use std::collections::BTreeSet;
use std::thread::sleep;
use std::time::{Duration, Instant};

use migrator_device::{CpuDevice, CpuOptions, Device, Enforcement, Instance};
use support::{Job, affinity, create, device, usage};

#[test]
#[ignore = "the body of child processes"]
fn child() {
    support::child();
}

/// Work per second of a burner in an instance, per core of its share, against that of 1g.
#[test]
#[ignore = "a measurement"]
fn measure_proportionality() {
    for enforcement in [Enforcement::Cgroup, Enforcement::Duty] {
        let Some((device, _state)) = device(enforcement, |_| {}) else { continue };
        println!("{}", device.describe());
        let mut unit = None;
        for slices in [1, 2, 3, 4, 7] {
            let instance = create(&device, slices, 0);
            for threads in BTreeSet::from([1, instance.share.ceil().max(1.0) as u64]) {
                let (rate, used, idle) = (0..2).map(|_| burn(&device, &instance, threads)).max_by(|a, b| a.0.total_cmp(&b.0)).unwrap();
                let per_core = rate / instance.share.min(threads as f64);
                let unit = *unit.get_or_insert(per_core);
                let relative = per_core / unit;
                println!(
                    "{slices}g share {:.2}: {threads} threads {rate:7.0}/s, {used:.3} cores, {relative:.3} of 1g per core ({idle:.2} idle)",
                    instance.share
                );
            }
            device.destroy(instance.id).unwrap();
        }
    }
}

fn burn(device: &CpuDevice, instance: &Instance, threads: u64) -> (f64, f64, f64) {
    let mut job = Job::start(&format!("burn {threads}"));
    device.bind(instance.id, job.pid()).unwrap();
    job.go();
    let cores = affinity(job.pid());
    let (used, idle) = usage(&job, &cores, Duration::from_millis(800));
    (job.finish().unwrap().parse().unwrap(), used, idle)
}

/// Latency of a periodic task in 1g on core 0, alone and with neighbours at full load.
#[test]
#[ignore = "a measurement"]
fn measure_neighbours() {
    for (enforcement, period_ms, pin) in settings() {
        let Some((device, _state)) = device(enforcement, |o: &mut CpuOptions| {
            o.period_ms = period_ms;
            o.pin = pin;
        }) else {
            continue;
        };
        println!("{enforcement:?}, period {period_ms} ms, pin {pin}");
        for (cpu_us, every_us) in [(2000, 20_000), (6000, 40_000)] {
            let task = format!("beat {cpu_us} {every_us}");
            println!("  {task} in 1g alone              {}", beat(&device, &task, Place::Instance, &[], 0));
            println!("  {task} in 1g, 3 × 1g same core  {}", beat(&device, &task, Place::Instance, &[(1, 1), (1, 2), (1, 3)], 0));
            println!("  {task} in 1g, all others full   {}", beat(&device, &task, Place::Instance, &[(1, 1), (2, 2), (3, 4)], 0));
            println!("  {task} in 1g, 2 staged busy     {}", beat(&device, &task, Place::Instance, &[], 2));
        }
    }
}

/// Latency of a periodic task outside all instances, as the server is, with all cores' instances at full load.
#[test]
#[ignore = "a measurement"]
fn measure_server() {
    for (enforcement, period_ms, pin) in settings() {
        let Some((device, _state)) = device(enforcement, |o: &mut CpuOptions| {
            o.period_ms = period_ms;
            o.pin = pin;
        }) else {
            continue;
        };
        println!("{enforcement:?}, period {period_ms} ms, pin {pin}");
        for task in ["beat 1000 10000", "beat 200 2000"] {
            for (full, staged) in [(&[][..], 0), (&[(4, 0), (3, 4)][..], 0), (&[(4, 0), (3, 4)][..], 2)] {
                let result = beat(&device, task, Place::Server, full, staged);
                println!("  {task} outside, {} full, {staged} staged  {result}", full.len());
            }
        }
    }
}

fn settings() -> Vec<(Enforcement, u32, bool)> {
    let Ok(periods) = std::env::var("PERIODS") else {
        return vec![(Enforcement::Cgroup, 10, true), (Enforcement::Duty, 10, true)];
    };
    let pins = if std::env::var("NO_PIN").is_ok() { vec![true, false] } else { vec![true] };
    let periods: Vec<u32> = periods.split(',').map(|p| p.parse().unwrap()).collect();
    periods.iter().flat_map(|&period| pins.iter().map(move |&pin| (Enforcement::Cgroup, period, pin))).collect()
}

#[derive(PartialEq)]
enum Place {
    Instance,
    Server,
}

fn beat(device: &CpuDevice, task: &str, place: Place, full: &[(u8, u8)], staged: usize) -> String {
    let mut job = Job::start(task);
    job.go();
    // It finds out how much work its CPU time is, before it is limited.
    sleep(Duration::from_millis(120));
    let mut instances: Vec<Instance> = Vec::new();
    if place == Place::Instance {
        instances.push(create(device, 1, 0));
        device.bind(instances[0].id, job.pid()).unwrap();
    }
    let mut others: Vec<Job> = Vec::new();
    for &(slices, start) in full {
        let instance = create(device, slices, start);
        let other = Job::start("burn 2");
        device.bind(instance.id, other.pid()).unwrap();
        instances.push(instance);
        others.push(other);
    }
    for _ in 0..staged {
        let other = Job::start("burn 1");
        device.stage(other.pid()).unwrap();
        others.push(other);
    }
    others.iter_mut().for_each(Job::go);
    let began = Instant::now();
    sleep(Duration::from_millis(2000));
    let neighbours: f64 = others.iter().map(Job::cpu_s).sum::<f64>() / began.elapsed().as_secs_f64();
    let result = job.finish().unwrap();
    drop(others);
    instances.iter().for_each(|i| device.destroy(i.id).unwrap());
    format!("{} (others use {neighbours:.2} cores)", quantiles(&result))
}

fn quantiles(result: &str) -> String {
    let us: Vec<u64> = result.split(' ').filter_map(|t| t.parse().ok()).collect();
    let at = |q: f64| us[((us.len() - 1) as f64 * q) as usize] as f64 / 1000.0;
    format!("n {:3} p50 {:5.1} p90 {:5.1} p99 {:5.1} max {:5.1} ms", us.len(), at(0.5), at(0.9), at(0.99), at(1.0))
}
