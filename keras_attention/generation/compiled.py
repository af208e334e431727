"""What a model computes of arrays, compiled once: any function, and the searches by their strategy."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator
from typing import Any

import keras
import numpy as np

from keras_attention.generation.decode import decode
from keras_attention.generation.strategies import NEVER, Strategy


@dataclasses.dataclass(frozen=True)
class Hypotheses:
    """What a search found, as numpy arrays; see `decode` for the shapes."""

    tokens: np.ndarray
    lengths: np.ndarray
    scores: np.ndarray
    attention: np.ndarray | None = None

    def of_row(self, row: int) -> Iterator[tuple[list[int], float, np.ndarray | None]]:
        """Yield (ids, score, attention (T, S)) of each answer of one input, best first."""
        for n, score in enumerate(self.scores[row]):
            if score > NEVER / 2:
                length = self.lengths[row, n]
                attention = None if self.attention is None else self.attention[row, n, :length]
                yield self.tokens[row, n, :length].tolist(), float(score), attention


class Program(keras.Model):
    """A function of a model and of a dict of arrays, nested or not, compiled by Keras on either backend.

    Args:
        model: owns the weights that the function uses.
        function: dict of tensors -> dict of tensors.
    """

    def __init__(self, model: keras.Model, function: Callable[[dict], dict]) -> None:
        super().__init__()
        self.model, self.function = model, function  # the model's weights become the program's
        self.built = True
        # XLA compiles each shape anew; TensorFlow's own graph takes any batch and length.
        self.compile(jit_compile=keras.backend.backend() != "tensorflow")

    def call(self, inputs: dict) -> dict:
        """Compute the function."""
        return self.function(inputs)

    def run(self, inputs: dict) -> dict[str, np.ndarray]:
        """Compute the function of arrays, whose axis 0 is the batch."""
        if self.predict_function is None and keras.backend.backend() == "tensorflow":
            self.make_predict_function()
            self.predict_function.get_concrete_function([(keras.tree.map_structure(_of_any_size, inputs),)])
        return {name: np.asarray(value) for name, value in self.predict_on_batch(inputs).items()}


def _of_any_size(array: np.ndarray) -> Any:
    """The TensorFlow type of arrays like this one: of any batch, and, where they hold tokens, of any length."""
    import tensorflow as tf

    tokens = not np.issubdtype(array.dtype, np.floating)
    return tf.TensorSpec([None] * array.ndim if tokens else [None, *array.shape[1:]], array.dtype)


class SearchCache:
    """The compiled searches of one model, by strategy.

    Args:
        model: has `start` and `step`.
    """

    def __init__(self, model: keras.Model) -> None:
        self.model = model
        self.searches: dict[tuple, Program] = {}

    def run(
        self,
        strategy: Strategy,
        inputs: dict[str, np.ndarray],
        *,
        limits: np.ndarray,
        prefix: tuple[np.ndarray, np.ndarray],
        seeds: np.ndarray,
        start_ids: np.ndarray,
        end_id: int,
    ) -> Hypotheses:
        """Run the search; see `decode` for the arguments. `prefix` may be shorter than the limits.

        Returns:
            `Hypotheses`, as numpy arrays.
        """
        steps = -(-int(max(limits.max(), prefix[0].shape[1])) // 16) * 16
        room = [(0, 0), (0, steps - prefix[0].shape[1])]
        options = {
            "limits": limits.astype("int32"),
            "prefix_ids": np.pad(prefix[0], room).astype("int32"),
            "prefix_mask": np.pad(prefix[1], room),
            "seeds": np.asarray(seeds, "int32"),
            "start_ids": np.asarray(start_ids, "int32"),
        }
        strategy = dataclasses.replace(strategy, seed=0)  # the seed is an input
        # LoRA and quantisation put other weights into a model, which a traced program would not see.
        key = (strategy, end_id, tuple(map(id, self.model.weights)))
        if key not in self.searches:
            self.searches[key] = Program(
                self.model,
                lambda given: decode(self.model, given["inputs"], strategy, end_id=end_id, **given["options"]),
            )
        return Hypotheses(**self.searches[key].run({"inputs": inputs, "options": options}))
