"""An export without its files: the functions of its signatures, traced at their first use."""

from types import SimpleNamespace

import tensorflow as tf

from keras_attention.serving.export import describe
from keras_attention.serving.exported_model import ExportedModel
from keras_attention.serving.signatures import compile_signature, graph_task


class InGraph(ExportedModel):
    """Predict with the functions that the export of a model would contain; test_model_predictions.py writes some."""

    def __init__(self, model, strategy=None, attention_maps=False):
        task = graph_task(model, strategy)
        self.metadata = describe(model, task.strategy)
        self.loaded = SimpleNamespace(signatures=_Signatures(task.signatures(attention_maps)))
        self.tensor = tf.constant

    @property
    def signature(self):
        return self.loaded.signatures["serving_default"]


class _Signatures(dict):
    """name -> function of tensors by name."""

    def __getitem__(self, name):
        signature = super().__getitem__(name)
        if isinstance(signature, tuple):
            signature = self[name] = _Signature(*signature)
        return signature


class _Signature:
    def __init__(self, function, specs):
        self.function, self.names = compile_signature(function, specs), [spec.name for spec in specs]
        self.structured_input_signature = ((), dict(zip(self.names, specs, strict=True)))

    def __call__(self, **inputs):
        return self.function(*(tf.convert_to_tensor(inputs[name]) for name in self.names))
