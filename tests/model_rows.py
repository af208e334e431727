"""One row per model; the files `test_model_*.py` and `test_backends.py` run every check on every row."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np
from conftest import PAIRS

import keras_attention as ka

IMAGES = tuple(np.random.default_rng(i).integers(0, 256, (32, 32, 3)).astype("uint8") for i in range(3))
LABELS = ("first", "second", "third", "fourth", "fifth")
# Inputs of the tasks that do not take plain texts, and config fields that all rows of a task share.
_INPUTS = {ka.Captioner: IMAGES, ka.MaskedLM: ("we <mask> bread", "the <mask> drinks <mask> milk", "")}
_TASK_FIELDS = {
    ka.Captioner: {"image_encoder": "small_cnn", "image_size": 32, "max_length": 31},
    ka.TextClassifier: {"labels": LABELS},
    ka.TextTagger: {"labels": LABELS},
}


# How the export of a row is tested, if its functions are not those of another row.
WRITTEN = "written"  # a SavedModel is written and loaded
TRACED = "traced"  # only its functions are traced, because other rows of the task are written


@dataclasses.dataclass(frozen=True, eq=False, kw_only=True)
class ModelRow:
    """A task, its preset, and the config fields that make it small."""

    name: str
    task: type
    preset: str
    fields: dict[str, Any]
    reads_characters: bool = False  # the tagger has a character tokenizer
    is_unique: bool = True  # False if other rows run the same code: then slow
    export: str | None = None
    # On JAX test_backends.py compares the outputs of each unique row, so one row of each decoder and encoder is enough.
    runs_on_jax: bool = False  # shared_models.py has the row on JAX too
    searches_on_jax: bool = False  # test_backends.py compares its beam search

    @property
    def is_hard(self) -> bool:
        """Whether the attention samples one position."""
        return self.fields.get("attention") == "hard"

    @property
    def predict_method(self) -> str:
        return self.task.spec.predict_method

    @property
    def writes_text(self) -> bool:
        """Whether the task decodes token by token, with a search strategy."""
        return self.task.spec.default_strategy is not None

    @property
    def search_options(self) -> dict[str, Any]:
        """The options of the prediction method and of the export."""
        return {"strategy": ka.Greedy()} if self.writes_text else {}

    @property
    def texts(self) -> tuple:
        return _INPUTS.get(self.task, ("we eat bread", "the girl drinks cold milk", ""))

    def make(self, tokenizer: Any) -> Any:
        tokenizers = dict.fromkeys(self.task.spec.tokenizer_names, tokenizer) | {"character_tokenizer": None}
        if self.reads_characters:
            tokenizers["character_tokenizer"] = ka.data.train_tokenizer([text for text, _ in PAIRS], "characters")
        tokenizers = {name: tokenizers[name] for name in self.task.spec.tokenizer_names}
        return self.task.from_preset(self.preset, **tokenizers, **_TASK_FIELDS.get(self.task, {}), **self.fields)


_RECURRENT = {"units": 22, "embedding_dim": 17}  # 11 in each direction
_SMALL = {"width": 14, "num_heads": 7, "num_layers": 2, "intermediate_dim": 13}
_SINGLE = _SMALL | {"num_layers": 1}  # xlnet, the stacks of LAYERS, test_transformer.py and test_weights.py have two


# fmt: off
MODELS = [
    ModelRow(name="seq2seq", task=ka.Translator, preset="rnn_seq2seq", fields=_RECURRENT, export=TRACED),
    ModelRow(name="seq2seq, simple cells", task=ka.Translator, preset="rnn_seq2seq",
             fields=_RECURRENT | {"cell": "simple"}, is_unique=False),
    ModelRow(name="attention", task=ka.Translator, preset="rnn_attention", fields=_RECURRENT,
             runs_on_jax=True),
    ModelRow(name="attention, two gru layers", task=ka.Translator, preset="rnn_attention",
             fields=_RECURRENT | {"cell": "gru", "num_layers": 2}, is_unique=False),
    ModelRow(name="dot attention", task=ka.Translator, preset="rnn_attention",
             fields=_RECURRENT | {"attention": "dot", "attend_embeddings": False}, is_unique=False),
    ModelRow(name="scaled dot attention", task=ka.Translator, preset="rnn_attention",
             fields=_RECURRENT | {"attention": "scaled_dot"}, is_unique=False),
    ModelRow(name="language model", task=ka.CausalLM, preset="char_rnn",
             fields={"units": 19, "embedding_dim": 17, "max_length": 31}),
    ModelRow(name="transformer", task=ka.Translator, preset="transformer_tiny", fields=_SINGLE,
             runs_on_jax=True, searches_on_jax=True, export=WRITTEN),
    ModelRow(name="transformer, pre-norm, two vocabularies", task=ka.Translator, preset="transformer_base",
             fields=_SINGLE | {"norm_first": True, "shared_vocabulary": False, "output_bias": True}),
    ModelRow(name="gpt", task=ka.CausalLM, preset="gpt2_small", fields=_SINGLE | {"max_length": 31},
             searches_on_jax=True, export=WRITTEN),
    ModelRow(name="bert", task=ka.MaskedLM, preset="bert_base", fields=_SINGLE, export=WRITTEN),
    ModelRow(name="roberta", task=ka.MaskedLM, preset="roberta_base", fields=_SINGLE, is_unique=False),
    ModelRow(name="xlnet", task=ka.PermutationLM, preset="xlnet_base", fields=_SMALL | {"max_length": 31},
             runs_on_jax=True, searches_on_jax=True, export=WRITTEN),
    ModelRow(name="xlnet classifier", task=ka.TextClassifier, preset="xlnet_base", fields=_SINGLE),
    ModelRow(name="xlnet tagger", task=ka.TextTagger, preset="xlnet_base", fields=_SINGLE, is_unique=False),
    ModelRow(name="bert classifier", task=ka.TextClassifier, preset="bert_base", fields=_SINGLE, export=TRACED),
    ModelRow(name="roberta tagger", task=ka.TextTagger, preset="roberta_base", fields=_SINGLE, is_unique=False),
    ModelRow(name="classifier", task=ka.TextClassifier, preset="rnn_classifier", fields=_RECURRENT, export=WRITTEN),
    ModelRow(name="show and tell", task=ka.Captioner, preset="show_and_tell", fields=_RECURRENT, export=TRACED),
    ModelRow(name="show and tell, image as initial state", task=ka.Captioner, preset="show_and_tell",
             fields=_RECURRENT | {"image_injection": "init"}, is_unique=False),
    ModelRow(name="show, attend and tell", task=ka.Captioner, preset="show_attend_and_tell",
             fields=_RECURRENT, runs_on_jax=True, searches_on_jax=True),
    ModelRow(name="show, attend and tell, coordinates and smoothing", task=ka.Captioner, preset="show_attend_and_tell",
             fields=_RECURRENT | {"coordinate_features": True, "attention_smoothing": 1.5}),
    ModelRow(name="show, attend and tell, grounded", task=ka.Captioner, preset="show_attend_and_tell",
             fields=_RECURRENT | {"grounded_attention": True}, is_unique=False),
    ModelRow(name="show, attend and tell, hard", task=ka.Captioner, preset="show_attend_and_tell",
             fields=_RECURRENT | {"attention": "hard"}),
    ModelRow(name="transformer captioner", task=ka.Captioner, preset="transformer_captioner",
             fields=_SINGLE | {"output_bias": True}, export=TRACED, searches_on_jax=True),
    ModelRow(name="transformer captioner with encoder, pre-norm", task=ka.Captioner, preset="transformer_captioner",
             fields=_SINGLE | {"encoder_layers": 1, "norm_first": True}, is_unique=False),
    ModelRow(name="tagger", task=ka.TextTagger, preset="rnn_tagger", fields=_RECURRENT, is_unique=False),
    ModelRow(name="tagger with characters", task=ka.TextTagger, preset="rnn_tagger",
             fields=_RECURRENT, reads_characters=True, export=WRITTEN),
]
# fmt: on


def batch_for(model: Any) -> dict[str, np.ndarray]:
    """One batch of `PAIRS` and `IMAGES`, with padding: an array for each input of the network."""
    sources, targets = zip(*PAIRS[:3], strict=True)  # short: TensorFlow runs each step from Python
    if "character_ids" in model.input:
        return model.word_arrays(model.input_reader.ids([text.split() for text in sources]), multiple=1)
    ids, mask = _padded(sources, model)
    size = ids.shape[1]
    num_segments = 1 if "target_mapping" in model.input else max(model.config.num_segments, 1)
    arrays = {
        **{"token_ids": ids, "padding_mask": mask, "segment_ids": ids % num_segments},
        **{"source_ids": ids, "source_mask": mask, "target_ids": _padded(targets, model)[0]},
        "images": np.stack(IMAGES).astype("float32"),
        # From left to right: each token is predicted from the tokens before it.
        "permutation_mask": np.tril(np.ones((len(ids), size, size), bool), -1),
        "target_mapping": np.eye(size, k=1, dtype="float32")[None].repeat(len(ids), 0),
    }
    return {name: arrays[name] for name in model.input}


def _padded(texts: Sequence[str], model: Any) -> tuple[np.ndarray, np.ndarray]:
    """Ids and mask (B, S) of texts, with at least one column of padding."""
    tokenizer = next(iter(model.tokenizers.values()))
    ids = ka.data.tokenization.tokenizers.encode_texts(tokenizer, list(texts))
    padded = ka.data.batches.pad_ids(ids, ka.data.special_tokens_of(tokenizer).pad)
    return tuple(np.pad(array, ((0, 0), (0, 1))) for array in padded)


def randomize(model, scale: float = 0.5) -> None:
    rng = np.random.default_rng(11)
    drawn = [w + rng.normal(0, scale, w.shape).astype(w.dtype) for w in model.get_weights()]
    variances = ["moving_variance" in weight.path for weight in model.weights]
    model.set_weights([np.abs(w) if positive else w for w, positive in zip(drawn, variances, strict=True)])
