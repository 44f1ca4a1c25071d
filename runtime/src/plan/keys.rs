//! What each key of a problem file may hold (see [`crate::config::key`]).

use crate::config::key::Kind::{Bool, Choice, Either, Int, List, Map, Num, Tables, Text};
use crate::config::key::{Key, Kind, may, must};

/// Largest number that the solver takes, whatever its unit.
const LARGEST: f64 = 1e9;

/// Furthest second that a file may speak of: no plan looks further.
pub(super) const LAST_SECOND: u32 = 3600;

pub(super) static ROOT: &[Key] = &[
    must("window_left_s", Num(0.0, LARGEST)),
    may("beyond_window_s", Num(0.0, LARGEST)),
    may("policy", Choice(migrator_solver::PolicyName::PLANNING)),
    may("horizon_s", Num(1.0, 3600.0)),
    may("time_limit_ms", Int(1, 600_000)),
    may("min_gain", Num(0.0, 1.0)),
    must("gpus", Either(&[Int(1, 1024), List(&Text)])),
    may("costs", Kind::Table(COSTS)),
    may("models", Tables(MODEL)),
    may("instances", Tables(INSTANCE)),
    must("tenants", Tables(TENANT)),
];

static COSTS: &[Key] = &[may("drain_s", SECONDS), may("handover_s", SECONDS), may("preload", Bool)];

static MODEL: &[Key] = &[
    must("name", Text),
    may("memory_mib", Int(8, 1 << 30)),
    may("compute_slices", Int(1, 255)),
    may("memory_slices", Int(1, 255)),
    may("profiles", Tables(PROFILE)),
    may("create_s", Either(&[SECONDS, Map(&SECONDS)])),
    may("destroy_s", Either(&[SECONDS, Map(&SECONDS)])),
];

static PROFILE: &[Key] = &[
    must("name", Text),
    must("compute_slices", Int(1, 255)),
    must("memory_slices", Int(1, 255)),
    must("memory_mib", Int(1, 1 << 30)),
    must("starts", Kind::Ints(1, 255, 0, 254)),
];

static INSTANCE: &[Key] = &[
    may("gpu", Int(0, 1023)),
    must("profile", Text),
    must("start", Int(0, 254)),
    may("task", Choice(&["inference", "retraining"])),
    may("tenant", Text),
    may("ready_in_s", SECONDS),
    may("pinned", Bool),
    may("id", Int(0, i64::MAX)),
];

static TENANT: &[Key] = &[
    must("name", Kind::Name),
    may("weight", Num(0.0, LARGEST)),
    must("demand_rps", Either(&[RATE, List(&RATE), Tables(SCENARIO), Map(&RATE)])),
    must("capacity_rps", Map(&Either(&[RATE, Map(&RATE)]))),
    may("memory_mib", Int(0, 1 << 30)),
    may("backlog", Num(0.0, LARGEST)),
    must("accuracy", Num(0.0, 1.0)),
    may("load_s", SECONDS),
    may("floor_rps", RATE),
    may("retraining", Kind::Table(RETRAINING)),
];

static SCENARIO: &[Key] = &[must("probability", Num(0.0, 1.0)), must("rps", Either(&[RATE, List(&RATE), Map(&RATE)]))];

static RETRAINING: &[Key] = &[
    must("seconds_left", Map(&Either(&[WORK, Map(&WORK)]))),
    must("accuracy_after", Num(0.0, 1.0)),
    may("restore_s", SECONDS),
    may("memory_mib", Int(0, 1 << 30)),
];

const SECONDS: Kind = Num(0.0, LARGEST);
const RATE: Kind = Num(0.0, LARGEST);
/// `inf` as well as absence says that it does not fit.
const WORK: Kind = Num(0.0, f64::INFINITY);
