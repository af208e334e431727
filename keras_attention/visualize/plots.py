"""Plots of attention and training, drawn with Matplotlib."""

from __future__ import annotations

import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from keras_attention.argument_checks import one_of
from keras_attention.outputs import Caption, Translation
from keras_attention.storage import local_path
from keras_attention.visualize.fonts import draw_with_fonts, is_right_to_left
from keras_attention.visualize.words import word_alignment, word_attention

_MAX_ASPECT = 4  # maximum height of a drawn image, in multiples of its width
_LONG = 40  # number of words from which the cells of a matrix are smaller
_MAX_LABEL = 24  # maximum number of characters of a label at an axis
_MAX_PIXELS = 60_000  # maximum width and height of a figure; Matplotlib draws less than 2^16
_MAX_SIDE = 640  # maximum number of pixels of the longer side of a drawn image

ImageLike = np.ndarray | bytes | str | pathlib.Path
PathLike = str | pathlib.Path


def _check_output(name: str, output: Any, kind: type) -> None:
    if not isinstance(output, kind):
        raise TypeError(
            f"`{name}` is a {type(output).__name__}; expected one {kind.__name__}. `plot_alignment` plots a "
            "Translation and `plot_caption` a Caption; other outputs have no plot, but may have an array `attention`."
        )


def _shortened(word: str) -> str:
    return word if len(word) <= _MAX_LABEL else f"{word[: _MAX_LABEL - 1]}…"


def plot_alignment(translation: Translation, path: PathLike | None = None) -> Any:
    """Plot the attention of a translation as a matrix: a row per target word, a column per source word.

    Args:
        translation: from a model with attention.
        path: file to write; its suffix is the format.

    Returns:
        The Matplotlib figure.

    Raises:
        ValueError: the translation has no attention.
        TypeError: `translation` is another object, such as a list or a `Classification`.

    Example:
        >>> scores = np.array([[0.9, 0.1], [0.2, 0.8]], "float32")
        >>> pieces = ("\\u2581eat", "\\u2581bread"), ("\\u2581comer", "\\u2581pan")
        >>> figure = plot_alignment(ka.Translation("eat bread", "comer pan", -1.0, *pieces, scores))

    Reference: Bahdanau et al., 2015, https://arxiv.org/abs/1409.0473, figure 3.
    """
    _check_output("translation", translation, Translation)
    sources, targets, scores = word_alignment(translation)
    long = max(len(sources), len(targets)) > _LONG
    width, height = (0.3, 0.25) if long else (0.55, 0.45)  # inches of a cell
    figure, axes = _figure(3.2 + width * len(sources), 2.2 + height * len(targets))
    matrix = axes.imshow(scores, cmap="Blues", vmin=0, vmax=1, aspect="auto")
    angle = {"rotation": 90 if long else 45, "rotation_mode": "anchor", "ha": "left"}
    axes.set_xticks(range(len(sources)), map(_shortened, sources), **angle, va="center" if long else "baseline")
    axes.set_yticks(range(len(targets)), map(_shortened, targets))
    for text in (*axes.get_xticklabels(), *axes.get_yticklabels()):
        text.set_parse_math(False)
    axes.xaxis.tick_top()
    axes.xaxis.set_label_position("top")
    axes.tick_params(length=0)
    axes.set(xlabel="source", ylabel="translation", title="Attention of each translated word")
    if is_right_to_left(sources):
        axes.invert_xaxis()
    for (row, column), score in np.ndenumerate(scores):
        if score >= 0.05 and not long:
            color = "white" if score > 0.55 else "black"
            axes.text(column, row, f"{score:.2f}".lstrip("0"), ha="center", va="center", color=color, fontsize=8)
    figure.colorbar(matrix, ax=axes, label="attention score")
    return _save(figure, path)


def plot_caption(caption: Caption, image: ImageLike, path: PathLike | None = None) -> Any:
    """Plot an image and, for each word of its caption, the image with bright attended regions.

    All panels have the same scale, from 0 to the largest score of any word.

    Args:
        caption: from a model with attention.
        image: (height, width, 3) uint8, a path, or the bytes of an encoded image.
        path: file to write; its suffix is the format.

    Returns:
        The Matplotlib figure.

    Raises:
        ValueError: the caption has no attention, or the image cannot be read.
        TypeError: `caption` is another object, such as a list.

    Example:
        >>> scores = np.array([[[0.7, 0.1], [0.1, 0.1]], [[0.1, 0.1], [0.1, 0.7]]], "float32")
        >>> caption = Caption("red ball", -1.0, ("\\u2581red", "\\u2581ball"), scores)
        >>> figure = plot_caption(caption, np.full((60, 80, 3), 200, "uint8"))

    Reference: Xu et al., 2015, https://arxiv.org/abs/1502.03044, figures 2 and 3.
    """
    from matplotlib.cm import ScalarMappable
    from matplotlib.colors import Normalize

    _check_output("caption", caption, Caption)
    words, maps = word_attention(caption)
    largest = max(float(maps.max(initial=0.0)), 1e-9)
    pixels = _pixels(image)
    columns = min(5, len(words) + 1)
    rows = -(-(len(words) + 1) // columns)
    height, width, _ = pixels.shape
    figure, axes = _figure(2.2 * columns, rows * (2.2 * min(height / width, _MAX_ASPECT) + 0.35), columns, rows)
    panels = iter(np.ravel(axes))
    next(panels).imshow(pixels)
    for panel, word, scores in zip(panels, words, maps, strict=False):
        panel.imshow(_overlay(pixels, scores / largest))
        panel.set_title(_shortened(word), fontsize=13, parse_math=False)
    for panel in np.ravel(axes):
        panel.set_axis_off()
    scale = ScalarMappable(Normalize(0, largest), "gray")
    figure.colorbar(scale, ax=axes, label="attention score", fraction=0.04)
    figure.suptitle("Attention of each word", parse_math=False)
    return _save(figure, path)


def plot_history(history: Mapping[str, Sequence[float]], path: PathLike | None = None) -> Any:
    """Plot training curves: the losses, and each validation metric.

    Args:
        history: name -> one value per epoch, from `train` or `fit`.
        path: file to write; its suffix is the format.

    Returns:
        The Matplotlib figure.

    Example:
        >>> figure = plot_history({"loss": [2.0, 1.0], "val_loss": [2.1, 1.4], "val_bleu": [3.0, 21.0]})
    """
    others = [name for name in history if name.startswith("val_") and name != "val_loss"]
    figure, axes = _figure(4.5 * (1 + len(others)), 3.4, columns=1 + len(others))
    axes = np.atleast_1d(axes)
    for name in ("loss", "val_loss"):
        if name in history:
            axes[0].plot(range(1, len(history[name]) + 1), history[name], marker=".", label=name)
    axes[0].set(xlabel="epoch", ylabel="loss (nats per token)", title="Loss")
    axes[0].legend()
    for panel, name in zip(axes[1:], others, strict=True):
        panel.plot(range(1, len(history[name]) + 1), history[name], marker=".", color="tab:green")
        title = f"Validation {name.removeprefix('val_').replace('_', ' ')}"
        panel.set(xlabel="epoch", ylabel=name.replace("_", " "), title=title)
    for panel in axes:
        panel.xaxis.get_major_locator().set_params(integer=True)
    return _save(figure, path)


def plot_bleu_by_length(systems: Mapping[str, Mapping[str, tuple[int, float]]], path: PathLike | None = None) -> Any:
    """Plot BLEU by source length, a line per system.

    Args:
        systems: name -> bins from `keras_attention.metrics.evaluate_by_length`.
        path: file to write; its suffix is the format.

    Returns:
        The Matplotlib figure.

    Example:
        >>> figure = plot_bleu_by_length({"attention": {"1-9": (31, 38.0), "10+": (17, 36.0)}})

    Reference: Bahdanau et al., 2015, https://arxiv.org/abs/1409.0473, figure 2.
    """
    figure, axes = _figure(6.4, 4.0)
    for name, bins in systems.items():
        axes.plot(list(bins), [bleu for _, bleu in bins.values()], marker="o", label=name)
    first = next(iter(systems.values()))
    axes.set_xticks(range(len(first)), [f"{name}\n({count})" for name, (count, _) in first.items()])
    axes.set(xlabel="source length in words (sentences)", ylabel="BLEU", title="BLEU by source length")
    axes.set_ylim(bottom=0)
    axes.legend()
    return _save(figure, path)


def check_figure_path(path: PathLike) -> None:
    """Check that a figure can be written to a file, before the figure is computed.

    Args:
        path: the file; its suffix is the format.

    Raises:
        ValueError: Matplotlib does not write a format with this suffix.
        FileNotFoundError: the directory does not exist.

    Example:
        >>> check_figure_path("alignment.png")
    """
    from matplotlib.backend_bases import FigureCanvasBase

    path, formats = local_path(path), FigureCanvasBase.get_supported_filetypes()
    if path.suffix[1:].lower() not in formats:
        raise ValueError(f"The suffix of {path} is not that of a figure; expected {one_of(sorted(formats))}.")
    if not path.parent.is_dir():
        raise FileNotFoundError(f"There is no directory {path.parent} to write {path.name} into; create it first.")


def _pixels(image: ImageLike) -> np.ndarray:
    """Return an image (height, width, 3) uint8 with at most `_MAX_SIDE` pixels a side."""
    from PIL import Image

    from keras_attention.data.image_files.images import decode_pixels  # imports Keras

    reduced = Image.fromarray(decode_pixels(image))
    reduced.thumbnail((_MAX_SIDE, _MAX_SIDE))
    return np.asarray(reduced)


def _overlay(pixels: np.ndarray, scores: np.ndarray) -> np.ndarray:
    """Return the image (height, width, 3), bright where `scores` (rows, columns) are 1 and dark where they are 0."""
    from PIL import Image

    height, width, _ = pixels.shape
    scaled = Image.fromarray(np.asarray(scores, "float32"))
    light = np.asarray(scaled.resize((width, height), Image.Resampling.BICUBIC)).clip(0, 1)[:, :, None]
    return (pixels * (0.2 + 0.5 * light) + 255 * 0.3 * light).astype("uint8")


def _figure(width: float, height: float, columns: int = 1, rows: int = 1) -> tuple[Any, Any]:
    """Return a figure and its axes, without a display and without pyplot's global state."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    dpi = min(120, _MAX_PIXELS / max(width, height))
    figure = Figure(figsize=(width, height), dpi=dpi, layout="constrained")
    FigureCanvasAgg(figure)
    return figure, figure.subplots(rows, columns)


def _save(figure: Any, path: PathLike | None) -> Any:
    draw_with_fonts(figure)
    if path is not None:
        figure.savefig(path)
    return figure
