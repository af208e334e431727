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
from keras_attention.data.images import read_images
from keras_attention.data.tokenizers import (
    apply_template,
    encode_texts,
    ids_to_pieces,
    pad_ids,
    special_ids,
    split_words,
)
from keras_attention.layers import Transformer
from keras_attention.models.build import read_text
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
    _, weights = read_text(model, inputs, return_attention_scores=True)
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
    if not has_encoder(model):
        raise TypeError(f"A {type(model).__name__} has no encoder of one text; expected a MaskedLM or another encoder.")

    def vectors_alone(model: Any, inputs: dict) -> dict:  # all pieces of all texts would be much to keep
        return {"embedding": embedding_tensors(model, inputs)["embedding"]}

    found = _in_order(model, check_texts(texts), vectors_alone, batch_size)
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


def has_encoder(model: Any) -> bool:
    """Whether a model has an encoder of one text."""
    return hasattr(model, "encoder") and "token_ids" in model.input


def has_maps(model: Any) -> bool:
    """Whether a model reads one text with self-attention."""
    stack = getattr(model, "encoder", None) or getattr(model, "decoder", None)
    return "token_ids" in model.input and hasattr(stack, "blocks")


def score(model: Any, texts: Iterable[Any], targets: Iterable[str] | None = None, batch_size: int = 32) -> list[float]:
    """Return the log-probability of each text, end token included, in nats.

    Args:
        model: a `CausalLM`; or, with `targets`, a `Translator` or `Captioner`.
        texts: strings; of a translator, the sources; of a captioner, pictures as `Captioner.caption` takes them.
        targets: for each source the translation, for each picture the caption that is scored.
        batch_size: how many are read at once; it does not change an answer.

    Returns:
        N numbers; 0 for a picture that cannot be read.

    Raises:
        TypeError: the model gives no such probabilities.
        ValueError: not as many targets as sources or pictures, or targets for a language model.

    Example:
        >>> tokenizer = ka.train_tokenizer(["to be or not to be"], "characters")
        >>> model = ka.CausalLM.from_preset("char_rnn", tokenizer=tokenizer, units=8, embedding_dim=4)
        >>> score(model, ["to be"])[0] < 0
        True
    """
    if not hasattr(model, "searches") or model.template == "end_start":
        raise TypeError(
            f"A {type(model).__name__} gives no such probabilities; expected a CausalLM, Translator or Captioner."
        )
    given = list(texts) if "images" in model.input else check_texts(texts)
    targets = None if targets is None else check_texts(targets)
    if ("target_ids" in model.input) != (targets is not None) or (targets is not None and len(targets) != len(given)):
        raise ValueError(
            "A Translator or Captioner is scored on as many targets as texts or pictures, a language model on texts "
            "alone."
        )
    tokenizer = getattr(model, "target_tokenizer", None) or model.tokenizer
    special = special_ids(tokenizer)
    rows = encode_texts(tokenizer, given if targets is None else targets, model.config.max_length, after=(special.end,))
    scores = [0.0] * len(given)
    forward = Forward(model, lambda batch: score_tensors(model, batch["inputs"], batch["labels"], batch["mask"]))
    for batch in length_sorted_batches([len(row) for row in rows], batch_size):
        labels, mask = pad_ids([rows[i] for i in batch], special.pad, multiple=8)
        shifted = shift_right(labels, special.start)
        inputs, valid = _scored_inputs(model, [given[i] for i in batch], shifted, mask)
        found = forward({"inputs": inputs, "labels": labels, "mask": mask & valid[:, None]})["score"]
        for row, index in enumerate(batch):
            scores[index] = float(found[row])
    return scores


def _scored_inputs(model: Any, given: list, shifted: np.ndarray, mask: np.ndarray) -> tuple[dict, np.ndarray]:
    """Return the inputs of a model that is to score what `shifted` (B, T) begins, and which rows can be read."""
    valid = np.ones(len(given), bool)
    if "images" in model.input:
        images, valid = read_images(given, model.config.image_size)
        return {"images": images, "target_ids": shifted}, valid
    if "source_ids" not in model.input:
        return {"token_ids": shifted, "padding_mask": mask}, valid
    special = special_ids(model.source_tokenizer)
    rows = encode_texts(model.source_tokenizer, given, model.config.max_length, after=(special.end,))
    ids, seen = pad_ids(rows, special.pad, multiple=8)
    return {"source_ids": ids, "source_mask": seen, "target_ids": shifted}, valid


def _in_order(
    model: Any, texts: list[str], tensors: Callable[[Any, dict], dict], batch_size: int
) -> Iterator[tuple[list[int], dict[str, np.ndarray]]]:
    """Yield the ids of each text and what a function of tensors makes of them, in the order of the texts."""
    if "character_ids" in model.input:  # a tagger that spells its words
        words = model.encode_words([split_words(text) for text in texts])
        rows = [row.ids for row in words]
    else:
        words, rows = [], encode_texts(model.tokenizer, texts, model.config.max_length, *template_of(model))
    answers: list[Any] = [None] * len(texts)
    forward = Forward(model, lambda inputs: tensors(model, inputs))
    for batch in length_sorted_batches([len(row) for row in rows], batch_size):
        if words:
            found = forward(model.word_arrays([words[i] for i in batch]))
        else:
            nothing = int(not any(rows[i] for i in batch))  # is one column of padding
            ids, mask = pad_ids([rows[i] for i in batch], special_ids(model.tokenizer).pad, multiple=8, extra=nothing)
            found = forward(text_arrays(model.config, ids, mask))
        for row, index in enumerate(batch):
            answers[index] = rows[index], {name: value[row] for name, value in found.items()}
    yield from answers


def template_of(model: Any) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Return the ids around a text that is read, not written: a decoder begins it with the start token."""
    if isinstance(getattr(model, "decoder", None), Transformer):
        special = special_ids(model.tokenizer)
        return ((), ()) if special.start == special.end else ((special.start,), ())
    return apply_template(model.tokenizer, model.template)
