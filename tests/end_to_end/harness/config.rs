//! The configurations that the tests serve, and how their first versions are trained.

use migrator_models::reader::LabelledSet;

use super::data;

/// What a world is made of.
pub trait Setup {
    /// Names what is trained: setups that share it share their first versions.
    fn name(&self) -> &'static str;
    /// The configuration file.
    fn toml(&self) -> String;
    /// Tenants and what their first version is trained on.
    fn training(&self) -> Vec<(&'static str, LabelledSet)>;
    /// The GPU model behind the fake NVIDIA driver, where there is one.
    fn board(&self) -> Option<&'static str> {
        None
    }
}

/// Two small models: `digits` (an MLP, 8 readings, 3 classes, also known as model `tiny`) and `text` (a text classifier, 6 classes).
pub struct Pair {
    /// Seconds of a retraining window, when there is retraining.
    pub window_s: Option<f64>,
}

impl Setup for Pair {
    fn name(&self) -> &'static str {
        "pair"
    }

    fn toml(&self) -> String {
        let (enabled, window_s) = (self.window_s.is_some(), self.window_s.unwrap_or(600.0));
        format!(
            r#"
[server]
max_body_mib = 1

[planner]
dwell_s = 1

[retraining]
enabled = {enabled}
window_s = {window_s}
min_samples = 64
replay_share = 0

[[tenants]]
name = "digits"
slo_ms = 500
labels = {{}}
model = {{ name = "tiny", classes = 3, max_batch = 8, source = {{ source = "architecture", architecture = {{ kind = "mlp", features = 8, hidden = [16] }} }} }}
train = {{ epochs = 20, batch = 16, learning_rate = 1e-2 }}

[[tenants]]
name = "text"
slo_ms = 500
retraining = {{ enabled = false }}
model = {{ name = "text", classes = 6, max_batch = 8, source = {{ source = "architecture", architecture = {{ kind = "text_classifier", vocabulary = 500, max_tokens = 32, embedding = 16 }} }} }}
train = {{ epochs = 20, batch = 16, learning_rate = 1e-2 }}
"#
        )
    }

    fn training(&self) -> Vec<(&'static str, LabelledSet)> {
        vec![("digits", data::readings(400, 0, 1)), ("text", data::texts(800, 1))]
    }
}

/// [`Heavy`] on one GPU of a model behind the fake NVIDIA driver.
pub struct Fake {
    /// Name of a board of `configs/catalog`.
    pub board: &'static str,
}

impl Setup for Fake {
    fn name(&self) -> &'static str {
        HEAVY.name()
    }

    fn toml(&self) -> String {
        let device = "kind = \"nvidia\"\ngpus = [\"0\"]\ncompute = \"host\"\nlibrary = \"LIBRARY\"\ncores = 1";
        HEAVY.toml().replace("cores = 1", device)
    }

    fn training(&self) -> Vec<(&'static str, LabelledSet)> {
        HEAVY.training()
    }

    fn board(&self) -> Option<&'static str> {
        Some(self.board)
    }
}

static HEAVY: Heavy = Heavy { slo_ms: 1000 };

/// Two tenants, `east` and `west`, of one model each that takes some milliseconds a request, so that few requests make demand.
pub struct Heavy {
    /// SLO of both.
    pub slo_ms: u32,
}

impl Setup for Heavy {
    fn name(&self) -> &'static str {
        "heavy"
    }

    fn toml(&self) -> String {
        let slo_ms = self.slo_ms;
        let tenant = |name: &str| {
            format!(
                r#"
[[tenants]]
name = "{name}"
slo_ms = {slo_ms}
model = {{ name = "{name}", classes = 3, max_batch = 1, source = {{ source = "architecture", architecture = {{ kind = "mlp", features = 8, hidden = [4096, 4096] }} }} }}
train = {{ epochs = 1, batch = 16, learning_rate = 1e-4 }}
"#
            )
        };
        // One core on every host, so that the same few requests are demand everywhere.
        let head = "[device]\ncores = 1\n\n[planner]\ndwell_s = 1\n\n[retraining]\nenabled = false\nwindow_s = 600\n";
        [head, &tenant("east"), &tenant("west")].concat()
    }

    fn training(&self) -> Vec<(&'static str, LabelledSet)> {
        vec![("east", data::readings(160, 0, 1)), ("west", data::readings(160, 0, 2))]
    }
}
