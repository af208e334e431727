"""Pairs of texts: ids and segments by hand, those of transformers for each family, and the graph of an export."""

import json
import os
import pathlib
import shutil
import types

import keras
import numpy as np
import pytest
from fake_tokenizer import MARIAN, PLAIN, XLNET

import keras_attention as ka
from keras_attention.data import TextReader
from keras_attention.data.batches import text_model_inputs
from keras_attention.prediction.encoded_inputs import EncodedTexts

DATA = pathlib.Path(os.environ.get("KERAS_ATTENTION_DATA", "data")) / "tokenizers"
needs_tensorflow = pytest.mark.skipif(keras.backend.backend() != "tensorflow", reason="the graph needs TensorFlow")


@pytest.mark.parametrize(
    ("reader", "pair", "pieces", "start"),
    [
        (TextReader.from_template(PLAIN, "start_end"), ("we eat", "bread"), "<s> we eat </s> bread </s>", 4),
        (
            TextReader.from_template(PLAIN, "start_end", None, 2),
            ("we eat", "bread"),
            "<s> we eat </s> </s> bread </s>",
            5,
        ),
        (TextReader.from_template(XLNET, "end_start"), ("we eat", "bread"), "we eat <sep> bread <sep> <cls>", 3),
        (TextReader.from_template(PLAIN, "end"), ("we eat", "bread"), "we eat </s> bread </s>", 3),
        (TextReader.from_template(PLAIN, "start_end"), ("we", ""), "<s> we </s> </s>", 3),
        (TextReader.from_template(MARIAN, "start_end"), ("", "we"), "<pad> </s> we </s>", 2),
    ],
)
def test_pairs_by_hand(reader, pair, pieces, start):
    assert reader.ids_and_pair_starts([pair, "we"])[0] == (reader.tokenizer.ids(pieces), start)
    assert reader.ids_and_pair_starts(["we"]) == [(reader.ids(["we"])[0], len(reader.ids(["we"])[0]))]


long_pairs = pytest.mark.parametrize(
    ("pair", "limit", "lengths"),  # the lengths that are left of both texts
    [
        ((5, 3), 8, (5, 3)),
        ((5, 3), 7, (4, 3)),
        ((5, 3), 5, (3, 2)),
        ((3, 5), 5, (2, 3)),
        ((1, 9), 4, (1, 3)),
        ((9, 1), 4, (3, 1)),
        ((6, 6), 7, (3, 4)),
        ((6, 5), 0, (0, 0)),
    ],
)


def shortened(pair, limit, lengths):
    """Return a reader with this limit, the ids of two texts, and the expected ids of the pair."""
    reader = TextReader.from_template(PLAIN, "start_end", limit + 3)
    first, second = PLAIN.ids("we " * pair[0]), PLAIN.ids("eat " * pair[1])
    return reader, first, second, PLAIN.ids(f"<s> {'we ' * lengths[0]} </s> {'eat ' * lengths[1]} </s>")


@long_pairs
def test_a_long_pair_loses_tokens_of_its_longer_text(pair, limit, lengths):
    """The lengths are those of the strategy `longest_first` of transformers."""
    reader, first, second, expected = shortened(pair, limit, lengths)
    assert reader.join_pair(first, second) == (expected, lengths[0] + 2)


@pytest.mark.skipif(keras.backend.backend() != "tensorflow", reason="the graph needs TensorFlow")
@long_pairs
def test_the_graph_shortens_a_long_pair_in_the_same_way(pair, limit, lengths):
    tf = pytest.importorskip("tensorflow")
    from keras_attention.serving.graph_text import join_pairs

    reader, first, second, expected = shortened(pair, limit, lengths)
    ids, starts = join_pairs(tf.ragged.constant([first], tf.int32), tf.ragged.constant([second], tf.int32), reader)
    assert (ids.to_list(), starts.numpy().tolist()) == ([expected], [lengths[0] + 2])


def test_segments_by_hand():
    batch = EncodedTexts.encode(TextReader.from_template(XLNET, "end_start"), [("we eat", "bread"), "we", ("", " ")], 1)
    xlnet = types.SimpleNamespace(template="end_start", num_segments=3)
    inputs = text_model_inputs(xlnet, *batch.arrays(), batch.pair_mask())
    np.testing.assert_array_equal(inputs["segment_ids"], [[0, 0, 0, 1, 1, 2], [0, 0, 2, 0, 0, 0], [0, 1, 2, 0, 0, 0]])
    assert batch.valid().tolist() == [True, True, False]
    assert batch.take([1, 0]).pair_mask().tolist() == [[False] * 6, [False] * 3 + [True] * 3]
    one = types.SimpleNamespace(template="start_end", num_segments=1)
    assert not text_model_inputs(one, *batch.arrays(), batch.pair_mask())["segment_ids"].any()


PAIRS = [
    ("Hello world", "it's 314"),
    ("a b c d e f g", "who?"),
    ("yes", "中文 café ok ok ok ok ok ok"),
    ("", "two"),
    ("one two three four five", "six seven eight nine ten"),
]


def directory_of(family, path):
    """Write the tokenizer of a family to a directory, and return its tokenizer of transformers and our settings."""
    transformers = pytest.importorskip("transformers", reason="the ids to compare with are its")
    if not DATA.is_dir():
        pytest.skip("there are no vocabularies in KERAS_ATTENTION_DATA")
    if family == "bert":
        shutil.copyfile(DATA / "bert" / "bert_base_cased_vocab.txt", path / "vocab.txt")
        (path / "tokenizer_config.json").write_text('{"do_lower_case": false}')
        return transformers.BertTokenizer.from_pretrained(path), "start_end", 2
    if family == "roberta":
        pieces = [
            piece for piece in json.loads((DATA / "gpt2" / "encoder.json").read_text()) if piece != "<|endoftext|>"
        ]
        pieces = ["<s>", "<pad>", "</s>", "<unk>", *pieces, "<mask>"]
        (path / "vocab.json").write_text(json.dumps({piece: i for i, piece in enumerate(pieces)}))
        shutil.copyfile(DATA / "gpt2" / "vocab.bpe", path / "merges.txt")
        return transformers.RobertaTokenizer.from_pretrained(path), "start_end", 1
    shutil.copyfile(DATA / "xlnet" / "spiece.model", path / "spiece.model")
    return transformers.XLNetTokenizer.from_pretrained(path), "end_start", 3


@pytest.mark.parametrize("max_length", [64, 12])
@pytest.mark.parametrize("family", ["bert", "roberta", "xlnet"])
def test_ids_and_segments_equal_those_of_transformers(family, max_length, tmp_path, recwarn):
    from foreign import family_named

    reference, template, num_segments = directory_of(family, tmp_path)
    tokenizer = family_named(family).read_tokenizers(tmp_path)["tokenizer"]
    config = types.SimpleNamespace(template=template, num_segments=num_segments, max_length=max_length)
    reader = ka.TextClassifier.text_reader.fget(types.SimpleNamespace(tokenizer=tokenizer, config=config))
    batch = EncodedTexts.encode(reader, PAIRS, 1)
    segments = text_model_inputs(config, *batch.arrays(), batch.pair_mask())["segment_ids"]
    for row, (ids, pair) in enumerate(zip(batch.ids, PAIRS, strict=True)):
        expected = reference(*pair, truncation=True, max_length=max_length, return_token_type_ids=True)
        assert ids == expected["input_ids"], pair
        assert segments[row, : len(ids)].tolist() == expected["token_type_ids"], pair


@needs_tensorflow
@pytest.mark.parametrize("num_segments", [pytest.param(1, marks=pytest.mark.slow), 2])
def test_the_graph_classifies_pairs_like_python(num_segments):
    tf = pytest.importorskip("tensorflow")
    from keras_attention.serving.signatures import graph_task

    tokenizer = ka.data.train_tokenizer(["is it red", "yes it is"], "characters")
    sizes = {"width": 6, "num_heads": 2, "num_layers": 1, "intermediate_dim": 5, "max_length": 13}
    model = ka.TextClassifier.from_preset(
        "bert_base", tokenizer=tokenizer, labels=("no", "yes", "maybe"), num_segments=num_segments, **sizes
    )
    model.set_weights([np.random.default_rng(7).normal(size=weight.shape) for weight in model.get_weights()])
    pairs = [("is it red", "yes"), ("is", "yes it is red"), ("", ""), ("is it", "")]
    results = model.classify(pairs)
    outputs = tf.function(graph_task(model, None).pair, autograph=False)(
        *(tf.constant(texts) for texts in zip(*pairs, strict=True))
    )
    assert [label.decode() for label in outputs["label"].numpy()] == [result.label for result in results]
    np.testing.assert_allclose(outputs["score"], [result.score for result in results], atol=1e-5)
    assert [result.text for result in results] == pairs
    assert results[2].label == ""
    assert abs(model.classify(["is it red yes"])[0].score - results[0].score) > 1e-4


@pytest.mark.parametrize("texts", [[("a", "b", "c")], [("a", 3)], [None], ["a", ("a",)]])
def test_other_tuples_than_pairs_are_an_error(texts):
    from keras_attention.prediction.encoded_inputs import check_texts

    with pytest.raises(TypeError, match="expected a string or a pair of strings"):
        check_texts(texts, pairs=True)
    with pytest.raises(TypeError, match="Text 0 is tuple; expected a string"):
        check_texts([("a", "b")])
