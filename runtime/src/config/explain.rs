//! A configuration in plain words: what is cut up, what each tenant takes and gives, what the store holds for it.

use std::collections::BTreeMap;
use std::fmt::Write;

use migrator_models::store::{Latest, Store};
use migrator_models::{Architecture, ModelSpec, Source, TensorSpec};

use migrator_solver::PolicyName;

use super::{Config, DeviceConfig, DeviceKind, PlannerConfig, RetrainingConfig, TenantConfig};
use crate::storage::look;

/// Compute slices of the `cpu` device's profiles.
const SLICES: [u8; 5] = [1, 2, 3, 4, 7];

/// A configuration explained.
#[derive(Debug, Default)]
pub struct Explanation {
    /// For an operator, several lines.
    pub text: String,
    /// What keeps the server from running well, one line each.
    pub problems: Vec<String>,
}

/// Writing into a `String` cannot fail.
macro_rules! line {
    ($out:expr, $($arg:tt)*) => {{
        let _ = writeln!($out, $($arg)*);
    }};
}

/// Explains a configuration for a host of this many cores; looks into the store and the samples, and changes neither.
pub fn explain(config: &Config, host_cores: f64) -> Explanation {
    let mut explanation = Explanation::default();
    let text = &mut explanation.text;
    server(text, config);
    for warning in warnings(config) {
        line!(text, "  beware: {warning}");
    }
    device(text, &config.device, host_cores, &mut explanation.problems);
    planner(text, &config.planner);
    retraining(text, &config.retraining);
    let held = Held::look(config, &mut explanation.problems);
    for tenant in &config.tenants {
        describe(text, config, tenant);
        held.describe(text, tenant, &mut explanation.problems);
    }
    explanation
}

/// What an operator may have overlooked; one line each.
pub fn warnings(config: &Config) -> Vec<String> {
    let server = &config.server;
    let inside = server.host == "localhost" || server.host.parse::<std::net::IpAddr>().is_ok_and(|address| address.is_loopback());
    let (keys, tls) = (!server.keys.is_empty() || server.jwt.is_some(), server.tls.is_some());
    let mut found = Vec::new();
    match (inside, keys, tls) {
        (true, ..) | (false, true, true) => {}
        (false, false, _) => found.push(format!(
            "server.host = {:?} is open to others and there are neither server.keys nor server.jwt: whoever reaches it may do everything",
            server.host
        )),
        (false, true, false) => found.push(format!(
            "server.host = {:?} is open to others and there is no server.tls: keys and tokens can be read on the way",
            server.host
        )),
    }
    found
}

fn server(out: &mut String, config: &Config) {
    let s = &config.server;
    let port = |port: u16| if port == 0 { "a free port".to_owned() } else { format!("port {port}") };
    line!(out, "Server");
    let (http, grpc, metrics) = (port(s.http_port), port(s.grpc_port), port(s.metrics_port));
    line!(out, "  {}: requests at {http}, over gRPC at {grpc}, metrics at {metrics}", s.host);
    line!(
        out,
        "  bodies of up to {} MiB; {} s to finish when it is stopped; state in {}",
        s.max_body_mib,
        s.drain_s,
        s.state_dir.display()
    );
}

fn device(out: &mut String, device: &DeviceConfig, host_cores: f64, problems: &mut Vec<String>) {
    let carved = device.cores.unwrap_or(host_cores - device.reserved_cores);
    line!(out, "Device");
    if device.kind == DeviceKind::Nvidia {
        let library = device.library.as_ref().map_or("libnvidia-ml.so.1".to_owned(), |path| path.display().to_string());
        line!(out, "  NVIDIA GPUs {}, cut by MIG through {library}; no other GPU is changed", device.gpus.join(", "));
        let foreign = if device.take_over { "removed at the start where nothing uses them" } else { "planned around" };
        line!(out, "  instances that somebody else made there are {foreign}");
        if !device.computes_on_host() {
            return;
        }
        line!(out, "  instances compute on the host: {carved:.2} of its {host_cores} cores, by compute slices");
    }
    if carved <= 0.0 {
        problems.push(format!("device.reserved_cores = {}: this host has {host_cores} cores, which leaves none", device.reserved_cores));
        return;
    }
    if carved > host_cores {
        problems.push(format!("device.cores = {carved}: this host has {host_cores} cores only"));
    }
    if device.kind == DeviceKind::Nvidia {
        return;
    }
    let shares: Vec<String> = SLICES.iter().map(|&g| format!("{g}g {:.2}", carved * f64::from(g) / 7.0)).collect();
    line!(out, "  {carved:.2} of this host's {host_cores} cores, cut like an A100; cores by profile: {}", shares.join(", "));
    match device.memory_mib {
        Some(mib) => line!(out, "  {mib} MiB of memory in 8 slices of {} MiB", mib / 8),
        None => line!(out, "  what memory is free at the start, in 8 slices"),
    }
    if device.gpu_times {
        line!(out, "  creating and destroying an instance takes as long as on an A100");
    }
}

/// What another's policy does.
fn rival(policy: PolicyName) -> &'static str {
    match policy {
        PolicyName::Ekya => "shares stolen for mean accuracy, at each window's start and at the end of each retraining",
        PolicyName::Astraea => "shares that carry every tenant's peak, retrainings on what is left, whenever the load changes",
        PolicyName::Paris => "one partition a window by batch sizes, requests to the smallest instance in time (ELSA)",
        PolicyName::StaticEven => "as many slices for each tenant, cut once",
        PolicyName::Miso => "one instance per task by mean slowdown, cut anew when a retraining begins or ends",
        PolicyName::Parvagpu => "the smallest instances that carry each tenant's rate, cut at each window's start",
        _ => "not for a live server",
    }
}

fn planner(out: &mut String, p: &PlannerConfig) {
    line!(out, "Planner");
    match p.policy {
        PolicyName::Keep => line!(out, "  keeps the first partition for ever"),
        PolicyName::Migrator => {
            line!(out, "  integer program every {} s, {} s ahead, stopped after {} ms", p.slot_s, p.horizon_s, p.time_limit_ms);
            line!(out, "  demand is forecast by {}", p.forecast)
        }
        PolicyName::Greedy => line!(out, "  greedy every {} s, {} s ahead", p.slot_s, p.horizon_s),
        other => line!(out, "  {other}: {}; asked every {} s", rival(other), p.slot_s),
    }
    let preload = if p.preload { "made ready before a switch" } else { "not made ready before a switch" };
    line!(out, "  changes at most every {} s and for a gain of at least {} %; workers are {preload}", p.dwell_s, p.min_gain * 100.0);
}

fn retraining(out: &mut String, r: &RetrainingConfig) {
    line!(out, "Retraining");
    let size = r.stored_mib.map(|mib| format!(", {mib} MiB")).unwrap_or_default();
    let age = r.stored_days.map(|days| format!(", {days} days")).unwrap_or_default();
    line!(out, "  windows of {} s; at most {} samples{size}{age} kept per tenant", r.window_s, r.stored_samples);
}

fn describe(out: &mut String, config: &Config, tenant: &TenantConfig) {
    line!(out, "Tenant {}", tenant.name);
    line!(
        out,
        "  answers within {} ms; weight {}, at least {} requests/s, at most {} waiting",
        tenant.slo_ms,
        tenant.weight,
        tenant.floor_rps,
        tenant.queue
    );
    let model = &tenant.model;
    line!(out, "  model {}: {}", model.name, kind(&model.source));
    for input in model.inputs() {
        line!(out, "    takes {}, up to {} rows", tensor(&input), model.max_batch);
    }
    line!(out, "    gives {}, one logit per class", tensor(&model.output()));
    let r = config.retraining_of(tenant);
    if !r.enabled {
        line!(out, "  is not retrained");
        return;
    }
    line!(
        out,
        "  retrained on {} to {} new samples and {} % as many older ones, {} % held out; published when better by {}",
        r.min_samples,
        r.max_samples,
        r.replay_share * 100.0,
        r.held_out_share * 100.0,
        r.min_gain
    );
}

fn kind(source: &Source) -> String {
    match source {
        Source::Torchscript { .. } => "TorchScript file".to_owned(),
        Source::Architecture { architecture } => match architecture {
            Architecture::Mlp { features, hidden } => format!("MLP, {features} features, hidden layers {hidden:?}"),
            Architecture::Cnn { width, .. } => format!("small CNN, {width} channels first"),
            Architecture::Resnet18 { .. } => "ResNet-18".to_owned(),
            Architecture::MobilenetV2 { .. } => "MobileNetV2".to_owned(),
            Architecture::TextClassifier { vocabulary, max_tokens, embedding } => {
                format!("text classifier, {vocabulary} words, {max_tokens} tokens, embeddings of {embedding}")
            }
        },
    }
}

/// `INPUT0 FP32 [rows, 1, 16, 16]`.
fn tensor(spec: &TensorSpec) -> String {
    let dims: Vec<String> = std::iter::once("rows".to_owned()).chain(spec.shape.iter().map(u32::to_string)).collect();
    format!("{} {} [{}]", spec.name, spec.datatype.name(), dims.join(", "))
}

/// What is on disk.
struct Held {
    store: Option<Store>,
    samples: BTreeMap<String, u64>,
}

impl Held {
    fn look(config: &Config, problems: &mut Vec<String>) -> Held {
        let root = config.server.models_dir();
        let mut keep = |problem: String| problems.push(problem);
        let store = if root.exists() { Store::open(&root).map_err(|e| keep(format!("model store: {e}"))).ok() } else { None };
        let samples = look::counts(&config.server.samples_file()).map_err(|e| keep(format!("samples: {e}"))).unwrap_or_default();
        Held { store, samples }
    }

    fn describe(&self, out: &mut String, tenant: &TenantConfig, problems: &mut Vec<String>) {
        let samples = self.samples.get(&tenant.name).copied().unwrap_or(0);
        let latest = self.store.as_ref().map_or_else(|| Ok(Latest::default()), |s| s.latest(&tenant.model.name));
        let latest = match latest {
            Ok(latest) => latest,
            Err(error) => {
                problems.push(format!("tenant {}: model store: {error}", tenant.name));
                Latest::default()
            }
        };
        for (version, why) in &latest.skipped {
            problems.push(format!("tenant {}: version {version} of {} is not usable: {why}", tenant.name, tenant.model.name));
        }
        match latest.found {
            // What it is computed in is no matter of the version.
            Some(manifest) if (ModelSpec { precision: tenant.model.precision, ..manifest.spec.clone() }) != tenant.model => {
                let (name, version) = (&tenant.model.name, manifest.version);
                problems.push(format!("tenant {}: version {version} of {name} in the store is of another description", tenant.name));
            }
            Some(manifest) => {
                let accuracy = manifest.accuracy_after.map(|a| format!(", accuracy {a:.3} when it was made")).unwrap_or_default();
                line!(out, "  store: version {}{accuracy}; {samples} labelled samples", manifest.version);
            }
            None => line!(out, "  store: no version yet ({}); {samples} labelled samples", first_version(tenant)),
        }
    }
}

fn first_version(tenant: &TenantConfig) -> &'static str {
    match tenant.model.source {
        Source::Architecture { .. } => "`migrator models train` makes the first",
        Source::Torchscript { .. } => "`migrator models import` brings in the first",
    }
}
