"""Random numbers of a search that are the same on all backends."""

from __future__ import annotations

from keras import ops


def uniform_numbers(seeds, t, beams: int):
    """Return uniform random numbers in [0, 1) that depend only on the seed, the step and the beam.

    A 32-bit integer hash (two rounds of multiply and shift) computes them, because the random generators of the
    backends return different numbers.

    Args:
        seeds: (B,) int.
        t: (B, 1) int, the step of each text, or a scalar.
        beams: K.

    Returns:
        (B, K) float32.

    Example:
        >>> import keras
        >>> tuple(uniform_numbers(keras.ops.array([3, 5]), 7, beams=11).shape)
        (2, 11)

    Reference: the mixing function is `lowbias32`, https://nullprogram.com/blog/2018/07/31/.
    """
    x = ops.expand_dims(ops.cast(seeds, "uint32"), 1) * _uint32(0x9E3779B9)
    x = _mix(x + ops.cast(t, "uint32") * _uint32(0x85EBCA6B))
    x = _mix(x + ops.cast(ops.arange(1, beams + 1), "uint32") * _uint32(0xC2B2AE35))
    return ops.cast(ops.right_shift(x, _uint32(8)), "float32") / float(1 << 24)


def _mix(x):
    x = ops.bitwise_xor(x, ops.right_shift(x, _uint32(16))) * _uint32(0x7FEB352D)
    x = ops.bitwise_xor(x, ops.right_shift(x, _uint32(15))) * _uint32(0x846CA68B)
    return ops.bitwise_xor(x, ops.right_shift(x, _uint32(16)))


def _uint32(value: int):
    return ops.convert_to_tensor(value, "uint32")
