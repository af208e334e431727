"""A recurrent decoder, built from the recurrent cells of Keras, with or without attention.

`call` runs the steps of a whole sequence, and `step` runs one step for each beam, so that training and decoding compute
the same. `step.py` has the computation of a step.
"""

from __future__ import annotations

import keras
from keras import ops

from keras_attention.argument_checks import require, require_cell, require_positive_integers
from keras_attention.layers.base import BaseLayer
from keras_attention.layers.dropout import Dropout
from keras_attention.layers.masks import check_memory, implicit_mask, zero_padding
from keras_attention.layers.recurrent.cells import SUPPORTS_JIT, cell_class, states_per_cell
from keras_attention.layers.recurrent.lstm import lstm_outputs
from keras_attention.layers.recurrent.step import (
    AttentionFirst,
    DecoderMemory,
    DecoderStep,
    InputFeeding,
    PlainRecurrence,
)
from keras_attention.layers.scan import scan, select_real
from keras_attention.layers.shapes import output_specs


@keras.saving.register_keras_serializable("keras_attention")
class RecurrentDecoder(BaseLayer):
    """Stacked recurrent cells over a sequence; with an attention, each step attends to a memory.

    x_t is the input of step t, and h_t is the output of the top cell:

        without attention:          h_t = cell(x_t, h_{t-1});   output_t = tanh(W h_t)

        attention, input feeding:   h_t = cell([x_t; output_{t-1}], h_{t-1})
                                    context_t = attention(h_t, memory)
                                    output_t = tanh(W [h_t; context_t])

        attention first:            context_t = sigmoid(W_g h_{t-1}) attention([x_t; h_{t-1}], memory)
                                    h_t = cell([x_t; context_t], h_{t-1})
                                    output_t = tanh(W [x_t; h_t; context_t])     (deep output)

    Without attention, the initial state is the only information about the source.

    Args:
        units: the width of each cell.
        output_dim: F, the width of the outputs.
        num_layers: the number of stacked cells.
        cell: `"simple"`, `"gru"` or `"lstm"`.
        attention: `AdditiveAttention`, `DotProductAttention`, or another layer with their call arguments, their methods
            `project_keys` and `logits`, and `hard`; None for no attention.
        dropout: probability of dropping a feature of the inputs and of the outputs.
        attend_first: run the attention before the cells.
        context_dropout: probability, in training, that the cells of a step do not receive the context (with input
            feeding, the last output), so that a later step must attend again.

    Call arguments:
        inputs: (B, T, E).
        memory: (B, S, M); required with an attention, None without.
        mask: (B, T) padding mask, True = a real token; the implicit mask of `inputs` when None. A masked step does not
            change the states, and its output is zero.
        memory_mask: (B, S) padding mask, True = a real vector; the implicit mask of `memory` when None.
        initial_state: a list of states (B, any), such as the final states of an encoder; zeros when None. Learned
            projections of them are the initial states of all cells.
        values: (B, S, M); the context is their weighted mean. `memory` when None.
        noise: (B, T, S), the noise with which hard attention samples (see `GumbelNoise`); None for no noise.
        return_attention_scores: also return the attention scores.
        training: whether dropout is active.

    Output:
        outputs (B, T, F). With `return_attention_scores`, a tuple of the outputs and scores (B, T, S) in float32.

    Raises:
        ValueError: a number is not a positive integer, the cell is unknown, `memory` is missing with an attention,
            the first call had no `initial_state` and this one has, there is no attention and `attend_first`,
            `context_dropout`, `memory`, `memory_mask`, `values`, `noise` or `return_attention_scores` was passed,
            `noise` was passed and the attention is not hard, or `memory_mask` has another length than S.
        TypeError: `memory_mask` has floats.

    Example:
        >>> from keras_attention.layers import AdditiveAttention
        >>> inputs, memory = keras.Input((None, 13)), keras.Input((None, 19))
        >>> outputs = RecurrentDecoder(units=7, output_dim=5, attention=AdditiveAttention(3))(inputs, memory)
        >>> keras.Model([inputs, memory], keras.layers.Dense(11)(outputs)).output_shape
        (None, None, 11)

    Reference: Sutskever et al., 2014, https://arxiv.org/abs/1409.3215; Bahdanau et al., 2015,
    https://arxiv.org/abs/1409.0473; Luong et al., 2015, https://arxiv.org/abs/1508.04025 (input
    feeding, section 3.3); Xu et al., 2015, https://arxiv.org/abs/1502.03044 (attention first, sections 3.1.2, 4.2.1).
    """

    blocks = ()  # a recurrent decoder has no Transformer blocks to convert or to recompute

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
        require_positive_integers(units=units, output_dim=output_dim, num_layers=num_layers)
        require_cell(cell)
        if attention is None:
            require(not attend_first, "attend_first", attend_first, "False without an attention")
            require(not context_dropout, "context_dropout", context_dropout, "0 without an attention")
        self.units, self.output_dim, self.num_layers, self.cell = units, output_dim, num_layers, cell
        self.attention, self.dropout, self.context_dropout = attention, dropout, context_dropout
        self.attend_first = attend_first
        self.supports_jit = SUPPORTS_JIT
        self.cells = [cell_class(cell)(units, dtype=self.dtype_policy, name=f"cell_{i}") for i in range(num_layers)]
        self.output_projection = keras.layers.Dense(output_dim, dtype=self.dtype_policy, name="output")
        self.gate = self.state_projections = None
        if self.attend_first:
            self.gate = keras.layers.Dense(1, "sigmoid", dtype=self.dtype_policy, name="gate")
        self.dropout_layer = Dropout(dropout, dtype=self.dtype_policy)
        self.context_dropout_layer = Dropout(context_dropout, dtype=self.dtype_policy)

    @property
    def recurrence(self) -> PlainRecurrence | InputFeeding | AttentionFirst:
        """The computation of a step. It is made for each call, because a layer of the decoder may be replaced."""
        if self.attend_first:
            return AttentionFirst(self.cells, self.output_projection, self.attention, self.gate)
        if self.has_memory:
            return InputFeeding(self.cells, self.output_projection, self.attention)
        return PlainRecurrence(self.cells, self.output_projection)

    def build(self, inputs_shape, memory_shape=None, initial_state_shape=None) -> None:
        """Create the weights."""
        self._check_memory(memory_shape)
        self.recurrence.build(inputs_shape[-1], memory_shape)
        if initial_state_shape is not None:
            self._build_state_projections(initial_state_shape)

    def _build_state_projections(self, shapes) -> None:
        """Create one projection for each state of each cell; its input is the initial state of the same kind."""
        shapes = [shapes] if isinstance(shapes[-1], int) else shapes
        count = self.num_layers * states_per_cell(self.cell)
        self.state_projections = [
            keras.layers.Dense(self.units, activation="tanh", dtype=self.dtype_policy, name=f"state_projection_{i}")
            for i in range(count)
        ]
        for i, layer in enumerate(self.state_projections):
            layer.build(tuple(shapes[i % len(shapes)]))

    @property
    def has_memory(self) -> bool:
        """Whether each step attends to a memory."""
        return self.attention is not None

    def call(
        self,
        inputs,
        memory=None,
        mask=None,
        memory_mask=None,
        initial_state=None,
        values=None,
        noise=None,
        return_attention_scores=False,
        training=False,
    ):
        """Compute the outputs; see the class docstring."""
        others = {"memory_mask": memory_mask, "values": values, "noise": noise}
        self._check_memory(memory, **others, return_attention_scores=return_attention_scores)
        memory, carry = self._first_state(ops.shape(inputs)[0], memory, memory_mask, initial_state, values)
        mask = implicit_mask(inputs) if mask is None else mask
        inputs = self.dropout_layer(inputs, training=training)
        steps = DecoderStep(inputs, noise, self._keep_mask(inputs, training))  # (B, T, any) each
        if training and self.cell == "lstm" and not self.has_memory:
            step_outputs, scores = self._run_lstms(inputs, mask, carry), None  # (B, T, units)
        else:
            step_outputs, scores, _ = self._run_steps(steps, mask, memory, carry)  # (B, T, any), (B, T, S)
        outputs = self.recurrence.project(inputs, step_outputs)  # (B, T, F)
        outputs = self.dropout_layer(outputs, training=training)
        outputs = zero_padding(outputs, mask)
        return (outputs, zero_padding(scores, mask)) if return_attention_scores else outputs

    def _first_state(self, batch_size, memory, memory_mask, initial_state, values):
        """Return the `DecoderMemory`, None without attention, and the carry before the first token."""
        carry = self.recurrence.first_carry(self._first_cell_states(batch_size, initial_state))
        if not self.has_memory:
            return None, carry
        if memory_mask is None:
            memory_mask = implicit_mask(memory)
        if memory_mask is None:
            memory_mask = ops.ones(ops.shape(memory)[:2], "bool")
        values = memory if values is None else values
        return DecoderMemory(values, self.attention.project_keys(memory), memory_mask), carry

    def _first_cell_states(self, batch_size, initial_state) -> list:
        """Return the initial states of all cells, each (B, 1, units)."""
        if initial_state is None:
            count = self.num_layers * states_per_cell(self.cell)
            return [ops.zeros((batch_size, 1, self.units), self.compute_dtype)] * count
        if self.state_projections is None:
            raise ValueError(
                "This decoder was built without `initial_state`, so it has no projections of one; expected None. Pass "
                "`initial_state` in the first call too."
            )
        states = keras.tree.flatten(initial_state)
        return [ops.expand_dims(layer(states[i % len(states)]), 1) for i, layer in enumerate(self.state_projections)]

    def _keep_mask(self, inputs, training):
        """Return (B, T, 1), 0 at the steps whose cells do not receive the context; None without context dropout."""
        if not (self.context_dropout and training and self.has_memory):
            return None
        return self.context_dropout_layer(ops.ones_like(inputs[..., :1]), training=training)

    def _run_lstms(self, inputs, mask, carry: dict):
        """Return h_t of LSTM cells without attention, (B, T, units); faster in training than `_run_steps`."""
        hidden, states = inputs, [ops.squeeze(state, 1) for state in carry["cells"]]
        for i, cell in enumerate(self.cells):
            hidden = lstm_outputs(cell, hidden, *states[2 * i : 2 * i + 2], mask)
        return hidden

    def _run_steps(self, steps: DecoderStep, mask, memory: DecoderMemory | None, carry: dict):
        """Run T steps with the padding mask (B, T) or None.

        Returns:
            step outputs (B, T, any), scores (B, T, S) or None, and the last carry.
        """
        recurrence = self.recurrence
        memory_dim = memory.values.shape[-1] if self.has_memory else None
        output_shape = (ops.shape(steps.inputs)[0], 1, recurrence.step_output_dim(memory_dim))
        # `scan` needs the same structure before and after a step, so the state has outputs before the first step, too.
        state = {"carry": carry, "step_outputs": ops.zeros(output_shape, self.compute_dtype)}
        if self.has_memory:
            state["scores"] = ops.zeros_like(ops.cast(memory.mask, "float32"))[:, None]  # (B, 1, S)

        def run_step(state, step):
            step = {name: ops.expand_dims(x, 1) for name, x in step.items()}  # (B, 1, any): one beam
            is_real = step.pop("mask", None)
            step_outputs, scores, carry = recurrence.run(DecoderStep(**step), memory, state["carry"])
            new_state = {"carry": select_real(is_real, carry, state["carry"]), "step_outputs": step_outputs}
            if self.has_memory:
                new_state["scores"] = scores
            return new_state, new_state

        tensors = {**steps._asdict(), "mask": None if mask is None else ops.expand_dims(mask, -1)}  # (B, T, any)
        tensors = {name: ops.swapaxes(x, 0, 1) for name, x in tensors.items() if x is not None}  # (T, B, any)
        last, states = scan(run_step, state, tensors)
        step_outputs = ops.swapaxes(states["step_outputs"][:, :, 0], 0, 1)  # (T, B, 1, any) -> (B, T, any)
        scores = ops.swapaxes(states["scores"][:, :, 0], 0, 1) if self.has_memory else None  # (B, T, S)
        return step_outputs, scores, last["carry"]

    def start(self, inputs, length=None, memory=None, memory_mask=None, initial_state=None, values=None, mask=None):
        """Read a prompt, and return the state before the next token; `decoding/cache.py` describes it.

        Args:
            inputs: (B, L, E) embedded tokens of the prompt; L may be 0.
            length: not used; a Transformer needs it for its cache.
            memory: (B, S, M) or None.
            memory_mask: (B, S) padding mask, True = a real vector; None for no padding.
            initial_state: a list of states (B, any), or None for zeros.
            values: (B, S, M); the context is their weighted mean. `memory` when None.
            mask: (B, L) padding mask, True = a real token; None for no padding.

        Returns:
            dict of `constants`, the fields of a `DecoderMemory`, or {} without attention; and the `carry`, a dict of
            tensors (B, 1, ...).
        """
        self._check_memory(memory, memory_mask=memory_mask, values=values)
        memory, carry = self._first_state(ops.shape(inputs)[0], memory, memory_mask, initial_state, values)
        if inputs.shape[1] != 0:
            _, _, carry = self._run_steps(DecoderStep(inputs), mask, memory, carry)
        return {"constants": memory._asdict() if self.has_memory else {}, "carry": carry}

    def step(self, inputs, state: dict):
        """Advance every beam by one token.

        Args:
            inputs: (B, K, E) embedded tokens.
            state: from `start` or the last step; each tensor of the carry is (B, K, ...).

        Returns:
            outputs (B, K, F), the new state, and scores (B, K, S) or None without attention.
        """
        memory = DecoderMemory(**state["constants"]) if self.has_memory else None
        step_outputs, scores, carry = self.recurrence.run(
            DecoderStep(inputs), memory, state["carry"], for_decoding=True
        )
        return self.recurrence.project(inputs, step_outputs), {**state, "carry": carry}, scores

    def encoder_arguments(self, encoded, mask) -> dict:
        """Return the arguments of `call` and `start` for the outputs of a `RecurrentEncoder` and their mask (B, S)."""
        memory, *states = encoded
        return {"initial_state": states} | ({"memory": memory, "memory_mask": mask} if self.has_memory else {})

    def _check_memory(self, memory, **others: object) -> None:
        """Raise ValueError if an attention has no memory, or if there is no attention for one of the arguments."""
        fix = f"create the layer with {'attention=None' if self.has_memory else 'an `attention`'}"
        check_memory(self.has_memory, fix, memory, **others)

    def compute_output_spec(
        self,
        inputs,
        memory=None,
        *_: object,
        memory_mask=None,
        values=None,
        noise=None,
        return_attention_scores=False,
        **__: object,
    ):
        """Return the shapes and dtypes of the outputs."""
        others = {"memory_mask": memory_mask, "values": values, "noise": noise}
        self._check_memory(memory, **others, return_attention_scores=return_attention_scores)
        batch, length = inputs.shape[:2]
        scores_shape = (batch, length, memory.shape[1]) if return_attention_scores else None
        return output_specs(self, (batch, length, self.output_dim), scores_shape)
