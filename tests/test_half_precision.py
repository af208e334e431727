"""Models, runs and exports in half precision."""

import keras
import numpy as np
import pytest
from dtype_policies import dtype_policy
from model_rows import MODELS
from small_runs import run, small_model

import keras_attention as ka


def test_logits_of_a_mixed_policy_are_computed_in_half_precision():
    with dtype_policy("mixed_bfloat16"):
        sizes = {"width": 14, "num_layers": 1, "num_heads": 2, "intermediate_dim": 5, "vocabulary_size": 11}
        embedding = ka.CausalLM.from_preset("gpt2_small", **sizes).embedding
    logits = embedding(keras.ops.ones((2, 3, 14)), reverse=True)
    assert keras.backend.standardize_dtype(logits.dtype) == "bfloat16"


@pytest.mark.slow
def test_mixed_precision_computes_in_bfloat16_with_float32_weights(tokenizer, tmp_path):
    with dtype_policy("mixed_bfloat16"):
        model = small_model(tokenizer)
        history = run(model, tmp_path)
    assert model.decoder.compute_dtype == "bfloat16"
    assert all(str(w.dtype) == "float32" for w in model.trainable_weights)
    assert history["loss"][-1] < history["loss"][0]


@pytest.mark.slow
@pytest.mark.usefixtures("untraced")
def test_a_run_in_bfloat16_is_resumed(tokenizer, tmp_path):
    with dtype_policy("bfloat16"):
        model, again = (
            ka.CausalLM.from_preset(
                "gpt2_small", tokenizer=tokenizer, width=14, num_heads=7, num_layers=1, intermediate_dim=11
            )
            for _ in range(2)
        )
        run(model, tmp_path, epochs=2, average_checkpoints=2)
        before = [np.array(w, "float32") for w in model.weights]
        run(again, tmp_path, epochs=3, average_checkpoints=2)
    assert {str(w.dtype) for w in again.trainable_weights} == {"bfloat16"}
    assert any(not np.array_equal(a, np.array(b, "float32")) for a, b in zip(before, again.weights, strict=True))


@pytest.mark.slow
@pytest.mark.skipif(keras.backend.backend() != "tensorflow", reason="an export needs TensorFlow")
def test_models_in_half_precision_can_be_exported(tokenizer, tmp_path):
    from graph_export import InGraph

    texts = ["we eat bread", "", "zzz ж unseen 東京", "they drink water " * 11]
    keras.utils.set_random_seed(11)  # a text with two equally good tokens could differ
    rows = {row.name: row for row in MODELS}
    short = {"strategy": ka.BeamSearch(max_new_tokens=7)}
    with dtype_policy("mixed_bfloat16"):
        for name, scores, search in (("attention", "score", short), ("tagger with characters", "scores", {})):
            model = rows[name].make(tokenizer)
            model.run_eagerly = True  # takes less time than to trace the search
            in_python = getattr(model, model.spec.predict_method)(texts, **search)
            in_graph = getattr(InGraph(model, **search), model.spec.predict_method)(texts)
            for one, two in zip(in_python, in_graph, strict=True):  # a value of bfloat16 has 8 bits
                np.testing.assert_allclose(getattr(one, scores), getattr(two, scores), rtol=0.02)
        assert ka.check_export(rows["classifier"].make(tokenizer).export(tmp_path)).problems == ()
