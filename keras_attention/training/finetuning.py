"""Fine-tuning: freezing, LoRA, rematerialization, and a learning rate for each layer."""

from __future__ import annotations

import re
from collections.abc import Sequence

import keras

from keras_attention.argument_checks import require_fraction, require_positive_integer
from keras_attention.keras_patches import all_layers
from keras_attention.training.optimizers import Adam

EMBEDDING_PATHS = (
    "embedding/",
    "character_encoder/",
    "inputs/",
    "region_projection/",
)  # parts of the paths of weights before block 0


def freeze(model: keras.Model) -> None:
    """Freeze the encoder: only the layers after it are trained. A model that is loaded again is not frozen.

    Args:
        model: a model with an encoder of text, such as a `TextClassifier`, or a `Captioner`, whose image encoder is
            frozen.

    Raises:
        ValueError: the model has no encoder with layers after it.

    Example:
        >>> examples = [("we eat bread", "food"), ("they drink water", "drink")]
        >>> model = ka.TextClassifier.from_examples(examples, tokenizer_kind="characters", units=12)
        >>> freeze(model)
        >>> model.encoder.trainable_weights
        []
    """
    if model.image_encoder is not None:
        model.image_encoder.freeze()
        return
    if model.embedding is None or model.encoder is None:
        raise ValueError(
            f"A {type(model).__name__} has no layers after an encoder, so nothing would be trained. Expected a "
            "TextClassifier, a TextTagger or a Captioner."
        )
    for layer in (model.embedding, model.character_encoder, model.encoder):
        if layer is not None:
            layer.trainable = False


def enable_lora(model: keras.Model, rank: int) -> int:
    """Turn LoRA on: replace the matrix W of each projection in the blocks by W + A B, and train A and B only.

    W, embeddings, an untied output matrix, norms and an image encoder are frozen. The biases of the projections and the
    layers after the blocks are trained.

    Args:
        model: has an `encoder`, a `decoder` or both.
        rank: number of columns of A and rows of B.

    Returns:
        the number of projections with LoRA.

    Raises:
        ValueError: the rank is not positive, the model is quantized, or it has no projections.

    Example:
        >>> pairs = [("we eat bread", "comemos pan"), ("they drink water", "beben agua")]
        >>> sizes = {"width": 14, "num_heads": 2, "num_layers": 3, "intermediate_dim": 5}
        >>> model = ka.Translator.from_examples(pairs, "transformer_tiny", tokenizer_kind="characters", **sizes)
        >>> enable_lora(model, rank=2)
        48

    Reference: Hu et al., 2021, https://arxiv.org/abs/2106.09685.
    """
    require_positive_integer("rank", rank)
    if model.quantization:
        raise ValueError(
            "The model is quantized: a file contains the sum W + A B, whose rounding would remove A B. "
            "Fine-tune first, save and load the model, then quantize it."
        )
    if model.image_encoder is not None:
        model.image_encoder.freeze()
    for embedding in model.embeddings:
        embedding.trainable = False
    count = 0
    for layer in (layer for stack in model.stacks for layer in all_layers(stack)):
        if isinstance(layer, keras.layers.Dense):
            layer.enable_lora(rank)
            count += 1
        elif layer.weights and not all_layers(layer, include_self=False):
            layer.trainable = False
    if not count:
        raise ValueError(
            f"A {type(model).__name__} with this config has no dense projections for LoRA; expected a Transformer, "
            "such as the preset bert_base. Train all weights instead."
        )
    return count


def restart_lora(model: keras.Model) -> None:
    """Initialize A of each LoRA layer at random, because in a loaded model A, B and their gradients are zero."""
    for layer in all_layers(model):
        if getattr(layer, "lora_enabled", False):
            values = keras.initializers.HeUniform()(layer.lora_kernel_a.shape, layer.lora_kernel_a.dtype)
            layer.lora_kernel_a.assign(values)


def rematerialize(model: keras.Model) -> None:
    """Turn on rematerialization: the backward pass recomputes each block instead of storing its activations.

    Args:
        model: has an `encoder` or `decoder` of Transformer blocks, or both.

    Raises:
        ValueError: the model has no Transformer blocks, or it has dropout and the backend is TensorFlow, where the
            second computation would drop different units.

    Example:
        >>> sizes = {"width": 14, "num_heads": 2, "num_layers": 3, "intermediate_dim": 5, "dropout": 0.0}
        >>> sizes["attention_dropout"] = 0.0
        >>> model = ka.CausalLM.from_examples(["we eat bread"], "gpt2_small", tokenizer_kind="characters", **sizes)
        >>> rematerialize(model)

    Reference: Chen et al., 2016, https://arxiv.org/abs/1604.06174.
    """
    stacks = [stack for stack in model.stacks if stack.blocks]
    if not stacks:
        raise ValueError(
            f"This {type(model).__name__} has no Transformer blocks to rematerialize; expected a Transformer preset. "
            "For a recurrent network, leave rematerialization (--remat) out and lower `max_tokens`."
        )
    layers = [layer for stack in stacks for layer in all_layers(stack)]
    has_dropout = any(layer.rate for layer in layers if isinstance(layer, keras.layers.Dropout))
    if keras.backend.backend() == "tensorflow" and has_dropout:
        raise ValueError(
            "On TensorFlow a block that is recomputed drops different units, so the gradients would be wrong. Train "
            "with dropout=0 and attention_dropout=0, or on JAX."
        )
    for stack in stacks:
        stack.remat = True


@keras.saving.register_keras_serializable("keras_attention")
class LayerwiseAdam(Adam):
    """Adam with weight decay and a learning rate for each layer, which decreases from the last block to the first.

    Block i = 0 ... n - 1 has the learning rate r d^(n - 1 - i). The embeddings and an image encoder have r d^n;
    the layers after the blocks have r. The weight decay of a variable is multiplied by its learning rate.

    Args:
        learning_rate: r, a number or a schedule.
        layer_decay: d, in (0, 1].
        num_layers: n.
        inputs: a variable whose path contains one of these strings has r d^n.
        weight_decay: the part of a weight that an update subtracts, over its learning rate.
        **kwargs: arguments of `keras.optimizers.Adam`.

    Raises:
        ValueError: `layer_decay` outside (0, 1].

    Example:
        >>> LayerwiseAdam(1e-4, layer_decay=0.9, num_layers=12).layer_decay
        0.9

    Reference: Howard and Ruder, 2018, https://arxiv.org/abs/1801.06146; Clark et al., 2020,
    https://arxiv.org/abs/2003.10555 (the decay).
    """

    def __init__(
        self,
        learning_rate=1e-3,
        layer_decay: float = 1.0,
        num_layers: int = 1,
        inputs: Sequence[str] = EMBEDDING_PATHS,
        weight_decay: float = 0.004,
        **kwargs,
    ) -> None:
        super().__init__(learning_rate, weight_decay=weight_decay, **kwargs)
        require_fraction("layer_decay", layer_decay)
        self.layer_decay, self.num_layers, self.inputs = layer_decay, num_layers, tuple(inputs)

    def build(self, variables) -> None:
        """Create the moments; store for each variable the factor of its learning rate and whether it decays."""
        super().build(variables)
        self.factors = [self.factor(variable.path) for variable in variables]
        self.decays = [self._use_weight_decay(variable) for variable in variables]

    def update_step(self, gradient, variable, learning_rate):
        """Update one variable with the learning rate of its layer."""
        index = self._get_variable_index(variable)
        rate = learning_rate * self.factors[index]
        if self.decays[index]:
            shrink = keras.ops.cast(rate * self.weight_decay, variable.dtype)
            self.assign_sub(variable, keras.ops.multiply(variable, shrink))
        super().update_step(gradient, variable, rate)

    def _apply_weight_decay(self, variables) -> None:
        """Do nothing: `update_step` applies the weight decay, since each layer has its own learning rate."""

    def factor(self, path: str) -> float:
        """Return the factor of the learning rate for the variable with this path."""
        if any(part in path for part in self.inputs):
            return self.layer_decay**self.num_layers
        block = re.search(r"(?:block|layer)_(\d+)/", path)
        return self.layer_decay ** (self.num_layers - 1 - int(block[1])) if block else 1.0

    def get_config(self) -> dict:
        """Return the constructor's arguments, for saving."""
        sizes = {"layer_decay": self.layer_decay, "num_layers": self.num_layers, "inputs": self.inputs}
        return {**super().get_config(), **sizes}
