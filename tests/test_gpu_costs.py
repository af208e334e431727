"""The operations of a step on a GPU, counted from a graph."""

import pytest
import tensorflow as tf
from tensorflow.python.framework import kernels

from keras_attention.serving.gpu_costs import step_cost

HAS_GPU_KERNELS = any(k.device_type == "GPU" for k in kernels.get_registered_kernels_for_op("MatMul").kernel)


@pytest.mark.skipif(not HAS_GPU_KERNELS, reason="this TensorFlow registers no GPU kernels")
def test_operations_and_transfers_of_a_step_by_hand():
    """The GPU adds integers in host memory, and has no kernel for strings."""

    def step(x, count, text):
        count = count + 1  # in host memory
        products = tf.matmul(x, x, transpose_b=True)
        return products * tf.cast(count, "float32"), count, tf.strings.lower(text)  # copied: `count`, to the GPU

    specs = [tf.TensorSpec((None, 3)), tf.TensorSpec((), "int32"), tf.TensorSpec((None,), "string")]
    cost = step_cost(tf.function(step, autograph=False).get_concrete_function(*specs).function_def)
    assert cost.operations == 5  # AddV2, MatMul, Cast, Mul, StringLower
    assert cost.without_kernel == {"StringLower": 1}
    assert cost.in_host_memory == {"AddV2": 1}
    assert cost.transfers == 1
