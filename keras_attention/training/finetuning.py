"""Fine-tuning: which weights move, and how far."""

from __future__ import annotations

import re
from collections.abc import Sequence

import keras

INPUTS = ("embedding/", "spelling/", "inputs/", "region_projection/")  # parts of paths, before the first block


def freeze(model: keras.Model) -> None:
    """Let only what stands behind the encoder learn, until the model is loaded again.

    Args:
        model: has `embedding` and `encoder`, such as a `TextClassifier`; of a `Captioner`, the network that sees.

    Raises:
        ValueError: it has not.
    """
    if hasattr(model, "vision"):
        model.vision.freeze()
        return
    if not (hasattr(model, "embedding") and hasattr(model, "encoder")):
        raise ValueError(f"A {type(model).__name__} has nothing behind an encoder that could learn alone.")
    for layer in (model.embedding, getattr(model, "character_encoder", None), model.encoder):
        if layer is not None:
            layer.trainable = False


def enable_lora(model: keras.Model, rank: int) -> int:
    """Freeze the projections inside the blocks and learn W + A B instead, with A and B of a small rank.

    The projections' biases and what stands behind the blocks learn as before; embeddings (and an output matrix beside
    one), norms, and the network that sees, stay.

    Args:
        model: has an `encoder` or `decoder`, or both.
        rank: columns of A and rows of B.

    Returns:
        how many projections were given a pair.

    Raises:
        ValueError: the rank is not positive, the model is quantised, or it has no projections.

    Reference: Hu et al., 2021, https://arxiv.org/abs/2106.09685.
    """
    if rank < 1:
        raise ValueError(f"`rank` is {rank}; expected a positive integer.")
    if getattr(model, "quantization", None):
        raise ValueError(
            "The model is quantised: a file, which holds the sum W + A B, would round what it learns away. Learn "
            "first, save, load, and quantise that."
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
        raise ValueError(f"{type(model).__name__} has no dense projections that could be adapted.")
    return count


def restart_lora(model: keras.Model) -> None:
    """Let A of each pair, which is zero where W + A B was loaded, begin by chance, so that the pair can learn again."""
    for layer in model._flatten_layers():
        if getattr(layer, "lora_enabled", False):
            begin = keras.initializers.HeUniform()(layer.lora_kernel_a.shape, layer.lora_kernel_a.dtype)
            layer.lora_kernel_a.assign(begin)


def rematerialize(model: keras.Model) -> None:
    """Let a model compute each block again in the backward pass: long stacks then fit into less memory.

    Args:
        model: has an `encoder` or `decoder` of Transformer blocks, or both.

    Raises:
        ValueError: there are no such blocks; or, on TensorFlow, there is dropout, which would fall differently the
            second time.

    Reference: Chen et al., 2016, https://arxiv.org/abs/1604.06174.
    """
    stacks = [getattr(model, name) for name in ("encoder", "decoder") if hasattr(getattr(model, name, None), "remat")]
    if not stacks:
        raise ValueError(f"This {type(model).__name__} has no Transformer blocks that could be computed again.")
    rates = [getattr(layer, "rate", 0.0) for stack in stacks for layer in stack._flatten_layers()]
    if keras.backend.backend() == "tensorflow" and any(rates):
        raise ValueError(
            "On TensorFlow a block that is computed again draws other dropout, so its gradients would be wrong. Train "
            "with dropout=0 and attention_dropout=0, or on JAX."
        )
    for stack in stacks:
        stack.remat = True


@keras.saving.register_keras_serializable("keras_attention")
class LayerwiseAdam(keras.optimizers.AdamW):
    """AdamW whose learning rate shrinks from the last block to the first.

    Block i of L, counted from 0, has rate * d^(L - 1 - i). The embeddings, and a network that sees, have rate * d^L;
    what stands behind the blocks has the whole rate. The weight decay of a variable is times its own rate.

    Args:
        learning_rate: of the last layers.
        layer_decay: d, in (0, 1].
        num_layers: L.
        inputs: parts of the paths of variables that stand before the blocks.
        **kwargs: those of `keras.optimizers.AdamW`.

    Raises:
        ValueError: a decay outside (0, 1].

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
        """Make the moments, and find out the rate of each variable, and whether it decays."""
        super().build(variables)
        self.factors = [self.factor(variable.path) for variable in variables]
        self.decays = [self._use_weight_decay(variable) for variable in variables]

    def update_step(self, gradient, variable, learning_rate):
        """Move one variable, at the rate of its layer."""
        index = self._get_variable_index(variable)
        rate = learning_rate * self.factors[index]
        if self.decays[index]:
            shrink = keras.ops.cast(rate * self.weight_decay, variable.dtype)
            self.assign_sub(variable, keras.ops.multiply(variable, shrink))
        super().update_step(gradient, variable, rate)

    def _apply_weight_decay(self, variables) -> None:
        """Nothing: Keras would do it at one rate for all; `update_step` does it."""

    def factor(self, path: str) -> float:
        """Return what a variable's rate is multiplied with."""
        if any(part in path for part in self.inputs):
            return self.layer_decay**self.num_layers
        block = re.search(r"(?:block|layer)_(\d+)/", path)
        return self.layer_decay ** (self.num_layers - 1 - int(block[1])) if block else 1.0

    def get_config(self) -> dict:
        """Return the constructor's arguments, for saving."""
        sizes = {"layer_decay": self.layer_decay, "num_layers": self.num_layers, "inputs": self.inputs}
        return {**super().get_config(), **sizes}
