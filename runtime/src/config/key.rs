//! Tables of keys, and the walk that compares a file with them: unknown keys, wrong types, values out of range and missing keys are
//! found, all at once. serde then builds the structs from a file that its table has let pass.

use toml::de::{DeTable, DeValue};

use super::source::{ConfigErrors, Node, Source};

/// One key of a table.
pub(crate) struct Key {
    pub(crate) name: &'static str,
    kind: Kind,
    required: bool,
}

/// What a key may hold.
pub(crate) enum Kind {
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
    /// A list of at least one of these.
    List(&'static Kind),
    /// A table with keys of the writer's choice.
    Map(&'static Kind),
    /// The first of these that the value's type fits.
    Either(&'static [Kind]),
}

use Kind::{Bool, Choice, Either, Int, Ints, List, Map, Num, Tables, Tagged, Text};

pub(crate) const fn may(name: &'static str, kind: Kind) -> Key {
    Key { name, kind, required: false }
}

pub(crate) const fn must(name: &'static str, kind: Kind) -> Key {
    Key { name, kind, required: true }
}

/// Adds every defect that the table of keys can tell.
pub(crate) fn check(source: &Source<'_>, keys: &[Key], errors: &mut ConfigErrors) {
    Walk { source, errors }.table(source.root(), keys, &[], 0, "");
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
            (List(kind), DeValue::Array(items)) if !items.is_empty() => {
                for (index, item) in items.iter().enumerate() {
                    self.value(item, kind, &format!("{path}[{index}]"));
                }
            }
            (Map(kind), DeValue::Table(table)) => {
                for (name, item) in table.iter() {
                    self.value(item, kind, &join(path, name.get_ref()));
                }
            }
            (Either(kinds), value) if kinds.iter().any(|kind| kind.is_of(value)) => {
                kinds.iter().filter(|kind| kind.is_of(value)).take(1).for_each(|kind| self.value(node, kind, path));
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
            Kind::Table(_) | Tables(_) | Tagged(..) | List(_) | Map(_) | Either(_) => false,
        }
    }

    /// Whether a value has the type, whatever it holds; lists are told apart by their first item.
    fn is_of(&self, value: &DeValue<'_>) -> bool {
        let first_is_table =
            |value: &DeValue<'_>| value.as_array().and_then(|items| items.first()).is_some_and(|item| item.get_ref().is_table());
        match self {
            Bool => value.is_bool(),
            Int(..) | Num(..) => value.is_integer() || value.is_float(),
            Text | Kind::Name | Choice(_) => value.is_str(),
            Kind::Table(_) | Tagged(..) | Map(_) => value.is_table(),
            Tables(_) => first_is_table(value),
            Ints(..) | List(_) => value.is_array() && !first_is_table(value),
            Either(kinds) => kinds.iter().any(|kind| kind.is_of(value)),
        }
    }

    /// `an integer from 1 to 1024`.
    pub(crate) fn allowed(&self) -> String {
        match self {
            Bool => "true or false".to_owned(),
            Int(min, max) if *max == i64::MAX => format!("an integer from {min}"),
            Int(min, max) => format!("an integer from {min} to {max}"),
            Num(min, max) if max.is_infinite() => format!("a number from {min}, or inf"),
            Num(min, max) => format!("a number from {min} to {max}"),
            Text => "a text in quotes, not empty".to_owned(),
            Kind::Name => "a name of 1 to 63 letters, digits, '-', '_' or '.', starting with a letter or digit".to_owned(),
            Choice(names) => one_of(names.iter().copied()),
            Ints(least, most, min, max) if least == most => format!("a list of {least} integers from {min} to {max}"),
            Ints(least, most, min, max) => format!("a list of {least} to {most} integers from {min} to {max}"),
            Kind::Table(_) => "a table".to_owned(),
            Tables(_) => "a list of one or more tables".to_owned(),
            Tagged(tag, variants) => format!("a table with {tag} = {}", one_of(variants.iter().map(|(name, _)| *name))),
            List(kind) => format!("a list of one or more, each {}", kind.allowed()),
            Map(kind) => format!("a table whose values are each {}", kind.allowed()),
            Either(kinds) => kinds.iter().map(Kind::allowed).collect::<Vec<_>>().join("; or "),
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

pub(crate) fn one_of<'n>(names: impl Iterator<Item = &'n str>) -> String {
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
