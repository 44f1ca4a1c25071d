//! The networks built in Rust.

use std::fmt::Debug;

use migrator_models::{Architecture, ModelSpec};
use tch::nn::{Init, ModuleT, Path};
use tch::{TchError, Tensor, nn};

use crate::TorchError;
use crate::error::guarded;

/// A network over variables of a `VarStore`. Inputs: one tensor, or for text the token ids and the offset of each text in them.
pub(crate) trait Net: Debug + Send {
    fn forward(&self, inputs: &[Tensor], train: bool) -> Result<Tensor, TorchError>;
}

/// Builds the network of an architecture; its variables are of no use until initialised or loaded.
pub(crate) fn build(path: &Path<'_>, architecture: &Architecture, spec: &ModelSpec) -> Result<Box<dyn Net>, TorchError> {
    let classes = i64::from(spec.classes);
    let refuse = |reason: &str| Err(TorchError::BadModel(format!("model {}: {reason}", spec.name)));
    match architecture {
        Architecture::Mlp { features, hidden } => {
            let widths = [&[*features][..], hidden, &[spec.classes]].concat();
            if widths.contains(&0) {
                return refuse("an MLP needs at least one feature, unit and class");
            }
            Ok(Box::new(Mlp::new(&(path / "layers"), &widths)?))
        }
        Architecture::Cnn { input: [c, h, w], width } => {
            if *c == 0 || *width == 0 || *h < 4 || *w < 4 {
                return refuse("a CNN needs an input of at least 1 channel and 4×4 pixels, and a width of at least 1");
            }
            Ok(Box::new(Cnn::new(path, [*c, *h, *w].map(i64::from), i64::from(*width), classes)?))
        }
        Architecture::Resnet18 { input } | Architecture::MobilenetV2 { input } => {
            if input[0] != 3 || input[1] < 32 || input[2] < 32 {
                return refuse("its input must have 3 channels and at least 32×32 pixels");
            }
            let resnet = matches!(architecture, Architecture::Resnet18 { .. });
            guarded(|| -> Box<dyn ModuleT> {
                if resnet {
                    Box::new(tch::vision::resnet::resnet18(path, classes))
                } else {
                    Box::new(tch::vision::mobilenet::v2(path, classes))
                }
            })
            .map(|net| Box::new(Vision(net)) as Box<dyn Net>)
        }
        Architecture::TextClassifier { vocabulary, max_tokens, embedding } => {
            if [*vocabulary, *max_tokens, *embedding].contains(&0) {
                return refuse("a text classifier needs a vocabulary, tokens and an embedding of at least 1");
            }
            let table = path.sub("embedding").f_var("weight", &[i64::from(*vocabulary), i64::from(*embedding)], Init::Const(0.0))?;
            let widths = [*embedding, (*embedding).max(spec.classes), spec.classes];
            Ok(Box::new(TextClassifier { table, head: Mlp::new(&(path / "layers"), &widths)? }))
        }
    }
}

#[derive(Debug)]
struct Linear {
    weight: Tensor,
    bias: Tensor,
}

impl Linear {
    fn new(path: &Path<'_>, from: i64, to: i64) -> Result<Linear, TchError> {
        Ok(Linear { weight: path.f_var("weight", &[to, from], Init::Const(0.0))?, bias: path.f_zeros("bias", &[to])? })
    }

    fn forward(&self, x: &Tensor) -> Result<Tensor, TchError> {
        x.f_linear(&self.weight, Some(&self.bias))
    }
}

#[derive(Debug)]
struct Mlp(Vec<Linear>);

impl Mlp {
    fn new(path: &Path<'_>, widths: &[u32]) -> Result<Mlp, TchError> {
        let layer = |(index, pair): (usize, &[u32])| Linear::new(&(path / index), i64::from(pair[0]), i64::from(pair[1]));
        widths.windows(2).enumerate().map(layer).collect::<Result<_, _>>().map(Mlp)
    }

    fn forward(&self, x: &Tensor) -> Result<Tensor, TchError> {
        let mut layers = self.0.iter();
        let Some(first) = layers.next() else { return Ok(x.shallow_clone()) };
        layers.try_fold(first.forward(x)?, |mut x, layer| layer.forward(&x.f_relu_()?))
    }
}

impl Net for Mlp {
    fn forward(&self, inputs: &[Tensor], _train: bool) -> Result<Tensor, TorchError> {
        Ok(Mlp::forward(self, &inputs[0])?)
    }
}

/// Convolution, batch norm, ReLU, halving of height and width.
#[derive(Debug)]
struct Block {
    weight: Tensor,
    scale: Tensor,
    shift: Tensor,
    mean: Tensor,
    variance: Tensor,
}

impl Block {
    fn new(path: &Path<'_>, from: i64, to: i64) -> Result<Block, TchError> {
        let norm = path / "bn";
        Ok(Block {
            weight: path.sub("conv").f_var("weight", &[to, from, 3, 3], Init::Const(0.0))?,
            scale: norm.f_ones("weight", &[to])?,
            shift: norm.f_zeros("bias", &[to])?,
            mean: norm.f_zeros_no_train("running_mean", &[to])?,
            variance: norm.f_ones_no_train("running_var", &[to])?,
        })
    }

    fn forward(&self, x: &Tensor, train: bool) -> Result<Tensor, TchError> {
        let x = x.f_conv2d(&self.weight, None::<&Tensor>, [1], [1], [1], 1)?;
        let (scale, shift, mean, variance) = (Some(&self.scale), Some(&self.shift), Some(&self.mean), Some(&self.variance));
        let x = x.f_batch_norm(scale, shift, mean, variance, train, 0.1, 1e-5, false)?;
        x.f_relu()?.f_max_pool2d([2], [2], [0], [1], false)
    }
}

#[derive(Debug)]
struct Cnn {
    blocks: Vec<Block>,
    head: Linear,
}

impl Cnn {
    fn new(path: &Path<'_>, [channels, height, width]: [i64; 3], first: i64, classes: i64) -> Result<Cnn, TchError> {
        // A third halving of fewer than 16 pixels would leave next to nothing of the picture.
        let count = if height.min(width) >= 16 { 3 } else { 2 };
        let (mut blocks, mut from) = (Vec::new(), channels);
        for index in 0..count {
            let to = first << index;
            blocks.push(Block::new(&(path / "blocks" / index), from, to)?);
            from = to;
        }
        Ok(Cnn { blocks, head: Linear::new(&(path / "head"), from * (height >> count) * (width >> count), classes)? })
    }
}

impl Net for Cnn {
    fn forward(&self, inputs: &[Tensor], train: bool) -> Result<Tensor, TorchError> {
        let x = self.blocks.iter().try_fold(inputs[0].shallow_clone(), |x, block| block.forward(&x, train))?;
        Ok(self.head.forward(&x.f_flatten(1, -1)?)?)
    }
}

#[derive(Debug)]
struct TextClassifier {
    table: Tensor,
    head: Mlp,
}

impl Net for TextClassifier {
    fn forward(&self, inputs: &[Tensor], _train: bool) -> Result<Tensor, TorchError> {
        const MEAN: i64 = 1;
        let (mean, ..) = Tensor::f_embedding_bag(&self.table, &inputs[0], &inputs[1], false, MEAN, false, None::<&Tensor>, false)?;
        Ok(self.head.forward(&mean)?)
    }
}

/// A network of `tch::vision`, whose functions panic where libtorch fails.
#[derive(Debug)]
struct Vision(Box<dyn nn::ModuleT>);

impl Net for Vision {
    fn forward(&self, inputs: &[Tensor], train: bool) -> Result<Tensor, TorchError> {
        guarded(|| self.0.forward_t(&inputs[0], train))
    }
}
