"""The page of layers: its code runs in order, and it has every layer."""

import pathlib
import re

import keras
import pytest

import keras_attention as ka

PAGE = (pathlib.Path(ka.__file__).parent.parent / "docs" / "layers.md").read_text()
PENDING = ("RecurrentEncoder", "RecurrentDecoder", "CharacterEncoder")  # they return states or scores too
TRAINING = ("AttentionLoss", "GumbelNoise", "ShiftRegions")  # parts of a captioner's training


@pytest.mark.skipif(keras.backend.backend() != "tensorflow", reason="once, on one backend")
def test_blocks_run_in_order():
    names: dict = {}
    for block in re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL):
        if not any(name in block for name in PENDING):
            exec(compile(block, "layers.md", "exec"), names)


def test_every_layer_is_on_the_page():
    public = [getattr(ka.layers, name) for name in ka.layers.__all__ if name not in TRAINING]
    layers = [x.__name__ for x in public if isinstance(x, type) and issubclass(x, keras.layers.Layer)]
    assert not [name for name in layers if not re.search(rf"^### .*\b{name}\b", PAGE, re.MULTILINE)]
