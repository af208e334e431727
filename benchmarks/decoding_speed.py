"""Measure the decoding speed and memory of exported Transformers and of other engines, with the same random weights.

    pip install ctranslate2 torch transformers             # for the comparison
    python benchmarks/decoding_speed.py gpt2               # GPT-2 124M, greedy, prompt of 16 tokens, 64 new tokens
    python benchmarks/decoding_speed.py gpt2_long          # the same with 496 new tokens
    python benchmarks/decoding_speed.py translator         # Transformer-base, 4 beams, source of 20 tokens, 32 steps
    python benchmarks/decoding_speed.py gpt2 gpt2_ours_int8 gpt2_ctranslate2_int8      # only some engines

Our engine is the SavedModel in TensorFlow's C++ loader, without XLA and without Python's TensorFlow, with strings as
input and output; the other engines get ids or tokens. Each engine is loaded in a process of its own, with one thread
per core. In each of `ROUNDS` rounds, the engines run one after the other; the table has medians.
`KERAS_ATTENTION_DATA` is the folder with `tokenizers/gpt2`.
"""

from __future__ import annotations

import dataclasses
import importlib.metadata
import importlib.util
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
ROUNDS, PROMPT, SOURCE, STEPS, VOCABULARY, BEAM = 5, 16, 20, 32, 16_000, 4
NEW = {"gpt2": 64, "gpt2_long": 496, "translator": STEPS}
BATCHES = {"gpt2": (1, 8, 32), "gpt2_long": (1, 8), "translator": (1, 8, 32)}
PRECISIONS = ("float32", "bfloat16", "int8")
WORK = next((name for name in sys.argv if name in NEW), "gpt2")


def peak_gib() -> float:
    """Return the peak memory of this process; `ru_maxrss` would include the parent process."""
    status = pathlib.Path("/proc/self/status").read_text().split("VmHWM:")[1]
    return int(status.split()[0]) / 2**20


def serve(load: Callable[[pathlib.Path], Callable[[int], object]], folder: pathlib.Path) -> None:
    """Load an engine; then, for each line with a batch size, run it and print the seconds and the peak memory."""
    begin = time.perf_counter()
    run = load(folder)
    print(f"LOADED {time.perf_counter() - begin}", flush=True)
    for line in sys.stdin:
        begin = time.perf_counter()
        run(int(line))
        print(f"RESULT {time.perf_counter() - begin} {peak_gib()}", flush=True)


class Engine:
    """An engine in a process of its own; `failure` is the last line of its errors if it ended."""

    def __init__(self, name: str, folder: pathlib.Path) -> None:
        self.name, self.gib, self.failure, self.errors = name, 0.0, None, open(folder / f"{name}.log", "w+")
        command = [sys.executable, __file__, "serve", WORK, name, str(folder)]
        pipe = subprocess.PIPE
        self.process = subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=self.errors, text=True)
        self.load_seconds = (self._read("LOADED") or [0.0])[0]
        self.seconds: dict[int, list[float]] = {batch: [] for batch in BATCHES[WORK]}

    def _read(self, word: str) -> list[float] | None:
        for line in self.process.stdout:
            if line.startswith(word):
                return [float(number) for number in line.split()[1:]]
        self.errors.seek(0)
        self.failure = (self.errors.read().strip().splitlines() or ["no message"])[-1][:200]
        return None

    def run(self, batch: int) -> float | None:
        if self.failure:
            return None
        self.process.stdin.write(f"{batch}\n")
        self.process.stdin.flush()
        result = self._read("RESULT")
        if result is None:
            return None
        seconds, self.gib = result
        return seconds

    def measure(self, batch: int) -> None:
        self.seconds[batch].append(self.run(batch))

    def speed(self, batch: int) -> float:
        """Return tokens per second."""
        return batch * NEW[WORK] / statistics.median(self.seconds[batch])

    def close(self) -> None:
        self.process.stdin.close()
        self.process.wait()


def exported(folder: pathlib.Path, rows: list[str], precision: str) -> Callable[[int], object]:
    """Load an export as TensorFlow Serving does."""
    package = pathlib.Path(importlib.util.find_spec("keras_attention").origin).parent
    sys.path.insert(0, str(package / "serving"))  # to import the program alone
    from tensorflow_loader import TensorFlowLoader

    request = json.loads((folder / precision / "request.json").read_text())
    loader = TensorFlowLoader(request["libraries"], request["op_libraries"], request["export"])
    feed, fetches = request["input"], request["outputs"]
    return lambda batch: loader.run({feed: {"dtype": "string", "values": rows[:batch]}}, fetches)


def write_request(folder: pathlib.Path) -> None:
    """Write what `exported` needs, so that it need not import TensorFlow."""
    from keras_attention.serving.check import loader_libraries, serving_tensors

    inputs, outputs = serving_tensors(folder / "1")
    request = {**loader_libraries(), "export": str(folder / "1"), "input": inputs["text"]}
    (folder / "request.json").write_text(json.dumps(request | {"outputs": {"text": outputs["text"]}}))


def words(count: int) -> list[str]:
    """Return words that are one token of GPT-2 each."""
    vocabulary = json.loads((DATA / "tokenizers" / "gpt2" / "encoder.json").read_text())
    return [piece[1:] for piece in vocabulary if piece[:1] == "\u0120" and piece[1:].isalpha()][100 : 100 + count]


def make_gpt2(folder: pathlib.Path) -> None:
    import keras

    import keras_attention as ka

    keras.utils.set_random_seed(0)
    config = dataclasses.replace(ka.presets()["gpt2_small"].config, vocabulary_size=50_257)
    ka.weights.to_huggingface(ka.CausalLM(config), folder / "hf")
    for target, source in (("vocab.json", "encoder.json"), ("merges.txt", "vocab.bpe")):
        (folder / "hf" / target).write_bytes((DATA / "tokenizers" / "gpt2" / source).read_bytes())
    model, new = ka.weights.from_huggingface(folder / "hf"), NEW[WORK]
    strategy = ka.Greedy(min_new_tokens=new - 1, max_new_tokens=new)
    for precision in PRECISIONS:
        model.export(folder / precision, strategy=strategy, examples=(), precision=precision)
        write_request(folder / precision)


make_gpt2_long = make_gpt2


def prompts(count: int) -> list[list[str]]:
    pieces = words(count * PROMPT)
    return [pieces[i * PROMPT : (i + 1) * PROMPT] for i in range(count)]


def gpt2_ours(folder: pathlib.Path, precision: str = "float32") -> Callable[[int], object]:
    return exported(folder, [" " + " ".join(row) for row in prompts(32)], precision)


def gpt2_ours_bfloat16(folder: pathlib.Path) -> Callable[[int], object]:
    return gpt2_ours(folder, "bfloat16")


def gpt2_ours_int8(folder: pathlib.Path) -> Callable[[int], object]:
    return gpt2_ours(folder, "int8")


def gpt2_ctranslate2(folder: pathlib.Path, kind: str = "float32") -> Callable[[int], object]:
    import ctranslate2
    from ctranslate2.converters import TransformersConverter

    target, new = folder / f"ct2_{kind}", NEW[WORK]
    TransformersConverter(str(folder / "hf")).convert(str(target))
    generator = ctranslate2.Generator(str(target), compute_type=kind, intra_threads=os.cpu_count())
    rows = [["\u0120" + word for word in row] for row in prompts(32)]
    options = {"max_length": new, "min_length": new, "sampling_topk": 1, "include_prompt_in_result": False}
    return lambda batch: generator.generate_batch(rows[:batch], **options)


def gpt2_ctranslate2_int8(folder: pathlib.Path) -> Callable[[int], object]:
    return gpt2_ctranslate2(folder, "int8")


def gpt2_torch(folder: pathlib.Path) -> Callable[[int], object]:
    import torch
    import transformers

    torch.set_num_threads(os.cpu_count())
    model, new = transformers.GPT2LMHeadModel.from_pretrained(folder / "hf").eval(), NEW[WORK]
    ids = torch.randint(0, 50_000, (32, PROMPT), generator=torch.Generator().manual_seed(0))
    options = {"max_new_tokens": new, "min_new_tokens": new, "do_sample": False, "pad_token_id": 0}

    def run(batch: int) -> object:
        with torch.no_grad():
            return model.generate(ids[:batch], **options)

    return run


def gpt2_keras_hub(folder: pathlib.Path) -> Callable[[int], object]:
    import keras_hub
    import numpy as np

    backbone = keras_hub.models.GPT2Backbone(50_257, 12, 12, 768, 3072, dropout=0.0, max_sequence_length=1024)
    model = keras_hub.models.GPT2CausalLM(backbone)
    rng = np.random.default_rng(0)
    ids = np.zeros((32, PROMPT + NEW[WORK]), "int32")
    ids[:, :PROMPT] = rng.integers(0, 50_000, (32, PROMPT))
    mask = np.arange(ids.shape[1])[None].repeat(32, 0) < PROMPT
    step = model.make_generate_function()
    return lambda batch: step({"token_ids": ids[:batch], "padding_mask": mask[:batch]}, stop_token_ids=None)


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
    for precision in PRECISIONS:
        model.export(folder / precision, strategy=strategy, examples=(), precision=precision)
        write_request(folder / precision)


def named_weights(model) -> dict:
    import numpy as np

    return {weight.path: np.array(weight) for weight in model.weights if "seed" not in weight.path}


def sources(folder: pathlib.Path) -> list[list[str]]:
    vocabulary = json.loads((folder / "vocabulary.json").read_text())
    return [vocabulary[100 + i * 37 : 100 + i * 37 + SOURCE - 1] for i in range(32)]


def translator_ours(folder: pathlib.Path, precision: str = "float32") -> Callable[[int], object]:
    return exported(folder, [" ".join(row) for row in sources(folder)], precision)


def translator_ours_bfloat16(folder: pathlib.Path) -> Callable[[int], object]:
    return translator_ours(folder, "bfloat16")


def translator_ours_int8(folder: pathlib.Path) -> Callable[[int], object]:
    return translator_ours(folder, "int8")


def translator_ctranslate2(folder: pathlib.Path, kind: str = "float32") -> Callable[[int], object]:
    import ctranslate2

    target = folder / f"ct2_{kind}"
    target.mkdir()
    to_ctranslate2(folder).save(str(target))
    engine = ctranslate2.Translator(str(target), compute_type=kind, intra_threads=os.cpu_count())
    rows = [[*row, "[END]"] for row in sources(folder)]
    options = {"beam_size": BEAM, "length_penalty": 0, "min_decoding_length": STEPS, "max_decoding_length": STEPS}
    return lambda batch: engine.translate_batch(rows[:batch], **options)


def translator_ctranslate2_int8(folder: pathlib.Path) -> Callable[[int], object]:
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


_GPT2 = ("ours", "ours_bfloat16", "ours_int8", "ctranslate2", "ctranslate2_int8", "torch", "keras_hub")
ENGINES = {
    "gpt2": [f"gpt2_{name}" for name in _GPT2],
    "gpt2_long": [f"gpt2_{name}" for name in _GPT2[:5]],
    "translator": [f"translator_{name}" for name in _GPT2[:5]],
}


def print_table(engines: list[Engine]) -> None:
    """Print speeds, and their ratios to the speeds of CTranslate2 in float32 and in int8."""
    batches, working = BATCHES[WORK], [engine for engine in engines if not engine.failure]
    peers = [engine for engine in working if "ctranslate2" in engine.name]
    titles = [*(f"tokens/s, batch {b}" for b in batches), *(f"to {peer.name}" for peer in peers), "load s", "peak GiB"]
    print(f"| engine | {' | '.join(titles)} |\n|---{'|---' * len(titles)}|")
    for engine in engines:
        if engine.failure:
            print(f"| {engine.name} | failed: {engine.failure} |")
            continue
        cells = [f"{engine.speed(batch):,.1f}" for batch in batches]
        cells += [" / ".join(f"{engine.speed(b) / peer.speed(b):.2f}" for b in batches) for peer in peers]
        print(f"| {' | '.join([engine.name, *cells, f'{engine.load_seconds:.1f}', f'{engine.gib:.2f}'])} |")


def main() -> None:
    if sys.argv[1] == "serve":
        name, folder = sys.argv[3:]
        serve(globals()[name], pathlib.Path(folder))
        return
    packages = ("tensorflow", "keras", "keras-hub", "ctranslate2", "torch", "transformers")
    versions = ", ".join(f"{package} {importlib.metadata.version(package)}" for package in packages)
    print(f"{platform.machine()}, {os.cpu_count()} cores; {versions}\n")
    with tempfile.TemporaryDirectory() as name:
        folder = pathlib.Path(name)
        maker = f"import decoding_speed as d, pathlib; d.make_{WORK}(pathlib.Path({name!r}))"
        here = pathlib.Path(__file__).parent
        subprocess.run([sys.executable, "-c", maker, WORK], cwd=here, check=True)
        engines = [Engine(engine, folder) for engine in sys.argv[2:] or ENGINES[WORK]]
        for engine in engines:
            for batch in BATCHES[WORK]:
                engine.run(batch)  # the first run compiles or packs the weights
        for _ in range(ROUNDS):
            for batch in BATCHES[WORK]:
                for engine in engines:
                    engine.measure(batch)
        print_table(engines)
        for engine in engines:
            engine.close()
    print(f"\nMedians of {ROUNDS} rounds.")


if __name__ == "__main__":
    main()
