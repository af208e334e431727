"""`Captioner`: from an image to its caption and the attention of each token."""

from __future__ import annotations

import pathlib
import warnings
from collections.abc import Sequence
from typing import Any, Self

import keras
import numpy as np
from keras import ops

from keras_attention.config import HARD, RecurrentCaptionerConfig, RecurrentConfig, TransformerCaptionerConfig
from keras_attention.data.batching.caption_batches import caption_batches
from keras_attention.data.image_files.region_cache import RegionCache
from keras_attention.data.tokenization.text_reader import TextReader
from keras_attention.generation import Sampling, Strategy
from keras_attention.generation.search import best_hypotheses
from keras_attention.layers import AttentionLoss, GumbelNoise, ImageEncoder, OutputBias, ShiftRegions
from keras_attention.layers.image_networks import SMALL_CNN
from keras_attention.layers.regions import gaussian_kernel
from keras_attention.metrics.tokens import label_weights
from keras_attention.models.network.config_checks import with_vocabulary
from keras_attention.models.network.decoder_steps import DecoderSteps
from keras_attention.models.network.image_encoder_weights import IMAGENET, load_image_encoder_weights
from keras_attention.models.network.layers_from_config import initializer, make_decoder, make_embedding, make_encoder
from keras_attention.models.task import Task
from keras_attention.models.task_data.caption_data import CaptionData
from keras_attention.outputs import Caption
from keras_attention.prediction.detokenizer import hypothesis_outputs
from keras_attention.prediction.encoded_inputs import RawImages, check_images
from keras_attention.prediction.run_batches import (
    compiled_function,
    objects_from_rows,
    predict_outputs,
    run_batches,
)
from keras_attention.prediction.run_search import check_strategy, limit_lengths, run_search, search_inputs
from keras_attention.task_specs import TASK_SPECS


@keras.saving.register_keras_serializable("keras_attention")
class Captioner(DecoderSteps, Task):
    """Compute the caption of an image, with an image encoder and a recurrent or Transformer decoder.

    p(y | x) = prod_t softmax(W f_t)[y_t], where f_t is the decoder's output after the tokens y_<t and the regions of
    the image x. W is the token embedding if `tie_weights` is True, and a separate matrix otherwise.

    A recurrent decoder with attention computes its initial state from the mean of the regions, and attends to all
    regions for each token. A recurrent decoder without attention reads only this mean.

    If the image encoder is frozen, training can use its cached outputs, `regions` (B, R, C), instead of `images`; see
    `caption_batches`.

    Args:
        config: a `RecurrentCaptionerConfig` or `TransformerCaptionerConfig`; the vocabulary size is taken from the
            tokenizer.
        tokenizer: KerasHub tokenizer of the captions.

    Call arguments:
        inputs: dict of `images` (B, size, size, 3) float32, RGB, 0 to 255, or `regions` (B, R, C); and `target_ids`
            (B n, T) int, the captions shifted right to begin with the start token: n captions of the first image, then
            n of the second, and so on.

    Output:
        logits (B n, T, V).

    Raises:
        TypeError: there is neither a tokenizer nor a vocabulary size.
        ValueError: the image encoder is unknown, or a Transformer has more regions than learned positions.

    Example:
        >>> tokenizer = ka.data.train_tokenizer(["a red circle above a blue square"], "characters")
        >>> model = ka.Captioner.from_preset(
        ...     "show_attend_and_tell", tokenizer=tokenizer, image_encoder="small_cnn", image_size=32, units=8)
        >>> model.encode_images(np.zeros((1, 32, 32, 3), "float32")).shape
        (1, 64, 96)

    Reference: Vinyals et al., 2015, https://arxiv.org/abs/1411.4555; Xu et al., 2015,
    https://arxiv.org/abs/1502.03044; Vaswani et al., 2017, https://arxiv.org/abs/1706.03762.
    """

    spec = TASK_SPECS["captioner"]
    data = CaptionData(caption_batches)

    # Layers between the image encoder and the decoder; None for a layer that the config does not need.
    region_projection: keras.layers.Layer | None = None
    attention_loss: AttentionLoss | None = None
    noise: GumbelNoise | None = None
    smoothing: np.ndarray | None = None
    shift: ShiftRegions | None = None

    def __init__(
        self, config: RecurrentCaptionerConfig | TransformerCaptionerConfig, tokenizer: Any = None, **kwargs
    ) -> None:
        self.config = config = with_vocabulary(config, "vocabulary_size", tokenizer)
        # The functional model of `super().__init__` is made of the layers, so they come first.
        self.image_encoder = ImageEncoder(
            config.image_encoder, config.image_size, config.grid_layer, config.fine_tune_from, name="image_encoder"
        )
        self.embedding = make_embedding(config, config.vocabulary_size, "embedding")
        self.decoder = make_decoder(config, memory=True)
        self.output_bias = OutputBias(name="output_bias") if config.output_bias else None
        if isinstance(config, RecurrentConfig):
            self._prepare_recurrent(config)
        else:
            self._prepare_transformer(config)
        size = config.image_size
        inputs = {
            "images": keras.Input((size, size, 3), dtype="float32", name="images"),
            "target_ids": keras.Input((None,), dtype="int32", name="target_ids"),
        }
        outputs = self._decode(self._encode(self.image_encoder(inputs["images"])), inputs["target_ids"])
        super().__init__(config, {"tokenizer": tokenizer}, inputs, outputs, **kwargs)

    def _prepare_recurrent(self, config: RecurrentCaptionerConfig) -> None:
        """Make the layers between the image encoder and a recurrent decoder."""
        if config.attention is None:
            if config.image_injection == "pre":
                self.region_projection = keras.layers.Dense(config.embedding_dim, name="image")
            return
        self.attention_loss = AttentionLoss(
            config.doubly_stochastic, config.reinforce, config.entropy, name="attention_loss"
        )
        rows, columns = self.image_encoder.rows, self.image_encoder.columns
        if config.attention == HARD:
            self.noise = GumbelNoise(name="noise")
        if config.attention_smoothing:
            self.smoothing = gaussian_kernel(rows, columns, config.attention_smoothing)
        if config.grounded_attention:
            self.shift = ShiftRegions(rows, columns, name="shift")

    def _prepare_transformer(self, config: TransformerCaptionerConfig) -> None:
        """Make the layers between the image encoder and a Transformer decoder."""
        regions = self.image_encoder.rows * self.image_encoder.columns
        if config.positions == "learned" and regions > config.max_length:
            raise ValueError(
                f"There are {regions} regions, but only {config.max_length} learned positions; expected a larger "
                "`max_length`, or sinusoidal positions."
            )
        self.region_projection = keras.layers.Dense(
            config.width, kernel_initializer=initializer(config), name="region_projection"
        )
        self.encoder = make_encoder(config, over_regions=True)

    @classmethod
    def from_preset(
        cls, name: str, image_encoder_weights: str | pathlib.Path | None = "imagenet", **overrides: Any
    ) -> Self:
        """Make a captioner with the config of a preset.

        Args:
            name: a name of `keras_attention.presets()`.
            image_encoder_weights: weights of the image encoder: `"imagenet"`, which Keras downloads (`small_cnn` has no
                such weights and is initialized randomly); a file, such as a captioner's `.keras` (see
                `load_image_encoder_weights`); or None for random weights, with a warning if they are frozen.
            **overrides: see `Task.from_preset`.

        Raises:
            ValueError: the preset or a field is unknown, or the weights do not fit.
            RuntimeError: the download failed.

        Example:
            >>> model = ka.Captioner.from_preset(
            ...     "show_and_tell", image_encoder_weights=None, image_encoder="small_cnn", vocabulary_size=11)
            >>> model.config.image_encoder
            'small_cnn'
        """
        model = super().from_preset(name, **overrides)
        if image_encoder_weights not in (None, IMAGENET) or (
            image_encoder_weights and model.config.image_encoder != SMALL_CNN
        ):
            load_image_encoder_weights(model.image_encoder, image_encoder_weights)
        elif not model.image_encoder.is_trainable:
            warnings.warn(
                f"The image encoder {model.config.image_encoder} is frozen, so its random weights are never trained. "
                "Load weights, or choose `image_encoder='small_cnn'` or `fine_tune_from='all'`.",
                stacklevel=2,
            )
        return model

    @property
    def target_reader(self) -> TextReader:
        """The `TextReader` of captions."""
        return TextReader.from_template(self.tokenizer, "end", self.config.max_length)

    @property
    def input_spec(self) -> None:
        """None: the inputs contain either `images` or `regions`, which one spec cannot describe."""
        return None

    def call(self, inputs, training=None, mask=None):
        """Compute the logits (B n, T, V); see the class for the arguments."""
        # On JAX, `fit` does not set `training` in Keras' call context, so it is passed to the layers.
        regions = inputs["regions"] if "regions" in inputs else self.image_encoder(inputs["images"], training=training)
        images, captions = ops.shape(regions)[0], ops.shape(inputs["target_ids"])[0]
        image_indices = ops.arange(captions) * images // ops.maximum(captions, 1)
        encoded = self._encode(regions, training)
        encoded = keras.tree.map_structure(lambda x: ops.take(x, image_indices, axis=0), encoded)
        return self._decode(encoded, inputs["target_ids"], training)

    def _encode(self, regions, training=None) -> dict:
        """Return the decoder arguments that are computed from the image.

        They are `memory` and `initial_state` if the decoder uses them, and `values` for smoothed attention; or
        `image_token` (B, 1, M), a vector that the decoder reads before the first token.
        """
        if self.encoder is not None:
            return {"memory": self.encoder(self.region_projection(regions), training=training)}
        mean = ops.mean(regions, axis=1)
        if self.config.attention is not None:
            return self._memory(regions) | ({} if self.config.grounded_attention else {"initial_state": [mean]})
        if self.config.image_injection == "init":
            return {"initial_state": [mean]}
        return {"image_token": ops.expand_dims(self.region_projection(mean), 1)}

    def _memory(self, regions) -> dict:
        """Return `memory` (B, R, C) and, for smoothed attention, `values`, the smoothed regions."""
        memory = self.image_encoder.append_coordinates(regions) if self.config.coordinate_features else regions
        if self.smoothing is None:
            return {"memory": memory}
        return {"memory": memory, "values": ops.matmul(ops.cast(self.smoothing, memory.dtype), memory)}

    def _decode(self, encoded: dict, target_ids, training=None):
        """Return the logits (B, T, V) for tokens (B, T) and the dict that `_encode` returned for B images."""
        targets, encoded = self.embedding(target_ids), dict(encoded)
        image_token = encoded.pop("image_token", None)
        if image_token is not None:
            targets = ops.concatenate([image_token, targets], axis=1)
        if self.noise is not None:
            encoded["noise"] = self.noise(targets, encoded["memory"], training=training)
        if self.shift is not None:
            encoded["values"] = self.shift(encoded.get("values", encoded["memory"]), training=training)
        logits = self._logits_of(self._run_decoder(targets, encoded, training))
        return logits if image_token is None else logits[:, 1:]

    def _run_decoder(self, targets, encoded: dict, training):
        """Return the decoder's outputs (B, T, any); pass its attention scores to the attention loss, if any."""
        if self.attention_loss is None:
            return self.decoder(targets, **encoded, training=training)
        outputs, scores = self.decoder(targets, **encoded, return_attention_scores=True, training=training)
        noise = {} if self.noise is None else {"noise": encoded["noise"]}
        return self.attention_loss(outputs, self._smooth(scores), **noise)

    def _smooth(self, scores):
        """Smooth attention scores (B, T, R) with a Gaussian, if `config.attention_smoothing` is set."""
        return scores if scores is None or self.smoothing is None else ops.matmul(scores, self.smoothing)

    def _added_loss(self, y: Any, y_pred: Any, sample_weight: Any, training: bool) -> Any:
        """Return the loss of the attention in training; see `AttentionLoss`."""
        if self.attention_loss is None or not training:
            return 0.0
        mask = label_weights(y, sample_weight) != 0
        costs = keras.losses.sparse_categorical_crossentropy(
            ops.maximum(y, 0), ops.cast(y_pred, "float32"), from_logits=True
        )
        return self.attention_loss.loss(costs, mask)

    def _encode_start(self, inputs: dict) -> tuple[Any, dict]:
        """Return the image token or no token (B, 0 or 1, M), and the decoder arguments."""
        regions = inputs["regions"] if "regions" in inputs else self.image_encoder(inputs["images"])
        encoded = self._encode(regions)
        image_token = encoded.pop("image_token", None)
        if image_token is None:
            return self.embedding(ops.zeros_like(regions[:, :0, 0], dtype="int32")), encoded
        return image_token, encoded

    def step(self, tokens, state: dict):
        """Read one token per beam; see `DecoderSteps.step`. The attention scores are smoothed."""
        logits, state, scores = super().step(tokens, state)
        return logits, state, self._smooth(scores)

    def _encode_images(self, inputs: dict) -> dict:
        return {"regions": ops.cast(self.image_encoder(inputs["images"]), "float32")}

    def encode_images(self, images: np.ndarray) -> np.ndarray:
        """Return the region features (B, R, C) float32 of images (B, size, size, 3), RGB, 0 to 255."""
        return compiled_function(self, type(self)._encode_images)({"images": images})["regions"]

    @property
    def image_size(self) -> int:
        """Height and width to which every image is resized, in pixels."""
        return self.config.image_size

    def caption(self, images: Sequence[Any], strategy: Strategy | None = None, batch_size: int = 32) -> list[Caption]:
        """Write a caption for each image.

        Args:
            images: paths, encoded images (bytes of a JPEG, PNG, GIF, BMP or WebP), arrays (height, width, 3) uint8, or
                images of Pillow.
            strategy: `Greedy()` (default), `BeamSearch(...)` or `Sampling(...)`. Image i uses the seed
                `strategy.seed + i`.
            batch_size: number of images in a batch; it does not change the result.

        Returns:
            one `Caption` per image, in order; an unreadable image has an empty caption, with `valid` False.

        Raises:
            FileNotFoundError: a file does not exist.
            TypeError: `images` is one image, or contains an array of another type or another object.

        Example:
            >>> tokenizer = ka.data.train_tokenizer(["a red circle above a blue square"], "characters")
            >>> model = ka.Captioner.from_preset(
            ...     "show_attend_and_tell", tokenizer=tokenizer, image_encoder="small_cnn", image_size=32, units=8)
            >>> model.caption([np.zeros((32, 32, 3), "uint8")], ka.Greedy(max_new_tokens=3))[0].attention.shape[1:]
            (8, 8)
        """
        images, strategy = check_images(images), check_strategy(strategy, self.spec.default_strategy)
        return predict_outputs(self, RawImages(images), None, batch_size, strategy=strategy)

    def to_inputs(self, batch: Any) -> dict[str, Any]:
        """Return `images` (B, size, size, 3), and `valid` (B,), False for images that cannot be read."""
        images, valid = batch.decode_images(self.config.image_size)
        return {"images": images, "valid": valid}

    def caption_regions(
        self, regions: np.ndarray | RegionCache, strategy: Strategy | None = None, batch_size: int = 32
    ) -> list[Caption]:
        """Write a caption for each of B images from its region features (B, R, C); see `caption`."""
        strategy = check_strategy(strategy, self.spec.default_strategy)

        def compute(indices: np.ndarray) -> dict[str, Any]:
            batch = np.asarray(regions[indices[0] : indices[-1] + 1], "float32")
            inputs = {"regions": batch, "valid": np.ones(len(indices), bool), "seeds": strategy.seeds(indices)}
            return self.predict_arrays(inputs, strategy=strategy)

        return objects_from_rows(Caption, run_batches([0] * len(regions), batch_size, compute), None)

    def sample_captions(
        self, inputs: dict[str, np.ndarray], num_return_sequences: int, seed: int
    ) -> list[list[list[int]]]:
        """Sample captions from the model's distribution; return B lists of N lists of ids, with the end token.

        Args:
            inputs: dict of `images` (B, size, size, 3) or `regions` (B, R, C).
            num_return_sequences: N, the number of captions per image.
            seed: the seed of the first image; image i uses `seed + i`.
        """
        strategy, count = Sampling(num_return_sequences=num_return_sequences), len(next(iter(inputs.values())))
        inputs = {**inputs, "valid": np.ones(count, bool), "seeds": strategy.seeds(np.arange(count) + seed)}
        computed = compiled_function(self, type(self)._compute)(self._prepare(inputs, strategy), strategy=strategy)
        rows = zip(computed["tokens"], computed["lengths"], strict=True)
        return [[ids[:n].tolist() for ids, n in zip(*row, strict=True)] for row in rows]

    def _prepare(self, inputs: dict, strategy: Strategy) -> dict:
        """Return the inputs of `_compute`: these inputs and the length limits of the search.

        Args:
            inputs: dict of `images` (B, size, size, 3) or `regions` (B, R, C); `valid` (B,) bool, False for images
                that cannot be read; and `seeds` (B,) int.
            strategy: the search strategy.
        """
        max_length, seeds = self.config.max_length, inputs["seeds"]
        limits = limit_lengths(ops.zeros_like(seeds) + max_length, strategy, max_length)
        return {**inputs, **search_inputs(strategy, self.tokenizer, self.config.vocabulary_size, limits, seeds)}

    def _compute(self, inputs: dict, strategy: Strategy) -> dict:
        """Search for captions; `inputs` come from `_prepare`.

        Returns:
            dict of `tokens` and their mask `is_written` (B, N, T), `lengths` and `final_scores` (B, N), best first, 0
            for images that cannot be read; and, with attention, `attention` (B, T, rows, columns) of the best caption.
        """
        computed = best_hypotheses(run_search(self, inputs, strategy, self.tokenizer), inputs["valid"])
        if "attention" in computed:
            grid = (*ops.shape(computed["attention"])[:2], self.image_encoder.rows, self.image_encoder.columns)
            computed["attention"] = ops.reshape(computed["attention"], grid)
        return computed

    def _to_outputs(self, strings: Any, inputs: dict, computed: dict, detokenizers: dict[str, Any]) -> dict[str, Any]:
        """Return `caption`, `score`, `valid` (B,), `pieces` (B, T), `attention` (B, T, rows, columns).

        If there are several hypotheses, add the outputs of `hypothesis_outputs`.
        """
        detokenizer = detokenizers["tokenizer"]
        texts = detokenizer.decode(computed["tokens"], computed["lengths"])
        pieces = detokenizer.pieces(computed["tokens"], computed["is_written"])
        return {
            **hypothesis_outputs(detokenizer, texts, pieces, computed, ("caption", "pieces")),
            "valid": inputs["valid"],
        } | ({"attention": computed["attention"]} if "attention" in computed else {})
