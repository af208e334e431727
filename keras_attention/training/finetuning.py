"""Fine-tuning: which weights are trained, and at which learning rate."""

from __future__ import annotations

import re
from collections.abc import Sequence

import keras

INPUTS = ("embedding/", "character_encoder/", "inputs/", "region_projection/")  # in paths of weights before block 0


def freeze(model: keras.Model) -> None:
    """Freeze the encoder, so that only the layers after it are trained, until the model is loaded again.

    Args:
        model: has `embedding` and `encoder`, such as a `TextClassifier`; of a `Captioner` the image encoder is frozen.

    Raises:
        ValueError: the model has no encoder with layers after it.
    """
    if hasattr(model, "vision"):
        model.vision.freeze()
        return
    if not (hasattr(model, "embedding") and hasattr(model, "encoder")):
        raise ValueError(
            f"A {type(model).__name__} has no layers after an encoder that could be trained alone. Expected a "
            "TextClassifier, a TextTagger or a Captioner."
        )
    for layer in (model.embedding, getattr(model, "character_encoder", None), model.encoder):
        if layer is not None:
            layer.trainable = False


def enable_lora(model: keras.Model, rank: int) -> int:
    """Fine-tune with LoRA: train W + A B with A and B of a small rank, and freeze W, the blocks' projections.

    The projections' biases and the layers after the blocks are trained as before. Embeddings (and an output matrix of
    its own), norms and the image encoder are frozen.

    Args:
        model: has an `encoder` or `decoder`, or both.
        rank: columns of A and rows of B.

    Returns:
        how many projections have LoRA.

    Raises:
        ValueError: the rank is not positive, the model is quantised, or it has no projections.

    Reference: Hu et al., 2021, https://arxiv.org/abs/2106.09685.
    """
    if rank < 1:
        raise ValueError(f"`rank` is {rank}; expected a positive integer.")
    if getattr(model, "quantization", None):
        raise ValueError(
            "The model is quantised: a file holds the sum W + A B, and its rounding would remove what LoRA learns. "
            "Fine-tune first, save and load the model, then quantise it."
        )
    stacks = [getattr(model, name) for name in ("encoder", "decoder") if getattr(model, name, None) is not None]
    if hasattr(model, "vision"):
        model.vision.freeze()
    for name in ("embedding", "source_embedding", "target_embedding"):
        if hasattr(model, name):
            getattr(model, name).trainable = False
    count = 0
    for layer in (layer for stack in stacks for layer in stack._flatten_layers()):
        if isinstance(layer, keras.layers.Dense):
            layer.enable_lora(rank)
            count += 1
        elif layer.weights and not list(layer._flatten_layers(include_self=False)):
            layer.trainable = False
    if not count:
        raise ValueError(f"{type(model).__name__} has no dense projections for LoRA.")
    return count


def restart_lora(model: keras.Model) -> None:
    """Initialise A of each pair at random: where W + A B was loaded A and B are zero, and would stay zero."""
    for layer in model._flatten_layers():
        if getattr(layer, "lora_enabled", False):
            values = keras.initializers.HeUniform()(layer.lora_kernel_a.shape, layer.lora_kernel_a.dtype)
            layer.lora_kernel_a.assign(values)


def rematerialize(model: keras.Model) -> None:
    """Rematerialise: compute each block again in the backward pass, which needs less memory.

    Args:
        model: has an `encoder` or `decoder` of Transformer blocks, or both.

    Raises:
        ValueError: there are no such blocks; or, on TensorFlow, there is dropout, which would drop other units the
            second time.

    Reference: Chen et al., 2016, https://arxiv.org/abs/1604.06174.
    """
    stacks = [getattr(model, name) for name in ("encoder", "decoder") if hasattr(getattr(model, name, None), "remat")]
    if not stacks:
        raise ValueError(f"This {type(model).__name__} has no Transformer blocks to rematerialise.")
    rates = [getattr(layer, "rate", 0.0) for stack in stacks for layer in stack._flatten_layers()]
    if keras.backend.backend() == "tensorflow" and any(rates):
        raise ValueError(
            "On TensorFlow a block that is computed again drops other units, so its gradients would be wrong. Train "
            "with dropout=0 and attention_dropout=0, or on JAX."
        )
    for stack in stacks:
        stack.remat = True


@keras.saving.register_keras_serializable("keras_attention")
class LayerwiseAdam(keras.optimizers.AdamW):
    """AdamW whose learning rate decreases from the last block to the first.

    Block i of L, counted from 0, has rate * d^(L - 1 - i). The embeddings and an image encoder have rate * d^L; the
    layers after the blocks have the whole rate. A variable's weight decay is multiplied by its own rate.

    Args:
        learning_rate: of the last layers.
        layer_decay: d, in (0, 1].
        num_layers: L.
        inputs: parts of the paths of variables before the first block.
        **kwargs: those of `keras.optimizers.AdamW`.

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
        inputs: Sequence[str] = INPUTS,
        **kwargs,
    ) -> None:
        super().__init__(learning_rate, **kwargs)
        if not 0 < layer_decay <= 1:
            raise ValueError(f"`layer_decay` is {layer_decay}; expected a number in (0, 1].")
        self.layer_decay, self.num_layers, self.inputs = layer_decay, num_layers, tuple(inputs)

    def build(self, variables) -> None:
        """Create the moments, and store each variable's rate and whether it has weight decay."""
        super().build(variables)
        self.factors = [self.factor(variable.path) for variable in variables]
        self.decays = [self._use_weight_decay(variable) for variable in variables]

    def update_step(self, gradient, variable, learning_rate):
        """Update one variable, at the rate of its layer."""
        index = self._get_variable_index(variable)
        rate = learning_rate * self.factors[index]
        if self.decays[index]:
            shrink = keras.ops.cast(rate * self.weight_decay, variable.dtype)
            self.assign_sub(variable, keras.ops.multiply(variable, shrink))
        super().update_step(gradient, variable, rate)

    def _apply_weight_decay(self, variables) -> None:
        """Do nothing: Keras would use one rate for all variables; `update_step` uses each variable's own."""

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
