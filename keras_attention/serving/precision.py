"""The precision of an export: how its large matrices are stored and multiplied.

    float32     y = x W, as in the model
    bfloat16    y = bfloat16(x) bfloat16(W); the transpose of W is stored, which is faster to read with few rows
    int8        y = (round(127 x / a) W_8) (a / 127) s, with a = max|x| of each row x, and W = W_8 s, s one scale per
                output

In `bfloat16` and `int8`, `Dense` and `Embedding` layers of at least 16,384 weights are replaced; biases,
normalizations, recurrent cells, convolutions, attention scores and probabilities stay in float32.

`int8` uses oneDNN's quantized product. The weights are variables, because loading copies constants many times. On
processors without VNNI instructions, the sum of two products must fit into 16 bits: 255 * 63 * 2 < 2 ** 15, so the
weights W_8 are integers from -63 to 63, and the result is the same on every x86 processor.
"""

from __future__ import annotations

import contextlib
import contextvars
import functools
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from keras_attention.argument_checks import require_one_of
from keras_attention.choices import PRECISIONS
from keras_attention.keras_support.keras_patches import all_layers
from keras_attention.layers.decoding.merged_dense import MergedDense
from keras_attention.serving.batch_norm_folding import folded_convolutions

MIN_WIDTH = 16  # of an embedding; each of its vectors has a scale
MIN_SIZE = 2**14  # weights; smaller matrices fit into the processor's cache and are not faster in fewer bits
INT8_OP = "_QuantizedMatMul"
_MAX_INT8 = 63
_TINY = 1e-30  # the largest weight of a column of zeros
_KINDS = keras.layers.Dense, keras.layers.Embedding, keras.layers.ReversibleEmbedding
_is_tracing = contextvars.ContextVar("is_tracing", default=False)  # whether this thread traces an export
_lock = threading.Lock()  # one export at a time replaces the methods of layers


class BFloat16Matrix:
    """A matrix W (E, F), stored transposed in bfloat16, and a bias b.

    Args:
        matrix: (E, F) float array.
        bias: (F,) float array, or None for zeros.
    """

    def __init__(self, matrix: np.ndarray, bias: np.ndarray | None = None) -> None:
        self.weights = tf.Variable(tf.cast(matrix.T, tf.bfloat16), trainable=False, name="matrix")
        self.bias = None if bias is None else tf.Variable(bias, trainable=False, name="bias")

    def __call__(self, rows: tf.Tensor) -> tf.Tensor:
        """Return x W + b, (n, F) float32, for n rows x (n, E) float32."""
        outputs = tf.cast(tf.matmul(tf.cast(rows, tf.bfloat16), self.weights, transpose_b=True), tf.float32)
        return outputs if self.bias is None else outputs + self.bias

    def columns(self, ids: tf.Tensor) -> tf.Tensor:
        """Return the columns of W with these indices, (..., E) float32."""
        return tf.cast(tf.gather(self.weights, ids), tf.float32)


class Int8Matrix:
    """A matrix W (E, F), stored as integers from -63 to 63 with a scale for each column, and a bias b.

    Args:
        matrix: (E, F) float array.
        bias: (F,) float array, or None for zeros.
    """

    def __init__(self, matrix: np.ndarray, bias: np.ndarray | None = None) -> None:
        scales = np.maximum(np.abs(matrix).max(axis=0), _TINY) / _MAX_INT8
        integers = np.round(matrix / scales).astype("int8")
        self.weights = tf.Variable(integers, trainable=False, name="matrix")
        self.scales = tf.Variable((127 * scales).astype("float32"), trainable=False, name="scales")  # of 127
        offsets = -128 / 127 * scales * integers.sum(axis=0, dtype="int32")
        self.offsets = tf.Variable(offsets.astype("float32"), trainable=False, name="offsets")
        self.bias = None if bias is None else tf.Variable(bias, trainable=False, name="bias")

    def __call__(self, rows: tf.Tensor) -> tf.Tensor:
        """Return x W + b, (n, F) float32, for n rows x (n, E) float32.

        The integers of x are 128 + 127 x / a, from 1 to 255; the `offsets` correct for the 128.
        """
        largest = tf.reduce_max(tf.abs(rows), axis=-1, keepdims=True)
        fractions = tf.math.divide_no_nan(rows, largest)
        integers, _, _ = tf.raw_ops.QuantizeV2(input=fractions, min_range=-128 / 127, max_range=1.0, T=tf.quint8)
        weights = tf.bitcast(self.weights, tf.qint8)
        outputs = _multiply(integers, weights, self.scales, self.offsets) * largest
        return outputs if self.bias is None else outputs + self.bias

    def columns(self, ids: tf.Tensor) -> tf.Tensor:
        """Return the columns of W with these indices, (..., E) float32."""
        flat_ids = tf.reshape(ids, [-1])
        scales = tf.gather(self.scales, flat_ids) / 127.0
        columns = tf.cast(tf.gather(self.weights, flat_ids, axis=1), tf.float32) * scales
        return tf.reshape(tf.transpose(columns), tf.concat([tf.shape(ids), [self.weights.shape[0]]], axis=0))


def _multiply(rows: tf.Tensor, weights: tf.Tensor, scales: tf.Tensor, offsets: tf.Tensor) -> tf.Tensor:
    """Return (rows / 127) (weights scales / 127) + offsets, (n, F) float32.

    TensorFlow's public operation would reorder the weights for the processor in each call, because they are a variable.
    With the attribute `is_weight_const` of this operation, they are reordered only once.

    Args:
        rows: (n, E) quint8.
        weights: (E, F) qint8.
        scales: (F,) float32, the value of the weight 127.
        offsets: (F,) float32.
    """
    scales = tf.convert_to_tensor(scales)
    # The last four are the values of the smallest and the largest integer of the rows and of the weights.
    inputs = [rows, weights, tf.convert_to_tensor(offsets), *map(tf.constant, (0.0, 255 / 127)), scales, scales]
    attributes = {
        "T1": tf.quint8,
        "T2": tf.qint8,
        "is_weight_const": True,
        "is_bias_const": True,
        "fused_ops": [b"BiasAdd", b"Dequantize"],
        "input_quant_mode": b"SCALED",
        "Thost_inputs": [tensor.dtype for tensor in inputs],
        "Thost_outputs": [tf.float32],
        "Tdevice_inputs": [],
        "Tdevice_outputs": [],
    }
    operation = tf.compat.v1.get_default_graph()._create_op_internal(
        INT8_OP,
        inputs,
        [tf.float32],
        name="int8_product",
        attrs={name: _attribute(value) for name, value in attributes.items()},
    )
    return operation.outputs[0]


def _attribute(value: Any) -> tf.compat.v1.AttrValue:
    """Return the value of an attribute of an operation: a boolean, a string, a dtype, or a list of one kind."""
    attribute = tf.compat.v1.AttrValue
    if isinstance(value, list):
        parts = [_attribute(part) for part in value]
        return attribute(
            list=attribute.ListValue(
                s=[part.s for part in parts if part.s], type=[part.type for part in parts if part.type]
            )
        )
    if isinstance(value, bool):
        return attribute(b=value)
    return attribute(s=value) if isinstance(value, bytes) else attribute(type=value.as_datatype_enum)


def check_int8(fix: str) -> None:
    """Raise an error that ends with `fix` if this TensorFlow cannot multiply in int8.

    Raises:
        RuntimeError: the operation has no kernel; TensorFlow was not built for x86 processors with oneDNN.
    """
    from tensorflow.python.framework import kernels

    if not kernels.get_registered_kernels_for_op(INT8_OP).kernel:
        raise RuntimeError(f"This TensorFlow cannot multiply in int8, which needs an x86 processor and oneDNN. {fix}")


class _Matrices:
    """The matrices of an export, made at their first use.

    Args:
        kind: `BFloat16Matrix` or `Int8Matrix`.
    """

    def __init__(self, kind: type) -> None:
        self.kind, self.made = kind, {}

    def dense(self, *layers: keras.layers.Dense) -> Any:
        """Return the matrix of `Dense` layers with the same input, side by side, with their biases."""
        return self._make(layers, "kernel", lambda parts: (np.concatenate(parts, axis=1), _biases(layers)))

    def embedding(self, layer: keras.layers.Embedding, reverse: bool) -> Any:
        """Return W' (M, V) of an embedding W (V, M), or the output matrix of an embedding that is not tied."""
        if reverse and not getattr(layer, "tie_weights", True):
            return self._make([layer], "reverse_embeddings", lambda parts: (parts[0],))
        return self._make([layer], "embeddings", lambda parts: (parts[0].T,))

    def _make(self, layers: Sequence[keras.layers.Layer], name: str, arguments: Callable[[list], tuple]) -> Any:
        key = (name, *map(id, layers))
        if key not in self.made:
            with tf.init_scope():  # the variables are not part of the function that is traced
                self.made[key] = self.kind(*arguments([_float_weights(layer, name) for layer in layers]))
        return self.made[key]

    def variables(self) -> list[tf.Variable]:
        """Return the variables of all matrices."""
        return _variables(self.made.values())


def _biases(layers: Sequence[keras.layers.Dense]) -> np.ndarray | None:
    if not layers[0].use_bias:
        return None
    return np.concatenate([keras.ops.convert_to_numpy(layer.bias) for layer in layers]).astype("float32")


def _float_weights(layer: keras.layers.Layer, name: str) -> np.ndarray:
    """Return a matrix of a layer in float32, with LoRA merged; that of a quantized layer is divided by its scales."""
    weights = keras.ops.convert_to_numpy(keras.ops.cast(getattr(layer, name), "float32"))
    if layer.quantization_mode is None:
        return weights
    scales = keras.ops.convert_to_numpy(getattr(layer, f"{name}_scale"))
    return weights / (scales[:, None] if name == "embeddings" else scales)


@contextlib.contextmanager
def in_precision(model: keras.Model, precision: str) -> Iterator[Callable[[], list[tf.Variable]]]:
    """Compute the matrix products of a model in a precision while its functions are traced.

    The methods of its layers are replaced in this thread only. In every precision, the batch normalizations of an image
    encoder are folded into the convolutions before them; see `batch_norm_folding.py`.

    Args:
        model: the model; afterwards it is as before.
        precision: one of `PRECISIONS`.

    Yields:
        a function that returns the variables that replace weights of the model.

    Raises:
        ValueError: the precision is unknown, or the model is quantized, and not to int8.
        RuntimeError: the precision is int8, and this TensorFlow has no such operation.
    """
    require_one_of("precision", precision, PRECISIONS)
    if precision == "int8":
        check_int8("Export with precision='float32' or 'bfloat16', or on an x86 machine with oneDNN.")
    layers = [] if precision == "float32" else [layer for layer in all_layers(model) if _is_large(layer)]
    _check_quantization(layers)
    matrices = _Matrices(Int8Matrix if precision == "int8" else BFloat16Matrix)
    encoder = getattr(model, "image_encoder", None)
    folded = {} if encoder is None else folded_convolutions(encoder.network)
    with _lock:
        token = _is_tracing.set(True)
        for layer, function in folded.items():
            layer.call = functools.partial(_call_folded, function, layer.call)
        for layer in layers:
            for name in ("call", "quantized_call"):
                setattr(layer, name, functools.partial(_call, matrices, layer, getattr(layer, name)))
            layer.make_merged_dense = functools.partial(_side_by_side, matrices)
        try:
            yield lambda: [*matrices.variables(), *_variables(folded.values())]
        finally:
            _is_tracing.reset(token)
            for layer in folded:
                del layer.call
            for layer in layers:
                del layer.call, layer.quantized_call, layer.make_merged_dense


def _variables(functions: Iterable) -> list[tf.Variable]:
    """Return the variables that are attributes of objects."""
    attributes = [x for function in functions for x in vars(function).values()]
    return [x for x in attributes if isinstance(x, tf.Variable)]


def _call_folded(function: Callable, original: Callable, inputs: tf.Tensor, **options: Any) -> tf.Tensor:
    """Compute a layer with folded weights; in other threads, call `original`."""
    return function(inputs) if _is_tracing.get() else original(inputs, **options)


def _is_large(layer: keras.layers.Layer) -> bool:
    """Return whether a layer, but not of another class with a `call` of its own, has a matrix that is replaced."""
    if type(layer) not in _KINDS or not layer.built:
        return False
    if getattr(layer, "logit_soft_cap", None) is not None or getattr(layer, "output_dim", MIN_WIDTH) < MIN_WIDTH:
        return False
    return max(int(np.prod(variable.shape)) for variable in layer.variables) >= MIN_SIZE


def _check_quantization(layers: Sequence[keras.layers.Layer]) -> None:
    for layer in layers:
        mode = layer.quantization_mode
        if mode not in (None, "int8") or (mode and layer.lora_enabled):
            lora = " and has LoRA matrices" if layer.lora_enabled else ""
            raise ValueError(
                f"The layer {layer.name} is quantized to {mode}{lora}; expected a layer that is not quantized, or is "
                "quantized to int8 and has no LoRA matrices. Export the model with precision='float32'."
            )


def _call(
    matrices: _Matrices,
    layer: keras.layers.Layer,
    original: Callable,
    inputs: tf.Tensor,
    reverse: bool = False,
    **options: Any,
) -> tf.Tensor:
    """Compute `layer.call(inputs)` with a matrix of the export; in other threads, call `original`."""
    if not _is_tracing.get():
        return original(inputs, **options, **({"reverse": True} if reverse else {}))
    if isinstance(layer, keras.layers.Dense):
        return _side_by_side(matrices, layer)(inputs)
    matrix = matrices.embedding(layer, reverse)
    outputs = _on_rows(matrix, inputs) if reverse else matrix.columns(tf.cast(inputs, tf.int32))
    return tf.cast(outputs, layer.compute_dtype)


def _side_by_side(matrices: _Matrices, *layers: keras.layers.Dense) -> Callable[[tf.Tensor], tf.Tensor]:
    """Return the `MergedDense` of layers in the precision of the export."""
    if not _is_tracing.get() or not all("make_merged_dense" in vars(layer) for layer in layers):
        return MergedDense(*layers)

    def dense(inputs: tf.Tensor) -> tf.Tensor:
        outputs = tf.cast(_on_rows(matrices.dense(*layers), inputs), layers[0].compute_dtype)
        return outputs if layers[0].activation is None else layers[0].activation(outputs)

    return dense


def _on_rows(function: Callable[[tf.Tensor], tf.Tensor], inputs: tf.Tensor) -> tf.Tensor:
    """Apply a function of rows (n, E) -> (n, F) to inputs (..., E)."""
    inputs = tf.cast(inputs, tf.float32)
    if inputs.shape.rank == 2:
        return function(inputs)
    outputs = function(tf.reshape(inputs, [-1, inputs.shape[-1]]))
    return tf.reshape(outputs, tf.concat([tf.shape(inputs)[:-1], [outputs.shape[-1]]], axis=0))
