"""Attention and training as pictures (Matplotlib)."""

from __future__ import annotations

import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

import keras
import numpy as np

import keras_attention as ka

WORD_START = "\u2581"  # SentencePiece's sign for a space
_SPECIAL = ("<pad>", "<s>", "</s>", "[PAD]", "[START]", "[END]", "[CLS]", "[SEP]")
_UNSPACED = "##"  # WordPiece's sign for a piece that continues a word


def merge_words(pieces: Sequence[str]) -> tuple[list[str], list[list[int]]]:
    """Merge pieces into words.

    Args:
        pieces: as a tokenizer cut them: SentencePiece, WordPiece or characters.

    Returns:
        the words, and for each the indices of its pieces. Start, end and padding stand alone,
        without their text changed.

    Example:
        >>> merge_words(["\\u2581com", "emos", "\\u2581pan", "</s>"])
        (['comemos', 'pan', '</s>'], [[0, 1], [2], [3]])
    """
    wordpiece = any(piece.startswith(_UNSPACED) for piece in pieces)
    spaced = any(WORD_START in piece for piece in pieces)
    words: list[str] = []
    groups: list[list[int]] = []
    for index, piece in enumerate(pieces):
        continues = piece.startswith(_UNSPACED) if wordpiece or not spaced else not piece.startswith(WORD_START)
        after_special = not words or words[-1] in _SPECIAL
        text = piece.removeprefix(_UNSPACED) if wordpiece else piece.replace(WORD_START, "")
        if continues and not after_special and piece not in _SPECIAL:
            words[-1] += text
            groups[-1].append(index)
        else:
            words.append(text)
            groups.append([index])
    return words, groups


def word_alignment(translation: ka.Translation) -> tuple[list[str], list[str], np.ndarray]:
    """Merge the attention of a translation from pieces to words.

    A target word attends as its pieces do on average; a source word receives what its pieces
    receive together, so that each row still sums to 1.

    Args:
        translation: from a model with attention.

    Returns:
        source words, target words, and weights (target words, source words).

    Raises:
        ValueError: the translation has no attention.
    """
    if translation.attention is None:
        raise ValueError(
            "This translation has no attention: its text was empty, or its model has none (such as rnn_seq2seq)."
        )
    sources, source_groups = merge_words(translation.source_pieces)
    targets, target_groups = merge_words(translation.target_pieces)
    columns = np.stack([translation.attention[:, group].sum(1) for group in source_groups], axis=1)
    return sources, targets, np.stack([columns[group].mean(0) for group in target_groups])


def plot_alignment(translation: ka.Translation, path: str | pathlib.Path | None = None) -> Any:
    """Draw which source words each target word looked at.

    Args:
        translation: from a model with attention.
        path: where to write the picture; its suffix is the format.

    Returns:
        the Matplotlib figure.

    Raises:
        ValueError: the translation has no attention.

    Example:
        >>> weights = np.array([[0.9, 0.1], [0.2, 0.8]], "float32")
        >>> pieces = ("\\u2581eat", "\\u2581bread"), ("\\u2581comer", "\\u2581pan")
        >>> figure = plot_alignment(ka.Translation("eat bread", "comer pan", -1.0, *pieces, weights))

    Reference: Bahdanau et al., 2015, https://arxiv.org/abs/1409.0473, figure 3.
    """
    sources, targets, weights = word_alignment(translation)
    figure, axes = _figure(1.6 + 0.55 * len(sources), 1.4 + 0.45 * len(targets))
    image = axes.imshow(weights, cmap="Blues", vmin=0, vmax=1, aspect="auto")
    axes.set_xticks(range(len(sources)), sources, rotation=45, ha="left", rotation_mode="anchor")
    axes.set_yticks(range(len(targets)), targets)
    axes.xaxis.tick_top()
    axes.tick_params(length=0)
    for (row, column), weight in np.ndenumerate(weights):
        if weight >= 0.05:
            color = "white" if weight > 0.55 else "black"
            axes.text(column, row, f"{weight:.2f}".lstrip("0"), ha="center", va="center", color=color, fontsize=8)
    figure.colorbar(image, ax=axes, label="attention weight")
    return _finish(figure, path)


def plot_history(history: Mapping[str, Sequence[float]], path: str | pathlib.Path | None = None) -> Any:
    """Draw training curves: the losses, and whatever else was measured on the validation data.

    Args:
        history: name -> one value per epoch, as `train` returns it.
        path: where to write the picture.

    Returns:
        the Matplotlib figure.

    Example:
        >>> figure = plot_history({"loss": [2.0, 1.0], "val_loss": [2.1, 1.4], "val_bleu": [3.0, 21.0]})
    """
    others = [name for name in history if name.startswith("val_") and name != "val_loss"]
    figure, axes = _figure(4.5 * (1 + len(others)), 3.4, columns=1 + len(others))
    axes = np.atleast_1d(axes)
    for name in ("loss", "val_loss"):
        if name in history:
            axes[0].plot(range(1, len(history[name]) + 1), history[name], marker=".", label=name)
    axes[0].set(xlabel="epoch", ylabel="loss (nats per token)")
    axes[0].legend()
    for place, name in zip(axes[1:], others, strict=True):
        place.plot(range(1, len(history[name]) + 1), history[name], marker=".", color="tab:green")
        place.set(xlabel="epoch", ylabel=name.replace("_", " "))
    return _finish(figure, path)


def plot_bleu_by_length(
    systems: Mapping[str, Mapping[str, tuple[int, float]]], path: str | pathlib.Path | None = None
) -> Any:
    """Draw BLEU by source length for one or more systems.

    Args:
        systems: name -> what `keras_attention.training.scores_by_length` returned.
        path: where to write the picture.

    Returns:
        the Matplotlib figure.

    Example:
        >>> figure = plot_bleu_by_length({"attention": {"1-9": (31, 38.0), "10+": (17, 36.0)}})

    Reference: Bahdanau et al., 2015, https://arxiv.org/abs/1409.0473, figure 2.
    """
    figure, axes = _figure(6.4, 4.0)
    for name, bins in systems.items():
        axes.plot(list(bins), [bleu for _, bleu in bins.values()], marker="o", label=name)
    first = next(iter(systems.values()))
    axes.set_xticks(range(len(first)), [f"{name}\n({count})" for name, (count, _) in first.items()])
    axes.set(xlabel="source length in words (sentences)", ylabel="BLEU")
    axes.set_ylim(bottom=0)
    axes.legend()
    return _finish(figure, path)


class AlignmentImages(keras.callbacks.Callback):
    """Write the alignments of a few sentences to TensorBoard after each epoch.

    Args:
        texts: what to translate.
        directory: TensorBoard's log directory.
    """

    def __init__(self, texts: Sequence[str], directory: str | pathlib.Path) -> None:
        super().__init__()
        import tensorflow as tf

        self.texts, self.tf = list(texts), tf
        self.writer = tf.summary.create_file_writer(str(directory))

    def on_epoch_end(self, epoch: int, logs: dict | None = None) -> None:
        """Do what the class says, after each epoch."""
        for index, translation in enumerate(self.model.translate(self.texts)):
            if translation.attention is None:
                continue
            figure = plot_alignment(translation)
            figure.canvas.draw()
            pixels = np.asarray(figure.canvas.buffer_rgba())[None, :, :, :3]
            with self.writer.as_default():
                self.tf.summary.image(f"alignment/{index}", pixels, step=epoch)
        self.writer.flush()


def _figure(width: float, height: float, columns: int = 1) -> tuple[Any, Any]:
    """A figure that needs no display and stays out of pyplot's state."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), dpi=120, layout="constrained")
    FigureCanvasAgg(figure)
    return figure, figure.subplots(1, columns)


def _finish(figure: Any, path: str | pathlib.Path | None) -> Any:
    if path is not None:
        figure.savefig(path)
    return figure
