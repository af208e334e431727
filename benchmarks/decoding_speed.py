"""Measure the decoding speed and memory of exports, and of other engines with the same random weights.

    pip install ctranslate2 torch transformers             # for the comparison
    python benchmarks/decoding_speed.py gpt2               # GPT-2 124M, greedy, prompt of 16 tokens, 64 new tokens
    python benchmarks/decoding_speed.py gpt2_long          # the same with 496 new tokens
    python benchmarks/decoding_speed.py translator         # Transformer-base, 4 beams, source of 20 tokens, 32 steps
    python benchmarks/decoding_speed.py translator_tiny    # transformer_tiny, 5 beams, also against transformers
    python benchmarks/decoding_speed.py rnn                # rnn_attention, 5 beams, against the same network in PyTorch
    python benchmarks/decoding_speed.py captioner          # show_attend_and_tell, 3 beams, against PyTorch
    python benchmarks/decoding_speed.py step_overhead      # a language model with 2 blocks of width 24, a step of it
    python benchmarks/decoding_speed.py memory             # GPT-2 124M, peak memory after each signature was used
    python benchmarks/decoding_speed.py gpt2 gpt2_ours_int8 gpt2_ctranslate2_int8      # only some engines
    python benchmarks/decoding_speed.py table              # all of these, with the engines of the table in RESULTS.md

Our engine is the SavedModel in TensorFlow's C++ loader, without XLA and without Python's TensorFlow, with strings as
input and output; the other engines get ids, tokens or JPEG files. Each engine is loaded in a process of its own, with
one thread per core. In each round, the engines run one after the other; the table has medians. The first request of an
engine has the first batch size of the work; there was no warm-up request.
`KERAS_ATTENTION_DATA` is the folder with `tokenizers/gpt2`, `cnn` and `flickr8k`.

The engines do the same work: in float32, 8 of 8 translations by `rnn` and by `translator_tiny`, and 32 of 32 captions,
were equal to those of the other engine, and 32 of 32 translations of transformers (compared once).
"""

from __future__ import annotations

import concurrent.futures
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

from decoding_models import DATA, NAME, PRECISIONS, WORK

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
PROMPT, SOURCE = 16, 20
TEXTS = ("text", "caption")  # the outputs that are read


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
        command = [sys.executable, __file__, "serve", NAME, name, str(folder)]
        pipe = subprocess.PIPE
        self.process = subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=self.errors, text=True)
        self.load_seconds, self.first_seconds = (self._read("LOADED") or [0.0])[0], 0.0
        self.seconds: dict[int, list[float]] = {batch: [] for batch in WORK.batches}

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

    def prepare(self) -> None:
        """Run each batch size once: the first run compiles or packs the weights."""
        first, *_ = [self.run(batch) for batch in WORK.batches]
        self.first_seconds = first or 0.0

    def measure(self, batch: int) -> None:
        time.sleep(0.3)  # the threads of the engine that ran before may spin for 0.2 s
        self.seconds[batch].append(self.run(batch))

    def speed(self, batch: int) -> float:
        """Return tokens per second."""
        return batch * WORK.new_tokens / statistics.median(self.seconds[batch])

    def close(self) -> None:
        self.process.stdin.close()
        self.process.wait()


def exported(folder: pathlib.Path, rows: list[str], every_signature: bool = False) -> Callable[[int], object]:
    """Load an export as TensorFlow Serving does; a run uses `serving_default`, or each signature once."""
    package = pathlib.Path(importlib.util.find_spec("keras_attention").origin).parent
    sys.path.insert(0, str(package / "serving"))  # to import the program alone
    from tensorflow_loader import TensorFlowLoader

    request = json.loads((folder / "request.json").read_text())
    loader, signatures = TensorFlowLoader(*request["loader"]), request["signatures"]

    def run(batch: int) -> dict[str, list]:
        feed = {"dtype": "string", "values": rows[:batch]}
        for name in signatures if every_signature else ["serving_default"]:
            inputs, outputs = signatures[name]
            fetches = outputs if every_signature else {key: outputs[key] for key in outputs if key in TEXTS}
            results = loader.run(dict.fromkeys(inputs.values(), feed), fetches)
        return results

    return run


def words(count: int) -> list[str]:
    """Return words that are one token of GPT-2 each."""
    vocabulary = json.loads((DATA / "tokenizers" / "gpt2" / "encoder.json").read_text())
    return [piece[1:] for piece in vocabulary if piece[:1] == "\u0120" and piece[1:].isalpha()][100 : 100 + count]


def prompts(count: int) -> list[list[str]]:
    pieces = words(count * PROMPT)
    return [pieces[i * PROMPT : (i + 1) * PROMPT] for i in range(count)]


def gpt2_texts() -> list[str]:
    return [" " + " ".join(row) for row in prompts(32)]


def gpt2_ours(folder: pathlib.Path, precision: str = "float32") -> Callable[[int], object]:
    return exported(folder / precision, gpt2_texts())


def gpt2_ours_bfloat16(folder: pathlib.Path) -> Callable[[int], object]:
    return gpt2_ours(folder, "bfloat16")


def gpt2_ours_int8(folder: pathlib.Path) -> Callable[[int], object]:
    return gpt2_ours(folder, "int8")


def memory_float32(folder: pathlib.Path, precision: str = "float32") -> Callable[[int], object]:
    return exported(folder / precision, gpt2_texts(), every_signature=True)


def memory_bfloat16(folder: pathlib.Path) -> Callable[[int], object]:
    return memory_float32(folder, "bfloat16")


def memory_int8(folder: pathlib.Path) -> Callable[[int], object]:
    return memory_float32(folder, "int8")


def gpt2_ctranslate2(folder: pathlib.Path, kind: str = "float32") -> Callable[[int], object]:
    import ctranslate2
    from ctranslate2.converters import TransformersConverter

    target, new = folder / f"ct2_{kind}", WORK.new_tokens
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
    model, new = transformers.GPT2LMHeadModel.from_pretrained(folder / "hf").eval(), WORK.new_tokens
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
    ids = np.zeros((32, PROMPT + WORK.new_tokens), "int32")
    ids[:, :PROMPT] = rng.integers(0, 50_000, (32, PROMPT))
    mask = np.arange(ids.shape[1])[None].repeat(32, 0) < PROMPT
    step = model.make_generate_function()
    return lambda batch: step({"token_ids": ids[:batch], "padding_mask": mask[:batch]}, stop_token_ids=None)


def sources(folder: pathlib.Path) -> list[list[str]]:
    vocabulary = json.loads((folder / "vocabulary.json").read_text())
    return [vocabulary[100 + i * 37 : 100 + i * 37 + SOURCE - 1] for i in range(32)]


def translator_ours(folder: pathlib.Path, precision: str = "float32") -> Callable[[int], object]:
    return exported(folder / precision, [" ".join(row) for row in sources(folder)])


def translator_ours_bfloat16(folder: pathlib.Path) -> Callable[[int], object]:
    return translator_ours(folder, "bfloat16")


def translator_ours_int8(folder: pathlib.Path) -> Callable[[int], object]:
    return translator_ours(folder, "int8")


def translator_ctranslate2(folder: pathlib.Path, kind: str = "float32") -> Callable[[int], object]:
    import ctranslate2
    from ctranslate2_networks import to_ctranslate2

    target = folder / f"ct2_{kind}"
    target.mkdir(exist_ok=True)
    to_ctranslate2(folder).save(str(target))
    engine = ctranslate2.Translator(str(target), compute_type=kind, intra_threads=os.cpu_count())
    rows = [[*row, "[END]"] for row in sources(folder)]
    options = {"beam_size": WORK.num_beams, "length_penalty": 0}
    options |= {"min_decoding_length": WORK.new_tokens, "max_decoding_length": WORK.new_tokens}
    return lambda batch: engine.translate_batch(rows[:batch], **options)


def translator_ctranslate2_int8(folder: pathlib.Path) -> Callable[[int], object]:
    return translator_ctranslate2(folder, "int8")


def load_network(folder: pathlib.Path) -> tuple:
    """Load a network in PyTorch and its search."""
    import torch_networks

    torch_networks.torch.set_num_threads(os.cpu_count())
    return torch_networks.torch.load(folder / "network.pt", weights_only=False)


def source_ids(folder: pathlib.Path):
    """Return the sources as a tensor of PyTorch."""
    import torch

    vocabulary = {piece: i for i, piece in enumerate(json.loads((folder / "vocabulary.json").read_text()))}
    return torch.tensor([[vocabulary[piece] for piece in (*row, "[END]")] for row in sources(folder)])


def translator_torch(folder: pathlib.Path) -> Callable[[int], object]:
    import torch
    import transformers

    (network, search), ids = load_network(folder), source_ids(folder)
    options = transformers.GenerationConfig(
        num_beams=search.num_beams,
        length_penalty=search.length_penalty,
        min_new_tokens=search.min_new_tokens,
        max_new_tokens=search.max_new_tokens,
        suppress_tokens=list(search.suppress_tokens),
        decoder_start_token_id=search.start,
        eos_token_id=search.end,
        pad_token_id=0,
    )

    def run(batch: int) -> object:
        with torch.inference_mode():
            return network.generate(ids[:batch], attention_mask=torch.ones_like(ids[:batch]), generation_config=options)

    return run


def rnn_torch(folder: pathlib.Path) -> Callable[[int], object]:
    import torch

    (network, search), ids = load_network(folder), source_ids(folder)
    return lambda batch: network.generate(search, ids[:batch], torch.ones_like(ids[:batch]).bool())


def photos() -> list[bytes]:
    return [path.read_bytes() for path in sorted((DATA / "flickr8k" / "images").iterdir())[:32]]


def captioner_ours(folder: pathlib.Path) -> Callable[[int], object]:
    return exported(folder / "float32", [photo.decode("utf-8", "surrogateescape") for photo in photos()])


def captioner_torch(folder: pathlib.Path) -> Callable[[int], object]:
    import numpy as np
    import torch

    from keras_attention.data.image_files.images import decode_image  # with Pillow

    (network, search), files = load_network(folder), photos()

    def run(batch: int) -> list[list[int]]:
        images = np.stack([decode_image(file, 224) for file in files[:batch]])
        return network.generate(search, torch.from_numpy(images))

    return run


def step_64(folder: pathlib.Path) -> Callable[[int], object]:
    return exported(folder / "64", ["the lazy fox"])


def step_256(folder: pathlib.Path) -> Callable[[int], object]:
    return exported(folder / "256", ["the lazy fox"])


_OURS, _CT2 = ("ours", "ours_bfloat16", "ours_int8"), ("ctranslate2", "ctranslate2_int8")
ENGINES = {
    "gpt2": [f"gpt2_{name}" for name in (*_OURS, *_CT2, "torch", "keras_hub")],
    "gpt2_long": [f"gpt2_{name}" for name in (*_OURS, *_CT2)],
    "memory": [f"memory_{precision}" for precision in PRECISIONS],
    "translator": [f"translator_{name}" for name in (*_OURS, *_CT2)],
    "translator_tiny": [f"translator_{name}" for name in (*_OURS, *_CT2, "torch")],
    "rnn": [*(f"translator_{name}" for name in _OURS), "rnn_torch"],
    "captioner": ["captioner_ours", "captioner_torch"],
    "step_overhead": ["step_64", "step_256"],
}


def print_table(engines: list[Engine]) -> None:
    """Print speeds, and their ratios to the speeds of the other engines."""
    batches, working = WORK.batches, [engine for engine in engines if not engine.failure]
    peers = [engine for engine in working if engine.name.split("_", 1)[1] in (*_CT2, "torch")]
    titles = [*(f"tokens/s, batch {b}" for b in batches), *(f"to {peer.name}" for peer in peers)]
    titles += ["load s", "first s", "peak GiB"]
    print(f"| engine | {' | '.join(titles)} |\n|---{'|---' * len(titles)}|")
    for engine in engines:
        if engine.failure:
            print(f"| {engine.name} | failed: {engine.failure} |")
            continue
        cells = [f"{engine.speed(batch):,.1f}" for batch in batches]
        cells += [" / ".join(f"{engine.speed(b) / peer.speed(b):.2f}" for b in batches) for peer in peers]
        cells += [f"{engine.load_seconds:.1f}", f"{engine.first_seconds:.1f}", f"{engine.gib:.2f}"]
        print(f"| {' | '.join([engine.name, *cells])} |")


def print_limits() -> None:
    """Print how fast this machine can read the weights of GPT-2 124M, and multiply them with 1 to 32 rows."""
    import numpy as np

    width, layers = 768, 12
    count = 12 * layers * width**2 + 50_257 * width
    parts = np.array_split(np.ones(count, "float32"), os.cpu_count())

    def read() -> None:
        with concurrent.futures.ThreadPoolExecutor() as pool:
            list(pool.map(lambda part: part @ part, parts))

    rows, matrix = np.ones((512, width), "float32"), np.ones((width, 4 * width), "float32")
    gigabytes = 4e-9 * count / fastest(read)
    gflops = 2e-9 * rows.size * 4 * width / fastest(lambda: rows @ matrix)
    print(f"\nThe machine reads {gigabytes:.0f} GB/s and multiplies {gflops:.0f} GFLOP/s in float32.")
    for name, size in (("float32", 4), ("bfloat16", 2), ("int8", 1)):
        print(
            f"Reading all weights in {name} at each step allows {1e9 * gigabytes / size / count:.0f} steps per second."
        )
    print(f"The products in float32 allow {1e9 * gflops / 2 / count:,.0f} tokens per second.")


def fastest(run: Callable[[], object], rounds: int = 9) -> float:
    """Return the seconds of the fastest round."""
    seconds = []
    for _ in range(rounds):
        begin = time.perf_counter()
        run()
        seconds.append(time.perf_counter() - begin)
    return min(seconds)


def print_memory(engines: list[Engine]) -> None:
    """Print the peak memory after each signature was used at each batch size."""
    print("| engine | load s | peak GiB |\n|---|---|---|")
    for engine in engines:
        print(f"| {engine.name} | {engine.failure or f'{engine.load_seconds:.1f} | {engine.gib:.2f}'} |")


def print_step(engines: list[Engine]) -> None:
    """Print the time of a step, from the difference of a long and a short text."""
    few, many = (statistics.median(engine.seconds[1]) for engine in engines)
    print(f"A step takes {1000 * (many - few) / (256 - 64):.3f} ms.")


def print_gpt2(engines: list[Engine]) -> None:
    print_table(engines)
    print_limits()


PRINTERS = {"gpt2": print_gpt2, "memory": print_memory, "step_overhead": print_step}
_GPT2 = [f"gpt2_{name}" for name in ("ours", "ours_int8", *_CT2)]
TABLE = {
    "gpt2": _GPT2,
    "gpt2_long": _GPT2,
    "translator": [name.replace("gpt2", "translator") for name in _GPT2],
    "translator_tiny": ["translator_ours", "translator_ctranslate2", "translator_torch"],
    "rnn": ["translator_ours", "rnn_torch"],
    "captioner": ["captioner_ours", "captioner_torch"],
    "memory": ENGINES["memory"],
    "step_overhead": ENGINES["step_overhead"],
}


def run_table() -> None:
    """Run each work of the table in a process of its own."""
    for work, engines in TABLE.items():
        begin = time.perf_counter()
        print(f"\n## {work}\n", flush=True)
        subprocess.run([sys.executable, __file__, work, *engines], check=True)
        print(f"{(time.perf_counter() - begin) / 60:.1f} minutes", flush=True)


def measure(folder: pathlib.Path) -> None:
    """Measure engines and print their table; `folder` has what the maker of the work wrote."""
    engines = [Engine(engine, folder) for engine in sys.argv[2:] or ENGINES[NAME]]
    for engine in engines:
        engine.prepare()
    for _ in range(WORK.rounds):
        for batch in WORK.batches:
            for engine in engines:
                engine.measure(batch)
    PRINTERS.get(NAME, print_table)(engines)
    for engine in engines:
        engine.close()
    print(f"\nMedians of {WORK.rounds} rounds.")


def main() -> None:
    if sys.argv[1] == "serve":
        name, folder = sys.argv[3:]
        serve(globals()[name], pathlib.Path(folder))
        return
    if sys.argv[1] == "table":
        run_table()
        return
    if unknown := set(sys.argv[2:]) - set(ENGINES[NAME]):
        sys.exit(f"Unknown engines: {', '.join(sorted(unknown))}. Expected some of: {', '.join(ENGINES[NAME])}.")
    packages = ("tensorflow", "keras", "keras-hub", "ctranslate2", "torch", "transformers")
    versions = ", ".join(f"{package} {importlib.metadata.version(package)}" for package in packages)
    print(f"{platform.machine()}, {os.cpu_count()} cores; {versions}\n")
    with tempfile.TemporaryDirectory() as name:
        maker = f"import decoding_models as d, pathlib; d.MAKERS[{NAME!r}](pathlib.Path({name!r}))"
        here = pathlib.Path(__file__).parent
        subprocess.run([sys.executable, "-c", maker, NAME], cwd=here, check=True)
        measure(pathlib.Path(name))


if __name__ == "__main__":
    main()
