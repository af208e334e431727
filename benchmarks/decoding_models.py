"""The models that `decoding_speed.py` measures, with random weights: exports, and files that other engines read."""

from __future__ import annotations

import dataclasses
import json
import os
import pathlib
import sys

DATA = pathlib.Path(os.environ.get("KERAS_ATTENTION_DATA", "data"))
STEPS, CAPTION = 32, 12
PRECISIONS = ("float32", "bfloat16", "int8")
SPECIAL = ("[PAD]", "[UNK]", "[START]", "[END]", "[MASK]")


@dataclasses.dataclass(frozen=True)
class Work:
    """A row of the table: a preset, its vocabulary and search, and the batch sizes."""

    preset: str
    vocabulary_size: int
    num_beams: int
    new_tokens: int
    batches: tuple[int, ...]
    rounds: int = 5


WORKS = {
    "gpt2": Work("gpt2_small", 50_257, 1, 64, (1, 8, 32)),
    "gpt2_long": Work("gpt2_small", 50_257, 1, 496, (1, 8)),
    "memory": Work("gpt2_small", 50_257, 1, 64, (1, 8)),
    "translator": Work("transformer_base", 16_000, 4, STEPS, (1, 8, 32)),
    "translator_tiny": Work("transformer_tiny", 10_000, 5, STEPS, (1, 32), rounds=9),
    "rnn": Work("rnn_attention", 10_000, 5, STEPS, (1, 32), rounds=9),
    "captioner": Work("show_attend_and_tell", 3_000, 3, CAPTION, (1, 32), rounds=9),
    "step_overhead": Work("gpt2_small", 0, 1, 256, (1,), rounds=9),
}
NAME = next((name for name in sys.argv if name in WORKS), "gpt2")
WORK = WORKS[NAME]


def export(model, folder: pathlib.Path, strategy, precision: str = "float32", attention_maps: bool = False) -> None:
    """Export a model, and write what `exported` needs, so that it need not import TensorFlow."""
    from keras_attention.serving.check import loader_libraries, read_saved_model

    path = model.export(folder, strategy=strategy, examples=(), precision=precision, attention_maps=attention_maps)
    signatures = {}
    for name, signature in read_saved_model(path)[0].signature_def.items():
        if not name.startswith("__"):
            sides = (signature.inputs, signature.outputs)
            signatures[name] = [{key: info.name for key, info in side.items()} for side in sides]
    request = {"loader": [*loader_libraries().values(), str(path)], "signatures": signatures}
    (folder / "request.json").write_text(json.dumps(request))


def make_gpt2(folder: pathlib.Path) -> None:
    import keras

    import keras_attention as ka

    keras.utils.set_random_seed(0)
    config = dataclasses.replace(ka.presets()[WORK.preset].config, vocabulary_size=WORK.vocabulary_size)
    ka.weights.to_huggingface(ka.CausalLM(config), folder / "hf")
    for target, source in (("vocab.json", "encoder.json"), ("merges.txt", "vocab.bpe")):
        (folder / "hf" / target).write_bytes((DATA / "tokenizers" / "gpt2" / source).read_bytes())
    model, new = ka.weights.from_huggingface(folder / "hf"), WORK.new_tokens
    strategy = ka.Greedy(min_new_tokens=new - 1, max_new_tokens=new)
    for precision in PRECISIONS:
        export(model, folder / precision, strategy, precision, attention_maps=NAME == "memory")


def random_tokenizer():
    """Return a WordPiece tokenizer whose pieces are random words."""
    import keras_hub
    import numpy as np

    rng, letters = np.random.default_rng(0), np.array(list("abcdefghijklmnopqrstuvwxyz"))
    words = dict.fromkeys("".join(rng.choice(letters, 6)) for _ in range(2 * WORK.vocabulary_size))
    vocabulary = [*SPECIAL, *words][: WORK.vocabulary_size]
    return keras_hub.tokenizers.WordPieceTokenizer(vocabulary=vocabulary, oov_token="[UNK]")


def beam_search(length_penalty: float = 0.0):
    """Return a search with a fixed number of steps."""
    import keras_attention as ka

    return ka.BeamSearch(
        num_beams=WORK.num_beams,
        length_penalty=length_penalty,
        min_new_tokens=WORK.new_tokens - 1,
        max_new_tokens=WORK.new_tokens,
    )


def make_translator(folder: pathlib.Path) -> None:
    import keras
    import numpy as np

    import keras_attention as ka

    keras.utils.set_random_seed(0)
    tokenizer = random_tokenizer()
    model = ka.Translator.from_preset(WORK.preset, source_tokenizer=tokenizer, target_tokenizer=tokenizer)
    np.savez(folder / "weights.npz", **{path.replace("/", "|"): w for path, w in named_weights(model).items()})
    (folder / "config.json").write_text(json.dumps(dataclasses.asdict(model.config)))
    (folder / "vocabulary.json").write_text(json.dumps(tokenizer.get_vocabulary()))
    for precision in PRECISIONS:
        export(model, folder / precision, beam_search(), precision)
    if NAME != "translator":
        import torch_networks

        copy = torch_networks.copy_translator if NAME == "rnn" else torch_networks.copy_transformer
        write_network(copy(model), tokenizer, beam_search(), folder)


def named_weights(model) -> dict:
    import numpy as np

    return {weight.path: np.array(weight) for weight in model.weights if "seed" not in weight.path}


def write_network(network, tokenizer, strategy, folder: pathlib.Path) -> None:
    """Write a network in PyTorch, and the same search."""
    import torch_networks

    import keras_attention as ka

    special = ka.data.special_tokens_of(tokenizer)
    tokens = (special.start, special.end, tuple(special.suppress_tokens))
    limits = (strategy.min_new_tokens, strategy.max_new_tokens)
    search = torch_networks.Search(*tokens, strategy.num_beams, strategy.length_penalty, *limits)
    torch_networks.torch.save((network, search), folder / "network.pt")


def make_captioner(folder: pathlib.Path) -> None:
    import keras
    import torch_networks

    import keras_attention as ka

    keras.utils.set_random_seed(0)
    weights = DATA / "cnn" / "mobilenet_v1_075_224.npz"
    encoder = {"image_encoder": "mobilenet_0.75", "image_encoder_weights": weights}
    model = ka.Captioner.from_preset(WORK.preset, tokenizer=random_tokenizer(), **encoder)
    strategy = beam_search(length_penalty=0.6)
    export(model, folder / "float32", strategy)
    write_network(torch_networks.copy_captioner(model), model.tokenizer, strategy, folder)


def make_step_overhead(folder: pathlib.Path) -> None:
    import keras_attention as ka

    tokenizer = ka.data.train_tokenizer(["the quick brown fox jumps over the lazy dog"], "characters")
    sizes = {"num_layers": 2, "width": 24, "num_heads": 2, "intermediate_dim": 96}
    model = ka.CausalLM.from_preset(WORK.preset, tokenizer=tokenizer, **sizes)
    for new in (64, 256):
        export(model, folder / str(new), ka.Greedy(min_new_tokens=new - 1, max_new_tokens=new))


MAKERS = {
    **dict.fromkeys(("gpt2", "gpt2_long", "memory"), make_gpt2),
    **dict.fromkeys(("translator", "translator_tiny", "rnn"), make_translator),
    "captioner": make_captioner,
    "step_overhead": make_step_overhead,
}
