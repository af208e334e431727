"""What a model makes of a text beside its task's answer: vectors, probabilities, attention maps.

Each has a function of tensors, which an export puts into its graph, and one of strings.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import numpy as np
from keras import ops

from keras_attention.data.batches import shift_right, text_arrays
from keras_attention.data.tokenizers import encode_texts, frame_ids, ids_to_pieces, pad_ids, special_ids
from keras_attention.layers import Transformer
from keras_attention.models.networks import read_text
from keras_attention.models.task import Forward, check_texts, length_sorted_batches


@dataclasses.dataclass(frozen=True)
class AttentionMaps:
    """Where each piece of a text looks.

    Attributes:
        text: what was read.
        pieces: its S pieces.
        weights: (layers, H, S, S) float32; row q says where piece q looks.
    """

    text: str
    pieces: tuple[str, ...]
    weights: np.ndarray


def embedding_tensors(model: Any, inputs: dict) -> dict:
    """Return `embedding` (B, M), the mean of `piece_embeddings` (B, S, M) over the real pieces."""
    outputs, _ = read_text(model, inputs)
    real = ops.expand_dims(ops.cast(inputs["padding_mask"], outputs.dtype), -1)
    total = ops.sum(outputs * real, axis=1) / ops.maximum(ops.sum(real, axis=1), 1)
    return {"embedding": ops.cast(total, "float32"), "piece_embeddings": ops.cast(outputs * real, "float32")}


def score_tensors(model: Any, inputs: dict, labels, mask) -> dict:
    """Return `piece_scores` (B, T), log p(label | what stands before it), and `score` (B,), their sum.

    Args:
        model: answers logits (B, T, V).
        inputs: its inputs.
        labels: (B, T) int.
        mask: (B, T) boolean, True where a label counts.
    """
    logits = ops.cast(model(inputs), "float32")
    chosen = ops.squeeze(ops.take_along_axis(logits, ops.expand_dims(labels, -1), axis=-1), -1)
    scores = ops.where(mask, chosen - ops.logsumexp(logits, axis=-1), 0.0)
    return {"score": ops.sum(scores, axis=-1), "piece_scores": scores}


def attention_tensors(model: Any, inputs: dict) -> dict:
    """Return `attention` (B, layers, H, S, S), zero in the rows of padding."""
    _, weights = read_text(model, inputs, return_weights=True)
    real = ops.reshape(inputs["padding_mask"], (-1, 1, 1, ops.shape(inputs["padding_mask"])[1], 1))
    return {"attention": ops.where(real, ops.stack(weights, 1), 0.0)}


def embed(model: Any, texts: Iterable[str], batch_size: int = 32) -> np.ndarray:
    """Turn texts into vectors: the mean of the encoder's outputs over all pieces.

    Args:
        model: has an encoder, such as a `MaskedLM` or a `TextClassifier`.
        texts: strings.
        batch_size: how many are read at once; it does not change an answer.

    Returns:
        (N, M) float32.

    Raises:
        TypeError: the model has no encoder of one text, or `texts` is no list of strings.

    Example:
        >>> tokenizer = ka.train_tokenizer(["a fine film"], "characters")
        >>> model = ka.MaskedLM.from_preset("bert_base", tokenizer=tokenizer, width=8, num_heads=2, num_layers=1)
        >>> embed(model, ["a fine film", "a film"]).shape
        (2, 8)
    """
    if not hasattr(model, "encoder") or not hasattr(model, "embedding"):
        raise TypeError(f"A {type(model).__name__} has no encoder of one text; expected a MaskedLM or another encoder.")
    found = _in_order(model, check_texts(texts), embedding_tensors, batch_size)
    vectors = [answer["embedding"] for _, answer in found]
    width = getattr(model.config, "width", None) or model.config.units
    return np.array(vectors, "float32").reshape(-1, width)


def attention_maps(model: Any, texts: Iterable[str], batch_size: int = 32) -> list[AttentionMaps]:
    """Return where each piece of each text looks, in every block and head.

    Args:
        model: an encoder or language model with Transformer blocks, trained with a fused kernel or not.
        texts: strings.
        batch_size: how many are read at once; it does not change an answer.

    Returns:
        one `AttentionMaps` per text.

    Raises:
        TypeError: the model has no such blocks, or `texts` is no list of strings.

    Example:
        >>> tokenizer = ka.train_tokenizer(["a fine film"], "characters")
        >>> model = ka.MaskedLM.from_preset("bert_base", tokenizer=tokenizer, width=8, num_heads=2, num_layers=1)
        >>> attention_maps(model, ["a film"])[0].weights.shape
        (1, 2, 8, 8)
    """
    if not has_maps(model):
        raise TypeError(f"This {type(model).__name__} has no self-attention over one text, so it has no maps of it.")
    texts = check_texts(texts)
    found = _in_order(model, texts, attention_tensors, batch_size)
    return [
        AttentionMaps(text, tuple(ids_to_pieces(model.tokenizer, ids)), maps["attention"][..., : len(ids), : len(ids)])
        for text, (ids, maps) in zip(texts, found, strict=True)
    ]


def has_maps(model: Any) -> bool:
    """Whether a model reads one text with self-attention."""
    stack = getattr(model, "encoder", None) or getattr(model, "decoder", None)
    return hasattr(model, "embedding") and hasattr(stack, "blocks")


def score(model: Any, texts: Iterable[str], targets: Iterable[str] | None = None, batch_size: int = 32) -> list[float]:
    """Return the log-probability of each text, end token included, in nats.

    Args:
        model: a `CausalLM`, or a `Translator` with `targets`.
        texts: strings; of a translator, the sources.
        targets: for each source the translation that is scored.
        batch_size: how many are read at once; it does not change an answer.

    Raises:
        TypeError: the model gives no such probabilities.
        ValueError: a translator without as many targets as texts, or targets for a language model.

    Example:
        >>> tokenizer = ka.train_tokenizer(["to be or not to be"], "characters")
        >>> model = ka.CausalLM.from_preset("char_rnn", tokenizer=tokenizer, units=8, embedding_dim=4)
        >>> score(model, ["to be"])[0] < 0
        True
    """
    texts = check_texts(texts)
    targets = None if targets is None else check_texts(targets)
    if not hasattr(model, "searches") or model.frame == "end_start":
        raise TypeError(f"A {type(model).__name__} gives no such probabilities; expected a CausalLM or Translator.")
    if hasattr(model, "source_tokenizer") != (targets is not None) or (
        targets is not None and len(targets) != len(texts)
    ):
        raise ValueError("A Translator is scored on as many targets as texts, a language model on texts alone.")
    written = texts if targets is None else targets
    tokenizer = getattr(model, "target_tokenizer", None) or model.tokenizer
    special, longest = special_ids(tokenizer), model.config.max_length
    rows = encode_texts(tokenizer, written, longest, after=(special.end,))
    sources = [] if targets is None else encode_texts(
        model.source_tokenizer, texts, longest, after=(special_ids(model.source_tokenizer).end,)
    )  # fmt: skip
    scores = [0.0] * len(texts)
    forward = Forward(model, lambda given: score_tensors(model, given["inputs"], given["labels"], given["mask"]))
    for batch in length_sorted_batches([len(row) for row in rows], batch_size):
        labels, mask = pad_ids([rows[i] for i in batch], special.pad, multiple=8)
        inputs = {"token_ids": shift_right(labels, special.start), "padding_mask": mask}
        if sources:
            ids, seen = pad_ids([sources[i] for i in batch], special_ids(model.source_tokenizer).pad, multiple=8)
            inputs = {"source_ids": ids, "source_mask": seen, "target_ids": inputs["token_ids"]}
        found = forward({"inputs": inputs, "labels": labels, "mask": mask})["score"]
        for row, index in enumerate(batch):
            scores[index] = float(found[row])
    return scores


def _in_order(
    model: Any, texts: list[str], tensors: Callable[[Any, dict], dict], batch_size: int
) -> Iterator[tuple[list[int], dict[str, np.ndarray]]]:
    """Yield the ids of each text and what a function of tensors makes of them, in the order of the texts."""
    rows = encode_texts(model.tokenizer, texts, model.config.max_length, *frame_of(model))
    answers: list[Any] = [None] * len(texts)
    forward = Forward(model, lambda inputs: tensors(model, inputs))
    for batch in length_sorted_batches([len(row) for row in rows], batch_size):
        ids, mask = pad_ids([rows[i] for i in batch], special_ids(model.tokenizer).pad, multiple=8)
        found = forward(text_arrays(model.config, ids, mask))
        for row, index in enumerate(batch):
            answers[index] = rows[index], {name: value[row] for name, value in found.items()}
    yield from answers


def frame_of(model: Any) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Return the ids around a text that is read, not written: a decoder begins it with the start token."""
    if isinstance(getattr(model, "decoder", None), Transformer):
        special = special_ids(model.tokenizer)
        return ((), ()) if special.start == special.end else ((special.start,), ())
    return frame_ids(model.tokenizer, model.frame)
