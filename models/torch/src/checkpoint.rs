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
    /// Which held-out samples the base tells right, once known.
    pub(crate) before: Option<Vec<bool>>,
    /// The best epoch.
    pub(crate) best: Option<Best>,
}

/// The best epoch of a retraining so far.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Best {
    /// Which held-out samples it tells right.
    pub(crate) right: Vec<bool>,
    /// The model's file then.
    pub(crate) weights: Vec<u8>,
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
    let metadata = HashMap::from([
        ("job".to_owned(), job.to_owned()),
        ("step".to_owned(), position.step.to_string()),
        ("course".to_owned(), position.course.iter().map(f64::to_string).collect::<Vec<_>>().join(" ")),
        ("core_s".to_owned(), position.core_s.to_string()),
    ]);
    let bytes = |name: &str, bytes: Vec<u8>| (name.to_owned(), Dtype::U8, vec![bytes.len()], bytes);
    let flags = |name: &str, flags: &[bool]| bytes(name, flags.iter().copied().map(u8::from).collect());
    let mut columns = vec![bytes("weights", weights.to_vec())];
    columns.extend(position.before.iter().map(|before| flags("before", before)));
    if let Some(best) = &position.best {
        columns.extend([flags("best_right", &best.right), bytes("best", best.weights.clone())]);
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
    let flags = |name: &str| Some(data(name)?.into_iter().map(|byte| byte != 0).collect::<Vec<bool>>());
    let position = Position {
        step: number("step")? as u64,
        course: metadata.get("course")?.split_whitespace().map(|value| value.parse().ok()).collect::<Option<_>>()?,
        core_s: number("core_s")?,
        before: flags("before"),
        best: flags("best_right").zip(data("best")).map(|(right, weights)| Best { right, weights }),
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
