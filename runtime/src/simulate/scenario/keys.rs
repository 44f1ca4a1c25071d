//! What each key of a scenario file may hold (see [`crate::config::key`]).

use crate::config::key::Kind::{Bool, Choice, Int, List, Num, Tables, Tagged, Text};
use crate::config::key::{Key, Kind, may, must};

pub(super) static ROOT: &[Key] = &[
    may("name", Kind::Name),
    must("gpus", Kind::Table(GPUS)),
    must("seconds", Int(10, 86_400)),
    may("window_s", Num(5.0, 86_400.0)),
    may("seeds", List(&Int(0, i64::MAX))),
    may("curves", List(&Text)),
    may("planner", Kind::Table(PLANNER)),
    may("steps", Kind::Table(STEPS)),
    may("interference", Kind::Table(INTERFERENCE)),
    may("faults", Tables(FAULT)),
    must("tenants", Tables(TENANT)),
];

static GPUS: &[Key] = &[must("catalog", Text), may("count", Int(1, 1024)), may("like", Text), may("speed", Num(0.01, 100.0))];

static PLANNER: &[Key] = &[
    may("foresight", Choice(&["forecast", "perfect"])),
    may("forecast", Text),
    may("beyond_window_s", Num(0.0, 86_400.0)),
    may("horizon_s", Num(1.0, 3600.0)),
    may("dwell_s", Num(0.0, 600.0)),
    may("solve_every_s", Num(1.0, 3600.0)),
    may("solve_s", Num(0.0, 60.0)),
    may("utilisation", Num(0.05, 1.0)),
    may("min_gain", Num(0.0, 1.0)),
    may("preload", Bool),
    may("hand_over", Bool),
    may("accuracy", Bool),
];

static STEPS: &[Key] = &[
    may("create_s", SECONDS),
    may("destroy_s", SECONDS),
    may("release_s", SECONDS),
    may("bind_s", SECONDS),
    may("admit_s", SECONDS),
    may("checkpoint_s", SECONDS),
    may("jitter", SPREAD),
];

static INTERFERENCE: &[Key] = &[may("inference", Num(0.0, 10.0)), may("retraining", Num(0.0, 10.0))];

static FAULT: &[Key] = &[
    must("at_s", Num(0.0, 86_400.0)),
    must("kind", Choice(&["worker-dies", "create-fails", "destroy-in-use", "solve-fails"])),
    may("tenant", Kind::Name),
    may("gpu", Int(0, 1023)),
    may("times", Int(1, 1000)),
];

static TENANT: &[Key] = &[
    must("name", Kind::Name),
    must("curve", Kind::Name),
    must("slo_ms", Num(1.0, 60_000.0)),
    must("arrivals", ARRIVALS),
    may("load", Num(0.0, 100.0)),
    may("scale", Num(0.0, 1e6)),
    may("weight", Num(0.001, 1000.0)),
    may("floor_rps", Num(0.0, 1e6)),
    may("max_batch", Int(1, 1024)),
    may("queue", Int(1, 1_000_000)),
    may("jitter", SPREAD),
    may("memory_mib", MIB),
    may("load_s", SECONDS),
    may("retraining", Kind::Table(RETRAINING)),
];

static RETRAINING: &[Key] = &[
    may("enabled", Bool),
    may("curve", Kind::Name),
    may("batch", Int(1, 1 << 20)),
    may("samples", Int(1, 100_000_000)),
    may("epochs", Int(1, 10_000)),
    may("first", SHARE),
    may("top", SHARE),
    may("floor", SHARE),
    may("learning", List(&Num(0.0, 1000.0))),
    may("drift", Num(0.0, 1.0)),
    may("drift_steps", List(&List(&Num(0.0, 86_400.0)))),
    may("memory_mib", MIB),
    may("label_share", SHARE),
    may("estimate_error", SPREAD),
    may("min_gain", Num(-1.0, 1.0)),
];

const ARRIVALS: Kind = Tagged(
    "kind",
    &[
        ("poisson", POISSON),
        ("mmpp", MMPP),
        ("diurnal", DIURNAL),
        ("ramp", RAMP),
        ("step", STEP),
        ("sum", PARTS),
        ("product", PARTS),
        ("trace", TRACE),
    ],
);

static POISSON: &[Key] = &[must("rps", RATE)];
static MMPP: &[Key] = &[must("states", Tables(&[must("rps", RATE), must("stay_s", Num(0.1, 86_400.0))]))];
static DIURNAL: &[Key] = &[must("rps", RATE), may("swing", SHARE), may("period_s", Num(1.0, 1e6)), may("phase_s", Num(-1e6, 1e6))];
static RAMP: &[Key] = &[must("from_rps", RATE), must("to_rps", RATE), must("from_s", Num(0.0, 86_400.0)), must("to_s", Num(0.0, 86_400.0))];
static STEP: &[Key] = &[must("rps", RATE), must("steps", List(&List(&Num(0.0, 1e6))))];
static PARTS: &[Key] = &[must("parts", List(&GENERATOR))];
static TRACE: &[Key] = &[
    must("file", Text),
    may("gaps", Choice(&["zero"])),
    may("row", Int(0, 10_000_000)),
    may("function", Text),
    may("compress", Num(0.001, 1000.0)),
    may("offset_s", Int(0, 86_400)),
    may("smooth_s", Int(1, 3600)),
];

/// What a sum or a product is made of.
static GENERATOR: Kind = Tagged(
    "kind",
    &[("poisson", POISSON), ("mmpp", MMPP), ("diurnal", DIURNAL), ("ramp", RAMP), ("step", STEP), ("sum", PARTS), ("product", PARTS)],
);

const SECONDS: Kind = Num(0.0, 600.0);
const RATE: Kind = Num(0.0, 1e6);
const SHARE: Kind = Num(0.0, 1.0);
const SPREAD: Kind = Num(0.0, 2.0);
const MIB: Kind = Int(0, 1 << 30);
