"""Check the backend of Keras, and set `floatx` to float32."""

from __future__ import annotations

import warnings

import keras

BACKENDS = ("tensorflow", "jax")


def check_backend(name: str) -> None:
    """Raise an error if this library does not support a backend of Keras.

    Raises:
        ImportError: the message says how to choose another backend.

    Example:
        >>> check_backend("jax")
    """
    if name not in BACKENDS:
        raise ImportError(
            f"keras_attention does not support the backend {name!r} of Keras; expected {' or '.join(BACKENDS)}. Set "
            "KERAS_BACKEND=tensorflow (or `backend` in keras.json) before Keras is imported."
        )


def use_float32() -> None:
    """Replace another `floatx` of Keras by float32.

    With float16, Keras counts in int16, and losses, metrics and optimizers compute in half precision. A user of half
    precision wants a dtype policy, such as `mixed_float16`, instead.
    """
    floatx = keras.config.floatx()
    if floatx == "float32":
        return
    warnings.warn(
        f"keras_attention replaces floatx {floatx!r} of keras.json by 'float32'. For half precision, use "
        "keras.config.set_dtype_policy('mixed_float16'), or --mixed-precision on the command line.",
        stacklevel=2,
    )
    if keras.config.dtype_policy().name == floatx:
        keras.config.set_dtype_policy("float32")
    keras.config.set_floatx("float32")


check_backend(keras.config.backend())
use_float32()
