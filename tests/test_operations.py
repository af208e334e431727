"""The number of operations of one decoding step in a TensorFlow graph, without constants and identities."""

import dataclasses

import numpy as np
import pytest
import tensorflow as tf

import keras_attention as ka
from keras_attention.generation.search import SearchInputs, generate

SIZES = {"width": 28, "num_heads": 7, "intermediate_dim": 44, "max_length": 37}
SOURCE = {"source_ids": np.ones((2, 3), "int32"), "source_mask": np.ones((2, 3), bool)}
PROMPT = {"token_ids": np.ones((2, 3), "int32"), "padding_mask": np.ones((2, 3), bool)}


def make_model(preset: str, **sizes):
    row = ka.presets()[preset]
    names = ("source_vocabulary_size", "target_vocabulary_size") if row.task == "Translator" else ("vocabulary_size",)
    return getattr(ka, row.task)(dataclasses.replace(row.config, **dict.fromkeys(names, 61), **sizes))


def innermost_loop(graph: tf.Graph) -> list[tf.Operation]:
    """Return the operations of the body of the loop that contains no loop."""
    loops = [op for op in graph.get_operations() if op.type in ("While", "StatelessWhile")]
    if not loops:
        return graph.get_operations()
    return innermost_loop(graph._get_function(loops[-1].get_attr("body").name).graph)


def count_operations(model, inputs: dict, strategy) -> int:
    """Trace a search as an export does, with unknown batch and length, and count the operations of a step."""

    def search(inputs, **arguments):
        suppressing = dataclasses.replace(strategy, suppress_tokens=(0, 3))
        return generate(model, inputs, suppressing, SearchInputs(**arguments), end_id=2)

    def spec(rank, dtype="int32"):
        return tf.TensorSpec([None] * rank, dtype)

    specs = {name: spec(x.ndim, x.dtype) for name, x in inputs.items()}
    arguments = {"start_ids": spec(1), "limits": spec(1), "seeds": spec(1), "prefix_ids": spec(2)}
    traced = tf.function(search, autograph=False).get_concrete_function(specs, **arguments, prefix_mask=spec(2, "bool"))
    return sum(op.type not in ("Const", "Identity", "Placeholder") for op in innermost_loop(traced.graph))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("preset", "inputs", "strategy", "per_block", "outside"),
    [
        ("gpt2_small", PROMPT, ka.Greedy(), 70, 300),
        ("transformer_base", SOURCE, ka.BeamSearch(num_beams=5), 95, 300),
    ],
)
def test_a_step_has_few_operations_per_block(preset, inputs, strategy, per_block, outside):
    one, two = (count_operations(make_model(preset, num_layers=n, **SIZES), inputs, strategy) for n in (1, 2))
    assert two - one <= per_block
    assert one - (two - one) <= outside


@pytest.mark.slow
def test_a_step_of_a_recurrent_decoder_has_few_operations():
    model = make_model("rnn_attention", units=28, embedding_dim=22)
    assert count_operations(model, SOURCE, ka.BeamSearch(num_beams=5)) <= 279
