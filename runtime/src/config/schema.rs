//! What each key may hold, as one table: unknown keys, wrong types, values out of range and missing keys are found from it,
//! all at once. serde then builds the structs from a file that this table has let pass.

use toml::de::{DeTable, DeValue};

use super::source::{ConfigErrors, Node, Source};

/// One key of a table.
struct Key {
    name: &'static str,
    kind: Kind,
    required: bool,
}

/// What a key may hold.
enum Kind {
    Bool,
    Int(i64, i64),
    Num(f64, f64),
    Text,
    /// Letters, digits, `-`, `_`, `.`: it goes into URLs, metrics and file names.
    Name,
    Choice(&'static [&'static str]),
    /// A list of this many integers in this range.
    Ints(usize, usize, i64, i64),
    Table(&'static [Key]),
    /// A list of at least one table.
    Tables(&'static [Key]),
    /// A table whose other keys depend on the value of this one.
    Tagged(&'static str, &'static [(&'static str, &'static [Key])]),
}

use Kind::{Bool, Choice, Int, Ints, Num, Tables, Tagged, Text};

const fn may(name: &'static str, kind: Kind) -> Key {
    Key { name, kind, required: false }
}

const fn must(name: &'static str, kind: Kind) -> Key {
    Key { name, kind, required: true }
}

static ROOT: &[Key] = &[
    may("server", Kind::Table(SERVER)),
    may("device", Kind::Table(DEVICE)),
    may("planner", Kind::Table(PLANNER)),
    may("retraining", Kind::Table(RETRAINING)),
    must("tenants", Tables(TENANT)),
];

static SERVER: &[Key] = &[
    may("host", Text),
    may("http_port", Int(0, 65535)),
    may("metrics_port", Int(0, 65535)),
    may("max_body_mib", Int(1, 1024)),
    may("drain_s", Num(0.0, 600.0)),
    may("state_dir", Text),
];

static DEVICE: &[Key] = &[
    may("kind", Choice(&["cpu"])),
    may("cores", Num(0.1, 1024.0)),
    may("reserved_cores", Num(0.0, 1024.0)),
    may("memory_mib", Int(256, 1 << 24)),
    may("gpu_times", Bool),
    may("enforcement", Choice(&["auto", "cgroup", "duty"])),
];

static PLANNER: &[Key] = &[
    may("policy", Choice(&["ilp", "greedy", "keep"])),
    may("slot_s", Num(0.2, 60.0)),
    may("horizon_s", Num(1.0, 600.0)),
    may("time_limit_ms", Int(10, 60_000)),
    may("dwell_s", Num(0.0, 600.0)),
    may("min_gain", Num(0.0, 1.0)),
    may("preload", Bool),
    may("spares", Int(0, 16)),
];

static RETRAINING: &[Key] = &[
    may("window_s", Num(5.0, 86_400.0)),
    may("enabled", Bool),
    may("min_samples", Int(2, 1_000_000)),
    may("max_samples", Int(2, 1_000_000)),
    may("replay_share", Num(0.0, 10.0)),
    may("held_out_share", Num(0.01, 0.5)),
    may("min_gain", Num(-1.0, 1.0)),
    may("beyond_window_s", Num(0.0, 86_400.0)),
    may("stored_samples", Int(2, 10_000_000)),
];

static OVERRIDE: &[Key] = &[
    may("enabled", Bool),
    may("min_samples", Int(2, 1_000_000)),
    may("max_samples", Int(2, 1_000_000)),
    may("replay_share", Num(0.0, 10.0)),
    may("held_out_share", Num(0.01, 0.5)),
    may("min_gain", Num(-1.0, 1.0)),
];

static TENANT: &[Key] = &[
    must("name", Kind::Name),
    must("slo_ms", Num(1.0, 60_000.0)),
    may("weight", Num(0.001, 1000.0)),
    may("floor_rps", Num(0.0, 1e6)),
    may("queue", Int(1, 1_000_000)),
    may("retraining", Kind::Table(OVERRIDE)),
    must("model", Kind::Table(MODEL)),
    may("train", Kind::Table(TRAIN)),
];

static MODEL: &[Key] = &[
    must("name", Kind::Name),
    must("classes", Int(2, 100_000)),
    must("max_batch", Int(1, 1024)),
    must("source", Tagged("source", &[("architecture", ARCHITECTURE), ("torchscript", TORCHSCRIPT)])),
];

static ARCHITECTURE: &[Key] = &[must(
    "architecture",
    Tagged("kind", &[("mlp", MLP), ("cnn", CNN), ("resnet18", IMAGE), ("mobilenet_v2", IMAGE), ("text_classifier", TEXT)]),
)];

static MLP: &[Key] = &[must("features", Int(1, 1 << 20)), must("hidden", Ints(0, 16, 1, 1 << 16))];
static CNN: &[Key] = &[must("input", Ints(3, 3, 1, 4096)), must("width", Int(1, 1024))];
static IMAGE: &[Key] = &[must("input", Ints(3, 3, 1, 4096))];
static TEXT: &[Key] = &[must("vocabulary", Int(16, 1 << 20)), must("max_tokens", Int(1, 1 << 16)), must("embedding", Int(1, 1 << 14))];

static TORCHSCRIPT: &[Key] = &[must("inputs", Tables(INPUT))];

static INPUT: &[Key] = &[
    must("name", Kind::Name),
    must("datatype", Choice(&["BOOL", "UINT8", "INT32", "INT64", "FP32", "FP64"])),
    must("shape", Ints(1, 8, 1, 1 << 20)),
];

static TRAIN: &[Key] =
    &[may("epochs", Int(1, 10_000)), may("batch", Int(1, 65_536)), may("learning_rate", Num(1e-9, 100.0)), may("seed", Int(0, i64::MAX))];

/// Adds every defect that the table of keys can tell.
pub(super) fn check(source: &Source<'_>, errors: &mut ConfigErrors) {
    Walk { source, errors }.table(source.root(), ROOT, &[], 0, "");
}

struct Walk<'s, 'a> {
    source: &'s Source<'a>,
    errors: &'s mut ConfigErrors,
}

impl<'a> Walk<'_, 'a> {
    /// `tag` is a key that was dealt with already; `offset` is where a missing key is reported.
    fn table(&mut self, table: &DeTable<'a>, keys: &[Key], tag: &[&'static str], offset: usize, path: &str) {
        for (name, node) in table.iter() {
            let at = join(path, name.get_ref());
            match keys.iter().find(|k| k.name == name.get_ref()) {
                Some(key) => self.value(node, &key.kind, &at),
                None if tag.contains(&&**name.get_ref()) => {}
                None => {
                    let message = unknown(name.get_ref(), tag.iter().copied().chain(keys.iter().map(|k| k.name)));
                    self.errors.0.push(self.source.error(name.span().start, &at, "", message));
                }
            }
        }
        for key in keys.iter().filter(|k| k.required && !table.contains_key(k.name)) {
            let message = format!("{} is missing: must be {}", key.name, key.kind.allowed());
            self.errors.0.push(self.source.error(offset, path, "", message));
        }
    }

    fn value(&mut self, node: &Node<'a>, kind: &Kind, path: &str) {
        match (kind, node.get_ref()) {
            (Kind::Table(keys), DeValue::Table(table)) => self.table(table, keys, &[], node.span().start, path),
            (Tagged(tag, variants), DeValue::Table(table)) => self.tagged(node, table, tag, variants, path),
            (Tables(keys), DeValue::Array(items)) if !items.is_empty() => {
                for (index, item) in items.iter().enumerate() {
                    self.value(item, &Kind::Table(keys), &format!("{path}[{index}]"));
                }
            }
            (_, value) if kind.admits(value) => {}
            _ => self.errors.0.push(self.source.bad_value(node, path, format!("must be {}", kind.allowed()))),
        }
    }

    fn tagged(&mut self, node: &Node<'a>, table: &DeTable<'a>, tag: &'static str, variants: &[(&str, &[Key])], path: &str) {
        let start = node.span().start;
        let names = || one_of(variants.iter().map(|(name, _)| *name));
        let Some(value) = table.get(tag) else {
            let message = format!("{tag} is missing: must be {}", names());
            return self.errors.0.push(self.source.error(start, path, "", message));
        };
        match variants.iter().find(|(name, _)| value.get_ref().as_str() == Some(name)) {
            Some((_, keys)) => self.table(table, keys, &[tag], start, path),
            None => self.errors.0.push(self.source.bad_value(value, &join(path, tag), format!("must be {}", names()))),
        }
    }
}

impl Kind {
    /// Whether a plain value is allowed; tables are looked into elsewhere.
    fn admits(&self, value: &DeValue<'_>) -> bool {
        match self {
            Bool => value.is_bool(),
            Int(min, max) => int(value).is_some_and(|n| (*min..=*max).contains(&n)),
            Num(min, max) => number(value).is_some_and(|n| (*min..=*max).contains(&n)),
            Text => value.as_str().is_some_and(|s| !s.is_empty()),
            Kind::Name => value.as_str().is_some_and(is_name),
            Choice(names) => value.as_str().is_some_and(|s| names.contains(&s)),
            Ints(least, most, min, max) => value
                .as_array()
                .is_some_and(|items| (*least..=*most).contains(&items.len()) && items.iter().all(|i| Int(*min, *max).admits(i.get_ref()))),
            Kind::Table(_) | Tables(_) | Tagged(..) => false,
        }
    }

    /// `an integer from 1 to 1024`.
    fn allowed(&self) -> String {
        match self {
            Bool => "true or false".to_owned(),
            Int(min, max) if *max == i64::MAX => format!("an integer from {min}"),
            Int(min, max) => format!("an integer from {min} to {max}"),
            Num(min, max) => format!("a number from {min} to {max}"),
            Text => "a text in quotes, not empty".to_owned(),
            Kind::Name => "a name of 1 to 63 letters, digits, '-', '_' or '.', starting with a letter or digit".to_owned(),
            Choice(names) => one_of(names.iter().copied()),
            Ints(least, most, min, max) if least == most => format!("a list of {least} integers from {min} to {max}"),
            Ints(least, most, min, max) => format!("a list of {least} to {most} integers from {min} to {max}"),
            Kind::Table(_) => "a table".to_owned(),
            Tables(_) => "a list of one or more tables".to_owned(),
            Tagged(tag, variants) => format!("a table with {tag} = {}", one_of(variants.iter().map(|(name, _)| *name))),
        }
    }
}

fn int(value: &DeValue<'_>) -> Option<i64> {
    let number = value.as_integer()?;
    i64::from_str_radix(number.as_str(), number.radix()).ok()
}

fn number(value: &DeValue<'_>) -> Option<f64> {
    match value.as_float() {
        Some(float) => float.as_str().parse().ok(),
        None => int(value).map(|n| n as f64),
    }
}

fn is_name(text: &str) -> bool {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
    text.len() <= 63 && text.chars().all(plain) && text.starts_with(|c: char| c.is_ascii_alphanumeric())
}

fn one_of<'n>(names: impl Iterator<Item = &'n str>) -> String {
    names.map(|n| format!("{n:?}")).collect::<Vec<_>>().join(" or ")
}

fn join(path: &str, name: &str) -> String {
    if path.is_empty() { name.to_owned() } else { format!("{path}.{name}") }
}

/// Names the nearest key when one is near, and all that are allowed.
fn unknown<'n>(name: &str, keys: impl Iterator<Item = &'n str>) -> String {
    let keys: Vec<&str> = keys.collect();
    let near = keys.iter().map(|k| (strsim::damerau_levenshtein(name, k), *k)).min();
    let hint = match near {
        Some((distance, key)) if distance <= 2 + key.len() / 5 => format!("did you mean {key}? "),
        _ => String::new(),
    };
    format!("unknown key; {hint}allowed here: {}", keys.join(", "))
}
