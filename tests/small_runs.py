"""Runs of a small language model for tests of training."""

import keras
from conftest import PAIRS

import keras_attention as ka

TEXTS = [text for pair in PAIRS[:4] for text in pair]


def small_model(tokenizer, **sizes):
    keras.utils.set_random_seed(5)
    sizes = {"units": 12, "embedding_dim": 7, "dropout": 0.3, "cell": "simple", **sizes}
    return ka.CausalLM.from_preset("char_rnn", tokenizer=tokenizer, **sizes)


def run(model, directory, callbacks=(), **options):
    plan = {"epochs": 4, "learning_rate": 0.02, "warmup_steps": 3, "monitor": "val_loss", **options}
    batches = ka.data.language_batches(TEXTS, model, max_tokens=37, seed=13)
    valid = ka.data.language_batches(TEXTS[:3], model, shuffle=False)
    plan = ka.training.TrainingPlan(**plan)
    return ka.train(model, batches, directory, plan, validation=valid, callbacks=callbacks)
