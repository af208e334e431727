"""The callbacks of `--tensorboard`; one of them writes attention plots."""

from __future__ import annotations

import importlib.util
import pathlib
from collections.abc import Iterator, Sequence
from typing import Any

import keras
import numpy as np

import keras_attention as ka


class AttentionPlots(keras.callbacks.Callback):
    """Callback that writes the attention of a few translations or captions to TensorBoard after each epoch.

    Args:
        inputs: source texts; or images: paths, bytes of encoded images, or arrays (height, width, 3) uint8.
        directory: the log directory of TensorBoard.
    """

    def __init__(self, inputs: Sequence[Any], directory: str | pathlib.Path) -> None:
        super().__init__()
        import tensorflow as tf

        self.inputs, self._summary = list(inputs), tf.summary
        self._writer = tf.summary.create_file_writer(str(directory))

    def on_epoch_end(self, epoch: int, logs: dict | None = None) -> None:
        """Write the plots of the current model."""
        with self._writer.as_default():
            for name, figure in self._plots():
                figure.canvas.draw()
                self._summary.image(name, np.asarray(figure.canvas.buffer_rgba())[None, :, :, :3], step=epoch)
        self._writer.flush()

    def _plots(self) -> Iterator[tuple[str, Any]]:
        """Yield the name and the plot of each output with attention."""
        outputs = getattr(self.model, self.model.spec.predict_method)(self.inputs)
        for index, (output, value) in enumerate(zip(outputs, self.inputs, strict=True)):
            if output.attention is not None:
                is_caption = isinstance(output, ka.Caption)
                figure = ka.plot_caption(output, value) if is_caption else ka.plot_alignment(output)
                yield f"{'caption' if is_caption else 'alignment'}/{index}", figure


def tensorboard_callbacks(model: Any, examples: list, out: pathlib.Path) -> list:
    """Return the callbacks of --tensorboard, which write to OUT/tensorboard."""
    if importlib.util.find_spec("tensorboard") is None:
        raise ImportError(
            "--tensorboard needs the package tensorboard. Install it with: pip install "
            "'keras-attention-models[tensorboard]'"
        )
    directory = out / "tensorboard"
    callbacks: list = [keras.callbacks.TensorBoard(directory, write_graph=False)]
    if model.spec.predict_method in ("translate", "caption") and model.decoder.has_memory:
        inputs = [example[0] if isinstance(example, tuple) else example.image for example in examples[:3]]
        callbacks.append(AttentionPlots(inputs, directory))
    return callbacks
