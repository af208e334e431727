"""What is hidden, and what has to be said of it."""

import numpy as np
import pytest

import keras_attention as ka

TEXTS = ["\n".join(f"the {a} {b} the {c} bread" for b in ("eats", "sees") for c in ("old", "new")) for a in "abcdefgh"]
SIZES = {"width": 14, "num_heads": 7, "num_layers": 1, "intermediate_dim": 11, "max_length": 23}


@pytest.fixture(scope="module")
def tokenizer():
    return ka.train_tokenizer(TEXTS, vocabulary_size=60)


def model(tokenizer, **sizes):
    return ka.MaskedLM.from_preset("bert_base", tokenizer=tokenizer, **{**SIZES, **sizes})


def all_of(batches):
    """All rows of an epoch, one array for each name."""
    rows = {}
    for i in range(len(batches)):
        inputs, labels, weights = batches[i]
        found = {**inputs, "labels": labels, "weights": weights}
        for name, value in found.items():
            rows.setdefault(name, []).extend(np.asarray(value))
    return rows


def test_shares_of_what_is_hidden(tokenizer):
    m, mask = model(tokenizer, next_sentence=False), ka.data.mask_id(tokenizer)
    hidden = random = kept = total = 0
    batches = ka.masked_batches(TEXTS, m, max_tokens=200)
    for epoch in range(40):
        batches.start_epoch(epoch)
        rows = all_of(batches)
        for ids, labels, weights, real in zip(
            rows["token_ids"], rows["labels"], rows["weights"], rows["padding_mask"], strict=True
        ):
            special = np.isin(labels, [0, 2, 3]) | ~real
            assert not weights[special].any()  # padding, start and end are never chosen
            np.testing.assert_array_equal(ids[weights == 0], labels[weights == 0])
            chosen = weights == 1
            hidden += (ids[chosen] == mask).sum()
            kept += (ids[chosen] == labels[chosen]).sum()
            random += ((ids[chosen] != mask) & (ids[chosen] != labels[chosen])).sum()
            total += (~special).sum()
    chosen = hidden + random + kept
    assert abs(chosen / total - 0.15) < 0.01
    assert abs(hidden / chosen - 0.8) < 0.03
    assert abs(random / chosen - 0.1) < 0.03


def test_gaps_differ_by_epoch_and_not_by_run(tokenizer):
    m = model(tokenizer, next_sentence=False)
    first, again = ka.masked_batches(TEXTS, m, shuffle=True), ka.masked_batches(TEXTS, m, shuffle=True)
    one = first[0][0]["token_ids"]
    np.testing.assert_array_equal(one, again[0][0]["token_ids"])
    again.start_epoch(1)
    assert (one != again[0][0]["token_ids"]).any()


def test_a_text_may_have_rows_of_its_own(tokenizer):
    m, special = model(tokenizer, next_sentence=False, max_length=7), ka.data.special_ids(tokenizer)
    texts = ["the a eats the old bread", "the bread"]
    rows = all_of(ka.masked_batches(texts, m, shuffle=False, pack=False))
    found = sorted(ids[real].tolist() for ids, real in zip(rows["labels"], rows["padding_mask"], strict=True))
    streams = [[*ids, special.end] for ids in ka.data.encode_texts(tokenizer, texts)]
    assert found == sorted([special.start, *ids[i : i + 6]] for ids in streams for i in range(0, len(ids), 6))


def test_whole_words_are_hidden_whole(tokenizer):
    m = model(tokenizer, next_sentence=False)
    rows = all_of(ka.masked_batches(TEXTS, m, rate=0.5, whole_words=True))
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


def test_next_sentences(tokenizer):
    m = model(tokenizer, max_length=61)
    batches = ka.masked_batches(TEXTS, m, max_tokens=10_000, shuffle=False)
    inputs, labels, weights = batches[0]
    strange, end = labels["next_sentence"], 3  # as in BERT, 0 says that the second follows the first
    assert 0.2 < strange.mean() < 0.8
    assert set(weights) == {"logits", "next_sentence"}
    lines = {line: (i, j) for i, text in enumerate(TEXTS) for j, line in enumerate(text.split("\n"))}
    for ids, segments, real, other_place in zip(
        labels["logits"], inputs["segment_ids"], inputs["padding_mask"], strange, strict=True
    ):
        ids, segments = ids[real], segments[real]
        assert ids[0] == 2
        assert ids[-1] == end
        assert segments[np.flatnonzero(ids == end)[0]] == 0
        first, second = (ka.data.decode_ids(tokenizer, ids[segments == s]) for s in (0, 1))
        (i, j), other = lines[first], lines[second]
        assert (other != (i, j + 1)) == other_place


def test_masked_model_learns_both_objectives(tokenizer):
    import keras

    keras.utils.set_random_seed(3)
    m = model(tokenizer, max_length=61, dropout=0.0, attention_dropout=0.0)
    ka.training.compile_model(m, ka.TrainingPlan(learning_rate=0.01, warmup_steps=5, epochs=9), 3)
    history = m.fit(ka.masked_batches(TEXTS, m), epochs=9, verbose=0, shuffle=False).history
    assert history["logits_loss"][-1] < history["logits_loss"][0]
    assert "next_sentence_accuracy" in history


def test_packing_wastes_nothing(tokenizer):
    m = model(tokenizer, next_sentence=False)
    rows = ka.data.pack_texts(TEXTS, m)
    assert {len(row) for row in rows[:-1]} == {23}
    assert all(row[0] == 2 for row in rows)
    assert sum(i == 3 for row in rows for i in row) == len(TEXTS)


def test_a_stride_judges_each_token_once_with_a_longer_past(tokenizer):
    lm = ka.CausalLM.from_preset("gpt2_small", tokenizer=tokenizer, **SIZES)
    text = [" ".join(TEXTS)]
    length = len(ka.data.encode_texts(tokenizer, text)[0]) + 1
    for stride in (23, 7, 1):
        rows = all_of(ka.language_batches(text, lm, shuffle=False, stride=stride))
        assert sum(w.sum() for w in rows["weights"]) == length
        pasts = [np.flatnonzero(w)[0] for w in rows["weights"] if w.any()]
        assert sorted(pasts)[1:] == sorted([23 - stride] * (len(pasts) - 1)) or stride == 23
    with pytest.raises(ValueError, match="stride"):
        ka.language_batches(text, lm, stride=24)


def test_packed_language_batches_share_windows(tokenizer):
    lm = ka.CausalLM.from_preset("gpt2_small", tokenizer=tokenizer, **SIZES)
    apart, packed = (len(ka.language_batches(["a", "b", "c"], lm, pack=pack).lengths) for pack in (False, True))
    assert (apart, packed) == (3, 1)


def test_a_rate_outside_its_range_is_an_error(tokenizer):
    with pytest.raises(ValueError, match="`rate` is 1"):
        ka.masked_batches(TEXTS, model(tokenizer), rate=1)


def test_single_lines_have_no_next_sentence(tokenizer):
    with pytest.raises(ValueError, match="next_sentence=False"):
        ka.masked_batches(["one line", "another"], model(tokenizer))


def test_every_kind_of_tokenizer_has_a_gap():
    for kind, gap in (("sentencepiece", "<mask>"), ("characters", "<mask>"), ("wordpiece", "[MASK]")):
        own = ka.train_tokenizer(TEXTS, kind, 60)
        m = ka.MaskedLM.from_preset("bert_base", tokenizer=own, **SIZES)
        (filling,) = m.fill([f"the {gap} bread"])
        assert len(filling.candidates) == 1, kind
        assert gap not in filling.text or filling.candidates[0][0][0] == gap
