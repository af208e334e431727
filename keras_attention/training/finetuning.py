"""Fine-tuning: freezing, LoRA, rematerialization, and a learning rate for each layer."""

from __future__ import annotations

import re

import keras

from keras_attention.argument_checks import require_positive_integer
from keras_attention.keras_support.keras_patches import all_layers

# Parts of the paths of the weights before block 0.
_EMBEDDING_PATHS = ("embedding/", "character_encoder/", "inputs/", "region_projection/")


def freeze(model: keras.Model) -> None:
    """Freeze the encoder, so that only the layers after it are trained. A saved model is not frozen when it is loaded.

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
    """Add LoRA matrices A and B to each projection in the blocks: its matrix W becomes W + A B, and W is frozen.

    Embeddings, an untied output matrix, normalizations and an image encoder are frozen too. A, B, the biases of the
    projections and the layers after the blocks are trained.

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
            "The model is quantized; expected float weights. LoRA saves the sum W + A B, whose rounding would remove "
            "A B. Fine-tune first, save and load the model, then quantize it."
        )
    if model.image_encoder is not None:
        model.image_encoder.freeze()
    for layer in all_layers(model):
        if isinstance(layer, keras.layers.ReversibleEmbedding):
            layer.trainable = False
    count = 0
    for layer in (layer for stack in _stacks(model) for layer in all_layers(stack)):
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


def _stacks(model: keras.Model) -> list[keras.layers.Layer]:
    return [stack for stack in (model.encoder, model.decoder) if stack is not None]


def restart_lora(model: keras.Model) -> None:
    """Initialize A of each LoRA layer randomly: after loading, A and B are zero, and so are their gradients."""
    for layer in all_layers(model):
        if getattr(layer, "lora_enabled", False):
            values = keras.initializers.HeUniform()(layer.lora_kernel_a.shape, layer.lora_kernel_a.dtype)
            layer.lora_kernel_a.assign(values)


def rematerialize(model: keras.Model) -> None:
    """Let the backward pass recompute each Transformer block, instead of storing its activations.

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
    stacks = [stack for stack in _stacks(model) if stack.blocks]
    if not stacks:
        raise ValueError(
            f"This {type(model).__name__} has no Transformer blocks to rematerialize; expected a Transformer preset. "
            "For a recurrent network, leave rematerialization (--rematerialize) out and lower `max_tokens`."
        )
    layers = [layer for stack in stacks for layer in all_layers(stack)]
    has_dropout = any(layer.rate for layer in layers if isinstance(layer, keras.layers.Dropout))
    if keras.backend.backend() == "tensorflow" and has_dropout:
        raise ValueError(
            "On TensorFlow, dropout drops different units when a block is recomputed, so the gradients would be wrong. "
            "Train with dropout=0 and attention_dropout=0, or on JAX."
        )
    for stack in stacks:
        stack.rematerialize = True


def layer_factors(model: keras.Model, layer_decay: float) -> dict[str, float]:
    """Return a factor of the learning rate for each trained weight, which decreases from the last block to the first.

    Of n blocks, block i = 0 ... n - 1 has the factor d^(n - 1 - i). The embeddings and an image encoder have d^n; the
    layers after the blocks have 1.

    Args:
        model: a model of this library.
        layer_decay: d, in (0, 1].

    Returns:
        dict of paths of weights to factors, for `Adam`.

    Example:
        >>> sizes = {"width": 14, "num_heads": 2, "num_layers": 3, "intermediate_dim": 5}
        >>> model = ka.CausalLM(ka.config.TransformerConfig(vocabulary_size=11, positions="learned", **sizes))
        >>> layer_factors(model, 0.5)["embedding/embeddings"]
        0.125

    Reference: Howard and Ruder, 2018, https://arxiv.org/abs/1801.06146; Clark et al., 2020,
    https://arxiv.org/abs/2003.10555 (the decay).
    """
    # The variable paths of an image encoder do not start with the name of the captioner.
    image_encoder = set() if model.image_encoder is None else {weight.path for weight in model.image_encoder.weights}

    def exponent(path: str) -> int:
        if path in image_encoder or any(part in path for part in _EMBEDDING_PATHS):
            return model.config.num_layers
        block = re.search(r"(?:block|layer)_(\d+)/", path)
        return model.config.num_layers - 1 - int(block[1]) if block else 0

    return {weight.path: layer_decay ** exponent(weight.path) for weight in model.trainable_weights}
