"""The built-in phrases: their splits, their grammar, and their data set of TensorFlow Datasets."""

import functools

import pytest

import keras_attention as ka
from keras_attention.data import DataError, read_pairs


@pytest.fixture
def tfds_home(tmp_path, monkeypatch):
    tfds = pytest.importorskip("tensorflow_datasets")
    from keras_attention.quickstart import phrases_tfds

    few = {split: ka.quickstart.phrase_pairs(split)[:71] for split in ("train", "validation", "test")}
    monkeypatch.setattr(phrases_tfds, "phrase_pairs", few.get)
    monkeypatch.setattr(phrases_tfds, "Phrases", functools.partial(phrases_tfds.Phrases, data_dir=tmp_path))
    return tfds


def test_the_built_in_phrases_are_read_as_a_data_set(tfds_home):
    assert sorted(read_pairs("tfds:phrases:test")) == sorted(ka.quickstart.phrase_pairs("test")[:71])
    assert len(read_pairs("tfds:phrases:validation[:17]")) == 17


@pytest.mark.parametrize(
    ("source", "message"),
    [("tfds:phrasez", "no data set 'phrasez'"), ("tfds:phrases:dev", "no split 'dev'; expected one of")],
)
def test_invalid_tfds_names_are_an_error(tfds_home, source, message):
    with pytest.raises(DataError, match=message):
        read_pairs(source)


def test_phrases_are_distinct_and_splits_share_no_combination():
    splits = {name: ka.quickstart.phrase_pairs(name) for name in ("train", "validation", "test")}
    sources = {name: {source for source, _ in pairs} for name, pairs in splits.items()}
    assert len(splits["train"]) == len(set(splits["train"])) > 10_000
    assert not sources["train"] & (sources["validation"] | sources["test"])
    assert ka.quickstart.EXAMPLE_PHRASE == ("we are eating bread", "estamos comiendo pan")
    assert ka.quickstart.EXAMPLE_PHRASE in splits["test"]
    assert not [s for s in sources["train"] | sources["validation"] if s.startswith("we are eating") and "bread" in s]


def test_phrases_have_spanish_agreement_and_word_order():
    """Sentences checked by hand: person, number, gender, tense, negation, position of the adjective."""
    every = {p for name in ("train", "validation", "test") for p in ka.quickstart.phrase_pairs(name)}
    checked = {
        ("she is drinking fresh milk", "ella está bebiendo leche fresca"),
        ("the children will not open the white door", "los niños no abrirán la puerta blanca"),
        ("i wrote a letter", "escribí una carta"),
        ("he reads the old newspapers", "él lee los periódicos viejos"),
        ("they sell a big orange", "venden una naranja grande"),
        ("my brother washes an apple", "mi hermano lava una manzana"),
        ("you drink cold milk", "bebes leche fría"),
        ("we are eating bread", "estamos comiendo pan"),
        ("she reads a book", "ella lee un libro"),
        ("they are washing a car", "están lavando un coche"),
    }
    assert checked <= every


def test_an_unknown_split_is_an_error():
    with pytest.raises(ValueError, match="`split` is 'dev'; expected one of train"):
        ka.quickstart.phrase_pairs("dev")
