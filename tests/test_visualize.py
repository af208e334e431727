"""Plots: pieces and their weights are merged into words, and the attended regions of a panel are bright."""

import importlib.util
import io
import types

import numpy as np
import pytest
from PIL import Image

import keras_attention as ka
from keras_attention.cli.tensorboard import AttentionPlots, tensorboard_callbacks
from keras_attention.visualize import merge_words, plot_caption, word_alignment, word_attention

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
def test_pieces_are_merged_into_words(pieces, words, groups):
    assert merge_words(pieces) == (words, groups)


def test_weights_are_merged_by_hand():
    weights = np.array([[0.1, 0.2, 0.7], [0.3, 0.3, 0.4], [0.0, 0.5, 0.5]], "float32")
    translation = ka.Translation("x", "y", -1.0, (f"{U}br", "ead", "</s>"), (f"{U}p", "an", "</s>"), weights)
    sources, targets, merged = word_alignment(translation)
    assert (sources, targets) == (["bread", "</s>"], ["pan", "</s>"])
    np.testing.assert_allclose(merged, [[(0.3 + 0.6) / 2, (0.7 + 0.4) / 2], [0.5, 0.5]], rtol=1e-6)


def is_png(path):
    return path.read_bytes().startswith(b"\x89PNG") and path.stat().st_size > 5000


def test_plots_are_saved_as_files(translator, tmp_path):
    (translation,) = translator.translate(["the boy eats the red apple"])
    figure = ka.plot_alignment(translation, tmp_path / "alignment.png")
    labels = [text.get_text() for text in figure.axes[0].get_yticklabels()]
    assert labels == [*translation.text.split(), "</s>"]
    ka.plot_history({"loss": [2.0, 1.0], "val_loss": [2.0, 1.5], "val_bleu": [1.0, 9.0]}, tmp_path / "curves.png")
    bins = {"1-9": (31, 38.0), "10+": (17, 36.0)}
    ka.visualize.plot_bleu_by_length({"one": bins, "two": bins}, tmp_path / "bleu.png")
    assert all(is_png(tmp_path / f"{name}.png") for name in ("alignment", "curves", "bleu"))


def test_a_plot_without_attention_is_an_error(translator):
    (empty,) = translator.translate([""])
    with pytest.raises(ValueError, match="This translation has no attention"):
        ka.plot_alignment(empty)


def spot(row, column, rows=7, columns=5):
    """Return an attention map with all weight on one region."""
    weights = np.zeros((rows, columns), "float32")
    weights[row, column] = 1
    return weights


def caption(pieces=(f"{U}a", f"{U}pup", "py", "</s>"), maps=None, **others):
    """Return a caption; `maps` has one (rows, columns) for each piece."""
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


def test_the_weights_of_a_word_are_the_mean_of_its_pieces():
    words, maps = word_attention(caption())
    assert words == ["a", "puppy"]
    np.testing.assert_allclose(maps[1], (spot(1, 1) + spot(5, 3)) / 2)


def test_the_attended_region_of_a_panel_is_bright(tmp_path):
    maps = np.stack([spot(0, 0), spot(6, 4)])
    figure = plot_caption(caption((f"{U}a", f"{U}dog"), maps), photo(70, 50), tmp_path / "caption.png")
    assert is_png(tmp_path / "caption.png")
    *panels, bar = figure.axes
    assert [panel.get_title() for panel in panels] == ["", "a", "dog"]
    assert (bar.get_ylabel(), bar.get_ylim()) == ("attention score", (0, 1))
    whole, first, second = map(shown, panels)
    assert (whole == 128).all()
    assert first.shape == (70, 50, 3)
    assert first[5, 5].min() > 150
    assert first[65, 45].max() < 30
    np.testing.assert_array_equal(second, first[::-1, ::-1])


def test_all_panels_have_one_scale():
    maps = np.stack([np.full((7, 5), share, "float32") for share in (0.04, 0.02, 0.01, 0.0)])
    pieces = (f"{U}a", f"{U}b", f"{U}c", f"{U}d")
    panels = [shown(panel) for panel in plot_caption(caption(pieces, maps), photo()).axes[1:5]]
    # 128 * (0.2 + 0.5 light) + 255 * 0.3 light, with light = weight / 0.04
    assert [(panel.min(), panel.max()) for panel in panels] == [(166, 166), (95, 95), (60, 60), (25, 25)]


@pytest.mark.parametrize("count", [0, 1, 4, 5, 11])
def test_every_word_has_a_panel(count):
    pieces = (*(f"{U}w{index}" for index in range(count)), "</s>")
    maps = np.full((count + 1, 7, 5), 1 / 35, "float32")
    figure = plot_caption(caption(pieces, maps), photo())
    drawn = [panel for panel in figure.axes if panel.images]
    assert [panel.get_title() for panel in drawn] == ["", *(f"w{index}" for index in range(count))]
    assert not any(panel.axison for panel in figure.axes[:-1])  # the last one is the bar of the scale


def test_images_are_arrays_files_or_bytes(tmp_path):
    pixels = np.random.default_rng(5).integers(0, 256, (83, 131, 3), "uint8")
    (tmp_path / "photo.png").write_bytes(encoded(pixels))
    for image in (pixels, tmp_path / "photo.png", str(tmp_path / "photo.png"), encoded(pixels)):
        np.testing.assert_array_equal(shown(plot_caption(caption(), image).axes[0]), pixels)
    for grey in (pixels[:, :, 0], pixels[:, :, :1], encoded(pixels[:, :, 0])):
        np.testing.assert_array_equal(shown(plot_caption(caption(), grey).axes[0])[:, :, 2], pixels[:, :, 0])
    assert shown(plot_caption(caption(), photo(700, 1400)).axes[0]).shape == (320, 640, 3)


def test_a_rotated_photo_is_drawn_upright():
    exif = Image.Exif()
    exif[0x0112] = 6  # rotated by 90 degrees
    assert shown(plot_caption(caption(), encoded(photo(40, 60), "JPEG", exif=exif)).axes[0]).shape == (60, 40, 3)


def test_invalid_captions_and_images_are_errors(tmp_path):
    with pytest.raises(ValueError, match="This caption has no attention: its image could not be read, or its model"):
        plot_caption(caption(attention=None), photo())
    for image, problem in (
        (
            photo().astype("float32"),
            r"shape \(83, 131, 3\) and type float32 is not an image; expected .* of type uint8",
        ),
        (b"not an image", "begins with b'not an i'; expected a JPEG, PNG"),
        (encoded(photo(), "JPEG")[:300], "is damaged or truncated"),
    ):
        with pytest.raises(ValueError, match=problem):
            plot_caption(caption(), image)
    with pytest.raises(FileNotFoundError):
        plot_caption(caption(), tmp_path / "absent.jpg")


def test_captions_are_written_to_tensorboard(tmp_path):
    tf = pytest.importorskip("tensorflow")
    captions = [caption(), caption(valid=False, attention=None), caption(attention=None), caption()]
    images = AttentionPlots([photo(), b"not an image", photo(), photo()], tmp_path)
    task = types.SimpleNamespace(predict_method="caption")
    images.set_model(types.SimpleNamespace(spec=task, caption=lambda images: captions[: len(images)]))
    images.on_epoch_end(3)
    (file,) = tmp_path.iterdir()
    events = [event for event in tf.compat.v1.train.summary_iterator(str(file)) if event.summary.value]
    assert [(event.step, event.summary.value[0].tag) for event in events] == [(3, "caption/0"), (3, "caption/3")]


def test_without_tensorboard_the_error_says_how_to_install_it(monkeypatch, tmp_path):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ImportError, match=r"pip install 'keras-attention-models\[tensorboard\]'"):
        tensorboard_callbacks(None, [], tmp_path)


def alignment(source, target):
    """Return a translation with even attention."""
    sources, targets = ([f"{U}{word}" for word in text.split()] for text in (source, target))
    weights = np.full((len(targets), len(sources)), 1 / len(sources), "float32")
    return ka.Translation(source, target, -1.0, tuple(sources), tuple(targets), weights)


def words_at(axis):
    return [label.get_text() for label in axis.get_ticklabels()]


@pytest.mark.parametrize("plot", [
    lambda: ka.plot_alignment(alignment("a b", "c")),
    lambda: ka.plot_history({"loss": [2.0, 1.0], "val_bleu": [1.0, 9.0]}),
    lambda: ka.visualize.plot_bleu_by_length({"one": {"1-9": (31, 38.0)}}),
])  # fmt: skip
def test_axes_have_titles_and_names(plot):
    for axes in plot().axes:
        assert axes.get_ylabel()
        assert (axes.get_title() and axes.get_xlabel()) or axes.get_ylabel() == "attention score"  # the bar


@pytest.mark.parametrize(("source", "inverted"), [("שלום עולם PC", True), ("كتاب جديد", True), ("we שלום eat", False)])
def test_a_source_from_right_to_left_is_drawn_in_this_direction(source, inverted):
    axes = ka.plot_alignment(alignment(source, "x y")).axes[0]
    assert axes.xaxis.get_inverted() == inverted
    assert words_at(axes.xaxis) == source.split()


def test_long_sentences_have_small_cells_short_labels_and_a_figure_that_can_be_drawn():
    figure = ka.plot_alignment(alignment(" ".join(["w" * 99] * 1709), "x"))
    assert words_at(figure.axes[0].xaxis)[0] == "w" * 23 + "…"
    assert max(figure.get_size_inches() * figure.dpi) < 2**16
    assert not figure.axes[0].texts
    assert len(ka.plot_alignment(alignment("a b", "x")).axes[0].texts) == 2  # .50 and .50


def made_font(path, character):
    """Write a font that has one character: a square."""
    from fontTools.fontBuilder import FontBuilder
    from fontTools.pens.ttGlyphPen import TTGlyphPen

    pen = TTGlyphPen(None)
    pen.moveTo((0, 0))
    for point in ((0, 500), (500, 500), (500, 0)):
        pen.lineTo(point)
    pen.closePath()
    builder = FontBuilder(1000, isTTF=True)
    builder.setupGlyphOrder([".notdef", "square"])
    builder.setupCharacterMap({ord(character): "square"})
    builder.setupGlyf({name: pen.glyph() for name in (".notdef", "square")})
    builder.setupHorizontalMetrics({".notdef": (600, 0), "square": (600, 0)})
    builder.setupHorizontalHeader(ascent=800, descent=-200)
    builder.setupNameTable({"familyName": "Square", "styleName": "Regular"})
    builder.setupOS2()
    builder.setupPost()
    builder.save(path)


def test_characters_are_drawn_with_an_installed_font_or_replaced_with_one_warning(tmp_path, monkeypatch, recwarn):
    from matplotlib import font_manager

    rare, unknown = "\U00012000", "\U00012001"  # cuneiform: in no font of this machine but the one made here
    made_font(tmp_path / "square.ttf", rare)
    monkeypatch.setattr(font_manager, "findSystemFonts", lambda: [str(tmp_path / "square.ttf")])
    monkeypatch.setattr(font_manager.fontManager, "ttflist", list(font_manager.fontManager.ttflist))
    figure = ka.plot_alignment(alignment(f"a {rare}", "x"), tmp_path / "found.png")
    assert not recwarn.list
    assert "Square" in figure.axes[0].get_xticklabels()[0].get_fontfamily()
    figure = ka.plot_alignment(alignment(f"b{unknown} {rare}", f"{unknown} y"), tmp_path / "missing.png")
    (warning,) = recwarn.list
    assert f"No installed font has the characters {unknown}" in str(warning.message)
    assert "Install Noto Sans Cuneiform" in str(warning.message)
    axes = figure.axes[0]
    assert (words_at(axes.xaxis), words_at(axes.yaxis)) == (["b?", rare], ["?", "y"])
