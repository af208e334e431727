"""Make the Keras inputs and the layers of a task from its config."""

from __future__ import annotations

import math
from collections.abc import Callable

import keras

from keras_attention.config import HARD, MEAN, RecurrentCaptionerConfig, RecurrentConfig, TransformerConfig
from keras_attention.layers import (
    AdditiveAttention,
    DotProductAttention,
    InputEmbedding,
    MultiHeadAttention,
    PositionEmbedding,
    RecurrentDecoder,
    RecurrentEncoder,
    RelativeAttention,
    RelativeTransformer,
    SinusoidalPositions,
    Transformer,
    TransformerBlock,
)

_GELU_SCALE = 2 * math.sqrt(2 / math.pi)


@keras.saving.register_keras_serializable("keras_attention")
def gelu_tanh(x):
    """Return x / 2 (1 + tanh(sqrt(2 / pi) (x + 0.044715 x^3))), the approximation that GPT-2 uses.

    It is computed as x sigmoid(2 sqrt(2 / pi) (x + 0.044715 x^3)), which is the same in fewer operations.
    """

    def compute(x):
        return x * keras.ops.sigmoid(x * (_GELU_SCALE + _GELU_SCALE * 0.044715 * keras.ops.square(x)))

    return _in_float32(compute, x)


@keras.saving.register_keras_serializable("keras_attention")
def gelu(x):
    """Return x Phi(x), where Phi is the normal distribution function."""
    return _in_float32(lambda x: keras.ops.gelu(x, approximate=False), x)


def _in_float32(activation: Callable, x):
    """Return an activation, computed in float32: on a CPU, its operations take twice as long in bfloat16."""
    dtype = keras.backend.result_type(x.dtype, "float32")  # float64 stays as it is
    return keras.ops.cast(activation(keras.ops.cast(x, dtype)), x.dtype)


ACTIVATIONS = {"relu": "relu", "silu": "silu", "gelu": gelu, "gelu_tanh": gelu_tanh}


def text_input_tensors(config) -> dict[str, keras.KerasTensor]:
    """Return the Keras inputs for one text: ids, mask, plus segment ids and character ids if the config has them."""
    inputs = {
        "token_ids": keras.Input((None,), dtype="int32", name="token_ids"),
        "padding_mask": keras.Input((None,), dtype="bool", name="padding_mask"),
    }
    if config.num_segments:
        inputs["segment_ids"] = keras.Input((None,), dtype="int32", name="segment_ids")
    if config.character_vocabulary_size:
        inputs["character_ids"] = keras.Input((None, None), dtype="int32", name="character_ids")
        inputs["character_mask"] = keras.Input((None, None), dtype="bool", name="character_mask")
    return inputs


def make_embedding(
    config, vocabulary_size: int, name: str, tie_weights: bool | None = None
) -> keras.layers.ReversibleEmbedding:
    """Return the token embedding, which also computes logits; with `tie_weights` from the same matrix.

    Args:
        config: the config of a task.
        vocabulary_size: the number of tokens.
        name: the name of the layer.
        tie_weights: None for `config.tie_weights`.
    """
    deviation = config.initializer_range or config.embedding_dim**-0.5  # so that the first logits are of order 1
    if config.labels and not config.initializer_range:
        deviation = 0.02  # so that the almost untrained embeddings of rare words add little noise
    return keras.layers.ReversibleEmbedding(
        vocabulary_size,
        config.embedding_dim,
        tie_weights=config.tie_weights if tie_weights is None else tie_weights,
        embeddings_initializer=keras.initializers.RandomNormal(stddev=deviation),
        reverse_dtype=keras.config.dtype_policy().compute_dtype,  # by default Keras multiplies in float32
        name=name,
    )


def make_encoder(config, over_regions: bool = False) -> keras.layers.Layer:
    """Return the encoder that a config describes: a layer embedded (B, S, E) -> outputs (B, S, M).

    Args:
        config: the config of a task.
        over_regions: make a Transformer of `config.encoder_layers` blocks for the features of image regions. They are
            not multiplied by sqrt(M), as token embeddings are.
    """
    if isinstance(config, RecurrentConfig):
        return RecurrentEncoder(
            config.units, config.num_layers, config.cell, dropout=config.dropout, return_state=True, name="encoder"
        )
    return make_transformer(config, "encoder", over_regions=over_regions)


def make_decoder(config, memory: bool = False) -> keras.layers.Layer:
    """Return the decoder that a config describes, with `start` and `step`; with `memory` it has cross-attention."""
    if isinstance(config, RecurrentConfig):
        attention = make_attention(config)
        return RecurrentDecoder(
            config.units,
            config.embedding_dim,
            config.num_layers,
            config.cell,
            attention,
            config.dropout,
            attend_first=attention is not None and isinstance(config, RecurrentCaptionerConfig),
            context_dropout=0.5 if config.grounded_attention else 0.0,
            name="decoder",
        )
    if config.positions == "relative":
        raise ValueError(
            "`positions` is 'relative', which only a PermutationLM and encoders support; expected 'sinusoidal' or "
            "'learned'."
        )
    return make_transformer(config, "decoder", causal=True, memory=memory)


def make_attention(config: RecurrentConfig) -> keras.layers.Layer | None:
    """Return the attention layer that `config.attention` names, or None."""
    if config.attention is None:
        return None
    if config.attention in ("additive", HARD):
        return AdditiveAttention(config.units, hard=config.attention == HARD, name="attention")
    return DotProductAttention(config.units, scaled=config.attention == "scaled_dot", name="attention")


def make_transformer(
    config: TransformerConfig, name: str, causal: bool = False, memory: bool = False, over_regions: bool = False
) -> Transformer | RelativeTransformer:
    """Return the stack of Transformer blocks that a config describes."""
    count = config.encoder_layers if over_regions else (memory and config.decoder_layers) or config.num_layers
    blocks = [make_block(config, i, make_self_attention(config)) for i in range(count)]
    inputs = make_input_embedding(config, over_regions)
    norm_epsilon = config.epsilon if config.norm_first and blocks else None  # of the norm after the last block
    if config.positions == "relative":
        return RelativeTransformer(blocks, inputs, norm_epsilon, name=name)
    return Transformer(blocks, inputs, causal, norm_epsilon, has_memory=memory, name=name)


def make_self_attention(config: TransformerConfig) -> MultiHeadAttention | RelativeAttention:
    """Return the self-attention of a block."""
    options = {
        "dropout": config.attention_dropout,
        "use_bias": config.attention_bias,
        "name": "attention",
    }
    num_heads, key_dim = config.num_heads, config.width // config.num_heads
    if config.positions == "relative":
        options |= {"use_segments": config.num_segments > 0, "kernel_initializer": initializer(config)}
        return RelativeAttention(num_heads, key_dim, **options)
    kernel_initializer = None if config.initializer_range is None else initializer(config)
    return MultiHeadAttention(num_heads, key_dim, kernel_initializer=kernel_initializer, **options)


def make_block(config: TransformerConfig, index: int, attention: keras.layers.Layer) -> TransformerBlock:
    """Return block `index` of a stack, with this self-attention layer."""
    return TransformerBlock(
        config.num_heads,
        config.intermediate_dim,
        ACTIVATIONS[config.activation],
        config.norm_first,
        config.dropout,
        config.epsilon,
        initializer(config),
        attention,
        name=f"block_{index}",
    )


def make_pooler(config: TransformerConfig) -> keras.layers.Dense | None:
    """Return the layer tanh(U x + b) for the output at the position that represents a text; None for their mean."""
    if config.pooling == MEAN:
        return None
    return keras.layers.Dense(config.width, "tanh", kernel_initializer=initializer(config), name="pooler")


def make_input_embedding(config: TransformerConfig, over_regions: bool = False) -> InputEmbedding:
    """Return the `InputEmbedding` of a stack; region features are normalized but not scaled."""
    scale, positions, segments, norm = 1.0, None, 0, None
    if config.positions == "sinusoidal":
        scale, positions = config.width**0.5, SinusoidalPositions(name="positions")
    elif config.positions == "learned":
        positions = PositionEmbedding(config.max_length, config.position_offset, initializer(config), name="positions")
    if config.positions != "relative":  # relative attention compares segments itself
        segments = config.num_segments
    if config.embedding_norm:
        norm = config.epsilon
    if over_regions:
        scale, norm = 1.0, config.epsilon
    return InputEmbedding(positions, scale, segments, norm, config.dropout, initializer(config), name="inputs")


def initializer(config: TransformerConfig) -> keras.initializers.Initializer:
    """Return the initializer of the weights."""
    if config.initializer_range is None:
        return keras.initializers.GlorotUniform()
    return keras.initializers.TruncatedNormal(stddev=config.initializer_range)
