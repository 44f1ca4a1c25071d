//! The file as text and as parsed, and messages that point into it.

use std::fmt;
use std::path::Path;

use toml::de::{DeTable, DeValue};

/// One defect of a configuration file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigError {
    /// The file as it was named.
    pub file: String,
    /// Line, from 1; 0 = the file as a whole.
    pub line: usize,
    /// Path of the key, e.g. `tenants[0].slo_ms`; empty = none.
    pub key: String,
    /// The offending value as written, shortened; empty = none.
    pub value: String,
    /// What is wrong and what is allowed.
    pub message: String,
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.file)?;
        if self.line > 0 {
            write!(f, ":{}", self.line)?;
        }
        match (self.key.is_empty(), self.value.is_empty()) {
            (true, _) => write!(f, ": {}", self.message),
            (false, true) => write!(f, ": {}: {}", self.key, self.message),
            (false, false) => write!(f, ": {} = {}: {}", self.key, self.value, self.message),
        }
    }
}

/// All defects of a configuration file, by line; displayed one a line.
#[derive(Clone, Debug, Default, PartialEq, Eq, thiserror::Error)]
pub struct ConfigErrors(pub Vec<ConfigError>);

impl fmt::Display for ConfigErrors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let lines: Vec<String> = self.0.iter().map(ConfigError::to_string).collect();
        f.write_str(&lines.join("\n"))
    }
}

impl ConfigErrors {
    pub(crate) fn unreadable(path: &Path, error: &std::io::Error) -> ConfigErrors {
        let message = format!("cannot be read: {error}");
        ConfigErrors(vec![ConfigError { file: path.display().to_string(), line: 0, key: String::new(), value: String::new(), message }])
    }

    /// `Err` with the defects by line, once there are any.
    pub(crate) fn raise(&mut self) -> Result<(), ConfigErrors> {
        if self.0.is_empty() {
            return Ok(());
        }
        self.0.sort_by_key(|e| e.line);
        Err(std::mem::take(self))
    }
}

/// A file that is TOML.
pub(crate) struct Source<'a> {
    file: &'a str,
    text: &'a str,
    root: DeTable<'a>,
}

/// A value and where it stands.
pub(crate) type Node<'a> = toml::Spanned<DeValue<'a>>;

impl<'a> Source<'a> {
    /// Parses TOML; every syntax error is reported.
    pub fn parse(file: &'a str, text: &'a str) -> Result<Source<'a>, ConfigErrors> {
        let (root, errors) = DeTable::parse_recoverable(text);
        let source = Source { file, text, root: root.into_inner() };
        if errors.is_empty() {
            return Ok(source);
        }
        Err(ConfigErrors(errors.iter().map(|e| source.syntax(e)).collect()))
    }

    /// The top-level table.
    pub fn root(&self) -> &DeTable<'a> {
        &self.root
    }

    /// What serde refused although the schema let it pass.
    pub fn refused(&self, error: &toml::de::Error) -> ConfigErrors {
        ConfigErrors(vec![self.syntax(error)])
    }

    fn syntax(&self, error: &toml::de::Error) -> ConfigError {
        let offset = error.span().map_or(0, |s| s.start);
        self.error(offset, "", "", one_line(error.message()))
    }

    /// A defect at a byte offset.
    pub fn error(&self, offset: usize, key: &str, value: &str, message: String) -> ConfigError {
        let line = self.text.get(..offset).map_or(0, |before| before.matches('\n').count() + 1);
        ConfigError { file: self.file.to_owned(), line, key: key.to_owned(), value: value.to_owned(), message }
    }

    /// A defect of a value that stands in the file.
    pub fn bad_value(&self, node: &Node<'a>, key: &str, message: String) -> ConfigError {
        self.error(node.span().start, key, &self.written(node), message)
    }

    /// A defect of the key at a path like `tenants[0].slo_ms`, or of the nearest table around it that stands in the file.
    pub fn at(&self, key: &str, message: String) -> ConfigError {
        let (mut table, mut nearest) = (&self.root, None);
        let mut whole = true;
        'steps: for step in key.split('.') {
            let (name, index) = match step.split_once('[') {
                Some((name, rest)) => (name, rest.trim_end_matches(']').parse::<usize>().ok()),
                None => (step, None),
            };
            let Some(mut node) = table.get(name) else {
                whole = false;
                break;
            };
            if let Some(index) = index {
                let Some(item) = node.get_ref().as_array().and_then(|a| a.get(index)) else { break 'steps };
                node = item;
            }
            nearest = Some(node);
            match node.get_ref().as_table() {
                Some(inner) => table = inner,
                None => break,
            }
        }
        match nearest {
            Some(node) if whole && node.get_ref().as_table().is_none() => self.bad_value(node, key, message),
            Some(node) => self.error(node.span().start, key, "", message),
            None => ConfigError { line: 0, ..self.error(0, key, "", message) },
        }
    }

    /// A value as written, on one line and shortened.
    fn written(&self, node: &Node<'a>) -> String {
        if node.get_ref().is_table() {
            return String::new();
        }
        let text = self.text.get(node.span()).unwrap_or_default();
        let flat = one_line(text);
        match flat.char_indices().nth(60) {
            Some((cut, _)) => format!("{}…", &flat[..cut]),
            None => flat,
        }
    }
}

fn one_line(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}
