//! Text to token ids.

use std::path::Path;

use migrator_models::store::TOKENIZER;
use migrator_models::{Architecture, ModelSpec, Source};
use tch::Tensor;
use tokenizers::models::wordlevel::{WordLevel, WordLevelTrainer};
use tokenizers::normalizers::Lowercase;
use tokenizers::pre_tokenizers::whitespace::Whitespace;
use tokenizers::{AddedToken, NormalizerWrapper, PreTokenizerWrapper, Tokenizer, TokenizerBuilder};

use crate::TorchError;

const UNKNOWN: &str = "[UNK]";

/// A tokenizer and how many tokens of a text are kept.
#[derive(Debug)]
pub(crate) struct Text {
    tokenizer: Tokenizer,
    max_tokens: usize,
}

impl Text {
    /// Loads `tokenizer.json` of a version; `None` when the model takes no text.
    pub(crate) fn load(spec: &ModelSpec, folder: &Path) -> Result<Option<Text>, TorchError> {
        let Some((vocabulary, max_tokens)) = sizes(spec) else { return Ok(None) };
        let path = folder.join(TOKENIZER);
        let bad = |reason: String| TorchError::BadModel(format!("{}: {reason}", path.display()));
        let bytes = std::fs::read(&path).map_err(|e| bad(format!("it cannot be read ({e})")))?;
        let tokenizer = Tokenizer::from_bytes(bytes).map_err(|e| bad(format!("no tokenizer of the tokenizers library: {e}")))?;
        let size = tokenizer.get_vocab_size(true);
        if size > vocabulary {
            return Err(bad(format!("its vocabulary of {size} tokens exceeds the model's {vocabulary}")));
        }
        Ok(Some(Text { tokenizer, max_tokens }))
    }

    /// Learns a vocabulary of words from texts; `None` when the model takes no text.
    pub(crate) fn train<'a>(spec: &ModelSpec, texts: impl Iterator<Item = &'a str> + Send) -> Result<Option<Text>, TorchError> {
        let Some((vocabulary, max_tokens)) = sizes(spec) else { return Ok(None) };
        // Its thread pool would compute outside of this instance's share.
        tokenizers::utils::parallelism::set_parallelism(false);
        let failed = |e: tokenizers::Error| TorchError::BadData(format!("no tokenizer can be learned from the texts: {e}"));
        let model = WordLevel::builder().unk_token(UNKNOWN.to_owned()).build().map_err(failed)?;
        let mut tokenizer = TokenizerBuilder::<
            _,
            NormalizerWrapper,
            PreTokenizerWrapper,
            tokenizers::PostProcessorWrapper,
            tokenizers::DecoderWrapper,
        >::new()
        .with_model(model)
        .with_normalizer(Some(Lowercase.into()))
        .with_pre_tokenizer(Some(Whitespace {}.into()))
        .build()
        .map_err(failed)?;
        let special = vec![AddedToken::from(UNKNOWN, true)];
        let mut trainer = WordLevelTrainer::builder()
            .vocab_size(vocabulary)
            .show_progress(false)
            .special_tokens(special)
            .build()
            .map_err(|e| failed(e.into()))?;
        tokenizer.train(&mut trainer, texts).map_err(failed)?;
        let json = tokenizer.to_string(false).map_err(failed)?;
        let tokenizer = Tokenizer::from_bytes(json).map_err(failed)?;
        Ok(Some(Text { tokenizer, max_tokens }))
    }

    /// What `tokenizer.json` holds.
    pub(crate) fn to_json(&self) -> Result<String, TorchError> {
        self.tokenizer.to_string(true).map_err(|e| TorchError::Io(format!("{TOKENIZER} cannot be written: {e}")))
    }

    /// Ids of the first tokens of a text.
    pub(crate) fn ids(&self, text: &str) -> Result<Vec<i64>, TorchError> {
        let encoding =
            self.tokenizer.encode_fast(text, false).map_err(|e| TorchError::BadInput(format!("the text cannot be tokenised: {e}")))?;
        Ok(encoding.get_ids().iter().take(self.max_tokens).map(|&id| i64::from(id)).collect())
    }

    /// A text of as many tokens as are kept, for warming up.
    pub(crate) fn sample(&self) -> String {
        let size = self.tokenizer.get_vocab_size(true).max(1) as u32;
        let word = |index: usize| self.tokenizer.id_to_token(index as u32 % size).unwrap_or_default();
        (0..self.max_tokens).map(word).collect::<Vec<_>>().join(" ")
    }
}

/// Token ids of several texts as the two inputs of a text network: all ids, and where each text begins.
pub(crate) fn tensors<'a>(texts: impl Iterator<Item = &'a [i64]>) -> Result<Vec<Tensor>, TorchError> {
    let (mut all, mut offsets) = (Vec::new(), Vec::new());
    for ids in texts {
        offsets.push(all.len() as i64);
        all.extend_from_slice(ids);
    }
    Ok(vec![Tensor::f_from_slice(&all)?, Tensor::f_from_slice(&offsets)?])
}

fn sizes(spec: &ModelSpec) -> Option<(usize, usize)> {
    match &spec.source {
        Source::Architecture { architecture: Architecture::TextClassifier { vocabulary, max_tokens, .. } } => {
            Some((*vocabulary as usize, *max_tokens as usize))
        }
        _ => None,
    }
}
