"""Masks: boolean, True where a position may be attended to, or where a token is real."""

from __future__ import annotations

from keras import ops
from keras.src.backend import get_keras_mask, set_keras_mask  # Keras does not export them


def implicit_mask(x):
    """Return the mask that Keras attached to a tensor, as `Embedding(mask_zero=True)` does, or None.

    Keras passes an implicit mask to a layer's `call` only in some cases: as `mask` where there is one tensor, as
    `value_mask` where the argument is `value` and there are several. A layer asks here in the other cases.

    Example:
        >>> import keras
        >>> x = keras.layers.Embedding(5, 7, mask_zero=True)(keras.ops.array([[3, 1, 0]]))
        >>> keras.ops.convert_to_numpy(implicit_mask(x)).tolist()
        [[True, True, False]]
    """
    return get_keras_mask(x)


def attach_mask(x, mask):
    """Return x with an implicit mask, which the layers after it find; `mask` may be None."""
    if mask is not None:
        set_keras_mask(x, mask)
    return x


def causal_mask(queries, keys=None):
    """Return where a position may attend from left to right: mask[q, s] = (s <= q + S - Q).

    Args:
        queries: Q, an integer or a scalar tensor.
        keys: S, the same; Q when None. Of more keys than queries, the last Q belong to the queries.

    Returns:
        (1, Q, S) boolean.

    Example:
        >>> import keras
        >>> keras.ops.convert_to_numpy(causal_mask(2, 3))[0].tolist()
        [[True, True, False], [True, True, True]]
    """
    keys = queries if keys is None else keys
    own = ops.expand_dims(ops.arange(queries), 1) + (keys - queries)
    return ops.expand_dims(ops.arange(keys) <= own, 0)


def combine_masks(*masks):
    """Return where all masks are True: each is (B, S) or (B, Q, S), or None, which allows everything.

    Returns:
        (B, Q, S) boolean, where B and Q may be 1; None where all masks are None.

    Example:
        >>> import keras
        >>> combined = combine_masks(causal_mask(2), None, keras.ops.array([[True, False]]))
        >>> keras.ops.convert_to_numpy(combined)[0].tolist()
        [[True, False], [True, False]]
    """
    combined = None
    for mask in masks:
        if mask is None:
            continue
        mask = ops.cast(ops.expand_dims(mask, 1) if len(mask.shape) == 2 else mask, "bool")
        combined = mask if combined is None else ops.logical_and(combined, mask)
    return combined


def scores_mask(
    query, value, key=None, value_mask=None, key_mask=None, attention_mask=None, use_causal_mask: bool = False
):
    """Return which keys each query may attend to, from the masks that an attention layer of Keras takes.

    Args:
        query: (B, Q, any).
        value: (B, S, any).
        key: (B, S, any) or None.
        value_mask: (B, S) boolean; the implicit mask of `value` when None.
        key_mask: (B, S) boolean; the implicit mask of `key` when None.
        attention_mask: (B, Q, S) boolean or None.
        use_causal_mask: apply `causal_mask` too.

    Returns:
        (B, Q, S) boolean, where B and Q may be 1; None where everything is allowed.
    """
    value_mask = implicit_mask(value) if value_mask is None else value_mask
    key_mask = implicit_mask(key) if key_mask is None else key_mask
    causal = causal_mask(ops.shape(query)[-2], ops.shape(value)[-2]) if use_causal_mask else None
    return combine_masks(value_mask, key_mask, attention_mask, causal)
