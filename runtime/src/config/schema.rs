//! What each key of a configuration may hold, as one table (see [`super::key`]).

use super::key::Kind::{Bool, Choice, Int, Ints, Num, Tables, Tagged, Text};
use super::key::{Key, Kind, may, must};

pub(super) static ROOT: &[Key] = &[
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
    may("grpc_port", Int(0, 65535)),
    may("admin_port", Int(0, 65535)),
    may("max_body_mib", Int(1, 1024)),
    may("max_connections", Int(16, 1_000_000)),
    may("idle_s", Num(1.0, 3600.0)),
    may("leave_s", Num(0.0, 600.0)),
    may("access_log", Bool),
    may("tls", Kind::Table(TLS)),
    may("otlp", Kind::Table(OTLP)),
    may("jwt", Kind::Table(JWT)),
    may("keys", Tables(KEY)),
    may("drain_s", Num(0.0, 600.0)),
    may("state_dir", Text),
];

static TLS: &[Key] = &[must("certificate", Text), must("key", Text)];

static OTLP: &[Key] = &[must("endpoint", Text), may("share", Num(0.0, 1.0)), may("queue", Int(512, 1_000_000))];

static JWT: &[Key] = &[
    must("algorithm", Choice(&["HS256", "RS256", "ES256", "EdDSA"])),
    must("key", Text),
    may("issuer", Text),
    may("audience", Text),
    may("leeway_s", Num(0.0, 3600.0)),
];

static KEY: &[Key] = &[
    must("name", Kind::Name),
    must("sha256", Text),
    may("tenants", Kind::List(&Kind::Name)),
    must("scopes", Kind::List(&Choice(&["inference", "samples", "admin"]))),
];

static DEVICE: &[Key] = &[
    may("kind", Choice(&["cpu", "nvidia"])),
    may("cores", Num(0.1, 1024.0)),
    may("reserved_cores", Num(0.0, 1024.0)),
    may("memory_mib", Int(256, 1 << 24)),
    may("gpu_times", Bool),
    may("enforcement", Choice(&["auto", "cgroup", "duty"])),
    may("gpus", Kind::List(&Text)),
    may("library", Text),
    may("compute", Choice(&["cuda", "host"])),
    may("take_over", Bool),
];

static PLANNER: &[Key] = &[
    may("policy", Choice(migrator_solver::PolicyName::LIVE)),
    may("forecast", Choice(migrator_solver::forecast::ForecastName::NAMES)),
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
    may("max_forgetting", Num(0.0, 1.0)),
    may("canary_share", Num(0.0, 0.5)),
    may("canary_samples", Int(1, 1_000_000)),
    may("canary_s", Num(1.0, 86_400.0)),
    may("rollback", Bool),
    may("microprofile_share", Num(0.0, 1.0)),
    may("microprofile_epochs", Int(1, 100)),
    may("beyond_window_s", Num(0.0, 86_400.0)),
    may("stored_samples", Int(2, 10_000_000)),
    may("stored_mib", Int(1, 1 << 24)),
    may("stored_days", Num(0.001, 36_500.0)),
];

static OVERRIDE: &[Key] = &[
    may("enabled", Bool),
    may("min_samples", Int(2, 1_000_000)),
    may("max_samples", Int(2, 1_000_000)),
    may("replay_share", Num(0.0, 10.0)),
    may("held_out_share", Num(0.01, 0.5)),
    may("min_gain", Num(-1.0, 1.0)),
    may("max_forgetting", Num(0.0, 1.0)),
    may("canary_share", Num(0.0, 0.5)),
    may("microprofile_share", Num(0.0, 1.0)),
    may("stored_samples", Int(2, 10_000_000)),
    may("stored_mib", Int(1, 1 << 24)),
    may("stored_days", Num(0.001, 36_500.0)),
    may("configurations", Tables(EFFORT)),
];

static TENANT: &[Key] = &[
    must("name", Kind::Name),
    must("slo_ms", Num(1.0, 60_000.0)),
    may("weight", Num(0.001, 1000.0)),
    may("floor_rps", Num(0.0, 1e6)),
    may("queue", Int(1, 1_000_000)),
    may("patience_ms", Num(1.0, 600_000.0)),
    may("rate_rps", Num(0.001, 1e6)),
    may("burst", Int(1, 1_000_000)),
    may("concurrency", Int(1, 1_000_000)),
    may("hedge", Num(0.0, 0.2)),
    may("labels", Kind::Table(LABELS)),
    may("golden", Kind::Table(GOLDEN)),
    may("retraining", Kind::Table(OVERRIDE)),
    must("model", Kind::Table(MODEL)),
    may("train", Kind::Table(TRAIN)),
];

static GOLDEN: &[Key] = &[
    may("model", Kind::Name),
    may("file", Text),
    may("source", Tagged("source", SOURCES)),
    may("share", Num(0.0001, 1.0)),
    may("max_rps", Num(0.01, 10_000.0)),
    may("min_confidence", Num(0.0, 1.0)),
];

static LABELS: &[Key] = &[may("wait_s", Num(1.0, 604_800.0)), may("memory_mib", Int(1, 65_536)), may("features", Bool)];

static MODEL: &[Key] = &[
    must("name", Kind::Name),
    must("classes", Int(2, 100_000)),
    must("max_batch", Int(1, 1024)),
    may("precision", Choice(&["fp32", "fp16", "bf16"])),
    must("source", Tagged("source", SOURCES)),
];

static SOURCES: &[(&str, &[Key])] = &[("architecture", ARCHITECTURE), ("torchscript", TORCHSCRIPT)];

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

static TRAIN: &[Key] = &[
    may("epochs", Int(1, 10_000)),
    may("batch", Int(1, 65_536)),
    may("learning_rate", Num(1e-9, 100.0)),
    may("seed", Int(0, i64::MAX)),
    may("share", Num(0.001, 1.0)),
    may("frozen", Num(0.0, 1.0)),
    may("patience", Int(0, 10_000)),
    // fp16 would need its loss scaled; bf16 has the range of fp32.
    may("precision", Choice(&["fp32", "bf16"])),
];

static EFFORT: &[Key] = &[
    may("epochs", Int(1, 10_000)),
    may("batch", Int(1, 65_536)),
    may("learning_rate", Num(1e-9, 100.0)),
    may("share", Num(0.001, 1.0)),
    may("frozen", Num(0.0, 1.0)),
];
