"""Plots of attention, of training and of BLEU by length."""

from keras_attention.visualize.plots import (
    check_figure_path,
    plot_alignment,
    plot_bleu_by_length,
    plot_caption,
    plot_history,
)
from keras_attention.visualize.words import merge_words, word_alignment, word_attention

__all__ = [
    "check_figure_path",
    "merge_words",
    "plot_alignment",
    "plot_bleu_by_length",
    "plot_caption",
    "plot_history",
    "word_alignment",
    "word_attention",
]
