"""Metrics of texts, captions, tokens and entities."""

from keras_attention.metrics.captions import CaptionMetrics, CaptionReward, evaluate_captions
from keras_attention.metrics.entities import EntityMetrics, evaluate_entities
from keras_attention.metrics.text import TextMetrics, evaluate_by_length, evaluate_texts
from keras_attention.metrics.tokens import MaskedAccuracy, Perplexity

__all__ = [
    "CaptionReward",
    "CaptionMetrics",
    "EntityMetrics",
    "MaskedAccuracy",
    "Perplexity",
    "TextMetrics",
    "evaluate_captions",
    "evaluate_entities",
    "evaluate_texts",
    "evaluate_by_length",
]
