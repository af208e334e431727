"""Batches: every example once, at most `max_tokens`, the same order for the same seed, and arrays computed by hand."""

import types

import keras
import numpy as np
import pytest
from conftest import PAIRS
from fake_tokenizer import PLAIN, XLNET

import keras_attention as ka
from keras_attention.data import LengthBatches, TextReader
from keras_attention.data.batches import pad_ids, shift_right


def batches_of(lengths, **options):
    return LengthBatches(lengths, lambda indices, extra: (indices, extra), **options)


LENGTHS = np.random.default_rng(5).integers(1, 41, size=(307, 2))


def test_every_example_is_in_one_batch_of_at_most_max_tokens():
    batches = batches_of(LENGTHS, max_tokens=211)
    indices = [batches[i][0] for i in range(len(batches))]
    assert sorted(np.concatenate(indices)) == list(range(307))
    for batch in indices:
        assert len(batch) == 1 or len(batch) * LENGTHS[batch].max() <= 211


def test_batches_have_little_padding():
    batches = batches_of(LENGTHS, max_tokens=211)
    padded = sum(len(b) * LENGTHS[b, 1].max() for b in batches.batches)
    assert LENGTHS[:, 1].sum() / padded > 0.95


def test_order_depends_only_on_seed_and_epoch():
    one, two = batches_of(LENGTHS, seed=3), batches_of(LENGTHS, seed=3)
    one.on_epoch_end()
    one.on_epoch_end()
    two.start_epoch(2)
    assert [b.tolist() for b in one.batches] == [b.tolist() for b in two.batches]
    two.start_epoch(3)
    assert [b.tolist() for b in one.batches] != [b.tolist() for b in two.batches]
    assert len(one) == len(two)


def test_the_longest_batch_is_first_and_validation_is_sorted_by_length():
    batches = batches_of(LENGTHS, max_tokens=211)
    assert LENGTHS[batches.batches[0], 1].max() == LENGTHS[:, 1].max()
    fixed = batches_of(LENGTHS, max_tokens=211, shuffle=False)
    ends = [LENGTHS[b, 1].max() for b in fixed.batches]
    assert ends == sorted(ends)


def test_the_first_two_batches_differ_in_length():
    batches = batches_of([3] * 20, max_tokens=6)
    assert [batches[i][1] for i in range(3)] == [0, 1, 0]


def test_translation_batch_by_hand(translator, tokenizer):
    batches = ka.data.translation_batches(PAIRS[:1], translator)
    inputs, labels, weights = batches[0]
    special = ka.data.special_tokens_of(tokenizer)
    source = ka.data.tokenization.tokenizers.encode_texts(tokenizer, ["we eat bread"])[0]
    target = ka.data.tokenization.tokenizers.encode_texts(tokenizer, ["comemos pan"])[0]
    assert inputs["source_ids"].tolist() == [[*source, special.end]]
    assert labels.tolist() == [[*target, special.end]]
    assert inputs["target_ids"].tolist() == [[special.start, *target]]
    assert weights.tolist() == [[1.0] * (len(target) + 1)]


def test_padding_has_zero_weight(translator):
    batches = ka.data.translation_batches(PAIRS, translator, max_tokens=997)
    _, labels, weights = batches[0]
    pad = ka.data.special_tokens_of(translator.target_tokenizer).pad
    np.testing.assert_array_equal(weights, labels != pad)
    assert (weights.sum(1) >= 2).all()


def test_shift_right_by_hand():
    np.testing.assert_array_equal(shift_right(np.array([[5, 7, 3], [11, 3, 0]]), 2), [[2, 5, 7], [2, 11, 3]])


def test_padding_by_hand():
    ids, mask = pad_ids([[5, 7, 11], [13]], pad=2, multiple=4, extra=1)
    np.testing.assert_array_equal(ids, [[5, 7, 11, 2, 2], [13, 2, 2, 2, 2]])
    np.testing.assert_array_equal(mask, [[1, 1, 1, 0, 0], [1, 0, 0, 0, 0]])


def fake_model(tokenizer, template, **config):
    reader, target_reader = (TextReader.from_template(tokenizer, x, config["max_length"]) for x in (template, "end"))
    config = types.SimpleNamespace(template=template, **config)
    return types.SimpleNamespace(config=config, input_reader=reader, text_reader=reader, target_reader=target_reader)


def test_classification_batch_by_hand():
    model = fake_model(XLNET, "end_start", labels=("no", "yes"), max_length=5, num_segments=3)
    with pytest.warns(UserWarning, match="Truncated 1 of 2 texts on the right to 5 tokens"):
        batches = ka.data.classification_batches([("we eat red apple", "yes"), ("bread", "no")], model, shuffle=False)
    inputs, labels, weights = batches[0]
    expected = ("bread <sep> <cls> <pad> <pad>", "we eat red <sep> <cls>")
    np.testing.assert_array_equal(inputs["token_ids"], [*map(XLNET.ids, expected)])
    np.testing.assert_array_equal(inputs["padding_mask"].sum(1), [3, 5])
    np.testing.assert_array_equal(inputs["segment_ids"], [[0, 0, 2, 0, 0], [0, 0, 0, 0, 2]])
    assert (labels.tolist(), weights.tolist()) == ([0, 1], [1, 1])


@pytest.mark.parametrize(
    ("options", "windows"),
    [  # tokens, labels and weights of each window; the texts are <s> we eat red apple </s> and <s> bread </s>
        (
            {},
            [
                ("<s> we eat", "we eat red", [1, 1, 1]),
                ("red apple", "apple </s>", [1, 1]),
                ("<s> bread", "bread </s>", [1, 1]),
            ],
        ),
        (
            {"stride": 2},
            [
                ("<s> we eat", "we eat red", [1, 1, 1]),
                ("eat red apple", "red apple </s>", [0, 1, 1]),
                ("<s> bread", "bread </s>", [1, 1]),
            ],
        ),
        (
            {"stride": 1},
            [
                ("<s> we eat", "we eat red", [1, 1, 1]),
                ("we eat red", "eat red apple", [0, 0, 1]),
                ("eat red apple", "red apple </s>", [0, 0, 1]),
                ("<s> bread", "bread </s>", [1, 1]),
            ],
        ),
        (
            {"pack": True},
            [
                ("<s> we eat", "we eat red", [1, 1, 1]),
                ("red apple </s>", "apple </s> <s>", [1, 1, 1]),
                ("<s> bread", "bread </s>", [1, 1]),
            ],
        ),
    ],
)
def test_language_windows_by_hand(options, windows):
    model = fake_model(PLAIN, "end", max_length=3)
    batches = ka.data.language_batches(["we eat red apple", "", " ", "bread"], model, **options)
    rows = []
    for inputs, labels, weights in (batches[i] for i in range(len(batches))):
        for *row, mask in zip(inputs["token_ids"], labels, weights, inputs["padding_mask"], strict=True):
            rows.append(tuple(x[mask].tolist() for x in row))
    expected = [(PLAIN.ids(tokens), PLAIN.ids(labels), weights) for tokens, labels, weights in windows]
    assert sorted(rows) == sorted(expected)


@pytest.mark.parametrize(
    ("model", "pack", "rows"),
    [
        (fake_model(PLAIN, "end", max_length=4), True, ["we eat </s> bread", "</s>"]),
        (fake_model(PLAIN, "start_end", max_length=4), True, ["<s> we eat </s>", "<s> bread </s>"]),
        (fake_model(PLAIN, "start_end", max_length=3), False, ["<s> we eat", "<s> </s>", "<s> bread </s>"]),
        (fake_model(XLNET, "end_start", max_length=4), True, ["we eat <sep> <cls>", "bread <sep> <cls>"]),
    ],
)
def test_packed_rows_by_hand(model, pack, rows):
    reader = model.text_reader
    assert ka.data.batching.masking.pack_texts(["we eat", "\n", "bread"], reader, pack) == [
        *map(reader.tokenizer.ids, rows)
    ]


@pytest.mark.parametrize("stride", [0, 4])
def test_an_invalid_stride_is_an_error(stride):
    with pytest.raises(ValueError, match=f"`stride` is {stride}; expected 1 to 3, which is `config.max_length`"):
        ka.data.language_batches(["we eat"], fake_model(PLAIN, "end", max_length=3), stride=stride)


def test_a_tag_is_the_label_of_a_words_first_token(tokenizer):
    model = ka.TextTagger.from_preset(
        "rnn_tagger", tokenizer=tokenizer, labels=("NOUN", "VERB"), units=6, embedding_dim=5
    )
    inputs, labels, weights = ka.data.tagging_batches([[("bread", "NOUN"), ("drinks", "VERB")]], model)[0]
    pieces = [ka.data.tokenization.tokenizers.encode_texts(tokenizer, [word])[0] for word in ("bread", "drinks")]
    assert inputs["token_ids"][0].tolist() == pieces[0] + pieces[1]
    assert np.flatnonzero(weights[0]).tolist() == [0, len(pieces[0])]
    assert labels[0][weights[0] > 0].tolist() == [0, 1]


def tagger_with_characters(tokenizer):
    return ka.TextTagger.from_preset(
        "rnn_tagger",
        tokenizer=tokenizer,
        character_tokenizer=ka.data.train_tokenizer(["we eat bread"], "characters"),
        labels=("NOUN", "VERB"),
        units=6,
        embedding_dim=5,
        max_word_length=3,
    )


SENTENCE = [("bread", "NOUN"), ("eat", "VERB")]


def test_the_characters_of_a_word_are_at_its_first_token(tokenizer):
    model = tagger_with_characters(tokenizer)
    inputs = ka.data.tagging_batches([SENTENCE], model, shuffle=False)[0][0]
    starts = model.input_reader.ids([["bread", "eat"]])[0].starts
    assert starts[1] > 1  # the first word has several tokens
    ids, mask = inputs["character_ids"][0], inputs["character_mask"][0]
    assert np.flatnonzero(mask.any(-1)).tolist() == starts
    expected = ka.data.tokenization.tokenizers.encode_texts(
        model.character_tokenizer, ["bre", "eat"]
    )  # at most 3 characters
    assert [row[real].tolist() for row, real in zip(ids[starts], mask[starts], strict=True)] == expected
    assert not (inputs["token_ids"] == model.input_reader.text_reader.special.unknown).any()


@pytest.mark.parametrize("times", [1, 3, 400])
def test_a_token_becomes_unknown_with_a_probability_that_falls_with_its_frequency(tokenizer, times):
    """A token that occurs n times becomes the unknown token with the probability 1 / (1 + 4 n)."""
    model = tagger_with_characters(tokenizer)
    batches, unknown = ka.data.tagging_batches([SENTENCE] * times, model, max_tokens=10**6), []
    for epoch in range(1200 // times):
        batches.start_epoch(epoch)
        unknown += (batches[0][0]["token_ids"] == model.input_reader.text_reader.special.unknown).ravel().tolist()
    probability = 1 / (1 + 4 * times)
    assert np.mean(unknown) > 0
    assert abs(np.mean(unknown) - probability) < 4 * (probability / len(unknown)) ** 0.5


CHARACTER_TOKENIZER = ka.data.train_tokenizer(["bread"], "characters")


@pytest.mark.parametrize("characters", [pytest.param(None, marks=pytest.mark.slow), CHARACTER_TOKENIZER])
def test_a_tagger_trains_on_sentences_and_words_of_any_length(tokenizer, characters):
    sentences = [[("bread"[:letters], "NOUN")] * words for words, letters in ((5, 5), (4, 3), (3, 4), (2, 2), (1, 1))]
    sizes = {"units": 6, "embedding_dim": 5, "labels": ("NOUN", "VERB")}
    model = ka.TextTagger.from_preset("rnn_tagger", tokenizer=tokenizer, character_tokenizer=characters, **sizes)
    model.compile("sgd", ka.training.MaskedCrossEntropy())
    for seed in range(4):
        batches = ka.data.tagging_batches(sentences, model, max_tokens=1, seed=seed)
        first, second = (
            {name: x.shape[axis] for name, x in batches[i][0].items() for axis in range(1, x.ndim)} for i in (0, 1)
        )
        assert all(first[name] != second[name] for name in first)
        assert np.isfinite(model.fit(batches, verbose=0).history["loss"]).all()
    with pytest.raises(ValueError, match="no examples"):
        ka.data.tagging_batches([], model)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: batches_of([]), "no examples"),
        (lambda: batches_of([3], max_tokens=0), "expected a positive integer"),
    ],
)
def test_invalid_arguments_are_errors(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_an_unknown_label_is_an_error(tokenizer):
    model = ka.TextClassifier.from_preset("rnn_classifier", tokenizer=tokenizer, labels=("no", "yes"), units=6)
    with pytest.raises(ValueError, match="no label 'maybe'; expected one of no, yes"):
        ka.data.classification_batches([("we eat", "maybe")], model)


def test_batches_have_few_shapes_on_jax(translator, monkeypatch):
    """JAX compiles once for each shape, so the batches of a large corpus have few shapes."""
    monkeypatch.setattr(keras.backend, "backend", lambda: "jax")
    batches = ka.data.translation_batches(ka.quickstart.phrase_pairs("train")[:3000], translator, max_tokens=1024)
    shapes = {tuple(x.shape for x in batches[i][0].values()) for i in range(len(batches))}
    assert len(batches) > 50
    assert len(shapes) < len(batches) / 4
    assert {width % 8 for shape in shapes for _, width in shape} <= {0, 1}  # 1: the extra column of the second batch
