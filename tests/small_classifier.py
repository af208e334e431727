"""A small BERT classifier and its examples, for tests of fine-tuning."""

import keras
import pytest

import keras_attention as ka

EXAMPLES = [("we eat bread", "food"), ("they drink water", "drink"), ("we drink milk", "drink"), ("eat apple", "food")]


SIZES = {"width": 14, "num_heads": 7, "num_layers": 2, "intermediate_dim": 11, "dropout": 0.0, "attention_dropout": 0.0}


@pytest.fixture
def classifier(tokenizer):
    keras.utils.set_random_seed(7)
    return ka.TextClassifier.from_preset("bert_base", tokenizer=tokenizer, labels=("drink", "food"), **SIZES)
