//! A data set as tensors, in batches.

use std::hash::Hasher;
use std::path::Path;

use migrator_models::{Dataset, ModelSpec, Part};
use rand::SeedableRng;
use rand::rngs::StdRng;
use rand::seq::SliceRandom;
use tch::{Device, Tensor};

use crate::text::{self, Text};
use crate::{TorchError, input, place};

/// Samples to train on and to measure with.
#[derive(Debug)]
pub(crate) struct Samples {
    features: Features,
    labels: Tensor,
    /// Samples to train on.
    pub(crate) train: Vec<i64>,
    /// Samples to measure with.
    pub(crate) held_out: Vec<i64>,
    /// Samples of older windows to measure with.
    pub(crate) older: Vec<i64>,
}

#[derive(Debug)]
enum Features {
    Numbers(Vec<Tensor>),
    Tokens(Vec<Vec<i64>>),
}

/// Reads a data set file; gives it with a fingerprint of its bytes.
pub(crate) fn read(path: &Path, spec: &ModelSpec) -> Result<(Dataset, u64), TorchError> {
    let data = Dataset::read(path, spec).map_err(|error| {
        let source = std::error::Error::source(&error).map(|s| format!(": {s}")).unwrap_or_default();
        TorchError::BadData(format!("{error}{source}"))
    })?;
    let mut hasher = std::hash::DefaultHasher::new();
    hasher.write(data.bytes());
    Ok((data, hasher.finish()))
}

impl Samples {
    /// Tensors of all samples; texts are tokenised once.
    ///
    /// Of samples that are not among `wanted`, texts stay without tokens: that is the long part.
    pub(crate) fn new(data: &Dataset, spec: &ModelSpec, text: Option<&Text>, wanted: &[i64]) -> Result<Samples, TorchError> {
        let features = match text {
            Some(text) => {
                let mut tokens = vec![Vec::new(); data.len()];
                for index in wanted.iter().map(|&index| index as usize) {
                    tokens[index] = text.ids(data.text(index))?;
                }
                Features::Tokens(tokens)
            }
            None => {
                let tensor = |(index, input)| input::tensor(input, data.rows(index), data.len());
                Features::Numbers(spec.inputs().iter().enumerate().map(tensor).collect::<Result<_, _>>()?)
            }
        };
        let labels: Vec<i64> = (0..data.len()).map(|index| i64::from(data.label(index))).collect();
        let [train, held_out, older] = [Part::Train, Part::HeldOut, Part::Older].map(|part| indices(data, part));
        // Batch norm cannot be trained on one sample.
        if train.len() < 2 || held_out.is_empty() {
            let has = format!("the data set holds {} samples to train on and {} held out", train.len(), held_out.len());
            return Err(TorchError::BadData(format!("{has}; at least 2 and 1 are needed")));
        }
        Ok(Samples { features, labels: Tensor::f_from_slice(&labels)?, train, held_out, older })
    }

    /// Inputs and labels of some samples, on a device. The data set stays on the host, for it may be larger than an instance.
    pub(crate) fn batch(&self, indices: &[i64], device: Device) -> Result<(Vec<Tensor>, Tensor), TorchError> {
        let index = Tensor::f_from_slice(indices)?;
        let inputs: Vec<Tensor> = match &self.features {
            Features::Numbers(tensors) => tensors.iter().map(|t| t.f_index_select(0, &index)).collect::<Result<_, _>>()?,
            Features::Tokens(tokens) => text::tensors(indices.iter().map(|&index| tokens[index as usize].as_slice()))?,
        };
        let inputs = inputs.into_iter().map(|input| place::on(device, input)).collect::<Result<_, _>>()?;
        Ok((inputs, place::on(device, self.labels.f_index_select(0, &index)?)?))
    }
}

/// Indices of the samples of a part.
pub(crate) fn indices(data: &Dataset, part: Part) -> Vec<i64> {
    data.part(part).into_iter().map(|index| index as i64).collect()
}

/// A share of the samples to train on, drawn by the seed; at least `least` of them, as far as there are so many.
pub(crate) fn draw(train: &[i64], share: f64, least: usize, seed: u64) -> Vec<i64> {
    let count = ((train.len() as f64 * share.clamp(0.0, 1.0)).ceil() as usize).max(least).min(train.len());
    if count == train.len() {
        return train.to_vec();
    }
    let mut drawn = train.to_vec();
    drawn.shuffle(&mut StdRng::seed_from_u64(!seed));
    drawn.truncate(count);
    drawn.sort_unstable();
    drawn
}

/// The order of an epoch: a function of seed and epoch alone, so that a resumed retraining sees the same data.
pub(crate) fn order(train: &[i64], seed: u64, epoch: u64) -> Vec<i64> {
    let mut order = train.to_vec();
    // An odd constant keeps the seeds of neighbouring epochs and jobs apart.
    order.shuffle(&mut StdRng::seed_from_u64(seed ^ (epoch + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15)));
    order
}

/// Steps of one epoch: a last batch of a single sample, on which batch norm fails, is left out.
pub(crate) fn steps(samples: usize, batch: usize) -> u64 {
    let whole = samples / batch;
    (whole + usize::from(samples % batch > 1)).max(1) as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_epoch_has_each_sample_once_and_an_order_of_its_own() {
        let train: Vec<i64> = (0..50).collect();
        let (first, second) = (order(&train, 1, 0), order(&train, 1, 1));
        assert_eq!(first, order(&train, 1, 0));
        assert!(first != second && first != order(&train, 2, 0));
        let mut sorted = second;
        sorted.sort_unstable();
        assert_eq!(sorted, train);
    }

    #[test]
    fn a_share_is_drawn_by_the_seed_and_never_too_small() {
        let train: Vec<i64> = (0..50).collect();
        assert_eq!(draw(&train, 1.0, 2, 1), train);
        assert_eq!(draw(&train, 0.2, 2, 1).len(), 10);
        assert_eq!(draw(&train, 0.2, 2, 1), draw(&train, 0.2, 2, 1));
        assert!(draw(&train, 0.2, 2, 1) != draw(&train, 0.2, 2, 2));
        assert_eq!([draw(&train, 0.0, 2, 1).len(), draw(&train, f64::NAN, 20, 1).len(), draw(&train[..3], 0.1, 20, 1).len()], [2, 20, 3]);
    }

    #[test]
    fn a_last_batch_of_one_is_left_out() {
        assert_eq!([steps(64, 32), steps(65, 32), steps(66, 32), steps(5, 32)], [2, 2, 3, 1]);
    }
}
