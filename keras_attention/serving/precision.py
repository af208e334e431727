"""The precision of an export: how its matrices are stored, and how rows are multiplied with them.

    float32     as in the model
    bfloat16    y = bf16(x) bf16(W), with W' stored, which reads faster with few rows
    int8        y = round(127 x / max|x|) int8(W) s max|x| / 127: one scale for each row x, one scale s for each output

In `bfloat16` and `int8`, dense layers and embeddings of at least 16,384 weights are replaced; biases, normalizations,
recurrent cells, convolutions, attention scores and probabilities stay in float32.

`int8` uses the operation that TensorFlow puts in the place of quantized products on x86 processors, with the weights
as variables; a constant would be copied by each layer of the loader. Integers of 8 bits are multiplied in pairs, and
the sum of two products must fit into 16 bits on processors without VNNI instructions: 255 * 63 * 2 < 2 ** 15, so the
weights are integers from -63 to 63, and the result is the same on every x86 processor.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from keras_attention.keras_patches import all_layers
from keras_attention.layers.projections import Projection

PRECISIONS = ("float32", "bfloat16", "int8")
MIN_SIZE = 2**14  # weights; smaller matrices are read from the processor's cache
INT8_OP = "_MklQuantizedMatMulWithBias"
_MAX_INT8 = 63
_TINY = 1e-30  # the largest |x| of a row of zeros


class BFloat16Matrix:
    """A matrix W (M, N), stored as W' in bfloat16.

    Args:
        matrix: (M, N) float array.
    """

    def __init__(self, matrix: np.ndarray) -> None:
        self.weights = tf.Variable(tf.cast(matrix.T, tf.bfloat16), trainable=False, name="matrix")
        self.variables = [self.weights]

    @staticmethod
    def prepare(rows: tf.Tensor) -> tf.Tensor:
        """Return rows (R, M) float32 as the argument of `product`."""
        return tf.cast(rows, tf.bfloat16)

    def product(self, prepared: tf.Tensor) -> tf.Tensor:
        """Return rows W, (R, N) float32."""
        return tf.cast(tf.matmul(prepared, self.weights, transpose_b=True), tf.float32)

    def columns(self, ids: tf.Tensor) -> tf.Tensor:
        """Return the columns of W with these indices, (..., M) float32."""
        return tf.cast(tf.gather(self.weights, ids), tf.float32)


class Int8Matrix:
    """A matrix W (M, N), stored as integers from -63 to 63 with a scale for each column.

    Args:
        matrix: (M, N) float array.
    """

    def __init__(self, matrix: np.ndarray) -> None:
        scales = np.maximum(np.abs(matrix).max(axis=0), _TINY) / _MAX_INT8
        integers = np.round(matrix / scales).astype("int8")
        self.weights = tf.Variable(integers, trainable=False, name="matrix")
        self.scales = tf.Variable(scales.astype("float32"), trainable=False, name="scales")
        self.offsets = tf.Variable(128 * integers.sum(axis=0, dtype="int32"), trainable=False, name="offsets")
        self.variables = [self.weights, self.scales, self.offsets]

    @staticmethod
    def prepare(rows: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """Return rows (R, M) float32 as integers from 1 to 255 (zero is 128), and the step (R, 1) between integers."""
        largest = tf.maximum(tf.reduce_max(tf.abs(rows), axis=-1, keepdims=True), _TINY)
        integers = tf.cast(rows * (127.0 / largest) + 128.5, tf.uint8)  # the cast rounds down
        return tf.bitcast(integers, tf.quint8), largest * (1 / 127)

    def product(self, prepared: tuple[tf.Tensor, tf.Tensor]) -> tf.Tensor:
        """Return rows W, (R, N) float32."""
        integers, step = prepared
        sums = tf.bitcast(_multiply(integers, tf.bitcast(self.weights, tf.qint8)), tf.int32) - self.offsets
        return tf.cast(sums, tf.float32) * self.scales * step

    def columns(self, ids: tf.Tensor) -> tf.Tensor:
        """Return the columns of W with these indices, (..., M) float32."""
        columns = tf.gather(self.weights, tf.reshape(ids, [-1]), axis=1)
        rows = tf.cast(tf.transpose(columns), tf.float32) * tf.gather(self.scales, tf.reshape(ids, [-1]))[:, None]
        return tf.reshape(rows, tf.concat([tf.shape(ids), [rows.shape[-1]]], axis=0))


def _multiply(rows: tf.Tensor, weights: tf.Tensor) -> tf.Tensor:
    """Return the product of rows (R, M) quint8 and constant weights (M, N) qint8, (R, N) qint32.

    The public operation would sort the weights for the processor again in each call, because they are a variable. This
    one does it once, because it says that the weights are constant.
    """
    graph, zeros = tf.compat.v1.get_default_graph(), tf.zeros([weights.shape[1]])
    limits = [tf.constant(x) for x in (0.0, 255.0, -127.0, 127.0)]  # one integer is 1.0
    attributes = {
        **{name: dtype.as_datatype_enum for name, dtype in _TYPES.items()},
        **dict.fromkeys(("transpose_a", "transpose_b"), False),
        **dict.fromkeys(("is_weight_const", "is_bias_const"), True),
        "input_quant_mode": b"SCALED",
        "_kernel": b"QuantizedMklOp",
    }
    operation = graph._create_op_internal(
        INT8_OP,
        [rows, weights, zeros, *limits],
        [tf.qint32, tf.float32, tf.float32],
        name="int8_product",
        attrs={name: _attribute(value) for name, value in attributes.items()},
    )
    return operation.outputs[0]


_TYPES = {"T1": tf.quint8, "T2": tf.qint8, "Tbias": tf.float32, "Toutput": tf.qint32}


def _attribute(value: bool | bytes | int) -> Any:
    field = {bool: "b", bytes: "s", int: "type"}[type(value)]
    return tf.compat.v1.AttrValue(**{field: value})


def check_int8(advice: str) -> None:
    """Raise an error with this advice if this TensorFlow cannot multiply in int8.

    Raises:
        RuntimeError: the operation has no kernel; TensorFlow was not built for x86 processors with oneDNN.
    """
    from tensorflow.python.framework import kernels

    if not kernels.get_registered_kernels_for_op(INT8_OP).kernel:
        raise RuntimeError(
            f"This TensorFlow cannot multiply in int8, which needs an x86 processor and oneDNN. {advice}"
        )


_MATRICES = {"bfloat16": BFloat16Matrix, "int8": Int8Matrix}


@contextlib.contextmanager
def in_precision(model: keras.Model, precision: str) -> Iterator[list[tf.Variable]]:
    """Compute the products of a model in this precision while its functions are traced.

    Args:
        model: the model; afterwards it is as before.
        precision: one of `PRECISIONS`.

    Yields:
        list of the variables that replace weights of the model; empty for float32.

    Raises:
        ValueError: the precision is unknown, or the model is quantized, and not to int8.
        RuntimeError: the precision is int8, and this TensorFlow has no such operation.
    """
    if precision not in PRECISIONS:
        raise ValueError(f"`precision` is {precision!r}; expected one of {', '.join(PRECISIONS)}.")
    if precision == "int8":
        check_int8("Export with precision='float32' or 'bfloat16', or on such a machine.")
    layers = [] if precision == "float32" else [layer for layer in all_layers(model) if _is_large(layer)]
    replacements = [_replacement(layer, _MATRICES[precision]) for layer in layers]
    for layer, replacement in zip(layers, replacements, strict=True):
        layer.call = layer.quantized_call = replacement.call
        layer.make_projection = _side_by_side
    try:
        yield [variable for replacement in replacements for variable in replacement.variables]
    finally:
        for layer in layers:
            del layer.call, layer.quantized_call, layer.make_projection


def _is_large(layer: keras.layers.Layer) -> bool:
    if not isinstance(layer, (keras.layers.Dense, keras.layers.Embedding)) or not layer.built:
        return False
    return max(int(np.prod(variable.shape)) for variable in layer.variables) >= MIN_SIZE


def _replacement(layer: keras.layers.Layer, matrix: type) -> _Dense | _Embedding:
    if layer.quantization_mode not in (None, "int8"):
        raise ValueError(
            f"The model is quantized to {layer.quantization_mode}; expected a model that is not quantized, or is "
            "quantized to int8. Export it with precision='float32'."
        )
    return (_Dense if isinstance(layer, keras.layers.Dense) else _Embedding)(layer, matrix)


def _float_weights(layer: keras.layers.Layer, name: str) -> np.ndarray:
    """Return a matrix of a layer in float32, with LoRA merged; that of a quantized layer is divided by its scales."""
    weights = keras.ops.convert_to_numpy(keras.ops.cast(getattr(layer, name), "float32"))
    if layer.quantization_mode is None:
        return weights
    scales = keras.ops.convert_to_numpy(getattr(layer, f"{name}_scale"))
    return weights / (scales[:, None] if name == "embeddings" else scales)


class _Dense:
    """The computation of a `Dense` layer with another matrix."""

    def __init__(self, layer: keras.layers.Dense, matrix: type) -> None:
        self.layer, self.matrix = layer, matrix(_float_weights(layer, "kernel"))
        self.variables = self.matrix.variables

    def call(self, inputs: tf.Tensor, **_: Any) -> tf.Tensor:
        return _on_rows(lambda rows: self.finish(self.product(self.matrix.prepare(rows))), inputs)

    def product(self, prepared: Any) -> tf.Tensor:
        """Return W x + b, (R, N) float32."""
        outputs = self.matrix.product(prepared)
        return outputs + self.layer.bias if self.layer.use_bias else outputs

    def finish(self, outputs: tf.Tensor) -> tf.Tensor:
        """Apply the activation."""
        outputs = tf.cast(outputs, self.layer.compute_dtype)
        return outputs if self.layer.activation is None else self.layer.activation(outputs)


class _Embedding:
    """The computation of an `Embedding`, or of a `ReversibleEmbedding` in both directions, with another matrix."""

    def __init__(self, layer: keras.layers.Embedding, matrix: type) -> None:
        self.layer, self.embeddings = layer, matrix(_float_weights(layer, "embeddings").T)
        self.reverse = self.embeddings
        if not getattr(layer, "tie_weights", True):
            self.reverse = matrix(_float_weights(layer, "reverse_embeddings"))
        self.variables = list({id(v): v for m in (self.embeddings, self.reverse) for v in m.variables}.values())

    def call(self, inputs: tf.Tensor, reverse: bool = False, **_: Any) -> tf.Tensor:
        if not reverse:
            return tf.cast(self.embeddings.columns(tf.cast(inputs, tf.int32)), self.layer.compute_dtype)
        outputs = _on_rows(lambda rows: self.reverse.product(self.reverse.prepare(rows)), inputs)
        return tf.cast(outputs, self.layer.compute_dtype)


def _on_rows(function: Callable[[tf.Tensor], tf.Tensor], inputs: tf.Tensor) -> tf.Tensor:
    """Return the function of rows (R, M) -> (R, N) for inputs (..., M)."""
    inputs = tf.cast(inputs, tf.float32)
    if inputs.shape.rank == 2:
        return function(inputs)
    outputs = function(tf.reshape(inputs, [-1, inputs.shape[-1]]))
    return tf.reshape(outputs, tf.concat([tf.shape(inputs)[:-1], [outputs.shape[-1]]], axis=0))


def _side_by_side(*layers: keras.layers.Dense) -> Callable[[tf.Tensor], tf.Tensor]:
    """Return the `Projection` of layers in the precision of the export; the rows are prepared once."""
    if not all("make_projection" in vars(layer) for layer in layers):
        return Projection(*layers)
    parts = [layer.call.__self__ for layer in layers]

    def project(rows: tf.Tensor) -> tf.Tensor:
        prepared = parts[0].matrix.prepare(tf.cast(rows, tf.float32))
        outputs = [part.product(prepared) for part in parts]
        return parts[0].finish(outputs[0] if len(outputs) == 1 else tf.concat(outputs, axis=-1))

    return project
