"""`MaskedLM`: a text with gaps in, the words that fill them out."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable
from typing import Any

import keras
import numpy as np

from keras_attention.config import TransformerConfig
from keras_attention.data.batches import text_arrays
from keras_attention.data.tokenizers import (
    apply_template,
    decode_ids,
    encode_texts,
    ids_to_pieces,
    mask_id,
    pad_ids,
    special_ids,
)
from keras_attention.layers import MaskedLMHead, OutputBias
from keras_attention.models.build import (
    ACTIVATIONS,
    initializer,
    make_embedding,
    make_encoder,
    make_pooler,
    read_text,
)
from keras_attention.models.task import (
    Forward,
    Task,
    check_texts,
    length_sorted_batches,
    text_inputs,
    with_vocabulary,
)


@dataclasses.dataclass(frozen=True)
class FilledMask:
    """One answer: a text and what stands in its gaps.

    Attributes:
        masked: what was read.
        text: the same with the likeliest piece in each gap.
        candidates: for each gap the likeliest pieces, as (piece, probability), best first.
    """

    masked: str
    text: str
    candidates: tuple[tuple[tuple[str, float], ...], ...] = ()


@keras.saving.register_keras_serializable("keras_attention")
class MaskedLM(Task):
    """Masked language model: p(x_i | the rest) = softmax(E g(h_i) + b)[x_i], at positions that are masked.

    h are the outputs of a Transformer encoder, g a dense layer with a normalisation, and E the token embedding
    (tied). With `config.next_sentence` the model also says whether the second segment follows the first (class 0).

    Args:
        config: sizes; the vocabulary size is taken from the tokenizer.
        tokenizer: KerasHub tokenizer with a mask piece (`[MASK]` or `<mask>`).

    Call arguments:
        inputs: dict of `token_ids` (B, S) int, `padding_mask` (B, S) bool, True = a real token, and, where the
            family has them, `segment_ids` (B, S) int.

    Output:
        logits (B, S, V); with `next_sentence` a dict of `logits` and `next_sentence` (B, 2).

    Raises:
        TypeError: there is neither a tokenizer nor a vocabulary size.

    Example:
        >>> tokenizer = ka.train_tokenizer(["we eat bread", "we drink water"], vocabulary_size=60)
        >>> model = ka.MaskedLM.from_preset("bert_base", tokenizer=tokenizer, width=8, num_heads=2, num_layers=1)
        >>> len(model.fill(["we <mask> bread"])[0].candidates)
        1

    Reference: Devlin et al., 2019, https://arxiv.org/abs/1810.04805; Liu et al., 2019,
    https://arxiv.org/abs/1907.11692 (RoBERTa).
    """

    def __init__(self, config: TransformerConfig, tokenizer: Any = None, **kwargs) -> None:
        config = with_vocabulary(config, "vocabulary_size", tokenizer)
        self.embedding, self.encoder = make_embedding(config, config.vocabulary_size, "embedding"), make_encoder(config)
        self.head = MaskedLMHead(ACTIVATIONS[config.activation], config.epsilon, initializer(config), name="head")
        self.output_bias = OutputBias(name="output_bias")
        inputs = text_inputs(config)
        outputs, _ = read_text(self, inputs)
        answer = logits = self._to_logits(outputs)
        self.pooler = self.next_sentence_head = None
        if config.next_sentence:
            self.pooler = make_pooler(config)
            self.next_sentence_head = keras.layers.Dense(
                2, kernel_initializer=initializer(config), name="next_sentence"
            )
            answer = {"logits": logits, "next_sentence": self.next_sentence_head(self.pooler(outputs[:, 0]))}
        super().__init__(config, {"tokenizer": tokenizer}, inputs, answer, **kwargs)
        self.forward = Forward(self, lambda inputs: {"logits": self._to_logits(read_text(self, inputs)[0])})

    def _to_logits(self, outputs):
        return self.output_bias(self.embedding(self.head(outputs), reverse=True))

    def backbone(self) -> tuple[keras.layers.Layer, ...]:
        """The layers whose parameters a paper counts."""
        return tuple(x for x in (self.embedding, self.encoder, self.pooler) if x is not None)

    def fill(self, texts: Iterable[str], candidates: int = 5, batch_size: int = 32) -> list[FilledMask]:
        """Fill the gaps of texts.

        Args:
            texts: strings with the mask piece in each gap. One that is longer than `config.max_length` pieces is
                cut there, with one warning that counts them, and so is what is answered.
            candidates: how many pieces to name for each gap.
            batch_size: how many are read at once; it does not change an answer.

        Returns:
            one `FilledMask` per text, in order; a text without a gap is answered as it is.

        Raises:
            TypeError: `texts` is one string, or holds something else than strings.
            ValueError: `candidates` or `batch_size` is not positive.
        """
        if candidates < 1:
            raise ValueError(f"`candidates` is {candidates}; expected a positive integer.")
        texts, special = check_texts(texts), special_ids(self.tokenizer)
        template = apply_template(self.tokenizer, self.template)
        rows = encode_texts(self.tokenizer, texts, self.config.max_length, *template)
        answers: list[Any] = [None] * len(texts)
        for batch in length_sorted_batches([len(row) for row in rows], batch_size):
            ids, mask = pad_ids([rows[i] for i in batch], special.pad, multiple=8)
            logits = self.forward(text_arrays(self.config, ids, mask))["logits"]
            for row, index in enumerate(batch):
                answers[index] = self._answer(texts[index], rows[index], logits[row], candidates)
        return answers

    def _answer(self, text: str, ids: list[int], logits: np.ndarray, count: int) -> FilledMask:
        gaps = [i for i, token in enumerate(ids) if token == mask_id(self.tokenizer)]
        if not gaps:
            return FilledMask(text, text)
        found, ids = [], list(ids)
        for gap in gaps:
            scores = logits[gap].astype("float64")
            best = np.argsort(-scores, kind="stable")[:count]
            chances = np.exp(scores[best] - scores.max()) / np.exp(scores - scores.max()).sum()
            found.append(tuple(zip(ids_to_pieces(self.tokenizer, best), map(float, chances), strict=True)))
            ids[gap] = int(best[0])
        return FilledMask(text, decode_ids(self.tokenizer, ids), tuple(found))
