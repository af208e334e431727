"""Losses of a captioner's attention: the doubly stochastic loss, and REINFORCE for hard attention.

    soft:  loss = -log p(y | x)  +  lambda sum_i (1 - sum_t a_ti)^2
    hard:  grad loss = grad [-log p(y | s)  -  lambda_r (log p(y | s) - b) log p(s)  -  lambda_e entropy(s)]

a_t are the attention scores of step t over the regions, s the sampled regions, and b a moving average of
log p(y | s). The lambda term is smallest if the words together attend to each region once. In the gradient, b and the
factor (log p(y | s) - b) are constants.
"""

from __future__ import annotations

import keras
from keras import ops

from keras_attention.layers.attention import chosen_positions, log_scores
from keras_attention.layers.base import BaseLayer

_MOMENTUM = 0.9  # momentum of the moving average b


@keras.saving.register_keras_serializable("keras_attention")
class GumbelNoise(BaseLayer):
    """Return Gumbel noise -log(-log u), u uniform in (0, 1), so that argmax(log p + noise) is a sample from p.

    Call arguments:
        query: (B, T, any), one query for each step.
        memory: (B, R, any).
        training: return noise; zeros otherwise.

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
        """Compute the noise; see the class docstring."""
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
    """Return the inputs unchanged, and store the attention scores of this call for `loss`.

    A model calls the layer in its `call`. Later, when the labels are known, it adds `loss` to its own loss:

        soft attention:    lambda sum_i (1 - sum_t a_ti)^2
        hard attention:    this, and terms with the value 0 and the gradient of
                           -lambda_r (log p(y | s) - b) log p(s)  -  lambda_e entropy(s)

    a_t are the scores of step t over the regions, s the sampled regions, and b a moving average of log p(y | s).

    Args:
        doubly_stochastic: lambda, the weight of the doubly stochastic loss.
        reinforce: lambda_r, the weight of REINFORCE for hard attention.
        entropy: lambda_e, the weight of the entropy for hard attention.

    Call arguments:
        inputs: any tensor.
        scores: (B, T, R) attention scores.
        noise: (B, T, R), the noise with which hard attention sampled; None for soft attention.

    Output:
        `inputs`.

    Raises:
        ValueError: `loss` is called without a new call of the layer before it.

    Example:
        >>> layer, scores = AttentionLoss(doubly_stochastic=0.5), keras.ops.ones((1, 2, 3)) / 3
        >>> outputs = layer(keras.ops.ones((1, 2, 5)), scores)
        >>> costs, mask = keras.ops.ones((1, 2)), keras.ops.ones((1, 2), bool)
        >>> round(float(layer.loss(costs, mask)), 3)  # 0.5 3 (1/3)^2 / 2
        0.083

    Reference: Xu et al., 2015, https://arxiv.org/abs/1502.03044, sections 4.1 and 4.2.
    """

    def __init__(
        self, doubly_stochastic: float = 1.0, reinforce: float = 1.0, entropy: float = 0.002, **kwargs
    ) -> None:
        super().__init__(**{**kwargs, "autocast": False})  # the scores must remain float32
        self.doubly_stochastic, self.reinforce, self.entropy = doubly_stochastic, reinforce, entropy
        self.scores = self.noise = None

    def build(self, inputs_shape, scores_shape, noise_shape=None) -> None:
        """Create the moving average b, for hard attention."""
        self.baseline = self.baseline_known = None
        if noise_shape is not None:
            self.baseline = self.add_weight(shape=(), initializer="zeros", trainable=False, name="baseline")
            self.baseline_known = self.add_weight(shape=(), initializer="zeros", trainable=False, name="baseline_known")

    def call(self, inputs, scores, noise=None):
        """Return the inputs; see the class docstring."""
        self.scores, self.noise = scores, noise
        return inputs

    def compute_output_spec(self, inputs, *_: object, **__: object):
        """Return the shape and dtype of the inputs."""
        return keras.KerasTensor(inputs.shape, dtype=inputs.dtype)

    def loss(self, costs, mask):
        """Return the loss of the last call's attention scores, per unmasked token.

        Args:
            costs: (B, T) float32, -log p of each token.
            mask: (B, T) padding mask, True = a real token.

        Returns:
            a float32 scalar.

        Raises:
            ValueError: the layer has not been called since the last loss.
        """
        if self.scores is None:
            raise ValueError(
                "There are no attention scores for `loss`; expected a call of the layer before each loss. Call the "
                "layer with the scores first."
            )
        scores, noise, mask = self.scores, self.noise, ops.cast(mask, "float32")
        self.scores = self.noise = None
        total = self.doubly_stochastic * doubly_stochastic(scores, mask) * ops.max(mask, axis=1)
        if noise is not None:
            total = total + self._hard_loss(scores, noise, ops.sum(-costs * mask, axis=1), mask)
        return ops.sum(total) / ops.maximum(ops.sum(mask), 1.0)

    def _hard_loss(self, scores, noise, log_likelihood, mask):
        """Return the loss of hard attention (B,): a REINFORCE term for the sampled regions, and an entropy term."""
        log_likelihood = ops.stop_gradient(log_likelihood)  # log p(y | s), (B,)
        baseline = self._update_baseline(log_likelihood, mask)  # b, a scalar
        log_a = log_scores(scores)  # (B, T, R)
        is_sampled = ops.stop_gradient(chosen_positions(scores, noise))  # s, one-hot (B, T, R)
        log_sampled = ops.sum(log_a * is_sampled, axis=-1)  # log p(s_t), (B, T)
        entropy = -ops.sum(scores * log_a, axis=-1)  # (B, T)
        reinforce = -self.reinforce * (log_likelihood - baseline) * ops.sum(log_sampled * mask, axis=1)  # (B,)
        reinforce = reinforce - ops.stop_gradient(reinforce)  # the value is 0; only the gradient matters
        return reinforce - self.entropy * ops.sum(entropy * mask, axis=1)

    def _update_baseline(self, log_likelihood, mask):
        """Return b of the batches before this one (for the first batch, its mean), and update b."""
        num_texts = ops.maximum(ops.sum(ops.max(mask, axis=1)), 1.0)  # A text without real tokens does not count.
        mean = ops.sum(log_likelihood) / num_texts
        known = ops.convert_to_tensor(self.baseline_known) > 0
        baseline = ops.where(known, ops.convert_to_tensor(self.baseline), mean)
        self.baseline.assign(_MOMENTUM * baseline + (1 - _MOMENTUM) * mean)
        self.baseline_known.assign(1.0)
        return baseline


def doubly_stochastic(scores, mask):
    """Return sum_i (1 - sum_t a_ti)^2 over the regions i, where a_t are the scores of the unmasked steps t.

    Args:
        scores: (B, T, R) float32; each step's scores sum to 1.
        mask: (B, T) padding mask, True = a real step.

    Returns:
        (B,) float32.

    Example:
        >>> float(doubly_stochastic(keras.ops.array([[[1.0, 0.0], [1.0, 0.0]]]), keras.ops.ones((1, 2), bool))[0])
        2.0

    Reference: Xu et al., 2015, https://arxiv.org/abs/1502.03044, section 4.2.1.
    """
    received = ops.sum(scores * ops.cast(ops.expand_dims(mask, -1), "float32"), axis=1)
    return ops.sum(ops.square(1.0 - received), axis=-1)
