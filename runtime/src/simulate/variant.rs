//! A policy and what is changed about how it plans: `migrator`, `migrator:preload=false`, `migrator:solve_every_s=window+forecast=ewma`.

use migrator_sim::Setup;
use migrator_sim::setup::Foresight;
use migrator_solver::PolicyName;
use migrator_solver::forecast::ForecastName;
use migrator_solver::options::UnknownPolicy;

/// The policies that `all` stands for: ours, those it is measured against, and the bound.
const ALL: [&str; 9] = ["migrator", "ekya", "astraea", "paris", "static-even", "static-best", "miso", "parvagpu", "oracle"];

/// What `ablations` stands for: ours, and ours without one thing each.
const ABLATIONS: [&str; 7] = [
    "migrator",
    "migrator:preload=false",
    "migrator:hand_over=false",
    "migrator:accuracy=false",
    "migrator:solve_every_s=window",
    "migrator:forecast=ewma",
    "migrator:forecast=perfect",
];

/// A policy and what is changed about how it plans.
#[derive(Clone, Debug, PartialEq)]
pub struct Variant {
    /// As it was asked for; the name in tables and files.
    pub name: String,
    /// Who decides.
    pub policy: PolicyName,
    changes: Vec<Change>,
}

/// One value of [`migrator_sim::setup::Planning`] that is not the scenario's.
#[derive(Clone, Debug, PartialEq)]
pub struct Change {
    key: &'static Key,
    value: Value,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Value {
    Switch(bool),
    Number(f64),
    /// As long as the window.
    Window,
    Forecast(ForecastName),
    /// The arrivals to come are known.
    Perfect,
}

/// What can be changed, and how.
struct Key {
    name: &'static str,
    kind: Kind,
    set: fn(&mut Setup, Value),
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Kind {
    Switch,
    /// A number within these bounds.
    Number(f64, f64),
    /// Seconds, or `window`.
    Period,
    Forecast,
    /// `free` and nothing else.
    Free,
}

const DAY_S: f64 = 86_400.0;

static KEYS: [Key; 13] = [
    Key { name: "preload", kind: Kind::Switch, set: |setup, value| setup.planning.preload = value.switch() },
    Key { name: "hand_over", kind: Kind::Switch, set: |setup, value| setup.planning.hand_over = value.switch() },
    Key { name: "accuracy", kind: Kind::Switch, set: |setup, value| setup.planning.accuracy = value.switch() },
    Key { name: "forecast", kind: Kind::Forecast, set: |setup, value| setup.planning.foresight = value.foresight() },
    Key { name: "solve_every_s", kind: Kind::Period, set: |setup, value| setup.planning.solve_every_s = value.number(setup.window_s) },
    Key { name: "solve_s", kind: Kind::Number(0.0, DAY_S), set: |setup, value| setup.planning.solve_s = value.number(0.0) },
    Key { name: "dwell_s", kind: Kind::Number(0.0, DAY_S), set: |setup, value| setup.planning.dwell_s = value.number(0.0) },
    Key { name: "horizon_s", kind: Kind::Number(1.0, 3600.0), set: |setup, value| setup.planning.horizon_s = value.number(0.0) },
    Key { name: "min_gain", kind: Kind::Number(0.0, 1.0), set: |setup, value| setup.planning.min_gain = value.number(0.0) },
    Key {
        name: "floor_rps",
        kind: Kind::Number(0.0, 1e6),
        set: |setup, value| setup.tenants.iter_mut().for_each(|tenant| tenant.floor_rps = value.number(0.0)),
    },
    Key {
        name: "estimate_error",
        kind: Kind::Number(0.0, 2.0),
        set: |setup, value| setup.tenants.iter_mut().for_each(|tenant| tenant.learning.estimate_error = value.number(0.0)),
    },
    Key { name: "changes", kind: Kind::Free, set: |setup, _| setup.free_changes() },
    Key { name: "utilisation", kind: Kind::Number(0.01, 1.0), set: |setup, value| setup.planning.utilisation = value.number(1.0) },
];

impl PartialEq for Key {
    fn eq(&self, other: &Key) -> bool {
        self.name == other.name
    }
}

impl std::fmt::Debug for Key {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name)
    }
}

/// The variants of a list of names and groups (`all`, `ablations`), each once, in the order asked for.
///
/// # Errors
/// One line that names the unknown policy, key or value and what would be right.
pub fn variants(names: &[String]) -> Result<Vec<Variant>, String> {
    let mut variants: Vec<Variant> = Vec::new();
    for name in names {
        let group: Vec<&str> = match name.trim() {
            "all" => ALL.to_vec(),
            "ablations" => ABLATIONS.to_vec(),
            one => vec![one],
        };
        for one in group {
            let variant = Variant::parse(one)?;
            if variants.iter().all(|other| other.name != variant.name) {
                variants.push(variant);
            }
        }
    }
    Ok(variants)
}

impl Variant {
    /// A policy's name, alone or followed by `:KEY=VALUE`, several joined by `+`.
    ///
    /// # Errors
    /// As [`variants`].
    pub fn parse(text: &str) -> Result<Variant, String> {
        let (name, changes) = text.split_once(':').map_or((text, None), |(name, changes)| (name, Some(changes)));
        let policy = name.parse().map_err(|error| unknown_policy(name, &error))?;
        let changes = changes.map_or(Ok(Vec::new()), |changes| changes.split('+').map(Change::parse).collect())?;
        if policy == PolicyName::Oracle && !changes.is_empty() {
            return Err(format!("{text:?}: the oracle is a bound and plans nothing, so nothing of it can be changed"));
        }
        Ok(Variant { name: text.to_owned(), policy, changes })
    }

    /// Makes a scenario's setup this variant's; `common` goes for every policy and yields to the variant's own.
    pub fn apply(&self, common: &[Change], setup: &mut Setup) {
        setup.planning.policy = self.policy;
        for change in common.iter().chain(&self.changes) {
            (change.key.set)(setup, change.value);
        }
    }
}

/// `text` with nothing that a file name cannot have.
pub(super) fn file_name(text: &str) -> String {
    text.chars().map(|c| if c.is_alphanumeric() || "-_.=+".contains(c) { c } else { '-' }).collect()
}

impl Change {
    /// `KEY=VALUE`.
    ///
    /// # Errors
    /// As [`variants`].
    pub fn parse(text: &str) -> Result<Change, String> {
        let (name, value) = text.split_once('=').ok_or_else(|| format!("{text:?} must be KEY=VALUE, KEY one of {}", key_names()))?;
        let Some(key) = KEYS.iter().find(|key| key.name == name) else {
            let hint = near(name, KEYS.iter().map(|key| key.name));
            return Err(format!("{name:?} cannot be set{hint}; what can: {}", key_names()));
        };
        let value = key.kind.parse(value).ok_or_else(|| format!("{name} = {value:?} must be {}", key.kind.allowed()))?;
        Ok(Change { key, value })
    }
}

impl Kind {
    fn parse(self, text: &str) -> Option<Value> {
        let number = |low, high| text.parse().ok().filter(|number| (low..=high).contains(number)).map(Value::Number);
        match self {
            Kind::Switch => text.parse().ok().map(Value::Switch),
            Kind::Number(low, high) => number(low, high),
            Kind::Period if text == "window" => Some(Value::Window),
            Kind::Period => number(0.1, DAY_S),
            Kind::Free => (text == "free").then_some(Value::Switch(true)),
            Kind::Forecast if text == "perfect" => Some(Value::Perfect),
            Kind::Forecast => forecast(text).map(Value::Forecast),
        }
    }

    fn allowed(self) -> String {
        match self {
            Kind::Switch => "true or false".to_owned(),
            Kind::Free => "free".to_owned(),
            Kind::Number(low, high) => format!("a number from {low} to {high}"),
            Kind::Period => format!("a number from 0.1 to {DAY_S}, or \"window\""),
            Kind::Forecast => format!("perfect or one of {}", ForecastName::ALL.map(ForecastName::as_str).join(", ")),
        }
    }
}

impl Value {
    fn switch(self) -> bool {
        self == Value::Switch(true)
    }

    fn number(self, window_s: f64) -> f64 {
        match self {
            Value::Number(number) => number,
            _ => window_s,
        }
    }

    fn foresight(self) -> Foresight {
        match self {
            Value::Forecast(name) => Foresight::Forecast(name),
            _ => Foresight::Perfect,
        }
    }
}

fn forecast(name: &str) -> Option<ForecastName> {
    ForecastName::ALL.into_iter().find(|forecast| forecast.as_str() == name)
}

fn unknown_policy(name: &str, error: &UnknownPolicy) -> String {
    let hint = near(name, PolicyName::ALL.into_iter().map(PolicyName::name).chain(["all", "ablations"]));
    format!("{error}; and the groups all and ablations{hint}")
}

/// `, did you mean "…"?` where something is near enough to be meant.
pub(super) fn near<'n>(name: &str, known: impl Iterator<Item = &'n str>) -> String {
    let best = known.map(|other| (strsim::damerau_levenshtein(name, other), other)).min();
    match best {
        Some((distance, other)) if distance <= other.len().div_ceil(3) => format!(", did you mean {other:?}?"),
        _ => String::new(),
    }
}

fn key_names() -> String {
    KEYS.iter().map(|key| key.name).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(text: &str) -> Vec<String> {
        let variants = variants(&text.split(',').map(str::to_owned).collect::<Vec<_>>()).unwrap();
        variants.into_iter().map(|variant| variant.name).collect()
    }

    fn refused(text: &str) -> String {
        Variant::parse(text).unwrap_err()
    }

    #[test]
    fn the_groups_hold_what_can_be_parsed_and_nothing_twice() {
        assert_eq!(names("all"), ALL);
        assert_eq!(names("ablations,migrator,miso"), [&ABLATIONS[..], &["miso"]].concat());
    }

    #[test]
    fn an_old_name_is_still_understood() {
        assert_eq!(Variant::parse("ilp").unwrap().policy, PolicyName::Migrator);
    }

    #[test]
    fn a_slip_of_the_pen_is_answered_with_what_was_meant() {
        assert!(refused("migratr").starts_with("there is no policy \"migratr\"; there are migrator, "));
        assert!(refused("migratr").ends_with(", did you mean \"migrator\"?"));
        assert!(refused("migrator:solve_evry_s=3").contains("did you mean \"solve_every_s\"?"));
        assert!(!refused("zzz").contains("did you mean"));
    }

    #[test]
    fn a_value_out_of_range_is_answered_with_the_range() {
        assert_eq!(refused("migrator:preload=maybe"), "preload = \"maybe\" must be true or false");
        assert_eq!(refused("ekya:solve_every_s=0"), "solve_every_s = \"0\" must be a number from 0.1 to 86400, or \"window\"");
        assert_eq!(refused("ekya:dwell_s=NaN"), "dwell_s = \"NaN\" must be a number from 0 to 86400");
        assert!(refused("ekya:forecast=crystal").starts_with("forecast = \"crystal\" must be perfect or one of "));
        assert!(refused("migrator:preload").starts_with("\"preload\" must be KEY=VALUE"));
        assert!(refused("oracle:preload=false").contains("nothing of it can be changed"));
    }

    #[test]
    fn changes_of_a_variant_win_over_those_of_all() {
        let mut setup = super::super::tests::setup(1);
        let common = [Change::parse("dwell_s=7").unwrap(), Change::parse("preload=false").unwrap()];
        let variant = Variant::parse("ekya:dwell_s=3+solve_every_s=window+hand_over=false+accuracy=false+forecast=perfect").unwrap();
        variant.apply(&common, &mut setup);
        let planning = &setup.planning;
        assert_eq!((planning.policy, planning.dwell_s, planning.solve_every_s), (PolicyName::Ekya, 3.0, setup.window_s));
        assert!(!planning.preload && !planning.hand_over && !planning.accuracy);
        assert!(matches!(planning.foresight, Foresight::Perfect));
    }

    #[test]
    fn free_changes_take_no_time_and_follow_at_once() {
        let mut setup = super::super::tests::setup(1);
        assert!(setup.tenants[0].load_s > 0.0 && setup.planning.dwell_s > 0.0);
        Variant::parse("migrator:changes=free").unwrap().apply(&[], &mut setup);
        let times = &setup.times;
        let steps =
            times.create_s.iter().chain(&times.destroy_s).chain([&times.release_s, &times.bind_s, &times.admit_s, &times.checkpoint_s]);
        assert!(steps.chain(setup.tenants.iter().map(|tenant| &tenant.load_s)).all(|seconds| *seconds == 0.0));
        assert_eq!(setup.planning.dwell_s, 0.0);
        assert_eq!(refused("migrator:changes=quick"), "changes = \"quick\" must be free");
    }

    #[test]
    fn a_file_name_has_no_separators() {
        assert_eq!(file_name("migrator:solve_every_s=window+preload=false"), "migrator-solve_every_s=window+preload=false");
        assert_eq!(file_name("../a b"), "..-a-b");
    }
}
