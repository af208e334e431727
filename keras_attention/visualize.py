"""Attention and training as pictures (Matplotlib)."""

from __future__ import annotations

import io
import pathlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import keras
import numpy as np

import keras_attention as ka

WORD_START = "\u2581"  # SentencePiece's sign for a space
_TALLEST = 4  # no picture is drawn higher than this often its width
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
        after_special = not words or words[-1] in ka.data.NOT_TEXT
        text = piece.removeprefix(_UNSPACED) if wordpiece else piece.replace(WORD_START, "")
        if continues and not after_special and piece not in ka.data.NOT_TEXT:
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
    axes.set_xticks(range(len(sources)), sources, rotation=45, ha="left", rotation_mode="anchor", parse_math=False)
    axes.set_yticks(range(len(targets)), targets, parse_math=False)
    axes.xaxis.tick_top()
    axes.tick_params(length=0)
    for (row, column), weight in np.ndenumerate(weights):
        if weight >= 0.05:
            color = "white" if weight > 0.55 else "black"
            axes.text(column, row, f"{weight:.2f}".lstrip("0"), ha="center", va="center", color=color, fontsize=8)
    figure.colorbar(image, ax=axes, label="attention weight")
    return _finish(figure, path)


def word_maps(caption: ka.Caption) -> tuple[list[str], np.ndarray]:
    """Merge the attention of a caption from pieces to words.

    Args:
        caption: from a model with attention.

    Returns:
        the words, and where each looked: (words, rows, columns), the mean of its pieces. Start, end and padding
        are left out.

    Raises:
        ValueError: the caption has no attention.
    """
    if caption.attention is None:
        raise ValueError(
            "This caption has no attention: its picture could not be read, or its model has none (such as "
            "show_and_tell). Expected a caption from a model that looks at regions, such as show_attend_and_tell."
        )
    words, groups = merge_words(caption.pieces)
    kept = [index for index, word in enumerate(words) if word and word not in ka.data.NOT_TEXT]
    maps = [caption.attention[groups[index]].mean(0) for index in kept]
    return [words[index] for index in kept], np.reshape(maps, (len(kept), *caption.attention.shape[1:]))


def plot_caption(
    caption: ka.Caption, image: np.ndarray | bytes | str | pathlib.Path, path: str | pathlib.Path | None = None
) -> Any:
    """Draw where each word of a caption looked: the picture, then the picture lit by each word's attention.

    Each panel has a scale of its own: the region with the largest weight is the brightest.

    Args:
        caption: from a model with attention.
        image: the picture as (height, width, 3) uint8, or a file of it, or the bytes of such a file.
        path: where to write the figure; its suffix is the format.

    Returns:
        the Matplotlib figure.

    Raises:
        ValueError: the caption has no attention, or the picture cannot be read.

    Example:
        >>> weights = np.array([[[0.7, 0.1], [0.1, 0.1]], [[0.1, 0.1], [0.1, 0.7]]], "float32")
        >>> caption = ka.Caption("red ball", -1.0, ("\\u2581red", "\\u2581ball"), weights)
        >>> figure = plot_caption(caption, np.full((60, 80, 3), 200, "uint8"))

    Reference: Xu et al., 2015, https://arxiv.org/abs/1502.03044, figures 2 and 3.
    """
    words, maps = word_maps(caption)
    pixels = _pixels(image)
    columns = min(5, len(words) + 1)
    rows = -(-(len(words) + 1) // columns)
    height, width, _ = pixels.shape
    figure, axes = _figure(2.2 * columns, rows * (2.2 * min(height / width, _TALLEST) + 0.35), columns, rows)
    places = iter(np.ravel(axes))
    next(places).imshow(pixels)
    for place, word, weights in zip(places, words, maps, strict=False):
        place.imshow(_lit(pixels, weights))
        place.set_title(word, fontsize=13, parse_math=False)
    for place in np.ravel(axes):
        place.set_axis_off()
    return _finish(figure, path)


def plot_salient_words(
    caption: ka.Caption, image: np.ndarray | bytes | str | pathlib.Path, path: str | pathlib.Path | None = None
) -> Any:
    """Draw a picture with the word of its caption that looked at each region most.

    A word stands where its weight is at least half as large again as its mean weight; the more it stands out, the
    larger. A fine grid is drawn as one of at most eight rows and columns.

    Args:
        caption: from a model with attention.
        image: the picture as (height, width, 3) uint8, or a file of it, or the bytes of such a file.
        path: where to write the figure; its suffix is the format.

    Returns:
        the Matplotlib figure.

    Raises:
        ValueError: the caption has no attention, or the picture cannot be read.

    Example:
        >>> weights = np.array([[[0.7, 0.1], [0.1, 0.1]], [[0.1, 0.1], [0.1, 0.7]]], "float32")
        >>> caption = ka.Caption("red ball", -1.0, ("\\u2581red", "\\u2581ball"), weights)
        >>> figure = plot_salient_words(caption, np.full((60, 80, 3), 200, "uint8"))
    """
    words, maps = word_maps(caption)
    pixels = _pixels(image)
    height, width, _ = pixels.shape
    rows, columns = (size // -(-size // 8) for size in maps.shape[1:])
    figure, axes = _figure(8, 8 * min(height / width, _TALLEST) + 0.4)
    axes.imshow(pixels // 2 + 64, extent=(0, columns, rows, 0), aspect="auto", interpolation="bilinear")
    axes.set_title(caption.text, fontsize=13, parse_math=False)
    axes.set_xticks(range(columns + 1), [])
    axes.set_yticks(range(rows + 1), [])
    axes.tick_params(length=0)
    axes.grid(color="white", alpha=0.35, linewidth=0.6)
    for word, row, column, weight in _salient(words, maps, rows, columns):
        _write_word(axes, word, row, column, weight, 8 * 72 / columns)
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
    for place in axes:
        place.xaxis.get_major_locator().set_params(integer=True)
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
            if translation.attention is not None:
                with self.writer.as_default():
                    self.tf.summary.image(f"alignment/{index}", _drawn(plot_alignment(translation)), step=epoch)
        self.writer.flush()


class CaptionImages(keras.callbacks.Callback):
    """Write where the captions of a few pictures looked to TensorBoard after each epoch.

    Args:
        pictures: what to caption: files, their bytes, or (height, width, 3) uint8 arrays.
        directory: TensorBoard's log directory.
    """

    def __init__(self, pictures: Sequence[np.ndarray | bytes | str | pathlib.Path], directory: str | pathlib.Path):
        super().__init__()
        import tensorflow as tf

        self.pictures, self.tf = list(pictures), tf
        self.writer = tf.summary.create_file_writer(str(directory))

    def on_epoch_end(self, epoch: int, logs: dict | None = None) -> None:
        """Do what the class says, after each epoch."""
        captions = self.model.caption(self.pictures)
        for index, (caption, picture) in enumerate(zip(captions, self.pictures, strict=True)):
            if caption.valid and caption.attention is not None:
                with self.writer.as_default():
                    self.tf.summary.image(f"caption/{index}", _drawn(plot_caption(caption, picture)), step=epoch)
        self.writer.flush()


def _pixels(image: np.ndarray | bytes | str | pathlib.Path) -> np.ndarray:
    """A picture as people hold it, (height, width, 3) uint8, with its longer side at most 640 pixels."""
    from PIL import Image, ImageOps

    if isinstance(image, np.ndarray):
        if image.dtype != np.uint8 or image.ndim not in (2, 3) or image.shape[2:] not in ((), (1,), (3,), (4,)):
            raise ValueError(
                f"The picture is {image.dtype} of shape {image.shape}; expected uint8 of shape (height, width, 3)."
            )
        picture = Image.fromarray(image[:, :, 0] if image.shape[2:] == (1,) else image).convert("RGB")
    else:
        try:
            with Image.open(io.BytesIO(image) if isinstance(image, bytes) else image) as opened:
                upright = ImageOps.exif_transpose(opened)
                if upright.mode.startswith("I"):  # grey of 16 bits, of which Pillow would make white
                    upright = Image.fromarray((np.asarray(upright) >> 8).astype("uint8"))
                picture = upright.convert("RGB")
        except FileNotFoundError:
            raise
        except (OSError, SyntaxError) as error:
            raise ValueError(f"This is not a whole picture ({error}); expected a JPEG, PNG, GIF or BMP.") from error
    picture.thumbnail((640, 640))
    return np.asarray(picture)


def _resized(weights: np.ndarray, rows: int, columns: int, smooth: bool) -> np.ndarray:
    """A map (r, c) as (rows, columns): smooth, or the mean of each region."""
    from PIL import Image

    kind = Image.Resampling.BICUBIC if smooth else Image.Resampling.BOX
    return np.asarray(Image.fromarray(np.asarray(weights, "float32")).resize((columns, rows), kind))


def _lit(pixels: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """The picture, dark where nobody looks and bright where `weights` is largest."""
    light = _resized(weights / max(weights.max(), 1e-9), *pixels.shape[:2], smooth=True).clip(0, 1)[:, :, None]
    return (pixels * (0.2 + 0.5 * light) + 255 * 0.3 * light).astype("uint8")


def _salient(words: Sequence[str], maps: np.ndarray, rows: int, columns: int) -> Iterator[tuple[str, int, int, float]]:
    """The word, row, column and relative weight of each region where a word stands out."""
    if not words:
        return
    coarse = np.stack([_resized(weights, rows, columns, smooth=False) for weights in maps])
    relative = coarse / np.maximum(coarse.mean((1, 2), keepdims=True), 1e-9)
    for (row, column), weight in np.ndenumerate(relative.max(0)):
        if weight >= 1.5:
            yield words[relative[:, row, column].argmax()], row, column, float(weight)


def _write_word(axes: Any, word: str, row: int, column: int, weight: float, points: float) -> None:
    """Write a word into its region, which is `points` wide; larger and clearer with more weight."""
    from matplotlib.patheffects import withStroke

    strength = min(1.0, (weight - 1) / 4)
    size = min(9 + 9 * strength, points / (0.62 * len(word)))
    style = {"ha": "center", "va": "center", "color": "white", "fontsize": size, "parse_math": False}
    text = axes.text(column + 0.5, row + 0.5, word, **style)
    text.set_alpha(0.6 + 0.4 * strength)
    text.set_path_effects([withStroke(linewidth=2, foreground="black")])


def _drawn(figure: Any) -> np.ndarray:
    """The pixels of a figure, (1, height, width, 3) uint8."""
    figure.canvas.draw()
    return np.asarray(figure.canvas.buffer_rgba())[None, :, :, :3]


def _figure(width: float, height: float, columns: int = 1, rows: int = 1) -> tuple[Any, Any]:
    """A figure that needs no display and stays out of pyplot's state."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), dpi=120, layout="constrained")
    FigureCanvasAgg(figure)
    return figure, figure.subplots(rows, columns)


def check_figure_path(path: str | pathlib.Path) -> None:
    """Say in time that no figure can be written there.

    Raises:
        ValueError: the suffix names no format that Matplotlib writes.
        FileNotFoundError: there is no such folder.
    """
    from matplotlib.backend_bases import FigureCanvasBase

    path, formats = pathlib.Path(path), FigureCanvasBase.get_supported_filetypes()
    if path.suffix[1:].lower() not in formats:
        raise ValueError(f"{path} ends in no format of a figure; expected one of {', '.join(sorted(formats))}.")
    if not path.parent.is_dir():
        raise FileNotFoundError(f"There is no folder {path.parent} to write {path.name} into; make it first.")


def _finish(figure: Any, path: str | pathlib.Path | None) -> Any:
    if path is not None:
        figure.savefig(path)
    return figure
