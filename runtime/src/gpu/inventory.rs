//! `migrator gpu list` and `state`: the GPUs of this host and what is on them.

use migrator_device::nvml::{Found, FoundInstance};

/// A line for each GPU.
pub(super) fn list(found: &[Found]) -> String {
    let mut text = format!("{:<5} {:<32} {:>10} {:<4} {:<13} {:<20} UUID\n", "index", "product", "memory MiB", "cc", "MIG", "catalog");
    for gpu in found {
        let board = gpu.board.as_deref().unwrap_or("none shipped");
        let (index, memory, capability) = (gpu.index, gpu.memory_mib, &gpu.compute_capability);
        text += &format!("{index:<5} {:<32} {memory:>10} {capability:<4} {:<13} {board:<20} {}\n", gpu.product, mode(gpu), gpu.uuid);
    }
    if let Some(gpu) = found.first() {
        text += &format!("driver {}, CUDA up to {}\n", gpu.driver, gpu.cuda);
    }
    for gpu in found {
        for line in gpu.differences.iter().chain(&gpu.troubles) {
            text += &format!("GPU {}: {line}\n", gpu.index);
        }
    }
    text
}

fn mode(gpu: &Found) -> &'static str {
    match gpu.mig {
        None => "none",
        Some(mode) => match (mode.on, mode.pending) {
            (true, true) => "on",
            (false, false) => "off",
            (true, false) => "off at reset",
            (false, true) => "on at reset",
        },
    }
}

/// What each GPU is cut into.
pub(super) fn state(found: &[Found]) -> String {
    let mut text = String::new();
    for gpu in found {
        let sites: Vec<String> = gpu.instances.iter().map(site).collect();
        let partition = match (&gpu.mig, sites.is_empty()) {
            (Some(mode), true) if mode.on => "empty".to_owned(),
            (None, true) => "not cut up, it has no MIG".to_owned(),
            (Some(_), true) => format!("not cut up, MIG is {}", mode(gpu)),
            _ => sites.join(" "),
        };
        text += &format!("GPU {} ({}): {partition}\n", gpu.index, gpu.product);
        for instance in &gpu.instances {
            text += &describe(instance);
        }
        for trouble in &gpu.troubles {
            text += &format!("  {trouble}\n");
        }
    }
    text
}

fn site(instance: &FoundInstance) -> String {
    format!("{}@{}", instance.profile, instance.placement.start)
}

fn describe(instance: &FoundInstance) -> String {
    let head = format!("  {:<16} GPU instance {}", site(instance), instance.gi);
    if instance.compute.is_empty() {
        return format!("{head}, half made: no compute instance\n");
    }
    let mut text = String::new();
    for compute in &instance.compute {
        let uuid = compute.uuid.as_deref().unwrap_or("no UUID");
        let processes: Vec<String> = compute.processes.iter().map(u32::to_string).collect();
        let processes = if processes.is_empty() { "idle".to_owned() } else { format!("processes {}", processes.join(", ")) };
        text += &format!("{head}, compute instance {}, {uuid}: {processes}\n", compute.ci);
    }
    text
}
