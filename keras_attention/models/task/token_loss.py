"""The loss of a task per token, however examples are batched, accumulated or distributed over replicas.

    loss = sum w cost / sum |w|

For the displayed loss, the sums are over an epoch; for the gradient, over the batches of an update.

Keras weights the losses of batches by their number of examples, and the gradients of accumulated batches equally. A
token of a batch with few tokens would then have more weight. The methods of `Task` call the functions of this module.
"""

from __future__ import annotations

from typing import Any

import keras
from keras import ops

from keras_attention.keras_support import keras_patches
from keras_attention.metrics.tokens import label_weights


class LossTracker(keras.metrics.Metric):
    """The loss of an epoch: the sum over outputs of l sum w cost / sum |w|, and, for several outputs, each of them.

    Args:
        losses: output name -> (its loss, which has a method `sums`; its factor l). The name of a single output is "".
    """

    def __init__(self, losses: dict[str, tuple[Any, float]]) -> None:
        super().__init__(name="loss", dtype="float32")
        self.losses = losses
        self.batch_factor: Any = 1.0  # factor of the loss of a batch, if gradients are accumulated
        self.totals = {
            name: [self.add_variable((), "zeros", name=f"{name}{kind}") for kind in ("cost", "weight")]
            for name in losses
        }

    def update_state(self, values, sample_weight=None) -> None:
        """Do nothing: Keras passes the loss of a batch, but `add` needs its two sums."""

    def add(self, name: str, cost, weight) -> None:
        """Add `cost`, sum w cost, and `weight`, sum |w|, of a batch."""
        for total, value in zip(self.totals[name], (cost, weight), strict=True):
            total.assign_add(ops.stop_gradient(value))

    def result(self):
        """Return the loss, or for several outputs a dict of `loss` and of the loss of each output."""
        means = {name: ops.divide_no_nan(*self.totals[name]) for name in self.losses}
        loss = sum(factor * means[name] for name, (_, factor) in self.losses.items())
        return loss if "" in means else {"loss": loss, **{f"{name}_loss": mean for name, mean in means.items()}}


def track_token_loss(model, loss: Any, loss_weights: Any) -> None:
    """Make a compiled model report and minimize the loss per token, if each of its losses has a method `sums`.

    Args:
        loss: the loss, or a dict or list of losses; see `keras.Model.compile`.
        loss_weights: the factor of the loss, or a dict or list of factors; None for 1.

    Raises:
        ValueError: the optimizer accumulates gradients, and the model has several replicas on TensorFlow.
    """
    names = list(model.output) if isinstance(model.output, dict) else [""]
    losses, factors = _by_name(names, loss), _by_name(names, 1.0 if loss_weights is None else loss_weights)
    if all(hasattr(loss, "sums") for loss in losses.values()):
        tracker = LossTracker({name: (losses[name], factors.get(name, 1.0)) for name in losses})
        keras_patches.set_loss_tracker(model, tracker)
        _add_accumulated_weight(_inner_optimizer(model.optimizer), keras_patches.distribution_strategy(model))
        if keras.backend.backend() == "tensorflow" and model.optimizer is not None:
            keras_patches.clip_whole_gradient(_inner_optimizer(model.optimizer))


def _by_name(names: list[str], values: Any) -> dict[str, Any]:
    """Return output name -> value, for the values that Keras accepts: one, a list or a dict."""
    if isinstance(values, dict):
        return dict(values)
    return dict(zip(names, values, strict=True)) if isinstance(values, (list, tuple)) else dict.fromkeys(names, values)


def compute_loss(model, x, y, y_pred, sample_weight, training, added):
    """Return the loss of a batch per token, plus `added` and the losses of layers; see `keras.Model.compute_loss`.

    On a replica it is the replica's part of the loss of the whole batch. If gradients are accumulated, it is multiplied
    by a factor, so that Keras' mean of the gradients is the gradient of the loss per token of all these batches.
    """
    if training and model.r_drop:
        added = added + model.r_drop * r_drop_loss(y_pred, label_weights(y, sample_weight))
    tracker = keras_patches.loss_tracker(model)
    if not isinstance(tracker, LossTracker):
        return keras.Model.compute_loss(model, x, y, y_pred, sample_weight, training) + added
    for loss in model.losses:
        added = added + ops.sum(loss)
    total = 0.0
    for name, (loss, factor) in tracker.losses.items():
        cost, weight = loss.sums(*(_output_values(name, values) for values in (y, y_pred, sample_weight)))
        cost, added = cost + added * weight, 0.0  # the losses of layers count as a part of the first output's
        tracker.add(name, cost, weight)
        total = total + factor * cost / ops.maximum(_sum_over_replicas(weight), keras.config.epsilon())
    return total * tracker.batch_factor if training else total


def r_drop_loss(logits, weights):
    """Return the divergence of the predictions in successive rows, 2 i and 2 i + 1, per token.

    With the probabilities p and q of the two rows, the divergence of a token is

        1/2 (KL(p || q) + KL(q || p))  =  1/2 sum over the classes of (p - q) (log p - log q)

    Args:
        logits: (2 B, ..., classes).
        weights: (2 B, ...), the weight of each token.

    Example:
        >>> logits = np.log([[0.5, 0.5], [0.2, 0.8]])
        >>> print(f"{float(r_drop_loss(logits, np.ones(2, 'float32'))):.4f}")  # 0.15 log 4
        0.2079

    Reference: Liang et al., 2021, https://arxiv.org/abs/2106.14448.
    """
    logits, weights = ops.cast(logits, "float32"), ops.abs(weights[::2])
    log_probs = logits - ops.logsumexp(logits, axis=-1, keepdims=True)
    first, second = log_probs[::2], log_probs[1::2]
    divergences = 0.5 * ops.sum((ops.exp(first) - ops.exp(second)) * (first - second), axis=-1)
    return ops.divide_no_nan(ops.sum(weights * divergences), ops.sum(weights))


def _repeat_rows(data):
    """Return a batch with each row twice in succession."""
    return keras.tree.map_structure(lambda x: None if x is None else ops.repeat(x, 2, axis=0), data)


def _output_values(name: str, values: Any) -> Any:
    return values[name] if name and isinstance(values, dict) else values


def train_step(model, *arguments):
    """Update the weights, or accumulate the gradients of a batch; see `keras.Model.train_step` for the arguments."""
    if model.r_drop:
        arguments = (*arguments[:-1], _repeat_rows(arguments[-1]))
    accumulated_weight = getattr(_inner_optimizer(model.optimizer), "accumulated_weight", None)
    tracker = keras_patches.loss_tracker(model)
    if accumulated_weight is None or not isinstance(tracker, LossTracker):
        return keras.Model.train_step(model, *arguments)
    *state, data = arguments
    if not model.optimizer.built:
        model.optimizer.build(model.trainable_variables)
    if state:  # JAX: the values of the variables are arguments
        (values,) = state
        variables = model.optimizer.variables
        with keras.StatelessScope(state_mapping=zip(variables, values[2], strict=True)) as scope:
            factor = _weigh_accumulated(model, data)
        state = [(*values[:2], [scope.get_current_value(variable) for variable in variables], values[3])]
    else:
        factor = _weigh_accumulated(model, data)
    tracker.batch_factor = factor
    try:
        return keras.Model.train_step(model, *state, data)
    finally:
        tracker.batch_factor = 1.0


def _weigh_accumulated(model, data):
    """Scale the accumulated gradients for the next batch, and return the factor of its loss.

    After n batches, Keras computes (a + g) / n of the accumulator a and the gradient g. If a / n is the mean over the
    tokens so far, with the total weight w_old, and w is the weight of the batch, then a w_old / (w_old + w) and
    n g w / (w_old + w) give the mean over all tokens. With several outputs, w is the weight of the first one.
    """
    optimizer = _inner_optimizer(model.optimizer)
    _, y, sample_weight = keras.utils.unpack_x_y_sample_weight(data)
    name = next(iter(keras_patches.loss_tracker(model).losses))
    labels, weights = _output_values(name, y), _output_values(name, sample_weight)
    weight = _sum_over_replicas(ops.sum(ops.abs(label_weights(labels, weights))))
    weight_so_far = ops.where(
        keras_patches.begins_accumulation(optimizer), 0.0, ops.convert_to_tensor(optimizer.accumulated_weight)
    )
    weight_fraction = ops.divide_no_nan(weight, weight_so_far + weight)
    optimizer.accumulated_weight.assign(weight_so_far + weight)
    keras_patches.scale_accumulated_gradients(optimizer, 1.0 - weight_fraction)
    return weight_fraction * optimizer.gradient_accumulation_steps


def _inner_optimizer(optimizer: Any) -> Any:
    """Return the optimizer inside a `LossScaleOptimizer`, or the optimizer itself."""
    return getattr(optimizer, "inner_optimizer", optimizer)


def _add_accumulated_weight(optimizer: Any, strategy: Any) -> None:
    """Add a variable for the total weight of the accumulated batches to an optimizer that accumulates gradients."""
    if not getattr(optimizer, "gradient_accumulation_steps", None):
        return
    if strategy is not None and strategy.num_replicas_in_sync > 1:
        raise ValueError(
            "Keras does not accumulate gradients on several replicas of TensorFlow. Use larger batches without "
            "gradient accumulation, or use JAX with `keras.distribution`."
        )
    if not hasattr(optimizer, "accumulated_weight"):
        optimizer.accumulated_weight = optimizer.add_variable(
            (), name="accumulated_weight", dtype="float32", aggregation="only_first_replica"
        )


def _sum_over_replicas(values: Any) -> Any:
    context = keras_patches.replica_context()
    return values if context is None else context.all_reduce("SUM", values)
