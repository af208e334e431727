"""Masks: boolean, True where a position may be looked at."""

from __future__ import annotations

from keras import ops
from keras.src.backend import get_keras_mask  # Keras does not export it


def causal_mask(queries, keys=None):
    """Let each position look at itself and what came before: mask[q, s] = (s <= q + S - Q).

    Args:
        queries: Q, an integer or a scalar tensor.
        keys: S; as many as queries when absent. Of more keys the last Q are the queries' own.

    Returns:
        (1, Q, S) boolean.

    Example:
        >>> causal_mask(2, 3)[0].numpy().tolist()  # doctest: +SKIP
        [[True, True, False], [True, True, True]]
    """
    keys = queries if keys is None else keys
    own = ops.expand_dims(ops.arange(queries), 1) + (keys - queries)
    return ops.expand_dims(ops.arange(keys) <= own, 0)


def combine_masks(*masks):
    """Return where all masks, (B, S) or (B, Q, S) each, allow a look; None allows all."""
    combined = None
    for mask in masks:
        if mask is None:
            continue
        mask = ops.expand_dims(mask, 1) if len(mask.shape) == 2 else mask
        combined = mask if combined is None else ops.logical_and(combined, mask)
    return combined


def implicit_mask(x):
    """Return the mask that Keras attached to a tensor, as `Embedding(mask_zero=True)` does; None for none.

    Keras passes an implicit mask to a layer's `call` only in some cases: as `mask` where there is one tensor, as
    `memory_mask` where the argument is `memory` and there are several. A layer asks here in the other cases.
    """
    return get_keras_mask(x)
