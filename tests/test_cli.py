"""The command line: every command on small files."""

import functools
import os
import re
import sys

import keras
import numpy as np
import pytest
from command_line import SMALL, TINY, model, pairs, run, served
from conftest import train_eagerly

import keras_attention as ka
from keras_attention.cli import main
from keras_attention.training.checkpoints import load_arrays

__all__ = ["model", "pairs", "run", "served"]  # fixtures
pytestmark = pytest.mark.skipif(keras.backend.backend() != "tensorflow", reason="an export needs TensorFlow")


SOURCE = "we eat bread\n\nthey drink water\n  \nthe boy eats the red apple"


def test_translate_prints_one_line_per_input_line(run, model):
    code, out, _ = run("translate", model, stdin=SOURCE.encode())
    assert (code, out) == (0, "comemos pan\n\nbeben agua\n\nel niño come la manzana roja\n")


def test_an_export_and_its_model_translate_the_same(run, model, served, tmp_path):
    (tmp_path / "source.txt").write_text(SOURCE)
    _, one, _ = run("translate", model, tmp_path / "source.txt", "--num-beams", 5, "--scores")
    _, two, _ = run("translate", served, tmp_path / "source.txt", "--scores")
    assert one == two
    assert one.splitlines()[0].split("\t")[1] == "comemos pan"


def test_texts_are_translated_back_to_pairs_that_train_a_translator(run, model, served, write, tmp_path):
    """The words of a text are 7 tokens with the end token; 71 words have more than the 128 that the model reads."""
    texts = ['we drink "water"', "they eat\tbread", "", "the boy eats the red apple"]
    one, two = write("one.txt", "\n".join(texts)), write("two.txt.gz", "red apple " * 71)
    _, translated, _ = run("translate", served, stdin="\n".join(texts).replace("\t", " ").encode())
    first, second, _, third = translated.splitlines()
    for name, source, search in (("a", model, ["--num-beams", 5]), ("b", served, [])):
        code, _, err = run("augment", source, one, two, *search, "--out", tmp_path / "new" / f"{name}.tsv")
        assert code == 0
        shown = f"Wrote 3 of 4 pairs to {tmp_path}/new/{name}.tsv. Left out: 1 with 128 or more tokens, special ones"
        assert shown in err
        pairs = ka.Translator.data.read([str(tmp_path / "new" / f"{name}.tsv"), str(write("own.csv", "a,b\n"))])
        assert pairs == [(first, texts[0]), (second, "they eat bread"), (third, texts[3]), ("a", "b")]
    _, _, err = run("augment", model, one, "--max-new-tokens", 9, "--out", tmp_path / "c.tsv")
    assert err.endswith("c.tsv. Left out: 2 whose translation was cut at the maximum length.\n")
    assert (tmp_path / "c.tsv").read_text() == "comen pan\tthey eat bread\n"


def test_an_export_is_checked(run, served):
    code, out, _ = run("check", served)
    assert (code, out.splitlines()[-1]) == (0, "ok: loaded and run by the C++ loader, XLA off")


def test_evaluate_prints_scores_with_signatures(run, model, served, pairs, tmp_path):
    for path in (model, served):
        code, out, _ = run("evaluate", path, pairs, "--plot", tmp_path / "bleu.png")
        assert code == 0
        assert out.splitlines()[:2] == ["BLEU 100.00", "chrF 100.00"]
        assert "  signature: nrefs:1|case:mixed|eff:no|tok:13a" in out
    assert (tmp_path / "bleu.png").exists()


def test_evaluate_and_translate_use_the_same_search(run, model, tmp_path):
    sources = ["the boy reads a book and drinks cold milk", "we see the old red house", "they read a cold apple"]
    search = ["--num-beams", 5, "--length-penalty", 9]
    _, output, _ = run("translate", model, *search, stdin="\n".join(sources).encode())
    (tmp_path / "output.tsv").write_text(
        "".join(f"{s}\t{t}\n" for s, t in zip(sources, output.splitlines(), strict=True))
    )
    assert "BLEU 100.00" in run("evaluate", model, tmp_path / "output.tsv", *search)[1]
    assert (
        "BLEU 100.00" not in run("evaluate", model, tmp_path / "output.tsv", "--num-beams", 5, "--length-penalty", 0)[1]
    )


@pytest.mark.usefixtures("short_searches")
def test_a_classifier_is_trained_evaluated_and_applied(run, tmp_path):
    (tmp_path / "x.tsv").write_text("a fine film\tgood\na dull film\tbad\nso very fine\tgood\nvery dull\tbad\n")
    out = tmp_path / "run"
    balanced = ["--class-weights", "balanced"]
    code, _, err = run("train", "classifier", "--train", tmp_path / "x.tsv", "--out", out, *SMALL, *balanced)
    assert code == 0, err
    assert load_arrays(out / "checkpoint.npz")[1]["identity"]["class_weight"] == "balanced"
    code, text, _ = run("classify", out / "model.keras", stdin=b"a fine film\n\ndull\n")
    assert code == 0
    assert len(text.splitlines()) == 3
    assert text.splitlines()[1] == ""
    assert set(text.split()) <= {"good", "bad"}
    scored = run("classify", out / "model.keras", "--scores", stdin=b"a fine film\n\n")[1].splitlines()
    assert (scored[0].count("\t"), scored[1]) == (1, "")
    assert run("evaluate", out / "model.keras", tmp_path / "x.tsv")[1].startswith("accuracy ")
    (tmp_path / "y.tsv").write_text("a fine film\tgut\n")
    code, text, err = run("evaluate", out / "model.keras", tmp_path / "y.tsv")
    assert (code, text) == (1, "")
    assert "The examples have none of the model's labels, which are bad, good; they have gut" in err
    code, _, err = run("translate", out / "model.keras", stdin=b"x\n")
    assert code == 1
    assert "is a TextClassifier, which cannot translate. Try: keras-attention classify" in err


@pytest.mark.slow
@pytest.mark.usefixtures("short_searches")
def test_a_tagger_is_trained_evaluated_and_applied(run, tmp_path):
    lines = ["1\tWe\twe\tPRON", "2\teat\teat\tVERB", "3\tbread\tbread\tNOUN", "", "1\tEat\teat\tVERB", ""]
    (tmp_path / "x.conllu").write_text("\n".join(line + "\t_" * 6 if line else "" for line in lines))
    out = tmp_path / "run"
    code, _, err = run("train", "tagger", "--train", tmp_path / "x.conllu", "--out", out, *SMALL)
    assert code == 0, err
    assert keras.saving.load_model(out / "model.keras").character_tokenizer is not None
    _, text, _ = run("tag", out / "model.keras", stdin=b"We eat bread\n\nEat\n")
    assert [len(line.split(" ")) for line in text.splitlines()] == [3, 1, 1]
    assert text.splitlines()[1] == ""
    assert " of 4)" in run("evaluate", out / "model.keras", tmp_path / "x.conllu")[1]


@pytest.mark.slow
@pytest.mark.usefixtures("short_searches")
def test_a_language_model_is_trained_exported_and_applied(run, tmp_path):
    (tmp_path / "x.txt").write_text("to be or not to be\nthat is the question\n" * 3)
    out = tmp_path / "run"
    code, _, err = run(
        "train", "lm", "--train", tmp_path / "x.txt", "--valid", tmp_path / "x.txt", "--out", out, *SMALL
    )
    assert code == 0, err

    def sample(*options, lines=b"to be\nthat\n"):
        code, printed, err = run("complete", out / "model.keras", "--max-new-tokens", 9, *options, stdin=lines)
        assert code == 0, err
        return printed.splitlines()

    assert [line[:2] for line in sample("--seed", 5)] == ["to", "th"]
    assert sample("--seed", 5) == sample("--seed", 5, "--batch-size", 1)
    # Line i has the seed --seed + i, modulo 2^32.
    expected = sample("--seed", 2**32 - 1, lines=b"to be\n") + sample("--seed", 0, lines=b"that\n")
    assert sample("--seed", 2**32 - 1) == sample("--seed", 2**32 - 1, "--batch-size", 1) == expected
    beam = ["--max-new-tokens", 9, "--num-beams", 3, "--length-penalty", 1]
    assert run("complete", out / "model.keras", *beam, stdin=b"to be\n")[0] == 0
    assert run("evaluate", out / "model.keras", tmp_path / "x.txt")[1].startswith("perplexity ")
    top_1 = ["--top-k", 1, "--max-new-tokens", 9]
    code, _, err = run("export", out / "model.keras", tmp_path / "serving", *top_1)
    assert (code, "keras-attention check" in err) == (0, True)
    expected = run("complete", out / "model.keras", *top_1, "--seed", 5, stdin=b"to be\n")[1]
    assert run("complete", tmp_path / "serving" / "1", "--seed", 7, stdin=b"to be\n")[1] == expected
    (tmp_path / "short.txt").write_text("to be\nthat\n")
    assert run("evaluate", tmp_path / "serving" / "1", tmp_path / "short.txt")[1].startswith("perplexity ")
    error = run("evaluate", tmp_path / "serving" / "1", tmp_path / "x.txt")[2]
    assert "Or evaluate the .keras file that the export was made from" in error


@pytest.mark.slow
@pytest.mark.usefixtures("short_searches")
def test_a_masked_language_model_is_exported_to_hugging_face_and_imported(run, tmp_path):
    (tmp_path / "x.txt").write_text("we eat bread\nthey drink water\n" * 9)
    options = ["--preset", "bert_base", "--tokenizer", "characters", "--epochs", 1, *TINY]
    code, _, err = run("train", "mlm", "--train", tmp_path / "x.txt", "--out", tmp_path / "run", *options)
    assert code == 0, err
    model = tmp_path / "run" / "model.keras"
    scores = re.sub(r"[0-9.]+", "*", run("evaluate", model, tmp_path / "x.txt")[1]).splitlines()
    assert scores[0] == "loss * nats per token"
    assert scores[1:] == ["accuracy *", "next-sentence accuracy *", "  signature: per:masked token|rate:*|seed:*"]
    code, text, err = run("fill", model, stdin=b"we <mask> bread\n\nno [MASK]\n")
    assert (code, text.splitlines()[1:], "line 3: no mask; expected <mask>" in err) == (0, ["", "no [MASK]"], True)
    assert run("export", model, tmp_path / "hf", "--huggingface")[0] == 0
    code, _, err = run("import", tmp_path / "hf", tmp_path / "again.keras")
    assert (code, "Warning: " in err, "has no tokenizer files" in err) == (0, True, True)
    again = keras.saving.load_model(tmp_path / "again.keras", compile=False)
    np.testing.assert_array_equal(
        again.encoder.get_weights()[3], keras.saving.load_model(model, compile=False).encoder.get_weights()[3]
    )
    code, _, err = run("import", tmp_path / "hf", tmp_path / "labelled.keras", "--labels", "a,b")
    assert (code, "Add --task classifier" in err) == (2, True)
    assert run("export", model, tmp_path / "int8", "--precision", "int8")[0] == 0
    assert run("check", tmp_path / "int8" / "1")[0] == 0


@pytest.mark.slow
@pytest.mark.usefixtures("short_searches")
def test_quickstart_runs_every_step(run, tmp_path, monkeypatch):
    """The quickstart runs on few phrases for one epoch, which is too little to learn."""
    from keras_attention.cli import quickstart
    from keras_attention.quickstart import phrases_tfds

    monkeypatch.setattr(phrases_tfds, "Phrases", functools.partial(phrases_tfds.Phrases, data_dir=tmp_path / "tfds"))
    few = {split: ka.quickstart.phrase_pairs(split)[:40] for split in ("train", "validation", "test")}
    monkeypatch.setattr(phrases_tfds, "phrase_pairs", few.get)
    small = {"valid_files": ["tfds:phrases:validation[:7]"], "overrides": ["units=14", "embedding_dim=11"]}
    monkeypatch.setattr(quickstart, "_PHRASES", {**quickstart._PHRASES, **small})
    code, out, err = run("quickstart", "--out", tmp_path / "q", "--epochs", 1)
    assert code == 0, err
    assert "40 training examples, 7 validation examples" in err
    assert "we are eating bread -> " in out
    assert "the C++ loader, XLA off, returns the same texts" in out
    assert (tmp_path / "q" / "alignment.png").exists()
    assert out.count("keras-attention ") == 3


@pytest.mark.slow
@pytest.mark.usefixtures("short_searches")
def test_quickstart_captioner_runs_every_step(run, tmp_path, monkeypatch):
    from keras_attention.cli import quickstart
    from keras_attention.quickstart import scenes_tfds

    scenes = ka.quickstart.captioned_scenes
    monkeypatch.setattr(scenes_tfds, "captioned_scenes", lambda split: scenes(split, 7))
    monkeypatch.setattr(ka.quickstart, "captioned_scenes", lambda split, count: scenes(split, 2))
    monkeypatch.setattr(scenes_tfds, "Scenes", functools.partial(scenes_tfds.Scenes, data_dir=tmp_path / "tfds"))
    small = {
        "valid_files": ["tfds:scenes:validation[:3]"],
        "overrides": ["image_size=32", "max_length=9", "units=14", "embedding_dim=11"],
    }
    monkeypatch.setattr(quickstart, "_SCENES", {**quickstart._SCENES, **small})
    code, out, err = run("quickstart", "captioner", "--out", tmp_path / "q", "--epochs", 1)
    assert code == 0, err
    assert err.count("7 training examples, 3 validation examples") == 2
    first, second = (
        keras.saving.load_model(path, compile=False)
        for path in (tmp_path / "q" / "image_encoder" / "model.keras", tmp_path / "q" / "model.keras")
    )
    chosen = [
        (c.tie_weights, c.grounded_attention, c.coordinate_features, c.attention_smoothing)
        for c in (first.config, second.config)
    ]
    assert chosen == [(True, True, False, 0.0), (False, False, True, 1.5)]
    assert first.image_encoder.digest() == second.image_encoder.digest()
    assert "the C++ loader, XLA off, returns the same texts" in out
    assert len(list((tmp_path / "q" / "scenes").glob("*.attention.png"))) == 2
    assert out.count("keras-attention ") == 3


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    """A folder of drawn scenes with their captions; one image is unreadable."""
    from PIL import Image

    folder = tmp_path_factory.mktemp("photos")
    rows = ["image,caption"]
    for scene in ka.quickstart.captioned_scenes("train", 11):
        Image.fromarray(scene.image).save(folder / f"{scene.name}.png")
        rows.append(f"{scene.name}.png,{' '.join(scene.captions[0].split()[:3])}")
    (folder / "broken.jpg").write_bytes(b"no image")
    (folder / "captions.csv").write_text("\n".join([*rows, "broken.jpg,a dog", "missing.jpg,a cat"]))
    return folder


ENCODER = ["--image-encoder", "small_cnn", "--set", "image_size=32", "--set", "max_length=9"]
uses_photos = pytest.mark.filterwarnings("ignore:.*without an image", "ignore:.*cannot be read")


@pytest.fixture(scope="module")
def captioner(photos, tmp_path_factory):
    """The directory of a run that the command line made on `photos`."""
    out, captions = tmp_path_factory.mktemp("captioner") / "run", photos / "captions.csv"
    command = ["train", "captioner", "--images", photos, "--captions", captions, "--valid", captions, "--out", out]
    options = [*SMALL, *ENCODER, "--epochs", 1, "--tensorboard"]
    with pytest.MonkeyPatch.context() as patch:
        train_eagerly(patch)
        patch.setenv("PATH", "")
        patch.setattr(sys, "argv", ["keras-attention", *map(str, [*command, *options])])
        main()
    return out


@pytest.fixture
def no_java(monkeypatch):
    """METEOR takes ten seconds, and test_caption_quality.py computes it."""
    monkeypatch.setenv("PATH", "")


@pytest.fixture
def images(photos):
    """Three images; the second one cannot be read."""
    return [photos / "train-00000.png", photos / "broken.jpg", photos / "train-00001.png"]


@pytest.mark.slow
@uses_photos
def test_a_captioner_is_trained_with_plots_of_its_attention(captioner):
    assert {"model.keras", "checkpoint.npz", "run.json", "curves.png"} <= {*os.listdir(captioner)}
    assert any(b"caption/0" in path.read_bytes() for path in (captioner / "tensorboard").rglob("*tfevents*"))


@pytest.mark.slow
@uses_photos
def test_images_are_captioned_and_plotted(run, captioner, images, photos, tmp_path):
    options = ["--num-beams", 3, "--plot", tmp_path / "plots"]
    code, text, err = run("caption", captioner / "model.keras", *images, *options)
    assert (code, len(text.splitlines()), text.splitlines()[1]) == (1, 3, "")
    assert "Error: 1 of 3 images cannot be read; see above." in err
    assert "; expected a JPEG, PNG, GIF, BMP or WebP. Convert it" in err
    again = [images[0], images[0], photos / "no.png", "x" * 300]  # the second plot of an image gets another name
    code, text, err = run("caption", captioner / "model.keras", *again, *options)
    assert (code, len(text.splitlines()), "2 of 4 images cannot be read" in err) == (1, 4, True)
    assert len(list((tmp_path / "plots").glob("*.png"))) == 3


@pytest.mark.slow
@uses_photos
def test_captions_of_images_are_scored(run, captioner, images, photos):
    rows = "".join(f"{image}\ta red circle\n" for image in [*images, photos / "no.png"]) + "\n"
    code, text, err = run("score", captioner / "model.keras", stdin=rows.encode())
    assert (code, [len(line) > 2 for line in text.splitlines()]) == (1, [True, False, True, False, False])
    assert "Error: 2 of 4 images cannot be read" in err
    assert ("; expected a JPEG" in err, "no.png does not exist" in err) == (True, True)


@pytest.mark.slow
@uses_photos
@pytest.mark.usefixtures("short_searches", "no_java")
def test_a_captioner_is_trained_further_with_rewards(run, captioner, photos, tmp_path):
    files = ["--images", photos, "--captions", photos / "captions.csv", "--valid", photos / "captions.csv"]
    start = ["--init", captioner / "model.keras", "--set", "coordinate_features=true", "--out", tmp_path / "run"]
    options = ["--self-critical", "--epochs", 1, "--learning-rate", 1e-4]
    code, _, err = run("train", "captioner", *files, *start, *options)
    assert code == 0, err
    assert len(load_arrays(tmp_path / "run" / "checkpoint.npz")[1]["history"]["reward"]) == 1
    assert keras.saving.load_model(tmp_path / "run" / "model.keras", compile=False).config.coordinate_features


@pytest.mark.slow
@uses_photos
@pytest.mark.usefixtures("no_java")
def test_a_captioner_and_its_export_are_evaluated(run, captioner, images, photos, tmp_path):
    model, data = captioner / "model.keras", ["--images", photos, "--captions", photos / "captions.csv"]
    code, scores, err = run("evaluate", model, *data)
    assert code == 0, err
    assert [line.split()[0] for line in scores.splitlines()][:4] == ["BLEU-1", "BLEU-2", "BLEU-3", "BLEU-4"]
    assert "  images that cannot be read: 1 (broken.jpg)\n  images: 11\n" in scores
    code, _, err = run("export", model, tmp_path / "serving", "--num-beams", 3)
    assert code == 0, err
    code, checked, _ = run("check", tmp_path / "serving" / "1")
    assert (code, checked.splitlines()[-1]) == (0, "ok: loaded and run by the C++ loader, XLA off")
    paths = "".join(f"{image}\n" for image in images).encode()
    exported = run("caption", tmp_path / "serving" / "1", stdin=paths)[1]
    assert exported == run("caption", model, *images, "--num-beams", 3)[1]
    code, scores, err = run("evaluate", tmp_path / "serving" / "1", *data)
    assert (code, "there is no java on the path" in scores) == (0, True), err


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:.*without an image", "ignore:.*cannot be read")
@pytest.mark.usefixtures("short_searches")
def test_a_frozen_encoder_encodes_each_image_once(run, photos, tmp_path):
    out, captions = tmp_path / "run", photos / "captions.csv"
    weights = tmp_path / "w.weights.h5"
    ka.layers.ImageEncoder("mobilenet_0.25", 32).network.save_weights(weights)
    encoder = ["--image-encoder", "mobilenet_0.25", "--image-encoder-weights", weights, "--set", "image_size=32"]
    options = [*SMALL, *encoder, "--epochs", 1]
    code, _, err = run("train", "captioner", "--images", photos, "--train", captions, "--out", out, *options)
    assert code == 0, err
    assert len(list((out / "region_cache").glob("*.regions"))) == 1


def test_presets_prints_every_preset(run):
    _, out, _ = run("presets")
    assert [line.split()[0] for line in out.splitlines()[1:]] == list(ka.presets())


def test_an_export_is_never_overwritten(run, model, served):
    code, _, err = run("export", model, served.parent)
    assert code == 1
    assert "is not overwritten. Pass another version, such as 2" in err


def test_long_lines_are_truncated_with_one_warning(run, model):
    code, out, err = run("translate", model, stdin=b"we eat bread " * 500 + b"\n\nwe eat bread\n")
    assert code == 0
    assert len(out.splitlines()) == 3
    assert out.splitlines()[1:] == ["", "comemos pan"]
    assert err.count("Truncated 1 of 3 texts on the right to 128 tokens") == 1
