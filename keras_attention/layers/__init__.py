"""Parts of networks: plain arguments in, `keras.ops` inside, TensorFlow and JAX alike."""

from keras_attention.layers.attention import (
    AdditiveAttention,
    DotProductAttention,
    additive_scores,
    attend,
    choose,
    dot_scores,
    masked_softmax,
)
from keras_attention.layers.attention_losses import AttentionLoss, GumbelNoise, doubly_stochastic
from keras_attention.layers.embeddings import InputEmbedding, logits_of_step
from keras_attention.layers.heads import MaskedLanguageHead, OutputBias
from keras_attention.layers.masks import causal_mask, combine_masks
from keras_attention.layers.multihead import MultiHeadAttention
from keras_attention.layers.positions import LearnedPositions, SinusoidalPositions, sinusoidal_positions
from keras_attention.layers.recurrent import RecurrentDecoder, RecurrentEncoder, WordSpelling
from keras_attention.layers.relative import RelativeAttention, relative_encodings, relative_shift
from keras_attention.layers.streams import MaskEmbedding, RelativeTransformer, keep_last
from keras_attention.layers.transformer import Transformer, TransformerBlock
from keras_attention.layers.vision import ImageEncoder, SelfAttention2D, ShiftRegions

__all__ = [
    "AdditiveAttention",
    "AttentionLoss",
    "DotProductAttention",
    "GumbelNoise",
    "ImageEncoder",
    "InputEmbedding",
    "LearnedPositions",
    "MaskEmbedding",
    "MaskedLanguageHead",
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
    "WordSpelling",
    "additive_scores",
    "attend",
    "causal_mask",
    "choose",
    "combine_masks",
    "dot_scores",
    "doubly_stochastic",
    "keep_last",
    "logits_of_step",
    "masked_softmax",
    "relative_encodings",
    "relative_shift",
    "sinusoidal_positions",
]
