"""Export a model to `<directory>/<version>/`, atomically."""

from __future__ import annotations

import dataclasses
import json
import pathlib
from collections.abc import Sequence
from typing import Any

import keras

from keras_attention.argument_checks import require_positive_integer
from keras_attention.generation import Strategy
from keras_attention.prediction.introspection import has_maps
from keras_attention.storage import atomic_directory, local_path
from keras_attention.version import __version__

METADATA_FILE = "keras_attention.json"  # in assets.extra


def write_export(
    model: Any,
    directory: str | pathlib.Path,
    version: int,
    strategy: Strategy | None,
    examples: Sequence[str | bytes] | None,
    attention_maps: bool,
    precision: str,
) -> pathlib.Path:
    """Write a SavedModel that takes raw text or images and returns text, scores and attention.

    The signature `serving_default` computes the outputs of the prediction method:

    - `Translator`: text (B,), with sampling also seed (B,) -> text, score (B,), attention (B, T, S),
      source_pieces (B, S), target_pieces (B, T);
    - `Captioner`: image_bytes (B,), with sampling also seed (B,) -> caption, score, valid (B,), pieces (B, T),
      attention (B, T, rows, columns);
    - `CausalLM`, `PermutationLM`: text (B,), with sampling also seed (B,) -> text, score (B,), pieces (B, T);
    - `TextClassifier`: text (B,) -> label, score (B,), probabilities (B, classes), pieces and attention (B, S);
    - `TextTagger`: text (B,) -> words, tags, scores (B, I);
    - `MaskedLM`: text (B,) -> text, candidates and candidate_scores (B, G, 5) for up to G masks.

    Signatures that read texts also have the output `truncated` (B,), True for a text that lost tokens; a tagger reads a
    long text in windows.

    A classifier also has the signature `pair`: text, text_pair (B,) -> the same for pairs of texts.
    A language model, a translator and a captioner also have the signature `score`, and an encoder `embed`; see
    docs/serving.md. The graph contains image decoding, tokenization, search and detokenization; it needs neither XLA
    nor Python. The examples become a warm-up request. `assets.extra/keras_attention.json` describes the export.

    Args:
        directory: parent directory; the model is written to `<directory>/<version>/`.
        version: a positive integer; a server loads the highest one.
        strategy: the search strategy of the export; by default `Greedy()` or, for a language model, `Sampling()`.
        examples: texts or encoded images for the warm-up request; None for built-in ones, empty for no warm-up.
        attention_maps: add the signature `attention_maps`, the attention scores of every block and head; the model
            must have self-attention over one text.
        precision: the dtype of large weight matrices: `"float32"`, `"bfloat16"` or `"int8"` (x86 processors only). See
            docs/serving.md for speed and quality.

    Returns:
        the path `<directory>/<version>`.

    Raises:
        FileExistsError: the version exists.
        ValueError: the version is not a positive integer, the precision is unknown, or the model has no attention maps.
        RuntimeError: the backend of Keras is not TensorFlow, or this TensorFlow cannot multiply in int8.
        TypeError: `strategy` is passed for a task that does not search, or `examples` are not texts or encoded images.

    Example:
        >>> tokenizer = ka.data.train_tokenizer(["to be or not to be"], "characters")
        >>> model = ka.CausalLM.from_preset("char_rnn", tokenizer=tokenizer, units=8, embedding_dim=4)
        >>> model.export("serving/lm", strategy=ka.Greedy(max_new_tokens=3)).name
        '1'
    """
    if keras.backend.backend() != "tensorflow":
        raise RuntimeError(
            f"The backend of Keras is {keras.backend.backend()}; expected TensorFlow. Save the model with "
            "model.save('model.keras') and run: KERAS_BACKEND=tensorflow keras-attention export model.keras DIRECTORY"
        )
    if attention_maps and not has_maps(model):
        raise ValueError(
            f"This {type(model).__name__} has no self-attention over one text; expected `attention_maps=False`."
        )
    if strategy is not None and model.spec.default_strategy is None:
        raise TypeError(f"`strategy` is {strategy!r}, but a {type(model).__name__} does not search; leave it out.")
    require_positive_integer("version", version)
    if examples is not None:
        _check_examples(model, examples)
    directory = local_path(directory)
    target = directory / str(version)
    if target.exists():
        raise FileExistsError(
            f"{target} exists and is not overwritten. Pass another version, such as {_next(directory)}."
        )
    with atomic_directory(target) as partial:
        _write(model, partial, strategy, examples, attention_maps, precision)
    return target


def _check_examples(model: Any, examples: Sequence[str | bytes]) -> None:
    """Raise TypeError for other examples: a server does not load a version with a warm-up request that fails."""
    images = "images" in model.input
    if isinstance(examples, str | bytes) or not all(isinstance(e, bytes if images else str | bytes) for e in examples):
        expected = "encoded images, each bytes" if images else "texts"
        raise TypeError(f"`examples` is {examples!r:.80}; expected a list of {expected}.")


def _next(directory: pathlib.Path) -> int:
    return 1 + max((int(path.name) for path in directory.iterdir() if path.name.isdigit()), default=0)


def _write(
    model: Any,
    path: pathlib.Path,
    strategy: Strategy | None,
    examples: Sequence[str | bytes] | None,
    attention_maps: bool,
    precision: str,
) -> None:
    import tensorflow as tf

    from keras_attention.serving.signatures import graph_task
    from keras_attention.serving.warmup import write_warmup

    task = graph_task(model, strategy)
    module = task.module(attention_maps, precision)
    tf.saved_model.save(module, str(path), signatures=module.functions)
    (path / "assets.extra").mkdir()
    metadata = describe(model, task.strategy, precision)
    (path / "assets.extra" / METADATA_FILE).write_text(
        json.dumps(metadata, indent=2, ensure_ascii=False) + "\n", "utf-8"
    )
    examples = task.examples() if examples is None else examples
    if not len(examples):
        return
    text, *seed = task.input_specs
    inputs = {text.name: tf.constant(list(examples))}
    write_warmup(path, inputs | ({"seed": tf.range(len(examples))} if seed else {}))


def describe(model: Any, strategy: Strategy | None, precision: str = "float32") -> dict[str, Any]:
    """Return the description of an export for clients.

    Args:
        model: the model that is exported.
        strategy: the search strategy; None for a task without search.
        precision: the precision of the large matrices.

    Returns:
        dict of `format` (1), `library`, `version`, `task`, `predict_method`, `max_length` and `precision`; `strategy`,
        its name and options; `labels` of a classifier or tagger; `mask_token` of a masked language model; `image_size`
        of a captioner.
    """
    metadata = {
        "format": 1,
        "library": "keras_attention",
        "version": __version__,
        "task": model.spec.class_name,
        "predict_method": model.spec.predict_method,
        "max_length": model.config.max_length,
        "precision": precision,
    }
    if strategy is not None:
        metadata["strategy"] = {"name": type(strategy).__name__, **dataclasses.asdict(strategy)}
    return metadata | {name: getattr(model, name) for name in model.spec.exported_attributes}
