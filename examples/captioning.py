"""Train a captioner on drawn scenes, and plot which regions each word attends to.

python examples/captioning.py                              # show, attend and tell; 3 minutes an epoch on one core
python examples/captioning.py --preset show_and_tell
python examples/captioning.py --preset transformer_captioner
python examples/captioning.py --attention hard
python examples/captioning.py --smoke
"""

import argparse
import pathlib

import keras

import keras_attention as ka

parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("--preset", default="show_attend_and_tell")
parser.add_argument(
    "--attention", default="additive", choices=["additive", "hard"], help="the attention of show_attend_and_tell"
)
parser.add_argument("--smoke", action="store_true", help="a tiny run that tests the program")
parser.add_argument("--out", type=pathlib.Path, default=pathlib.Path("run/captioning"))
options = parser.parse_args()

keras.utils.set_random_seed(0)
train = ka.data.read_captions(f"tfds:scenes:train{'[:7]' if options.smoke else ''}")
validation = ka.data.read_captions(f"tfds:scenes:validation[:{3 if options.smoke else 100}]")
sizes = {
    "show_and_tell": {"units": 192, "embedding_dim": 64, "dropout": 0.1},
    "show_attend_and_tell": {
        "units": 192, "embedding_dim": 64, "dropout": 0.1, "tie_weights": True,
        "doubly_stochastic": 0.0, "attention": options.attention,
    },
    "transformer_captioner": {"width": 96, "num_heads": 4, "num_layers": 2, "intermediate_dim": 192, "dropout": 0.1},
}[options.preset]  # fmt: skip
model = ka.Captioner.from_preset(
    options.preset,
    tokenizer=ka.data.train_tokenizer(ka.data.captions_of(train), "bpe", 150 if options.smoke else 200),
    image_encoder="small_cnn",
    image_size=64,
    **sizes,
)
drawn = {scene.name: scene for scene in ka.quickstart.captioned_scenes("validation")}


def extra_metrics(model: ka.Captioner) -> dict[str, float]:
    """Return the fraction of exactly correct captions; the combinations of objects are not in the training data."""
    outputs = model.caption([example.image for example in validation], batch_size=100)
    scenes = [drawn[example.name] for example in validation]
    correct = [
        output.text in ka.quickstart.correct_captions(scene) for output, scene in zip(outputs, scenes, strict=True)
    ]
    return {"val_correct": sum(correct) / len(correct)}


ka.train(
    model,
    ka.data.caption_batches(train, model, captions_per_image=1),  # a batch then has more images
    options.out,
    ka.training.TrainingPlan(
        epochs=1 if options.smoke else 15, learning_rate=2e-3, label_smoothing=0.0, monitor="val_correct", mode="max"
    ),
    extra_metrics=extra_metrics,
)
for scene in ka.quickstart.captioned_scenes("test", 3):
    (output,) = model.caption([scene.image], ka.BeamSearch(num_beams=3))
    print(f"expected: {scene.captions[0]}\nwritten:  {output.text}  (score {output.score:.2f})")
    if output.attention is not None:
        ka.plot_caption(output, scene.image, options.out / f"{scene.name}.png")
