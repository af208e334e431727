"""Masked tokens: their number, their selection, and their prediction."""

import numpy as np
import pytest

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
    m, mask = model(tokenizer, next_sentence=False), ka.data.special_tokens.mask_id(tokenizer)
    masked = random = unchanged = total = 0
    batches = ka.data.masked_batches(TEXTS, m, max_tokens=200)
    for epoch in range(40):
        batches.start_epoch(epoch)
        rows = all_of(batches)
        for ids, labels, weights, real in zip(
            rows["token_ids"], rows["labels"], rows["weights"], rows["padding_mask"], strict=True
        ):
            special = np.isin(labels, [0, 2, 3]) | ~real
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
    streams = [[*ids, special.end] for ids in ka.data.tokenizers.encode_texts(tokenizer, texts)]
    assert ids_of_rows == sorted([special.start, *ids[i : i + 6]] for ids in streams for i in range(0, len(ids), 6))


def test_whole_word_masking_masks_every_token_of_a_word(tokenizer):
    m = model(tokenizer, next_sentence=False)
    rows = all_of(ka.data.masked_batches(TEXTS, m, rate=0.5, whole_words=True))
    pieces = tokenizer.get_vocabulary()
    for labels, weights, real in zip(rows["labels"], rows["weights"], rows["padding_mask"], strict=True):
        words: list[list[float]] = []
        for label, weight in zip(labels[real], weights[real], strict=True):
            special = pieces[label] in ("<s>", "</s>")
            if pieces[label].startswith("\u2581") or special or not words:
                words.append([])
            words[-1].append(weight)
            if special:
                words.append([])
        assert all(len(set(word)) <= 1 for word in words)


def test_half_of_the_next_sentences_are_random(tokenizer):
    m = model(tokenizer, max_length=61)
    batches = ka.data.masked_batches(TEXTS, m, max_tokens=10_000, shuffle=False)
    inputs, labels, weights = batches[0]
    is_random_next, end = labels["next_sentence"], 3  # as in BERT, 0 means that the second sentence follows the first
    assert 0.2 < is_random_next.mean() < 0.8
    assert set(weights) == {"logits", "next_sentence"}
    lines = {line: (i, j) for i, text in enumerate(TEXTS) for j, line in enumerate(text.split("\n"))}
    for ids, segments, real, is_random in zip(
        labels["logits"], inputs["segment_ids"], inputs["padding_mask"], is_random_next, strict=True
    ):
        ids, segments = ids[real], segments[real]
        assert ids[0] == 2
        assert ids[-1] == end
        assert segments[np.flatnonzero(ids == end)[0]] == 0
        first, second = (ka.data.decode_ids(tokenizer, ids[segments == s]) for s in (0, 1))
        (i, j), other = lines[first], lines[second]
        assert (other != (i, j + 1)) == is_random


@pytest.mark.usefixtures("untraced")
def test_masked_model_learns_both_objectives(tokenizer):
    import keras

    keras.utils.set_random_seed(3)
    m = model(tokenizer, max_length=61, dropout=0.0, attention_dropout=0.0)
    ka.training.compile_model(m, ka.training.TrainingPlan(learning_rate=0.01, warmup_steps=5, epochs=5), 3)
    history = m.fit(ka.data.masked_batches(TEXTS, m), epochs=5, verbose=0, shuffle=False).history
    assert history["logits_loss"][-1] < history["logits_loss"][0]
    assert "next_sentence_accuracy" in history


def test_packed_rows_have_little_padding(tokenizer):
    m = model(tokenizer, next_sentence=False)
    rows = ka.data.masking.pack_texts(TEXTS, m.text_reader)
    assert {len(row) for row in rows[:-1]} == {23}
    assert all(row[0] == 2 for row in rows)
    assert sum(i == 3 for row in rows for i in row) == len(TEXTS)


def test_with_a_stride_each_token_has_weight_once_and_a_longer_context(tokenizer):
    lm = ka.CausalLM.from_preset("gpt2_small", tokenizer=tokenizer, **SIZES)
    text = [" ".join(TEXTS)]
    length = len(ka.data.tokenizers.encode_texts(tokenizer, text)[0]) + 1
    for stride in (23, 7, 1):
        rows = all_of(ka.data.language_batches(text, lm, shuffle=False, stride=stride))
        assert sum(w.sum() for w in rows["weights"]) == length
        contexts = [np.flatnonzero(w)[0] for w in rows["weights"] if w.any()]
        assert sorted(contexts)[1:] == sorted([23 - stride] * (len(contexts) - 1)) or stride == 23
    with pytest.raises(ValueError, match="stride"):
        ka.data.language_batches(text, lm, stride=24)


def test_packed_texts_share_windows(tokenizer):
    lm = ka.CausalLM.from_preset("gpt2_small", tokenizer=tokenizer, **SIZES)
    separate, packed = (len(ka.data.language_batches(["a", "b", "c"], lm, pack=pack).lengths) for pack in (False, True))
    assert (separate, packed) == (3, 1)


def test_an_invalid_masking_rate_is_an_error(tokenizer):
    with pytest.raises(ValueError, match="`rate` is 1"):
        ka.data.masked_batches(TEXTS, model(tokenizer), rate=1)


def test_next_sentence_prediction_needs_texts_of_two_lines(tokenizer):
    with pytest.raises(ValueError, match="next_sentence=False"):
        ka.data.masked_batches(["one line", "another"], model(tokenizer))


@pytest.mark.slow
def test_every_kind_of_tokenizer_has_a_mask_token():
    for kind, mask in (("sentencepiece", "<mask>"), ("characters", "<mask>"), ("wordpiece", "[MASK]")):
        own = ka.data.train_tokenizer(TEXTS, kind, 60)
        m = ka.MaskedLM.from_preset("bert_base", tokenizer=own, **SIZES)
        (filled,) = m.fill([f"the {mask} bread"])
        assert len(filled.candidates) == 1, kind
        assert mask not in filled.text or filled.candidates[0][0][0] == mask
