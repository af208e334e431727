"""The network of every model of `model_rows.py`: steps and whole sequences, padding, summaries, and saved weights."""

import keras
import numpy as np
import pytest
from backends import arrays, compiled
from model_rows import batch_for
from shared_models import ROWS, each, loaded, model, once, outputs_of_batch

from keras_attention import layers
from keras_attention.layers.decoding.cache import repeat_beams

__all__ = ["loaded", "model"]  # fixtures
decoders = each(row for row in ROWS if row.writes_text)


def start_inputs(inputs: dict) -> dict:
    """The inputs that a decoder needs before its first token."""
    return {k: v[:, :0] if k in ("token_ids", "padding_mask") else v for k, v in inputs.items() if k != "target_ids"}


@decoders
def test_step_by_step_decoding_equals_the_whole_sequence(row, model, tokenizer):
    inputs, whole = batch_for(model), outputs_of_batch(row, tokenizer)
    key = "target_ids" if "target_ids" in inputs else "token_ids"
    length, step, steps = inputs[key].shape[1], compiled(model.step), []
    state = compiled(lambda inputs: model.start(inputs, length))(start_inputs(inputs))
    for t in range(length):
        logits, state, _ = step(inputs[key][:, t : t + 1], state)
        steps.append(keras.ops.convert_to_numpy(logits))
    stepped = np.concatenate(steps, 1)
    real = inputs["padding_mask"] if key == "token_ids" else np.ones_like(inputs[key], bool)
    assert whole.shape == (*inputs[key].shape, tokenizer.vocabulary_size())
    np.testing.assert_allclose(stepped[real], whole[real], rtol=0, atol=1e-5 * np.abs(whole[real]).max())


@each(row for row in ROWS if row.predict_method == "translate")
def test_a_source_without_tokens_is_a_source_of_padding(model):
    first_logits = compiled(lambda source: model.step(np.array([[3], [5]]), model.start(source, 7))[0])
    empty, padding = (
        first_logits({"source_ids": np.ones((2, length), "int32"), "source_mask": np.zeros((2, length), bool)})
        for length in (0, 3)
    )
    np.testing.assert_allclose(*arrays([empty, padding]), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("hard", [False, True])
def test_a_memory_without_vectors_is_a_memory_of_padding(hard):
    decoder = layers.RecurrentDecoder(7, 5, attention=layers.AdditiveAttention(3, hard=hard), attend_first=True)
    inputs, memory = (np.random.default_rng(3).normal(size=(2, n, 11)).astype("float32") for n in (5, 13))
    padding = decoder(inputs, memory, memory_mask=np.zeros((2, 13), bool))
    empty, scores = decoder(inputs, memory[:, :0], return_attention_scores=True)
    assert scores.shape == (2, 5, 0)
    np.testing.assert_allclose(*map(keras.ops.convert_to_numpy, (empty, padding)), rtol=1e-5, atol=1e-6)


@once
@decoders
def test_a_step_changes_only_the_carry_and_accepts_a_beam_axis(model, tokenizer):
    inputs = batch_for(model)
    state = compiled(lambda inputs: model.start(inputs, 7))(start_inputs(inputs))
    state = repeat_beams(state, 5)
    logits, new, attention = compiled(model.step)(np.full((3, 5), 4), state)
    assert tuple(logits.shape) == (3, 5, tokenizer.vocabulary_size())
    assert all(tuple(x.shape[:2]) == (3, 5) for x in keras.tree.flatten(new["carry"]))
    for one, two in zip(arrays(state["constants"]), arrays(new["constants"]), strict=True):
        np.testing.assert_array_equal(one, two)
    for scores in arrays(attention):
        np.testing.assert_allclose(scores.sum(-1), 1.0, rtol=1e-5)


@once
@each(ROWS)
def test_outputs_do_not_depend_on_padding(row, model, tokenizer):
    inputs = batch_for(model)
    wider = {
        name: value if name == "images" else np.pad(value, [(0, 0)] + [(0, 3)] * (value.ndim - 1))
        for name, value in inputs.items()
    }
    before, after = arrays(outputs_of_batch(row, tokenizer))[0], arrays(model(wider))[0]
    real = after[tuple(map(slice, before.shape))]  # without the logits of the new padding
    np.testing.assert_allclose(before, real, rtol=1e-5, atol=1e-5)


@once
@each(row for row in ROWS if row.predict_method == "tag")
def test_the_tags_of_short_words_do_not_depend_on_the_batch(model):
    def logits(*texts):
        encoded = model.input_reader.ids([text.split() for text in texts])
        return keras.ops.convert_to_numpy(model(model.word_arrays(encoded, multiple=1)))[0, : len(encoded[0].ids)]

    for text in ("a", "eat", "we a"):
        expected = logits(text, "the girl drinks milk", "b")
        np.testing.assert_allclose(logits(text), expected, rtol=2e-5, atol=2e-5)


@each(ROWS)
def test_model_is_a_functional_keras_model(model, capsys):
    model.summary()
    assert f"Total params: {sum(w.size for w in model.get_weights()):,}" in capsys.readouterr().out
    assert all(layer.built for layer in model._flatten_layers())  # else Keras runs a model twice on JAX


@once
@each(ROWS)
def test_the_last_layer_of_a_model_is_the_output_of_a_functional_model(model):
    part, inputs = keras.Model(model.inputs, model.get_layer(index=-1).output), batch_for(model)
    assert {len(x) for x in arrays(part(inputs))} == {len(next(iter(inputs.values())))}


@pytest.mark.slow
@once
@each(row for row in ROWS if row.export is None)
def test_a_saved_model_returns_the_same(row, model, tokenizer, loaded):
    assert loaded.config == model.config
    for one, two in zip(arrays(outputs_of_batch(row, tokenizer)), arrays(loaded(batch_for(model))), strict=True):
        np.testing.assert_array_equal(one, two)
