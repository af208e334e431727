"""Compute embeddings, log-probabilities and attention maps of texts.

Each has two versions: one takes tensors (for export), the other takes strings.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
from keras import ops

from keras_attention.data.batches import text_model_inputs
from keras_attention.outputs import AttentionMaps
from keras_attention.prediction.detokenizer import Detokenizer
from keras_attention.prediction.encoded_inputs import (
    EncodedTexts,
    EncodedWordWindows,
    RawImages,
    check_images,
    check_texts,
)
from keras_attention.prediction.encoder_outputs import encode_text, mean_sequence
from keras_attention.prediction.run_batches import compiled_function, run_batches


def embedding_tensors(model: Any, inputs: dict) -> dict:
    """Return `embedding` (B, M), the mean of `token_embeddings` (B, S, M) over the real tokens."""
    outputs, _ = encode_text(model, inputs)  # (B, S, M)
    mask = inputs["padding_mask"]  # (B, S)
    mean = mean_sequence(outputs, mask)  # (B, M)
    mask = ops.expand_dims(ops.cast(mask, outputs.dtype), -1)  # (B, S, 1)
    return {"embedding": ops.cast(mean, "float32"), "token_embeddings": ops.cast(outputs * mask, "float32")}


def _embedding_alone(model: Any, inputs: dict) -> dict:
    """Return only `embedding` (B, M), because the embeddings of all tokens of all texts need much memory."""
    return {"embedding": embedding_tensors(model, inputs)["embedding"]}


def score_tensors(model: Any, inputs: dict) -> dict:
    """Return `token_scores` (B, T), log p(label | the labels before it), and `score` (B,), their sum.

    Args:
        model: returns logits (B, T, V).
        inputs: dict of `inputs`, those of the model; `labels` (B, T) int; and `mask` (B, T) bool, True for real labels.
    """
    logits = ops.cast(model(inputs["inputs"]), "float32")  # (B, T, V)
    chosen = ops.take_along_axis(logits, ops.expand_dims(inputs["labels"], -1), axis=-1)  # (B, T, 1)
    chosen = ops.squeeze(chosen, -1)
    scores = ops.where(inputs["mask"], chosen - ops.logsumexp(logits, axis=-1), 0.0)
    return {"score": ops.sum(scores, axis=-1), "token_scores": scores}


def attention_tensors(model: Any, inputs: dict) -> dict:
    """Return `attention` (B, layers, H, S, S), 0 in rows of padding."""
    _, scores = encode_text(model, inputs, return_attention_scores=True)
    mask = ops.reshape(inputs["padding_mask"], (-1, 1, 1, ops.shape(inputs["padding_mask"])[1], 1))
    return {"attention": ops.cast(ops.where(mask, ops.stack(scores, 1), 0.0), "float32")}


def embed(model: Any, texts: Iterable[str], batch_size: int = 32) -> np.ndarray:
    """Compute a vector of each text, the mean of the encoder's outputs over all tokens.

    Args:
        model: a model with an encoder of one text, such as a `MaskedLM` or a `TextClassifier`.
        texts: strings.
        batch_size: number of texts in a batch; it does not change the result.

    Returns:
        (B, M) float32.

    Raises:
        TypeError: the model has no encoder of one text, or `texts` is not a list of strings.

    Example:
        >>> tokenizer = ka.data.train_tokenizer(["a fine film"], "characters")
        >>> model = ka.MaskedLM.from_preset("bert_base", tokenizer=tokenizer, width=8, num_heads=2, num_layers=1)
        >>> embed(model, ["a fine film", "a film"]).shape
        (2, 8)
    """
    if not has_encoder(model):
        raise TypeError(f"A {type(model).__name__} has no encoder of one text; expected a MaskedLM or another encoder.")
    rows = _rows(model, check_texts(texts), _embedding_alone, batch_size)
    return np.array([row["embedding"] for row in rows], "float32").reshape(-1, model.config.width)


def attention_maps(model: Any, texts: Iterable[str], batch_size: int = 32) -> list[AttentionMaps]:
    """Return the attention scores of each text, for all blocks and heads.

    Args:
        model: a model with Transformer blocks that reads one text. It computes the scores without a fused kernel.
        texts: strings.
        batch_size: number of texts in a batch; it does not change the result.

    Returns:
        one `AttentionMaps` per text.

    Raises:
        TypeError: the model has no such blocks, or `texts` is not a list of strings.

    Example:
        >>> tokenizer = ka.data.train_tokenizer(["a fine film"], "characters")
        >>> model = ka.MaskedLM.from_preset("bert_base", tokenizer=tokenizer, width=8, num_heads=2, num_layers=1)
        >>> attention_maps(model, ["a film"])[0].attention.shape
        (1, 2, 8, 8)
    """
    if not has_maps(model):
        raise TypeError(
            f"This {type(model).__name__} has no self-attention over one text; expected a Transformer of one text."
        )
    texts = check_texts(texts)
    rows = _rows(model, texts, attention_tensors, batch_size)
    return [AttentionMaps.from_row(row, text) for row, text in zip(rows, texts, strict=True)]


def has_encoder(model: Any) -> bool:
    """Return whether a model has an encoder of one text."""
    return getattr(model, "encoder", None) is not None and "token_ids" in model.input


def has_maps(model: Any) -> bool:
    """Return whether a model has self-attention over one text."""
    stack = getattr(model, "encoder", None) or getattr(model, "decoder", None)
    return stack is not None and "token_ids" in model.input and bool(stack.blocks)


def can_score(model: Any) -> bool:
    """Return whether a model computes the probability of each token from the tokens before it."""
    return getattr(type(model), "target_reader", None) is not None


def _rows(
    model: Any, texts: list[str], function: Callable[[Any, dict], dict], batch_size: int
) -> list[dict[str, np.ndarray]]:
    """Compute a function of tensors for texts; return one row per text, its outputs and `pieces` (S,)."""
    kind = EncodedWordWindows if "character_ids" in model.input else EncodedTexts
    inputs, detokenizer = kind.encode(model.text_reader, texts), Detokenizer(model.tokenizer)

    def compute(indices: np.ndarray) -> dict[str, Any]:
        arrays = encoder_inputs(model, inputs.take(indices))
        pieces = detokenizer.pieces(arrays["token_ids"], arrays["padding_mask"])
        return {**compiled_function(model, function)(arrays), "pieces": pieces}

    return run_batches(inputs.lengths, batch_size, compute)


def encoder_inputs(model: Any, batch: Any) -> dict[str, Any]:
    """Return the call arguments for a batch of texts that `model.text_reader` reads."""
    if "character_ids" not in model.input:
        return text_model_inputs(model.config, *batch.arrays())
    arrays = model.to_inputs(batch)
    arrays.pop("word_starts")
    return arrays


def score(model: Any, texts: Iterable[Any], targets: Iterable[str] | None = None, batch_size: int = 32) -> list[float]:
    """Return the log-probability of each text, including the end token, in nats.

    Args:
        model: a `CausalLM`; or, with `targets`, a `Translator` or `Captioner`.
        texts: strings; for a translator the sources; for a captioner the images, see `Captioner.caption`.
        targets: for a translator or captioner, the translation or caption to score for each source or image.
        batch_size: number of texts in a batch; it does not change the result.

    Returns:
        list of B floats; NaN for an image that cannot be read.

    Raises:
        TypeError: the model does not compute such probabilities.
        ValueError: the numbers of targets and of sources or images differ, or a language model has targets.

    Example:
        >>> tokenizer = ka.data.train_tokenizer(["to be or not to be"], "characters")
        >>> model = ka.CausalLM.from_preset("char_rnn", tokenizer=tokenizer, units=8, embedding_dim=4)
        >>> score(model, ["to be"])[0] < 0
        True
    """
    if not can_score(model):
        raise TypeError(
            f"`model` is of type {type(model).__name__}; expected a CausalLM, a Translator or a Captioner, which "
            "compute log-probabilities from left to right. A loaded export has a method `score`."
        )
    has_images = "images" in model.input
    sources = check_images(texts) if has_images else check_texts(texts)
    targets = None if targets is None else check_texts(targets)
    if ("target_ids" in model.input) != (targets is not None) or (targets is not None and len(targets) != len(sources)):
        received = "`targets` is None" if targets is None else f"There are {len(targets)} targets"
        raise ValueError(
            f"{received} for {len(sources)} inputs of a {type(model).__name__}; expected one target for each text or "
            "image of a Translator or Captioner, and None for a language model."
        )
    labels = EncodedTexts.encode(model.target_reader, sources if targets is None else targets)
    encoded = None
    if targets is not None:
        encoded = RawImages(sources) if has_images else EncodedTexts.encode(model.input_reader, sources)

    def compute(indices: np.ndarray) -> dict[str, Any]:
        batch = None if encoded is None else encoded.take(indices)
        inputs, images = score_inputs(model, labels.take(indices), batch)
        return {**compiled_function(model, score_tensors)(inputs), **images}

    return [score_of(row) for row in run_batches(labels.lengths, batch_size, compute)]


def score_of(row: dict[str, Any]) -> float:
    """Return the log-probability in a row of outputs; NaN for an image that cannot be read."""
    return float(row["score"]) if row.get("valid", True) else math.nan


def score_inputs(model: Any, targets: Any, sources: Any | None) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return the inputs of `score_tensors`; and, for images, a dict of `valid` (B,), False for damaged ones.

    Args:
        model: a model that computes the probability of each token from the tokens before it.
        targets: a batch of the texts to score, `EncodedTexts`.
        sources: a batch of sources or images; None for a language model.
    """
    labels, mask = targets.arrays()
    shifted = targets.shift_right(labels)
    if sources is None:
        inputs = {"token_ids": shifted, "padding_mask": mask}
        return {"inputs": inputs, "labels": labels, "mask": mask}, {}
    inputs = {**model.to_inputs(sources), "target_ids": shifted}
    valid = inputs.pop("valid")
    images = {"valid": valid} if "images" in inputs else {}
    scored = mask & images["valid"][:, None] if images else mask
    return {"inputs": inputs, "labels": labels, "mask": scored}, images
