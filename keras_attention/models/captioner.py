"""`Captioner`: a picture in, a caption and where each word looked out."""

from __future__ import annotations

import dataclasses
import math
import pathlib
from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
from keras import ops

from keras_attention.config import HARD, RecurrentCaptionerConfig, RecurrentConfig, TransformerCaptionerConfig
from keras_attention.data.images import read_images
from keras_attention.data.region_cache import RegionCache
from keras_attention.data.tokenizers import decode_ids, ids_to_pieces, special_ids
from keras_attention.generation import Greedy, Hypotheses, Sampling, SearchCache, Strategy
from keras_attention.layers import AttentionLoss, GumbelNoise, ImageEncoder, OutputBias, ShiftRegions, logits_of_step
from keras_attention.layers.regions import gaussian_kernel
from keras_attention.layers.vision import SMALL_CNN
from keras_attention.models.build import initializer, make_decoder, make_embedding, make_encoder
from keras_attention.models.task import Forward, Task, batch_begins, with_vocabulary
from keras_attention.models.vision_weights import IMAGENET, load_vision_weights


@dataclasses.dataclass(frozen=True)
class Caption:
    """One answer: what was written about a picture, how sure, and where the model looked.

    Attributes:
        text: the caption; empty for a picture that cannot be read.
        score: its log-probability, in nats, after length and coverage penalties.
        pieces: the T pieces that it wrote.
        attention: (T, rows, columns) weights, float32; None for a model without attention.
        valid: whether the picture could be read.
        alternatives: the other hypotheses of an n-best search, best first.
    """

    text: str
    score: float
    pieces: tuple[str, ...] = ()
    attention: np.ndarray | None = None
    valid: bool = True
    alternatives: tuple[Caption, ...] = ()


@keras.saving.register_keras_serializable("keras_attention")
class Captioner(Task):
    """An image encoder and a decoder that writes a caption: recurrent, with any attention or none, or a Transformer.

    p(y | x) = prod_t softmax(L f_t)[y_t], where f_t is the decoder's output after the tokens y_<t and the regions of
    the image x. L is the token embedding in a Transformer, and a matrix of its own in a recurrent decoder unless
    `tie_weights` is True. Without attention, the decoder gets the mean of the regions once; with attention, each word
    attends to all regions, and the mean of the regions makes the initial state.

    If the image encoder is frozen, training may skip it: `regions` (P, R, C), its outputs, can replace `images`; see
    `caption_batches`.

    Args:
        config: a `RecurrentCaptionerConfig` or `TransformerCaptionerConfig`; the vocabulary size is taken from the
            tokenizer.
        tokenizer: KerasHub tokenizer of the captions.

    Call arguments:
        inputs: dict of `images` (P, size, size, 3) float32, RGB, 0 to 255, or `regions` (P, R, C); and `target_ids`
            (B, T) int, the captions shifted right, so that they begin with the start token: B / P of the first image,
            then as many of the next.

    Output:
        logits (B, T, V).

    Raises:
        TypeError: there is no tokenizer.
        ValueError: an unknown network, or more regions than learned positions of a Transformer.

    Example:
        >>> tokenizer = ka.train_tokenizer(["a red circle above a blue square"], "characters")
        >>> model = ka.Captioner.from_preset(
        ...     "show_attend_and_tell", tokenizer=tokenizer, encoder="small_cnn", image_size=64)
        >>> model.caption([np.zeros((64, 64, 3), "uint8")], ka.Greedy(max_new_tokens=3))[0].attention.shape[1:]
        (16, 16)

    Reference: Vinyals et al., 2015, https://arxiv.org/abs/1411.4555; Xu et al., 2015,
    https://arxiv.org/abs/1502.03044; Vaswani et al., 2017, https://arxiv.org/abs/1706.03762.
    """

    def __init__(
        self, config: RecurrentCaptionerConfig | TransformerCaptionerConfig, tokenizer: Any = None, **kwargs
    ) -> None:
        self.config = config = with_vocabulary(config, "vocabulary_size", tokenizer)
        self.vision = ImageEncoder(
            config.encoder, config.image_size, config.grid_layer, config.fine_tune_from, name="vision"
        )
        self.embedding = make_embedding(config, config.vocabulary_size, "embedding")
        self.decoder = make_decoder(config, memory=True)
        self.output_bias = OutputBias(name="output_bias") if getattr(config, "output_bias", False) else None
        self.region_projection = self.encoder = self.noise = self.smoothing = self.shift = self.attention_loss = None
        (self._prepare_recurrent if self._is_recurrent else self._prepare_transformer)(config)
        size = config.image_size
        inputs = {
            "images": keras.Input((size, size, 3), dtype="float32", name="images"),
            "target_ids": keras.Input((None,), dtype="int32", name="target_ids"),
        }
        outputs = self._decode(self._encode(self.vision(inputs["images"])), inputs["target_ids"])
        super().__init__(config, {"tokenizer": tokenizer}, inputs, outputs, **kwargs)
        self.searches = SearchCache(self)
        self.image_encoding = Forward(
            self, lambda inputs: {"regions": ops.cast(self.vision(inputs["images"]), "float32")}
        )

    @property
    def _is_recurrent(self) -> bool:
        return isinstance(self.config, RecurrentConfig)

    def _prepare_recurrent(self, config: RecurrentCaptionerConfig) -> None:
        """Make the layers between the image encoder and a recurrent decoder."""
        if config.attention is None:
            if config.image_injection == "pre":
                self.region_projection = keras.layers.Dense(config.embedding_dim, name="image")
            return
        self.attention_loss = AttentionLoss(
            config.doubly_stochastic, config.reinforce, config.entropy, name="attention_loss"
        )
        rows, columns = self.vision.rows, self.vision.columns
        if config.attention == HARD:
            self.noise = GumbelNoise(name="noise")
        if config.attention_smoothing:
            self.smoothing = gaussian_kernel(rows, columns, config.attention_smoothing)
        if config.grounded_attention:
            self.shift = ShiftRegions(rows, columns, name="shift")

    def _prepare_transformer(self, config: TransformerCaptionerConfig) -> None:
        """Make the layers between the image encoder and a Transformer decoder."""
        regions = self.vision.rows * self.vision.columns
        if config.positions == "learned" and regions > config.max_length:
            raise ValueError(
                f"There are {regions} regions and {config.max_length} learned positions; expected `max_length` to be "
                "at least as many, or sinusoidal positions."
            )
        self.region_projection = keras.layers.Dense(
            config.width, kernel_initializer=initializer(config), name="region_projection"
        )
        self.encoder = make_encoder(config, dense=True)

    @classmethod
    def from_preset(cls, name: str, encoder_weights: str | pathlib.Path | None = "imagenet", **parts: Any):
        """Make a captioner with the sizes of a preset.

        Args:
            name: a name of `keras_attention.presets()`.
            encoder_weights: weights of the image encoder: `"imagenet"`, which Keras downloads (random ones for the
                small CNN); a file, such as another captioner's `.keras` (see `load_vision_weights`); or None for
                random ones.
            **parts: see `Task.from_preset`.

        Raises:
            ValueError: an unknown preset or size, or weights that do not fit.
            RuntimeError: the download failed.
        """
        model = super().from_preset(name, **parts)
        if encoder_weights not in (None, IMAGENET) or (encoder_weights and model.config.encoder != SMALL_CNN):
            load_vision_weights(model.vision, encoder_weights)
        return model

    @property
    def has_attention(self) -> bool:
        """Whether the decoder attends to the regions."""
        return self.decoder.has_memory

    @property
    def input_spec(self) -> None:
        """None, because the inputs hold either `images` or `regions`."""
        return None

    def call(self, inputs, training=None, mask=None):
        """Compute the logits; the class describes the arguments."""
        # On JAX, `fit` calls this outside of the context from which layers take `training`, so it is passed on.
        regions = inputs["regions"] if "regions" in inputs else self.vision(inputs["images"], training=training)
        images, captions = ops.shape(regions)[0], ops.shape(inputs["target_ids"])[0]
        image_of = ops.arange(captions) * images // ops.maximum(captions, 1)
        encoded = self._encode(regions, training)
        encoded = keras.tree.map_structure(lambda x: ops.take(x, image_of, axis=0), encoded)
        return self._decode(encoded, inputs["target_ids"], training)

    def _encode(self, regions, training=None) -> dict:
        """Return the decoder's arguments that come from the image.

        They are `memory` and `initial_state`, as far as the decoder has them, and `values` with smoothed attention; or
        `prefix` (B, 1, E), a vector that the decoder reads before the first token.
        """
        if not self._is_recurrent:
            return {"memory": self.encoder(self.region_projection(regions), training=training)}
        mean = ops.mean(regions, axis=1)
        if self.config.attention is not None:
            return self._memory(regions) | ({} if self.config.grounded_attention else {"initial_state": [mean]})
        if self.config.image_injection == "init":
            return {"initial_state": [mean]}
        return {"prefix": ops.expand_dims(self.region_projection(mean), 1)}

    def _memory(self, regions) -> dict:
        """Return `memory` (B, R, C) for the attention, and `values`, smoothed regions, with smoothed attention."""
        memory = self.vision.append_coordinates(regions) if self.config.coordinate_features else regions
        if self.smoothing is None:
            return {"memory": memory}
        return {"memory": memory, "values": ops.matmul(ops.cast(self.smoothing, memory.dtype), memory)}

    def _decode(self, encoded: dict, target_ids, training=None):
        """Return the logits (B, T, V) after each of the tokens (B, T), from `_encode`'s dict for B images."""
        targets, encoded = self.embedding(target_ids), dict(encoded)
        prefix = encoded.pop("prefix", None)
        if prefix is not None:
            targets = ops.concatenate([prefix, targets], axis=1)
        if self.noise is not None:
            encoded["noise"] = self.noise(targets, encoded["memory"], training=training)
        if self.shift is not None:
            encoded["values"] = self.shift(encoded.get("values", encoded["memory"]), training=training)
        logits = self._add_bias(self.embedding(self._run_decoder(targets, encoded, training), reverse=True))
        return logits if prefix is None else logits[:, 1:]

    def _run_decoder(self, targets, encoded: dict, training):
        """Return the decoder's outputs (B, T, any), and give its attention scores to the attention loss, if any."""
        if self.attention_loss is None:
            return self.decoder(targets, **encoded, training=training)
        outputs, scores = self.decoder(targets, **encoded, return_attention_scores=True, training=training)
        noise = {} if self.noise is None else {"noise": encoded["noise"]}
        return self.attention_loss(outputs, self._smooth(scores), **noise)

    def _smooth(self, scores):
        """Smooth attention scores (B, T, R) with a Gaussian of `config.attention_smoothing` regions, if any."""
        return scores if scores is None or self.smoothing is None else ops.matmul(scores, self.smoothing)

    def _add_bias(self, logits):
        return logits if self.output_bias is None else self.output_bias(logits)

    def compute_loss(self, x=None, y=None, y_pred=None, sample_weight=None, training=True):
        """Return the compiled loss and, in training, the loss of the attention; see `AttentionLoss`."""
        loss = super().compute_loss(x, y, y_pred, sample_weight, training)
        if self.attention_loss is None or not training:
            return loss
        real = ops.ones_like(y, "float32") if sample_weight is None else ops.cast(sample_weight != 0, "float32")
        costs = keras.losses.sparse_categorical_crossentropy(y, ops.cast(y_pred, "float32"), from_logits=True)
        return loss + self.attention_loss.loss(costs, real)

    def start(self, inputs: dict, length=None) -> dict:
        """Encode the images and return the state before the first token.

        Args:
            inputs: dict of `images` (B, size, size, 3) or `regions` (B, R, C).
            length: the most tokens that will be read, `config.max_length` when None.

        Returns:
            dict of `constants` (what no step changes, first by batch) and `carry` (tensors (B, 1, ...), changed by
            every step).
        """
        regions = inputs["regions"] if "regions" in inputs else self.vision(inputs["images"])
        encoded = self._encode(regions)
        prefix = encoded.pop("prefix", None)
        if prefix is None:
            prefix = self.embedding(ops.zeros_like(regions[:, :0, 0], dtype="int32"))
        length = self.config.max_length if length is None else length
        constants, carry = self.decoder.start(prefix, length, **encoded)
        return {"constants": constants, "carry": carry}

    def step(self, tokens, state: dict):
        """Read one token per beam and return the logits of the next one.

        Args:
            tokens: (B, K) int, the last tokens (at first the start token).
            state: from `start` or the last step; `carry` tensors are (B, K, ...).

        Returns:
            logits (B, K, V), the new state, and attention scores (B, K, R) or None.
        """
        outputs, carry, scores = self.decoder.step(self.embedding(tokens), state["constants"], state["carry"])
        logits = self._add_bias(logits_of_step(self.embedding, outputs))
        return logits, {"constants": state["constants"], "carry": carry}, self._smooth(scores)

    def length_limit(self, strategy: Strategy) -> int:
        """Return how many tokens a caption may have: `config.max_length` unless the strategy says."""
        return min(strategy.max_new_tokens or self.config.max_length, self.config.max_length)

    def encode_images(self, images: np.ndarray) -> np.ndarray:
        """Return the regions (B, R, C) float32 of images (B, size, size, 3), RGB, 0 to 255."""
        return self.image_encoding({"images": images})["regions"]

    def caption(self, pictures: Sequence[Any], strategy: Strategy | None = None, batch_size: int = 32) -> list[Caption]:
        """Write a caption for each picture.

        Args:
            pictures: paths, encoded pictures (bytes of a JPEG, PNG, GIF or BMP), or arrays (h, w, 3) uint8.
            strategy: `Greedy()` (default), `BeamSearch(...)` or `Sampling(...)`.
            batch_size: how many are decoded at once; it does not change an answer.

        Returns:
            one `Caption` per picture, in order; an empty one with `valid` False for what cannot be read.

        Raises:
            FileNotFoundError: there is no such file.
            TypeError: `pictures` is one path or the bytes of one picture.
        """
        pictures = check_images(pictures)
        answers: list[Caption] = []
        for begin in batch_begins(len(pictures), batch_size):
            images, valid = read_images(pictures[begin : begin + batch_size], self.config.image_size)
            found = self._captions(self._search({"images": images}, strategy or Greedy(), begin))
            answers += [one if fine else Caption("", 0.0, valid=False) for one, fine in zip(found, valid, strict=True)]
        return answers

    def caption_regions(
        self, regions: np.ndarray | RegionCache, strategy: Strategy | None = None, batch_size: int = 32
    ) -> list[Caption]:
        """Write a caption for each image whose regions (N, R, C) are known; see `caption`."""
        answers: list[Caption] = []
        for begin in batch_begins(len(regions), batch_size):
            batch = np.asarray(regions[begin : begin + batch_size], "float32")
            answers += self._captions(self._search({"regions": batch}, strategy or Greedy(), begin))
        return answers

    def draw(self, inputs: dict[str, np.ndarray], samples: int, seed: int) -> list[list[list[int]]]:
        """Draw captions from what the model believes, as ids.

        Args:
            inputs: `images` (B, size, size, 3) or `regions` (B, R, C).
            samples: N, how many captions of each image.
            seed: of the first image; each next one has the next seed.

        Returns:
            B lists of N captions, each a list of ids, the end token included.
        """
        found = self._search(inputs, Sampling(num_return_sequences=samples), seed)
        rows = zip(found.tokens, found.lengths, strict=True)
        return [[ids[:n].tolist() for ids, n in zip(*row, strict=True)] for row in rows]

    def _search(self, inputs: dict[str, np.ndarray], strategy: Strategy, begin: int) -> Hypotheses:
        special, count = special_ids(self.tokenizer), len(next(iter(inputs.values())))
        nothing = np.zeros((count, 0), "int32")
        return self.searches.run(
            strategy,
            inputs,
            limits=np.full(count, self.length_limit(strategy), "int32"),
            prefix=(nothing, nothing.astype("bool")),
            seeds=np.arange(begin, begin + count) + strategy.seed,
            start_ids=np.full(count, special.start),
            end_id=special.end,
        )

    def _captions(self, found: Hypotheses) -> list[Caption]:
        return [self._caption(list(found.of_row(row))) for row in range(len(found.scores))]

    def _caption(self, hypotheses: list) -> Caption:
        answers = []
        for ids, score, attention in hypotheses:
            if attention is not None:
                attention = attention.reshape(len(ids), self.vision.rows, self.vision.columns)
            pieces = tuple(ids_to_pieces(self.tokenizer, ids))
            answers.append(Caption(decode_ids(self.tokenizer, ids), score, pieces, attention))
        if not answers:  # the constraints left nothing
            return Caption("", -math.inf)
        return dataclasses.replace(answers[0], alternatives=tuple(answers[1:]))


def check_images(pictures: Sequence[Any]) -> list:
    """Return the pictures as a list.

    Raises:
        TypeError: a single path or the bytes of a single picture.
    """
    if isinstance(pictures, (str, bytes, pathlib.Path)):
        raise TypeError(f"Expected a list of pictures; received one {type(pictures).__name__}. Wrap it: [picture].")
    return list(pictures)
