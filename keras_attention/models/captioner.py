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

from keras_attention.config import HARD, CaptionerConfig, RecurrentConfig, TransformerCaptionerConfig
from keras_attention.data.images import read_images
from keras_attention.data.region_cache import RegionCache
from keras_attention.data.tokenizers import decode_ids, ids_to_pieces, special_ids
from keras_attention.generation import Greedy, Hypotheses, Sampling, SearchCache, Strategy
from keras_attention.layers import AttentionLoss, GumbelNoise, ImageEncoder, OutputBias, ShiftRegions, logits_of_step
from keras_attention.layers.vision import SMALL_CNN, neighbourhoods
from keras_attention.models.build import initializer, make_decoder, make_embedding, make_encoder
from keras_attention.models.task import Forward, Task, batch_begins, with_vocabulary


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
    """A network that sees and a decoder that writes: recurrent, with any attention or none, or a Transformer.

    p(y | x) = prod_t softmax(L f_t)[y_t], where f_t is the decoder's output after reading y_<t and the regions of the
    image x, and L is the embedding in a Transformer (tied), and a matrix of its own in a recurrent network, unless that
    is `tie_weights`. Without attention the mean region is all that the decoder gets, once; with it, each word looks
    back at     every region, and the first state is made from the mean region.

    Where the convolutional network does not learn, training may skip it: `regions` (B, R, C), what it answered, may
    stand for `images`; see `caption_batches`.

    Args:
        config: a `CaptionerConfig` (recurrent) or `TransformerCaptionerConfig`; the vocabulary size is taken from the
            tokenizer.
        tokenizer: KerasHub tokenizer of the captions.

    Call arguments:
        inputs: dict of `images` (P, size, size, 3) float32, RGB, 0 to 255, or `regions` (P, R, C); and `target_ids`
            (B, T) int, the captions shifted right to begin with the start token: B / P of the first image, then as
            many of the next.

    Output:
        logits (B, T, V).

    Raises:
        TypeError: there is no tokenizer.
        ValueError: an unknown network, or one whose regions are more than the positions of a Transformer.

    Example:
        >>> tokenizer = ka.train_tokenizer(["a red circle above a blue square"], "characters")
        >>> model = ka.Captioner.from_preset(
        ...     "show_attend_and_tell", tokenizer=tokenizer, encoder="small_cnn", image_size=64)
        >>> model.caption([np.zeros((64, 64, 3), "uint8")], ka.Greedy(max_new_tokens=3))[0].attention.shape[1:]
        (16, 16)

    Reference: Vinyals et al., 2015, https://arxiv.org/abs/1411.4555; Xu et al., 2015,
    https://arxiv.org/abs/1502.03044; Vaswani et al., 2017, https://arxiv.org/abs/1706.03762.
    """

    def __init__(self, config: CaptionerConfig | TransformerCaptionerConfig, tokenizer: Any = None, **kwargs) -> None:
        config = with_vocabulary(config, "vocabulary_size", tokenizer)
        self.vision = ImageEncoder(
            config.encoder, config.image_size, config.grid_layer, config.fine_tune_from, name="vision"
        )
        self.embedding = make_embedding(config, config.vocabulary_size, "embedding")
        self.decoder = make_decoder(config, memory=True)
        self.output_bias = OutputBias(name="output_bias") if getattr(config, "output_bias", False) else None
        self.region_projection = self.encoder = self.noise = self.around = self.shift = self.attention_loss = None
        (self._prepare_recurrent if isinstance(config, RecurrentConfig) else self._prepare_transformer)(config)
        size = config.image_size
        inputs = {
            "images": keras.Input((size, size, 3), dtype="float32", name="images"),
            "target_ids": keras.Input((None,), dtype="int32", name="target_ids"),
        }
        given = self._given(config, self.vision(inputs["images"]))
        outputs = self._logits(config, given, inputs["target_ids"])
        super().__init__(config, {"tokenizer": tokenizer}, inputs, outputs, **kwargs)
        self.searches = SearchCache(self)
        self.image_encoding = Forward(
            self, lambda inputs: {"regions": ops.cast(self.vision(inputs["images"]), "float32")}
        )

    def _prepare_recurrent(self, config: CaptionerConfig) -> None:
        if config.attention is None:
            if config.image_injection == "pre":
                self.region_projection = keras.layers.Dense(config.embedding_dim, name="image")
            return
        self.attention_loss = AttentionLoss(
            config.doubly_stochastic, config.reinforce, config.entropy, name="attention_loss"
        )
        if config.attention == HARD:
            self.noise = GumbelNoise(name="noise")
        if config.attention_smoothing:
            self.around = neighbourhoods(self.vision.rows, self.vision.columns, config.attention_smoothing)
        if config.grounded_attention:
            self.shift = ShiftRegions(self.vision.rows, self.vision.columns, name="shift")

    def _prepare_transformer(self, config: TransformerCaptionerConfig) -> None:
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
            encoder_weights: `"imagenet"`, which Keras downloads (new ones, for the small CNN), a file, such as another
                captioner's `.keras` (see `ImageEncoder.load`), or None for new ones.
            **parts: see `Task.from_preset`.

        Raises:
            ValueError: an unknown preset or size, or weights that do not fit.
            RuntimeError: the download failed.
        """
        model = super().from_preset(name, **parts)
        if encoder_weights not in (None, "imagenet") or (encoder_weights and model.config.encoder != SMALL_CNN):
            model.vision.load(encoder_weights)
        return model

    @property
    def has_attention(self) -> bool:
        """Whether the decoder looks back at the regions."""
        return self.decoder.has_memory

    @property
    def input_spec(self) -> None:
        """Nothing: the inputs hold either `images` or `regions`."""
        return None

    def call(self, inputs, training=None, mask=None):
        """Compute the output; the class describes arguments and shapes."""
        # `training` goes along by hand: on JAX `fit` calls this outside of the context in which layers look for it.
        regions = inputs["regions"] if "regions" in inputs else self.vision(inputs["images"], training=training)
        pictures, captions = ops.shape(regions)[0], ops.shape(inputs["target_ids"])[0]
        image_of = ops.arange(captions) * pictures // ops.maximum(captions, 1)
        given = self._given(self.config, regions, training)
        given = keras.tree.map_structure(lambda part: ops.take(part, image_of, axis=0), given)
        return self._logits(self.config, given, inputs["target_ids"], training)

    def _logits(self, config, given, target_ids, training=None):
        targets, before = self.embedding(target_ids), given.pop("before", None)
        if before is not None:  # the image, read as if it were the first word
            targets = ops.concatenate([before, targets], axis=1)
        if self.noise is not None:
            given["noise"] = self.noise(targets, given["memory"], training=training)
        if self.shift is not None:
            given["values"] = self.shift(given.get("values", given["memory"]), training=training)
        outputs = self.decoder(targets, **given, training=training)
        if self.decoder.has_memory:
            outputs, weights = outputs
            weights = self._smooth(weights)
            if self.attention_loss is not None:
                chance = {"noise": given["noise"]} if self.noise is not None else {}
                outputs = self.attention_loss(outputs, weights, **chance)
        logits = self._add_bias(self.embedding(outputs, reverse=True))
        return logits if before is None else logits[:, 1:]

    def _given(self, config, regions, training=None) -> dict:
        """What the decoder knows of an image: `states`, `memory` and `mask`, or one vector `before` the first word."""
        if self.encoder is not None:
            mask = ops.ones_like(regions[:, :, 0], dtype="bool")
            memory = self.encoder(self.region_projection(regions), mask=mask, training=training)[0]
            return {"memory": memory, "mask": mask}
        mean = ops.mean(regions, axis=1)
        if config.attention is not None:
            memory = self.vision.place(regions) if config.coordinate_features else regions
            states = {} if config.grounded_attention else {"states": [mean]}
            values = {} if self.around is None else {"values": ops.matmul(ops.cast(self.around, memory.dtype), memory)}
            return {**states, **values, "memory": memory, "mask": ops.ones_like(regions[:, :, 0], dtype="bool")}
        if config.image_injection == "init":
            return {"states": [mean]}
        return {"before": ops.expand_dims(self.region_projection(mean), 1)}

    def _smooth(self, weights):
        """Smooth attention (B, T, R) with a Gaussian of `config.attention_smoothing` regions, if any."""
        return weights if weights is None or self.around is None else ops.matmul(weights, self.around)

    def _add_bias(self, logits):
        return logits if self.output_bias is None else self.output_bias(logits)

    def compute_loss(self, x=None, y=None, y_pred=None, sample_weight=None, training=True):
        """Return the compiled loss, and in training what the attention costs; see `AttentionLoss`."""
        loss = super().compute_loss(x, y, y_pred, sample_weight, training)
        if self.attention_loss is None or not training:
            return loss
        real = ops.ones_like(y, "float32") if sample_weight is None else ops.cast(sample_weight != 0, "float32")
        costs = keras.losses.sparse_categorical_crossentropy(y, ops.cast(y_pred, "float32"), from_logits=True)
        return loss + self.attention_loss.loss(costs, real)

    def start(self, inputs: dict, length=None) -> dict:
        """See the image and return the state before the first token.

        Args:
            inputs: dict of `images` (B, size, size, 3) or `regions` (B, R, C).
            length: the most tokens that will be read, `config.max_length` when absent.

        Returns:
            dict of `constants` (what no step changes, first by batch) and `carry` (tensors (B, 1, ...), changed by
            every step).
        """
        regions = inputs["regions"] if "regions" in inputs else self.vision(inputs["images"])
        given = self._given(self.config, regions)
        before = given.pop("before", None)
        if before is None:
            before = self.embedding(ops.zeros_like(regions[:, :0, 0], dtype="int32"))
        length = self.config.max_length if length is None else length
        constants, carry = self.decoder.start(before, length, **given)
        return {"constants": constants, "carry": carry}

    def step(self, tokens, state: dict):
        """Read one token per beam and answer what may come next.

        Args:
            tokens: (B, K) int, the tokens written last (at first the start token).
            state: from `start` or the last step; `carry` tensors are (B, K, ...).

        Returns:
            logits (B, K, V), the new state, and attention weights (B, K, R) or None.
        """
        outputs, carry, weights = self.decoder.step(self.embedding(tokens), state["constants"], state["carry"])
        logits = self._add_bias(logits_of_step(self.embedding, outputs))
        return logits, {"constants": state["constants"], "carry": carry}, self._smooth(weights)

    def length_limit(self, strategy: Strategy) -> int:
        """Return how many tokens a caption may have: `config.max_length` unless the strategy says."""
        return min(strategy.max_new_tokens or self.config.max_length, self.config.max_length)

    def see(self, images: np.ndarray) -> np.ndarray:
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
