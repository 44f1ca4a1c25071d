//! "What if": the live problem with some of its values replaced.

use migrator_solver::{Problem, SolveOptions};
use serde_json::{Map, Value};

use super::file::ProblemFile;
use super::read::read;

/// What a body is called in messages.
const BODY: &str = "body";

/// The problem that a body asks about: with a list of `tenants` (or as TOML) the whole problem, else `live` with the body's keys in place of its own.
///
/// Objects are merged key by key and `null` removes a key, as RFC 7396 has it; `tenants` is an object by name, and a tenant's demand is
/// replaced as a whole.
///
/// # Errors
/// One line that names the key.
pub fn ask(live: &ProblemFile, body: &[u8]) -> Result<(Problem, SolveOptions), String> {
    let text = std::str::from_utf8(body).map_err(|error| format!("the body is not UTF-8: {error}"))?;
    if text.trim_start().starts_with('{') || text.trim().is_empty() {
        let json: Value = if text.trim().is_empty() { Value::Object(Map::new()) } else { parse(text)? };
        return from_json(live, json);
    }
    read(BODY, text).map_err(|errors| errors.to_string().replace('\n', "; "))
}

fn parse(text: &str) -> Result<Value, String> {
    serde_json::from_str(text).map_err(|error| format!("the body is not JSON: {error}"))
}

fn from_json(live: &ProblemFile, body: Value) -> Result<(Problem, SolveOptions), String> {
    let whole = body.get("tenants").is_some_and(Value::is_array);
    let mut asked = if whole { body } else { merged(live, body)? };
    prune(&mut asked);
    let text = toml::to_string(&asked).map_err(|error| format!("the body cannot be read: {error}"))?;
    read(BODY, &text).map_err(|errors| {
        // The lines are those of the TOML made here, which the asker has never seen.
        let lines = errors.0.into_iter().map(|error| crate::config::ConfigError { line: 0, ..error }.to_string());
        lines.collect::<Vec<_>>().join("; ")
    })
}

fn merged(live: &ProblemFile, body: Value) -> Result<Value, String> {
    let mut base = serde_json::to_value(live).map_err(|error| format!("the live problem cannot be written: {error}"))?;
    let Value::Object(mut patch) = body else { return Err("the body must be an object".to_owned()) };
    if let Some(tenants) = patch.remove("tenants") {
        let Value::Object(tenants) = tenants else { return Err("tenants: must be an object by name, or a list of all tenants".to_owned()) };
        for (name, change) in tenants {
            tenant(&mut base, &name, change)?;
        }
    }
    merge(&mut base, Value::Object(patch));
    Ok(base)
}

fn tenant(base: &mut Value, name: &str, change: Value) -> Result<(), String> {
    let Some(Value::Array(entries)) = base.get_mut("tenants") else { return Ok(()) };
    let position = entries.iter().position(|entry| entry["name"] == name);
    match (position, change) {
        (Some(position), Value::Null) => {
            entries.remove(position);
            release(base, name);
        }
        (Some(position), Value::Object(change)) => merge(&mut entries[position], Value::Object(change)),
        (None, Value::Object(mut change)) if ["demand_rps", "capacity_rps", "accuracy"].iter().all(|key| change.contains_key(*key)) => {
            change.insert("name".to_owned(), name.into());
            entries.push(Value::Object(change));
        }
        (None, _) => {
            let names: Vec<&str> = entries.iter().filter_map(|entry| entry["name"].as_str()).collect();
            let known = names.join(", ");
            return Err(format!(
                "tenants.{name}: no such tenant; there are {known}. A new one needs demand_rps, capacity_rps and accuracy"
            ));
        }
        (Some(_), other) => return Err(format!("tenants.{name} = {other}: must be an object, or null for a tenant that leaves")),
    }
    Ok(())
}

/// The instances of a tenant that leaves stay, in reserve.
fn release(base: &mut Value, name: &str) {
    let Some(Value::Array(instances)) = base.get_mut("instances") else { return };
    for instance in
        instances.iter_mut().filter_map(Value::as_object_mut).filter(|instance| instance.get("tenant").is_some_and(|t| t == name))
    {
        instance.remove("tenant");
        instance.remove("task");
    }
}

/// Keys that hold one value, whatever its form.
const ATOMIC: [&str; 4] = ["demand_rps", "rps", "create_s", "destroy_s"];

fn merge(base: &mut Value, patch: Value) {
    match (base, patch) {
        (Value::Object(base), Value::Object(patch)) => {
            for (key, value) in patch {
                if ATOMIC.contains(&key.as_str()) {
                    base.insert(key, value);
                } else {
                    merge(base.entry(key).or_insert(Value::Null), value);
                }
            }
        }
        (base, patch) => *base = patch,
    }
}

/// TOML has no null: what is null is not there.
fn prune(value: &mut Value) {
    match value {
        Value::Object(object) => {
            object.retain(|_, value| !value.is_null());
            object.values_mut().for_each(prune);
        }
        Value::Array(items) => items.iter_mut().for_each(prune),
        _ => {}
    }
}
