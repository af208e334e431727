"""Output objects are made from rows of strings or bytes, arrays or lists, with padding at the end."""

import math

import numpy as np
import pytest

from keras_attention import outputs
from keras_attention.generation.proposals import NEVER
from keras_attention.outputs import (
    AttentionMaps,
    Caption,
    Classification,
    Completion,
    FilledMask,
    Tagging,
    Translation,
    split_rows,
)

TRANSLATION = {
    "text": b"comemos pan",
    "score": np.float32(-0.5),
    "source_pieces": np.array([b"we", b"", b"eat", b"", b""], object),  # an unknown piece is empty too
    "target_pieces": np.array([b"comemos", b"pan", b""], object),
    "attention": np.arange(15.0).reshape(3, 5),
}
SEVERAL = {
    "alternatives": [b"a", b"b", b"c"],
    "alternative_scores": [-1.0, -2.0, -3e9],
    "alternative_pieces": [["a", ""], ["b", ""], ["c", ""]],
}


def test_padding_is_removed_from_a_translation():
    translation = Translation.from_row(TRANSLATION, "we eat")
    assert translation.source_pieces == ("we", "", "eat")
    assert translation.target_pieces == ("comemos", "pan")
    np.testing.assert_array_equal(translation.attention, [[0, 1, 2], [5, 6, 7]])
    assert (translation.source, translation.text, translation.score) == ("we eat", "comemos pan", -0.5)


def test_the_lowest_score_is_that_of_a_text_without_forbidden_tokens():
    assert NEVER / 2 == outputs._LOWEST_SCORE


def test_alternatives_are_the_other_finished_hypotheses():
    (other,) = Translation.from_row({**TRANSLATION, **SEVERAL}, "we eat").alternatives
    assert (other.source, other.text, other.score, other.target_pieces) == ("we eat", "b", -2.0, ("b",))
    empty = {**TRANSLATION, **SEVERAL, "text": "", "source_pieces": [], "target_pieces": []}
    assert Translation.from_row(empty, " ").alternatives == ()


@pytest.mark.parametrize(
    ("output", "expected"),
    [
        (
            Completion.from_row({"text": "to be", "score": -3e9, "pieces": [" ", "be", ""]}, "to"),
            Completion("to", "to be", -math.inf, (" ", "be")),
        ),
        (
            Classification.from_row(
                {"label": b"good", "score": 0.75, "pieces": [b"fine"], "probabilities": [0.25, 0.75]}, "fine"
            ),
            Classification("fine", "good", 0.75, ("fine",), None, (0.25, 0.75)),
        ),
        (
            Classification.from_row({"label": "", "score": 0.0, "pieces": ["", ""], "attention": [0.0, 0.0]}, ""),
            Classification("", "", 0.0),
        ),
        (
            Tagging.from_row(
                {"words": ["we", "eat", ""], "tags": ["P", "V", ""], "scores": [0.5, 0.25, 0.0]}, "we eat"
            ),
            Tagging("we eat", ("we", "eat"), ("P", "V"), (0.5, 0.25)),
        ),
        (
            FilledMask.from_row(
                {"text": "we", "candidates": [["we", ""], ["", ""]], "candidate_scores": [[0.5, 0.25], [0.0, 0.0]]}, "_"
            ),
            FilledMask("_", "we", ((("we", 0.5), ("", 0.25)),)),
        ),
        (Caption.from_row({"caption": b"", "score": 0.0, "pieces": [], "valid": False}), Caption("", 0.0, valid=False)),
    ],
    ids=lambda output: type(output).__name__,
)
def test_outputs_from_rows(output, expected):
    assert output == expected


def test_a_caption_has_attention_over_a_grid():
    row = {
        "caption": "a dog",
        "score": -1.0,
        "pieces": ["a", "dog", ""],
        "valid": True,
        "attention": np.ones((3, 5, 7)),
    }
    assert Caption.from_row(row).attention.shape == (2, 5, 7)


def test_padding_is_removed_from_attention_maps():
    row = {"attention": np.ones((2, 3, 5, 5)), "pieces": ["a", "b", "", "", ""]}
    assert AttentionMaps.from_row(row, "a b").attention.shape == (2, 3, 2, 2)


def test_a_batch_is_split_into_rows():
    assert list(split_rows({"a": [1, 2], "b": ["x", "y"]})) == [{"a": 1, "b": "x"}, {"a": 2, "b": "y"}]
