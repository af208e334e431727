"""A search compiled once: the model, a strategy, and the arrays that come out."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator

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


class Search(keras.Model):
    """One model under one strategy, compiled by Keras on either backend."""

    def __init__(self, model: keras.Model, strategy: Strategy, end_id: int) -> None:
        super().__init__()
        self.model, self.strategy, self.end_id = model, strategy, end_id
        self.built = True
        # XLA compiles each shape anew; TensorFlow's own graph takes any batch and length.
        self.compile(jit_compile=keras.backend.backend() != "tensorflow")

    def call(self, arguments: dict) -> dict:
        """Compute the output; the class describes arguments and shapes."""
        return decode(self.model, arguments["inputs"], self.strategy, end_id=self.end_id, **arguments["options"])


class SearchCache:
    """The compiled searches of one model, by strategy.

    Args:
        model: has `start` and `step`.
    """

    def __init__(self, model: keras.Model) -> None:
        self.model = model
        self.searches: dict[tuple, Search] = {}

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
            self.searches[key] = Search(self.model, strategy, end_id)
        found = self.searches[key].predict_on_batch({"inputs": inputs, "options": options})
        return Hypotheses(**{name: np.asarray(value) for name, value in found.items()})
