"""All private names of Keras that the library reads, and all functions of Keras that it replaces.

Each function says why no public name is enough. They were written for Keras 3.15; if another version fails, look here
first. The rest of the library uses public names, except for `Task`, which overrides `_maybe_symbolic_build` of a model,
`training.optimizers.Adam`, which overrides private methods of an optimizer, and `serving/graph_tokenizers.py`, which
calls private methods of KerasHub's byte-pair tokenizer.
"""

from __future__ import annotations

import contextlib
import contextvars
import functools
import sys
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import keras
from keras.src.backend import get_keras_mask, set_keras_mask  # a layer cannot read or attach a mask otherwise
from keras.src.saving import saving_lib

__all__ = ["get_keras_mask", "set_keras_mask"]
_reads_weights = contextvars.ContextVar("reads_weights", default=False)


def all_layers(layer: keras.layers.Layer, include_self: bool = True) -> list[keras.layers.Layer]:
    """Return a layer, or a model, and all layers inside it; `model.layers` has only the outermost ones."""
    return list(layer._flatten_layers(include_self=include_self))


def replace_clone_model(task_class: type) -> None:
    """Let `keras.models.clone_model` return a whole task with new weights.

    Keras makes a plain functional model of any model with inputs and outputs, even if it has its own `get_config`. The
    plain model has neither prediction methods nor tokenizers.
    """
    clone = keras.models.clone_model

    def clone_model(model: Any, *args: Any, **options: Any) -> Any:
        if args or options or not isinstance(model, task_class):
            return clone(model, *args, **options)
        copy = type(model)(model.config, **model.tokenizers, name=model.name)
        if model.quantization is not None:
            copy.quantize(config=model.quantization)
        if model.compiled:
            copy.compile_from_config(model.get_compile_config())
        return copy

    clone_model.__doc__ = clone.__doc__
    keras.models.clone_model = clone_model


def replace_walk() -> None:
    """Let Keras save and load a small model in two thirds of the time.

    For each layer, Keras makes another one to find the names of the attributes that it does not save: it writes the
    names to a cache under one name, and reads them under another. And it reads all attributes of a tokenizer, such as
    `presets`, which searches all classes of KerasHub. A tokenizer has assets, but nothing below it is saved.
    """
    walk = saving_lib._walk_saveable
    saving_lib.get_attr_skipset = functools.cache(saving_lib.get_attr_skipset)

    def walk_saveable(saveable: Any) -> Iterable[tuple[str, Any]]:
        hub = sys.modules.get("keras_hub")
        is_tokenizer = hub is not None and isinstance(saveable, hub.tokenizers.Tokenizer)
        return () if is_tokenizer and not saveable.weights else walk(saveable)

    saving_lib._walk_saveable = walk_saveable


@contextlib.contextmanager
def reading_weights() -> Iterator[None]:
    """Skip the random initialization of weights in this block, for models whose weights are then read from a file."""
    token = _reads_weights.set(True)
    try:
        yield
    finally:
        _reads_weights.reset(token)


def make_model(make: Callable[[], keras.Model]) -> keras.Model:
    """Return `make()`; inside `reading_weights`, its weights are 0. Random numbers take longer than reading a file.

    The scope postpones the initialization to its end.
    """
    if not _reads_weights.get():
        return make()
    with keras.StatelessScope():
        model = make()
        for weight in model.weights:
            weight._initializer = keras.initializers.Zeros()
    return model


def loss_tracker(model: keras.Model) -> Any:
    """Return the metric that shows the loss of a compiled model."""
    return model._loss_tracker


def set_loss_tracker(model: keras.Model, tracker: keras.metrics.Metric) -> None:
    """Replace the metric that shows the loss. Keras updates and resets only the metrics that a user adds, and this one.

    `object.__setattr__` keeps Keras from tracking it a second time.
    """
    object.__setattr__(model, "_loss_tracker", tracker)


def distribution_strategy(model: keras.Model) -> Any:
    """Return the `tf.distribute` strategy in whose scope a model was made, or None."""
    return getattr(model, "_distribute_strategy", None)


def replica_context() -> Any:
    """Return the context of one of several replicas of TensorFlow, or None."""
    if keras.backend.backend() != "tensorflow":
        return None
    import tensorflow as tf

    context = tf.distribute.get_replica_context()
    return context if context is not None and context.num_replicas_in_sync > 1 else None


def build_on_one_replica(model: keras.Model, iterator: Any = None, data_batch: Any = None) -> None:
    """Build the metrics of a model from the batch of one replica, as `_maybe_symbolic_build` does.

    Keras' method averages the batches of the replicas, which fails for masks. It calls the method only on TensorFlow.
    """
    strategy = distribution_strategy(model)
    if strategy is None:
        return
    if data_batch is None:
        batch = next(next(iter(iterator))[2])
        data_batch = keras.tree.map_structure(lambda value: strategy.experimental_local_results(value)[0], batch)
    with strategy.scope():
        model._symbolic_build(data_batch=data_batch)


def begins_accumulation(optimizer: keras.optimizers.Optimizer) -> Any:
    """Return whether the next batch is the first one of an update, for an optimizer that accumulates gradients."""
    return keras.ops.equal(optimizer._iterations % optimizer.gradient_accumulation_steps, 0)


def scale_accumulated_gradients(optimizer: keras.optimizers.Optimizer, factor: Any) -> None:
    """Multiply the gradients that an optimizer has accumulated; Keras can only add to them."""
    for accumulator in optimizer._accumulated_gradients:
        accumulator.assign(accumulator * keras.ops.cast(factor, accumulator.dtype))


def clip_whole_gradient(optimizer: keras.optimizers.Optimizer) -> None:
    """Let an optimizer on TensorFlow clip the gradient of the whole batch, in place of `_clip_gradients`.

    Keras would clip the gradient of each replica before it adds them, and take the norm of the rows of a sparse
    gradient before it adds those of one index.
    """
    clip: Callable = optimizer._clip_gradients
    if not (optimizer.clipnorm or optimizer.global_clipnorm or optimizer.clipvalue) or hasattr(clip, "clips_sum"):
        return

    def clip_sum(gradients: list) -> list:
        import tensorflow as tf  # Keras' function does not convert sparse gradients

        gradients, context = [tf.convert_to_tensor(gradient) for gradient in gradients], replica_context()
        if context is None:
            return clip(gradients)
        clipped = clip(context.all_reduce("SUM", gradients))
        return [gradient / context.num_replicas_in_sync for gradient in clipped]  # Keras adds them up again

    clip_sum.clips_sum = True
    optimizer._clip_gradients = clip_sum
