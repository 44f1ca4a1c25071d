//! What a retraining needs to go on as if it had never stopped.

use std::collections::HashMap;
use std::path::Path;

use migrator_models::file;
use safetensors::SafeTensors;
use safetensors::tensor::{Dtype, TensorView, serialize};
use tch::Tensor;

use crate::TorchError;
use crate::optimizer::Optimizer;
use crate::weights;

/// How far a retraining is.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Position {
    /// Optimizer steps done.
    pub(crate) step: u64,
    /// Held-out accuracy after each epoch, as far as it is known.
    pub(crate) course: Vec<f64>,
    /// CPU seconds spent.
    pub(crate) core_s: f64,
    /// Held-out accuracy of the base, once known.
    pub(crate) before: Option<f64>,
    /// Best held-out accuracy of an epoch, and the model's file then.
    pub(crate) best: Option<(f64, Vec<u8>)>,
}

/// A checkpoint as read.
#[derive(Debug)]
pub(crate) struct Checkpoint {
    pub(crate) position: Position,
    /// The model's file at that step.
    pub(crate) weights: Vec<u8>,
    /// The optimizer's state by name.
    pub(crate) state: HashMap<String, Vec<u8>>,
}

/// Writes a checkpoint of the job `job` (its fingerprint), atomically.
pub(crate) fn write(path: &Path, job: &str, position: &Position, weights: &[u8], optimizer: &Optimizer) -> Result<(), TorchError> {
    let mut metadata = HashMap::from([
        ("job".to_owned(), job.to_owned()),
        ("step".to_owned(), position.step.to_string()),
        ("course".to_owned(), position.course.iter().map(f64::to_string).collect::<Vec<_>>().join(" ")),
        ("core_s".to_owned(), position.core_s.to_string()),
    ]);
    let mut columns = vec![("weights".to_owned(), Dtype::U8, vec![weights.len()], weights.to_vec())];
    if let Some(before) = position.before {
        metadata.insert("before".to_owned(), before.to_string());
    }
    if let Some((accuracy, best)) = &position.best {
        metadata.insert("best".to_owned(), accuracy.to_string());
        columns.push(("best".to_owned(), Dtype::U8, vec![best.len()], best.clone()));
    }
    for (name, tensor) in optimizer.state() {
        columns.push((name, Dtype::F32, weights::shape_of(tensor), weights::bytes_of(tensor)?));
    }
    let views = columns.iter().map(|(name, dtype, shape, bytes)| Ok((name, TensorView::new(*dtype, shape.clone(), bytes)?)));
    let bytes = views.collect::<Result<Vec<_>, safetensors::SafeTensorError>>().and_then(|views| serialize(views, Some(metadata)));
    let bytes = bytes.map_err(|e| TorchError::Io(format!("{}: it cannot be serialised ({e})", path.display())))?;
    file::replace(path, &bytes).map_err(|e| TorchError::io(path, &e))
}

/// Reads the checkpoint of the job `job`; `None` when there is none, or it is another job's or corrupt (then the log says so).
pub(crate) fn read(path: &Path, job: &str) -> Option<Checkpoint> {
    let bytes = match std::fs::read(path) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return None,
        Err(error) => {
            tracing::warn!(path = %path.display(), %error, "the checkpoint cannot be read; training starts anew");
            return None;
        }
    };
    let checkpoint = parse(&bytes, job);
    if checkpoint.is_none() {
        tracing::warn!(path = %path.display(), "the checkpoint is another job's or corrupt; training starts anew");
    }
    checkpoint
}

fn parse(bytes: &[u8], job: &str) -> Option<Checkpoint> {
    let (_, header) = SafeTensors::read_metadata(bytes).ok()?;
    let metadata = header.metadata().as_ref()?;
    let number = |key: &str| metadata.get(key)?.parse::<f64>().ok();
    if metadata.get("job").map(String::as_str) != Some(job) {
        return None;
    }
    let tensors = SafeTensors::deserialize(bytes).ok()?;
    let data = |name: &str| Some(tensors.tensor(name).ok()?.data().to_vec());
    let position = Position {
        step: number("step")? as u64,
        course: metadata.get("course")?.split_whitespace().map(|value| value.parse().ok()).collect::<Option<_>>()?,
        core_s: number("core_s")?,
        before: number("before"),
        best: number("best").zip(data("best")),
    };
    let state = tensors.iter().filter(|(name, _)| name.starts_with("state.")).map(|(name, view)| (name.to_owned(), view.data().to_vec()));
    Some(Checkpoint { position, weights: data("weights")?, state: state.collect() })
}

/// Sets the optimizer's state; `false` when the checkpoint holds that of another one.
pub(crate) fn restore_state(optimizer: &Optimizer, state: &HashMap<String, Vec<u8>>) -> Result<bool, TorchError> {
    for (name, tensor) in optimizer.state() {
        let mut tensor: Tensor = tensor.shallow_clone();
        match state.get(&name) {
            Some(bytes) if bytes.len() == tensor.numel() * size_of::<f32>() => {
                let values = Tensor::f_from_data_size(bytes, &tensor.size(), tch::Kind::Float)?;
                tch::no_grad(|| tensor.f_copy_(&values))?;
            }
            _ => return Ok(false),
        }
    }
    Ok(true)
}
