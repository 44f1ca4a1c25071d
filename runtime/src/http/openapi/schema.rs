//! What the bodies of calls must hold, as far as a schema can say it: what fits the model is only known to the model.

use serde_json::{Value, json};
use utoipa::openapi::schema::{AdditionalProperties, ObjectBuilder, Schema, SchemaType};

use crate::http::setting::Logging;
use crate::plan;

/// The schema of a call's body.
pub(super) fn of(path: &str) -> Schema {
    let properties = match path.rsplit('/').next() {
        Some("infer") => return object(inference(), &["inputs"], true),
        Some("samples") => return object(samples(), &["samples"], true),
        Some("setting") => return object(trace(), &[], false),
        Some("logging") => return object(logging(), &[], false),
        Some("labels") => return object(labels(), &["labels"], false),
        Some("what-if") => return what_if(),
        Some("index") => json!({ "ready": { "type": "boolean" } }),
        _ => json!({ "parameters": { "type": "object" } }),
    };
    object(properties, &[], true)
}

fn object(properties: Value, required: &[&str], more: bool) -> Schema {
    let mut schema = json!({ "type": "object", "properties": properties, "required": required });
    if !more {
        schema["additionalProperties"] = false.into();
    }
    // What is written here is read by a test for every call.
    serde_json::from_value(schema).unwrap_or_else(|_| ObjectBuilder::new().build().into())
}

/// Any value at the keys that a problem has.
fn what_if() -> Schema {
    let any = || ObjectBuilder::new().schema_type(SchemaType::AnyValue);
    let keys = plan::top_keys().fold(ObjectBuilder::new(), |object, key| object.property(key, any()));
    keys.additional_properties(Some(AdditionalProperties::FreeForm(false))).build().into()
}

fn labels() -> Value {
    let label = json!({ "type": "object", "required": ["id", "label"], "properties": { "id": { "type": "string" } } });
    json!({ "labels": { "type": "array", "items": label } })
}

fn inference() -> Value {
    let input = json!({
        "type": "object",
        "required": ["name", "shape", "datatype"],
        "properties": {
            "name": { "type": "string" },
            "shape": { "type": "array", "items": { "type": "integer", "minimum": 0 } },
            "datatype": { "type": "string" },
            "data": { "type": "array" },
            "parameters": { "type": ["object", "null"] },
        },
    });
    let output = json!({ "type": "object", "required": ["name"], "properties": { "name": { "type": "string" } } });
    json!({
        "id": { "type": ["string", "null"] },
        "parameters": { "type": ["object", "null"] },
        "inputs": { "type": "array", "minItems": 1, "items": input },
        "outputs": { "type": ["array", "null"], "items": output },
    })
}

fn samples() -> Value {
    let sample = json!({ "type": "object", "required": ["label"], "properties": { "label": { "type": "integer", "minimum": 0 } } });
    json!({ "samples": { "type": "array", "minItems": 1, "items": sample } })
}

fn logging() -> Value {
    let switch = json!({ "type": "boolean" });
    let shown = Logging::now().shown();
    json!({
        "log_info": switch, "log_warning": switch, "log_error": switch,
        "log_verbose_level": { "type": "integer", "minimum": 0, "maximum": u64::MAX },
        "log_file": { "type": "string", "enum": [shown["log_file"]] },
        "log_format": { "type": "string", "enum": [shown["log_format"]] },
    })
}

fn trace() -> Value {
    let mut level = setting(json!({ "type": "string", "enum": ["OFF", "TIMESTAMPS"] }));
    // No level at all is OFF too.
    level["anyOf"][1]["minItems"] = 0.into();
    json!({
        "trace_level": level,
        "trace_rate": setting(json!({ "anyOf": [{ "type": "integer", "minimum": 1, "maximum": i64::MAX }, { "type": "string", "pattern": "^[1-9][0-9]{0,17}$" }] })),
        "trace_count": setting(json!({ "anyOf": [{ "type": "integer", "minimum": -1, "maximum": i64::MAX }, { "type": "string", "pattern": "^(-1|[0-9]{1,18})$" }] })),
        "trace_mode": setting(json!({ "type": "string", "enum": ["log"] })),
        "trace_file": setting(json!({ "type": "string", "enum": [""] })),
        "log_frequency": setting(json!({ "type": "string", "enum": ["0"] })),
    })
}

/// One value, alone or as a list of one; null takes the setting back.
fn setting(value: Value) -> Value {
    json!({ "anyOf": [value, { "type": "array", "minItems": 1, "maxItems": 1, "items": value }, { "type": "null" }] })
}
