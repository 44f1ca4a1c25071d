//! Where this process computes: on the host, or on the one instance it attached itself to.

use std::sync::OnceLock;

use migrator_models::{ModelSpec, Precision};
use tch::{Cuda, Device, Kind, Tensor};

use crate::TorchError;
use crate::error::guarded;

/// What the device is called by everybody once it is the only one in sight.
const GPU: Device = Device::Cuda(0);

/// Compute slices of the instance; set once, for CUDA never sees another one.
static INSTANCE: OnceLock<f64> = OnceLock::new();

/// Makes the one GPU that CUDA sees the place where this process computes: what is loaded or trained from now on is on it.
/// `slices` are its compute slices, in which the cost of a retraining is counted. libtorch's CUDA libraries must be loaded.
///
/// # Errors
/// [`TorchError::NoDevice`] when CUDA cannot be used, or sees another number of GPUs than one.
pub fn adopt_gpu(slices: f64) -> Result<(), TorchError> {
    let none = |reason: String| TorchError::NoDevice(format!("libtorch has no use of CUDA here: {reason}"));
    match guarded(|| (Cuda::is_available(), Cuda::device_count()))? {
        (true, 1) => {}
        (true, count) => return Err(none(format!("it sees {count} GPUs and should see one"))),
        (false, _) => return Err(none("its CUDA backend is not loaded, or sees no GPU".to_owned())),
    }
    // TorchScript would compile fused kernels for each batch size, seconds in which an instance stands idle, to save a few launches.
    tch::jit::f_set_tensor_expr_fuser_enabled(false)?;
    // The first tensor makes the context, which takes longer than anything else here.
    drop(Tensor::f_zeros([1], (Kind::Float, GPU))?);
    synchronize()?;
    INSTANCE.set(slices).map_err(|_| none("this process has its GPU already".to_owned()))
}

/// The device that this process computes on.
pub(crate) fn device() -> Device {
    if INSTANCE.get().is_some() { GPU } else { Device::Cpu }
}

/// What a second of computing costs: compute slices of the instance, or 1 core.
pub(crate) fn slices() -> f64 {
    INSTANCE.get().copied().unwrap_or(1.0)
}

/// What inference of a model computes in on a device.
pub(crate) fn kind(spec: &ModelSpec, device: Device) -> Kind {
    match spec.precision {
        Precision::Fp16 if device.is_cuda() => Kind::Half,
        Precision::Bf16 if device.is_cuda() => Kind::BFloat16,
        _ => Kind::Float,
    }
}

/// Waits for all that was begun on the device.
pub(crate) fn synchronize() -> Result<(), TorchError> {
    if device().is_cuda() { guarded(|| Cuda::synchronize(0)) } else { Ok(()) }
}

/// A tensor on a device; on the host, the tensor itself.
pub(crate) fn on(device: Device, tensor: Tensor) -> Result<Tensor, TorchError> {
    match device {
        Device::Cpu => Ok(tensor),
        device => Ok(tensor.f_to_device_(device, tensor.f_kind()?, true, false)?),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn without_cuda_the_host_computes_and_says_why() {
        let error = adopt_gpu(1.0).unwrap_err();
        assert!(matches!(&error, TorchError::NoDevice(line) if line.contains("not loaded")), "{error}");
        assert_eq!((device(), slices()), (Device::Cpu, 1.0));
    }

    #[test]
    fn half_precision_is_for_gpus() {
        let architecture = migrator_models::Architecture::Mlp { features: 2, hidden: vec![] };
        let source = migrator_models::Source::Architecture { architecture };
        let spec = ModelSpec { name: "m".into(), classes: 2, max_batch: 1, precision: Precision::Bf16, source };
        assert_eq!((kind(&spec, GPU), kind(&spec, Device::Cpu)), (Kind::BFloat16, Kind::Float));
    }
}
