//! What no single key can tell: whether the parts of a configuration agree with each other.

use migrator_models::{Architecture, Source as ModelSource};

use super::source::{ConfigErrors, Source};
use super::{Compute, Config, DeviceConfig, DeviceKind, TenantConfig};

/// Adds every disagreement.
pub(super) fn check(source: &Source<'_>, config: &Config, errors: &mut ConfigErrors) {
    let mut found: Vec<(String, String)> = Vec::new();
    ports(config, &mut found);
    keys(config, &mut found);
    policy(config, &mut found);
    device(&config.device, &mut found);
    for (index, tenant) in config.tenants.iter().enumerate() {
        names(config, index, tenant, &mut found);
        retraining(config, index, tenant, &mut found);
        model(index, tenant, &mut found);
        golden(index, tenant, &mut found);
    }
    errors.0.extend(found.into_iter().map(|(key, message)| source.at(&key, message)));
}

fn keys(config: &Config, found: &mut Vec<(String, String)>) {
    if let Some(otlp) = &config.server.otlp
        && !otlp.endpoint.starts_with("http://")
    {
        found.push(("server.otlp.endpoint".to_owned(), "must begin with http://: spans are sent without TLS".to_owned()));
    }
    for (index, key) in config.server.keys.iter().enumerate() {
        let at = format!("server.keys[{index}]");
        if key.hash().is_none() {
            found.push((format!("{at}.sha256"), "must be the SHA-256 of a key: 64 hexadecimal digits".to_owned()));
        }
        for tenant in key.tenants.iter().filter(|name| !config.tenants.iter().any(|tenant| tenant.name == **name)) {
            found.push((format!("{at}.tenants"), format!("{tenant:?} is no tenant")));
        }
    }
    for (index, tenant) in config.tenants.iter().enumerate() {
        if tenant.burst.is_some() && tenant.rate_rps.is_none() {
            found.push((format!("tenants[{index}].burst"), "needs rate_rps".to_owned()));
        }
        if tenant.patience_ms.is_some_and(|patience| patience < tenant.slo_ms) {
            found.push((format!("tenants[{index}].patience_ms"), format!("must be at least slo_ms, which is {}", tenant.slo_ms)));
        }
    }
}

fn policy(config: &Config, found: &mut Vec<(String, String)>) {
    if let Err(error) = migrator_solver::policy(config.planner.policy, &migrator_solver::Facts::default()) {
        found.push(("planner.policy".to_owned(), error.to_string()));
    }
}

fn device(device: &DeviceConfig, found: &mut Vec<(String, String)>) {
    let mut complain = |key: &str, message: &str| found.push((format!("device.{key}"), message.to_owned()));
    let default = DeviceConfig::default();
    match device.kind {
        DeviceKind::Nvidia if device.gpus.is_empty() => {
            complain(
                "kind",
                "needs device.gpus: the GPUs that may be cut up, by index, UUID or PCI bus id (`migrator gpu list` shows them)",
            );
        }
        DeviceKind::Nvidia => {
            if device.gpu_times {
                complain("gpu_times", "is for kind = \"cpu\": a GPU takes its own time");
            }
            if device.memory_mib.is_some() {
                complain("memory_mib", "is for kind = \"cpu\": a GPU has its own memory");
            }
            if device.compute == Compute::Cuda && device.cores.is_some() {
                complain("cores", "is for kind = \"cpu\" or compute = \"host\"");
            }
        }
        DeviceKind::Cpu => {
            let given = [
                ("gpus", !device.gpus.is_empty()),
                ("library", device.library.is_some()),
                ("compute", device.compute != default.compute),
                ("take_over", device.take_over),
            ];
            for (key, _) in given.iter().filter(|(_, given)| *given) {
                complain(key, "is for kind = \"nvidia\"");
            }
        }
    }
}

fn ports(config: &Config, found: &mut Vec<(String, String)>) {
    let server = &config.server;
    let ports = [
        ("http_port", server.http_port),
        ("metrics_port", server.metrics_port),
        ("grpc_port", server.grpc_port),
        ("admin_port", server.admin_port.unwrap_or(0)),
    ];
    for (index, (key, port)) in ports.iter().enumerate() {
        if let Some((other, _)) = ports[..index].iter().find(|(_, taken)| taken == port && *port != 0) {
            found.push((format!("server.{key}"), format!("must differ from server.{other}, which is {port}; 0 picks a free one")));
        }
    }
}

fn names(config: &Config, index: usize, tenant: &TenantConfig, found: &mut Vec<(String, String)>) {
    for (other_index, other) in config.tenants[..index].iter().enumerate() {
        if other.name == tenant.name {
            found.push((format!("tenants[{index}].name"), format!("must be unique; tenants[{other_index}] has this name too")));
        } else if other.model.name == tenant.model.name && other.model != tenant.model {
            let message = format!("must be unique, or the same model as that of tenant {:?} in every key", other.name);
            found.push((format!("tenants[{index}].model.name"), message));
        } else if other.model == tenant.model && config.retraining_of(other).enabled && config.retraining_of(tenant).enabled {
            let message = format!(
                "is retrained by tenant {:?} too: give each its own model name, or set retraining.enabled = false in one",
                other.name
            );
            found.push((format!("tenants[{index}].model.name"), message));
        }
    }
}

fn retraining(config: &Config, index: usize, tenant: &TenantConfig, found: &mut Vec<(String, String)>) {
    let effective = config.retraining_of(tenant);
    let own = &tenant.retraining;
    let mut complain = |key: &str, overridden: bool, message: String| {
        let table = if overridden { format!("tenants[{index}].retraining") } else { "retraining".to_owned() };
        let entry = (format!("{table}.{key}"), message);
        if !found.contains(&entry) {
            found.push(entry);
        }
    };
    if effective.max_samples < effective.min_samples {
        let overridden = own.max_samples.is_some() || own.min_samples.is_some();
        complain("max_samples", overridden, format!("must be at least min_samples, which is {}", effective.min_samples));
    }
    if effective.stored_samples < effective.max_samples {
        let overridden = own.stored_samples.is_some() || own.max_samples.is_some();
        complain("stored_samples", overridden, format!("must be at least max_samples, which is {}", effective.max_samples));
    }
    // A retraining learns from the samples of up to two windows.
    let least_days = 2.0 * effective.window_s / 86_400.0;
    if effective.stored_days.is_some_and(|days| days < least_days) {
        complain("stored_days", own.stored_days.is_some(), format!("must be at least two windows, {least_days:.4} days"));
    }
    let held_out = f64::from(effective.min_samples) * effective.held_out_share;
    if held_out < 1.0 {
        let overridden = own.held_out_share.is_some() || own.min_samples.is_some();
        let least = 1.0 / f64::from(effective.min_samples);
        complain(
            "held_out_share",
            overridden,
            format!("must hold out at least one of {} samples, so at least {least:.3}", effective.min_samples),
        );
    }
}

fn golden(index: usize, tenant: &TenantConfig, found: &mut Vec<(String, String)>) {
    let Some(golden) = &tenant.golden else { return };
    let mut complain = |key: &str, message: &str| found.push((format!("tenants[{index}].golden{key}"), message.to_owned()));
    match (&golden.model, &golden.file) {
        (None, None) => complain("", "needs model (its name in the store) or file"),
        (Some(_), Some(_)) => complain(".file", "is for a model that is not in the store: give model or file"),
        (Some(_), None) if golden.source.is_some() => complain(".source", "is for a file: the store knows what its models are"),
        _ => {}
    }
}

fn model(index: usize, tenant: &TenantConfig, found: &mut Vec<(String, String)>) {
    match &tenant.model.source {
        ModelSource::Architecture { architecture } => {
            let mut complain =
                |message: &str| found.push((format!("tenants[{index}].model.source.architecture.input"), message.to_owned()));
            match architecture {
                Architecture::Cnn { input: [_, h, w], .. } if *h < 8 || *w < 8 => {
                    complain("must be at least 8 high and 8 wide: it is pooled three times");
                }
                Architecture::Resnet18 { input: [c, h, w] } | Architecture::MobilenetV2 { input: [c, h, w] }
                    if *c != 3 || *h < 32 || *w < 32 =>
                {
                    complain("must have 3 channels and be at least 32 high and 32 wide");
                }
                _ => {}
            }
        }
        ModelSource::Torchscript { inputs } => {
            for (i, input) in inputs.iter().enumerate().filter(|(i, input)| inputs[..*i].iter().any(|o| o.name == input.name)) {
                found.push((
                    format!("tenants[{index}].model.source.inputs[{i}].name"),
                    format!("must be unique; another input is called {:?}", input.name),
                ));
            }
        }
    }
}
