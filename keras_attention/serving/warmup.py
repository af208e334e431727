"""Write warm-up requests, which a server sends to a model after loading it, so that the first request is not slow."""

from __future__ import annotations

import pathlib

import tensorflow as tf


def write_warmup(path: pathlib.Path, inputs: dict[str, tf.Tensor]) -> None:
    """Write one warm-up request to `assets.extra/tf_serving_warmup_requests`.

    The record is a `PredictionLog` (tensorflow_serving/apis/prediction_log.proto), encoded here field by field,
    because TensorFlow has no Python class for it:
    PredictionLog.predict_log = 6, PredictLog.request = 1, PredictRequest.model_spec = 1 and
    inputs = 2 (a map: key = 1, value = 2), ModelSpec.name = 1 and signature_name = 3.

    Args:
        path: the SavedModel's directory.
        inputs: dict of the input tensors of `serving_default` by name.

    Reference: https://www.tensorflow.org/tfx/serving/saved_model_warmup.
    """
    request = _field(1, _field(1, b"model") + _field(3, b"serving_default"))
    for name, tensor in inputs.items():
        value = tf.make_tensor_proto(tensor).SerializeToString()
        request += _field(2, _field(1, name.encode()) + _field(2, value))
    directory = path / "assets.extra"
    directory.mkdir(exist_ok=True)
    with tf.io.TFRecordWriter(str(directory / "tf_serving_warmup_requests")) as writer:
        writer.write(_field(6, _field(1, request)))


def _field(number: int, payload: bytes) -> bytes:
    """Encode a length-delimited protobuf field."""
    return bytes([number << 3 | 2]) + _varint(len(payload)) + payload


def _varint(value: int) -> bytes:
    digits = bytearray()
    while value > 127:
        digits.append(value & 127 | 128)
        value >>= 7
    return bytes([*digits, value])
