//! Which requests are traced: one line in the log with the time of each stage, for every so manieth request.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

/// Settings by name, as the extension knows them; each has one value or more.
pub(crate) type Shown = BTreeMap<&'static str, Vec<String>>;
/// New values by name; `None` = as it was at the start, or for a model: as for all.
pub(crate) type Changes = BTreeMap<String, Option<Vec<String>>>;

/// What is traced.
#[derive(Debug, Default)]
pub(crate) struct Trace {
    /// Whether anything is: all that a request looks at as long as nothing is.
    on: AtomicBool,
    inner: Mutex<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    all: Setting,
    tenants: BTreeMap<String, Setting>,
}

/// What was set, and how far it has come.
#[derive(Clone, Debug, Default, PartialEq)]
struct Setting {
    timestamps: Option<bool>,
    rate: Option<u64>,
    count: Option<i64>,
    seen: u64,
    traced: i64,
}

/// Triton's defaults.
const RATE: u64 = 1000;
const COUNT: i64 = -1;

impl Setting {
    fn change(&mut self, key: &str, values: Option<&[String]>) -> Result<(), String> {
        let one = || match values {
            Some([value]) => Ok(Some(value.as_str())),
            None => Ok(None),
            Some(_) => Err(format!("{key}: must be one value")),
        };
        match key {
            "trace_level" => self.timestamps = values.map(level).transpose()?,
            "trace_rate" => self.rate = one()?.map(|text| number(key, text, 1)).transpose()?.map(|rate| rate as u64),
            "trace_count" => {
                self.count = one()?.map(|text| number(key, text, -1)).transpose()?;
                self.traced = 0;
            }
            "trace_mode" => fixed(key, one()?, "log")?,
            "trace_file" => fixed(key, one()?, "")?,
            "log_frequency" => fixed(key, one()?, "0")?,
            _ => return Err(format!("{}: no such setting", key.escape_debug())),
        }
        Ok(())
    }

    fn or(&self, other: &Setting) -> Setting {
        let Setting { timestamps, rate, count, .. } = *self;
        Setting { timestamps: timestamps.or(other.timestamps), rate: rate.or(other.rate), count: count.or(other.count), ..self.clone() }
    }
}

fn level(values: &[String]) -> Result<bool, String> {
    let values: Vec<&str> = values.iter().map(String::as_str).collect();
    match values[..] {
        ["OFF"] | [] => Ok(false),
        ["TIMESTAMPS"] => Ok(true),
        _ => Err(format!("trace_level: {values:?}: must be OFF or TIMESTAMPS")),
    }
}

fn number(key: &str, text: &str, least: i64) -> Result<i64, String> {
    text.parse().ok().filter(|number| *number >= least).ok_or_else(|| format!("{key}: {text:?}: must be a whole number from {least}"))
}

fn fixed(key: &str, value: Option<&str>, only: &str) -> Result<(), String> {
    match value {
        Some(value) if value != only => Err(format!("{key}: {value:?}: traces go to the log, one line each: must be {only:?}")),
        _ => Ok(()),
    }
}

impl Trace {
    /// Whether a request of this tenant is one to trace.
    pub fn due(&self, tenant: &str) -> bool {
        if !self.on.load(Ordering::Relaxed) {
            return false;
        }
        let mut inner = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        let all = inner.all.clone();
        let own = inner.tenants.entry(tenant.to_owned()).or_default();
        let Setting { timestamps, rate, count, .. } = own.or(&all);
        let count = count.unwrap_or(COUNT);
        if !timestamps.unwrap_or(false) || count >= 0 && own.traced >= count {
            return false;
        }
        own.seen += 1;
        let due = own.seen.is_multiple_of(rate.unwrap_or(RATE));
        own.traced += i64::from(due);
        due
    }

    /// The settings in force for all, or for one tenant.
    pub fn show(&self, tenant: Option<&str>) -> Shown {
        let inner = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        let own = tenant.and_then(|tenant| inner.tenants.get(tenant)).cloned().unwrap_or_default();
        let setting = own.or(&inner.all);
        let level = if setting.timestamps.unwrap_or(false) { "TIMESTAMPS" } else { "OFF" };
        let one = |value: String| vec![value];
        Shown::from([
            ("trace_level", one(level.to_owned())),
            ("trace_rate", one(setting.rate.unwrap_or(RATE).to_string())),
            ("trace_count", one(setting.count.unwrap_or(COUNT).to_string())),
            ("trace_mode", one("log".to_owned())),
            ("trace_file", one(String::new())),
            ("log_frequency", one("0".to_owned())),
        ])
    }

    /// Changes settings: all of them, or none.
    ///
    /// # Errors
    /// One line that names the setting.
    pub fn change(&self, tenant: Option<&str>, changes: &Changes) -> Result<(), String> {
        let mut inner = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        let setting = match tenant {
            Some(tenant) => inner.tenants.entry(tenant.to_owned()).or_default(),
            None => &mut inner.all,
        };
        let mut changed = setting.clone();
        for (key, values) in changes {
            changed.change(key, values.as_deref())?;
        }
        *setting = changed;
        let Inner { all, tenants } = &*inner;
        let on = all.timestamps == Some(true) || tenants.values().any(|own| own.timestamps == Some(true));
        self.on.store(on, Ordering::Relaxed);
        Ok(())
    }
}

/// When a traced request went through each stage, from its arrival.
pub(crate) struct Stages<'a> {
    /// The tenant.
    pub tenant: &'a str,
    /// The client's name for the request.
    pub id: Option<&'a str>,
    /// The client's W3C trace, as it was sent.
    pub traceparent: Option<&'a str>,
    /// Version that answered.
    pub version: u32,
    /// Body read and parsed.
    pub parsed: Duration,
    /// From arrival to dispatch.
    pub waited: Duration,
    /// The worker's computation.
    pub computed: Duration,
    /// Answer in hand.
    pub answered: Duration,
}

impl Stages<'_> {
    /// The line.
    pub fn log(&self) {
        let us = |duration: Duration| u64::try_from(duration.as_micros()).unwrap_or(u64::MAX);
        let (parsed_us, waited_us, computed_us, answered_us) = (us(self.parsed), us(self.waited), us(self.computed), us(self.answered));
        let (id, traceparent) = (self.id.unwrap_or(""), self.traceparent.unwrap_or(""));
        let (tenant, version) = (self.tenant, self.version);
        tracing::info!(
            target: "migrator::trace",
            tenant, version, id, traceparent, parsed_us, waited_us, computed_us, answered_us, "traced"
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn change(trace: &Trace, tenant: Option<&str>, changes: &[(&str, Option<&str>)]) -> Result<(), String> {
        let changes = changes.iter().map(|(key, value)| ((*key).to_owned(), value.map(|value| vec![value.to_owned()])));
        trace.change(tenant, &changes.collect())
    }

    #[test]
    fn every_so_manieth_request_is_traced_and_no_more_than_were_asked_for() {
        let trace = Trace::default();
        assert!(!trace.due("a"), "nothing is traced at the start");
        change(&trace, None, &[("trace_level", Some("TIMESTAMPS")), ("trace_rate", Some("2")), ("trace_count", Some("2"))]).unwrap();
        let due: Vec<bool> = (0..8).map(|_| trace.due("a")).collect();
        assert_eq!(due, [false, true, false, true, false, false, false, false]);
        assert!(!trace.due("b") && trace.due("b"), "each tenant is counted by itself");
        change(&trace, None, &[("trace_level", Some("OFF"))]).unwrap();
        assert!(!trace.due("b") && !trace.due("b"));
    }

    #[test]
    fn a_model_may_differ_from_the_rest_until_its_setting_is_cleared() {
        let trace = Trace::default();
        change(&trace, Some("a"), &[("trace_level", Some("TIMESTAMPS")), ("trace_rate", Some("1"))]).unwrap();
        assert!(trace.due("a") && !trace.due("b"));
        assert_eq!(trace.show(Some("a"))["trace_rate"], ["1"]);
        assert_eq!(trace.show(None)["trace_rate"], ["1000"]);
        change(&trace, Some("a"), &[("trace_level", None), ("trace_rate", None)]).unwrap();
        assert_eq!(trace.show(Some("a")), trace.show(None));
        assert!(!trace.due("a"));
    }

    #[test]
    fn a_bad_change_changes_nothing() {
        let trace = Trace::default();
        for (key, value) in [("trace_rate", "0"), ("trace_rate", "x"), ("trace_level", "TENSORS"), ("trace_file", "/tmp/x"), ("nope", "1")]
        {
            let line = change(&trace, None, &[("log_frequency", Some("0")), ("trace_count", Some("5")), (key, Some(value))]).unwrap_err();
            assert!(line.starts_with(key), "{line}");
        }
        assert_eq!(trace.show(None)["trace_count"], ["-1"]);
    }
}
