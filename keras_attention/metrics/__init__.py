"""Scores of texts, captions, tokens and entities."""

from keras_attention.metrics.captions import CaptionReward, CaptionScores, score_captions
from keras_attention.metrics.entities import EntityScores, score_entities
from keras_attention.metrics.text import TextScores, score_texts, scores_by_length
from keras_attention.metrics.tokens import MaskedAccuracy, Perplexity

__all__ = [
    "CaptionReward",
    "CaptionScores",
    "EntityScores",
    "MaskedAccuracy",
    "Perplexity",
    "TextScores",
    "score_captions",
    "score_entities",
    "score_texts",
    "scores_by_length",
]
