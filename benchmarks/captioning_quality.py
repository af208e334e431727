"""Train and score captioners on Flickr8k and on the built-in scenes.

    python benchmarks/captioning_quality.py train flickr_soft runs/flickr_soft
    python benchmarks/captioning_quality.py train flickr_soft_self_critical runs/flickr_better runs/flickr_soft
    python benchmarks/captioning_quality.py train scenes_tied runs/scenes_tied
    python benchmarks/captioning_quality.py train scenes_soft runs/scenes_soft runs/scenes_tied
    python benchmarks/captioning_quality.py report runs/flickr_soft runs/flickr_hard ...
    python benchmarks/captioning_quality.py scenes runs/scenes_soft runs/scenes_show_and_tell ...

Flickr8k: the models are trained on train.txt. The best model is selected on dev.txt by BLEU-4 of the greedy captions,
with five references each; the number of beams is selected on dev.txt too. The image encoder is a frozen MobileNet 0.75.
BLEU, ROUGE-L, CIDEr and METEOR are computed as in coco-caption. Self-critical training and `flickr_hard_from_soft`
start from the model of another run, the last argument; the minutes include that run.

Scenes: in the first stage, a captioner with tied weights and grounded attention trains the image encoder. The second
stage starts from that run, the last argument, and freezes the image encoder; it has a separate output matrix,
coordinate features and attention smoothing. The models are trained on the train split, selected on the validation split
and scored on the test split. The scores are the fraction of captions that are exactly right, and how often the largest
attention score of a colour or shape word is inside the box of its object.

Environment variables: `KERAS_ATTENTION_DATA` is the folder with `flickr8k/` and `cnn/`, `FEATURES` is the folder of the
feature cache, and `SEED` and `EPOCHS` are the seed and the epochs of the run.
"""

from __future__ import annotations

import dataclasses
import io
import json
import os
import pathlib
import sys
import time

import keras
import numpy as np
from PIL import Image

import keras_attention as ka
from keras_attention.data.batching.caption_batches import image_regions
from keras_attention.training.checkpoints import load_arrays
from keras_attention.visualize import word_attention

DATA = pathlib.Path(os.environ.get("KERAS_ATTENTION_DATA", "data"))
FEATURES = pathlib.Path(os.environ.get("FEATURES", "runs/features"))
EPOCHS = int(os.environ.get("EPOCHS", "0"))
SEED = int(os.environ.get("SEED", "1"))
BEAMS = (1, 3, 5, 7)


@dataclasses.dataclass(frozen=True)
class Setting:
    """The model and the training of one row of a table."""

    preset: str
    sizes: dict
    plan: ka.training.TrainingPlan
    vocabulary_size: int
    tokenizer_kind: str = "sentencepiece"
    max_tokens: int = 1024
    captions_per_image: int = 1
    scenes: bool = False
    self_critical: bool = False
    frozen: bool = False
    from_other_run: bool = False


_FLICKR = ka.training.TrainingPlan(
    epochs=EPOCHS or 6,
    learning_rate=1e-3,
    warmup_steps=500,
    clip_norm=5.0,
    monitor="val_bleu",
    patience=6,
    average_checkpoints=3,
)
_CRITICAL = ka.training.TrainingPlan(
    epochs=EPOCHS or 8, learning_rate=1e-4, warmup_steps=10, clip_norm=5.0, label_smoothing=0.0, monitor="val_bleu"
)
_SELF_CRITICAL = {"max_tokens": 5120, "self_critical": True}  # 32 photos, five captions of each, up to 32 tokens
_SCENES = ka.training.TrainingPlan(
    epochs=EPOCHS or 40,
    learning_rate=2e-3,
    warmup_steps=200,
    label_smoothing=0.0,
    monitor="val_right",
    mode="max",
    patience=40,
)
_SCENE_SIZES = {"units": 192, "embedding_dim": 64, "dropout": 0.1}
_GROUNDED = {**_SCENE_SIZES, "doubly_stochastic": 0.0}
SETTINGS = {
    "flickr_soft": Setting("show_attend_and_tell", {}, _FLICKR, 3000),
    "flickr_soft_self_critical": Setting("show_attend_and_tell", {}, _CRITICAL, 3000, **_SELF_CRITICAL),
    "flickr_hard": Setting("show_attend_and_tell", {"attention": "hard"}, _FLICKR, 3000),
    "flickr_hard_from_soft": Setting(
        "show_attend_and_tell",
        {"attention": "hard"},
        dataclasses.replace(_FLICKR, epochs=EPOCHS or 2, learning_rate=3e-4, warmup_steps=100, average_checkpoints=1),
        3000,
        from_other_run=True,
    ),
    "flickr_show_and_tell": Setting("show_and_tell", {}, _FLICKR, 3000),
    "flickr_show_and_tell_self_critical": Setting("show_and_tell", {}, _CRITICAL, 3000, **_SELF_CRITICAL),
    "flickr_transformer": Setting("transformer_captioner", {}, _FLICKR, 3000, captions_per_image=5),
    "flickr_transformer_self_critical": Setting(
        "transformer_captioner", {}, _CRITICAL, 3000, max_tokens=10240, self_critical=True
    ),
    "scenes_tied": Setting(
        "show_attend_and_tell",
        {**_GROUNDED, "tie_weights": True, "grounded_attention": True},
        dataclasses.replace(_SCENES, epochs=EPOCHS or 9),
        200,
        "bpe",
        scenes=True,
    ),
    "scenes_soft": Setting(
        "show_attend_and_tell",
        {"tie_weights": False, "coordinate_features": True, "grounded_attention": False, "attention_smoothing": 1.5},
        dataclasses.replace(_SCENES, epochs=EPOCHS or 12),
        200,
        "bpe",
        scenes=True,
        frozen=True,
        from_other_run=True,
    ),
    "scenes_show_and_tell": Setting("show_and_tell", _SCENE_SIZES, _SCENES, 200, "bpe", scenes=True),
}


def flickr_examples(split: str) -> list[ka.data.CaptionedImage]:
    """Return the captioned photos of a split."""
    names = set((DATA / "flickr8k" / f"{split}.txt").read_text().split())
    examples = ka.data.read_captions(DATA / "flickr8k" / "captions.csv", DATA / "flickr8k" / "images")
    return [example for example in examples if example.name in names]


def scene_examples(split: str) -> list[ka.data.CaptionedImage]:
    """Return the built-in scenes as captioned images."""

    def encode(image: np.ndarray) -> bytes:
        file = io.BytesIO()
        Image.fromarray(image).save(file, "PNG")
        return file.getvalue()

    return [ka.data.CaptionedImage(s.name, encode(s.image), s.captions) for s in ka.quickstart.captioned_scenes(split)]


def caption(model: ka.Captioner, examples: list, strategy=None) -> list[ka.Caption]:
    if model.image_encoder.is_trainable:
        return model.caption([example.image for example in examples], strategy, batch_size=64)
    regions = image_regions(examples, model, FEATURES)
    return model.caption_regions(regions, strategy, batch_size=64)


def bleu_4(captions: list, examples: list) -> float:
    texts, references = [c.text for c in captions], [e.captions for e in examples]
    return ka.metrics.evaluate_captions(texts, references, meteor=False).bleu[3]


def scene_scores(captions: list, scenes: list) -> dict[str, float]:
    """Return the fractions of correct captions, and of attention maps whose maximum is inside the word's object."""
    right = [c.text in ka.quickstart.correct_captions(s) for c, s in zip(captions, scenes, strict=True)]
    inside: list[bool] = []
    for output, scene in zip(captions, scenes, strict=True):
        if output.attention is not None and output.text:
            inside += attends_inside(output, scene)
    return {"right": float(np.mean(right)), "inside": float(np.mean(inside)) if inside else float("nan")}


def attends_inside(output: ka.Caption, scene: ka.quickstart.Scene) -> list[bool]:
    """Return, for each colour or shape word, whether the region with its largest weight is inside its object's box."""
    words, maps = word_attention(output)
    inside = []
    for index, weights in enumerate(maps):
        scene_object = ka.quickstart.described_object(scene, words, index)
        if scene_object is not None:
            region = np.array(np.unravel_index(weights.argmax(), weights.shape))
            row, column = (region + 0.5) * len(scene.image) / np.array(weights.shape)
            top, left, bottom, right = scene_object.box
            inside.append(bool(top <= row <= bottom and left <= column <= right))
    return inside


def train(name: str, directory: str, first_run: str | None = None) -> None:
    """Train a setting in a directory; some settings start from the model of another run."""
    setting = SETTINGS[name]
    keras.utils.set_random_seed(SEED)
    load = scene_examples if setting.scenes else flickr_examples
    examples, valid = load("train"), load("validation" if setting.scenes else "dev")
    source = directory if pathlib.Path(directory, "model.keras").exists() else first_run
    if (setting.self_critical or setting.from_other_run) and source is None:
        raise SystemExit(f"{name} starts from the model of another run; add the folder of that run after {directory}.")
    model = keras.saving.load_model(pathlib.Path(source, "model.keras")) if source else make(setting, examples)
    if setting.from_other_run and source == first_run:
        model = ka.Captioner.from_model(model, **setting.sizes)
    if setting.frozen:
        ka.training.freeze(model)
    begin = time.time() - 60 * (minutes_before(source) if source else 0)
    scenes = ka.quickstart.captioned_scenes("validation") if setting.scenes else []

    def extra_metrics(model: ka.Captioner) -> dict[str, float]:
        captions = caption(model, valid)
        values = scene_scores(captions, scenes) if setting.scenes else {"bleu": bleu_4(captions, valid)}
        return {**{f"val_{key}": value for key, value in values.items()}, "minutes": (time.time() - begin) / 60}

    pathlib.Path(directory).mkdir(parents=True, exist_ok=True)
    pathlib.Path(directory, "setting.json").write_text(json.dumps(name))
    cache = {} if model.image_encoder.is_trainable else {"region_cache": FEATURES}
    image_options = {"flip": not setting.scenes, **cache}
    if setting.self_critical:
        batches = ka.training.SelfCriticalBatches(examples, model, setting.max_tokens, **image_options)
    else:
        batches = ka.data.caption_batches(
            examples, model, setting.max_tokens, captions_per_image=setting.captions_per_image, **image_options
        )
    validation = ka.data.caption_batches(valid, model, setting.max_tokens, shuffle=False, **cache)
    history = ka.train(model, batches, directory, setting.plan, validation=validation, extra_metrics=extra_metrics)
    ka.plot_history(history, pathlib.Path(directory, "curves.png"))
    print(f"{name}: {setting.plan.monitor} {max(history[setting.plan.monitor]):.4f} after {time.time() - begin:.0f} s")


def make(setting: Setting, examples: list) -> ka.Captioner:
    tokenizer = ka.data.train_tokenizer(
        ka.data.captions_of(examples), setting.tokenizer_kind, setting.vocabulary_size, lowercase=True
    )
    if setting.scenes:
        image_encoder = {"image_encoder": "small_cnn", "image_size": 64}
    else:
        weights = DATA / "cnn" / "mobilenet_v1_075_224.npz"
        image_encoder = {"image_encoder": "mobilenet_0.75", "image_encoder_weights": weights}
    return ka.Captioner.from_preset(setting.preset, tokenizer=tokenizer, **image_encoder, **setting.sizes)


def minutes_before(directory: str) -> float:
    """Return the minutes of training of a run before it is resumed; 0 for a new run."""
    checkpoint = pathlib.Path(directory, "checkpoint.npz")
    return load_arrays(checkpoint)[1]["history"].get("minutes", [0.0])[-1] if checkpoint.exists() else 0.0


def loaded(directory: str) -> tuple[str, ka.Captioner, dict]:
    name = json.loads(pathlib.Path(directory, "setting.json").read_text())
    model = keras.saving.load_model(pathlib.Path(directory, "model.keras"), compile=False)
    _, metadata = load_arrays(pathlib.Path(directory, "checkpoint.npz"))
    return name, model, metadata


def report(*directories: str) -> None:
    """Print a table with the scores on the dev photos, with the number of beams that has the best BLEU-4."""
    examples = flickr_examples("dev")
    print(f"Keras {keras.__version__} on {keras.backend.backend()}; dev, {len(examples)} photos, five references\n")
    print(
        "| setting | learned parameters | minutes | epochs | beam | BLEU-1 | -2 | -3 | -4 | METEOR | ROUGE-L | CIDEr |"
    )
    print("|---|---|---|---|---|---|---|---|---|---|---|---|")
    for directory in directories:
        name, model, metadata = loaded(directory)
        outputs = {k: caption(model, examples, ka.BeamSearch(num_beams=k) if k > 1 else ka.Greedy()) for k in BEAMS}
        beam = max(BEAMS, key=lambda k: bleu_4(outputs[k], examples))
        scores = ka.metrics.evaluate_captions([c.text for c in outputs[beam]], [e.captions for e in examples])
        learned = sum(int(np.prod(v.shape)) for v in model.trainable_variables)
        bleu = " | ".join(f"{value:.1f}" for value in scores.bleu)
        print(
            f"| {name} | {learned:,} | {metadata['history']['minutes'][-1]:.0f} | {metadata['epoch']} | {beam} "
            f"| {bleu} "
            f"| {100 * (scores.meteor or 0):.1f} | {100 * scores.rouge_l:.1f} | {100 * scores.cider:.1f} |",
            flush=True,
        )


def scenes(*directories: str) -> None:
    """Print a table with the scores on the test scenes, whose combinations of objects are not in the training data."""
    examples, truth = scene_examples("test"), ka.quickstart.captioned_scenes("test")
    print(f"Keras {keras.__version__} on {keras.backend.backend()}; {len(truth)} scenes of the test split\n")
    print("| setting | parameters | minutes | epochs | exactly right | largest weight inside the object |")
    print("|---|---|---|---|---|---|")
    for directory in directories:
        name, model, metadata = loaded(directory)
        result = scene_scores(caption(model, examples, ka.BeamSearch(num_beams=3)), truth)
        print(
            f"| {name} | {model.count_params():,} | {metadata['history']['minutes'][-1]:.0f} | {metadata['epoch']} "
            f"| {100 * result['right']:.1f} % | {100 * result['inside']:.1f} % |",
            flush=True,
        )


if __name__ == "__main__":
    {"train": train, "report": report, "scenes": scenes}[sys.argv[1]](*sys.argv[2:])
