"""The weights that a run returns: of the best epoch, or the average of several epochs."""

import keras
import numpy as np
import pytest
from conftest import PAIRS
from small_runs import TEXTS, run, small_model

import keras_attention as ka
from keras_attention.training.checkpoints import assign, average_weights, load_arrays, save_arrays
from keras_attention.training.run import default_monitor


@pytest.mark.usefixtures("untraced")
def test_the_best_epoch_is_restored_and_patience_ends_the_run(tokenizer, tmp_path):
    model, values = small_model(tokenizer), iter([1.0, 7.0, 3.0, 2.0, 5.0, 8.0])
    weights_of_epochs = []

    def extra_metrics(model):
        weights_of_epochs.append(model.get_weights())
        return {"val_bleu": next(values)}

    batches = ka.data.language_batches(TEXTS, model)
    plan = ka.training.TrainingPlan(epochs=6, monitor="val_bleu", patience=3)
    history = ka.train(model, batches, tmp_path, plan, extra_metrics=extra_metrics)
    assert history["val_bleu"] == [1.0, 7.0, 3.0, 2.0, 5.0]
    for one, two in zip(model.get_weights(), weights_of_epochs[1], strict=True):
        np.testing.assert_array_equal(one, two)


def test_average_of_checkpoints_by_hand(tokenizer, tmp_path):
    model = small_model(tokenizer)
    weights = model.get_weights()
    files = [tmp_path / f"{i}.npz" for i in range(3)]
    for i, file in enumerate(files):
        save_arrays(file, [w + i for w in weights])
    average_weights(model, files)
    for one, two in zip(weights, model.get_weights(), strict=True):
        np.testing.assert_allclose(one + 1, two, rtol=1e-5, atol=1e-5)


@pytest.mark.usefixtures("untraced")
def test_with_raw_examples_the_metric_of_the_task_selects_the_epoch(tokenizer, tmp_path, monkeypatch):
    """The outputs are the references in the second epoch, and parts of them in the others; sacreBLEU scores them."""
    import sacrebleu

    references = [target for _, target in PAIRS]
    epochs = [[" ".join(text.split()[:n]) for text in references] for n in (2, 9, 4)]
    translations = iter(epochs)
    monkeypatch.setattr(
        ka.Translator,
        "translate",
        lambda self, sources, batch_size: [ka.Translation(*pair, 0.0) for pair in zip(sources, next(translations))],  # noqa: B905
    )
    tokenizers = {"source_tokenizer": tokenizer, "target_tokenizer": tokenizer}
    model = ka.Translator.from_preset("rnn_seq2seq", units=12, embedding_dim=7, cell="simple", **tokenizers)
    history = ka.train(model, PAIRS, tmp_path, ka.training.TrainingPlan(epochs=3), validation=PAIRS)
    expected = [sacrebleu.corpus_bleu(texts, [references]).score for texts in epochs]
    np.testing.assert_allclose(history["val_bleu"], expected, atol=1e-3)
    assert len(history["val_loss"]) == 3
    assert load_arrays(tmp_path / "checkpoint.npz")[1]["best_epoch"] == 2


@pytest.mark.parametrize(
    ("task", "validation", "monitor"),
    [
        (ka.Translator, [("a", "b")], "val_bleu"),
        (ka.Captioner, [object()], "val_bleu"),
        (ka.TextClassifier, [("a", "b")], "val_accuracy"),
        (ka.TextTagger, [[("a", "b")]], "val_accuracy"),
        (ka.CausalLM, ["a"], "val_loss"),
        (ka.MaskedLM, ["a"], "val_loss"),
        (ka.Translator, None, "loss"),
        (ka.Translator, keras.utils.PyDataset(), "val_loss"),
        (ka.TextClassifier, keras.utils.PyDataset(), "val_accuracy"),
    ],
)
def test_the_default_monitor_is_the_metric_of_the_task(task, validation, monitor):
    batches = ka.data.LengthBatches([3], lambda indices, extra: indices)
    assert default_monitor(task, batches, validation) == monitor


@pytest.mark.usefixtures("untraced")
def test_without_validation_the_training_loss_is_the_monitor(tokenizer, tmp_path):
    model = small_model(tokenizer)
    plan = ka.training.TrainingPlan(epochs=2, average_checkpoints=2)
    history = ka.train(model, ka.data.language_batches(TEXTS, model), tmp_path, plan)
    assert len(history["loss"]) == 2


MONITORS = [("loss", TEXTS), pytest.param("val_loss", TEXTS[:3], marks=pytest.mark.slow)]


@pytest.mark.parametrize(("monitor", "texts"), MONITORS)
def test_the_average_is_used_if_it_is_better(tokenizer, tmp_path, monitor, texts):
    """The average and the best epoch (here the last) are compared on the same loss, without dropout."""
    model = small_model(tokenizer, dropout=0.1)
    run(model, tmp_path, monitor=monitor, average_checkpoints=4)
    batches = ka.data.language_batches(texts, model, shuffle=False)
    final = model.evaluate(batches, verbose=0, return_dict=True)["loss"]
    arrays, metadata = load_arrays(tmp_path / "checkpoint.npz")
    assign(model.variables[: len(model.get_weights())], arrays[: len(model.get_weights())])
    losses = {4: model.evaluate(batches, verbose=0, return_dict=True)["loss"]}
    average_weights(model, sorted(tmp_path.glob("weights-*.npz")))
    losses["average_checkpoints"] = model.evaluate(batches, verbose=0, return_dict=True)["loss"]
    assert metadata["best_epoch"] == min(losses, key=losses.get)
    np.testing.assert_allclose(final, min(losses.values()), rtol=1e-4)
    # The best loss of an epoch may be that of training, with dropout.
    best = {"average_checkpoints": losses["average_checkpoints"]}.get(metadata["best_epoch"], metadata["best"])
    np.testing.assert_allclose(metadata["best"], best, rtol=1e-4)


@pytest.mark.usefixtures("untraced")
def test_a_run_that_diverges_is_an_error(tokenizer, tmp_path):
    model = small_model(tokenizer)
    with pytest.raises(ValueError, match="never a finite number: the training diverged"):
        ka.train(
            model,
            ka.data.language_batches(TEXTS, model),
            tmp_path,
            ka.training.TrainingPlan(epochs=2, monitor="val_bleu"),
            extra_metrics=lambda _: {"val_bleu": float("nan")},
        )


@pytest.mark.parametrize(
    ("monitor", "message"),
    [
        ("val_blue", "`monitor` is 'val_blue'; expected one of accuracy, loss, which this run computes"),
        ("val_loss", "`monitor` is 'val_loss'; expected one of .*; names with val_ need validation data"),
    ],
)
def test_a_monitor_that_is_not_computed_is_an_error_before_training(tokenizer, tmp_path, monitor, message):
    model, directory = small_model(tokenizer), tmp_path / "run"
    batches = ka.data.language_batches(TEXTS, model)
    with pytest.raises(ValueError, match=message):
        ka.train(model, batches, directory, ka.training.TrainingPlan(monitor=monitor))
    assert not directory.exists()


@pytest.mark.usefixtures("untraced")
def test_an_epoch_with_nan_is_never_the_best(tokenizer, tmp_path):
    model, values = small_model(tokenizer), iter([float("nan"), 3.0, float("nan")])
    plan = ka.training.TrainingPlan(epochs=3, monitor="val_bleu")
    ka.train(
        model,
        ka.data.language_batches(TEXTS, model),
        tmp_path,
        plan,
        extra_metrics=lambda _: {"val_bleu": next(values)},
    )
    assert load_arrays(tmp_path / "checkpoint.npz")[1]["best_epoch"] == 2
