"""Callbacks that write attention plots to TensorBoard."""

from __future__ import annotations

import pathlib
from collections.abc import Iterator, Sequence
from typing import Any

import keras
import numpy as np

import keras_attention as ka
from keras_attention.argument_checks import missing_method


class _TensorBoardPlots(keras.callbacks.Callback):
    """Writes plots to TensorBoard after each epoch; `plots` of a subclass yields them."""

    def __init__(self, directory: str | pathlib.Path) -> None:
        super().__init__()
        import tensorflow as tf

        self._summary = tf.summary
        self._writer = tf.summary.create_file_writer(str(directory))

    def plots(self) -> Iterator[tuple[str, Any]]:
        """Yield (name, figure)."""
        raise missing_method(self, "plots")

    def on_epoch_end(self, epoch: int, logs: dict | None = None) -> None:
        """Write the plots of the current model."""
        with self._writer.as_default():
            for name, figure in self.plots():
                figure.canvas.draw()
                self._summary.image(name, np.asarray(figure.canvas.buffer_rgba())[None, :, :, :3], step=epoch)
        self._writer.flush()


class AlignmentImages(_TensorBoardPlots):
    """Callback that writes the alignments of a few sentences to TensorBoard after each epoch.

    Args:
        texts: source texts; the model translates them.
        directory: the log directory of TensorBoard.
    """

    def __init__(self, texts: Sequence[str], directory: str | pathlib.Path) -> None:
        super().__init__(directory)
        self.texts = list(texts)

    def plots(self) -> Iterator[tuple[str, Any]]:
        """Yield the plot of each translation with attention."""
        for index, translation in enumerate(self.model.translate(self.texts)):
            if translation.attention is not None:
                yield f"alignment/{index}", ka.plot_alignment(translation)


class CaptionImages(_TensorBoardPlots):
    """Callback that writes the attention of the captions of a few images to TensorBoard after each epoch.

    Args:
        images: paths, bytes of encoded images, or arrays (height, width, 3) uint8.
        directory: the log directory of TensorBoard.
    """

    def __init__(self, images: Sequence[Any], directory: str | pathlib.Path) -> None:
        super().__init__(directory)
        self.images = list(images)

    def plots(self) -> Iterator[tuple[str, Any]]:
        """Yield the plot of each caption with attention."""
        for index, (caption, image) in enumerate(zip(self.model.caption(self.images), self.images, strict=True)):
            if caption.valid and caption.attention is not None:
                yield f"caption/{index}", ka.plot_caption(caption, image)
