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

from keras_attention.layers.scan import scan, select_real


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
    projected = ops.swapaxes(ops.matmul(inputs, kernel) + bias, 0, 1)  # (T, B, 4 F), x_t W + b of all steps
    masks = [ops.expand_dims(ops.cast(ops.swapaxes(mask, 0, 1), projected.dtype), -1)] if mask is not None else []

    @ops.custom_gradient
    def run(projected, recurrent, hidden_state, cell_state, *masks):  # JAX needs all tensors as arguments
        mask = masks[0] if masks else None  # (T, B, 1)
        hidden, cell, gates = _forward(projected, recurrent, hidden_state, cell_state, mask)
        hidden_before = ops.concatenate([hidden_state[None], hidden])[:-1]  # (T, B, F), h_{t-1} of all steps
        cell_before = ops.concatenate([cell_state[None], cell])[:-1]  # (T, B, F), c_{t-1} of all steps

        def gradient(*arguments, upstream=None):
            d_hidden = arguments[0] if upstream is None else upstream  # (T, B, F), the gradients of the outputs
            d_gates, d_first_hidden, d_first_cell = _backward(d_hidden, gates, cell, cell_before, recurrent, mask)
            rows, d_rows = (ops.reshape(x, (-1, x.shape[-1])) for x in (hidden_before, d_gates))  # (T B, F), (T B, 4 F)
            d_recurrent, d_masks = ops.matmul(ops.transpose(rows), d_rows), [ops.zeros_like(x) for x in masks]
            return d_gates, d_recurrent, d_first_hidden, d_first_cell, *d_masks

        return hidden, gradient

    recurrent = ops.copy(recurrent)  # `custom_gradient` rejects variables
    return ops.swapaxes(run(projected, recurrent, hidden_state, cell_state, *masks), 0, 1)


def _forward(projected, recurrent, hidden_state, cell_state, mask):
    """Run all steps.

    Args:
        projected: (T, B, 4 F), x_t W + b.
        recurrent: (F, 4 F), U.
        hidden_state, cell_state: (B, F), h and c before the first step.
        mask: (T, B, 1), 1 = a real step; None if all steps are real.

    Returns:
        h_t (T, B, F), c_t (T, B, F), and i, f, g and o side by side (T, B, 4 F).
    """

    def forward_step(carry, step):
        old_hidden, old_cell, _ = carry  # h_{t-1} and c_{t-1}, (B, F)
        i, f, g, o = ops.split(step["projected"] + ops.matmul(old_hidden, recurrent), 4, axis=-1)  # (B, F) each
        i, f, g, o = ops.sigmoid(i), ops.sigmoid(f), ops.tanh(g), ops.sigmoid(o)
        cell = f * old_cell + i * g
        hidden = o * ops.tanh(cell)
        hidden, cell = select_real(step.get("mask"), (hidden, cell), (old_hidden, old_cell))
        carry = hidden, cell, ops.concatenate([i, f, g, o], -1)
        return carry, carry

    first = hidden_state, cell_state, ops.tile(hidden_state, (1, 4))  # no step reads the gates in the carry
    _, states = scan(forward_step, first, {"projected": projected, "mask": mask})
    return states


def _backward(d_hidden, gates, cell, cell_before, recurrent, mask):
    """Run the gradient of `_forward`, from the last step to the first.

    Args:
        d_hidden: (T, B, F), the gradients of the outputs, dh_t.
        gates: (T, B, 4 F), i, f, g and o side by side.
        cell, cell_before: (T, B, F), c_t and c_{t-1}.
        recurrent: (F, 4 F), U.
        mask: (T, B, 1), 1 = a real step; None if all steps are real.

    Returns:
        dz_t (T, B, 4 F), and dh and dc before the first step, (B, F) each.
    """
    width, transposed = recurrent.shape[0], ops.transpose(recurrent)  # F, and U' (4 F, F)

    def backward_step(carry, step):
        d_hidden, d_next_cell = carry[0] + step["d_hidden"], carry[1]  # (B, F)
        i, f, g, o = ops.split(step["gates"], 4, axis=-1)  # (B, F) each
        tanh_cell, old_cell, is_real = step["tanh_cell"], step["cell_before"], step.get("mask")
        d_cell = d_next_cell + d_hidden * o * (1 - tanh_cell * tanh_cell)
        d_i, d_f = d_cell * g * i * (1 - i), d_cell * old_cell * f * (1 - f)
        d_g, d_o = d_cell * i * (1 - g * g), d_hidden * tanh_cell * o * (1 - o)
        d_gates = ops.concatenate([d_i, d_f, d_g, d_o], -1)  # (B, 4 F)
        d_gates = d_gates if is_real is None else d_gates * is_real
        d_old = ops.matmul(d_gates, transposed), d_cell * f  # of h_{t-1} and c_{t-1}, (B, F) each
        d_old = select_real(is_real, d_old, (d_hidden, d_next_cell))  # a masked step copies its states
        carry = *d_old, d_gates
        return carry, carry

    first = [ops.zeros((ops.shape(d_hidden)[1], size), d_hidden.dtype) for size in (width, width, 4 * width)]
    steps = {"d_hidden": d_hidden, "gates": gates, "tanh_cell": ops.tanh(cell), "cell_before": cell_before}
    (d_first_hidden, d_first_cell, _), (_, _, d_gates) = scan(
        backward_step, tuple(first), {**steps, "mask": mask}, reverse=True
    )
    return d_gates, d_first_hidden, d_first_cell
