//! A loaded model: inference and warm-up.

use std::path::Path;
use std::sync::Arc;

use migrator_models::{Datatype, ModelSpec, TensorSpec, row};
use tch::{CModule, Device, Kind};

use crate::network::Network;
use crate::shared::{self, Shared};
use crate::text::Text;
use crate::{TorchError, input, optimise, place, thread};

/// Calls before timing: TorchScript specialises itself in the first two.
const WARM_CALLS: u32 = 2;
/// Timed calls: as many as fit into this many milliseconds of CPU or GPU, within the bounds.
const TIMED_MS: f64 = 20.0;
const TIMED_CALLS: (usize, usize) = (1, 31);
/// Milliseconds of CPU or GPU that warming and timing take at most.
const WARM_MS: f64 = 300.0;

/// A model ready to answer; share it between threads by `Arc`, each call computes on the calling thread alone.
#[derive(Debug)]
pub struct Model {
    spec: ModelSpec,
    inputs: Vec<TensorSpec>,
    text: Option<Arc<Text>>,
    network: Shared<Network>,
    /// Where it is, and what it computes in.
    place: (Device, Kind),
}

impl Model {
    /// Loads onto the device that this process computes on: `weights.safetensors` (and `tokenizer.json` for text) or `model.pt` from a version
    /// folder of the store; runs one row of zeros through it.
    ///
    /// # Errors
    /// [`TorchError::BadModel`] when a file is missing, corrupt, too old, or does not fit `spec`, or holds NaN.
    pub fn load(spec: &ModelSpec, folder: &Path) -> Result<Model, TorchError> {
        thread::alone();
        let text = Text::load(spec, folder)?.map(Arc::new);
        let device = place::device();
        Model::of(spec, text, Network::load(spec, folder, device)?, device)
    }

    /// The same model on the device that this process computes on by now. `folder` is what it was loaded from.
    ///
    /// # Errors
    /// As [`Model::load`]; [`TorchError::OutOfMemory`] when it does not fit.
    pub fn moved(&self, folder: &Path) -> Result<Model, TorchError> {
        thread::alone();
        let device = place::device();
        Model::of(&self.spec, self.text.clone(), self.network.copied(&self.spec, folder, device)?, device)
    }

    fn of(spec: &ModelSpec, text: Option<Arc<Text>>, mut network: Network, device: Device) -> Result<Model, TorchError> {
        let kind = place::kind(spec, device);
        network.convert(kind, device)?;
        let inputs = spec.inputs();
        if let Network::Script(module) = &mut network {
            rewrite(module, spec, &inputs, (device, kind));
        }
        let network = shared::for_inference(network);
        let model = Model { spec: spec.clone(), inputs, text, network, place: (device, kind) };
        // What this thread's stream has copied, the streams of other threads may read.
        model.probe().and_then(|()| place::synchronize()).map(|()| model)
    }

    /// What it is.
    pub fn spec(&self) -> &ModelSpec {
        &self.spec
    }

    /// Computes one batch; `inputs` are the raw little-endian tensors in the model's order, each of `rows` rows (text: each row a
    /// little-endian `u32` length, then that many bytes of UTF-8). Gives `rows × classes` logits, raw little-endian `f32`.
    ///
    /// # Errors
    /// [`TorchError::BadInput`] when the number or length of the inputs is wrong.
    pub fn infer(&self, inputs: &[&[u8]], rows: u32) -> Result<Vec<u8>, TorchError> {
        let mut out = Vec::new();
        self.infer_into(inputs, rows, &mut out).map(|()| out)
    }

    /// Like [`Model::infer`], but appends the logits to `out`, which is untouched on error.
    ///
    /// # Errors
    /// As [`Model::infer`].
    pub fn infer_into(&self, inputs: &[&[u8]], rows: u32, out: &mut Vec<u8>) -> Result<(), TorchError> {
        thread::alone();
        let tensors = input::tensors(&self.inputs, self.text.as_deref(), inputs, rows, self.place)?;
        let _no_grad = tch::no_grad_guard();
        let logits = self.network.forward(&tensors, false)?;
        let (size, wants) = (logits.size(), [i64::from(rows), i64::from(self.spec.classes)]);
        if size != wants {
            return Err(TorchError::BadModel(format!("model {}: its output has shape {size:?} and should have {wants:?}", self.spec.name)));
        }
        let (start, count) = (out.len(), logits.numel());
        out.resize(start + count * size_of::<f32>(), 0);
        logits.f_copy_data_u8(&mut out[start..], count).inspect_err(|_| out.truncate(start))?;
        Ok(())
    }

    /// Runs real shapes at each batch size until they are warm, then times them: (batch, milliseconds), the median of several calls;
    /// CPU time of this thread, or on a GPU wall time from the bytes of the inputs to those of the logits.
    ///
    /// `batches` ascend; those that would make this take longer than 0.3 s are left out, for somebody waits for the model: a slow
    /// one shows at small batches what a row takes.
    ///
    /// # Errors
    /// As [`Model::infer`].
    pub fn warm(&self, batches: &[u32]) -> Result<Vec<(u32, f64)>, TorchError> {
        let (mut spent, mut found) = (0.0, Vec::new());
        for &batch in batches {
            let last = found.last().map_or(0.0, |&(rows, ms): &(u32, f64)| ms * f64::from(batch) / f64::from(rows));
            if spent + last * f64::from(WARM_CALLS + 1) > WARM_MS {
                break;
            }
            let (ms, all) = self.time(batch.max(1))?;
            spent += all;
            found.push((batch, ms));
        }
        Ok(found)
    }

    /// Milliseconds of a batch, and of all that was run to find them.
    fn time(&self, batch: u32) -> Result<(f64, f64), TorchError> {
        let payload: Vec<Vec<u8>> = self.inputs.iter().map(|input| self.rows_of(input, batch)).collect();
        let inputs: Vec<&[u8]> = payload.iter().map(Vec::as_slice).collect();
        let mut out = Vec::new();
        let mut call = || {
            out.clear();
            let before = thread::spent_s();
            self.infer_into(&inputs, batch, &mut out).map(|()| (thread::spent_s() - before) * 1e3)
        };
        let cold = (0..WARM_CALLS).map(|_| call()).collect::<Result<Vec<_>, _>>()?;
        let last = cold.last().copied().unwrap_or_default();
        let calls = ((TIMED_MS / f64::max(last, 1e-3)) as usize).clamp(TIMED_CALLS.0, TIMED_CALLS.1);
        let mut times = (0..calls).map(|_| call()).collect::<Result<Vec<_>, _>>()?;
        let all = cold.iter().chain(&times).sum();
        times.sort_by(f64::total_cmp);
        Ok((times[times.len() / 2], all))
    }

    /// Rows as they may come: numbers within 0..1 (whole numbers: 0 and 1), texts of full length.
    fn rows_of(&self, input: &TensorSpec, rows: u32) -> Vec<u8> {
        let text = match &self.text {
            Some(text) if input.datatype == Datatype::Bytes => text.sample(),
            _ => String::new(),
        };
        row::made_up(input, rows as usize, 0, &text)
    }

    /// One row through the network: a file that does not fit its specification is refused at loading, not at the first request.
    fn probe(&self) -> Result<(), TorchError> {
        let zeros: Vec<Vec<u8>> = self.inputs.iter().map(|i| vec![0; i.datatype.size().map_or(4, |size| size * i.elements())]).collect();
        let inputs: Vec<&[u8]> = zeros.iter().map(Vec::as_slice).collect();
        self.infer(&inputs, 1).map(drop).map_err(|error| match error {
            TorchError::Torch(line) => {
                TorchError::BadModel(format!("model {}: it does not run on the specified inputs ({line})", self.spec.name))
            }
            other => other,
        })
    }
}

/// Rewrites a module for inference where libtorch can.
fn rewrite(module: &mut CModule, spec: &ModelSpec, inputs: &[TensorSpec], place: (Device, Kind)) {
    let row: Vec<Vec<u8>> = inputs.iter().map(|input| row::made_up(input, 1, 0, "")).collect();
    let row: Vec<&[u8]> = row.iter().map(Vec::as_slice).collect();
    let done = input::tensors(inputs, None, &row, 1, place).and_then(|row| optimise::for_inference(module, &row, place.1));
    match done {
        Ok(true) => {}
        Ok(false) => tracing::info!(model = spec.name, "its TorchScript module runs as it is: libtorch cannot rewrite it for inference"),
        // Whoever runs the module next is told what is wrong with it.
        Err(error) => tracing::debug!(model = spec.name, %error, "not rewritten for inference"),
    }
}
