"""Checkpoints as the authors of BERT, GPT-2 and XLNet published them, for TensorFlow."""

from __future__ import annotations

import pathlib
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from keras_attention import models
from keras_attention.weights.bert import ORIGINAL_BERT
from keras_attention.weights.convert import Family
from keras_attention.weights.files import CheckpointArrays, existing_directory, read_json
from keras_attention.weights.gpt2 import ORIGINAL_GPT2
from keras_attention.weights.huggingface import make_model
from keras_attention.weights.tokenizers import byte_pair_from_files, word_piece_from_files
from keras_attention.weights.xlnet import original_xlnet, read_piece_model


class _Layout(NamedTuple):
    """One kind of directory: the file of its sizes, the tables for these, and how to read its tokenizer."""

    sizes: str
    checkpoint: str
    family: Callable[[Mapping[str, Any]], Family]
    task: str
    tokenizer: Callable[[pathlib.Path], Any]


_LAYOUTS = (
    _Layout("bert_config.json", "bert_model.ckpt", lambda sizes: ORIGINAL_BERT, "MaskedLM", word_piece_from_files),
    _Layout("hparams.json", "model.ckpt", lambda sizes: ORIGINAL_GPT2, "CausalLM", byte_pair_from_files),
    _Layout("xlnet_config.json", "xlnet_model.ckpt", original_xlnet, "PermutationLM", read_piece_model),
)


def from_tensorflow(directory: str | pathlib.Path, task: str | None = None, **parts: Any) -> models.Task:
    """Make a model of ours from a checkpoint of the first BERT, GPT-2 or XLNet; needs TensorFlow.

    Args:
        directory: holds `bert_config.json` and `bert_model.ckpt.*`, or `hparams.json` and `model.ckpt.*`, or
            `xlnet_config.json` and `xlnet_model.ckpt.*`, and the tokenizer's files.
        task: by default `"MaskedLM"`, `"CausalLM"` or `"PermutationLM"`; another one keeps the encoder and begins
            with a new head.
        **parts: as for `from_huggingface`.

    Returns:
        a `MaskedLM` (with `next_sentence`), a `CausalLM`, a `PermutationLM`, or what `task` names.

    Raises:
        ValueError: it is no such directory, or something of it has no place here.

    Example:
        >>> model = ka.weights.from_tensorflow("uncased_L-12_H-768_A-12")  # doctest: +SKIP
    """
    path = existing_directory(directory)
    layout = next((layout for layout in _LAYOUTS if (path / layout.sizes).exists()), None)
    if layout is None:
        expected = " or ".join(f"{layout.sizes} with {layout.checkpoint}.*" for layout in _LAYOUTS)
        raise ValueError(f"{str(path)!r} is no original checkpoint; expected {expected}.")
    if not (path / f"{layout.checkpoint}.index").exists():
        found = sorted(file.name.removesuffix(".index") for file in path.glob("*.ckpt*.index"))
        if len(found) != 1:
            raise ValueError(f"{str(path)!r} has {len(found)} checkpoints; expected one, {layout.checkpoint}.*.")
        layout = layout._replace(checkpoint=found[0])
    if not any("tokenizer" in name for name in parts):
        parts["tokenizer"] = layout.tokenizer(path)
    arrays = CheckpointArrays(path / layout.checkpoint)
    sizes = read_json(path / layout.sizes)
    return make_model(layout.family(sizes), sizes, arrays, layout.task, task, parts)
