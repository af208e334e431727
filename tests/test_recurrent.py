"""Recurrent layers, against the recurrence written out in numpy and against Keras' own layers."""

import gc
import weakref

import keras
import numpy as np
import pytest

from keras_attention.layers import AdditiveAttention, CharacterEncoder, RecurrentDecoder, RecurrentEncoder, recurrent


def array(x):
    return keras.ops.convert_to_numpy(x)


def random(*shape, seed=0):
    return np.random.default_rng([seed, *shape]).normal(size=shape).astype("float32")


def elman(x, w_x, w_h, b):
    """h_t = tanh(W_hh h_{t-1} + W_xh x_t + b), the lecture's recurrence."""
    h, hidden = np.zeros(w_h.shape[0]), []
    for x_t in x:
        h = np.tanh(x_t @ w_x + h @ w_h + b)
        hidden.append(h)
    return np.array(hidden)


def test_simple_encoder_is_the_lectures_recurrence_both_ways():
    encoder, x = RecurrentEncoder(14, cell="simple"), random(2, 5, 3)
    mask = np.array([[True] * 5, [True] * 3 + [False] * 2])
    outputs, (state,) = encoder(x, mask=mask)
    forward, backward = (np.array(encoder.get_weights()[i : i + 3], object) for i in (0, 3))
    for row, length in ((0, 5), (1, 3)):
        there = elman(x[row, :length], *forward)
        back = elman(x[row, :length][::-1], *backward)[::-1]
        expected = np.concatenate([there, back], -1)
        np.testing.assert_allclose(array(outputs)[row, :length], expected, rtol=1e-5, atol=1e-5)
        assert np.abs(array(outputs)[row, length:]).max(initial=0) == 0
        np.testing.assert_allclose(array(state)[row], np.concatenate([there[-1], back[0]]), rtol=1e-5, atol=1e-5)


def test_what_keras_copied_lives_as_long_as_the_encoder(monkeypatch):
    """Keras knows a copied layer by its address, which a new one could else have while a model is loaded."""
    made = []

    def make(*arguments, **options):
        layer = keras.layers.LSTM(*arguments, **options)
        made.append(weakref.ref(layer))
        return layer

    monkeypatch.setitem(recurrent._LAYERS, "lstm", make)
    encoder = RecurrentEncoder(14, 2)
    gc.collect()
    assert [reference() is not None for reference in made] == [True] * encoder.num_layers


def test_a_word_is_spelled_from_both_ends_and_alone():
    spelling, ids = (
        CharacterEncoder(7, 3, units=10, cell="simple"),
        np.array([[[1, 5, 2, 0], [3, 0, 0, 0], [0, 0, 0, 0]]]),
    )
    lengths = (3, 1, 0)
    spelled = array(spelling(ids, mask=np.arange(4) < np.array(lengths)[:, None]))[0]
    table, *weights = (np.array(w) for w in spelling.get_weights())
    for word, length, vector in zip(ids[0], lengths, spelled, strict=True):
        letters = table[word[:length]]
        ends = [elman(x, *w)[-1] for x, w in ((letters, weights[:3]), (letters[::-1], weights[3:])) if length]
        np.testing.assert_allclose(vector, np.concatenate(ends) if ends else np.zeros(10), rtol=1e-5, atol=1e-5)


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def test_lstm_decoder_with_attention_and_input_feeding_by_hand():
    """Two steps of one layer, written out: gates, additive attention, tanh, feeding."""
    attention = AdditiveAttention(5)
    decoder = RecurrentDecoder(units=7, output_dim=3, attention=attention)
    x, memory, states = random(1, 2, 4), random(1, 6, 11), [random(1, 11, seed=1), random(1, 11, seed=2)]
    outputs, weights = decoder(x, states, memory=memory)
    kernel, recurrent, bias = (array(w) for w in decoder.cells[0].weights)
    w_q, u_k = (array(layer.kernel) for layer in (attention.query_projection, attention.key_projection))
    v = array(attention.vector)
    h, c = (np.tanh(s @ array(b.kernel) + array(b.bias)) for s, b in zip(states, decoder.bridge, strict=True))
    feed = np.zeros((1, 3))
    for t in range(2):
        gates = np.concatenate([x[:, t], feed], -1) @ kernel + h @ recurrent + bias
        i, f, g, o = np.split(gates, 4, -1)
        c = sigmoid(f) * c + sigmoid(i) * np.tanh(g)
        h = sigmoid(o) * np.tanh(c)
        scores = np.tanh(h @ w_q + memory[0] @ u_k) @ v
        alpha = np.exp(scores) / np.exp(scores).sum()
        joined = np.concatenate([h, alpha[None] @ memory[0]], -1)
        feed = np.tanh(joined @ array(decoder.output_projection.kernel) + array(decoder.output_projection.bias))
        np.testing.assert_allclose(array(weights)[0, t], alpha, rtol=1e-4, atol=1e-5)
        np.testing.assert_allclose(array(outputs)[:, t], feed, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(("cell", "layer"), [("gru", keras.layers.GRU), ("lstm", keras.layers.LSTM)])
def test_decoder_without_attention_is_keras_layer_and_a_projection(cell, layer):
    decoder, x = RecurrentDecoder(units=7, output_dim=3, cell=cell), random(2, 5, 11)
    outputs = decoder(x)
    theirs = layer(7, return_sequences=True)
    theirs.build((2, 5, 11))
    theirs.set_weights(decoder.cells[0].get_weights())
    expected = np.tanh(array(decoder.output_projection(theirs(x))))
    np.testing.assert_allclose(array(outputs), expected, rtol=1e-5, atol=1e-5)


def test_stacked_encoder_is_layer_upon_layer():
    encoder, x = RecurrentEncoder(7, num_layers=2, cell="gru", bidirectional=False), random(2, 5, 3)
    outputs, (state,) = encoder(x)
    hidden = x
    for layer in encoder.recurrent_layers:
        theirs = keras.layers.GRU(7, return_sequences=True)
        theirs.build(hidden.shape)
        theirs.set_weights(layer.get_weights())
        hidden = array(theirs(hidden))
    np.testing.assert_allclose(array(outputs), hidden, rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(array(state), hidden[:, -1], rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("attend_first", [True, False])
def test_cells_that_are_told_nothing_do_as_if_there_was_nothing_to_see(attend_first):
    sizes = {"units": 7, "output_dim": 5, "attention": AdditiveAttention(3), "attend_first": attend_first}
    chance = np.random.default_rng(3)
    inputs, memory = (chance.normal(size=(2, length, 11)).astype("float32") for length in (5, 13))
    decoder = RecurrentDecoder(**sizes, context_dropout=1 - 1e-6)
    outputs, weights = decoder(inputs, memory=memory, training=True)
    if attend_first:
        blind, expected = decoder(inputs, memory=memory, values=np.zeros_like(memory))
        np.testing.assert_allclose(np.asarray(weights), np.asarray(expected), atol=1e-6)
        assert np.abs(np.asarray(outputs) - np.asarray(blind)).max() > 1e-2  # the words are told
    else:  # nothing comes back from the step before
        alone = [decoder(inputs[:, :t], memory=memory, training=True)[1][:, -1] for t in range(1, 6)]
        np.testing.assert_allclose(np.asarray(weights), np.stack([np.asarray(a) for a in alone], 1), atol=1e-6)
    told, _ = decoder(inputs, memory=memory)
    assert np.abs(np.asarray(told) - np.asarray(outputs)).max() > 1e-3


def test_an_attention_without_memory_is_refused():
    with pytest.raises(ValueError, match="needs `memory`"):
        RecurrentDecoder(7, 3, attention=AdditiveAttention(5))(random(2, 5, 11))
