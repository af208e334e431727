"""Layers from a config: the parts that tasks are put together from."""

from __future__ import annotations

import functools
from typing import Any

import keras

from keras_attention.config import HARD, RecurrentCaptionerConfig, RecurrentConfig, TransformerConfig
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


@keras.saving.register_keras_serializable("keras_attention")
def gelu_tanh(x):
    """Return x / 2 (1 + tanh(sqrt(2 / pi) (x + 0.044715 x^3))), the approximation that GPT-2 uses."""
    return keras.ops.gelu(x, approximate=True)


@keras.saving.register_keras_serializable("keras_attention")
def gelu(x):
    """Return x Phi(x), exactly."""
    return keras.ops.gelu(x, approximate=False)


ACTIVATIONS = {"relu": "relu", "silu": "silu", "gelu": gelu, "gelu_tanh": gelu_tanh}


def make_embedding(config, vocabulary_size: int, name: str) -> keras.layers.ReversibleEmbedding:
    """Return token embeddings, which also turn features back into logits: tied, unless the config says no."""
    width = config.width if isinstance(config, TransformerConfig) else config.embedding_dim
    deviation = getattr(config, "initializer_range", None) or width**-0.5  # logits then begin of order 1
    return keras.layers.ReversibleEmbedding(
        vocabulary_size,
        width,
        tie_weights=getattr(config, "tie_weights", True),
        embeddings_initializer=keras.initializers.RandomNormal(stddev=deviation),
        name=name,
    )


def make_encoder(config, name: str = "encoder", dense: bool = False) -> keras.layers.Layer:
    """Return a layer (embedded (B, S, E), mask) -> (outputs (B, S, M), states).

    `dense`: a Transformer of `config.encoder_layers` blocks reads features of any size, such as regions, in place of
    embeddings, which it would scale.
    """
    if isinstance(config, RecurrentConfig):
        return RecurrentEncoder(
            config.units, config.num_layers, config.cell, dropout=config.dropout, return_state=True, name=name
        )
    if config.positions == "relative":
        return make_relative_transformer(config, name)
    return make_transformer(config, name, dense=dense)


def make_decoder(config, memory: bool = False, name: str = "decoder") -> keras.layers.Layer:
    """Return a layer with `start` and `step` that writes a sequence, looking at a memory if there is one."""
    if isinstance(config, RecurrentConfig):
        return RecurrentDecoder(
            config.units,
            config.embedding_dim,
            config.num_layers,
            config.cell,
            make_attention(config),
            config.dropout,
            attend_first=isinstance(config, RecurrentCaptionerConfig),
            context_dropout=0.5 if getattr(config, "grounded_attention", False) else 0.0,
            name=name,
        )
    if config.positions == "relative":
        raise ValueError(
            "`positions` is 'relative', which a PermutationLM or an encoder has; expected another for a decoder."
        )
    return make_transformer(config, name, causal=True, memory=memory)


def make_attention(config: RecurrentConfig) -> keras.layers.Layer | None:
    """Return the attention layer that `config.attention` names, or None."""
    if config.attention is None:
        return None
    if config.attention in ("additive", HARD):
        return AdditiveAttention(config.units, hard=config.attention == HARD, name="attention")
    return DotProductAttention(config.units, scaled=config.attention == "scaled_dot", name="attention")


def make_transformer(
    config: TransformerConfig, name: str, causal: bool = False, memory: bool = False, dense: bool = False
) -> Transformer:
    """Return the stack of blocks that a config describes."""
    attention = functools.partial(
        MultiHeadAttention,
        config.num_heads,
        config.width // config.num_heads,
        config.attention_bias,
        config.attention_dropout,
        initializer(config),
    )
    blocks = [
        make_block(config, i, attention(name="attention"), attention(name="cross_attention") if memory else None)
        for i in range(config.encoder_layers if dense else config.num_layers)
    ]
    norm_epsilon = config.epsilon if config.norm_first and blocks else None
    return Transformer(blocks, make_inputs(config, dense), causal, norm_epsilon, name=name)


def make_relative_transformer(config: TransformerConfig, name: str) -> RelativeTransformer:
    """Return the stack of blocks that a config describes, whose attention goes by distance and segment."""
    attention = functools.partial(
        RelativeAttention,
        config.num_heads,
        config.width // config.num_heads,
        config.num_segments > 0,
        config.attention_bias,
        config.attention_dropout,
        initializer(config),
        name="attention",
    )
    blocks = [make_block(config, i, attention()) for i in range(config.num_layers)]
    norm_epsilon = config.epsilon if config.norm_first else None
    return RelativeTransformer(blocks, make_inputs(config), norm_epsilon, name=name)


def make_block(config: TransformerConfig, index: int, attention, cross_attention=None) -> TransformerBlock:
    """Return the block at `index` around its attention layers."""
    return TransformerBlock(
        attention,
        config.intermediate_dim,
        cross_attention,
        ACTIVATIONS[config.activation],
        config.norm_first,
        config.dropout,
        config.epsilon,
        initializer(config),
        name=f"block_{index}",
    )


def read_text(model: Any, inputs: dict, return_attention_scores: bool = False) -> tuple[Any, list]:
    """Return the outputs (B, S, M) of a model's encoder or decoder over one text, and its weights, a list.

    Args:
        model: has `embedding`, and `encoder` or `decoder`; `spelling` where it reads characters too.
        inputs: tensors as `text_arrays`, or a tagger's `word_arrays`, makes them.
        return_attention_scores: answer the weights of each block, (B, H, S, S).
    """
    embedded, mask = model.embedding(inputs["token_ids"]), inputs["padding_mask"]
    if "character_ids" in inputs:
        spelled = model.character_encoder(inputs["character_ids"], mask=inputs["character_mask"])
        embedded = keras.ops.concatenate([embedded, spelled], axis=-1)
    stack = model.encoder if hasattr(model, "encoder") else model.decoder
    if isinstance(stack, RecurrentEncoder):
        return stack(embedded, mask=mask)[0], []
    options = {"segment_ids": inputs["segment_ids"]} if "segment_ids" in inputs else {}
    return stack(embedded, mask=mask, return_attention_scores=return_attention_scores, **options)


def make_pooler(config: TransformerConfig) -> keras.layers.Dense:
    """Return tanh(V x + b), which turns one position into the summary of a text."""
    return keras.layers.Dense(config.width, "tanh", kernel_initializer=initializer(config), name="pooler")


def pool_sequence(template: str, values, mask):
    """Return (B, ...) of (B, S, ...): the values at the position that stands for the whole text.

    It is the start token's: the first, or, of a text that it ends, the last real one.
    """
    if template == "start_end":
        return values[:, 0]
    real = keras.ops.cast(mask, values.dtype)
    following = keras.ops.concatenate([real[:, 1:], keras.ops.zeros_like(real[:, :1])], axis=1)
    last = keras.ops.expand_dims(real * (1.0 - following), 1)  # (B, 1, S), one-hot
    return keras.ops.squeeze(keras.ops.matmul(last, values), 1)


def make_inputs(config: TransformerConfig, dense: bool = False) -> InputEmbedding:
    """Return what is added to the token embeddings, or to dense features, which are normalised and not scaled."""
    scale, positions, segments, norm = 1.0, None, 0, None
    if config.positions == "sinusoidal":
        scale, positions = config.width**0.5, SinusoidalPositions(name="positions")
    elif config.positions == "learned":
        positions = PositionEmbedding(config.max_length, config.position_offset, initializer(config), name="positions")
    if config.positions != "relative":  # relative attention compares segments itself
        segments = config.num_segments
    if config.embedding_norm:
        norm = config.epsilon
    if dense:
        scale, norm = 1.0, config.epsilon
    return InputEmbedding(positions, scale, segments, norm, config.dropout, initializer(config), name="inputs")


def initializer(config: TransformerConfig) -> keras.initializers.Initializer:
    """Return how the weights begin."""
    if config.initializer_range is None:
        return keras.initializers.GlorotUniform()
    return keras.initializers.TruncatedNormal(stddev=config.initializer_range)
