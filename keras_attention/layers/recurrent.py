"""Recurrent encoders on Keras' layers: one over a sequence of vectors, one over the characters of words.

RecurrentEncoder:  inputs (B, S, E) --> outputs (B, S, M), and the top layer's final states (B, M)
CharacterEncoder:  character ids (B, S, P) --> one vector for each word (B, S, M)
"""

from __future__ import annotations

import keras
from keras import ops

from keras_attention.layers.base import BaseLayer
from keras_attention.layers.masks import implicit_mask

_LAYERS = {"simple": keras.layers.SimpleRNN, "gru": keras.layers.GRU, "lstm": keras.layers.LSTM}


def check_cell(cell: str) -> None:
    """Raise ValueError unless `cell` names a kind of recurrent cell."""
    if cell not in _LAYERS:
        raise ValueError(f"`cell` is {cell!r}; expected one of {', '.join(_LAYERS)}.")


def states_per_cell(cell: str) -> int:
    """Return the number of states of a cell: 2 (hidden and cell state) for `"lstm"`, else 1."""
    return 2 if cell == "lstm" else 1


@keras.saving.register_keras_serializable("keras_attention")
class RecurrentEncoder(BaseLayer):
    """Stacked recurrent layers over a padded sequence: h_t = cell(x_t, h_{t-1}) in each layer.

    A bidirectional layer runs the recurrence forwards and backwards, each of width M / 2, and concatenates the two.
    Padding neither enters the states nor changes a result.

    Args:
        units: M, the width of the outputs (both directions together).
        num_layers: the number of layers.
        cell: `"simple"` (h_t = tanh(W_hh h_{t-1} + W_xh x_t + b)), `"gru"` or `"lstm"`.
        bidirectional: read the sequence in both directions.
        dropout: probability of dropping a feature of the inputs, between layers, and of the outputs.
        return_state: also return the top layer's final states.

    Call arguments:
        inputs: (B, S, E).
        initial_state: the first states of every layer, a list with one (B, M) for each state of a cell; zeros when
            None.
        mask: (B, S) boolean, True = a real token; padding is on the right. The implicit mask of `inputs` when None.
        training: whether dropout is active.

    Output:
        outputs (B, S, M), zero at padding. With `return_state`, a tuple of the outputs and the final states, each
        (B, M): one for `"simple"` and `"gru"`, hidden and cell state for `"lstm"`.

    Raises:
        ValueError: an unknown cell, or an odd `units` for a bidirectional encoder.

    Example:
        >>> ids = keras.ops.array([[3, 1, 4, 0, 0], [1, 5, 9, 2, 6]])
        >>> layers = [keras.layers.Embedding(11, 7, mask_zero=True), RecurrentEncoder(6, cell="gru")]
        >>> tuple(keras.Sequential(layers)(ids).shape)
        (2, 5, 6)

    Reference: Elman, 1990; Cho et al., 2014, https://arxiv.org/abs/1406.1078 (GRU); Hochreiter and
    Schmidhuber, 1997 (LSTM); Schuster and Paliwal, 1997 (bidirectional).
    """

    def __init__(
        self,
        units: int,
        num_layers: int = 1,
        cell: str = "lstm",
        bidirectional: bool = True,
        dropout: float = 0.0,
        return_state: bool = False,
        **kwargs,
    ) -> None:
        super().__init__(**kwargs)
        check_cell(cell)
        if bidirectional and units % 2:
            raise ValueError(
                f"`units` is {units}; a bidirectional encoder needs an even number. Change it, or pass "
                "`bidirectional=False`."
            )
        self.units, self.num_layers, self.cell = units, num_layers, cell
        self.bidirectional, self.dropout, self.return_state = bidirectional, dropout, return_state
        self.supports_jit = keras.backend.backend() != "tensorflow"
        self.recurrent_layers = [self._make_layer(i) for i in range(num_layers)]
        self.dropout_layer = keras.layers.Dropout(dropout, dtype=self.dtype_policy)

    def _make_layer(self, index: int) -> keras.layers.Layer:
        width = self.units // 2 if self.bidirectional else self.units
        arguments = {"return_sequences": True, "return_state": True, "dtype": self.dtype_policy}
        if self.cell != "simple":
            arguments["use_cudnn"] = False  # a graph traced with CuDNN on a GPU does not serve on a CPU
        layer = _LAYERS[self.cell](width, **arguments, name=f"layer_{index}")
        if not self.bidirectional:
            return layer
        both = keras.layers.Bidirectional(layer, dtype=self.dtype_policy, name=f"layer_{index}")
        # Keras makes copies of `layer` and remembers the original by its address. If the original were freed, a layer
        # that is made later at the same address would be taken for it while a model is loaded. A closure keeps it
        # alive where Keras does not look for layers.
        both.copied = lambda: layer
        return both

    def build(self, inputs_shape) -> None:
        """Create the weights."""
        shape = tuple(inputs_shape)
        for layer in self.recurrent_layers:
            layer.build(shape)
            shape = (*shape[:-1], self.units)

    def call(self, inputs, initial_state=None, mask=None, training=False):
        """Compute the outputs; the class describes the arguments."""
        mask = implicit_mask(inputs) if mask is None else mask
        outputs, states = inputs, []
        first = self._split_directions(initial_state)
        for layer in self.recurrent_layers:
            outputs = self.dropout_layer(outputs, training=training)
            outputs, *states = layer(outputs, initial_state=first, mask=mask, training=training)
        outputs = self.dropout_layer(outputs, training=training)
        if mask is not None:
            outputs = ops.where(ops.expand_dims(mask, -1), outputs, ops.zeros_like(outputs))
        return (outputs, *self._join_directions(states)) if self.return_state else outputs

    def _split_directions(self, states) -> list | None:
        """Return the states of both directions, as a bidirectional layer of Keras takes them."""
        if states is None:
            return None
        states = keras.tree.flatten(states)
        if not self.bidirectional:
            return states
        halves = [ops.split(state, 2, axis=-1) for state in states]
        return [half[0] for half in halves] + [half[1] for half in halves]

    def _join_directions(self, states: list) -> list:
        if not self.bidirectional:
            return states
        half = len(states) // 2
        return [ops.concatenate(pair, -1) for pair in zip(states[:half], states[half:], strict=True)]

    def compute_output_shape(self, inputs_shape):
        """Return the shape of the outputs, and with `return_state` of each state."""
        outputs, state = (*inputs_shape[:-1], self.units), (inputs_shape[0], self.units)
        return (outputs, *[state] * states_per_cell(self.cell)) if self.return_state else outputs


@keras.saving.register_keras_serializable("keras_attention")
class CharacterEncoder(BaseLayer):
    """Encode each word from its characters, so that a word outside the vocabulary has a vector as well.

    A bidirectional recurrent layer reads the embedded characters c_1 ... c_P of a word. The word's vector joins the
    final states of both directions: [h_P; h'_1].

    Args:
        vocabulary_size: the number of characters.
        embedding_dim: width of the character embeddings.
        units: M, width of a word's vector (both directions together).
        cell: `"simple"`, `"gru"` or `"lstm"`.

    Call arguments:
        inputs: (B, S, P) int, the characters of each word.
        mask: (B, S, P) boolean, True = a real character; padding is on the right. The implicit mask of `inputs` when
            None, or all characters where there is none.

    Output:
        (B, S, M); zero for a word without characters.

    Raises:
        ValueError: an unknown cell, or an odd `units`.

    Example:
        >>> characters = keras.ops.array([[[3, 1, 4], [1, 5, 0]]])
        >>> encoder = CharacterEncoder(vocabulary_size=11, embedding_dim=3, units=6)
        >>> tuple(encoder(characters, mask=characters != 0).shape)
        (1, 2, 6)

    Reference: Ling et al., 2015, https://arxiv.org/abs/1508.02096; Lample et al., 2016,
    https://arxiv.org/abs/1603.01360, section 4.1.
    """

    def __init__(self, vocabulary_size: int, embedding_dim: int, units: int, cell: str = "lstm", **kwargs) -> None:
        super().__init__(**kwargs)
        self.vocabulary_size, self.embedding_dim, self.units, self.cell = vocabulary_size, embedding_dim, units, cell
        self.supports_jit = keras.backend.backend() != "tensorflow"
        self.embedding = keras.layers.Embedding(
            vocabulary_size, embedding_dim, dtype=self.dtype_policy, name="characters"
        )
        self.encoder = RecurrentEncoder(units, cell=cell, return_state=True, dtype=self.dtype_policy, name="encoder")

    def build(self, inputs_shape) -> None:
        """Create the weights."""
        self.embedding.build(inputs_shape)
        self.encoder.build((None, None, self.embedding_dim))

    def call(self, inputs, mask=None):
        """Compute the words' vectors; the class describes the arguments."""
        shape = ops.shape(inputs)
        embedded = self.embedding(ops.reshape(inputs, (-1, shape[2])))
        words_mask = None if mask is None else ops.reshape(mask, (-1, shape[2]))
        _, state, *_ = self.encoder(embedded, mask=words_mask)
        outputs = ops.reshape(state, (-1, shape[1], self.units))
        if mask is None:
            return outputs
        return ops.where(ops.any(mask, axis=-1, keepdims=True), outputs, ops.zeros_like(outputs))

    def compute_mask(self, inputs, mask=None):
        """Return (B, S): True for a word with characters; None without a mask of the characters."""
        return None if mask is None else ops.any(mask, axis=-1)

    def compute_output_shape(self, inputs_shape):
        """Return the shape of the words' vectors."""
        return (*inputs_shape[:2], self.units)
