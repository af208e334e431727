"""Losses of a captioner's attention: every region is attended once, and hard attention learns by REINFORCE.

    soft:  L = -log p(y | x)  +  lambda sum_i (1 - sum_t a_ti)^2
    hard:  the gradient of L is that of  -log p(y | s)  -  lambda_r (log p(y | s) - b) log p(s)  -  lambda_e H[s]

a_t are the attention scores of step t over the regions, s the regions that were drawn, b a moving average of
log p(y | s), and H the entropy.
"""

from __future__ import annotations

import keras
from keras import ops

from keras_attention.layers.attention import chosen_positions
from keras_attention.layers.base import BaseLayer

_MOMENTUM = 0.9  # of the moving average b
_TINY = 1e-30  # keeps a logarithm finite


@keras.saving.register_keras_serializable("keras_attention")
class GumbelNoise(BaseLayer):
    """Draw Gumbel noise -log(-log u), u uniform in (0, 1): argmax(log p + noise) is then a draw from p.

    Call arguments:
        query: (B, T, any), one query for each step.
        memory: (B, R, any).
        training: draw noise; zeros otherwise.

    Output:
        (B, T, R) in the layer's dtype.

    Example:
        >>> from keras_attention.layers import AdditiveAttention
        >>> query, memory = keras.random.normal((2, 3, 5)), keras.random.normal((2, 7, 11))
        >>> noise = GumbelNoise()(query, memory, training=True)
        >>> tuple(AdditiveAttention(13, hard=True)(query, memory, noise=noise).shape)
        (2, 3, 11)

    Reference: Maddison et al., 2014, https://arxiv.org/abs/1411.0030.
    """

    def __init__(self, **kwargs) -> None:
        super().__init__(**kwargs)
        self.seed_generator = keras.random.SeedGenerator()

    def call(self, query, memory, training=False):
        """Compute the noise; the class describes the arguments."""
        shape = (ops.shape(query)[0], ops.shape(query)[1], ops.shape(memory)[1])
        if not training:
            return ops.zeros(shape, self.compute_dtype)
        uniform = keras.random.uniform(shape, 1e-6, 1.0 - 1e-6, dtype="float32", seed=self.seed_generator)
        return ops.cast(-ops.log(-ops.log(uniform)), self.compute_dtype)

    def compute_output_spec(self, query, memory, *_: object, **__: object):
        """Return the shape and dtype of the noise."""
        return keras.KerasTensor((*query.shape[:2], memory.shape[1]), dtype=self.compute_dtype)


@keras.saving.register_keras_serializable("keras_attention")
class AttentionLoss(BaseLayer):
    """Return the inputs unchanged, and keep the attention scores of this call for `loss`.

    A model calls the layer on the way to its outputs and adds `loss` in its `compute_loss`, where the labels are known.

    Args:
        doubly_stochastic: lambda, the weight of the doubly stochastic loss.
        reinforce: lambda_r, the weight of REINFORCE for hard attention.
        entropy: lambda_e, the weight of the entropy for hard attention.

    Call arguments:
        inputs: any tensor.
        scores: (B, T, R) attention scores.
        noise: (B, T, R), with which hard attention drew; None for soft attention.

    Output:
        `inputs`.

    Example:
        >>> layer, scores = AttentionLoss(doubly_stochastic=0.5), keras.ops.ones((1, 2, 3)) / 3
        >>> features = layer(keras.ops.ones((1, 2, 5)), scores)
        >>> round(float(layer.loss(costs=keras.ops.ones((1, 2)), real=keras.ops.ones((1, 2)))), 3)  # 0.5 3 (1/3)^2 / 2
        0.083

    Reference: Xu et al., 2015, https://arxiv.org/abs/1502.03044, sections 4.1 and 4.2.
    """

    def __init__(self, doubly_stochastic: float = 1.0, reinforce: float = 1.0, entropy: float = 0.01, **kwargs) -> None:
        super().__init__(**{**kwargs, "autocast": False})  # scores are float32 and must stay so
        self.doubly_stochastic, self.reinforce, self.entropy = doubly_stochastic, reinforce, entropy
        self.scores = self.noise = None

    def build(self, inputs_shape, scores_shape, noise_shape=None) -> None:
        """Create the moving average b, for hard attention."""
        self.baseline = self.baseline_known = None
        if noise_shape is not None:
            self.baseline = self.add_weight(shape=(), initializer="zeros", trainable=False, name="baseline")
            self.baseline_known = self.add_weight(shape=(), initializer="zeros", trainable=False, name="baseline_known")

    def call(self, inputs, scores, noise=None):
        """Return the inputs; the class describes the arguments."""
        self.scores, self.noise = scores, noise
        return inputs

    def compute_output_spec(self, inputs, *_: object, **__: object):
        """Return the shape and dtype of the inputs."""
        return keras.KerasTensor(inputs.shape, dtype=inputs.dtype)

    def loss(self, costs, real):
        """Return the loss of the last call's attention scores, per real token.

        Args:
            costs: (B, T) float32, -log p of each token.
            real: (B, T) float32, 1 for a real token and 0 for padding.

        Returns:
            a float32 scalar.
        """
        (scores, noise), self.scores, self.noise = (self.scores, self.noise), None, None
        total = self.doubly_stochastic * doubly_stochastic(scores, real) * ops.max(real, axis=1)
        if noise is not None:
            total = total + self._hard_loss(scores, noise, ops.sum(-costs * real, axis=1), real)
        return ops.sum(total) / ops.maximum(ops.sum(real), 1.0)

    def _hard_loss(self, scores, noise, log_likelihood, real):
        """Return (B,), whose gradient is that of the expected log-likelihood under the drawn regions."""
        log_likelihood = ops.stop_gradient(log_likelihood)
        baseline = self._update_baseline(log_likelihood, real)
        log_scores = ops.log(ops.maximum(scores, _TINY))
        log_drawn = ops.sum(log_scores * ops.stop_gradient(chosen_positions(scores, noise)), axis=-1)
        entropy = -ops.sum(scores * log_scores, axis=-1)
        reinforce = -self.reinforce * (log_likelihood - baseline) * ops.sum(log_drawn * real, axis=1)
        reinforce = reinforce - ops.stop_gradient(reinforce)  # it has a gradient, and the value 0
        return reinforce - self.entropy * ops.sum(entropy * real, axis=1)

    def _update_baseline(self, log_likelihood, real):
        """Return b before this batch, or the batch's own mean the first time, and update b."""
        rows = ops.maximum(ops.sum(ops.max(real, axis=1)), 1.0)  # those that are not padding
        mean = ops.sum(log_likelihood) / rows
        known = ops.convert_to_tensor(self.baseline_known) > 0
        baseline = ops.where(known, ops.convert_to_tensor(self.baseline), mean)
        self.baseline.assign(_MOMENTUM * baseline + (1 - _MOMENTUM) * mean)
        self.baseline_known.assign(1.0)
        return baseline


def doubly_stochastic(scores, real):
    """Return (B,): sum_i (1 - sum_t a_ti)^2 over the regions i, with scores a_t of the real steps t.

    Args:
        scores: (B, T, R) float32; each step's scores sum to 1.
        real: (B, T) float32, 1 for a real step and 0 for padding.

    Example:
        >>> float(doubly_stochastic(keras.ops.array([[[1.0, 0.0], [1.0, 0.0]]]), keras.ops.ones((1, 2)))[0])
        2.0

    Reference: Xu et al., 2015, https://arxiv.org/abs/1502.03044, section 4.2.1.
    """
    received = ops.sum(scores * ops.expand_dims(real, -1), axis=1)
    return ops.sum(ops.square(1.0 - received), axis=-1)
