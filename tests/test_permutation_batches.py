"""Targets and factorization orders, training on them, and other tasks with the same encoder."""

import keras
import numpy as np
import pytest
from conftest import PAIRS
from permuted import H, M, make_model, randomize

import keras_attention as ka


def test_one_of_six_tokens_is_a_target_and_targets_are_spans():
    for length in (0, 1, 2, 5, 6, 7, 13, 60, 97):
        is_target = ka.data.batching.permutation.span_targets(length, np.random.default_rng(length))
        assert is_target.sum() == -(-length // 6), length
    many = np.stack([ka.data.batching.permutation.span_targets(60, np.random.default_rng(seed)) for seed in range(500)])
    assert many.any(0).all()  # at any position
    runs = [len(run) for row in many for run in "".join("x" if x else " " for x in row).split()]
    assert {1, 2, 3, 4, 5} <= set(runs)


def test_a_target_attends_to_the_tokens_before_it_in_the_order():
    is_target, is_text = np.array([0, 1, 1, 0, 0, 1], bool), np.array([1, 1, 1, 1, 0, 1], bool)
    mask = ka.data.batching.permutation.permutation_mask(is_target, is_text, np.random.default_rng(3))
    is_context = is_text & ~is_target
    assert mask[:, is_context].all()
    assert not mask[is_context][:, ~is_context].any()
    later = mask[~is_context][
        :, ~is_context
    ]  # a strict order: of two targets, one attends to the other; none attends to itself
    assert (later ^ later.T | np.eye(len(later), dtype=bool)).all()
    assert not later.diagonal().any()
    assert sorted(later.sum(1)) == list(range(len(later)))


def batches(tokenizer, **options):
    model = make_model(tokenizer=tokenizer, vocabulary_size=0, max_length=23)
    return ka.data.permutation_batches([source for source, _ in PAIRS] * 3, model, max_tokens=70, **options)


def test_batches_map_targets_to_their_positions(tokenizer):
    special, data = ka.data.special_tokens_of(tokenizer), batches(tokenizer)
    for i in range(len(data)):
        inputs, labels, weights = data[i]
        ids, mapping = inputs["token_ids"], inputs["target_mapping"]
        np.testing.assert_array_equal(np.einsum("bps,bs->bp", mapping, ids)[weights > 0], labels[weights > 0])
        assert not np.isin(labels[weights > 0], [special.pad, special.start, special.end]).any()
        assert weights.any(1).all()
        assert (ids[np.arange(len(ids)), inputs["padding_mask"].sum(1) - 1] == special.start).all()
        targets = mapping.argmax(-1)
        row_masks = np.take_along_axis(inputs["permutation_mask"], targets[:, :, None], 1)
        assert not np.take_along_axis(row_masks, targets[:, :, None], 2)[weights > 0].any()


def test_targets_and_orders_depend_on_seed_and_epoch(tokenizer):
    def read(data):
        return [keras.tree.flatten(data[i]) for i in range(len(data))]

    def equal(one, two):
        pairs = zip(keras.tree.flatten(one), keras.tree.flatten(two), strict=False)
        return all(a.shape == b.shape and (a == b).all() for a, b in pairs)

    first = batches(tokenizer)
    before = read(first)
    assert equal(before, read(batches(tokenizer)))
    assert not equal(before, read(batches(tokenizer, seed=1)))
    first.on_epoch_end()
    assert not equal(before, read(first))
    first.start_epoch(0)
    assert equal(before, read(first))
    unshuffled = batches(tokenizer, shuffle=False)
    before = read(unshuffled)
    unshuffled.on_epoch_end()
    assert equal(before, read(unshuffled))


def test_targets_every_one_is_an_error(tokenizer):
    with pytest.raises(ValueError, match="targets_every"):
        batches(tokenizer, targets_every=1)


@pytest.mark.slow
def test_a_model_trains_and_completes_prompts(tokenizer):
    model = make_model(tokenizer=tokenizer, vocabulary_size=0, max_length=23, dropout=0.0, attention_dropout=0.0)
    data = ka.data.permutation_batches([source for source, _ in PAIRS], model, shuffle=False)
    model.compile(keras.optimizers.Adam(0.02), ka.training.MaskedCrossEntropy())
    before = [w.copy() for w in model.get_weights()]
    losses = [float(model.train_on_batch(*data[0])) for _ in range(40)]
    assert losses[-1] < 0.5 * losses[0]
    unchanged = [
        w.path for w, a, b in zip(model.weights, before, model.get_weights(), strict=True) if np.allclose(a, b)
    ]
    assert all("segment" in path for path in unchanged), unchanged  # the texts have only one segment
    prompts = ["we eat", "", "the girl drinks"]
    together = model.complete(prompts, ka.Greedy(max_new_tokens=5))
    assert [a.text for a in together] == [model.complete([p], ka.Greedy(max_new_tokens=5))[0].text for p in prompts]
    assert all(a.text.startswith(a.prompt) for a in together)


@pytest.mark.parametrize(("kind", "predict_method"), [(ka.TextClassifier, "classify"), (ka.TextTagger, "tag")])
def test_classifiers_and_taggers_use_the_encoder(tokenizer, kind, predict_method):
    sizes = {"width": M, "num_heads": H, "num_layers": 2, "intermediate_dim": 11}
    model = kind.from_preset("xlnet_base", tokenizer=tokenizer, labels=("a", "b"), **sizes)
    randomize(model)
    texts = ["we eat bread", "the girl drinks cold milk"]
    together, alone = (
        getattr(model, predict_method)(texts),
        [getattr(model, predict_method)([text])[0] for text in texts],
    )
    for one, two in zip(together, alone, strict=True):
        np.testing.assert_allclose(getattr(one, "score", 0), getattr(two, "score", 0), rtol=1e-4)
