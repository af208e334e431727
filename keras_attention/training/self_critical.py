"""Self-critical training: a captioner learns from its own captions, each weighed by how much better it is."""

from __future__ import annotations

import itertools
import pathlib
from collections.abc import Iterator, Sequence
from typing import Any

import keras
import numpy as np

from keras_attention.data.batches import shift_right, width_step
from keras_attention.data.caption_batches import drop_unreadable, encode_images
from keras_attention.data.captions import CaptionedPicture
from keras_attention.data.tokenizers import decode_ids, pad_ids, special_ids
from keras_attention.metrics.captions import CaptionReward

_AHEAD = 2  # on JAX Keras asks for a batch while the one before it is still to be learned


class SelfCriticalBatches(keras.utils.PyDataset):
    """Captions that the model draws itself, weighed by their reward over that of its others of the same picture.

    Of each picture it draws K captions w_k, of reward r_k: CIDEr and BLEU against what people wrote, by `reward`, a
    `CaptionReward`, which may be set to another (the paper has CIDEr alone). With the weights

        a_k = r_k - sum_{j != k} r_j / (K - 1)

    the gradient of `MaskedCrossEntropy`, -sum_k a_k grad log p(w_k | picture), follows that of the expected reward.
    A batch is drawn just before it is learned, as the model then is; each epoch has other pictures. It is for a model
    that writes captions already, at a low learning rate, without label smoothing, and with many pictures in a batch, as
    the gradient is noisy. Dropout is turned off in the model: what the whole network draws, the whole network learns.

    Args:
        examples: from `read_captions`.
        captioner: of soft attention, or none.
        max_tokens: the most caption tokens in a batch, padding included.
        samples: K.
        pictures: the most pictures in an epoch.
        seed: decides which, and what is drawn.
        cache: see `caption_batches`.
        augment: see `caption_batches`.
        flip: see `caption_batches`.

    Returns:
        batches like those of `caption_batches`; the weights (B, T) are a_k, and 0 at padding. `keras_attention.train`
        takes them as they are; for Keras' own, `fit(batches.for_fit(), shuffle=False, callbacks=[batches.callback])`.

    Raises:
        ImportError: pycocoevalcap is not installed.
        ValueError: fewer than two samples, no pictures, or a captioner of hard attention, which learns where to look
            from how likely a caption is, good or not. And see `caption_batches`.

    Example:
        >>> batches = SelfCriticalBatches(examples, captioner, cache="features")  # doctest: +SKIP
        >>> plan = ka.TrainingPlan(epochs=8, learning_rate=1e-4, label_smoothing=0.0)  # doctest: +SKIP
        >>> ka.train(captioner, batches, "runs/better", plan, measure=measure)  # doctest: +SKIP

    Reference: Rennie et al., 2017, https://arxiv.org/abs/1612.00563; the other samples as the baseline: Luo, 2020,
    https://arxiv.org/abs/2003.09971.
    """

    def __init__(
        self,
        examples: Sequence[CaptionedPicture],
        captioner: Any,
        max_tokens: int = 4096,
        samples: int = 5,
        pictures: int = 1000,
        seed: int = 0,
        cache: str | pathlib.Path | None = None,
        augment: bool = False,
        flip: bool = False,
    ) -> None:
        super().__init__()
        if samples < 2:
            raise ValueError(f"`samples` is {samples}; expected at least 2: each is weighed against the others.")
        if pictures < 1:
            raise ValueError(f"`pictures` is {pictures}; expected a positive integer.")
        if captioner.noise is not None:
            raise ValueError(
                "The captioner has hard attention, which learns where to look from how likely a caption is, good or "
                "not. Self-critical training needs soft attention, or none."
            )
        self.captioner, self.samples, self.seed, self.epoch = captioner, samples, seed, 0
        self.seen = encode_images(examples, captioner, cache, augment, flip)
        self.usable = np.flatnonzero(drop_unreadable(examples, self.seen.valid))
        self.reward = CaptionReward([example.captions for example in examples])
        pictures = min(pictures, len(self.usable))
        self.at_once = min(max(1, max_tokens // (samples * captioner.config.max_length)), pictures)
        self.pictures = pictures // self.at_once * self.at_once
        self.drawn: dict[int, tuple[list[list[int]], np.ndarray]] = {}
        self.rewards: dict[int, float] = {}
        self.rewarded = 0  # the epoch that they are of
        self.in_epoch = False
        self.callback = _DrawAhead(self)
        for layer in captioner._flatten_layers():
            if isinstance(layer, keras.layers.Dropout):
                layer.rate = 0.0

    def __len__(self) -> int:
        return self.pictures // self.at_once

    def __getitem__(self, index: int) -> tuple:
        if self.in_epoch and index not in self.drawn:
            raise RuntimeError(
                "These batches are drawn as training goes, in their order: call fit(batches.for_fit(), shuffle=False, "
                "callbacks=[batches.callback])."
            )
        self.draw(index)
        special, (drawn, weights) = special_ids(self.captioner.tokenizer), self.drawn[index]
        # Keras takes the shapes of the first two batches for those of all; a width of its own says that widths vary.
        widest = index == min(1, len(self) - 1)
        multiple = self.captioner.config.max_length + 1 if widest else width_step()
        labels, real = pad_ids(drawn, special.pad, multiple)
        inputs = {**self._see(index), "target_ids": shift_right(labels, special.start)}
        return inputs, labels, (real * weights[:, None]).astype("float32")

    def for_fit(self) -> Any:
        """Return what `fit` takes: on TensorFlow a `tf.data.Dataset`, which asks for a batch when it is to be learned.

        Keras would ask for those of a `PyDataset` in another thread, while the weights change.
        """
        if keras.backend.backend() != "tensorflow":
            return self
        import tensorflow as tf

        def batches() -> Iterator[tuple]:
            for index in range(len(self)):
                self.draw(index)
                yield self[index]

        def of_any_size(array: np.ndarray) -> tf.TensorSpec:  # captions by tokens, or pictures
            return tf.TensorSpec([None, None] if array.ndim == 2 else [None, *array.shape[1:]], array.dtype)

        dataset = tf.data.Dataset.from_generator(
            batches, output_signature=keras.tree.map_structure(of_any_size, self[0])
        )
        options = tf.data.Options()
        options.autotune.enabled = options.experimental_optimization.inject_prefetch = False
        cardinality = tf.data.experimental.assert_cardinality(len(self))
        return dataset.apply(cardinality).with_options(options)

    def draw(self, index: int) -> None:
        """Draw the captions of a batch, with the model as it is, unless that is done."""
        if index in self.drawn or index >= len(self):
            return
        seed = self.seed + (self.epoch * len(self) + index) * self.at_once
        captions = self.captioner.draw(self._see(index), self.samples, seed)
        drawn = list(itertools.chain(*captions))  # all of the first picture, then all of the next
        texts = [decode_ids(self.captioner.tokenizer, ids) for ids in drawn]
        rewards = self.reward(texts, np.repeat(self._rows()[index], self.samples)).reshape(-1, self.samples)
        others = (rewards.sum(1, keepdims=True) - rewards) / (self.samples - 1)
        self.drawn[index] = drawn, (rewards - others).ravel()
        if self.rewarded != self.epoch:
            self.rewarded, self.rewards = self.epoch, {}
        self.rewards[index] = rewards.mean()

    @property
    def mean_reward(self) -> float:
        """The mean reward of what was drawn in the last epoch."""
        return float(np.mean(list(self.rewards.values()))) if self.rewards else 0.0

    def on_epoch_begin(self) -> None:
        """Draw what is asked for before the first update."""
        self.in_epoch = True
        for index in range(_AHEAD if keras.backend.backend() == "jax" else 1):
            self.draw(index)

    def on_epoch_end(self) -> None:
        """Forget the captions of the epoch."""
        self.start_epoch(self.epoch + 1)

    def start_epoch(self, epoch: int) -> None:
        """Make the given epoch, counted from 0, the next."""
        self.epoch, self.drawn, self.in_epoch = epoch, {}, False

    def _rows(self) -> np.ndarray:
        """Which pictures the epoch has, (batches, pictures)."""
        chance = np.random.default_rng([self.seed, self.epoch])
        return chance.choice(self.usable, self.pictures, replace=False).reshape(len(self), -1)

    def _see(self, index: int) -> dict[str, np.ndarray]:
        return self.seen.inputs(list(self._rows()[index]), np.random.default_rng([self.seed, self.epoch, index]))


class _DrawAhead(keras.callbacks.Callback):
    """Draws a batch between two updates, where JAX has the weights; on TensorFlow it tells the epochs."""

    def __init__(self, batches: SelfCriticalBatches) -> None:
        super().__init__()
        self.batches = batches

    def on_epoch_begin(self, epoch: int, logs: dict | None = None) -> None:
        if keras.backend.backend() == "tensorflow":  # Keras tells them to a PyDataset only
            self.batches.on_epoch_begin()

    def on_epoch_end(self, epoch: int, logs: dict | None = None) -> None:
        if keras.backend.backend() == "tensorflow":
            self.batches.on_epoch_end()

    def on_train_batch_end(self, batch: int, logs: dict | None = None) -> None:
        if keras.backend.backend() == "jax":
            self.model.jax_state_sync()
            self.batches.draw(batch + _AHEAD)
