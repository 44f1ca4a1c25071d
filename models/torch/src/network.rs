//! A network of either source, with its parameters.

use std::path::Path;

use migrator_models::store::{TORCHSCRIPT, WEIGHTS};
use migrator_models::{Architecture, ModelSpec, Source};
use tch::nn::VarStore;
use tch::{CModule, Device, Kind, Tensor};

use crate::architecture::{self, Net};
use crate::error::guarded;
use crate::{TorchError, script, weights};

/// What computes logits.
#[derive(Debug)]
pub(crate) enum Network {
    /// Built in Rust.
    Built { vars: VarStore, net: Box<dyn Net> },
    /// A TorchScript module.
    Script(CModule),
}

impl Network {
    /// A network with random weights on a device; an error for TorchScript, whose structure is in the file.
    pub(crate) fn new(spec: &ModelSpec, seed: u64, device: Device) -> Result<Network, TorchError> {
        let Source::Architecture { architecture } = &spec.source else {
            return Err(TorchError::BadModel(format!(
                "model {}: TorchScript cannot be trained from scratch; publish a version",
                spec.name
            )));
        };
        let (vars, net) = build(spec, architecture, device)?;
        weights::initialise(&vars, seed)?;
        Ok(Network::Built { vars, net })
    }

    /// Loads a version's folder onto a device.
    pub(crate) fn load(spec: &ModelSpec, folder: &Path, device: Device) -> Result<Network, TorchError> {
        let Source::Architecture { architecture } = &spec.source else {
            return script::load(&folder.join(TORCHSCRIPT), device).map(Network::Script);
        };
        let (vars, net) = build(spec, architecture, device)?;
        let path = folder.join(WEIGHTS);
        let bytes = std::fs::read(&path).map_err(|e| TorchError::BadModel(format!("{}: it cannot be read ({e})", path.display())))?;
        weights::from_bytes(&vars, &bytes, &path.display().to_string())?;
        Ok(Network::Built { vars, net })
    }

    /// The same network on another device. A built one is copied from memory; a TorchScript module is read from its folder again,
    /// for moving one leaves its constants behind.
    pub(crate) fn copied(&self, spec: &ModelSpec, folder: &Path, device: Device) -> Result<Network, TorchError> {
        let (Network::Built { vars: from, .. }, Source::Architecture { architecture }) = (self, &spec.source) else {
            return Network::load(spec, folder, device);
        };
        let (vars, net) = build(spec, architecture, device)?;
        let from = weights::sorted(from);
        for (name, mut variable) in weights::sorted(&vars) {
            if let Some(from) = from.get(&name) {
                tch::no_grad(|| variable.f_copy_(from))?;
            }
        }
        Ok(Network::Built { vars, net })
    }

    /// Computes in `kind` from now on; only a network that is not trained may do so.
    pub(crate) fn convert(&mut self, kind: Kind, device: Device) -> Result<(), TorchError> {
        match (self, kind) {
            (_, Kind::Float) => Ok(()),
            (Network::Built { vars, .. }, Kind::BFloat16) => guarded(|| vars.bfloat16()),
            (Network::Built { vars, .. }, _) => guarded(|| vars.half()),
            (Network::Script(module), kind) => guarded(|| module.to(device, kind, false)),
        }
    }

    /// Logits, `[rows, classes]` if the network is right.
    pub(crate) fn forward(&self, inputs: &[Tensor], train: bool) -> Result<Tensor, TorchError> {
        let logits = match self {
            Network::Built { net, .. } => net.forward(inputs, train)?,
            Network::Script(module) => module.forward_ts(inputs)?,
        };
        Ok(if logits.f_kind()? == Kind::Float { logits } else { logits.f_to_kind(Kind::Float)? })
    }

    /// Switches a TorchScript module; a built network is told with each forward pass.
    pub(crate) fn set_training(&mut self, train: bool) -> Result<(), TorchError> {
        match self {
            Network::Built { .. } => Ok(()),
            Network::Script(module) if train => Ok(module.f_set_train()?),
            Network::Script(module) => Ok(module.f_set_eval()?),
        }
    }

    /// The tensors to train, by name; this share of the layers, from the input, is left out, but never the last.
    pub(crate) fn parameters(&self, frozen: f64) -> Result<Vec<(String, Tensor)>, TorchError> {
        let mut parameters: Vec<_> = match self {
            Network::Built { vars, .. } => in_order(vars),
            Network::Script(module) => module.named_parameters()?,
        };
        parameters.retain(|(_, tensor)| tensor.requires_grad());
        thaw(&mut parameters, frozen);
        parameters.sort_by(|a, b| a.0.cmp(&b.0));
        if parameters.is_empty() {
            let reason = "it has no trainable parameters; export it with torch.jit.script, and without torch.jit.freeze";
            return Err(TorchError::BadModel(format!("{TORCHSCRIPT}: {reason}")));
        }
        Ok(parameters)
    }

    /// Whether all weights (of a built network, also the statistics of batch norm) are finite.
    pub(crate) fn is_finite(&self) -> Result<bool, TorchError> {
        let tensors: Vec<Tensor> = match self {
            Network::Built { vars, .. } => vars.variables().into_values().collect(),
            Network::Script(module) => module.named_parameters()?.into_iter().map(|(_, tensor)| tensor).collect(),
        };
        tensors.iter().try_fold(true, |finite, tensor| Ok(finite && weights::is_finite(tensor)?))
    }

    /// Name of its file in a version's folder.
    pub(crate) fn file_name(&self) -> &'static str {
        match self {
            Network::Built { .. } => WEIGHTS,
            Network::Script(_) => TORCHSCRIPT,
        }
    }

    /// What its file in a version's folder holds. `scratch` is a path that may be written and removed.
    pub(crate) fn snapshot(&mut self, scratch: &Path) -> Result<Vec<u8>, TorchError> {
        self.set_training(false)?;
        match self {
            Network::Built { vars, .. } => weights::to_bytes(vars),
            Network::Script(module) => script::to_bytes(module, scratch),
        }
    }

    /// Goes back to what [`Network::snapshot`] gave; parameters taken before may no longer be its own.
    pub(crate) fn restore(&mut self, bytes: &[u8], path: &Path, device: Device) -> Result<(), TorchError> {
        match self {
            Network::Built { vars, .. } => weights::from_bytes(vars, bytes, &path.display().to_string())?,
            Network::Script(module) => *module = script::from_bytes(bytes, path, device)?,
        }
        Ok(())
    }
}

/// The trainable variables in the order in which the network was built, input first.
fn in_order(vars: &VarStore) -> Vec<(String, Tensor)> {
    let order: Vec<_> = vars.trainable_variables().iter().map(Tensor::data_ptr).collect();
    let mut named: Vec<_> = weights::sorted(vars).into_iter().collect();
    named.sort_by_key(|(_, tensor)| order.iter().position(|&pointer| pointer == tensor.data_ptr()));
    named
}

/// Leaves out the parameters of this share of the layers; a layer's parameters have its name and a last part of their own.
fn thaw(parameters: &mut Vec<(String, Tensor)>, frozen: f64) {
    let layer = |name: &str| name.rsplit_once('.').map_or(String::new(), |(layer, _)| layer.to_owned());
    let mut layers: Vec<String> = parameters.iter().map(|(name, _)| layer(name)).collect();
    layers.dedup();
    let most = layers.len().saturating_sub(1);
    let cold: Vec<String> = layers.into_iter().take((most as f64 * frozen.clamp(0.0, 1.0)).round() as usize).collect();
    parameters.retain(|(name, _)| !cold.contains(&layer(name)));
}

fn build(spec: &ModelSpec, architecture: &Architecture, device: Device) -> Result<(VarStore, Box<dyn Net>), TorchError> {
    let vars = VarStore::new(device);
    let net = architecture::build(&vars.root(), architecture, spec)?;
    Ok((vars, net))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Model;

    fn spec(architecture: Architecture) -> ModelSpec {
        ModelSpec {
            name: "m".into(),
            classes: 5,
            max_batch: 4,
            precision: Default::default(),
            source: Source::Architecture { architecture },
        }
    }

    #[test]
    fn saved_and_loaded_networks_answer_alike() {
        let input = [3, 32, 32];
        let all = [
            Architecture::Mlp { features: 3 * 32 * 32, hidden: vec![8, 8] },
            Architecture::Cnn { input, width: 4 },
            Architecture::Resnet18 { input },
            Architecture::MobilenetV2 { input },
        ];
        for spec in all.map(spec) {
            let folder = tempfile::tempdir().unwrap();
            let mut network = Network::new(&spec, 3, Device::Cpu).unwrap();
            std::fs::write(folder.path().join(WEIGHTS), network.snapshot(folder.path()).unwrap()).unwrap();
            let model = Model::load(&spec, folder.path()).unwrap();
            let row: Vec<f32> = (0..2 * 3 * 32 * 32).map(|i| (i % 19) as f32 / 19.0).collect();
            let shape: Vec<i64> = [2].into_iter().chain(spec.inputs()[0].shape.iter().map(|&n| i64::from(n))).collect();
            let x = Tensor::from_slice(&row).view(shape.as_slice());
            let direct = tch::no_grad(|| network.forward(&[x], false)).unwrap();
            let bytes: Vec<u8> = row.iter().flat_map(|v| v.to_le_bytes()).collect();
            assert_eq!(model.infer(&[&bytes], 2).unwrap(), weights::bytes_of(&direct).unwrap(), "{spec:?}");
            let moved = network.copied(&spec, Path::new("unused"), Device::Cpu).unwrap();
            let x = Tensor::from_slice(&row).view(shape.as_slice());
            let copied = tch::no_grad(|| moved.forward(&[x], false)).unwrap();
            assert_eq!(weights::bytes_of(&copied).unwrap(), weights::bytes_of(&direct).unwrap(), "{spec:?}");
        }
    }

    #[test]
    fn layers_are_frozen_from_the_input_and_the_last_never() {
        let network = Network::new(&spec(Architecture::Mlp { features: 4, hidden: vec![8, 8] }), 1, Device::Cpu).unwrap();
        let trained = |frozen| network.parameters(frozen).unwrap().into_iter().map(|(name, _)| name).collect::<Vec<_>>();
        assert_eq!(trained(0.0).len(), 6);
        assert_eq!(trained(0.5), ["layers.1.bias", "layers.1.weight", "layers.2.bias", "layers.2.weight"]);
        assert_eq!(trained(1.0), ["layers.2.bias", "layers.2.weight"]);
        assert_eq!(trained(f64::NAN).len(), 6);
        let cnn = Network::new(&spec(Architecture::Cnn { input: [1, 8, 8], width: 2 }), 1, Device::Cpu).unwrap();
        let head: Vec<_> = cnn.parameters(1.0).unwrap().into_iter().map(|(name, _)| name).collect();
        assert_eq!(head, ["head.bias", "head.weight"]);
    }

    #[test]
    fn the_seed_decides_the_weights() {
        let spec = spec(Architecture::Mlp { features: 4, hidden: vec![8] });
        let bytes = |seed| Network::new(&spec, seed, Device::Cpu).unwrap().snapshot(Path::new("unused")).unwrap();
        assert!(bytes(1) == bytes(1) && bytes(1) != bytes(2));
    }
}
