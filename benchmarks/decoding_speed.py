"""Measure the decoding speed and memory of exported Transformers and of other engines, with the same random weights.

    pip install torch transformers ctranslate2     # only for the comparison
    python benchmarks/decoding_speed.py gpt2        # GPT-2 124M, greedy, prompt of 16 tokens, 64 new tokens
    python benchmarks/decoding_speed.py translator  # Transformer-base, 4 beams, source of 20 tokens, 32 new tokens

Our engine is the SavedModel without XLA, with strings as input and output; the other engines get ids or tokens. Each
engine runs in a separate process with one thread per core. The table has medians of `ROUNDS` runs.
`KERAS_ATTENTION_DATA` is the folder with `tokenizers/gpt2`.
"""

from __future__ import annotations

import dataclasses
import json
import os
import pathlib
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
DATA = pathlib.Path(os.environ.get("KERAS_ATTENTION_DATA", "data"))
ROUNDS, PROMPT, NEW, SOURCE, STEPS, VOCABULARY, BEAM = 5, 16, 64, 20, 32, 16_000, 4
BATCHES = {"gpt2": (1, 8), "translator": (1, 32)}


def peak_gib() -> float:
    """Return the peak memory of this process; `ru_maxrss` would include the parent process."""
    status = pathlib.Path("/proc/self/status").read_text().split("VmHWM:")[1]
    return int(status.split()[0]) / 2**20


def measure(run: Callable[[int], object], batches: tuple[int, ...], tokens: int) -> dict:
    """Return tokens per second for each batch size, and the peak memory of the process."""
    speeds = {}
    for batch in batches:
        run(batch)
        times = []
        for _ in range(ROUNDS):
            begin = time.perf_counter()
            run(batch)
            times.append(time.perf_counter() - begin)
        speeds[batch] = batch * tokens / statistics.median(times)
    return {"speeds": speeds, "gib": peak_gib()}


def words(count: int) -> list[str]:
    """Return words that are one token of GPT-2 each."""
    vocabulary = json.loads((DATA / "tokenizers" / "gpt2" / "encoder.json").read_text())
    return [
        piece[1:] for piece in vocabulary if piece[:1] == "\u0120" and piece[1:].isalpha() and piece.isascii() is False
    ][100 : 100 + count]


def make_gpt2(folder: pathlib.Path) -> None:
    import keras

    import keras_attention as ka

    keras.utils.set_random_seed(0)
    config = dataclasses.replace(ka.presets()["gpt2_small"].config, vocabulary_size=50_257)
    ka.weights.to_huggingface(ka.CausalLM(config), folder / "hf")
    for target, source in (("vocab.json", "encoder.json"), ("merges.txt", "vocab.bpe")):
        (folder / "hf" / target).write_bytes((DATA / "tokenizers" / "gpt2" / source).read_bytes())
    model = ka.weights.from_huggingface(folder / "hf")
    model.export(folder / "ours", strategy=ka.Greedy(min_new_tokens=NEW - 1, max_new_tokens=NEW), examples=())


def gpt2_ours(folder: pathlib.Path) -> dict:
    import tensorflow as tf

    import keras_attention as ka

    served = ka.load(folder / "ours" / "1")
    rows = [" " + " ".join(words(8 * PROMPT)[i * PROMPT : (i + 1) * PROMPT]) for i in range(8)]
    return measure(lambda b: served.signature(text=tf.constant(rows[:b]))["text"].numpy(), BATCHES["gpt2"], NEW)


def gpt2_ctranslate2(folder: pathlib.Path, kind: str = "float32") -> dict:
    import ctranslate2
    from ctranslate2.converters import TransformersConverter

    target = folder / "ct2"
    if not target.exists():
        TransformersConverter(str(folder / "hf")).convert(str(target))
    generator = ctranslate2.Generator(str(target), compute_type=kind, intra_threads=os.cpu_count())
    rows = [["\u0120" + word for word in words(8 * PROMPT)[i * PROMPT : (i + 1) * PROMPT]] for i in range(8)]
    options = {"max_length": NEW, "min_length": NEW, "sampling_topk": 1, "include_prompt_in_result": False}
    return measure(lambda b: generator.generate_batch(rows[:b], **options), BATCHES["gpt2"], NEW)


def gpt2_ctranslate2_int8(folder: pathlib.Path) -> dict:
    return gpt2_ctranslate2(folder, "int8")


def gpt2_torch(folder: pathlib.Path) -> dict:
    import torch
    import transformers

    torch.set_num_threads(os.cpu_count())
    model = transformers.GPT2LMHeadModel.from_pretrained(folder / "hf").eval()
    ids = torch.randint(0, 50_000, (8, PROMPT), generator=torch.Generator().manual_seed(0))
    options = {"max_new_tokens": NEW, "min_new_tokens": NEW, "do_sample": False, "pad_token_id": 0}
    with torch.no_grad():
        return measure(lambda b: model.generate(ids[:b], **options), BATCHES["gpt2"], NEW)


def gpt2_keras_hub(folder: pathlib.Path) -> dict:
    import keras_hub
    import numpy as np

    backbone = keras_hub.models.GPT2Backbone(50_257, 12, 12, 768, 3072, dropout=0.0, max_sequence_length=1024)
    model = keras_hub.models.GPT2CausalLM(backbone)
    rng = np.random.default_rng(0)
    ids = np.zeros((8, PROMPT + NEW), "int32")
    ids[:, :PROMPT] = rng.integers(0, 50_000, (8, PROMPT))
    mask = np.arange(PROMPT + NEW)[None].repeat(8, 0) < PROMPT
    step = model.make_generate_function()
    return measure(
        lambda b: step({"token_ids": ids[:b], "padding_mask": mask[:b]}, stop_token_ids=None), BATCHES["gpt2"], NEW
    )


def make_translator(folder: pathlib.Path) -> None:
    import keras
    import numpy as np

    import keras_attention as ka

    keras.utils.set_random_seed(0)
    rng = np.random.default_rng(0)
    letters = np.array(list("abcdefghijklmnopqrstuvwxyz"))
    vocabulary = ["[PAD]", "[UNK]", "[START]", "[END]", "[MASK]"]
    vocabulary += list(dict.fromkeys("".join(rng.choice(letters, 6)) for _ in range(2 * VOCABULARY)))
    import keras_hub

    tokenizer = keras_hub.tokenizers.WordPieceTokenizer(vocabulary=vocabulary[:VOCABULARY], oov_token="[UNK]")
    model = ka.Translator.from_preset("transformer_base", source_tokenizer=tokenizer, target_tokenizer=tokenizer)
    np.savez(folder / "weights.npz", **{path.replace("/", "|"): w for path, w in named_weights(model).items()})
    (folder / "vocabulary.json").write_text(json.dumps(vocabulary[:VOCABULARY]))
    strategy = ka.BeamSearch(num_beams=BEAM, length_penalty=0.0, min_new_tokens=STEPS - 1, max_new_tokens=STEPS)
    model.export(folder / "ours", strategy=strategy, examples=())


def named_weights(model) -> dict:
    import numpy as np

    return {weight.path: np.array(weight) for weight in model.weights if "seed" not in weight.path}


def sources(folder: pathlib.Path) -> list[list[str]]:
    vocabulary = json.loads((folder / "vocabulary.json").read_text())
    return [vocabulary[100 + i * 37 : 100 + i * 37 + SOURCE - 1] for i in range(32)]


def translator_ours(folder: pathlib.Path) -> dict:
    import tensorflow as tf

    import keras_attention as ka

    served = ka.load(folder / "ours" / "1")
    rows = [" ".join(row) for row in sources(folder)]
    run = lambda b: served.signature(text=tf.constant(rows[:b]))["text"].numpy()  # noqa: E731
    return measure(run, BATCHES["translator"], STEPS)


def translator_ctranslate2(folder: pathlib.Path, kind: str = "float32") -> dict:
    import ctranslate2

    target = folder / f"ct2_{kind}"
    target.mkdir()
    to_ctranslate2(folder).save(str(target))
    engine = ctranslate2.Translator(str(target), compute_type=kind, intra_threads=os.cpu_count())
    rows = [[*row, "[END]"] for row in sources(folder)]
    options = {"beam_size": BEAM, "length_penalty": 0, "min_decoding_length": STEPS, "max_decoding_length": STEPS}
    return measure(lambda b: engine.translate_batch(rows[:b], **options), BATCHES["translator"], STEPS)


def translator_ctranslate2_int8(folder: pathlib.Path) -> dict:
    return translator_ctranslate2(folder, "int8")


def to_ctranslate2(folder: pathlib.Path):
    """Return a CTranslate2 specification with the same weights."""
    import ctranslate2
    import numpy as np

    file = np.load(folder / "weights.npz")
    weights = {path.split("|", 1)[1] if path.startswith("translator") else path: file[path] for path in file.files}
    spec = ctranslate2.specs.TransformerSpec.from_config(6, 8, pre_norm=False)

    def kernel(*paths: str):
        return np.concatenate([weights[f"{path}|kernel"].T for path in paths])

    def dense(target, *paths: str) -> None:
        target.weight = kernel(*paths)
        biases = [weights.get(f"{path}|bias") for path in paths]
        target.bias = np.concatenate(biases) if biases[0] is not None else np.zeros(len(target.weight), "float32")

    def norm(target, path: str) -> None:
        target.gamma, target.beta = weights[f"{path}|gamma"], weights[f"{path}|beta"]

    for side, stack in (("encoder", spec.encoder), ("decoder", spec.decoder)):
        embeddings = stack.embeddings[0] if side == "encoder" else stack.embeddings
        embeddings.weight, stack.scale_embeddings = weights["embedding|embeddings"], True
        for i, layer in enumerate(stack.layer):
            block = f"{side}|block_{i}"
            dense(layer.self_attention.linear[0], *(f"{block}|attention|{part}" for part in ("query", "key", "value")))
            dense(layer.self_attention.linear[1], f"{block}|attention|output")
            norm(layer.self_attention.layer_norm, f"{block}|attention_norm")
            if side == "decoder":
                dense(layer.attention.linear[0], f"{block}|cross_attention|query")
                dense(layer.attention.linear[1], *(f"{block}|cross_attention|{part}" for part in ("key", "value")))
                dense(layer.attention.linear[2], f"{block}|cross_attention|output")
                norm(layer.attention.layer_norm, f"{block}|cross_norm")
            dense(layer.ffn.linear_0, f"{block}|hidden")
            dense(layer.ffn.linear_1, f"{block}|output")
            norm(layer.ffn.layer_norm, f"{block}|feed_forward_norm")
    spec.decoder.projection.weight = weights["embedding|embeddings"]
    vocabulary = json.loads((folder / "vocabulary.json").read_text())
    spec.register_source_vocabulary(vocabulary)
    spec.register_target_vocabulary(vocabulary)
    spec.config.bos_token = spec.config.decoder_start_token = "[START]"
    spec.config.eos_token, spec.config.unk_token = "[END]", "[UNK]"
    spec.validate()
    spec.optimize()
    return spec


ENGINES = {
    "gpt2": (gpt2_ours, gpt2_ctranslate2, gpt2_ctranslate2_int8, gpt2_torch, gpt2_keras_hub),
    "translator": (translator_ours, translator_ctranslate2, translator_ctranslate2_int8),
}


def main() -> None:
    work = sys.argv[1]
    if len(sys.argv) > 2:
        print("RESULT", json.dumps(globals()[sys.argv[2]](pathlib.Path(sys.argv[3]))))
        return
    import importlib.metadata as metadata

    packages = ("tensorflow", "keras", "keras-hub", "ctranslate2", "torch", "transformers")
    print(
        f"{platform.machine()}, {os.cpu_count()} cores; {', '.join(f'{p} {metadata.version(p)}' for p in packages)}\n"
    )
    first, second = BATCHES[work]
    print(
        f"| engine | tokens/s, batch {first} | batch {second} | ours / engine | | peak GiB |\n|---|---|---|---|---|---|"
    )
    with tempfile.TemporaryDirectory() as folder:
        globals()[f"make_{work}"](pathlib.Path(folder))
        ours: list[float] = []
        for engine in ENGINES[work]:
            command = [sys.executable, __file__, work, engine.__name__, folder]
            done = subprocess.run(command, capture_output=True, text=True, check=False)
            results = [line[7:] for line in done.stdout.splitlines() if line.startswith("RESULT ")]
            if not results:
                print(f"| {engine.__name__} | failed: {done.stderr.strip().splitlines()[-1][:200]} |", flush=True)
                continue
            result = json.loads(results[0])
            speeds = list(result["speeds"].values())
            ours = ours or speeds
            ratios = " | ".join(f"{our_speed / speed:.2f}" for our_speed, speed in zip(ours, speeds, strict=True))
            cells = " | ".join(f"{speed:,.1f}" for speed in speeds)
            print(f"| {engine.__name__} | {cells} | {ratios} | {result['gib']:.2f} |", flush=True)
    print(f"\nMedians of {ROUNDS} runs.")


if __name__ == "__main__":
    main()
