"""The loss of a task per token, however examples are batched, accumulated or spread over replicas.

    loss = sum w cost / sum |w|  over all tokens of an epoch (shown), or of an update (its gradient)

Keras averages the losses of batches, weighted by their rows, and the gradients of accumulated batches, so a token of a
batch with few tokens would count more. `Task` calls the functions of this module in its methods.
"""

from __future__ import annotations

from typing import Any

import keras
from keras import ops


class LossTracker(keras.metrics.Metric):
    """The loss of an epoch: the sum over outputs of l sum w cost / sum |w|, and, for several outputs, each of them.

    Args:
        losses: output name -> (its loss, which has a method `sums`; its factor l). The name of a single output is "".
    """

    def __init__(self, losses: dict[str, tuple[Any, float]]) -> None:
        super().__init__(name="loss", dtype="float32")
        self.losses = losses
        self.totals = {
            name: [self.add_variable((), "zeros", name=f"{name}{kind}") for kind in ("cost", "weight")]
            for name in losses
        }

    def update_state(self, values, sample_weight=None) -> None:
        """Do nothing: Keras passes the loss of a batch here, but `add` has its sums."""

    def add(self, name: str, cost, weight) -> None:
        """Add the sums of a batch, of w cost and of |w|."""
        for total, value in zip(self.totals[name], (cost, weight), strict=True):
            total.assign_add(ops.stop_gradient(value))

    def result(self):
        """Return the loss, or for several outputs a dict of `loss` and of the loss of each output."""
        means = {name: ops.divide_no_nan(*self.totals[name]) for name in self.losses}
        loss = sum(factor * means[name] for name, (_, factor) in self.losses.items())
        return loss if "" in means else {"loss": loss, **{f"{name}_loss": mean for name, mean in means.items()}}


def track_token_loss(self, loss: Any, loss_weights: Any) -> None:
    """Let a compiled model show and minimize its loss per token, if each of its losses has a method `sums`.

    Args:
        loss: the loss, or a dict or list of losses; see `keras.Model.compile`.
        loss_weights: the factors of the losses, in the same way; None for 1.

    Raises:
        ValueError: the optimizer accumulates gradients, and the model has several replicas on TensorFlow.
    """
    names = list(self.output) if isinstance(self.output, dict) else [""]
    losses, factors = _by_name(names, loss), _by_name(names, 1.0 if loss_weights is None else loss_weights)
    if all(hasattr(loss, "sums") for loss in losses.values()):
        tracker = LossTracker({name: (losses[name], factors.get(name, 1.0)) for name in losses})
        object.__setattr__(self, "_loss_tracker", tracker)  # Keras tracks only metrics that a user adds
        _add_accumulated_weight(_inner_optimizer(self.optimizer), getattr(self, "_distribute_strategy", None))
        if keras.backend.backend() == "tensorflow" and self.optimizer is not None:
            _clip_sum(_inner_optimizer(self.optimizer))


def _by_name(names: list[str], values: Any) -> dict[str, Any]:
    """Return output name -> value, for the values that Keras accepts: one, a list or a dict."""
    if isinstance(values, dict):
        return dict(values)
    return dict(zip(names, values, strict=True)) if isinstance(values, (list, tuple)) else dict.fromkeys(names, values)


def compute_loss(self, x=None, y=None, y_pred=None, sample_weight=None, training=True):
    """Return the loss of a batch per token, plus the losses of layers; see `keras.Model.compute_loss`.

    On a replica it is the replica's part of the loss of the whole batch. If gradients are accumulated, it is multiplied
    by a factor, so that Keras' mean of the gradients is the gradient of the loss per token of all these batches.
    """
    tracker, added = self._loss_tracker, self.added_loss(y, y_pred, sample_weight, training)
    if not isinstance(tracker, LossTracker):
        return keras.Model.compute_loss(self, x, y, y_pred, sample_weight, training) + added
    for loss in self.losses:
        added = added + ops.sum(loss)
    total = 0.0
    for name, (loss, factor) in tracker.losses.items():
        cost, weight = loss.sums(*(_output_values(name, values) for values in (y, y_pred, sample_weight)))
        cost, added = cost + added * weight, 0.0  # the losses of layers count as a part of the first output's
        tracker.add(name, cost, weight)
        total = total + factor * cost / ops.maximum(_sum_over_replicas(weight), keras.config.epsilon())
    return total * self._accumulated_factor if training else total


def _output_values(name: str, values: Any) -> Any:
    return values[name] if name and isinstance(values, dict) else values


def train_step(self, *arguments):
    """Update the weights, or accumulate the gradients of a batch; see `keras.Model.train_step` for the arguments."""
    accumulated_weight = getattr(_inner_optimizer(self.optimizer), "accumulated_weight", None)
    if accumulated_weight is None or not isinstance(self._loss_tracker, LossTracker):
        return keras.Model.train_step(self, *arguments)
    *state, data = arguments
    if not self.optimizer.built:
        self.optimizer.build(self.trainable_variables)
    if state:  # JAX: the values of the variables are arguments
        (values,) = state
        variables = self.optimizer.variables
        with keras.StatelessScope(state_mapping=zip(variables, values[2], strict=True)) as scope:
            factor = _weigh_accumulated(self, data)
        state = [(*values[:2], [scope.get_current_value(variable) for variable in variables], values[3])]
    else:
        factor = _weigh_accumulated(self, data)
    object.__setattr__(self, "_accumulated_factor", factor)
    try:
        return keras.Model.train_step(self, *state, data)
    finally:
        object.__setattr__(self, "_accumulated_factor", 1.0)


def _weigh_accumulated(self, data):
    """Scale the accumulated gradients for the next batch, and return the factor of its loss.

    After n batches, Keras computes (a + g) / n of the accumulator a and the gradient g. If a = n m, where m is the mean
    over the tokens so far with the total weight S, and W is the weight of the batch, then a S / (S + W) and
    n g W / (S + W) give the mean over all tokens. With several outputs, W is the weight of the first one.
    """
    optimizer = _inner_optimizer(self.optimizer)
    _, y, sample_weight = keras.utils.unpack_x_y_sample_weight(data)
    name = next(iter(self._loss_tracker.losses))
    labels, weights = _output_values(name, y), _output_values(name, sample_weight)
    weight = ops.sum(ops.abs(ops.cast(ops.ones_like(labels) if weights is None else weights, "float32")))
    weight = _sum_over_replicas(weight)
    begins = ops.equal(optimizer._iterations % optimizer.gradient_accumulation_steps, 0)
    weight_so_far = ops.where(begins, 0.0, ops.convert_to_tensor(optimizer.accumulated_weight))
    weight_fraction = ops.divide_no_nan(weight, weight_so_far + weight)
    optimizer.accumulated_weight.assign(weight_so_far + weight)
    for accumulator in optimizer._accumulated_gradients:
        accumulator.assign(accumulator * ops.cast(1.0 - weight_fraction, accumulator.dtype))
    return weight_fraction * optimizer.gradient_accumulation_steps


def _inner_optimizer(optimizer: Any) -> Any:
    """Return the optimizer inside a `LossScaleOptimizer`, or the optimizer itself."""
    return getattr(optimizer, "inner_optimizer", optimizer)


def _add_accumulated_weight(optimizer: Any, strategy: Any) -> None:
    """Give an optimizer that accumulates gradients a variable for the total weight of the accumulated batches."""
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


def _replica_context() -> Any:
    """Return the context of one of several replicas of TensorFlow, or None."""
    if keras.backend.backend() != "tensorflow":
        return None
    import tensorflow as tf

    context = tf.distribute.get_replica_context()
    return context if context is not None and context.num_replicas_in_sync > 1 else None


def _sum_over_replicas(values: Any) -> Any:
    context = _replica_context()
    return values if context is None else context.all_reduce("SUM", values)


def _clip_sum(optimizer: Any) -> None:
    """Let an optimizer on TensorFlow clip the gradient of the whole batch.

    Keras would clip the gradient of each replica before it adds them, and take the norm of the rows of a sparse
    gradient before it adds those of one index.
    """
    clip = optimizer._clip_gradients
    if not (optimizer.clipnorm or optimizer.global_clipnorm or optimizer.clipvalue) or hasattr(clip, "clips_sum"):
        return

    def clip_sum(gradients: list) -> list:
        import tensorflow as tf  # Keras' function does not convert sparse gradients

        gradients, context = [tf.convert_to_tensor(gradient) for gradient in gradients], _replica_context()
        if context is None:
            return clip(gradients)
        clipped = clip(context.all_reduce("SUM", gradients))
        return [gradient / context.num_replicas_in_sync for gradient in clipped]  # Keras adds them up again

    clip_sum.clips_sum = True
    optimizer._clip_gradients = clip_sum


def build_on_replicas(self, iterator=None, data_batch=None) -> None:
    """Build the metrics from one replica's batch: Keras would average the replicas' batches, which fails for masks."""
    strategy = self._distribute_strategy
    if strategy is None:
        return
    if data_batch is None:
        batch = next(next(iter(iterator))[2])
        data_batch = keras.tree.map_structure(lambda value: strategy.experimental_local_results(value)[0], batch)
    with strategy.scope():
        self._symbolic_build(data_batch=data_batch)
