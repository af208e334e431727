"""The recurrent cells of Keras by name, and one step of a stack of cells.

A stack has a list of states: the states of the first cell, then those of the second cell, and so on. The first state of
a cell is h_t, its output. An `"lstm"` cell has a second state, c_t.
"""

from __future__ import annotations

from collections.abc import Sequence

import keras
from keras import ops

from keras_attention.choices import CELLS

SUPPORTS_JIT = keras.backend.backend() != "tensorflow"  # XLA compiles a recurrent layer for each length


def layer_class(cell: str) -> type:
    """Return the Keras layer that runs a cell over a sequence.

    Example:
        >>> layer_class("simple").__name__
        'SimpleRNN'
    """
    return getattr(keras.layers, CELLS[cell])


def cell_class(cell: str) -> type:
    """Return the Keras layer that runs one step of a cell.

    Example:
        >>> cell_class("lstm").__name__
        'LSTMCell'
    """
    return getattr(keras.layers, f"{CELLS[cell]}Cell")


def states_per_cell(cell: str) -> int:
    """Return the number of states of a cell: 2 (h_t and c_t) for `"lstm"`, else 1."""
    return 2 if cell == "lstm" else 1


def run_cells(cells: Sequence, inputs, states: list):
    """Run one step of a stack of cells.

    Args:
        cells: the cells; each reads the output of the cell before it.
        inputs: (B, K, any), the inputs of the first cell.
        states: the states of the stack, each (B, K, units).

    Returns:
        the output of the top cell (B, K, units), and the new states.

    Example:
        >>> inputs, states = keras.ops.ones((2, 3, 5)), [keras.ops.zeros((2, 3, 7))] * 2
        >>> output, states = run_cells([keras.layers.LSTMCell(7)], inputs, states)
        >>> tuple(output.shape), len(states)
        ((2, 3, 7), 2)
    """
    beams, count = ops.shape(inputs)[1], len(states) // len(cells)
    hidden, states, new_states = _merge_beams(inputs), [_merge_beams(state) for state in states], []
    for i, cell in enumerate(cells):
        hidden, new = cell(hidden, states[i * count : (i + 1) * count])
        new_states += keras.tree.flatten(new)
    return _split_beams(hidden, beams), [_split_beams(state, beams) for state in new_states]


def top_output(cells: Sequence, states: list):
    """Return h_t of the top cell, the last one, in a list of states."""
    return states[-(len(states) // len(cells))]


def _merge_beams(x):
    """Merge the axes of batch and beams: (B, K, any) -> (B K, any)."""
    return ops.reshape(x, (-1, x.shape[-1]))


def _split_beams(x, beams):
    """Split the axes of batch and beams: (B K, any) -> (B, K, any)."""
    return ops.reshape(x, (-1, beams, x.shape[-1]))
