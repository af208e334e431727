"""Small permutation language models with random weights, and one batch for them."""

import numpy as np

import keras_attention as ka
from keras_attention.layers import InputEmbedding, RelativeAttention, RelativeTransformer, TransformerBlock
from keras_attention.models.network.layers_from_config import gelu

B, S, P, M, H, D, V = 2, 5, 2, 6, 2, 3, 31


def make_rng(seed: int = 3) -> np.random.Generator:
    return np.random.default_rng(seed)


def randomize(layer, scale: float = 0.5) -> None:
    layer.set_weights([make_rng(i).normal(size=w.shape) * scale for i, w in enumerate(layer.get_weights())])


def make_stack(use_segments: bool = True, **block_options) -> RelativeTransformer:
    blocks = [
        TransformerBlock(H, 11, gelu, epsilon=1e-12, attention=RelativeAttention(H, D, use_segments), **block_options)
        for _ in range(2)
    ]
    stack = RelativeTransformer(blocks, InputEmbedding())
    stack.build((None, None, M))
    randomize(stack)
    return stack


def make_model(**sizes) -> ka.PermutationLM:
    small = {
        "vocabulary_size": V,
        "width": M,
        "num_heads": H,
        "num_layers": 2,
        "intermediate_dim": 11,
        "max_length": 19,
    }
    model = ka.PermutationLM.from_preset("xlnet_base", **{**small, **sizes})
    randomize(model)
    return model


def batch(seed: int = 5) -> dict[str, np.ndarray]:
    """Ids with padding, random orders, and two targets in each row."""
    rng = make_rng(seed)
    mask = np.array([[True] * S, [True] * 3 + [False] * 2])
    targets = np.array([[3, 0], [2, 0]])
    chosen = np.eye(S, dtype=bool)[targets].any(1)
    return {
        "token_ids": rng.integers(0, V, (B, S)).astype("int32"),
        "padding_mask": mask,
        "segment_ids": np.array([[0, 0, 1, 1, 2], [0, 1, 1, 0, 0]], "int32"),
        "permutation_mask": np.stack(
            [ka.data.batching.permutation.permutation_mask(*pair, rng) for pair in zip(chosen, mask, strict=True)]
        ),
        "target_mapping": np.eye(S, dtype="float32")[targets],
    }
