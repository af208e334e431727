"""What a caption's attention is taught beside its words: to look everywhere in the end, and, when hard, where it paid.

    soft:  L = -log p(y | x)  +  lambda sum_i (1 - sum_t a_ti)^2
    hard:  the gradient of L is that of  -log p(y | s)  -  lambda_r (log p(y | s) - b) log p(s)  -  lambda_e H[s]

where a_t are the weights of step t over the regions, s the regions that were drawn, b a moving mean of log p(y | s),
and H the entropy.
"""

from __future__ import annotations

import keras
from keras import ops

from keras_attention.layers.attention import chosen_positions


@keras.saving.register_keras_serializable("keras_attention")
class GumbelNoise(keras.layers.Layer):
    """Noise -log(-log u), u uniform in (0, 1), with which the largest of log p + noise is a draw from p.

    Call arguments:
        queries: (B, T, any), one per step.
        memory: (B, R, any).
        training: whether there is noise; zeros without.

    Output:
        (B, T, R) in the layer's dtype.

    Example:
        >>> tuple(GumbelNoise()(keras.ops.ones((2, 3, 5)), keras.ops.ones((2, 7, 5))).shape)
        (2, 3, 7)
    """

    def __init__(self, **kwargs) -> None:
        super().__init__(**kwargs)
        self.chance = keras.random.SeedGenerator()

    def call(self, queries, memory, training=False):
        """Compute the output; the class describes arguments and shapes."""
        shape = (ops.shape(queries)[0], ops.shape(queries)[1], ops.shape(memory)[1])
        if not training:
            return ops.zeros(shape, self.compute_dtype)
        uniform = keras.random.uniform(shape, 1e-6, 1.0 - 1e-6, dtype="float32", seed=self.chance)
        return ops.cast(-ops.log(-ops.log(uniform)), self.compute_dtype)

    def compute_output_spec(self, queries, memory, *_: object, **__: object):
        """Return shapes and dtypes of the outputs."""
        return keras.KerasTensor((*queries.shape[:2], memory.shape[1]), dtype=self.compute_dtype)


@keras.saving.register_keras_serializable("keras_attention")
class AttentionLoss(keras.layers.Layer):
    """Hand features on as they are, and keep this pass's attention for `loss`.

    Args:
        doubly_stochastic: lambda.
        reinforce: lambda_r, of a hard attention.
        entropy: lambda_e, of a hard attention.

    Call arguments:
        outputs: anything.
        weights: (B, T, R).
        noise: (B, T, R) of a hard attention, None of a soft one.

    Output:
        `outputs`.

    Reference: Xu et al., 2015, https://arxiv.org/abs/1502.03044, sections 4.1 and 4.2.
    """

    def __init__(self, doubly_stochastic: float = 1.0, reinforce: float = 1.0, entropy: float = 0.01, **kwargs) -> None:
        super().__init__(**kwargs, autocast=False)  # the weights that are given are float32, and stay so
        self.doubly_stochastic, self.reinforce, self.entropy = doubly_stochastic, reinforce, entropy
        self.attention = self.noise = None

    def build(self, outputs_shape, weights_shape, noise_shape=None) -> None:
        """Create the moving mean, for a hard attention."""
        self.baseline = self.known = None
        if noise_shape is not None:
            self.baseline = self.add_weight(shape=(), initializer="zeros", trainable=False, name="baseline")
            self.known = self.add_weight(shape=(), initializer="zeros", trainable=False, name="known")

    def call(self, outputs, weights, noise=None):
        """Compute the output; the class describes arguments and shapes."""
        self.attention, self.noise = weights, noise
        return outputs

    def compute_output_spec(self, outputs, *_: object, **__: object):
        """Return shapes and dtypes of the outputs."""
        return keras.KerasTensor(outputs.shape, dtype=outputs.dtype)

    def loss(self, costs, real):
        """Return what the last pass's attention costs, per real token.

        Args:
            costs: (B, T) float32, -log p of each token.
            real: (B, T) float32, 0 at padding.
        """
        (weights, noise), self.attention, self.noise = (self.attention, self.noise), None, None
        total = self.doubly_stochastic * doubly_stochastic(weights, real) * ops.max(real, axis=1)
        if noise is not None:
            total = total + self._hard(weights, noise, ops.sum(-costs * real, axis=1), real)
        return ops.sum(total) / ops.maximum(ops.sum(real), 1.0)

    def _hard(self, weights, noise, log_likelihood, real):
        """Return (B,), whose gradient is that of the expected likelihood over where to look."""
        log_likelihood = ops.stop_gradient(log_likelihood)
        mean, known = ops.convert_to_tensor(self.baseline), ops.convert_to_tensor(self.known)
        now = ops.sum(log_likelihood) / ops.maximum(ops.sum(ops.max(real, axis=1)), 1.0)  # of what is no padding
        baseline = ops.where(known > 0, mean, now)
        self.baseline.assign(0.9 * baseline + 0.1 * now)
        self.known.assign(1.0)
        chances = ops.log(ops.maximum(weights, 1e-30))
        drawn = ops.sum(chances * ops.stop_gradient(chosen_positions(weights, noise)), axis=-1)
        entropy = -ops.sum(weights * chances, axis=-1)
        pull = -self.reinforce * (log_likelihood - baseline) * ops.sum(drawn * real, axis=1)
        pull = pull - ops.stop_gradient(pull)  # it has a gradient, but is no cost
        return pull - self.entropy * ops.sum(entropy * real, axis=1)

    def get_config(self) -> dict:
        """Return the constructor's arguments, for saving."""
        return {
            **super().get_config(),
            "doubly_stochastic": self.doubly_stochastic,
            "reinforce": self.reinforce,
            "entropy": self.entropy,
        }


def doubly_stochastic(weights, real):
    """Return (B,): sum over regions of (1 - what all real steps together looked there)^2.

    Args:
        weights: (B, T, R) float32; each step's weights sum to 1.
        real: (B, T) float32, 0 at padding.

    Example:
        >>> float(doubly_stochastic(keras.ops.array([[[1.0, 0.0], [1.0, 0.0]]]), keras.ops.ones((1, 2)))[0])
        2.0
    """
    seen = ops.sum(weights * ops.expand_dims(real, -1), axis=1)
    return ops.sum(ops.square(1.0 - seen), axis=-1)
