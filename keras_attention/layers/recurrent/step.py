"""One step of a recurrent decoder, in three variants that differ in where the attention is.

    PlainRecurrence    without attention
    InputFeeding       the cells run first; the next step reads the output of this step
    AttentionFirst     the attention runs first

Each variant has the same methods:

    build(E, memory shape)           creates the weights
    first_carry(states)              the carry before the first step, from the initial states of the cells (B, 1, units)
    run(step, memory, carry)         one step: step outputs (B, K, any), scores (B, K, S) or None, and the next carry
    project(inputs, step outputs)    outputs (B, K, F)
    step_output_dim(M)               the width of the step outputs

With `for_decoding=True`, `run` attends with the operations of `decoding/step_attention.py`, which are faster for the
small matrices of one step.

With input feeding, `run` computes the outputs, because the next step reads them. The other variants leave the output
projection to `project`, which applies it to all steps at once; this is faster. The carry has the states of the `cells`,
a list of tensors (B, K, units), and with input feeding the `last_output` (B, K, F).

The docstring of `RecurrentDecoder` has the formulas. As there, x_t is the input of step t, h_t the output of the top
cell, and W the output projection.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import keras
from keras import ops

from keras_attention.layers.base import build_once
from keras_attention.layers.decoding.step_attention import attend_step
from keras_attention.layers.recurrent.cells import run_cells, top_output
from keras_attention.layers.shapes import on_rows


class DecoderStep(NamedTuple):
    """Inputs of one step, besides the carry. In `call`, which runs T steps, the tensors have an axis T instead of K.

    Example:
        >>> DecoderStep(keras.ops.ones((2, 3, 5))).noise is None
        True
    """

    inputs: Any  # (B, K, E)
    noise: Any = None  # (B, K, S), with which hard attention samples
    keep_mask: Any = None  # (B, K, 1), 0 where the cells do not receive the context; None if they always do


class DecoderMemory(NamedTuple):
    """The vectors that all steps attend to.

    Example:
        >>> values, keys = keras.ops.ones((2, 7, 11)), keras.ops.ones((2, 7, 5))
        >>> tuple(DecoderMemory(values, keys, mask=keras.ops.ones((2, 7), bool)).keys.shape)
        (2, 7, 5)
    """

    values: Any  # (B, S, M)
    keys: Any  # (B, S, D), projected
    mask: Any  # (B, S)


class PlainRecurrence:
    """A step of the cells alone.

    Args:
        cells: the cells of the decoder.
        output_projection: W, a `keras.layers.Dense`.

    Example:
        >>> decoder = PlainRecurrence([keras.layers.SimpleRNNCell(7)], keras.layers.Dense(11))
        >>> decoder.build(5, None)
        >>> carry = decoder.first_carry([keras.ops.zeros((2, 1, 7))])
        >>> hidden, _, carry = decoder.run(DecoderStep(keras.ops.ones((2, 1, 5))), None, carry)
        >>> tuple(hidden.shape)
        (2, 1, 7)
    """

    def __init__(self, cells: Sequence, output_projection: keras.layers.Dense) -> None:
        self.cells, self.output_projection = cells, output_projection

    def build(self, input_dim: int, memory_shape: None) -> None:
        """Create the weights."""
        _build_cells(self.cells, input_dim)
        self.output_projection.build((None, None, self.step_output_dim()))

    def step_output_dim(self, memory_dim: None = None) -> int:
        """Return the width of the step outputs, h_t."""
        return self.cells[-1].units

    def first_carry(self, states: list) -> dict:
        """Return the carry before the first step."""
        return {"cells": states}

    def run(self, step: DecoderStep, memory: None, carry: dict, for_decoding: bool = False):
        """Run one step."""
        hidden, states = run_cells(self.cells, step.inputs, carry["cells"])  # h_t (B, K, units)
        return hidden, None, {"cells": states}

    def project(self, inputs, step_outputs):
        """Return tanh(W h_t)."""
        return ops.tanh(on_rows(self.output_projection, step_outputs))


class InputFeeding:
    """A step of cells that read the last output, and an attention after them.

    Args:
        cells: the cells of the decoder.
        output_projection: W, a `keras.layers.Dense`.
        attention: the attention layer.

    Example:
        >>> from keras_attention.layers import AdditiveAttention
        >>> decoder = InputFeeding([keras.layers.SimpleRNNCell(7)], keras.layers.Dense(11), AdditiveAttention(3))
        >>> decoder.build(5, (2, 13, 17))
        >>> {name: keras.tree.map_structure(lambda x: tuple(x.shape), value)
        ...  for name, value in decoder.first_carry([keras.ops.zeros((2, 1, 7))]).items()}
        {'cells': [(2, 1, 7)], 'last_output': (2, 1, 11)}

    Reference: Luong et al., 2015, https://arxiv.org/abs/1508.04025, section 3.3.
    """

    def __init__(self, cells: Sequence, output_projection: keras.layers.Dense, attention: keras.layers.Layer) -> None:
        self.cells, self.output_projection, self.attention = cells, output_projection, attention

    def build(self, input_dim: int, memory_shape: tuple) -> None:
        """Create the weights."""
        units = self.cells[-1].units
        build_once(self.attention, (None, None, units), memory_shape)
        _build_cells(self.cells, input_dim + self.step_output_dim())
        self.output_projection.build((None, None, units + memory_shape[-1]))

    def step_output_dim(self, memory_dim: int | None = None) -> int:
        """Return the width of the step outputs, output_t."""
        return self.output_projection.units

    def first_carry(self, states: list) -> dict:
        """Return the carry before the first step; the last output is zeros."""
        output_shape = ops.shape(states[0])[0], 1, self.output_projection.units
        return {"cells": states, "last_output": ops.zeros(output_shape, self.output_projection.compute_dtype)}

    def run(self, step: DecoderStep, memory: DecoderMemory, carry: dict, for_decoding: bool = False):
        """Run one step."""
        feed = _keep_context(carry["last_output"], step.keep_mask)  # output_{t-1} (B, K, F)
        cell_inputs = ops.concatenate([step.inputs, feed], -1)  # (B, K, E + F)
        hidden, states = run_cells(self.cells, cell_inputs, carry["cells"])  # h_t (B, K, units)
        context, scores = _attend(self.attention, hidden, memory, step.noise, for_decoding)  # (B, K, M), (B, K, S)
        output = ops.concatenate([hidden, context], -1)  # (B, K, units + M)
        output = ops.tanh(on_rows(self.output_projection, output))  # output_t (B, K, F)
        return output, scores, {"cells": states, "last_output": output}

    def project(self, inputs, step_outputs):
        """Return the step outputs: `run` has projected them."""
        return step_outputs


class AttentionFirst:
    """A step of an attention, and cells that read its context.

    Args:
        cells: the cells of the decoder.
        output_projection: W, a `keras.layers.Dense`.
        attention: the attention layer.
        gate: W_g, a `keras.layers.Dense` with one unit and a sigmoid.

    Example:
        >>> from keras_attention.layers import AdditiveAttention
        >>> cells, gate = [keras.layers.SimpleRNNCell(7)], keras.layers.Dense(1, "sigmoid")
        >>> decoder = AttentionFirst(cells, keras.layers.Dense(11), AdditiveAttention(3), gate)
        >>> decoder.step_output_dim(memory_dim=17)  # h_t and the context
        24

    Reference: Xu et al., 2015, https://arxiv.org/abs/1502.03044, sections 3.1.2 and 4.2.1.
    """

    def __init__(
        self,
        cells: Sequence,
        output_projection: keras.layers.Dense,
        attention: keras.layers.Layer,
        gate: keras.layers.Dense,
    ) -> None:
        self.cells, self.output_projection, self.attention, self.gate = cells, output_projection, attention, gate

    def build(self, input_dim: int, memory_shape: tuple) -> None:
        """Create the weights."""
        units, memory_dim = self.cells[-1].units, memory_shape[-1]
        build_once(self.attention, (None, None, input_dim + units), memory_shape)
        self.gate.build((None, None, units))
        _build_cells(self.cells, input_dim + memory_dim)
        self.output_projection.build((None, None, input_dim + self.step_output_dim(memory_dim)))

    def step_output_dim(self, memory_dim: int) -> int:
        """Return the width of the step outputs, [h_t; context_t]."""
        return self.cells[-1].units + memory_dim

    def first_carry(self, states: list) -> dict:
        """Return the carry before the first step."""
        return {"cells": states}

    def run(self, step: DecoderStep, memory: DecoderMemory, carry: dict, for_decoding: bool = False):
        """Run one step."""
        hidden = top_output(self.cells, carry["cells"])  # h_{t-1} (B, K, units)
        query = ops.concatenate([step.inputs, hidden], -1)  # (B, K, E + units)
        context, scores = _attend(self.attention, query, memory, step.noise, for_decoding)  # (B, K, M), (B, K, S)
        context = context * on_rows(self.gate, hidden)  # context_t; the gate is (B, K, 1)
        cell_inputs = ops.concatenate([step.inputs, _keep_context(context, step.keep_mask)], -1)  # (B, K, E + M)
        hidden, states = run_cells(self.cells, cell_inputs, carry["cells"])  # h_t (B, K, units)
        return ops.concatenate([hidden, context], -1), scores, {"cells": states}

    def project(self, inputs, step_outputs):
        """Return tanh(W [x_t; h_t; context_t])."""
        return ops.tanh(on_rows(self.output_projection, ops.concatenate([inputs, step_outputs], -1)))


def _build_cells(cells: Sequence, input_dim: int) -> None:
    """Create the weights of the cells; each reads the outputs of the cell before it."""
    for cell in cells:
        cell.build((None, input_dim))
        input_dim = cell.units


def _attend(attention: keras.layers.Layer, query, memory: DecoderMemory, noise, for_decoding: bool):
    """Return the context (B, K, M) and the scores (B, K, S)."""
    if for_decoding and not attention.hard:
        return attend_step(attention.logits(query, memory.keys), memory.values, memory.mask)
    return attention(
        query,
        memory.values,
        value_mask=memory.mask,
        projected_keys=memory.keys,
        noise=noise,
        return_attention_scores=True,
    )


def _keep_context(context, keep_mask):
    """Multiply a context (B, K, any) by the `keep_mask` (B, K, 1) of the step, if there is one."""
    return context if keep_mask is None else context * keep_mask
