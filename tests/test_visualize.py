"""Pictures: pieces merged into words, weights merged with them, files that are pictures."""

import io
import types

import numpy as np
import pytest
from PIL import Image

import keras_attention as ka
from keras_attention.visualize import (
    CaptionImages,
    merge_words,
    plot_caption,
    plot_salient_words,
    word_alignment,
    word_maps,
)

U = "\u2581"


@pytest.mark.parametrize(
    ("pieces", "words", "groups"),
    [
        ([f"{U}com", "emos", f"{U}pan", "</s>"], ["comemos", "pan", "</s>"], [[0, 1], [2], [3]]),
        ([U, "w", "e", U, "e", "</s>"], ["we", "e", "</s>"], [[0, 1, 2], [3, 4], [5]]),
        (["eat", "##ing", "bread", "[END]"], ["eating", "bread", "[END]"], [[0, 1], [2], [3]]),
        ([f"{U}a", "</s>", "b"], ["a", "</s>", "b"], [[0], [1], [2]]),
        ([], [], []),
    ],
)
def test_pieces_become_words(pieces, words, groups):
    assert merge_words(pieces) == (words, groups)


def test_weights_are_merged_by_hand():
    weights = np.array([[0.1, 0.2, 0.7], [0.3, 0.3, 0.4], [0.0, 0.5, 0.5]], "float32")
    translation = ka.Translation("x", "y", -1.0, (f"{U}br", "ead", "</s>"), (f"{U}p", "an", "</s>"), weights)
    sources, targets, merged = word_alignment(translation)
    assert (sources, targets) == (["bread", "</s>"], ["pan", "</s>"])
    np.testing.assert_allclose(merged, [[(0.3 + 0.6) / 2, (0.7 + 0.4) / 2], [0.5, 0.5]], rtol=1e-6)


def is_png(path):
    return path.read_bytes().startswith(b"\x89PNG") and path.stat().st_size > 5000


def test_pictures_are_written(translator, tmp_path):
    (translation,) = translator.translate(["the boy eats the red apple"])
    figure = ka.plot_alignment(translation, tmp_path / "alignment.png")
    labels = [text.get_text() for text in figure.axes[0].get_yticklabels()]
    assert labels == [*translation.text.split(), "</s>"]
    ka.plot_history({"loss": [2.0, 1.0], "val_loss": [2.0, 1.5], "val_bleu": [1.0, 9.0]}, tmp_path / "curves.png")
    bins = {"1-9": (31, 38.0), "10+": (17, 36.0)}
    ka.visualize.plot_bleu_by_length({"one": bins, "two": bins}, tmp_path / "bleu.png")
    assert all(is_png(tmp_path / f"{name}.png") for name in ("alignment", "curves", "bleu"))


def test_no_attention_is_explained(translator):
    (empty,) = translator.translate([""])
    with pytest.raises(ValueError, match="This translation has no attention"):
        ka.plot_alignment(empty)


def spot(row, column, rows=7, columns=5):
    """All the weight on one region."""
    weights = np.zeros((rows, columns), "float32")
    weights[row, column] = 1
    return weights


def caption(pieces=(f"{U}a", f"{U}pup", "py", "</s>"), maps=None, **others):
    """What a captioner answers; `maps` has one (rows, columns) for each piece."""
    even = np.full((7, 5), 1 / 35, "float32")
    maps = np.stack([even, spot(1, 1), spot(5, 3), even]) if maps is None else maps
    fields = {"text": "a puppy", "score": -1.0, "pieces": pieces, "attention": maps, "valid": True}
    return ka.Caption(**{**fields, **others})


def photo(height=83, width=131):
    return np.full((height, width, 3), 128, "uint8")


def encoded(pixels, kind="PNG", **options):
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, kind, **options)
    return file.getvalue()


def shown(axes):
    return np.asarray(axes.images[0].get_array())


def test_a_word_looks_as_its_pieces_do_on_average():
    words, maps = word_maps(caption())
    assert words == ["a", "puppy"]
    np.testing.assert_allclose(maps[1], (spot(1, 1) + spot(5, 3)) / 2)


def test_a_panel_is_bright_where_its_word_looked(tmp_path):
    maps = np.stack([spot(0, 0), spot(6, 4)])
    figure = plot_caption(caption((f"{U}a", f"{U}dog"), maps), photo(70, 50), tmp_path / "caption.png")
    assert is_png(tmp_path / "caption.png")
    assert [place.get_title() for place in figure.axes] == ["", "a", "dog"]
    whole, first, second = (shown(place) for place in figure.axes)
    assert (whole == 128).all()
    assert first.shape == (70, 50, 3)
    assert first[5, 5].min() > 150
    assert first[65, 45].max() < 30
    np.testing.assert_array_equal(second, first[::-1, ::-1])


def test_even_attention_lights_the_whole_picture():
    panel = shown(plot_caption(caption(), photo()).axes[1])
    assert panel.min() == panel.max() > 128


@pytest.mark.parametrize("count", [0, 1, 4, 5, 11])
def test_every_word_has_a_panel(count):
    pieces = (*(f"{U}w{index}" for index in range(count)), "</s>")
    maps = np.full((count + 1, 7, 5), 1 / 35, "float32")
    figure = plot_caption(caption(pieces, maps), photo())
    drawn = [place for place in figure.axes if place.images]
    assert [place.get_title() for place in drawn] == ["", *(f"w{index}" for index in range(count))]
    assert not any(place.axison for place in figure.axes)


def test_pictures_come_as_arrays_files_and_bytes(tmp_path):
    pixels = np.random.default_rng(5).integers(0, 256, (83, 131, 3), "uint8")
    (tmp_path / "photo.png").write_bytes(encoded(pixels))
    for picture in (pixels, tmp_path / "photo.png", str(tmp_path / "photo.png"), encoded(pixels)):
        np.testing.assert_array_equal(shown(plot_caption(caption(), picture).axes[0]), pixels)
    for grey in (pixels[:, :, 0], pixels[:, :, :1], encoded(pixels[:, :, 0])):
        np.testing.assert_array_equal(shown(plot_caption(caption(), grey).axes[0])[:, :, 2], pixels[:, :, 0])
    assert shown(plot_caption(caption(), photo(700, 1400)).axes[0]).shape == (320, 640, 3)


def test_a_photo_taken_upright_is_drawn_upright():
    exif = Image.Exif()
    exif[0x0112] = 6  # "turn me by 90 degrees"
    assert shown(plot_caption(caption(), encoded(photo(40, 60), "JPEG", exif=exif)).axes[0]).shape == (60, 40, 3)


def test_words_stand_where_they_looked(tmp_path):
    even = np.full((14, 14), 1 / 196, "float32")
    maps = np.stack([even, spot(2, 2, 14, 14), spot(12, 9, 14, 14), even])
    answer = caption((f"{U}a", f"{U}dog", f"{U}runs", "</s>"), maps)
    figure = plot_salient_words(answer, photo(), tmp_path / "words.png")
    assert is_png(tmp_path / "words.png")
    texts = {text.get_text(): text.get_position() for text in figure.axes[0].texts}
    assert texts == {"dog": (1.5, 1.5), "runs": (4.5, 6.5)}  # 14 x 14 regions drawn as 7 x 7
    assert not plot_salient_words(caption(("</s>",), even[None]), photo()).axes[0].texts


@pytest.mark.parametrize("plot", [plot_caption, plot_salient_words])
def test_what_cannot_be_drawn_is_explained(plot, tmp_path):
    with pytest.raises(ValueError, match="This caption has no attention: its picture could not be read, or its model"):
        plot(caption(attention=None), photo())
    with pytest.raises(ValueError, match=r"The picture is float32 of shape \(83, 131, 3\); expected uint8"):
        plot(caption(), photo().astype("float32"))
    for damaged in (b"no picture", encoded(photo(), "JPEG")[:700]):
        with pytest.raises(ValueError, match="This is not a whole picture"):
            plot(caption(), damaged)
    with pytest.raises(FileNotFoundError):
        plot(caption(), tmp_path / "absent.jpg")


def test_captions_go_to_tensorboard(tmp_path):
    tf = pytest.importorskip("tensorflow")
    answers = [caption(), caption(valid=False), caption(attention=None), caption()]
    images = CaptionImages([photo(), b"no picture", photo(), photo()], tmp_path)
    images.set_model(types.SimpleNamespace(caption=lambda pictures: answers[: len(pictures)]))
    images.on_epoch_end(3)
    (file,) = tmp_path.iterdir()
    events = [event for event in tf.compat.v1.train.summary_iterator(str(file)) if event.summary.value]
    assert [(event.step, event.summary.value[0].tag) for event in events] == [(3, "caption/0"), (3, "caption/3")]
