"""Defaults that depend on the data, compared with values that are computed by hand."""

import types

import numpy as np
import pytest

import keras_attention as ka
from keras_attention import data_size, defaults
from keras_attention.data.batches import LengthBatches, RepeatedBatches
from keras_attention.data.batching.example_weights import WeightedBatches
from keras_attention.data_size import DataSize
from keras_attention.presets import find_preset

ROWS = [("we eat so good bread", "good"), ("they eat so bad bread", "bad")] * 10
RULE = defaults.Rule(max_tokens=66, updates=200, learning_rate=0.03, warmup=0.1, label_smoothing=0.2)


@pytest.fixture
def classifier():
    return ka.TextClassifier.from_examples(ROWS, tokenizer_kind="words", units=6, embedding_dim=5, dropout=0.0)


def test_the_size_of_data_counts_words_and_characters():
    pairs = [("We eat", "comemos pan"), ("we drink", "")]
    assert DataSize.measure(ka.Translator, pairs) == DataSize(2, 6, 5, 25, 16)
    sentences = [[("we", "PRON"), ("eat", "VERB")], [("eat", "VERB")]]
    assert DataSize.measure(ka.TextTagger, sentences) == DataSize(2, 3, 2, 9, 5)


@pytest.mark.parametrize("part_length", [1, 2, 7, 1000])
def test_the_size_of_a_long_text_does_not_depend_on_its_parts(monkeypatch, part_length):
    monkeypatch.setattr(data_size, "_PART_LENGTH", part_length)
    text = "\n It was the Best of\u2003times,\n\nit WAS  the worst\xa0of times "
    expected = DataSize(3, 13, 8, len(text) + 3, len(set(text + "of ")))
    assert DataSize.measure(ka.CausalLM, [text, "", "of "]) == expected


# A pass has 20 rows of 5 words and the end token, in batches padded to a multiple of 4: 160 tokens.
@pytest.mark.parametrize(
    ("overrides", "expected"),
    [
        # 3 batches; 200 updates in at most 40 epochs: 2 passes of 3 updates, 34 epochs, 204 updates
        ({}, {"epochs": 34, "passes_per_epoch": 2, "warmup_steps": 20}),
        ({"epochs": 10}, {"epochs": 10, "passes_per_epoch": 1, "warmup_steps": 3}),
        ({"max_tokens": 22}, {"epochs": 25, "passes_per_epoch": 1, "warmup_steps": 20, "max_tokens": 22}),
        (
            {"gradient_accumulation": 2},
            {"epochs": 34, "passes_per_epoch": 3, "warmup_steps": 20, "gradient_accumulation": 2},
        ),
        ({"warmup_steps": 11, "patience": 3}, {"epochs": 34, "passes_per_epoch": 2, "warmup_steps": 11, "patience": 3}),
    ],
)
def test_the_length_of_a_run_follows_from_its_updates(classifier, monkeypatch, overrides, expected):
    monkeypatch.setitem(defaults._RULES, "TextClassifier", lambda size, config: RULE)
    plan = ka.training.TrainingPlan.for_data(classifier, ROWS, **overrides)
    rule = {"max_tokens": 66, "learning_rate": 0.03, "label_smoothing": 0.2}
    assert {name: getattr(plan, name) for name in rule | expected} == rule | expected


@pytest.mark.parametrize(
    ("texts", "recurrent", "transformer"),
    [(25, 100, 100), (121, 165, 165), (400, 190, 300), (900, 240, 450), (10_000, 1000, 1500), (40_000, 4000, 4000)],
)
def test_a_recurrent_classifier_has_fewer_updates(texts, recurrent, transformer):
    size = DataSize(texts, 20 * texts, texts, 100 * texts, 30)
    configs = [find_preset("rnn_classifier", "TextClassifier"), find_preset("bert_base", "MaskedLM")]
    updates = [defaults._RULES["TextClassifier"](size, config).updates for config in configs]
    assert updates == [recurrent, transformer]


# A row has 21 or 22 characters and the end token, padded to 24: 480 tokens in a batch of 20 rows, 1 update in a pass.
@pytest.mark.parametrize(
    ("change", "rate", "r_drop"),
    [
        (lambda model: None, 5e-4, 4.0),  # 0.04 / 80
        (lambda model: ka.training.enable_lora(model, 2), 5e-3, 0.0),
        (ka.training.freeze, defaults.Rule.learning_rate, 0.0),
    ],
)
def test_fine_tuning_has_rules_of_its_own(change, rate, r_drop):
    masked = ka.MaskedLM.from_examples(
        [text for text, _ in ROWS], width=80, num_heads=2, num_layers=1, intermediate_dim=5, tokenizer_kind="characters"
    )
    model = ka.TextClassifier.from_encoder(masked, labels=("bad", "good"))
    change(model)
    plan = ka.training.TrainingPlan.for_data(model, ROWS, schedule="linear")
    assert (plan.max_tokens, plan.learning_rate, plan.label_smoothing, plan.r_drop) == (480, rate, 0.0, r_drop)
    # 60 updates and 3 passes, 40 epochs at most
    assert (plan.epochs, plan.passes_per_epoch, plan.warmup_steps) == (32, 2, 6)


def test_a_long_text_counts_as_far_as_it_is_read():
    rows = [("eat " * 5000, "good"), ("eat " * 4000, "bad")] * 10
    model = ka.TextClassifier.from_examples(rows, tokenizer_kind="words", units=6, max_length=20)
    plan = ka.training.TrainingPlan.for_data(model, rows, max_tokens=100, epochs=10)  # 20 texts in 4 batches
    assert plan.warmup_steps == 4


def test_the_longer_text_of_a_pair_counts():
    # With the end token, and in multiples of 4, the longer texts have 20 and 16 characters: 180 in 3 batches.
    pairs = [("we eat", "comemos pan bueno"), ("they drink milk", "beben")] * 5
    model = ka.Translator.from_examples(pairs, tokenizer_kind="characters", units=6)
    plan = ka.training.TrainingPlan.for_data(model, pairs, max_tokens=60, epochs=10)
    assert (plan.passes_per_epoch, plan.warmup_steps) == (1, 3)


def test_a_new_network_follows_the_data_but_not_the_values_that_are_set(monkeypatch):
    rule = defaults.Rule(vocabulary_size=23, network={"dropout": 0.4, "units": 10, "embedding_dim": 7})
    monkeypatch.setitem(defaults._RULES, "TextClassifier", lambda size, config: rule)
    models = [
        ka.TextClassifier.from_examples(ROWS, tokenizer_kind="bpe"),
        ka.TextClassifier.from_examples(ROWS, "rnn_classifier", tokenizer_kind="bpe"),  # units of the preset
        ka.TextClassifier.from_examples(ROWS, tokenizer_kind="bpe", dropout=0.1, vocabulary_size=29, units=6),
    ]
    assert models[-1].config.embedding_dim == 128  # the size of the preset, since `units` is set
    sizes = [(m.config.dropout, m.config.units, m.tokenizer.vocabulary_size()) for m in models]
    assert sizes == [(0.4, 10, 23), (0.4, 128, 23), (0.1, 6, 29)]


@pytest.mark.parametrize("size", [7, 2_000, 1_000_000])
def test_a_vocabulary_has_room_for_all_characters(size):
    few, many = (DataSize(size, 5 * size, size, 25 * size, characters) for characters in (30, 4000))
    for task in (ka.Translator, ka.Captioner, ka.TextClassifier):
        config = find_preset(task.spec.default_preset, task.__name__)
        values = [defaults.network_defaults(task, data, config)["vocabulary_size"] for data in (few, many)]
        assert values[0] <= 8000
        assert values[1] > 4000


def test_passes_of_an_epoch_are_the_epochs_of_the_batches():
    rng = np.random.default_rng(3)
    lengths = rng.integers(2, 11, 29)
    batches = [LengthBatches(lengths, lambda indices, extra: indices, 31, seed=5) for _ in range(2)]
    repeated, single = RepeatedBatches(batches[0], 3), batches[1]
    for epoch in range(2):
        rows = [repeated[i].tolist() for i in range(len(repeated))]
        expected = []
        for number in range(3):
            single.start_epoch(3 * epoch + number)
            expected += [single[i].tolist() for i in range(len(single))]
        assert rows == expected
        repeated.on_epoch_end()


@pytest.mark.slow
@pytest.mark.usefixtures("untraced")
def test_a_run_of_several_passes_resumes_with_the_same_weights(classifier, tmp_path):
    plan = {"passes_per_epoch": 2, "learning_rate": 0.03, "warmup_steps": 2, "max_tokens": 88}
    initial = classifier.get_weights()

    def weights(name, *epochs):
        for number in epochs:
            classifier.set_weights(initial)
            training_plan = ka.training.TrainingPlan(epochs=number, schedule="constant", **plan)
            history = ka.train(classifier, ROWS, tmp_path / name, training_plan, class_weight="balanced", verbose=False)
        return classifier.get_weights(), history["loss"]

    whole, losses = weights("whole", 2)
    resumed, resumed_losses = weights("resumed", 1, 2)
    assert len(losses) == 2
    assert losses == resumed_losses
    assert all(np.array_equal(a, b) for a, b in zip(whole, resumed, strict=True))
    assert classifier.optimizer.iterations == 2 * 2 * 2  # epochs, passes, batches


def test_weights_of_classes_hold_in_each_pass(classifier):
    batches = classifier.make_batches(ROWS, 66)
    repeated = RepeatedBatches(WeightedBatches(batches, {"bad": 3.0}, classifier.labels), 2)
    values = [value for i in range(len(repeated)) for value in repeated[i][2].tolist()]
    assert sorted(values) == [1.0] * 20 + [3.0] * 20


@pytest.mark.parametrize(("texts", "expected"), [(4000, 4.0), (4001, 0.0)])
def test_only_few_texts_have_r_drop(texts, expected):
    masked = ka.MaskedLM.from_examples(
        ["we eat"], tokenizer_kind="characters", width=6, num_heads=3, num_layers=1, intermediate_dim=5
    )
    model = ka.TextClassifier.from_encoder(masked, labels=("bad", "good"))
    assert ka.training.TrainingPlan.for_data(model, [("we eat", "good")] * texts).r_drop == expected


def test_a_loaded_model_starts_from_trained_weights(classifier, tmp_path):
    assert not classifier.is_pretrained
    classifier.save(tmp_path / "m.keras")
    loaded = ka.load(tmp_path / "m.keras")
    assert loaded.is_pretrained
    assert ka.TextClassifier.from_model(loaded, dropout=0.2).is_pretrained


@pytest.mark.parametrize(
    ("changes", "example", "count", "expected"),
    [
        ({}, ("we eat", "food"), 1000, True),
        ({}, ("we eat", "food"), 1001, False),
        ({}, (("we eat", "bread"), "food"), 7, False),
        ({"pooling": "start"}, ("we eat", "food"), 7, False),
        ({"predict_method": "tag"}, (["we", "eat"], ["PRON", "VERB"]), 7, False),
        ({"has_lora": True}, ("we eat", "food"), 7, False),
        ({"trainable_weights": []}, ("we eat", "food"), 7, False),
    ],
)
def test_a_trainable_sentence_encoder_is_trained_on_pairs_of_few_texts(changes, example, count, expected):
    facts = {"predict_method": "classify", "pooling": "mean", "has_lora": False, "trainable_weights": ["w"], **changes}
    part = types.SimpleNamespace(**facts)
    model = types.SimpleNamespace(spec=part, config=part, encoder=part, has_lora=part.has_lora)
    assert defaults.trains_on_pairs(model, [example] * count) == expected


def test_no_examples_are_an_error(classifier):
    with pytest.raises(ValueError, match="There are no examples to train on; expected at least one"):
        ka.training.TrainingPlan.for_data(classifier, [])
