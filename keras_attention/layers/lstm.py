"""The outputs of an LSTM cell over a whole sequence, with a gradient that is faster than automatic differentiation."""

from __future__ import annotations

import keras
from keras import ops


def lstm_outputs(cell: keras.layers.LSTMCell, inputs, hidden, memory, mask=None):
    """Return the outputs of an `LSTMCell` for each step of a sequence, with its default activations.

    The products of the inputs and of the gradients of the weights are computed for all steps at once. Automatic
    differentiation adds a matrix as large as the recurrent weights to their gradient in each step, which takes more
    time than all other operations if the batch is small.

    Args:
        cell: the cell, without dropout.
        inputs: (B, T, E).
        hidden: (B, F), the hidden state before the first step.
        memory: (B, F), the cell state before the first step.
        mask: (B, T) boolean, True = a real step; the others do not change the states. None if all are real.

    Returns:
        (B, T, F), the hidden state after each step.

    Example:
        >>> cell = keras.layers.LSTMCell(7)
        >>> cell.build((None, 3))
        >>> zeros = keras.ops.zeros((2, 7))
        >>> tuple(lstm_outputs(cell, keras.ops.ones((2, 5, 3)), zeros, zeros).shape)
        (2, 5, 7)

    Reference: Appleyard et al., 2016, https://arxiv.org/abs/1604.01946, sections 3.1 and 3.3.
    """
    projected = ops.swapaxes(ops.matmul(inputs, cell.kernel) + cell.bias, 0, 1)
    keep = None if mask is None else ops.expand_dims(ops.cast(ops.swapaxes(mask, 0, 1), projected.dtype), -1)
    recurrent = ops.copy(ops.cast(cell.recurrent_kernel, projected.dtype))  # `custom_gradient` rejects variables

    @ops.custom_gradient
    def run(projected, recurrent, hidden, memory):
        states = _forward(projected, recurrent, hidden, memory, keep)
        before = [ops.concatenate([first[None], states[i][:-1]]) for i, first in enumerate((hidden, memory))]

        def gradient(*arguments, upstream=None):
            upstream = arguments[0] if upstream is None else upstream
            errors, *firsts = _backward(upstream, states, before[1], recurrent, keep)
            flat = [ops.reshape(x, (-1, x.shape[-1])) for x in (before[0], errors)]
            return errors, ops.matmul(ops.transpose(flat[0]), flat[1]), *firsts

        return states[0], gradient

    return ops.swapaxes(run(projected, recurrent, hidden, memory), 0, 1)


def _forward(projected, recurrent, hidden, memory, keep):
    """Return the hidden states, the cell states and the gates after each step, (T, B, F), (T, B, F), (T, B, 4 F)."""
    width = recurrent.shape[0]

    def advance(carry, step):
        old_hidden, old_memory, _ = carry
        gates = step[:, : 4 * width] + ops.matmul(old_hidden, recurrent)
        enter, forget, new, leave = ops.split(gates, 4, axis=-1)
        enter, forget, new, leave = ops.sigmoid(enter), ops.sigmoid(forget), ops.tanh(new), ops.sigmoid(leave)
        memory = forget * old_memory + enter * new
        hidden = leave * ops.tanh(memory)
        if keep is not None:
            is_real = step[:, 4 * width :] > 0
            hidden, memory = ops.where(is_real, hidden, old_hidden), ops.where(is_real, memory, old_memory)
        carry = hidden, memory, ops.concatenate([enter, forget, new, leave], -1)
        return carry, carry

    steps = projected if keep is None else ops.concatenate([projected, keep], -1)
    return ops.scan(advance, (hidden, memory, ops.zeros_like(projected[0])), steps)[1]


def _backward(upstream, states, old_memory, recurrent, keep):
    """Return the gradients of the projected inputs (T, B, 4 F), and of the first hidden and cell state (B, F).

    Args:
        upstream: (T, B, F), the gradients of the outputs.
        states: from `_forward`.
        old_memory: (T, B, F), the cell state before each step.
        recurrent: (F, 4 F), the recurrent weights.
        keep: (T, B, 1), 0 at masked steps; None if all steps are real.
    """
    transposed, width = ops.transpose(recurrent), recurrent.shape[0]

    def retreat(carry, step):
        upstream, squashed, old_memory, enter, forget, new, leave = ops.split(step[:, : 7 * width], 7, axis=-1)
        hidden, memory = carry[0] + upstream, carry[1]
        total = memory + hidden * leave * (1 - squashed * squashed)
        parts = (
            total * new * enter * (1 - enter),
            total * old_memory * forget * (1 - forget),
            total * enter * (1 - new * new),
            hidden * squashed * leave * (1 - leave),
        )
        errors, kept = ops.concatenate(parts, -1), step[:, 7 * width :]
        errors = errors if keep is None else errors * kept
        old_hidden, memory_before = ops.matmul(errors, transposed), total * forget
        if keep is not None:  # a masked step passes the gradients of its states on
            old_hidden = ops.where(kept > 0, old_hidden, hidden)
            memory_before = ops.where(kept > 0, memory_before, memory)
        carry = old_hidden, memory_before, errors
        return carry, carry

    steps = [upstream, ops.tanh(states[1]), old_memory, states[2], *([] if keep is None else [keep])]
    zeros = ops.zeros_like(upstream[0]), ops.zeros_like(upstream[0]), ops.zeros_like(states[2][0])
    (hidden, memory, _), (_, _, errors) = ops.scan(retreat, zeros, ops.concatenate(steps, -1), reverse=True)
    return errors, hidden, memory
