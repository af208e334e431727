"""Small things that many tests share. With `BLOCK_TENSORFLOW` set, TensorFlow cannot be imported."""

import gc
import os
import sys

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("TF_NUM_INTRAOP_THREADS", "1")  # the workers share the cores already
os.environ.setdefault("TF_NUM_INTEROP_THREADS", "1")
# Compile fast, not well: these programs run for milliseconds.
os.environ.setdefault("XLA_FLAGS", "--xla_backend_optimization_level=0 --xla_llvm_disable_expensive_passes=true")
if os.environ.get("BLOCK_TENSORFLOW"):
    for name in ("tensorflow", "tensorflow_text", "tensorflow_datasets"):
        sys.modules[name] = None

import keras
import pytest

import keras_attention as ka

gc.set_threshold(50_000)  # traces are made of many small objects, few of them garbage

PAIRS = [
    ("we eat bread", "comemos pan"),
    ("they drink water", "beben agua"),
    ("we drink water", "bebemos agua"),
    ("they eat bread", "comen pan"),
    ("the boy eats the red apple", "el niño come la manzana roja"),
    ("the girl drinks cold milk", "la niña bebe leche fría"),
    ("i see the old house", "veo la casa vieja"),
    ("you read a book", "lees un libro"),
]


@pytest.fixture(scope="session")
def tokenizer():
    return ka.data.train_tokenizer([text for pair in PAIRS for text in pair], "sentencepiece", 71)


@pytest.fixture(scope="session")
def translator(tokenizer):
    """A translator with attention that knows `PAIRS` by heart; on JAX the one that TensorFlow trained."""
    if "TRANSLATOR" in os.environ:
        return keras.saving.load_model(os.environ["TRANSLATOR"], compile=False)
    keras.utils.set_random_seed(7)
    model = ka.Translator.from_preset(
        "rnn_attention",
        source_tokenizer=tokenizer,
        target_tokenizer=tokenizer,
        units=38,
        embedding_dim=23,
        dropout=0.0,
    )
    model.compile(keras.optimizers.Adam(0.01, global_clipnorm=1.0), ka.training.MaskedCrossEntropy())
    model.fit(ka.data.translation_batches(PAIRS, model, max_tokens=71), epochs=60, verbose=0)
    return model
