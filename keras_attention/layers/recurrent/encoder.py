"""Recurrent encoders, built from the recurrent layers of Keras: for a sequence of vectors, and for characters of words.

RecurrentEncoder:  inputs (B, S, E) --> outputs (B, S, M), and the top layer's final states (B, M)
CharacterEncoder:  character ids (B, I, characters) --> one vector for each word (B, I, M)
"""

from __future__ import annotations

import keras
from keras import ops

from keras_attention.argument_checks import require_cell, require_even, require_positive_integers
from keras_attention.layers.base import BaseLayer, WordEncoder
from keras_attention.layers.dropout import Dropout
from keras_attention.layers.masks import implicit_mask, zero_padding
from keras_attention.layers.recurrent.cells import SUPPORTS_JIT, layer_class, states_per_cell


@keras.saving.register_keras_serializable("keras_attention")
class RecurrentEncoder(BaseLayer):
    """Stacked recurrent layers over a padded sequence: h_t = cell(x_t, h_{t-1}) in each layer.

    A bidirectional layer runs forwards and backwards, each with width M / 2: output_t = [h_t forwards; h_t backwards].
    Padding changes neither the states nor the outputs.

    Args:
        units: M, the width of the outputs (both directions together).
        num_layers: the number of layers.
        cell: `"simple"` (h_t = tanh(W_hh h_{t-1} + W_xh x_t + b)), `"gru"` or `"lstm"`.
        bidirectional: read the sequence in both directions.
        dropout: probability of dropping a feature of the inputs, of the outputs, and between layers.
        return_state: also return the top layer's final states.

    Call arguments:
        inputs: (B, S, E).
        initial_state: list of the initial states (B, M), one for each state of a cell; every layer starts with them.
            Zeros when None.
        mask: (B, S) padding mask, True = a real token; the implicit mask of `inputs` when None. The padding is on the
            right.
        training: whether dropout is active.

    Output:
        outputs (B, S, M), zero at padding. With `return_state`, a tuple of the outputs and the final states (B, M): one
        state for `"simple"` and `"gru"`, hidden and cell state for `"lstm"`.

    Raises:
        ValueError: a number is not a positive integer, the cell is unknown, or the encoder is bidirectional and `units`
            is odd.

    Example:
        >>> ids = keras.ops.array([[3, 1, 4, 0, 0], [1, 5, 9, 2, 6]])
        >>> layers = [keras.layers.Embedding(11, 7, mask_zero=True), RecurrentEncoder(6, cell="gru")]
        >>> tuple(keras.Sequential(layers)(ids).shape)
        (2, 5, 6)

    Reference: Elman, 1990; Cho et al., 2014, https://arxiv.org/abs/1406.1078 (GRU); Hochreiter and
    Schmidhuber, 1997 (LSTM); Schuster and Paliwal, 1997 (bidirectional).
    """

    blocks = ()  # a recurrent encoder has no Transformer blocks to convert or to recompute

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
        require_positive_integers(units=units, num_layers=num_layers)
        require_cell(cell)
        if bidirectional:
            require_even("units", units, " or an encoder of one direction")
        self.units, self.num_layers, self.cell = units, num_layers, cell
        self.bidirectional, self.dropout, self.return_state = bidirectional, dropout, return_state
        self.supports_jit = SUPPORTS_JIT
        self.recurrent_layers = [self._make_layer(i) for i in range(num_layers)]
        self.dropout_layer = Dropout(dropout, dtype=self.dtype_policy)

    def _make_layer(self, index: int) -> keras.layers.Layer:
        width = self.units // 2 if self.bidirectional else self.units
        arguments = {"return_sequences": True, "return_state": True, "dtype": self.dtype_policy}
        if self.cell != "simple":
            arguments["use_cudnn"] = False  # a graph that was traced with cuDNN on a GPU does not run on a CPU
        layer = layer_class(self.cell)(width, **arguments, name=f"layer_{index}")
        if not self.bidirectional:
            return layer
        both = keras.layers.Bidirectional(layer, dtype=self.dtype_policy, name=f"layer_{index}")
        # Keras copies `layer` and identifies the original by its `id`. If Python freed the original, a later layer
        # could get the same `id`, and Keras would confuse them when it loads a model. The closure keeps the original
        # alive; Keras would track a plain attribute as a sub-layer.
        both.copied = lambda: layer
        return both

    def build(self, inputs_shape) -> None:
        """Create the weights."""
        shape = tuple(inputs_shape)
        for layer in self.recurrent_layers:
            layer.build(shape)
            shape = (*shape[:-1], self.units)

    def call(self, inputs, initial_state=None, mask=None, training=False):
        """Compute the outputs; see the class docstring."""
        mask = implicit_mask(inputs) if mask is None else mask
        is_empty = inputs.shape[1] == 0
        if is_empty:  # the layers of Keras need a step; a masked one does not change the states
            inputs = ops.pad(inputs, ((0, 0), (0, 1), (0, 0)))
            mask = ops.zeros(ops.shape(inputs)[:2], "bool")
        outputs, states = inputs, []  # (B, S, E), and then (B, S, M)
        initial_state = self._split_directions(initial_state)
        for layer in self.recurrent_layers:
            outputs = self.dropout_layer(outputs, training=training)
            outputs, *states = layer(outputs, initial_state=initial_state, mask=mask, training=training)
        outputs = zero_padding(self.dropout_layer(outputs, training=training), mask)
        outputs = outputs[:, :0] if is_empty else outputs
        return (outputs, *self._join_directions(states)) if self.return_state else outputs

    def _split_directions(self, states) -> list | None:
        """Return the forward states, then the backward states, as `keras.layers.Bidirectional` expects them."""
        if states is None:
            return None
        states = keras.tree.flatten(states)
        if not self.bidirectional:
            return states
        halves = [ops.split(state, 2, axis=-1) for state in states]
        return [half[0] for half in halves] + [half[1] for half in halves]

    def _join_directions(self, states: list) -> list:
        """Return the final states (B, M) from the forward states and the backward states, (B, M / 2) each."""
        if not self.bidirectional:
            return states
        half = len(states) // 2
        return [ops.concatenate(pair, -1) for pair in zip(states[:half], states[half:], strict=True)]

    def compute_output_shape(self, inputs_shape):
        """Return the shape of the outputs and, with `return_state`, of each state."""
        outputs, state = (*inputs_shape[:-1], self.units), (inputs_shape[0], self.units)
        return (outputs, *[state] * states_per_cell(self.cell)) if self.return_state else outputs


@keras.saving.register_keras_serializable("keras_attention")
class CharacterEncoder(WordEncoder, BaseLayer):
    """Encode each word from its characters, so that words outside the vocabulary have vectors too.

    A bidirectional recurrent layer reads the embedded characters x_1 ... x_n of a word. The vector of the word is the
    concatenation of the final states of both directions:

        word = [h_n forwards; h_1 backwards]

    Args:
        vocabulary_size: the number of characters.
        embedding_dim: the width of the character embeddings.
        units: M, the width of the vector of a word (both directions together).
        cell: `"simple"`, `"gru"` or `"lstm"`.

    Call arguments:
        inputs: (B, I, characters) int, the characters of each word.
        mask: (B, I, characters) padding mask, True = a real character; padding is on the right. When None, the implicit
            mask of `inputs`; without it, all characters are real.

    Output:
        (B, I, M), zero for a word without characters.

    Raises:
        ValueError: a number is not a positive integer, the cell is unknown, or `units` is odd.

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
        require_positive_integers(vocabulary_size=vocabulary_size, embedding_dim=embedding_dim, units=units)
        self.vocabulary_size, self.embedding_dim, self.units, self.cell = vocabulary_size, embedding_dim, units, cell
        self.supports_jit = SUPPORTS_JIT
        self.embedding = keras.layers.Embedding(
            vocabulary_size, embedding_dim, dtype=self.dtype_policy, name="characters"
        )
        self.encoder = RecurrentEncoder(units, cell=cell, return_state=True, dtype=self.dtype_policy, name="encoder")

    def build(self, inputs_shape) -> None:
        """Create the weights."""
        self.embedding.build(inputs_shape)
        self.encoder.build((None, None, self.embedding_dim))

    def call(self, inputs, mask=None):
        """Compute the vectors of the words; see the class docstring."""
        _, num_words, num_characters = ops.shape(inputs)
        embedded = self.embedding(ops.reshape(inputs, (-1, num_characters)))  # (B I, characters, embedding_dim)
        characters_mask = None if mask is None else ops.reshape(mask, (-1, num_characters))  # (B I, characters)
        _, state, *_ = self.encoder(embedded, mask=characters_mask)  # h of the last step, (B I, M)
        words = ops.reshape(state, (-1, num_words, self.units))  # (B, I, M)
        return zero_padding(words, self.compute_mask(inputs, mask))
