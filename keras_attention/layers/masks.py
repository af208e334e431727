"""Masks: boolean tensors.

    padding mask      (B, S)       True = a real token, or another real vector; it may be attended to
    attention mask    (B, Q, S)    True = the query at q may attend to the position s

The implicit mask of a tensor is a padding mask that Keras attached to it.
"""

from __future__ import annotations

import keras
from keras import ops

from keras_attention.argument_checks import require
from keras_attention.keras_support.keras_patches import get_keras_mask, set_keras_mask

NOT_ALLOWED = -1e30  # the logit of a position that may not be attended to


def implicit_mask(x):
    """Return the implicit mask of a tensor, which `Embedding(mask_zero=True)` attaches, or None.

    Keras passes an implicit mask to `call` only in two cases: as `mask` if the layer has one tensor argument, and as
    `NAME_mask` for each tensor argument NAME if it has several. This function covers the other cases.

    Example:
        >>> import keras
        >>> x = keras.layers.Embedding(5, 7, mask_zero=True)(keras.ops.array([[3, 1, 0]]))
        >>> keras.ops.convert_to_numpy(implicit_mask(x)).tolist()
        [[True, True, False]]
    """
    return get_keras_mask(x)


def attach_mask(x, mask):
    """Attach an implicit mask, for the next layers, to x and return x; do nothing if `mask` is None."""
    if mask is not None:
        set_keras_mask(x, mask)
    return x


def causal_mask(queries, keys=None):
    """Return the mask of left-to-right attention: mask[q, s] = (s <= q + S - Q).

    The queries are at the last Q of the S key positions.

    Args:
        queries: Q, an integer or a scalar tensor.
        keys: S, an integer or a scalar tensor; Q when None.

    Returns:
        (1, Q, S) boolean.

    Example:
        >>> import keras
        >>> keras.ops.convert_to_numpy(causal_mask(2, 3))[0].tolist()
        [[True, True, False], [True, True, True]]
    """
    keys = queries if keys is None else keys
    query_positions = ops.expand_dims(ops.arange(queries), 1) + (keys - queries)
    return ops.expand_dims(ops.arange(keys) <= query_positions, 0)


def combine_masks(*masks):
    """Combine masks with a logical and.

    Args:
        *masks: padding masks (B, S), attention masks (B, Q, S), and None, which allows every position.

    Returns:
        (B, Q, S) boolean, B and Q may be 1; None if all masks are None.

    Raises:
        TypeError: a mask has floats: some libraries add 0 and -1e9 to the logits, others multiply by 1 and 0.

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
        mask = ops.convert_to_tensor(mask)
        if "float" in keras.backend.standardize_dtype(mask.dtype):
            raise TypeError(
                f"A mask has the type {keras.backend.standardize_dtype(mask.dtype)}; expected bool, True = may be "
                "attended to. Convert it: `mask > 0` if 1 allows a position, `mask == 0` if it is added to the logits."
            )
        mask = ops.cast(ops.expand_dims(mask, 1) if len(mask.shape) == 2 else mask, "bool")
        combined = mask if combined is None else ops.logical_and(combined, mask)
    return combined


def zero_padding(x, mask):
    """Set x (B, T, any) to zero where the padding mask (B, T), if not None, is False.

    Example:
        >>> import keras
        >>> x = zero_padding(keras.ops.ones((1, 2, 1)), keras.ops.array([[True, False]]))
        >>> keras.ops.convert_to_numpy(x)[0, :, 0].tolist()
        [1.0, 0.0]
    """
    return x if mask is None else ops.where(ops.expand_dims(mask, -1), x, ops.zeros_like(x))


def mask_bias(mask):
    """Return a mask in the form that is added to logits, float32: 0 = may be attended to, `NOT_ALLOWED` = may not.

    Example:
        >>> import keras
        >>> print(keras.ops.convert_to_numpy(mask_bias(keras.ops.array([True, False]))))
        [ 0.e+00 -1.e+30]
    """
    return ops.where(mask, 0.0, NOT_ALLOWED)


def scores_mask(
    query, value, key=None, value_mask=None, key_mask=None, attention_mask=None, use_causal_mask: bool = False
):
    """Combine the masks of an attention layer of Keras: which positions each query may attend to.

    The `query_mask` of a layer is not an argument: a query that is padding may attend to other positions. In
    self-attention without a `value`, the layer passes its `query_mask` as `value_mask`.

    Args:
        query: (B, Q, any).
        value: (B, S, any).
        key: (B, S, any) or None.
        value_mask: (B, S) padding mask; the implicit mask of `value` when None.
        key_mask: (B, S) padding mask; the implicit mask of `key` when None.
        attention_mask: (B, Q, S) attention mask, or None.
        use_causal_mask: each query attends to its own position and to earlier positions only; see `causal_mask`.

    Returns:
        (B, Q, S) boolean, B and Q may be 1; None if there is no mask.

    Raises:
        ValueError: the lengths of a mask are neither those of `query` and `value`, nor 1.
        TypeError: a mask has floats; see `combine_masks`.

    Example:
        >>> import keras
        >>> vectors = keras.ops.ones((1, 2, 3))
        >>> keras.ops.convert_to_numpy(scores_mask(vectors, vectors, use_causal_mask=True))[0].tolist()
        [[True, False], [True, True]]
    """
    value_mask = implicit_mask(value) if value_mask is None else value_mask
    key_mask = implicit_mask(key) if key_mask is None else key_mask
    _check_length("value_mask", value_mask, (value.shape[-2],))
    _check_length("key_mask", key_mask, (value.shape[-2],))
    _check_length("attention_mask", attention_mask, (query.shape[-2], value.shape[-2]))
    causal = causal_mask(ops.shape(query)[-2], ops.shape(value)[-2]) if use_causal_mask else None
    return combine_masks(value_mask, key_mask, attention_mask, causal)


def check_memory(has_memory: bool, fix: str, memory, **others) -> None:
    """Raise ValueError if a layer attends to a memory and receives none, or attends to none and receives one.

    Args:
        has_memory: whether the layer attends to a memory.
        fix: how to get a layer with the other `has_memory`; the end of the error.
        memory: the memory, its shape, or None.
        **others: arguments that need a memory, such as `memory_mask`; None or False if they were not passed.

    Example:
        >>> check_memory(True, "omit attention", memory=None)
        Traceback (most recent call last):
        ValueError: `memory` is None, but the layer attends to one; expected (B, S, any). Pass it, or omit attention.
    """
    if has_memory and memory is None:
        raise ValueError(f"`memory` is None, but the layer attends to one; expected (B, S, any). Pass it, or {fix}.")
    for name, value in {"memory": memory, **others}.items():
        if not has_memory and value is not None and value is not False:
            raise ValueError(
                f"`{name}` was passed, but the layer attends to no memory; expected "
                f"{False if value is True else None}. Omit it, or {fix}."
            )


def _check_length(name: str, mask, lengths: tuple) -> None:
    """Raise ValueError if the last axes of a mask have other lengths; a length is None if it is not known yet."""
    if mask is None:
        return
    shape = tuple(ops.convert_to_tensor(mask).shape)
    fits = len(shape) > len(lengths) and all(
        size in (None, 1, length) or length is None
        for size, length in zip(shape[-len(lengths) :], lengths, strict=True)
    )
    require(fits, f"{name}.shape", shape, f"(batch, {', '.join(map(str, lengths))})")
