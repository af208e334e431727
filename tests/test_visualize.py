"""Pictures: pieces merged into words, weights merged with them, files that are pictures."""

import numpy as np
import pytest

import keras_attention as ka
from keras_attention.visualize import merge_words, word_alignment

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
    ka.plot_bleu_by_length({"one": bins, "two": bins}, tmp_path / "bleu.png")
    assert all(is_png(tmp_path / f"{name}.png") for name in ("alignment", "curves", "bleu"))


def test_no_attention_is_explained(translator):
    (empty,) = translator.translate([""])
    with pytest.raises(ValueError, match="This translation has no attention"):
        ka.plot_alignment(empty)
