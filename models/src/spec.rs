//! What a model takes, gives and is made of.

use serde::{Deserialize, Serialize};

/// Element types of tensors, by their Open Inference Protocol names.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum Datatype {
    /// 1 byte, 0 or 1.
    Bool,
    /// Unsigned, 1 byte.
    Uint8,
    /// Signed, 4 bytes.
    Int32,
    /// Signed, 8 bytes.
    Int64,
    /// IEEE 754, 4 bytes.
    Fp32,
    /// IEEE 754, 8 bytes.
    Fp64,
    /// Byte strings: each element a little-endian `u32` length, then that many bytes.
    Bytes,
}

impl Datatype {
    /// Bytes of one element; `None` for [`Datatype::Bytes`].
    pub fn size(self) -> Option<usize> {
        match self {
            Datatype::Bool | Datatype::Uint8 => Some(1),
            Datatype::Int32 | Datatype::Fp32 => Some(4),
            Datatype::Int64 | Datatype::Fp64 => Some(8),
            Datatype::Bytes => None,
        }
    }

    /// The protocol's name, e.g. `FP32`.
    pub fn name(self) -> &'static str {
        match self {
            Datatype::Bool => "BOOL",
            Datatype::Uint8 => "UINT8",
            Datatype::Int32 => "INT32",
            Datatype::Int64 => "INT64",
            Datatype::Fp32 => "FP32",
            Datatype::Fp64 => "FP64",
            Datatype::Bytes => "BYTES",
        }
    }
}

/// An input or output, without its batch dimension.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TensorSpec {
    /// Name in the protocol.
    pub name: String,
    /// Element type.
    pub datatype: Datatype,
    /// Sizes of the dimensions after the batch; `[1]` for a text input.
    pub shape: Vec<u32>,
}

impl TensorSpec {
    /// Elements of one row.
    pub fn elements(&self) -> usize {
        self.shape.iter().map(|&n| n as usize).product()
    }
}

/// A network built in Rust; its weights are a safetensors file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case", deny_unknown_fields)]
pub enum Architecture {
    /// Fully connected, ReLU between layers.
    Mlp {
        /// Width of the input.
        features: u32,
        /// Widths of the hidden layers.
        hidden: Vec<u32>,
    },
    /// Two or three convolutions with batch norm and pooling, then a linear head.
    Cnn {
        /// Channels, height, width of the input.
        input: [u32; 3],
        /// Channels of the first convolution; doubled by each next one.
        width: u32,
    },
    /// ResNet-18 of `tch::vision`.
    Resnet18 {
        /// Channels (3), height, width of the input.
        input: [u32; 3],
    },
    /// MobileNetV2 of `tch::vision`.
    MobilenetV2 {
        /// Channels (3), height, width of the input.
        input: [u32; 3],
    },
    /// Mean of token embeddings, then an MLP; input is text, tokenised by `tokenizer.json` beside the weights.
    TextClassifier {
        /// Size of the vocabulary (trained from the first labelled texts when the store has no tokenizer).
        vocabulary: u32,
        /// Tokens kept per text.
        max_tokens: u32,
        /// Width of an embedding.
        embedding: u32,
    },
}

/// Where a model's computation comes from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "source", rename_all = "snake_case", deny_unknown_fields)]
pub enum Source {
    /// Built in Rust; file `weights.safetensors`.
    Architecture {
        /// Which network.
        architecture: Architecture,
    },
    /// A TorchScript file, `model.pt`, which also serves for fine-tuning when its parameters are trainable.
    Torchscript {
        /// Its inputs, in the order `forward` takes them.
        inputs: Vec<TensorSpec>,
    },
}

/// Number format that is computed in on a GPU. Inputs and outputs of the protocol stay as they are; the host's cores compute in
/// [`Precision::Fp32`] whatever is chosen, for there the others are no faster.
///
/// A TorchScript module is converted whole, buffers of whole numbers included: one that looks something up by such a buffer does
/// not load, and should be exported in half precision itself.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Precision {
    /// IEEE 754, 4 bytes.
    #[default]
    Fp32,
    /// IEEE 754, 2 bytes.
    Fp16,
    /// The upper half of a 4-byte float: its range, 8 bits of precision.
    Bf16,
}

impl Precision {
    fn is_default(&self) -> bool {
        *self == Precision::default()
    }
}

/// A classifier: what it takes, gives and is made of.
///
/// Every model here has one output, `OUTPUT0` (`FP32`, shape `[classes]`): one logit per class.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ModelSpec {
    /// Name in the store and in the protocol.
    pub name: String,
    /// Number of classes it tells apart.
    pub classes: u32,
    /// Most rows in one batch.
    pub max_batch: u32,
    /// What inference computes in on a GPU.
    #[serde(default, skip_serializing_if = "Precision::is_default")]
    pub precision: Precision,
    /// What computes it.
    pub source: Source,
}

impl ModelSpec {
    /// The inputs, without batch dimension. Architectures have one: `INPUT0`.
    pub fn inputs(&self) -> Vec<TensorSpec> {
        let one = |datatype, shape| vec![TensorSpec { name: "INPUT0".to_owned(), datatype, shape }];
        match &self.source {
            Source::Torchscript { inputs } => inputs.clone(),
            Source::Architecture { architecture } => match architecture {
                Architecture::Mlp { features, .. } => one(Datatype::Fp32, vec![*features]),
                Architecture::Cnn { input, .. } | Architecture::Resnet18 { input } | Architecture::MobilenetV2 { input } => {
                    one(Datatype::Fp32, input.to_vec())
                }
                Architecture::TextClassifier { .. } => one(Datatype::Bytes, vec![1]),
            },
        }
    }

    /// The output, without batch dimension.
    pub fn output(&self) -> TensorSpec {
        TensorSpec { name: "OUTPUT0".to_owned(), datatype: Datatype::Fp32, shape: vec![self.classes] }
    }

    /// Batch sizes that are warmed and measured: powers of two up to, and always including, `max_batch`.
    pub fn batch_sizes(&self) -> Vec<u32> {
        let mut sizes: Vec<u32> = std::iter::successors(Some(1u32), |b| Some(b * 2)).take_while(|&b| b < self.max_batch).collect();
        sizes.push(self.max_batch.max(1));
        sizes
    }
}

/// How a model is fine-tuned.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct TrainSpec {
    /// Passes over the training samples.
    pub epochs: u32,
    /// Rows per step.
    pub batch: u32,
    /// Learning rate (SGD with momentum 0.9 for `Sgd`-like nets, Adam otherwise; see `migrator-torch`).
    pub learning_rate: f64,
    /// Decides shuffling and initialisation.
    pub seed: u64,
    /// Share of the training samples that is used, drawn by the seed; at least two samples.
    pub share: f64,
    /// Share of the layers that stay as they are, counted from the input; the last layer is always trained.
    pub frozen: f64,
    /// Epochs in a row without a better held-out accuracy after which training ends; 0 = never before `epochs`.
    pub patience: u32,
    /// What matrix products and convolutions are computed in on a GPU: fp32, or bf16 (mixed precision: the weights stay fp32). The
    /// host's cores compute in fp32 whatever is chosen.
    pub precision: Precision,
}

impl Default for TrainSpec {
    fn default() -> Self {
        TrainSpec { epochs: 5, batch: 32, learning_rate: 1e-3, seed: 1, share: 1.0, frozen: 0.0, patience: 3, precision: Precision::Fp32 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_precision_that_is_not_told_is_fp32_and_an_unknown_one_is_refused() {
        let source = r#""source":{"source":"torchscript","inputs":[]}"#;
        let read = |more: &str| serde_json::from_str::<ModelSpec>(&format!(r#"{{"name":"m","classes":2,"max_batch":1,{more}{source}}}"#));
        let plain = read("").unwrap();
        assert_eq!(plain.precision, Precision::Fp32);
        assert!(!serde_json::to_string(&plain).unwrap().contains("precision"), "versions of before stay readable by programs of before");
        assert_eq!(read(r#""precision":"bf16","#).unwrap().precision, Precision::Bf16);
        assert!(read(r#""precision":"int8","#).is_err());
    }

    #[test]
    fn the_largest_batch_is_always_among_the_measured_ones() {
        let spec = ModelSpec {
            name: "m".into(),
            classes: 2,
            max_batch: 24,
            precision: Precision::Bf16,
            source: Source::Architecture { architecture: Architecture::Mlp { features: 4, hidden: vec![8] } },
        };
        assert_eq!(spec.batch_sizes(), [1, 2, 4, 8, 16, 24]);
        assert_eq!(ModelSpec { max_batch: 1, ..spec }.batch_sizes(), [1]);
    }
}
