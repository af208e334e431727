"""The outputs of an LSTM cell over a whole sequence, with a gradient that is faster than automatic differentiation.

With z_t = x_t W + h_{t-1} U + b, split into the parts of the gates i, f, o and of the candidate g:

    forward     i, f, g, o = sigmoid(z_i), sigmoid(z_f), tanh(z_g), sigmoid(z_o)
                c_t = f c_{t-1} + i g
                h_t = o tanh(c_t)

    backward    dc_t += dh_t o (1 - tanh(c_t)^2)
                dz_t = [dc_t g i (1 - i),  dc_t c_{t-1} f (1 - f),  dc_t i (1 - g^2),  dh_t tanh(c_t) o (1 - o)]
                dh_{t-1} += dz_t U'
                dc_{t-1} = dc_t f
                dU = sum over t of h_{t-1}' dz_t
"""

from __future__ import annotations

import keras
from keras import ops

from keras_attention.layers.scan import scan


def lstm_outputs(cell: keras.layers.LSTMCell, inputs, hidden_state, cell_state, mask=None):
    """Return the outputs of an `LSTMCell` for each step of a sequence, with its default activations.

    The products x W, and dU, are computed for all steps at once. Automatic differentiation adds a matrix as large as U
    to dU in each step, which takes more time than all other operations if the batch is small.

    Args:
        cell: the cell, without dropout.
        inputs: (B, T, E).
        hidden_state: (B, F), h before the first step.
        cell_state: (B, F), c before the first step.
        mask: (B, T) padding mask, True = a real step; a masked step does not change the states. None for no padding.

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
    inputs, kernel, bias, recurrent, hidden_state, cell_state = (
        ops.cast(x, cell.compute_dtype)
        for x in (inputs, cell.kernel, cell.bias, cell.recurrent_kernel, hidden_state, cell_state)
    )
    projected = ops.swapaxes(ops.matmul(inputs, kernel) + bias, 0, 1)
    masks = [] if mask is None else [ops.expand_dims(ops.cast(ops.swapaxes(mask, 0, 1), projected.dtype), -1)]

    @ops.custom_gradient
    def run(projected, recurrent, hidden_state, cell_state, *masks):
        step_mask = masks[0] if masks else None
        states = _forward(projected, recurrent, hidden_state, cell_state, step_mask)
        firsts = hidden_state, cell_state
        hidden_before, cell_before = (ops.concatenate([x[None], states[i]])[:-1] for i, x in enumerate(firsts))

        def gradient(*arguments, upstream=None):
            d_outputs = arguments[0] if upstream is None else upstream
            d_gates, d_hidden, d_cell = _backward(d_outputs, states, cell_before, recurrent, step_mask)
            flat = [ops.reshape(x, (-1, x.shape[-1])) for x in (hidden_before, d_gates)]  # (T B, F), (T B, 4 F)
            no_gradients = [ops.zeros_like(x) for x in masks]
            return d_gates, ops.matmul(ops.transpose(flat[0]), flat[1]), d_hidden, d_cell, *no_gradients

        return states[0], gradient

    recurrent = ops.copy(recurrent)  # `custom_gradient` rejects variables
    return ops.swapaxes(run(projected, recurrent, hidden_state, cell_state, *masks), 0, 1)


def _forward(projected, recurrent, hidden_state, cell_state, step_mask):
    """Return the hidden states, the cell states and the gates after each step, (T, B, F), (T, B, F), (T, B, 4 F)."""
    width = recurrent.shape[0]

    def forward_step(carry, step):
        old_hidden, old_cell, _ = carry
        gates = step[:, : 4 * width] + ops.matmul(old_hidden, recurrent)
        i, f, g, o = ops.split(gates, 4, axis=-1)
        i, f, g, o = ops.sigmoid(i), ops.sigmoid(f), ops.tanh(g), ops.sigmoid(o)
        cell = f * old_cell + i * g
        hidden = o * ops.tanh(cell)
        if step_mask is not None:
            keep = step[:, 4 * width :] > 0
            hidden, cell = ops.where(keep, hidden, old_hidden), ops.where(keep, cell, old_cell)
        carry = hidden, cell, ops.concatenate([i, f, g, o], -1)
        return carry, carry

    steps = projected if step_mask is None else ops.concatenate([projected, step_mask], -1)
    return scan(forward_step, (hidden_state, cell_state, ops.tile(hidden_state, (1, 4))), steps)[1]


def _backward(d_outputs, states, cell_before, recurrent, step_mask):
    """Return dz (T, B, 4 F), and dh and dc before the first step (B, F).

    Args:
        d_outputs: (T, B, F), the gradients of the outputs.
        states: from `_forward`.
        cell_before: (T, B, F), the cell state before each step.
        recurrent: (F, 4 F), the recurrent weights U.
        step_mask: (T, B, 1), 0 at masked steps; None if all steps are real.
    """
    transposed, width = ops.transpose(recurrent), recurrent.shape[0]

    def backward_step(carry, step):
        d_output, tanh_cell, old_cell, i, f, g, o = ops.split(step[:, : 7 * width], 7, axis=-1)
        d_hidden, d_next_cell = carry[0] + d_output, carry[1]
        d_cell = d_next_cell + d_hidden * o * (1 - tanh_cell * tanh_cell)
        parts = (
            d_cell * g * i * (1 - i),
            d_cell * old_cell * f * (1 - f),
            d_cell * i * (1 - g * g),
            d_hidden * tanh_cell * o * (1 - o),
        )
        d_gates, keep = ops.concatenate(parts, -1), step[:, 7 * width :]
        d_gates = d_gates if step_mask is None else d_gates * keep
        d_old_hidden, d_old_cell = ops.matmul(d_gates, transposed), d_cell * f
        if step_mask is not None:  # a masked step passes the gradients of its states on
            d_old_hidden = ops.where(keep > 0, d_old_hidden, d_hidden)
            d_old_cell = ops.where(keep > 0, d_old_cell, d_next_cell)
        carry = d_old_hidden, d_old_cell, d_gates
        return carry, carry

    steps = [d_outputs, ops.tanh(states[1]), cell_before, states[2], *([] if step_mask is None else [step_mask])]
    zeros = [ops.zeros((ops.shape(d_outputs)[1], size), d_outputs.dtype) for size in (width, width, 4 * width)]
    (d_hidden, d_cell, _), (_, _, d_gates) = scan(backward_step, tuple(zeros), ops.concatenate(steps, -1), reverse=True)
    return d_gates, d_hidden, d_cell
