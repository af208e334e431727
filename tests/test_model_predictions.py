"""Models of `model_rows.py` return the same strings alone and in a batch, after saving, and from an export."""

import functools

import numpy as np
import pytest
from graph_export import InGraph
from model_rows import TRACED, WRITTEN
from shared_models import ROWS, each, loaded, model, randomized

import keras_attention as ka

__all__ = ["loaded", "model"]  # fixtures
pytestmark = pytest.mark.slow


def strings(outputs) -> list[tuple]:
    """Return the strings of outputs, without their numbers."""
    names = ("text", "label", "tags", "masked")
    return [tuple(getattr(output, name) for name in names if hasattr(output, name)) for output in outputs]


def predict(row, model, texts, **options) -> list[tuple]:
    return strings(getattr(model, row.predict_method)(texts, **options))


@functools.cache
def predictions(row, tokenizer) -> list[tuple]:
    """The predictions of the model of a row for all its texts in one batch."""
    return predict(row, randomized(row, tokenizer), row.texts, batch_size=3, **row.search_options)


# The search of the other rows runs the same code, and test_model_networks.py tests their steps.
@each(row for row in ROWS if row.export or not row.writes_text)
def test_predictions_are_the_same_in_any_batch(row, model, tokenizer):
    alone = [predict(row, model, [text], **row.search_options)[0] for text in row.texts]
    assert alone == predictions(row, tokenizer)


def num_tokens(output) -> int:
    return len(output.target_pieces if hasattr(output, "target_pieces") else output.pieces)


@each(row for row in ROWS if row.writes_text and row.export)
def test_a_text_is_the_same_after_others_have_left_the_batch(row, model, tokenizer):
    """Half of the sampled texts end in the first 16 steps, and then the others run in a smaller batch."""
    texts, most_tokens = row.texts[:2] * 4, tuple(range(17, tokenizer.vocabulary_size()))
    options = {"max_new_tokens": 29, "temperature": 9.0, "suppress_tokens": most_tokens}
    strategies = [ka.Sampling(seed=seed, **options) for seed in range(8)]
    predict = getattr(model, row.predict_method)
    together = predict(texts, strategies[0], batch_size=8)
    assert sorted(map(num_tokens, together))[3] < 16 < max(map(num_tokens, together))
    alone = [predict([text], strategy)[0] for text, strategy in zip(texts, strategies, strict=True)]
    assert strings(together) == strings(alone)
    np.testing.assert_allclose([x.score for x in together], [x.score for x in alone], rtol=1e-4)


@each(row for row in ROWS if row.export == TRACED)
def test_a_saved_model_and_its_graph_predict_the_same(row, model, tokenizer, loaded):
    assert loaded.config == model.config
    assert predict(row, InGraph(loaded, **row.search_options), row.texts) == predictions(row, tokenizer)


# Signatures of an export besides the one for predictions. The attention maps are optional.
SIGNATURES = {
    ka.Translator: {"score"},
    ka.CausalLM: {"score"},
    ka.MaskedLM: {"embed", "attention_maps"},
    ka.PermutationLM: {"embed"},
    ka.TextClassifier: {"pair", "embed"},
    ka.TextTagger: {"embed"},
}
TEXTS = ["we eat bread", "we"]
TARGETS = {ka.Translator: ["comemos pan", ""]}  # a language model scores the texts


def output_of_signature(served, signature, name):
    return served.loaded.signatures[signature](text=np.array(TEXTS))[name]


# Signature -> what a model and its export return for `TEXTS`, and for targets if the task has them.
COMPARED = {
    "score": (
        lambda model, targets: ka.score(model, TEXTS, targets),
        lambda served, targets: served.score(TEXTS, targets),
    ),
    "embed": (
        lambda model, targets: ka.embed(model, TEXTS),
        lambda served, targets: output_of_signature(served, "embed", "embedding"),
    ),
    "attention_maps": (
        lambda model, targets: ka.attention_maps(model, TEXTS)[0].attention,
        lambda served, targets: output_of_signature(served, "attention_maps", "attention")[0],
    ),
}


@each(row for row in ROWS if row.export == WRITTEN)
def test_a_saved_model_and_its_export_return_the_same(row, model, tokenizer, loaded, tmp_path, monkeypatch):
    """One test, because to write an export takes long."""
    signatures, targets = SIGNATURES[row.task], TARGETS.get(row.task)
    path = loaded.export(tmp_path / "m", attention_maps="attention_maps" in signatures, **row.search_options)
    served = ka.load(path)
    assert loaded.config == model.config
    assert ka.check_export(path).problems == ()
    assert set(served.loaded.signatures) == {"serving_default", *signatures}
    assert predict(row, served, row.texts) == predictions(row, tokenizer)
    monkeypatch.setattr(model, "run_eagerly", True)  # for one batch
    for in_python, in_export in map(COMPARED.get, sorted(signatures & COMPARED.keys())):
        np.testing.assert_allclose(in_export(served, targets), in_python(model, targets), rtol=1e-4, atol=1e-5)
