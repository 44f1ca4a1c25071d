//! The variables of a network: initialised from a seed, saved to and loaded from safetensors.

use std::collections::BTreeMap;

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use safetensors::SafeTensors;
use safetensors::tensor::{Dtype, TensorView, serialize};
use tch::nn::VarStore;
use tch::{Kind, Tensor};

use crate::TorchError;

/// All variables by name.
pub(crate) fn sorted(vars: &VarStore) -> BTreeMap<String, Tensor> {
    vars.variables().into_iter().collect()
}

/// Initialises every variable from the seed and its place in the order of names: He's uniform for weights (He et al. 2015,
/// section 2.2), 1 for batch norm's scale and variance, 0 for what is added. Independent of libtorch's generator.
pub(crate) fn initialise(vars: &VarStore, seed: u64) -> Result<(), TorchError> {
    let mut random = StdRng::seed_from_u64(seed);
    for (name, mut tensor) in sorted(vars) {
        let (shape, count) = (tensor.size(), tensor.numel());
        let values: Vec<f32> = if shape.len() < 2 {
            let one = name.ends_with("running_var") || name.ends_with("weight");
            vec![if one { 1.0 } else { 0.0 }; count]
        } else {
            // A row of an embedding is looked up, not summed over: its fan-in is 1.
            let fan_in = if name == "embedding.weight" { 12.0 } else { count as f32 / shape[0] as f32 };
            let bound = (6.0 / fan_in).sqrt();
            (0..count).map(|_| random.random_range(-bound..bound)).collect()
        };
        let values = Tensor::f_from_slice(&values)?.f_view(shape.as_slice())?;
        tch::no_grad(|| tensor.f_copy_(&values))?;
    }
    Ok(())
}

/// The variables as a safetensors file.
pub(crate) fn to_bytes(vars: &VarStore) -> Result<Vec<u8>, TorchError> {
    let columns = sorted(vars).into_iter().map(|(name, tensor)| Ok((name, shape_of(&tensor), bytes_of(&tensor)?)));
    let columns = columns.collect::<Result<Vec<_>, TorchError>>()?;
    serialize_f32(&columns)
}

/// Named `F32` tensors as a safetensors file.
pub(crate) fn serialize_f32(columns: &[(String, Vec<usize>, Vec<u8>)]) -> Result<Vec<u8>, TorchError> {
    let views = columns.iter().map(|(name, shape, bytes)| Ok((name, TensorView::new(Dtype::F32, shape.clone(), bytes)?)));
    let views = views.collect::<Result<Vec<_>, safetensors::SafeTensorError>>();
    views.and_then(|views| serialize(views, None)).map_err(|e| TorchError::Torch(format!("the weights cannot be serialised: {e}")))
}

/// Sets the variables from a safetensors file, which must have exactly these tensors, all finite. `file` names it in errors.
pub(crate) fn from_bytes(vars: &VarStore, bytes: &[u8], file: &str) -> Result<(), TorchError> {
    let bad = |reason: String| TorchError::BadModel(format!("{file}: {reason}"));
    let tensors = SafeTensors::deserialize(bytes).map_err(|e| bad(format!("not a complete safetensors file ({e}); publish it again")))?;
    let variables = sorted(vars);
    // PyTorch counts the batches a batch norm has seen; nothing here reads it.
    let stray = tensors.names().into_iter().find(|name| !variables.contains_key(*name) && !name.ends_with("num_batches_tracked"));
    if let Some(name) = stray {
        return Err(bad(format!("tensor {name} is not part of this architecture")));
    }
    for (name, mut variable) in variables {
        let shape = shape_of(&variable);
        let tensor = tensors.tensor(&name).map_err(|_| bad(format!("tensor {name} of shape {shape:?} is missing")))?;
        if tensor.dtype() != Dtype::F32 || tensor.shape() != shape {
            return Err(bad(format!("tensor {name} is {:?} {:?} and should be F32 {shape:?}", tensor.dtype(), tensor.shape())));
        }
        let finite = tensor.data().chunks_exact(4).all(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]]).is_finite());
        if !finite {
            return Err(bad(format!("tensor {name} holds NaN or infinity; a model must be finite")));
        }
        let values = Tensor::f_from_data_size(tensor.data(), &variable.size(), Kind::Float)?;
        tch::no_grad(|| variable.f_copy_(&values))?;
    }
    Ok(())
}

/// Sizes of a tensor's dimensions.
pub(crate) fn shape_of(tensor: &Tensor) -> Vec<usize> {
    tensor.size().iter().map(|&n| n as usize).collect()
}

/// Elements of a tensor, raw little-endian.
pub(crate) fn bytes_of(tensor: &Tensor) -> Result<Vec<u8>, TorchError> {
    let mut bytes = vec![0; tensor.numel() * tensor.f_kind()?.elt_size_in_bytes()];
    tensor.f_copy_data_u8(&mut bytes, tensor.numel())?;
    Ok(bytes)
}

/// Whether all elements are neither NaN nor infinite.
pub(crate) fn is_finite(tensor: &Tensor) -> Result<bool, TorchError> {
    Ok(tensor.f_isfinite()?.f_all()?.f_int64_value(&[])? != 0)
}
