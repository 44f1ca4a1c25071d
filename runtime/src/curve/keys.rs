//! What each key of a curve file may hold (see [`crate::config::key`]).

use crate::config::key::Kind::{Int, List, Map, Num, Tables, Text};
use crate::config::key::{Key, Kind, may, must};

pub(super) static ROOT: &[Key] = &[
    must("source", Text),
    may("host", Text),
    must("gpus", List(&Text)),
    may("inference", Tables(INFERENCE)),
    may("training", Tables(TRAINING)),
    may("derived", Tables(DERIVED)),
    may("instances", Tables(INSTANCES)),
];

static INFERENCE: &[Key] =
    &[must("model", Kind::Name), may("spec", Text), may("memory_mib", MEMORY), must("batch_ms", Map(&List(&List(&Num(0.0, 1e7)))))];

static TRAINING: &[Key] = &[
    must("model", Kind::Name),
    must("batch", ROWS),
    may("spec", Text),
    may("memory_mib", MEMORY),
    may("core_s", SECONDS),
    must("iteration_s", Map(&SECONDS)),
];

static DERIVED: &[Key] = &[must("models", List(&Kind::Name)), must("batch", ROWS), must("factor", Num(0.01, 1000.0))];

static INSTANCES: &[Key] = &[
    must("gpus", List(&Text)),
    must("create_s", Map(&SECONDS)),
    must("destroy_s", Map(&SECONDS)),
    must("sms", Map(&Num(1.0, 10_000.0))),
    must("gpu_sms", Num(1.0, 10_000.0)),
];

const MEMORY: Kind = Int(0, 1 << 30);
const ROWS: Kind = Int(1, 1 << 20);
const SECONDS: Kind = Num(0.0, 1e6);
