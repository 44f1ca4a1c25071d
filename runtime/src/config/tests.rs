use super::*;

const TENANT: &str = r#"
[[tenants]]
name = "a"
slo_ms = 20
model = { name = "m", classes = 3, max_batch = 8, source = { source = "architecture", architecture = { kind = "mlp", features = 4, hidden = [8] } } }
"#;

fn defects(text: &str) -> Vec<String> {
    Config::parse("c.toml", text).unwrap_err().0.iter().map(ConfigError::to_string).collect()
}

fn accepted(text: &str) -> Config {
    Config::parse("c.toml", text).unwrap_or_else(|e| panic!("{e}"))
}

/// The one defect of a tenant with a line added (line 6), or of a tenant with another line changed.
fn defect(text: &str) -> String {
    let found = defects(text);
    assert_eq!(found.len(), 1, "{found:#?}");
    found[0].clone()
}

#[test]
fn defaults_stand_in_for_what_is_left_out() {
    let config = accepted(TENANT);
    assert_eq!(config.server, ServerConfig::default());
    assert_eq!((config.server.http_port, config.server.metrics_port, config.retraining.window_s), (8000, 8002, 200.0));
    assert_eq!((config.tenants[0].weight, config.tenants[0].queue, &config.tenants[0].train), (1.0, 1024, &TrainSpec::default()));
}

#[test]
fn every_default_is_known_to_the_schema_and_within_its_bounds() {
    let text = toml::to_string(&accepted(TENANT)).unwrap();
    assert_eq!(accepted(&text), accepted(TENANT), "{text}");
}

#[test]
fn the_shipped_configurations_are_accepted() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../configs");
    for name in ["demo.toml", "digits-cifar.toml"] {
        Config::load(&folder.join(name)).unwrap_or_else(|e| panic!("{e}"));
    }
}

#[test]
fn a_tenant_overrides_the_common_retraining() {
    let config = accepted(&format!("[retraining]\nmin_samples = 10\nmin_gain = 0.01\n{TENANT}[tenants.retraining]\nmin_samples = 50\n"));
    let effective = config.retraining_of(&config.tenants[0]);
    assert_eq!((effective.min_samples, effective.min_gain), (50, 0.01));
}

/// What is appended to a good file, and the one line that must come of it.
const APPENDED: &[(&str, &str)] = &[
    ("weight = 0", "c.toml:6: tenants[0].weight = 0: must be a number from 0.001 to 1000"),
    ("weight = nan", "c.toml:6: tenants[0].weight = nan: must be a number from 0.001 to 1000"),
    ("queue = 1.5", "c.toml:6: tenants[0].queue = 1.5: must be an integer from 1 to 1000000"),
    ("queue = \"many\"", "c.toml:6: tenants[0].queue = \"many\": must be an integer from 1 to 1000000"),
    (
        "queu = 3",
        "c.toml:6: tenants[0].queu: unknown key; did you mean queue? allowed here: name, slo_ms, weight, floor_rps, queue, patience_ms, rate_rps, burst, concurrency, hedge, labels, golden, retraining, model, train",
    ),
    ("[tenants.train]\nepochs = 0", "c.toml:7: tenants[0].train.epochs = 0: must be an integer from 1 to 10000"),
    ("[device]\nkind = \"gpu\"", "c.toml:7: device.kind = \"gpu\": must be \"cpu\" or \"nvidia\""),
    (
        "[device]\nkind = \"nvidia\"",
        "c.toml:7: device.kind = \"nvidia\": needs device.gpus: the GPUs that may be cut up, by index, UUID or PCI bus id (`migrator gpu list` shows them)",
    ),
    ("[device]\ngpus = [\"0\"]", "c.toml:7: device.gpus = [\"0\"]: is for kind = \"nvidia\""),
    ("[device]\nenforcement = \"cgroups\"", "c.toml:7: device.enforcement = \"cgroups\": must be \"auto\" or \"cgroup\" or \"duty\""),
    ("[server]\nhttp_port = 70000", "c.toml:7: server.http_port = 70000: must be an integer from 0 to 65535"),
    (
        "[server]\nmetrics_port = 8000",
        "c.toml:7: server.metrics_port = 8000: must differ from server.http_port, which is 8000; 0 picks a free one",
    ),
    ("[planner]\npreload = \"yes\"", "c.toml:7: planner.preload = \"yes\": must be true or false"),
    ("[retraining]\nmax_samples = 10", "c.toml:7: retraining.max_samples = 10: must be at least min_samples, which is 64"),
    ("golden = {}", "c.toml:6: tenants[0].golden: needs model (its name in the store) or file"),
    (
        "golden = { model = \"m\", file = \"x\" }",
        "c.toml:6: tenants[0].golden.file = \"x\": is for a model that is not in the store: give model or file",
    ),
    ("[retraining]\nstored_days = 0.001", "c.toml:7: retraining.stored_days = 0.001: must be at least two windows, 0.0046 days"),
    ("[retraining]\nstored_samples = 1000", "c.toml:7: retraining.stored_samples = 1000: must be at least max_samples, which is 2000"),
    (
        "[tenants.retraining]\nmin_samples = 4",
        "c.toml:6: tenants[0].retraining.held_out_share: must hold out at least one of 4 samples, so at least 0.250",
    ),
    ("[tenant]\n", "c.toml:6: tenant: unknown key; did you mean tenants? allowed here: server, device, planner, retraining, tenants"),
    ("x = [1, 2", "c.toml:6: unclosed array, expected `]`"),
    ("slo_ms = 3", "c.toml:6: duplicate key"),
];

#[test]
fn each_defect_is_one_line_with_file_line_key_value_and_what_is_allowed() {
    for (appended, line) in APPENDED {
        assert_eq!(defect(&format!("{TENANT}{appended}\n")), *line, "{appended}");
    }
}

/// What is replaced in a good file by what, and the one line that must come of it.
const REPLACED: &[(&str, &str, &str)] = &[
    ("slo_ms = 20", "slo_ms = -3", "c.toml:4: tenants[0].slo_ms = -3: must be a number from 1 to 60000"),
    ("slo_ms = 20\n", "", "c.toml:2: tenants[0]: slo_ms is missing: must be a number from 1 to 60000"),
    (
        "\"a\"",
        "\"a/b\"",
        "c.toml:3: tenants[0].name = \"a/b\": must be a name of 1 to 63 letters, digits, '-', '_' or '.', starting with a letter or digit",
    ),
    ("classes = 3", "classes = 1", "c.toml:5: tenants[0].model.classes = 1: must be an integer from 2 to 100000"),
    ("max_batch = 8, ", "", "c.toml:5: tenants[0].model: max_batch is missing: must be an integer from 1 to 1024"),
    (
        "kind = \"mlp\"",
        "kind = \"mpl\"",
        "c.toml:5: tenants[0].model.source.architecture.kind = \"mpl\": must be \"mlp\" or \"cnn\" or \"resnet18\" or \"mobilenet_v2\" or \"text_classifier\"",
    ),
    (
        "kind = \"mlp\", ",
        "",
        "c.toml:5: tenants[0].model.source.architecture: kind is missing: must be \"mlp\" or \"cnn\" or \"resnet18\" or \"mobilenet_v2\" or \"text_classifier\"",
    ),
    (
        "hidden = [8]",
        "hiden = [8]",
        "c.toml:5: tenants[0].model.source.architecture.hiden: unknown key; did you mean hidden? allowed here: kind, features, hidden",
    ),
    ("[8]", "[0]", "c.toml:5: tenants[0].model.source.architecture.hidden = [0]: must be a list of 0 to 16 integers from 1 to 65536"),
    (
        "kind = \"mlp\", features = 4, hidden = [8]",
        "kind = \"cnn\", input = [1, 4, 4], width = 8",
        "c.toml:5: tenants[0].model.source.architecture.input = [1, 4, 4]: must be at least 8 high and 8 wide: it is pooled three times",
    ),
    (TENANT, "[server]\n", "c.toml:1: tenants is missing: must be a list of one or more tables"),
    (TENANT, "tenants = []", "c.toml:1: tenants = []: must be a list of one or more tables"),
];

#[test]
fn what_is_wrong_inside_a_model_is_named_too() {
    for (good, bad, line) in REPLACED {
        let found = defects(&TENANT.replace(good, bad));
        assert!(found.contains(&(*line).to_owned()), "{good} -> {bad}: {found:#?}");
    }
}

#[test]
fn all_defects_are_listed_at_once_by_line() {
    let text = format!("[server]\nhost = 3\nhttp_prt = 1\n{TENANT}queue = 0\n[planner]\nslot_s = 0\n");
    let lines: Vec<usize> = Config::parse("c", &text).unwrap_err().0.iter().map(|e| e.line).collect();
    assert_eq!(lines, [2, 3, 9, 11]);
}

#[test]
fn tenants_must_differ_in_name_and_share_no_retrained_model() {
    let found = defects(&format!("{TENANT}{TENANT}"));
    assert_eq!(found, ["c.toml:8: tenants[1].name = \"a\": must be unique; tenants[0] has this name too"]);
    let other = TENANT.replace("\"a\"", "\"b\"");
    assert!(defect(&format!("{TENANT}{other}")).contains("is retrained by tenant \"a\" too"));
    assert!(
        defect(&format!("{TENANT}{}", other.replace("classes = 3", "classes = 4"))).contains("or the same model as that of tenant \"a\"")
    );
    accepted(&format!("{TENANT}{other}[tenants.retraining]\nenabled = false\n"));
}

#[test]
fn a_file_that_is_not_there_is_named() {
    let error = Config::load(Path::new("/nowhere/c.toml")).unwrap_err().to_string();
    assert_eq!(error, "/nowhere/c.toml: cannot be read: No such file or directory (os error 2)");
}

#[test]
fn a_configuration_is_explained_in_words() {
    let folder = tempfile::tempdir().unwrap();
    let mut config = accepted(TENANT);
    config.server.state_dir = folder.path().to_owned();
    let explained = explain(&config, 4.0);
    assert_eq!(explained.problems, Vec::<String>::new());
    for part in [
        "3.50 of this host's 4 cores",
        "4g 2.00",
        "demand is forecast by analog",
        "takes INPUT0 FP32 [rows, 4], up to 8 rows",
        "no version yet",
    ] {
        assert!(explained.text.contains(part), "{part} is not in\n{}", explained.text);
    }
    config.device.reserved_cores = 4.0;
    assert_eq!(explain(&config, 4.0).problems, ["device.reserved_cores = 4: this host has 4 cores, which leaves none"]);
    std::fs::write(config.server.samples_file(), "not a database").unwrap();
    assert!(explain(&config, 8.0).problems[0].contains("is corrupt"));
}

#[test]
fn an_open_door_is_warned_of() {
    let key = format!("keys = [{{ name = \"k\", sha256 = \"{}\", scopes = [\"admin\"] }}]\n", "0f".repeat(32));
    let warned = |server: &str| warnings(&accepted(&format!("[server]\n{server}\n{TENANT}")));
    for inside in ["", "host = \"::1\"", "host = \"127.0.0.9\"", "host = \"localhost\""] {
        assert_eq!(warned(inside), [""; 0], "{inside}");
    }
    assert!(warned("host = \"0.0.0.0\"")[0].contains("whoever reaches it may do everything"));
    assert!(warned(&format!("host = \"0.0.0.0\"\n{key}"))[0].contains("can be read on the way"));
    let tls = "tls = { certificate = \"c\", key = \"k\" }\n";
    assert_eq!(warned(&format!("host = \"0.0.0.0\"\n{key}{tls}")), [""; 0]);
    assert_eq!(warned(&format!("host = \"0.0.0.0\"\njwt = {{ algorithm = \"HS256\", key = \"k\" }}\n{tls}")), [""; 0]);
}
