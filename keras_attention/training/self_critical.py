"""Self-critical training: a captioner is trained on captions that it samples, weighted by their rewards."""

from __future__ import annotations

import functools
import itertools
from collections.abc import Iterator, Sequence
from typing import Any

import keras
import numpy as np

from keras_attention.argument_checks import require_positive_integer
from keras_attention.data.batches import digest, length_multiple
from keras_attention.data.batching.caption_batches import image_source, warn_unreadable
from keras_attention.data.reading.captions import CaptionedImage
from keras_attention.data.tokenization.tokenizers import decode_ids
from keras_attention.keras_support.keras_patches import all_layers
from keras_attention.metrics.captions import CaptionReward

_NUM_SAMPLED_AHEAD = 2  # on JAX, Keras reads a batch before the update on the previous one


class SelfCriticalBatches(keras.utils.PyDataset):
    """Batches of sampled captions; the weight of a caption is its advantage over the other captions of its image.

    For each image the model samples n captions w_i with rewards r_i. The reward is `CaptionReward`, the CIDEr and BLEU
    of a caption; set the attribute `reward` to use another function. With the weights

        a_i = r_i - sum_{j != i} r_j / (n - 1)

    the gradient of `MaskedCrossEntropy`, -sum_k a_k grad log p(w_k | image), is an estimate of the gradient of the
    negative expected reward. A batch is sampled just before its update; each epoch has different images.

    Start from a trained captioner, with a low learning rate and without label smoothing. Use large batches, because the
    gradient is noisy. The dropout of the model is set to 0, because sampling and training need the same probabilities.

    Args:
        examples: from `read_captions`.
        captioner: a `Captioner` with soft attention or without attention.
        max_tokens: maximum number of caption tokens in a batch, including padding.
        captions_per_image: n.
        images_per_epoch: maximum number of images in an epoch.
        seed: seed of the choice of images and of the sampling.
        **image_options: the arguments `region_cache`, `augment` and `flip` of `caption_batches`.

    Returns:
        Batches like those of `caption_batches`; the weights (B, T) are a_k, and 0 at padding. Pass them to
        `keras_attention.train`, or call `fit(batches.for_fit(), shuffle=False, callbacks=batches.callbacks)`.

    Raises:
        ImportError: pycocoevalcap is not installed.
        ValueError: `captions_per_image` is below 2, there are no images, or the captioner has hard attention; and
            the errors of `caption_batches`.

    Example:
        >>> batches = SelfCriticalBatches(examples, captioner, region_cache="region_cache")  # doctest: +SKIP
        >>> plan = ka.training.TrainingPlan(epochs=8, learning_rate=1e-4, label_smoothing=0.0)  # doctest: +SKIP
        >>> ka.train(captioner, batches, "runs/better", plan, extra_metrics=extra_metrics)  # doctest: +SKIP

    Reference: Rennie et al., 2017, https://arxiv.org/abs/1612.00563; the baseline: Luo, 2020,
    https://arxiv.org/abs/2003.09971.
    """

    def __init__(
        self,
        examples: Sequence[CaptionedImage],
        captioner: Any,
        max_tokens: int = 4096,
        captions_per_image: int = 5,
        images_per_epoch: int = 1000,
        seed: int = 0,
        **image_options: Any,
    ) -> None:
        super().__init__()
        _check_arguments(captioner, captions_per_image, images_per_epoch)
        self.captioner, self.captions_per_image, self.seed, self.epoch = captioner, captions_per_image, seed, 0
        self.reader = captioner.target_reader
        self.images = image_source(examples, captioner, **image_options)
        self.valid_indices = np.flatnonzero(warn_unreadable(examples, self.images.valid))
        self.digest = functools.partial(digest, examples)
        self.reward = CaptionReward([example.captions for example in examples])
        count = min(images_per_epoch, len(self.valid_indices))
        per_batch = max(1, max_tokens // (captions_per_image * captioner.config.max_length))
        self.images_per_batch = min(per_batch, count)
        self.images_per_epoch = count // self.images_per_batch * self.images_per_batch
        self.sampled: dict[int, tuple[list[list[int]], np.ndarray]] = {}
        self.rewards: dict[tuple[int, int], float] = {}
        self.in_epoch = False
        self.callbacks = (_SampleAhead(self),)
        _turn_dropout_off(captioner)

    def __len__(self) -> int:
        return self.images_per_epoch // self.images_per_batch

    def __getitem__(self, index: int) -> tuple:
        if self.in_epoch and index not in self.sampled:
            raise RuntimeError(
                "These batches are sampled during training, in order: call fit(batches.for_fit(), shuffle=False, "
                "callbacks=batches.callbacks)."
            )
        self.sample(index)
        captions, weights = self.sampled[index]
        # Keras infers the shapes of all batches from the first two; the second is wider to show that widths vary.
        is_wide = index == min(1, len(self) - 1)
        labels, mask = self.reader.pad(captions, self.captioner.config.max_length + 1 if is_wide else length_multiple())
        inputs = {**self._image_inputs(index), "target_ids": self.reader.shift_right(labels)}
        return inputs, labels, (mask * weights[:, None]).astype("float32")

    def for_fit(self) -> Any:
        """Return the argument for `fit`; on TensorFlow a `tf.data.Dataset` that samples a batch just before its update.

        Keras would read a `PyDataset` in another thread, while the weights change.
        """
        if keras.backend.backend() != "tensorflow":
            return self
        import tensorflow as tf

        def batches() -> Iterator[tuple]:
            for index in range(len(self)):
                self.sample(index)
                yield self[index]

        def spec(array: np.ndarray) -> tf.TensorSpec:  # the sizes of batch and captions vary
            return tf.TensorSpec([None, None] if array.ndim == 2 else [None, *array.shape[1:]], array.dtype)

        dataset = tf.data.Dataset.from_generator(batches, output_signature=keras.tree.map_structure(spec, self[0]))
        options = tf.data.Options()
        options.autotune.enabled = options.experimental_optimization.inject_prefetch = False
        cardinality = tf.data.experimental.assert_cardinality(len(self))
        return dataset.apply(cardinality).with_options(options)

    def sample(self, index: int) -> None:
        """Sample the captions of a batch with the current weights, unless they are sampled already."""
        if index in self.sampled or index >= len(self):
            return
        seed = self.seed + (self.epoch * len(self) + index) * self.images_per_batch
        sampled = self.captioner.sample_captions(self._image_inputs(index), self.captions_per_image, seed)
        captions = list(itertools.chain(*sampled))  # grouped by image
        texts = [decode_ids(self.captioner.tokenizer, ids) for ids in captions]
        rewards = self.reward(texts, np.repeat(self._image_rows()[index], self.captions_per_image))
        rewards = rewards.reshape(-1, self.captions_per_image)
        baseline = (rewards.sum(1, keepdims=True) - rewards) / (self.captions_per_image - 1)
        self.sampled[index] = captions, (rewards - baseline).ravel()
        self.rewards[self.epoch, index] = rewards.mean()

    @property
    def mean_reward(self) -> float:
        """The mean reward of the captions of the last epoch; 0 before the first."""
        last = max(self.rewards, default=(0, 0))[0]
        return float(np.mean([r for (epoch, _), r in self.rewards.items() if epoch == last] or [0.0]))

    def on_epoch_begin(self) -> None:
        """Sample the batches that Keras reads before the first update."""
        self.in_epoch = True
        for index in range(_NUM_SAMPLED_AHEAD if keras.backend.backend() == "jax" else 1):
            self.sample(index)

    def on_epoch_end(self) -> None:
        """Start the next epoch."""
        self.start_epoch(self.epoch + 1)

    def start_epoch(self, epoch: int) -> None:
        """Start this epoch, counted from 0."""
        self.epoch, self.sampled, self.in_epoch = epoch, {}, False

    def _image_rows(self) -> np.ndarray:
        """Return the indices of the examples of the epoch, (batches, images)."""
        rng = np.random.default_rng([self.seed, self.epoch])
        indices = rng.choice(self.valid_indices, self.images_per_epoch, replace=False)
        return indices.reshape(-1, self.images_per_batch)

    def _image_inputs(self, index: int) -> dict[str, np.ndarray]:
        rng = np.random.default_rng([self.seed, self.epoch, index])
        return self.images.inputs(list(self._image_rows()[index]), rng)


def _check_arguments(captioner: Any, captions_per_image: int, images_per_epoch: int) -> None:
    if captions_per_image < 2:
        raise ValueError(
            f"`captions_per_image` is {captions_per_image}; expected at least 2, since each caption is compared with "
            "the others of its image."
        )
    require_positive_integer("images_per_epoch", images_per_epoch)
    if captioner.noise is not None:
        raise ValueError(
            "The captioner has hard attention, which learns from the probability of a caption and not from its reward. "
            "Use a captioner with soft attention or without attention."
        )


def _turn_dropout_off(model: keras.Model) -> None:
    for layer in all_layers(model):
        if isinstance(layer, keras.layers.Dropout):
            layer.rate = 0.0


class _SampleAhead(keras.callbacks.Callback):
    """On JAX, sample a batch between two updates; on TensorFlow, start and end the epochs of the batches."""

    def __init__(self, batches: SelfCriticalBatches) -> None:
        super().__init__()
        self.batches = batches

    def on_epoch_begin(self, epoch: int, logs: dict | None = None) -> None:
        if keras.backend.backend() == "tensorflow":  # Keras calls `on_epoch_begin` of a PyDataset only
            self.batches.on_epoch_begin()

    def on_epoch_end(self, epoch: int, logs: dict | None = None) -> None:
        if keras.backend.backend() == "tensorflow":
            self.batches.on_epoch_end()

    def on_train_batch_end(self, batch: int, logs: dict | None = None) -> None:
        if keras.backend.backend() == "jax":
            self.model.jax_state_sync()
            self.batches.sample(batch + _NUM_SAMPLED_AHEAD)
