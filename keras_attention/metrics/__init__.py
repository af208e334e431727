"""Scores of texts, captions and tokens."""

from keras_attention.metrics.captions import CaptionReward, CaptionScores, score_captions
from keras_attention.metrics.text import TextScores, score_texts, scores_by_length
from keras_attention.metrics.tokens import MaskedAccuracy, Perplexity

__all__ = [
    "CaptionReward",
    "CaptionScores",
    "MaskedAccuracy",
    "Perplexity",
    "TextScores",
    "score_captions",
    "score_texts",
    "scores_by_length",
]
