"""Masked tokens: their number, their selection, and their prediction."""

import keras
import numpy as np
import pytest
from fake_tokenizer import END, START

import keras_attention as ka

TEXTS = ["\n".join(f"the {a} {b} the {c} bread" for b in ("eats", "sees") for c in ("old", "new")) for a in "abcdefgh"]
SIZES = {"width": 14, "num_heads": 7, "num_layers": 1, "intermediate_dim": 11, "max_length": 23}


@pytest.fixture(scope="module")
def tokenizer():
    return ka.data.train_tokenizer(TEXTS, vocabulary_size=60)


def model(tokenizer, **sizes):
    return ka.MaskedLM.from_preset("bert_base", tokenizer=tokenizer, **{**SIZES, **sizes})


def all_of(batches):
    """Return all rows of an epoch: a dict of lists, one for each array."""
    rows = {}
    for i in range(len(batches)):
        inputs, labels, weights = batches[i]
        arrays = {**inputs, "labels": labels, "weights": weights}
        for name, value in arrays.items():
            rows.setdefault(name, []).extend(np.asarray(value))
    return rows


def test_15_percent_are_targets_and_80_percent_of_them_are_masked(tokenizer):
    m, mask = model(tokenizer, next_sentence=False), ka.data.tokenization.special_tokens.mask_id(tokenizer)
    masked = random = unchanged = total = 0
    batches = ka.data.masked_batches(TEXTS, m, max_tokens=200)
    for epoch in range(40):
        batches.start_epoch(epoch)
        rows = all_of(batches)
        for ids, labels, weights, real in zip(
            rows["token_ids"], rows["labels"], rows["weights"], rows["padding_mask"], strict=True
        ):
            special = np.isin(labels, [START, END]) | ~real
            assert not weights[special].any()  # padding, start and end tokens are never targets
            np.testing.assert_array_equal(ids[weights == 0], labels[weights == 0])
            chosen = weights == 1
            masked += (ids[chosen] == mask).sum()
            unchanged += (ids[chosen] == labels[chosen]).sum()
            random += ((ids[chosen] != mask) & (ids[chosen] != labels[chosen])).sum()
            total += (~special).sum()
    chosen = masked + random + unchanged
    assert abs(chosen / total - 0.15) < 0.01
    assert abs(masked / chosen - 0.8) < 0.03
    assert abs(random / chosen - 0.1) < 0.03


def test_masks_depend_on_the_epoch_and_are_reproducible(tokenizer):
    m = model(tokenizer, next_sentence=False)
    first, again = ka.data.masked_batches(TEXTS, m, shuffle=True), ka.data.masked_batches(TEXTS, m, shuffle=True)
    one = first[0][0]["token_ids"]
    np.testing.assert_array_equal(one, again[0][0]["token_ids"])
    again.start_epoch(1)
    assert (one != again[0][0]["token_ids"]).any()


def test_without_packing_each_text_has_its_own_rows(tokenizer):
    m, special = model(tokenizer, next_sentence=False, max_length=7), ka.data.special_tokens_of(tokenizer)
    texts = ["the a eats the old bread", "the bread"]
    rows = all_of(ka.data.masked_batches(texts, m, shuffle=False, pack=False))
    ids_of_rows = sorted(ids[real].tolist() for ids, real in zip(rows["labels"], rows["padding_mask"], strict=True))
    streams = [[*ids, special.end] for ids in ka.data.tokenization.tokenizers.encode_texts(tokenizer, texts)]
    assert ids_of_rows == sorted([special.start, *ids[i : i + 6]] for ids in streams for i in range(0, len(ids), 6))


def test_whole_word_masking_masks_every_token_of_a_word(tokenizer):
    m = model(tokenizer, next_sentence=False)
    rows = all_of(ka.data.masked_batches(TEXTS, m, rate=0.5, whole_words=True))
    is_marked = np.array([piece.startswith("\u2581") for piece in tokenizer.get_vocabulary()])
    for labels, weights, real in zip(rows["labels"], rows["weights"], rows["padding_mask"], strict=True):
        is_special = np.isin(labels, [START, END])
        begins_word = is_marked[labels] | is_special | np.roll(is_special, 1)
        words = np.split(weights[real], np.flatnonzero(begins_word[real])[1:])
        assert all(len({*word}) == 1 for word in words)
        assert max(map(len, words)) > 1


def test_half_of_the_next_sentences_are_random(tokenizer):
    m = model(tokenizer, max_length=61)
    batches = ka.data.masked_batches(TEXTS, m, max_tokens=10_000, shuffle=False)
    inputs, labels, weights = batches[0]
    is_random_next = labels["next_sentence"]  # as in BERT, 0 means that the second sentence follows the first
    assert 0.2 < is_random_next.mean() < 0.8
    assert set(weights) == {"logits", "next_sentence"}
    lines = {line: (i, j) for i, text in enumerate(TEXTS) for j, line in enumerate(text.split("\n"))}
    for ids, segments, real, is_random in zip(
        labels["logits"], inputs["segment_ids"], inputs["padding_mask"], is_random_next, strict=True
    ):
        ids, segments = ids[real], segments[real]
        assert (ids[0], ids[-1]) == (START, END)
        assert segments[np.flatnonzero(ids == END)[0]] == 0
        first, second = (ka.data.decode_ids(tokenizer, ids[segments == s]) for s in (0, 1))
        (i, j), other = lines[first], lines[second]
        assert (other != (i, j + 1)) == is_random


@pytest.mark.usefixtures("untraced")
def test_masked_model_learns_both_objectives(tokenizer):
    keras.utils.set_random_seed(3)
    m = model(tokenizer, max_length=61, dropout=0.0, attention_dropout=0.0)
    ka.training.compile_model(m, ka.training.TrainingPlan(learning_rate=0.01, warmup_steps=5, epochs=5), 3)
    history = m.fit(ka.data.masked_batches(TEXTS, m), epochs=5, verbose=0, shuffle=False).history
    assert history["logits_loss"][-1] < history["logits_loss"][0]
    assert "next_sentence_accuracy" in history


def test_an_invalid_masking_rate_is_an_error(tokenizer):
    with pytest.raises(ValueError, match="`rate` is 1"):
        ka.data.masked_batches(TEXTS, model(tokenizer), rate=1)


def test_next_sentence_prediction_needs_texts_of_two_lines(tokenizer):
    with pytest.raises(ValueError, match="next_sentence=False"):
        ka.data.masked_batches(["one line", "another"], model(tokenizer))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("kind", "mask"), [("sentencepiece", "<mask>"), ("characters", "<mask>"), ("wordpiece", "[MASK]")]
)
def test_the_mask_token_of_each_kind_of_tokenizer_is_filled(kind, mask):
    model = ka.MaskedLM.from_preset("bert_base", tokenizer=ka.data.train_tokenizer(TEXTS, kind, 60), **SIZES)
    (filled,) = model.fill([f"the {mask} bread"])
    assert len(filled.candidates) == 1
    assert mask not in filled.text or filled.candidates[0][0][0] == mask
