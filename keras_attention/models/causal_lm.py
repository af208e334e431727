"""`CausalLM`: continues texts."""

from __future__ import annotations

from typing import Any

import keras

from keras_attention.config import RecurrentConfig, TransformerConfig
from keras_attention.data.batching.text_batches import language_batches
from keras_attention.data.tokenization.text_reader import TextReader
from keras_attention.models.autoregressive import AutoregressiveLM
from keras_attention.models.network.config_checks import with_vocabulary, without_attention
from keras_attention.models.network.decoder_steps import DecoderSteps
from keras_attention.models.network.layers_from_config import make_decoder, make_embedding, text_input_tensors
from keras_attention.models.task import Task
from keras_attention.models.task_data.text_data import TextData, causal_metrics
from keras_attention.task_specs import TASK_SPECS


@keras.saving.register_keras_serializable("keras_attention")
class CausalLM(DecoderSteps, AutoregressiveLM, Task):
    """Language model, recurrent or a Transformer: p(x) = prod_t softmax(W f(x_<t))[x_t].

    f is the output of a recurrent network or of causal Transformer blocks; W is the token embedding (tied).

    Args:
        config: a `RecurrentConfig` or `TransformerConfig`; the vocabulary size is taken from the tokenizer.
        tokenizer: KerasHub tokenizer.

    Call arguments:
        inputs: dict of `token_ids` (B, T) int, which begin with the start token, and `padding_mask` (B, T) bool,
            True for real tokens.

    Output:
        logits (B, T, V).

    Raises:
        TypeError: there is neither a tokenizer nor a vocabulary size.
        ValueError: the config has segments, or a recurrent config has attention.

    Example:
        >>> tokenizer = ka.data.train_tokenizer(["to be or not to be"], "characters")
        >>> model = ka.CausalLM.from_preset("char_rnn", tokenizer=tokenizer, units=8, embedding_dim=4)
        >>> sorted(model.input)
        ['padding_mask', 'token_ids']

    Reference: Graves, 2013, https://arxiv.org/abs/1308.0850; Radford et al., 2019 (GPT-2); Shoeybi et al.,
    2019, https://arxiv.org/abs/1909.08053 (Megatron-LM).
    """

    spec = TASK_SPECS["lm"]
    data = TextData(language_batches, causal_metrics)

    def __init__(self, config: RecurrentConfig | TransformerConfig, tokenizer: Any = None, **kwargs) -> None:
        config = with_vocabulary(without_attention(config, "language model"), "vocabulary_size", tokenizer)
        if config.num_segments:
            raise ValueError(
                f"`num_segments` is {config.num_segments}, but a CausalLM has no segment embeddings; expected 0."
            )
        self.embedding = make_embedding(config, config.vocabulary_size, "embedding")
        self.decoder = make_decoder(config)
        inputs = text_input_tensors(config)
        outputs = self.decoder(self.embedding(inputs["token_ids"]), mask=inputs["padding_mask"])
        super().__init__(config, {"tokenizer": tokenizer}, inputs, self._logits_of(outputs), **kwargs)

    def _encode_start(self, inputs: dict) -> tuple[Any, dict]:
        """Return the embeddings of the prompt tokens (B, L, M), and their mask as a decoder argument."""
        return self.embedding(inputs["token_ids"]), {"mask": inputs["padding_mask"]}

    @property
    def target_reader(self) -> TextReader:
        """The `TextReader` of texts whose probability is computed."""
        return TextReader.from_template(self.tokenizer, "end", self.config.max_length)

    @property
    def text_reader(self) -> TextReader:
        """The reader of a whole text, which the decoder encodes."""
        return TextReader.for_decoder(self.tokenizer, self.config.max_length)
