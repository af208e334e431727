"""Initial embeddings that are similar for words with the same neighbours, or for words and their translations."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from keras import ops

from keras_attention.data.tokenization.alignment import align_tokens
from keras_attention.data.tokenization.token_vectors import token_vectors
from keras_attention.data.tokenization.tokenizers import encode_texts

MAX_PAIRS = 50_000  # maximum number of pairs that are aligned
MAX_CELLS = 20_000_000  # maximum number of (source token, target token) combinations of all pairs; each takes 66 bytes
_GAIN = 2.0  # what is added to the diagonal of the decoder's matrix
_STANDARD_DEVIATION = 0.9  # standard deviation of the numbers in an initial embedding


def initialize_embeddings(model: Any, texts: Sequence[str]) -> None:
    """Initialize the embeddings of tokens with `token_vectors` of unlabelled texts.

    Each vector is scaled to the length 0.9 sqrt(M). Tokens that do not occur in the texts keep their random embedding.
    A word that occurs in no training example starts with an embedding similar to those of training words with the same
    neighbours in the texts.

    Args:
        model: a `TextTagger` with a recurrent encoder, not trained.
        texts: strings.

    Example:
        >>> texts = ["we eat bread", "we eat soup"]
        >>> tokenizer = ka.data.train_tokenizer(texts, "words", min_count=1)
        >>> model = ka.TextTagger.from_preset(
        ...     "rnn_tagger", tokenizer=tokenizer, labels=("NOUN", "VERB"), units=8, embedding_dim=4)
        >>> initialize_embeddings(model, texts)
    """
    embeddings = ops.convert_to_numpy(model.embedding.embeddings)
    vectors = token_vectors(encode_texts(model.tokenizer, texts), *embeddings.shape)
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    scaled = vectors / np.maximum(lengths, 1e-9) * _STANDARD_DEVIATION * np.sqrt(embeddings.shape[1])
    model.embedding.embeddings.assign(np.where(lengths > 0, scaled, embeddings))


def initialize_target_embeddings(model: Any, pairs: Sequence[tuple[str, str]]) -> None:
    """Initialize the target embeddings of a translator from the source embeddings of their translations in the pairs.

    With p(x | y) of `align_tokens`, the embedding of a target token y is the mean of the source embeddings,

        E_target[y] = sum_x p(x | y) E_source[x],    scaled to the length of its random initial value,

    and 2 I is added to the part of the decoder's matrix W that reads the attended source embeddings. The logit of y is
    then high if the decoder attends to a word that y translates. With few pairs, a network with random weights learns
    fluent output but not word translations.

    Args:
        model: a `Translator` with `attend_embeddings`, not trained.
        pairs: (source, target) strings; a random sample of 50,000 is read, or of fewer if they are long.

    Example:
        >>> pairs = [("we eat", "comemos"), ("we drink", "bebemos")]
        >>> model = ka.Translator.from_examples(pairs, tokenizer_kind="characters", units=12)
        >>> initialize_target_embeddings(model, pairs)
    """
    sample = np.random.default_rng(0).permutation(len(pairs))[:MAX_PAIRS]  # files may be sorted
    sides = zip(*(pairs[i] for i in sample), strict=True)
    tokenizers = (model.source_tokenizer, model.target_tokenizer)
    length = model.config.max_length
    ids = [
        [sequence[:length] for sequence in encode_texts(tokenizer, texts)]
        for tokenizer, texts in zip(tokenizers, sides, strict=True)
    ]
    cells = np.cumsum([len(source) * len(target) for source, target in zip(*ids, strict=True)])
    num_aligned = max(int(np.searchsorted(cells, MAX_CELLS)), 1)
    x, y, probabilities = align_tokens(ids[0][:num_aligned], ids[1][:num_aligned])
    source, target = (
        ops.convert_to_numpy(layer.embeddings) for layer in (model.source_embedding, model.target_embedding)
    )
    columns = [np.bincount(y, probabilities * source[x, i], len(target)) for i in range(source.shape[1])]
    means = np.stack(columns, axis=1)
    lengths, is_aligned = np.linalg.norm(means, axis=1, keepdims=True), np.bincount(y, minlength=len(target)) > 0
    scaled = means / np.maximum(lengths, 1e-9) * np.linalg.norm(target, axis=1, keepdims=True)
    model.target_embedding.embeddings.assign(np.where(is_aligned[:, None], scaled, target))
    kernel = model.decoder.output_projection.kernel
    values = np.array(ops.convert_to_numpy(kernel))
    values[-source.shape[1] :] += _GAIN * np.eye(source.shape[1], values.shape[1])
    kernel.assign(values)
