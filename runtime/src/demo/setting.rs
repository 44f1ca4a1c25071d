//! What the demo runs with: the configuration, its tenants as generators, the state folder.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use migrator_models::ModelSpec;
use migrator_models::synthetic::Kind;

use crate::cli::DemoArgs;
use crate::config::{Compute, Config, DeviceConfig, DeviceKind};

/// Everything that is settled before anything runs.
pub(super) struct Setting {
    /// Flags.
    pub args: DemoArgs,
    /// The file, with the device that the flags want.
    pub config: Config,
    /// Where that file is.
    pub config_file: PathBuf,
    /// What each tenant is sent, in configuration order.
    pub kinds: Vec<Kind>,
    /// Where state is kept.
    pub state: StateFolder,
}

impl Setting {
    /// Reads the configuration and makes the state folder.
    ///
    /// # Errors
    /// When the configuration is wrong or not the demo's.
    pub(super) fn new(args: DemoArgs) -> Result<Self> {
        let mut config = Config::load(&args.config).map_err(|errors| anyhow::anyhow!("{errors}"))?;
        let kinds = config.tenants.iter().map(|tenant| kind(&tenant.name, &tenant.model)).collect::<Result<_>>();
        let kinds = kinds.with_context(|| format!("{}: not the demo's configuration", args.config.display()))?;
        let state = StateFolder::new(args.state_dir.as_deref())?;
        let fake = args.fake_gpu.as_deref().map(|model| FakeGpu::new(model, &state)).transpose()?;
        let mut config_file = args.config.clone();
        if let Some(fake) = fake {
            config.device = fake.device(&config.device);
            config_file = state.path().join("demo.toml");
            let text = toml::to_string(&config).context("the demo's configuration cannot be written")?;
            std::fs::write(&config_file, text).with_context(|| format!("{}: cannot be written", config_file.display()))?;
        }
        Ok(Setting { args, config, config_file, kinds, state })
    }

    /// Length of a retraining window, seconds.
    pub(super) fn window_s(&self) -> f64 {
        self.config.retraining.window_s
    }
}

/// A GPU behind the fake NVIDIA driver.
struct FakeGpu {
    library: PathBuf,
}

impl FakeGpu {
    /// Describes a host with one GPU of this model to a copy of the fake driver, which lies beside this program.
    fn new(model: &str, state: &StateFolder) -> Result<FakeGpu> {
        let board = crate::gpu::board(model).context("--fake-gpu")?;
        let program = std::env::current_exe().context("this program's own path is unknown")?;
        let built = program.with_file_name("libfake_nvml.so");
        if !built.is_file() {
            bail!("{} is missing: `make build` builds it", built.display());
        }
        let folder = std::path::absolute(state.path().join("fake-nvml"))?;
        // It looks for its host beside itself.
        let library = folder.join("libnvidia-ml.so.1");
        let host = format!("latency = 1.0\n\n[[gpu]]\nboard = {:?}\nmig = {}\n", board.name, board.instances > 0);
        let write = || {
            std::fs::create_dir_all(&folder)?;
            std::fs::write(folder.join("host.toml"), host)?;
            std::fs::copy(&built, &library)
        };
        write().with_context(|| format!("{}: cannot be written", folder.display()))?;
        Ok(FakeGpu { library })
    }

    fn device(&self, configured: &DeviceConfig) -> DeviceConfig {
        DeviceConfig {
            kind: DeviceKind::Nvidia,
            gpus: vec!["0".to_owned()],
            library: Some(self.library.clone()),
            compute: Compute::Host,
            gpu_times: false,
            memory_mib: None,
            ..configured.clone()
        }
    }
}

/// The generator that a tenant's name and model stand for.
fn kind(name: &str, model: &ModelSpec) -> Result<Kind> {
    let kind: Kind = name.parse().map_err(|what| anyhow::anyhow!("tenant {name}: {what}"))?;
    let inputs = model.inputs();
    let elements = inputs.first().filter(|input| input.datatype.size().is_some()).map(|input| input.elements());
    if inputs.len() != 1 || elements != kind.width() || model.classes != kind.classes() {
        let width = kind.width().map_or("one text".to_owned(), |n| format!("{n} FP32 numbers"));
        bail!("tenant {name}: its model must take {width} and tell {} classes apart", kind.classes());
    }
    Ok(kind)
}

/// A folder for models, samples and logs; a temporary one goes when this is dropped.
pub(super) struct StateFolder {
    path: PathBuf,
    temporary: bool,
}

impl StateFolder {
    /// The given folder, or a fresh one among the system's temporary ones.
    ///
    /// # Errors
    /// When it cannot be made.
    pub(super) fn new(given: Option<&Path>) -> Result<Self> {
        let fresh = || std::env::temp_dir().join(format!("migrator-demo-{}", std::process::id()));
        let path = given.map_or_else(fresh, Path::to_owned);
        std::fs::create_dir_all(&path).with_context(|| format!("{}: cannot be made; name another with --state-dir", path.display()))?;
        Ok(StateFolder { path, temporary: given.is_none() })
    }

    /// Where it is.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// The server's log.
    pub(super) fn log(&self) -> PathBuf {
        self.path.join("server.log")
    }
}

impl Drop for StateFolder {
    fn drop(&mut self) {
        if self.temporary {
            // Nothing is lost when this fails: the system clears its temporary folders.
            let _ = std::fs::remove_dir_all(&self.path);
        }
    }
}

#[cfg(test)]
mod tests {
    use migrator_models::{Architecture, Source};

    use super::*;

    fn model(architecture: Architecture, classes: u32) -> ModelSpec {
        ModelSpec { name: "m".into(), classes, max_batch: 8, precision: Default::default(), source: Source::Architecture { architecture } }
    }

    #[test]
    fn a_model_that_does_not_fit_the_generator_is_refused_in_words() {
        let mlp = |features| Architecture::Mlp { features, hidden: vec![8] };
        assert_eq!(kind("sensor", &model(mlp(32), 4)).unwrap(), Kind::Sensor);
        let error = kind("sensor", &model(mlp(31), 4)).unwrap_err().to_string();
        assert_eq!(error, "tenant sensor: its model must take 32 FP32 numbers and tell 4 classes apart");
        assert!(kind("text", &model(mlp(32), 6)).is_err());
        assert!(kind("shop", &model(mlp(32), 4)).unwrap_err().to_string().contains("allowed: vision, sensor, text"));
    }

    #[test]
    fn a_temporary_folder_goes_and_a_given_one_stays() {
        let temporary = StateFolder::new(None).unwrap();
        let path = temporary.path().to_owned();
        assert!(path.is_dir());
        drop(temporary);
        assert!(!path.exists());
        let given = std::env::temp_dir().join(format!("migrator-demo-given-{}", std::process::id()));
        drop(StateFolder::new(Some(&given)).unwrap());
        assert!(given.is_dir());
        std::fs::remove_dir(given).unwrap();
    }
}
