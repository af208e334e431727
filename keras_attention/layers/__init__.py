"""Layers for any Keras model: attention, Transformer blocks, recurrent networks, image encoders, task heads."""

from keras_attention.keras_support import backend  # noqa: F401  (before any other import of Keras)
from keras_attention.layers.attention import (
    AdditiveAttention,
    DotProductAttention,
    additive_logits,
    dot_logits,
    hard_attend,
    masked_softmax,
    soft_attend,
)
from keras_attention.layers.attention_losses import AttentionLoss, GumbelNoise
from keras_attention.layers.embeddings import InputEmbedding, MaskEmbedding
from keras_attention.layers.image_encoder import ImageEncoder
from keras_attention.layers.masks import causal_mask, combine_masks, scores_mask
from keras_attention.layers.multihead import MultiHeadAttention
from keras_attention.layers.ngrams import BagOfNGrams
from keras_attention.layers.positions import PositionEmbedding, SinusoidalPositions, sinusoidal_positions
from keras_attention.layers.recurrent.decoder import RecurrentDecoder
from keras_attention.layers.recurrent.encoder import CharacterEncoder, RecurrentEncoder
from keras_attention.layers.regions import SelfAttention2D, ShiftRegions
from keras_attention.layers.relative import RelativeAttention
from keras_attention.layers.task_heads import MaskedLMHead, OutputBias
from keras_attention.layers.transformer import Transformer
from keras_attention.layers.transformer_block import TransformerBlock
from keras_attention.layers.two_stream import RelativeTransformer
from keras_attention.layers.word_features import AffixEncoder

__all__ = [
    "AdditiveAttention",
    "AffixEncoder",
    "AttentionLoss",
    "BagOfNGrams",
    "DotProductAttention",
    "GumbelNoise",
    "ImageEncoder",
    "InputEmbedding",
    "PositionEmbedding",
    "MaskEmbedding",
    "MaskedLMHead",
    "MultiHeadAttention",
    "OutputBias",
    "RecurrentDecoder",
    "RecurrentEncoder",
    "RelativeAttention",
    "RelativeTransformer",
    "SelfAttention2D",
    "ShiftRegions",
    "SinusoidalPositions",
    "Transformer",
    "TransformerBlock",
    "CharacterEncoder",
    "additive_logits",
    "causal_mask",
    "hard_attend",
    "combine_masks",
    "dot_logits",
    "masked_softmax",
    "scores_mask",
    "sinusoidal_positions",
    "soft_attend",
]
