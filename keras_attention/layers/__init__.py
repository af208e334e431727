"""Parts of networks: plain arguments in, `keras.ops` inside, TensorFlow and JAX alike."""

from keras_attention.layers.attention import (
    AdditiveAttention,
    DotProductAttention,
    additive_scores,
    attend,
    dot_scores,
    masked_softmax,
)
from keras_attention.layers.recurrent import RecurrentDecoder, RecurrentEncoder

__all__ = [
    "AdditiveAttention",
    "DotProductAttention",
    "RecurrentDecoder",
    "RecurrentEncoder",
    "additive_scores",
    "attend",
    "dot_scores",
    "masked_softmax",
]
