"""Batches: every example once, within the budget, shifted, and the same order for the same seed."""

import numpy as np
import pytest
from conftest import PAIRS

import keras_attention as ka
from keras_attention.data import LengthBatches
from keras_attention.data.batches import shift_right


def batches_of(lengths, **options):
    return LengthBatches(lengths, lambda indices, extra: (indices, extra), **options)


LENGTHS = np.random.default_rng(5).integers(1, 41, size=(307, 2))


def test_every_example_comes_once_and_within_the_budget():
    batches = batches_of(LENGTHS, max_tokens=211)
    indices = [batches[i][0] for i in range(len(batches))]
    assert sorted(np.concatenate(indices)) == list(range(307))
    for batch in indices:
        assert len(batch) == 1 or len(batch) * LENGTHS[batch].max() <= 211


def test_little_padding():
    batches = batches_of(LENGTHS, max_tokens=211)
    padded = sum(len(b) * LENGTHS[b, 1].max() for b in batches.batches)
    assert LENGTHS[:, 1].sum() / padded > 0.95


def test_order_depends_on_seed_and_epoch_alone():
    one, two = batches_of(LENGTHS, seed=3), batches_of(LENGTHS, seed=3)
    one.on_epoch_end()
    one.on_epoch_end()
    two.start_epoch(2)
    assert [b.tolist() for b in one.batches] == [b.tolist() for b in two.batches]
    two.start_epoch(3)
    assert [b.tolist() for b in one.batches] != [b.tolist() for b in two.batches]
    assert len(one) == len(two)


def test_the_longest_comes_first_and_validation_is_in_order():
    batches = batches_of(LENGTHS, max_tokens=211)
    assert LENGTHS[batches.batches[0], 1].max() == LENGTHS[:, 1].max()
    fixed = batches_of(LENGTHS, max_tokens=211, shuffle=False)
    ends = [LENGTHS[b, 1].max() for b in fixed.batches]
    assert ends == sorted(ends)


def test_the_first_two_batches_never_look_alike():
    batches = batches_of([3] * 20, max_tokens=6)
    assert [batches[i][1] for i in range(3)] == [0, 1, 0]


def test_translation_batch_by_hand(translator, tokenizer):
    batches = ka.translation_batches(PAIRS[:1], translator)
    inputs, labels, weights = batches[0]
    special = ka.data.special_ids(tokenizer)
    source = ka.data.encode_texts(tokenizer, ["we eat bread"])[0]
    target = ka.data.encode_texts(tokenizer, ["comemos pan"])[0]
    assert inputs["source_ids"].tolist() == [[*source, special.end]]
    assert labels.tolist() == [[*target, special.end]]
    assert inputs["target_ids"].tolist() == [[special.start, *target]]
    assert weights.tolist() == [[1.0] * (len(target) + 1)]


def test_padding_weighs_nothing(translator):
    batches = ka.translation_batches(PAIRS, translator, max_tokens=997)
    _, labels, weights = batches[0]
    pad = ka.data.special_ids(translator.target_tokenizer).pad
    np.testing.assert_array_equal(weights, labels != pad)
    assert (weights.sum(1) >= 2).all()


def test_shift_right_by_hand():
    np.testing.assert_array_equal(shift_right(np.array([[5, 7, 3], [11, 3, 0]]), 2), [[2, 5, 7], [2, 11, 3]])


def test_language_windows_overlap_by_one_and_cover_the_stream():
    tokenizer = ka.train_tokenizer(["to be or not to be"], "characters")
    model = ka.CausalLM.from_preset("char_rnn", tokenizer=tokenizer, units=5, embedding_dim=3, max_length=7)
    batches = ka.language_batches(["to be or not to be"], model, shuffle=False)
    rows = [
        (ids[mask], label[mask])
        for inputs, labels, _ in (batches[i] for i in range(len(batches)))
        for ids, mask, label in zip(inputs["token_ids"], inputs["padding_mask"], labels, strict=True)
    ]
    special = ka.data.special_ids(tokenizer)
    rows.sort(key=lambda row: -len(row[0]))
    stream = ka.data.encode_texts(tokenizer, ["to be or not to be"])[0]
    read = [int(i) for ids, _ in rows for i in ids]
    written = [int(i) for _, ids in rows for i in ids]
    assert read == [special.start, *stream]
    assert written == [*stream, special.end]


def test_a_tag_is_learned_at_a_words_first_piece(tokenizer):
    model = ka.TextTagger.from_preset(
        "rnn_tagger", tokenizer=tokenizer, labels=("NOUN", "VERB"), units=6, embedding_dim=5
    )
    inputs, labels, weights = ka.tagging_batches([[("bread", "NOUN"), ("drinks", "VERB")]], model)[0]
    pieces = [ka.data.encode_texts(tokenizer, [word])[0] for word in ("bread", "drinks")]
    assert inputs["token_ids"][0].tolist() == pieces[0] + pieces[1]
    assert np.flatnonzero(weights[0]).tolist() == [0, len(pieces[0])]
    assert labels[0][weights[0] > 0].tolist() == [0, 1]


def test_words_are_spelled_where_they_begin_and_rare_ones_are_hidden(tokenizer):
    characters = ka.train_tokenizer(["we eat bread"], "characters")
    model = ka.TextTagger.from_preset(
        "rnn_tagger",
        tokenizer=tokenizer,
        character_tokenizer=characters,
        labels=("NOUN", "VERB"),
        units=6,
        embedding_dim=5,
        max_word_length=3,
    )
    sentences = [[("bread", "NOUN"), ("eat", "VERB")]] * 400
    whole = ka.tagging_batches(sentences, model, shuffle=False)[0][0]
    starts = model.encode_words([["bread", "eat"]])[0].starts
    assert starts[1] > 1  # the first word has several pieces
    spelled, mask = whole["character_ids"][0], whole["character_mask"][0]
    assert np.flatnonzero(mask.any(-1)).tolist() == starts
    wanted = [ids[:3] for ids in ka.data.encode_texts(characters, ["bread", "eat"])]
    assert [row[real].tolist() for row, real in zip(spelled[starts], mask[starts], strict=True)] == wanted
    unknown = ka.data.special_ids(tokenizer).unknown
    assert not (whole["token_ids"] == unknown).any()
    for times in (1, 3, 400):  # n times in the corpus: hidden with probability 1 / (1 + 4 n)
        batches = ka.tagging_batches(sentences[:times], model, max_tokens=10**6)
        hidden = []
        for epoch in range(1200 // times):
            batches.start_epoch(epoch)
            hidden += (batches[0][0]["token_ids"] == unknown).ravel().tolist()
        share, chance = np.mean(hidden), 1 / (1 + 4 * times)
        assert share > 0
        assert abs(share - chance) < 4 * (chance / len(hidden)) ** 0.5, times


@pytest.mark.parametrize("spelled", [False, True])
def test_sentences_of_any_length_and_words_of_any_length_are_learned(tokenizer, spelled):
    sentences = [[("bread"[:letters], "NOUN")] * words for words, letters in ((5, 5), (4, 3), (3, 4), (2, 2), (1, 1))]
    options = {"character_tokenizer": ka.train_tokenizer(["bread"], "characters")} if spelled else {}
    model = ka.TextTagger.from_preset(
        "rnn_tagger", tokenizer=tokenizer, labels=("NOUN", "VERB"), units=6, embedding_dim=5, **options
    )
    model.compile("sgd", ka.MaskedCrossEntropy())
    for seed in range(4):
        batches = ka.tagging_batches(sentences, model, max_tokens=1, seed=seed)
        first, second = (
            {name: x.shape[axis] for name, x in batches[i][0].items() for axis in range(1, x.ndim)} for i in (0, 1)
        )
        assert all(first[name] != second[name] for name in first)
        assert np.isfinite(model.fit(batches, verbose=0).history["loss"]).all()
    with pytest.raises(ValueError, match="no examples"):
        ka.tagging_batches([], model)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: batches_of([]), "no examples"),
        (lambda: batches_of([3], max_tokens=0), "expected a positive integer"),
    ],
)
def test_mistakes_are_explained(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_an_unknown_label_is_explained(tokenizer):
    model = ka.TextClassifier.from_preset("rnn_classifier", tokenizer=tokenizer, labels=("no", "yes"), units=6)
    with pytest.raises(ValueError, match="no label 'maybe'; it has no, yes"):
        ka.classification_batches([("we eat", "maybe")], model)


def test_on_jax_there_are_few_shapes(translator, monkeypatch):
    """JAX compiles each shape anew: a large corpus has to come in few of them."""
    monkeypatch.setattr(ka.data.batches, "width_step", lambda: 8)
    batches = ka.translation_batches(ka.quickstart.phrase_pairs("train")[:3000], translator, max_tokens=1024)
    shapes = {tuple(x.shape for x in batches[i][0].values()) for i in range(len(batches))}
    assert len(batches) > 50
    assert len(shapes) < len(batches) / 4
    assert {width % 8 for shape in shapes for _, width in shape} <= {0, 1}  # 1: the second batch's extra column
