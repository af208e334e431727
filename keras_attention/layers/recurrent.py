"""Recurrent layers on Keras' cells: an encoder, one that spells words, and a decoder with any attention or none.

    encoder:  x (B, S, E) --> outputs (B, S, M) and the top layer's final state
    decoder:  h_t = cell([x_t; feed_{t-1}], h_{t-1})
              context_t, weights_t = attention(h_t, memory)
              feed_t = tanh(W [h_t; context_t])            (input feeding)

    or, looking first:
              context_t, weights_t = attention([x_t; h_{t-1}], memory);  context_t = sigmoid(G h_{t-1}) context_t
              h_t = cell([x_t; context_t], h_{t-1})
              output_t = tanh(W [x_t; h_t; context_t])     (deep output)

The decoder's whole-sequence call is a loop over its own `_advance`, as `step` is one turn of it, so that training and
decoding cannot differ; an output that no next step needs is computed after the loop, for all steps at once.
"""

from __future__ import annotations

import keras
from keras import ops

_LAYERS = {"simple": keras.layers.SimpleRNN, "gru": keras.layers.GRU, "lstm": keras.layers.LSTM}
_CELLS = {"simple": keras.layers.SimpleRNNCell, "gru": keras.layers.GRUCell, "lstm": keras.layers.LSTMCell}


def _check_cell(cell: str) -> None:
    if cell not in _CELLS:
        raise ValueError(f"`cell` is {cell!r}; expected one of {', '.join(_CELLS)}.")


@keras.saving.register_keras_serializable("keras_attention")
class RecurrentEncoder(keras.layers.Layer):
    """Stacked recurrent layers over a padded sequence.

    Each layer computes h_t = cell(x_t, h_{t-1}); a bidirectional one concatenates a forward and a
    backward pass of half the width each. Padding neither enters the states nor changes a result.

    Args:
        units: M, width of the output (both directions together).
        num_layers: stacked layers.
        cell: `"simple"` (h_t = tanh(W_hh h_{t-1} + W_xh x_t + b)), `"gru"` or `"lstm"`.
        bidirectional: read in both directions.
        dropout: probability of dropping a feature of the inputs, between layers, and of the outputs.

    Call arguments:
        inputs: (B, S, E).
        mask: (B, S) boolean, True = a real token; padding is on the right.
        training: whether dropout is active.

    Output:
        outputs (B, S, M), zero at padding, and a list of final states, each (B, M): one for
        `"simple"` and `"gru"`, hidden and cell state for `"lstm"`.

    Raises:
        ValueError: an unknown cell, or an odd `units` for a bidirectional layer.

    Example:
        >>> encoder = RecurrentEncoder(6, cell="gru")
        >>> outputs, states = encoder(keras.ops.ones((2, 3, 5)), mask=keras.ops.ones((2, 3), "bool"))
        >>> tuple(outputs.shape), [tuple(state.shape) for state in states]
        ((2, 3, 6), [(2, 6)])

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
        **kwargs,
    ) -> None:
        super().__init__(**kwargs)
        _check_cell(cell)
        if bidirectional and units % 2:
            raise ValueError(f"`units` is {units}; a bidirectional encoder needs an even number.")
        self.units, self.num_layers, self.cell = units, num_layers, cell
        self.bidirectional, self.dropout = bidirectional, dropout
        self.supports_masking = True  # masks are arguments; Keras' implicit ones are let pass
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
        # Keras copies `layer`, and knows what it copied by its address: while a model is loaded, another layer that
        # came to lie there would be taken for it. So it is kept, where Keras does not look for layers.
        both.copied = lambda: layer
        return both

    def build(self, inputs_shape) -> None:
        """Create the weights, for inputs of these shapes."""
        shape = tuple(inputs_shape)
        for layer in self.recurrent_layers:
            layer.build(shape)
            shape = (*shape[:-1], self.units)

    def call(self, inputs, mask=None, training=False):
        """Compute the output; the class describes arguments and shapes."""
        outputs, states = inputs, []
        for layer in self.recurrent_layers:
            outputs = self.dropout_layer(outputs, training=training)
            outputs, *states = layer(outputs, mask=mask, training=training)
        outputs = self.dropout_layer(outputs, training=training)
        if mask is not None:
            outputs = ops.where(ops.expand_dims(mask, -1), outputs, ops.zeros_like(outputs))
        return outputs, self._join_directions(states)

    def _join_directions(self, states: list) -> list:
        if not self.bidirectional:
            return states
        half = len(states) // 2
        return [ops.concatenate(pair, -1) for pair in zip(states[:half], states[half:], strict=True)]

    def compute_mask(self, *_: object, **__: object) -> None:
        """Pass no implicit mask on: masks are arguments."""
        return None

    def compute_output_shape(self, inputs_shape):
        """Return the shapes of the outputs."""
        count = 2 if self.cell == "lstm" else 1
        return (*inputs_shape[:-1], self.units), [(inputs_shape[0], self.units)] * count

    def get_config(self) -> dict:
        """Return the constructor's arguments, for saving."""
        return {
            **super().get_config(),
            "units": self.units,
            "num_layers": self.num_layers,
            "cell": self.cell,
            "bidirectional": self.bidirectional,
            "dropout": self.dropout,
        }


@keras.saving.register_keras_serializable("keras_attention")
class CharacterEncoder(keras.layers.Layer):
    """A vector for each word from the characters that spell it, so that words never seen have one too.

    A recurrent layer reads the embedded characters c_1 ... c_P of a word in both directions; the vector is where both
    end: [h_P; h'_1].

    Args:
        vocabulary_size: how many characters there are.
        embedding_dim: width of their embeddings.
        units: M, width of the vector (both directions together).
        cell: `"simple"`, `"gru"` or `"lstm"`.

    Call arguments:
        inputs: (B, S, P) int, the characters of each word.
        mask: (B, S, P) boolean, True = a real one; padding is on the right. A word without any gets zeros.

    Output:
        (B, S, M).

    Raises:
        ValueError: an unknown cell, or an odd `units`.

    Example:
        >>> spelling = CharacterEncoder(vocabulary_size=11, embedding_dim=3, units=6)
        >>> tuple(spelling(keras.ops.ones((2, 5, 7), "int32"), mask=keras.ops.ones((2, 5, 7), "bool")).shape)
        (2, 5, 6)

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
        self.encoder = RecurrentEncoder(units, cell=cell, dtype=self.dtype_policy, name="encoder")

    def build(self, inputs_shape) -> None:
        """Create the weights, for inputs of these shapes."""
        self.embedding.build(inputs_shape)
        self.encoder.build((None, None, self.embedding_dim))

    def call(self, inputs, mask):
        """Compute the output; the class describes arguments and shapes."""
        shape = ops.shape(inputs)
        embedded = self.embedding(ops.reshape(inputs, (-1, shape[2])))
        _, states = self.encoder(embedded, mask=ops.reshape(mask, (-1, shape[2])))
        spelled = ops.reshape(states[0], (-1, shape[1], self.units))
        real = ops.any(mask, axis=-1, keepdims=True)
        return ops.where(real, spelled, ops.zeros_like(spelled))

    def compute_mask(self, *_: object, **__: object) -> None:
        """Pass no implicit mask on: masks are arguments."""
        return None

    def compute_output_shape(self, inputs_shape, **_: object):
        """Return the shape of the output."""
        return (*inputs_shape[:2], self.units)

    def get_config(self) -> dict:
        """Return the constructor's arguments, for saving."""
        return {
            **super().get_config(),
            "vocabulary_size": self.vocabulary_size,
            "embedding_dim": self.embedding_dim,
            "units": self.units,
            "cell": self.cell,
        }


@keras.saving.register_keras_serializable("keras_attention")
class RecurrentDecoder(keras.layers.Layer):
    """Stacked cells that write a sequence, looking at a memory through any attention, or at none.

    With attention, each step attends with the top cell's output h_t and answers
    tanh(W [h_t; context_t]), which also joins the next step's input (input feeding). With `attend_first`, it
    attends with [x_t; h_{t-1}] before the cell runs, as Show, Attend and Tell does (with h_{t-1} alone): the context,
    times a scalar gate sigmoid(G h_{t-1}), joins the cell's input, and the answer is tanh(W [x_t; h_t; context_t]).
    Without attention, the answer is tanh(W h_t), and the initial state is all that the decoder knows.

    Args:
        units: width of each cell.
        output_dim: F, width of the output.
        num_layers: stacked cells.
        cell: `"simple"`, `"gru"` or `"lstm"`.
        attention: a layer with `project_keys(key)` and the call arguments of `AdditiveAttention`, such
            as `AdditiveAttention`; or None.
        dropout: probability of dropping a feature of the inputs and of the outputs.
        attend_first: attend before the cell runs.
        context_dropout: probability that a step of training keeps its whole context (what it feeds on, without
            `attend_first`) from the cells, so that later steps have to look again.

    Call arguments:
        inputs: (B, T, E).
        states: initial states, each (B, any), one list entry per state of a cell; None for zeros.
            A projection of them starts every layer.
        memory: (B, S, M), when there is an attention.
        values: (B, S, M), of which the context is the weighted sum; `memory` when None.
        mask: (B, S) boolean over the memory, True = may be looked at.
        noise: (B, T, S), with which a hard attention draws; None for none.
        training: whether dropout is active.

    Output:
        outputs (B, T, F); with attention, a pair of them and the weights (B, T, S) in float32.

    Raises:
        ValueError: an unknown cell, or an attention without a memory.

    Example:
        >>> from keras_attention.layers import AdditiveAttention
        >>> decoder = RecurrentDecoder(units=7, output_dim=5, attention=AdditiveAttention(3))
        >>> outputs, weights = decoder(keras.ops.ones((2, 11, 13)), memory=keras.ops.ones((2, 17, 19)))
        >>> tuple(outputs.shape), tuple(weights.shape)
        ((2, 11, 5), (2, 11, 17))

    Reference: Sutskever et al., 2014, https://arxiv.org/abs/1409.3215; Bahdanau et al., 2015,
    https://arxiv.org/abs/1409.0473; Luong et al., 2015, https://arxiv.org/abs/1508.04025 (input
    feeding, section 3.3); Xu et al., 2015, https://arxiv.org/abs/1502.03044 (looking first, sections 3.1.2, 4.2.1).
    """

    def __init__(
        self,
        units: int,
        output_dim: int,
        num_layers: int = 1,
        cell: str = "lstm",
        attention: keras.layers.Layer | None = None,
        dropout: float = 0.0,
        attend_first: bool = False,
        context_dropout: float = 0.0,
        **kwargs,
    ) -> None:
        super().__init__(**kwargs)
        _check_cell(cell)
        self.units, self.output_dim, self.num_layers, self.cell = units, output_dim, num_layers, cell
        self.attention, self.dropout, self.attend_first = attention, dropout, attend_first and attention is not None
        self.supports_masking = True  # masks are arguments; Keras' implicit ones are let pass
        self.supports_jit = keras.backend.backend() != "tensorflow"
        self.cells = [_CELLS[cell](units, dtype=self.dtype_policy, name=f"cell_{i}") for i in range(num_layers)]
        self.output_projection = keras.layers.Dense(output_dim, dtype=self.dtype_policy, name="output")
        self.gate = self.bridge = None
        if self.attend_first:
            self.gate = keras.layers.Dense(1, "sigmoid", dtype=self.dtype_policy, name="gate")
        self.context_dropout = context_dropout
        self.dropout_layer = keras.layers.Dropout(dropout, dtype=self.dtype_policy)
        self.context_dropout_layer = keras.layers.Dropout(context_dropout, dtype=self.dtype_policy)

    @property
    def has_memory(self) -> bool:
        """Whether each step looks at a memory."""
        return self.attention is not None

    @property
    def _states_per_cell(self) -> int:
        return 2 if self.cell == "lstm" else 1

    def build(self, inputs_shape, states_shape=None, memory_shape=None) -> None:
        """Create the weights, for inputs of these shapes."""
        if self.attention is not None and memory_shape is None:
            raise ValueError("A decoder with attention needs `memory` (B, S, M); received none.")
        width, seen = inputs_shape[-1], self.units
        if self.attention is not None:
            if not self.attention.built:  # it is, when it was restored
                query = self.units + (width if self.attend_first else 0)
                self.attention.build((None, None, query), memory_shape)
            seen += memory_shape[-1]
        if self.attend_first:
            self.gate.build((None, None, self.units))
            seen += width
            width += memory_shape[-1]
        elif self.attention is not None:
            width += self.output_dim
        for cell in self.cells:
            cell.build((None, width))
            width = self.units
        self.output_projection.build((None, None, seen))
        if states_shape is not None:
            self._build_bridge(states_shape)

    def _build_bridge(self, states_shape) -> None:
        """One dense layer per state of each cell, from the encoder's state of the same kind."""
        count = self.num_layers * self._states_per_cell
        self.bridge = [
            keras.layers.Dense(self.units, activation="tanh", dtype=self.dtype_policy, name=f"bridge_{i}")
            for i in range(count)
        ]
        for i, layer in enumerate(self.bridge):
            layer.build(states_shape[i % len(states_shape)])

    def start(self, tokens, length=None, states=None, memory=None, mask=None, values=None):
        """Return `(constants, carry)`: what no step changes, and what every step does.

        Args:
            tokens: (B, L, E) embedded tokens that are known already and read here; L may be 0.
            length: not used; a Transformer makes room for as many tokens.
            states: the encoder's final states, each (B, any), or None for zeros.
            memory: (B, S, M) or None.
            mask: (B, S) boolean or None.
            values: (B, S, M), of which a context is the weighted sum; `memory` when None.

        Returns:
            constants, a dict of values, projected keys and mask, each (B, S, ...), empty without
            attention; and carry, a dict of tensors (B, 1, ...), to be widened to (B, K, ...) by
            a search over K beams.
        """
        constants, carry = self._begin(ops.shape(tokens)[0], states, memory, mask, values)
        if tokens.shape[1] != 0:
            _, carry = self._read(tokens, constants, carry)
        return constants, carry

    def _begin(self, batch_size, states, memory, mask, values):
        count = self.num_layers * self._states_per_cell
        if states is None:
            flat = [ops.zeros((batch_size, 1, self.units), self.compute_dtype)] * count
        else:
            flat = [layer(states[i % len(states)])[:, None] for i, layer in enumerate(self.bridge)]
        carry = {"cells": flat}
        if self.attention is None:
            return {}, carry
        if mask is None:
            mask = ops.ones(ops.shape(memory)[:2], "bool")
        if self._feeds:
            carry["feed"] = ops.zeros((batch_size, 1, self.output_dim), self.compute_dtype)
        values = memory if values is None else values
        return {"values": values, "keys": self.attention.project_keys(memory), "mask": mask}, carry

    def step(self, inputs, constants, carry):
        """Advance every beam by one token.

        Args:
            inputs: (B, K, E) embedded tokens.
            constants: from `start`.
            carry: from `start` or the last step, each tensor (B, K, ...).

        Returns:
            outputs (B, K, F), the new carry, and weights (B, K, S), or None without attention.
        """
        known, carry, weights = self._advance(inputs, constants, carry)
        return self._output(inputs, known), carry, weights

    def _advance(self, inputs, constants, carry, noise=None, keep_mask=None):
        """Return what the output is made of (B, K, any), beside the inputs, the new carry, and the weights or None.

        `keep_mask` (B, K, 1), or None, says how much of the context the cells are keep_mask.
        """
        if self.attend_first:
            before = carry["cells"][-self._states_per_cell]  # the top cell's output
            context, weights = self._attend(ops.concatenate([inputs, before], -1), constants, noise)
            context = context * self.gate(before)
            cell_context = context if keep_mask is None else context * keep_mask
            hidden, cells = self._run_cells(ops.concatenate([inputs, cell_context], -1), carry["cells"])
            return ops.concatenate([hidden, context], -1), {"cells": cells}, weights
        if self.attention is None:
            hidden, cells = self._run_cells(inputs, carry["cells"])
            return hidden, {"cells": cells}, None
        cell_context = carry["feed"] if keep_mask is None else carry["feed"] * keep_mask
        hidden, cells = self._run_cells(ops.concatenate([inputs, cell_context], -1), carry["cells"])
        context, weights = self._attend(hidden, constants, noise)
        feed = ops.tanh(self.output_projection(ops.concatenate([hidden, context], -1)))
        return feed, {"cells": cells, "feed": feed}, weights

    @property
    def _feeds(self) -> bool:
        return self.attention is not None and not self.attend_first

    def _output(self, inputs, known):
        """Return the output of what `_advance` answered; one that feeds the next step was computed there."""
        if self._feeds:
            return known
        known = ops.concatenate([inputs, known], -1) if self.attend_first else known
        return ops.tanh(self.output_projection(known))

    def _attend(self, query, constants, noise):
        options = {
            "value_mask": constants["mask"],
            "projected_keys": constants["keys"],
            "return_attention_scores": True,
        }
        options |= {} if noise is None else {"noise": noise}
        return self.attention(query, constants["values"], **options)

    def _run_cells(self, hidden, states):
        """Feed (B, K, any) through the stack; return the top output (B, K, units) and the new states."""
        beams = ops.shape(hidden)[1]
        hidden, states = _merge(hidden), [_merge(state) for state in states]
        per_cell, new_states = self._states_per_cell, []
        for i, cell in enumerate(self.cells):
            hidden, new = cell(hidden, states[i * per_cell : (i + 1) * per_cell])
            new_states += new if isinstance(new, (list, tuple)) else [new]
        return _split(hidden, beams), [_split(state, beams) for state in new_states]

    def call(self, inputs, states=None, memory=None, mask=None, noise=None, values=None, training=False):
        """Compute the output; the class describes arguments and shapes."""
        constants, carry = self._begin(ops.shape(inputs)[0], states, memory, mask, values)
        inputs, keep_mask = self.dropout_layer(inputs, training=training), None
        if self.context_dropout and training and self.attention is not None:
            keep_mask = self.context_dropout_layer(ops.ones_like(inputs[..., :1]), training=training)
        collected, _ = self._read(inputs, constants, carry, noise, keep_mask)
        outputs = self.dropout_layer(self._output(inputs, collected["known"]), training=training)
        return outputs if self.attention is None else (outputs, collected["weights"])

    def _read(self, inputs, constants, carry, noise=None, keep_mask=None):
        """Step through (B, T, E); return `known` (B, T, any) and `weights` (B, T, S), and the last carry."""
        width = inputs.shape[-1]
        known = self.output_dim if self._feeds else self.units
        if self.attend_first:
            known += constants["values"].shape[-1]
        collected = {"known": ops.zeros((ops.shape(inputs)[0], 1, known), self.compute_dtype)}
        if self.attention is not None:
            collected["weights"] = ops.zeros_like(ops.cast(constants["mask"], "float32"))[:, None]

        def body(loop, given):
            inputs_t, rest = given[:, None, :width], given[:, None, width:]
            keep_mask_t = None if keep_mask is None else rest[..., :1]
            noise_t = None if noise is None else rest[..., 0 if keep_mask is None else 1 :]
            known, carry, weights = self._advance(inputs_t, constants, loop["carry"], noise_t, keep_mask_t)
            new = {"known": known}
            if weights is not None:
                new["weights"] = weights
            loop = {"carry": carry, "collected": new}
            return loop, loop  # TensorFlow's scan wants per-step results shaped like the carry

        loop = {"carry": carry, "collected": collected}
        given = [part for part in (inputs, keep_mask, noise) if part is not None]
        given = given[0] if len(given) == 1 else ops.concatenate(given, axis=-1)
        last, steps = ops.scan(body, loop, ops.swapaxes(given, 0, 1))
        collected = {key: ops.swapaxes(value[:, :, 0], 0, 1) for key, value in steps["collected"].items()}
        return collected, last["carry"]

    def compute_mask(self, *_: object, **__: object) -> None:
        """Pass no implicit mask on: masks are arguments."""
        return None

    def compute_output_spec(self, inputs, states=None, memory=None, *_: object, **__: object):
        """Return shapes and dtypes of the outputs."""
        batch, length = inputs.shape[:2]
        outputs = keras.KerasTensor((batch, length, self.output_dim), dtype=self.compute_dtype)
        if self.attention is None:
            return outputs
        return outputs, keras.KerasTensor((batch, length, memory.shape[1]), dtype="float32")

    def get_config(self) -> dict:
        """Return the constructor's arguments, for saving."""
        return {
            **super().get_config(),
            "units": self.units,
            "output_dim": self.output_dim,
            "num_layers": self.num_layers,
            "cell": self.cell,
            "attention": keras.saving.serialize_keras_object(self.attention),
            "dropout": self.dropout,
            "attend_first": self.attend_first,
            "context_dropout": self.context_dropout,
        }

    @classmethod
    def from_config(cls, config: dict) -> RecurrentDecoder:
        """Make what `get_config` described."""
        config = dict(config)
        config["attention"] = keras.saving.deserialize_keras_object(config["attention"])
        return cls(**config)


def _merge(x):
    """(B, K, D) -> (B * K, D)."""
    return ops.reshape(x, (-1, x.shape[-1]))


def _split(x, beams):
    """(B * K, D) -> (B, K, D)."""
    return ops.reshape(x, (-1, beams, x.shape[-1]))
