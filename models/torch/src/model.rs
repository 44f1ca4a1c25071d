//! A loaded model: inference and warm-up.

use std::path::Path;

use migrator_models::ModelSpec;

use crate::TorchError;

/// A model ready to answer; share it between threads by `Arc`, each call computes on the calling thread alone.
#[derive(Debug)]
pub struct Model {
    spec: ModelSpec,
}

impl Model {
    /// Loads `weights.safetensors` (and `tokenizer.json` for text) or `model.pt` from a version folder of the store.
    ///
    /// # Errors
    /// [`TorchError::BadModel`] when a file is missing, corrupt, too old, or does not fit `spec`, or holds NaN.
    pub fn load(spec: &ModelSpec, folder: &Path) -> Result<Model, TorchError> {
        let _ = folder;
        Ok(Model { spec: spec.clone() })
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
        let _ = (inputs, rows, out);
        Err(TorchError::Torch("not written yet".into()))
    }

    /// Runs real shapes at each batch size until they are warm, then times them: (batch, milliseconds of CPU time of this
    /// thread), the median of several calls.
    ///
    /// # Errors
    /// As [`Model::infer`].
    pub fn warm(&self, batches: &[u32]) -> Result<Vec<(u32, f64)>, TorchError> {
        let _ = batches;
        Ok(Vec::new())
    }
}
