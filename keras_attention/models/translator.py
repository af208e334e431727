"""`Translator`: from a text to its translation and alignment."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import keras
import numpy as np
from keras import ops

from keras_attention.config import RecurrentConfig, TransformerConfig
from keras_attention.data.batching.text_batches import translation_batches
from keras_attention.data.tokenization.text_reader import TextReader
from keras_attention.generation import Strategy
from keras_attention.generation.search import best_hypotheses
from keras_attention.layers import OutputBias
from keras_attention.models.network.config_checks import known_vocabulary, with_vocabulary
from keras_attention.models.network.decoder_steps import DecoderSteps
from keras_attention.models.network.initial_embeddings import initialize_target_embeddings
from keras_attention.models.network.layers_from_config import make_decoder, make_embedding, make_encoder
from keras_attention.models.task import Task
from keras_attention.models.task_data.translation_data import TranslationData
from keras_attention.outputs import Translation
from keras_attention.prediction.detokenizer import hypothesis_outputs
from keras_attention.prediction.encoded_inputs import EncodedTexts, check_texts
from keras_attention.prediction.run_batches import predict_outputs
from keras_attention.prediction.run_search import check_strategy, limit_lengths, run_search, search_inputs
from keras_attention.task_specs import ADDED_TOKENS, TASK_SPECS, TOKENS_PER_SOURCE_TOKEN


@keras.saving.register_keras_serializable("keras_attention")
class Translator(DecoderSteps, Task):
    """Compute the translation of a text, with a recurrent or Transformer encoder and decoder.

    p(y | x) = prod_t softmax(W f_t)[y_t], where f_t is the decoder's output after reading y_<t and the encoded source,
    and W is the target embedding (tied). A recurrent decoder starts from the final encoder states; with attention, it
    also attends to all source positions. With `attend_embeddings`, a position's memory is the encoder's output and the
    token's embedding, [h_s; W_source x_s].

    Args:
        config: a `RecurrentConfig` or `TransformerConfig`; the vocabulary sizes are taken from the tokenizers.
        source_tokenizer: KerasHub tokenizer of the source language.
        target_tokenizer: KerasHub tokenizer of the target language.

    Call arguments:
        inputs: dict of `source_ids` (B, S) int, `source_mask` (B, S) bool, True for real tokens, and `target_ids`
            (B, T) int, the target shifted right to begin with the start token.

    Output:
        logits (B, T, V).

    Raises:
        TypeError: a tokenizer and its vocabulary size are both missing.
        ValueError: the vocabulary is shared, but the two tokenizers have different pieces.

    Example:
        >>> tokenizer = ka.data.train_tokenizer(["we eat bread", "comemos pan"], "characters")
        >>> model = ka.Translator.from_preset(
        ...     "rnn_attention", source_tokenizer=tokenizer, target_tokenizer=tokenizer, units=8, embedding_dim=4)
        >>> sorted(model.input)
        ['source_ids', 'source_mask', 'target_ids']

    Reference: Sutskever et al., 2014, https://arxiv.org/abs/1409.3215; Bahdanau et al., 2015,
    https://arxiv.org/abs/1409.0473; Vaswani et al., 2017, https://arxiv.org/abs/1706.03762; Nguyen and Chiang, 2018,
    https://arxiv.org/abs/1710.01329 (a path from each source word to its translation).
    """

    spec = TASK_SPECS["translator"]
    data = TranslationData(translation_batches)

    def __init__(
        self,
        config: RecurrentConfig | TransformerConfig,
        source_tokenizer: Any = None,
        target_tokenizer: Any = None,
        **kwargs,
    ) -> None:
        config = with_vocabulary(config, "source_vocabulary_size", source_tokenizer, "source_tokenizer")
        self.config = config = with_vocabulary(config, "target_vocabulary_size", target_tokenizer, "target_tokenizer")
        # The functional model of `super().__init__` is made of the layers, so they come first.
        if config.shared_vocabulary:
            check_shared(config, source_tokenizer, target_tokenizer)
            self.source_embedding = self.target_embedding = make_embedding(
                config, config.source_vocabulary_size, "embedding"
            )
        else:
            self.source_embedding = make_embedding(
                config, config.source_vocabulary_size, "source_embedding", tie_weights=True
            )
            self.target_embedding = make_embedding(config, config.target_vocabulary_size, "target_embedding")
        self.encoder, self.decoder = make_encoder(config), make_decoder(config, memory=True)
        self.output_bias = OutputBias(name="output_bias") if config.output_bias else None
        inputs = {
            "source_ids": keras.Input((None,), dtype="int32", name="source_ids"),
            "source_mask": keras.Input((None,), dtype="bool", name="source_mask"),
            "target_ids": keras.Input((None,), dtype="int32", name="target_ids"),
        }
        tokenizers = {"source_tokenizer": source_tokenizer, "target_tokenizer": target_tokenizer}
        super().__init__(config, tokenizers, inputs, self._logits(inputs), **kwargs)

    def _logits(self, inputs):
        outputs = self.decoder(self.target_embedding(inputs["target_ids"]), **self._encode(inputs))
        return self._logits_of(outputs)

    @property
    def _output_embedding(self) -> keras.layers.Layer:
        return self.target_embedding

    @property
    def _attends_embeddings(self) -> bool:
        """Whether the attention of a recurrent decoder reads the embeddings of the source tokens too."""
        return self.config.attention is not None and self.config.attend_embeddings

    def _encode(self, inputs) -> dict:
        """Return the decoder arguments from the encoder: its outputs and their mask, and its final states."""
        mask = inputs["source_mask"]
        embedded = self.source_embedding(inputs["source_ids"])
        encoded = self.encoder(embedded, mask=mask)
        if self._attends_embeddings:
            encoded = (ops.concatenate([encoded[0], embedded], axis=-1), *encoded[1:])
        return self.decoder.encoder_arguments(encoded, mask)

    def _encode_start(self, inputs: dict) -> tuple[Any, dict]:
        """Return the embeddings of no tokens (B, 0, M), and the decoder arguments."""
        return self.target_embedding(inputs["source_ids"][:, :0]), self._encode(inputs)

    @property
    def input_reader(self) -> TextReader:
        """The `TextReader` of sources."""
        return TextReader.from_template(self.source_tokenizer, "end", self.config.max_length)

    @property
    def target_reader(self) -> TextReader:
        """The `TextReader` of translations."""
        return TextReader.from_template(self.target_tokenizer, "end", self.config.max_length)

    @property
    def _prefix_reader(self) -> TextReader:
        """The `TextReader` of prefixes. It leaves room for one generated token if positions are learned."""
        limit = self.config.max_length - (1 if self.config.positions == "learned" else 0)
        return TextReader.from_template(self.target_tokenizer, "none", limit)

    def _length_limits(self, source_lengths, strategy: Strategy):
        """Return the maximum number of tokens of each translation, (B,)."""
        max_length = self.config.max_length
        default = ops.minimum(source_lengths * TOKENS_PER_SOURCE_TOKEN + ADDED_TOKENS, max_length)
        return limit_lengths(default, strategy, max_length if self.config.positions == "learned" else None)

    def translate(
        self,
        texts: Iterable[str],
        strategy: Strategy | None = None,
        batch_size: int = 32,
        prefixes: Iterable[str] | None = None,
    ) -> list[Translation]:
        """Translate texts.

        Args:
            texts: strings. The translation of an empty text is empty. A text with more than `config.max_length` tokens
                is truncated; one warning counts such texts.
            strategy: `Greedy()` (default), `BeamSearch(...)` or `Sampling(...)`.
            batch_size: number of texts in a batch; it does not change the result.
            prefixes: the beginning of the translation for each text. It has at most `config.max_length` tokens and
                may be longer than the strategy's `max_new_tokens`. The translation of an empty text ignores it.

        Returns:
            one `Translation` per text, in order.

        Raises:
            TypeError: `texts` is one string, or contains other types than strings; the same for `prefixes`.
            ValueError: the numbers of texts and prefixes differ.

        Example:
            >>> tokenizer = ka.data.train_tokenizer(["we eat bread", "comemos pan"], "characters")
            >>> model = ka.Translator.from_preset(
            ...     "rnn_attention", source_tokenizer=tokenizer, target_tokenizer=tokenizer, units=8, embedding_dim=4)
            >>> model.translate(["we eat"], ka.Greedy(max_new_tokens=3))[0].source
            'we eat'
        """
        texts, strategy = check_texts(texts), check_strategy(strategy, self.spec.default_strategy)
        prefixes = check_texts(prefixes) if prefixes is not None else [""] * len(texts)
        if len(prefixes) != len(texts):
            raise ValueError(
                f"There are {len(prefixes)} prefixes for {len(texts)} texts; expected one prefix for each text."
            )
        prefix_sequences = self._prefix_reader.ids(prefixes)

        def add_inputs(indices: np.ndarray) -> dict[str, np.ndarray]:
            prefix_ids, prefix_mask = self._prefix_reader.pad([prefix_sequences[i] for i in indices])
            return {"prefix_ids": prefix_ids, "prefix_mask": prefix_mask}

        inputs = EncodedTexts.encode(self.input_reader, texts)
        return predict_outputs(self, inputs, texts, batch_size, add_inputs, strategy=strategy)

    def to_inputs(self, batch: Any) -> dict[str, Any]:
        """Return `source_ids` and `source_mask` (B, S), and `valid` (B,), False for texts without words."""
        ids, mask = batch.arrays()
        return {"source_ids": ids, "source_mask": mask, "valid": batch.valid()}

    def _prepare(self, inputs: dict, strategy: Strategy) -> dict:
        """Add the length limits of the search.

        Args:
            inputs: dict of `source_ids` (B, S) int, `source_mask` (B, S) bool, `valid` (B,) bool, `seeds` (B,) int
                and optionally `prefix_ids` and `prefix_mask` (B, L), the first tokens of the translations.
            strategy: the search strategy.

        Returns:
            dict of the inputs of `_compute`.
        """
        limits = self._length_limits(ops.sum(ops.cast(inputs["source_mask"], "int32"), axis=1), strategy)
        prefix = {name: inputs[name] for name in ("prefix_ids", "prefix_mask") if name in inputs}
        if prefix:
            limits = ops.maximum(limits, ops.sum(ops.cast(prefix["prefix_mask"], "int32"), axis=1) + 1)
        tokenizer, vocabulary_size = self.target_tokenizer, self.config.target_vocabulary_size
        return {**inputs, **search_inputs(strategy, tokenizer, vocabulary_size, limits, inputs["seeds"], **prefix)}

    def _compute(self, inputs: dict, strategy: Strategy) -> dict:
        """Search for translations.

        Args:
            inputs: dict of tensors, from `_prepare`.
            strategy: the search strategy.

        Returns:
            dict of `tokens` and their mask `is_written` (B, N, T), `lengths` and `final_scores` (B, N), best first, 0
            for empty texts; and, with attention, `attention` (B, T, S) of the best translation.
        """
        computed = best_hypotheses(run_search(self, inputs, strategy, self.target_tokenizer), inputs["valid"])
        if strategy.replace_unknown:
            computed["attended"] = self._attended_words(computed, inputs["source_mask"])
        return computed

    def _attended_words(self, computed: dict, source_mask):
        """Return (B, T), the source position with the highest attention score at each step, without the end token."""
        if "attention" not in computed:
            raise ValueError(
                "`replace_unknown` copies the source word with the highest attention score, but this model has no "
                "attention; expected False."
            )
        is_word = ops.concatenate([source_mask[:, 1:], ops.zeros_like(source_mask[:, :1])], axis=1)
        return ops.argmax(computed["attention"] * ops.cast(ops.expand_dims(is_word, 1), "float32"), axis=-1)

    def _to_outputs(self, strings: Any, inputs: dict, computed: dict, detokenizers: dict[str, Any]) -> dict[str, Any]:
        """Return `text` and `score` (B,), `source_pieces` (B, S), `target_pieces` (B, T), `attention` (B, T, S).

        If there are several hypotheses, add the outputs of `hypothesis_outputs`.
        """
        source, target = detokenizers["source_tokenizer"], detokenizers["target_tokenizer"]
        prefix = {"prefix_lengths": inputs["prefix_mask"].sum(axis=1)} if "prefix_mask" in inputs else {}
        texts = target.decode(computed["tokens"], computed["lengths"], **prefix)
        pieces = target.pieces(computed["tokens"], computed["is_written"])
        outputs = hypothesis_outputs(target, texts, pieces, computed, ("text", "target_pieces"))
        if "attended" in computed:
            best, is_written = computed["tokens"][:, 0], computed["is_written"][:, 0]
            copied = target.copy_words(best, is_written, source.words_at(strings, computed["attended"]))
            has_unknown = target.any((best == target.special.unknown) & is_written)
            outputs["text"] = target.where(has_unknown, copied, outputs["text"])
        return {
            **outputs,
            "source_pieces": source.pieces(inputs["source_ids"], inputs["source_mask"] & inputs["valid"][:, None]),
            **({"attention": computed["attention"]} if "attention" in computed else {}),
        }

    def _initialize_from_examples(self, examples: Sequence[tuple[str, str]], unlabelled_texts: Sequence[str]) -> None:
        """If the attention reads embeddings, call `initialize_target_embeddings`."""
        if self._attends_embeddings:
            initialize_target_embeddings(self, examples)


def check_shared(config: TransformerConfig, source_tokenizer: Any, target_tokenizer: Any) -> None:
    """Raise ValueError unless both tokenizers have the same pieces."""
    same = config.source_vocabulary_size == config.target_vocabulary_size
    if same and source_tokenizer is not target_tokenizer:
        pieces = known_vocabulary(source_tokenizer), known_vocabulary(target_tokenizer)
        same = None in pieces or pieces[0] == pieces[1]
    if not same:
        raise ValueError(
            "Source and target share one embedding, but the two tokenizers have different pieces. Train one tokenizer "
            "on both languages and pass it twice, or pass shared_vocabulary=False."
        )
