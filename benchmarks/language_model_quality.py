"""Train and score character language models on tinyshakespeare: a small GPT and a recurrent network of the same size.

    python benchmarks/language_model_quality.py gpt char_rnn

The setting is nanoGPT's for a CPU: 4 layers of width 128, 4 heads, context 64, 2,000 updates of 12 x 64 characters, no
dropout; the last tenth of the text is the validation data. The authors of nanoGPT report a loss of 1.88 nats per
character with a learning rate of 1e-3. Here the learning rate is 2.5e-3, with cosine decay and a weight decay of 0.05.
`KERAS_ATTENTION_DATA` is the folder with `lm_text/`.
"""

from __future__ import annotations

import os
import pathlib
import sys
import time

import keras
import numpy as np

import keras_attention as ka

DATA = pathlib.Path(os.environ.get("KERAS_ATTENTION_DATA", "data")) / "lm_text"
STEPS, ROWS, CONTEXT = 2000, 12, 64
MODELS = {
    "gpt": (
        "gpt2_small",
        {"width": 128, "num_layers": 4, "num_heads": 4, "intermediate_dim": 512, "attention_dropout": 0.0},
    ),
    "char_rnn": ("char_rnn", {"embedding_dim": 128, "units": 384, "num_layers": 1}),
}


def corpus() -> tuple[str, str]:
    path = next(path for path in sorted((DATA / "tinyshakespeare").iterdir()) if path.suffix == ".txt")
    text = "\n".join(ka.data.read_lines(path))
    cut = len(text) * 9 // 10
    return text[:cut], text[cut:]


def run(name: str) -> str:
    keras.utils.set_random_seed(1)
    train, valid = corpus()
    preset, sizes = MODELS[name]
    tokenizer = ka.data.train_tokenizer([train], "characters")
    model = ka.CausalLM.from_preset(preset, tokenizer=tokenizer, max_length=CONTEXT, dropout=0.0, **sizes)
    batches = ka.data.language_batches([train], model, max_tokens=ROWS * CONTEXT)
    plan = ka.training.TrainingPlan(
        epochs=1, learning_rate=2.5e-3, warmup_steps=100, label_smoothing=0.0, weight_decay=0.05
    )
    ka.training.compile_model(model, plan, STEPS)
    begin, losses, epoch = time.time(), [], 0
    while len(losses) < STEPS:
        for i in range(min(len(batches), STEPS - len(losses))):
            losses.append(float(np.ravel(model.train_on_batch(*batches[i], return_dict=False))[0]))
            if len(losses) % 200 == 0:
                print(f"{name}: step {len(losses)}, running loss {losses[-1]:.3f}", file=sys.stderr, flush=True)
        epoch += 1
        batches.start_epoch(epoch)
    minutes = (time.time() - begin) / 60
    plain, sliding = (
        model.evaluate(ka.data.language_batches([valid], model, shuffle=False, stride=s), verbose=0, return_dict=True)[
            "loss"
        ]
        for s in (CONTEXT, CONTEXT // 2)
    )
    return f"| {name} | {model.count_params():,} | {plain:.3f} | {sliding:.3f} | {minutes:.1f} |"


if __name__ == "__main__":
    names = sys.argv[1:] or list(MODELS)
    print(f"Keras {keras.__version__} on {keras.backend.backend()}, {STEPS} updates of {ROWS} x {CONTEXT} characters\n")
    print("| model | parameters | validation loss | with half a window of context | minutes |\n|---|---|---|---|---|")
    for model_name in names:
        print(run(model_name), flush=True)
