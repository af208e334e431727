"""`TextTagger`: from words to one tag per word."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Sequence
from typing import Any

import keras
import numpy as np
from keras import ops

from keras_attention.config import RecurrentConfig, TransformerConfig
from keras_attention.data.batches import text_model_inputs
from keras_attention.data.batching.text_batches import tagging_batches
from keras_attention.data.tokenization.text_reader import TextReader
from keras_attention.data.tokenization.word_reader import EncodedWords, WordReader
from keras_attention.layers import AffixEncoder, CharacterEncoder
from keras_attention.layers.task_heads import probabilities
from keras_attention.models.network.config_checks import (
    check_labels,
    known_vocabulary,
    with_vocabulary,
    without_attention,
)
from keras_attention.models.network.initial_embeddings import initialize_embeddings
from keras_attention.models.network.layers_from_config import make_embedding, make_encoder, text_input_tensors
from keras_attention.models.task import Task
from keras_attention.models.task_data.label_data import TaggingData
from keras_attention.outputs import Tagging, join_taggings
from keras_attention.prediction.encoded_inputs import EncodedWordWindows, check_texts
from keras_attention.prediction.encoder_outputs import encode_text
from keras_attention.prediction.run_batches import predict_outputs
from keras_attention.task_specs import TASK_SPECS


def _make_character_encoder(config: Any, tokenizer: Any) -> AffixEncoder | CharacterEncoder | None:
    """Return the layer that encodes a word from its characters; None if the config has no character vocabulary."""
    size, hash_buckets = config.character_vocabulary_size, config.hash_buckets
    if not size:
        return None
    if hash_buckets:
        characters = known_vocabulary(tokenizer)
        return AffixEncoder(size, hash_buckets=hash_buckets, characters=characters, name="character_encoder")
    # A quarter of the sizes for words, because there are few different characters.
    embedding_dim, units = -(-config.embedding_dim // 4), 2 * -(-config.units // 4)
    return CharacterEncoder(size, embedding_dim, units, config.cell, name="character_encoder")


@keras.saving.register_keras_serializable("keras_attention")
class TextTagger(Task):
    """Compute a tag for each word, with a bidirectional recurrent encoder or a Transformer encoder.

    p(tag_i | x) = softmax(W h_i), where h_i is the encoder's output at the first token of word i. With a character
    tokenizer, the inputs of a recurrent encoder are the token embeddings and, at the first token of each word, the
    output of an `AffixEncoder`, or of a `CharacterEncoder` if `config.hash_buckets` is 0. This works best if tokens are
    words (`train_tokenizer(texts, "words")`).

    Args:
        config: a `RecurrentConfig` or `TransformerConfig`, whose `labels` are the tags.
        tokenizer: KerasHub tokenizer.
        character_tokenizer: KerasHub tokenizer of the characters of words, for a recurrent tagger; or None.

    Call arguments:
        inputs: dict of `token_ids` (B, S) int, `padding_mask` (B, S) bool, True for real tokens, and, if the config
            has segments, `segment_ids` (B, S) int; with a character tokenizer also `character_ids` (B, S, characters)
            int and `character_mask` (B, S, characters) bool, which is True only at the first token of each word.

    Output:
        logits (B, S, tags); only those at the first token of each word are used.

    Raises:
        TypeError: there is neither a tokenizer nor a vocabulary size, or a Transformer has a character tokenizer.
        ValueError: there are fewer than two labels, or equal ones; or a recurrent config has attention.

    Example:
        >>> tokenizer = ka.data.train_tokenizer(["we eat bread"], "characters")
        >>> model = ka.TextTagger.from_preset(
        ...     "rnn_tagger", tokenizer=tokenizer, labels=("NOUN", "VERB"), units=8, embedding_dim=4)
        >>> model.output.shape
        (None, None, 2)

    Reference: Huang et al., 2015, https://arxiv.org/abs/1508.01991; Lample et al., 2016,
    https://arxiv.org/abs/1603.01360; Devlin et al., 2019, https://arxiv.org/abs/1810.04805, section 5.3.
    """

    spec = TASK_SPECS["tagger"]
    data = TaggingData(tagging_batches)

    def __init__(
        self,
        config: RecurrentConfig | TransformerConfig,
        tokenizer: Any = None,
        character_tokenizer: Any = None,
        **kwargs,
    ) -> None:
        config = with_vocabulary(without_attention(config, "tagger"), "vocabulary_size", tokenizer)
        if character_tokenizer is not None:
            if not isinstance(config, RecurrentConfig):
                raise TypeError("A Transformer tagger does not read characters; expected `character_tokenizer=None`.")
            config = with_vocabulary(config, "character_vocabulary_size", character_tokenizer, "character_tokenizer")
        check_labels(config.labels)
        self.character_encoder = _make_character_encoder(config, character_tokenizer)
        self.embedding, self.encoder = make_embedding(config, config.vocabulary_size, "embedding"), make_encoder(config)
        self.head = keras.layers.Dense(len(config.labels), name="logits")
        inputs = text_input_tensors(config)
        tokenizers = {"tokenizer": tokenizer, "character_tokenizer": character_tokenizer}
        super().__init__(config, tokenizers, inputs, self._logits(inputs), **kwargs)

    def _logits(self, inputs: dict):
        return self.head(encode_text(self, inputs)[0])

    @property
    def tokenizers(self) -> dict[str, Any]:
        """The tokenizers of the network, by name; the character tokenizer only if the network reads characters."""
        tokenizers = super().tokenizers
        return tokenizers if self.character_encoder is not None else {"tokenizer": tokenizers["tokenizer"]}

    @property
    def input_reader(self) -> WordReader:
        """The `WordReader` of words. A recurrent network reads no special tokens."""
        template = "none" if isinstance(self.config, RecurrentConfig) else self.config.template
        text = TextReader.from_template(self.tokenizer, template, self.config.max_length)
        if self.character_encoder is None:
            return WordReader(text)
        return WordReader(text, TextReader(self.character_tokenizer, max_length=self.config.max_word_length))

    @property
    def text_reader(self) -> TextReader | WordReader:
        """The reader of a whole text; a `WordReader` if the model reads characters."""
        return super().text_reader if self.character_encoder is None else self.input_reader

    def _initialize_from_examples(self, examples: Sequence, unlabelled_texts: Sequence[str]) -> None:
        """With unlabelled texts, call `initialize_embeddings`."""
        if unlabelled_texts:
            initialize_embeddings(self, [*self.data.texts(examples), *unlabelled_texts])

    def word_arrays(
        self, sentences: Sequence[EncodedWords], multiple: int = 8, extra: int = 0
    ) -> dict[str, np.ndarray]:
        """Return the call arguments for encoded sentences; see `WordReader.arrays`."""
        arrays = self.input_reader.arrays(sentences, multiple, extra)
        return {**arrays, **text_model_inputs(self.config, arrays["token_ids"], arrays["padding_mask"])}

    def tag(self, texts: Iterable[str], batch_size: int = 32) -> list[Tagging]:
        """Tag the words of texts.

        Args:
            texts: strings, whose words are separated by ASCII white space alone: "bread." is one word. A text with more
                than `config.max_length` tokens is tagged in windows that overlap, so that each word has a tag.
            batch_size: number of texts, or windows, in a batch; it does not change the result.

        Returns:
            one `Tagging` per text, in order; an empty text has no words.

        Raises:
            TypeError: `texts` is one string, or contains other types than strings.

        Example:
            >>> tokenizer = ka.data.train_tokenizer(["we eat bread"], "characters")
            >>> model = ka.TextTagger.from_preset(
            ...     "rnn_tagger", tokenizer=tokenizer, labels=("NOUN", "VERB"), units=8, embedding_dim=4)
            >>> len(model.tag(["we eat bread"])[0].tags)
            3
        """
        texts = check_texts(texts)
        inputs = EncodedWordWindows.encode_windows(self.input_reader, texts)
        sentences = [window.sentence for window in inputs.windows]
        parts = predict_outputs(self, inputs, [texts[sentence] for sentence in sentences], batch_size)
        groups = itertools.groupby(zip(sentences, parts, strict=True), key=lambda pair: pair[0])
        return [join_taggings([part for _, part in group]) for _, group in groups]

    def to_inputs(self, batch: Any) -> dict[str, Any]:
        """Return the call arguments and `word_starts` (B, I), the position of each word, padded with -1."""
        arrays = batch.arrays()
        return {**arrays, **text_model_inputs(self.config, arrays["token_ids"], arrays["padding_mask"])}

    def _compute(self, inputs: dict) -> dict:
        """Compute the most probable tag of each word.

        Args:
            inputs: dict of the call arguments and `word_starts` (B, I) int, the position of the first token of each
                word, padded with -1.

        Returns:
            dict of `tag_ids` (B, I), and `scores` (B, I), their probabilities, padded with 0.
        """
        inputs = dict(inputs)
        starts = inputs.pop("word_starts")
        at_words = ops.expand_dims(ops.maximum(starts, 0), -1)
        scores = probabilities(ops.take_along_axis(self._logits(inputs), at_words, axis=1))
        return {"tag_ids": ops.argmax(scores, -1), "scores": ops.where(starts >= 0, ops.max(scores, -1), 0.0)}

    def _to_outputs(self, strings: Any, inputs: dict, computed: dict, detokenizers: dict[str, Any]) -> dict[str, Any]:
        """Return `words`, `tags` and `scores` (B, I), padded with "" and 0. `strings` are the words (B, I)."""
        names = detokenizers["tokenizer"].names
        tags = names(self.config.labels, computed["tag_ids"], inputs["word_starts"] >= 0)
        return {"words": strings, "tags": tags, "scores": computed["scores"]}
