"""Recurrent layers, against the recurrence in NumPy and against the layers of Keras."""

import functools
import gc
import weakref

import keras
import numpy as np
import pytest
from backends import array, random, sigmoid

from keras_attention.layers import (
    AdditiveAttention,
    CharacterEncoder,
    DotProductAttention,
    RecurrentDecoder,
    RecurrentEncoder,
)


def elman(x, w_x, w_h, b):
    """h_t = tanh(W_hh h_{t-1} + W_xh x_t + b): the recurrence of Elman, 1990."""
    h, hidden = np.zeros(w_h.shape[0]), []
    for x_t in x:
        h = np.tanh(x_t @ w_x + h @ w_h + b)
        hidden.append(h)
    return np.array(hidden)


def test_simple_encoder_is_the_elman_recurrence_in_both_directions():
    encoder, x = RecurrentEncoder(14, cell="simple", return_state=True), random(2, 5, 3)
    mask = np.array([[True] * 5, [True] * 3 + [False] * 2])
    outputs, state = encoder(x, mask=mask)
    forward, backward = (np.array(encoder.get_weights()[i : i + 3], object) for i in (0, 3))
    for row, length in ((0, 5), (1, 3)):
        forward_states = elman(x[row, :length], *forward)
        backward_states = elman(x[row, :length][::-1], *backward)[::-1]
        expected = np.concatenate([forward_states, backward_states], -1)
        np.testing.assert_allclose(array(outputs)[row, :length], expected, rtol=1e-5, atol=1e-5)
        assert np.abs(array(outputs)[row, length:]).max(initial=0) == 0
        np.testing.assert_allclose(
            array(state)[row], np.concatenate([forward_states[-1], backward_states[0]]), rtol=1e-5, atol=1e-5
        )


def test_the_layer_that_keras_copies_is_not_deleted_before_the_encoder(monkeypatch):
    """Keras identifies a copied layer by its address, which a new layer could get while a model is loaded."""
    layers = []

    lstm = keras.layers.LSTM

    def make(*arguments, **options):
        layer = lstm(*arguments, **options)
        layers.append(weakref.ref(layer))
        return layer

    monkeypatch.setattr(keras.layers, "LSTM", make)
    encoder = RecurrentEncoder(14, 2)
    gc.collect(2)
    assert [reference() is not None for reference in layers] == [True] * encoder.num_layers


def test_a_words_vector_joins_the_final_states_of_its_characters_in_both_directions():
    encoder = CharacterEncoder(7, 3, units=10, cell="simple")
    ids, lengths = np.array([[[1, 2, 3, 0], [4, 0, 0, 0], [5, 6, 5, 6]]]), (3, 1, 0)
    vectors = array(encoder(ids, mask=np.arange(4) < np.array(lengths)[:, None]))[0]
    table, *weights = (np.array(w) for w in encoder.get_weights())
    for word, length, vector in zip(ids[0], lengths, vectors, strict=True):
        characters = table[word[:length]]
        both = ((characters, weights[:3]), (characters[::-1], weights[3:]))
        ends = [elman(x, *w)[-1] for x, w in both if length]
        np.testing.assert_allclose(vector, np.concatenate(ends) if ends else np.zeros(10), rtol=1e-5, atol=1e-5)


def test_lstm_decoder_with_attention_and_input_feeding_by_hand():
    """Two steps of one layer in NumPy: gates, additive attention, output, input feeding."""
    attention = AdditiveAttention(5)
    decoder = RecurrentDecoder(units=7, output_dim=3, attention=attention)
    x, memory, states = random(1, 2, 4), random(1, 6, 11), [random(1, 11, seed=1), random(1, 11, seed=2)]
    outputs, scores = decoder(x, memory, initial_state=states, return_attention_scores=True)
    kernel, recurrent, bias = (array(w) for w in decoder.cells[0].weights)
    w_q, u_k = (array(layer.kernel) for layer in (attention.query_projection, attention.key_projection))
    v = array(attention.vector)
    h, c = (
        np.tanh(s @ array(b.kernel) + array(b.bias)) for s, b in zip(states, decoder.state_projections, strict=True)
    )
    feed = np.zeros((1, 3))
    for t in range(2):
        gates = np.concatenate([x[:, t], feed], -1) @ kernel + h @ recurrent + bias
        i, f, g, o = np.split(gates, 4, -1)
        c = sigmoid(f) * c + sigmoid(i) * np.tanh(g)
        h = sigmoid(o) * np.tanh(c)
        logits = np.tanh(h @ w_q + memory[0] @ u_k) @ v
        alpha = np.exp(logits) / np.exp(logits).sum()
        joined = np.concatenate([h, alpha[None] @ memory[0]], -1)
        feed = np.tanh(joined @ array(decoder.output_projection.kernel) + array(decoder.output_projection.bias))
        np.testing.assert_allclose(array(scores)[0, t], alpha, rtol=1e-4, atol=1e-5)
        np.testing.assert_allclose(array(outputs)[:, t], feed, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("attend_first", [True, False])
def test_an_attention_that_replaces_another_one_is_used(attend_first):
    sizes, inputs = {"units": 7, "output_dim": 3, "attend_first": attend_first}, (random(2, 5, 11), random(2, 6, 13))
    decoder = RecurrentDecoder(**sizes, attention=AdditiveAttention(5))
    decoder.attention = DotProductAttention(17, name="attention")
    expected = RecurrentDecoder(**sizes, attention=DotProductAttention(17, name="attention"))
    outputs, _ = decoder(*inputs), expected(*inputs)
    weights = {weight.path.partition("/")[2]: weight for weight in decoder.weights}
    for weight in expected.weights:
        weight.assign(weights.pop(weight.path.partition("/")[2]))
    assert not weights
    np.testing.assert_allclose(array(outputs), array(expected(*inputs)), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(("cell", "layer"), [("gru", keras.layers.GRU), ("lstm", keras.layers.LSTM)])
def test_decoder_without_attention_equals_a_keras_layer_and_a_projection(cell, layer):
    decoder, x = RecurrentDecoder(units=7, output_dim=3, cell=cell), random(2, 5, 11)
    outputs = decoder(x)
    keras_layer = layer(7, return_sequences=True)
    keras_layer.build((2, 5, 11))
    keras_layer.set_weights(decoder.cells[0].get_weights())
    expected = np.tanh(array(decoder.output_projection(keras_layer(x))))
    np.testing.assert_allclose(array(outputs), expected, rtol=1e-5, atol=1e-5)


MASK = np.array([[True] * 5, [True, False, True, False, False]])


@pytest.mark.parametrize(("mask", "real"), [(None, 1.0), (MASK, MASK[..., None])], ids=["all", "masked"])
def test_the_gradient_of_an_lstm_decoder_equals_that_of_a_keras_layer(mask, real):
    """In training, the decoder has a gradient of its own; Keras differentiates its layer automatically."""
    tf = pytest.importorskip("tensorflow")
    decoder, x, states = RecurrentDecoder(units=7, output_dim=3), random(2, 5, 11), [random(2, 13)] * 2
    decoder(x, mask=mask, initial_state=states)
    layer = keras.layers.LSTM(7, return_sequences=True, zero_output_for_mask=True)
    layer.build((2, 5, 11))
    layer.set_weights(decoder.cells[0].get_weights())
    inputs, upstream = tf.constant(x), random(2, 5, 3, seed=1)

    def gradients(compute, weights):
        with tf.GradientTape() as tape:
            tape.watch(inputs)
            total = keras.ops.sum(compute() * upstream)
        variables = [*(layer.kernel.value for layer in decoder.state_projections), *(w.value for w in weights)]
        return [array(g) for g in tape.gradient(total, [inputs, *variables])]

    def expected():
        first = [project(state) for project, state in zip(decoder.state_projections, states, strict=True)]
        return keras.ops.tanh(decoder.output_projection(layer(inputs, initial_state=first, mask=mask))) * real

    computed = gradients(
        lambda: decoder(inputs, mask=mask, initial_state=states, training=True), decoder.cells[0].weights
    )
    for ours, theirs in zip(computed, gradients(expected, layer.weights), strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=1e-5)


def test_an_lstm_decoder_has_no_outputs_and_no_gradient_for_0_steps():
    tf = pytest.importorskip("tensorflow")
    decoder = RecurrentDecoder(units=7, output_dim=3)
    decoder(random(2, 5, 11))
    with tf.GradientTape() as tape:
        outputs = decoder(random(2, 0, 11), training=True)
    kernels = [cell.recurrent_kernel.value for cell in decoder.cells]
    assert outputs.shape == (2, 0, 3)
    assert [array(g).any() for g in tape.gradient(outputs, kernels)] == [False]


MEMORY = {"memory": random(2, 4, 13)}


@pytest.mark.parametrize(
    ("attention", "memory", "use_mask"),
    [
        (None, {}, lambda mask: None),
        (None, {}, lambda mask: mask),
        (AdditiveAttention(5), MEMORY, lambda mask: mask),
    ],
)
def test_a_graph_of_unknown_sizes_accepts_0_steps(attention, memory, use_mask):
    tf = pytest.importorskip("tensorflow")
    decoder = RecurrentDecoder(units=7, output_dim=3, attention=attention)
    decoder(random(2, 5, 11), **memory)
    kernel = decoder.cells[0].recurrent_kernel

    @tf.function(autograph=False)
    def outputs_and_gradient(x, mask):
        with tf.GradientTape() as tape:
            outputs = decoder(x, mask=use_mask(mask), training=True, **memory)
            total = tf.reduce_sum(outputs)
        return outputs, tape.gradient(total, kernel.value)

    compute = outputs_and_gradient.get_concrete_function(
        tf.TensorSpec([None, None, 11]), tf.TensorSpec([None, None], "bool")
    )
    for steps in (0, 5):
        outputs, gradient = compute(tf.constant(random(2, steps, 11)), tf.ones([2, steps], "bool"))
        assert outputs.shape == (2, steps, 3)
        assert array(gradient).any() == (steps > 0)
        whole = decoder(random(2, steps, 11), **memory) if steps else outputs
        np.testing.assert_allclose(array(outputs), array(whole), atol=1e-5)


def test_stacked_encoder_equals_one_layer_after_another():
    encoder, x = RecurrentEncoder(7, 2, "gru", bidirectional=False, return_state=True), random(2, 5, 3)
    outputs, state = encoder(x)
    hidden = x
    for layer in encoder.recurrent_layers:
        keras_layer = keras.layers.GRU(7, return_sequences=True)
        keras_layer.build(hidden.shape)
        keras_layer.set_weights(layer.get_weights())
        hidden = array(keras_layer(hidden))
    np.testing.assert_allclose(array(outputs), hidden, rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(array(state), hidden[:, -1], rtol=1e-5, atol=1e-5)


def without_context(attend_first):
    """Return a decoder that drops every context in training, as a function of its inputs, and inputs for it."""
    sizes = {"units": 7, "output_dim": 5, "attention": AdditiveAttention(3), "attend_first": attend_first}
    decoder, memory = RecurrentDecoder(**sizes, context_dropout=1 - 1e-6), random(2, 13, 11)
    return functools.partial(decoder, memory=memory, return_attention_scores=True), random(2, 5, 11)


def test_cells_without_context_equal_cells_with_an_empty_memory():
    """The input of the cells is zeros; the input of the output projection is the context."""
    decode, inputs = without_context(attend_first=True)
    outputs, scores = decode(inputs, training=True)
    empty, expected = decode(inputs, values=np.zeros((2, 13, 11), "float32"))
    np.testing.assert_allclose(array(scores), array(expected), atol=1e-6)
    assert np.abs(array(outputs) - array(empty)).max() > 1e-2
    assert np.abs(array(decode(inputs)[0]) - array(outputs)).max() > 1e-3


def test_cells_without_context_have_no_input_feeding():
    decode, inputs = without_context(attend_first=False)
    outputs, scores = decode(inputs, training=True)
    single = [decode(inputs[:, :t], training=True)[1][:, -1] for t in range(1, 6)]
    np.testing.assert_allclose(array(scores), np.stack([array(x) for x in single], 1), atol=1e-6)
    assert np.abs(array(decode(inputs)[0]) - array(outputs)).max() > 1e-3


def test_a_masked_step_does_not_change_the_states():
    """With padding on the left, the outputs of the real tokens do not change."""
    decoder = RecurrentDecoder(7, 5, 2, attention=AdditiveAttention(3))
    inputs, memory, mask = random(2, 5, 11), random(2, 13, 11), np.array([[False] * 2 + [True] * 3] * 2)
    outputs, scores = decoder(inputs, memory, mask=mask, return_attention_scores=True)
    expected, expected_scores = decoder(inputs[:, 2:], memory, return_attention_scores=True)
    np.testing.assert_allclose(array(outputs)[:, 2:], array(expected), rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(array(scores)[:, 2:], array(expected_scores), rtol=1e-5, atol=1e-6)
    assert not array(outputs)[:, :2].any()
    assert not array(scores)[:, :2].any()


def test_an_encoder_continues_from_its_final_states():
    """Encoding two parts of a sequence one after the other equals encoding the whole sequence."""
    encoder, x = RecurrentEncoder(7, cell="lstm", bidirectional=False, return_state=True), random(2, 5, 3)
    whole, *final = encoder(x)
    first, *states = encoder(x[:, :2])
    second, *last = encoder(x[:, 2:], initial_state=states)
    np.testing.assert_allclose(np.concatenate([array(first), array(second)], 1), array(whole), rtol=1e-5, atol=1e-6)
    for one, two in zip(last, final, strict=True):
        np.testing.assert_allclose(array(one), array(two), rtol=1e-5, atol=1e-6)


def test_an_encoder_with_an_initial_state_still_uses_the_implicit_mask():
    ids, state = np.array([[3, 1, 4, 0, 0], [1, 5, 9, 2, 6]]), np.full((2, 14), 0.5, "float32")
    embedded, encoder = keras.layers.Embedding(11, 6, mask_zero=True)(ids), RecurrentEncoder(14, cell="gru")
    explicit = array(encoder(array(embedded), initial_state=[state], mask=ids != 0))
    np.testing.assert_allclose(array(encoder(embedded, initial_state=[state])), explicit, rtol=1e-6, atol=1e-6)
    assert np.abs(explicit - array(encoder(embedded))).max() > 1e-3


def call_with_a_late_state(inputs):
    decoder = RecurrentDecoder(7, 3)
    decoder(inputs)
    return decoder(inputs, initial_state=[random(2, 7)] * 2)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (
            lambda x: RecurrentDecoder(7, 3, attention=AdditiveAttention(5))(x),
            "`memory` is None, .* create the layer with attention=None",
        ),
        (
            lambda x: RecurrentDecoder(7, 3)(x, return_attention_scores=True),
            "`return_attention_scores` was passed, .* no memory; expected False",
        ),
        (lambda x: RecurrentDecoder(7, 3)(x, x), "`memory` was passed, .* create the layer with an `attention`"),
        (lambda x: RecurrentDecoder(7, 3)(x, memory_mask=np.ones((2, 5), bool)), "`memory_mask` .* no memory"),
        (lambda x: RecurrentDecoder(7, 3)(x, noise=x), "`noise` .* no memory; expected None. Omit it, or create"),
        (lambda x: RecurrentDecoder(7, 3).start(x, memory_mask=np.ones((2, 5), bool)), "`memory_mask` .* no memory"),
        (
            lambda x: RecurrentDecoder(7, 3, attend_first=True),
            "`attend_first` is True; expected False without an attention",
        ),
        (
            lambda x: RecurrentDecoder(7, 3, context_dropout=0.5),
            "`context_dropout` is 0.5; expected 0 without an attention",
        ),
        (
            lambda x: RecurrentDecoder(7, 3)(keras.Input(x.shape[1:]), values=keras.Input(x.shape[1:])),
            "`values` was passed, .* no memory",
        ),
        (call_with_a_late_state, "built without `initial_state`"),
        (lambda x: RecurrentDecoder(7, 3, cell="lstn"), "`cell` is 'lstn'; expected one of simple, gru, lstm"),
        (lambda x: RecurrentEncoder(7), "`units` is 7; expected an even number or an encoder of one direction"),
        (lambda x: RecurrentEncoder(6, cell="lstn"), "`cell` is 'lstn'; expected one of simple, gru, lstm"),
    ],
)
def test_invalid_arguments_are_errors(call, message):
    with pytest.raises(ValueError, match=message):
        call(random(2, 5, 11))
