"""Losses, schedules and metrics by hand; resuming, averaging and selecting checkpoints; atomic files."""

import math
import signal
import subprocess
import sys

import keras
import numpy as np
import pytest
from conftest import PAIRS, gradient, jax_environment

import keras_attention as ka
from keras_attention.metrics import MaskedAccuracy, Perplexity, evaluate_by_length, evaluate_texts
from keras_attention.storage import atomic_directory, atomic_write
from keras_attention.training import WarmUp
from keras_attention.training.checkpoints import assign, average_weights, load_arrays, save_arrays
from keras_attention.training.optimizers import Adam
from keras_attention.training.run import default_monitor


def random(*shape):
    return np.random.default_rng([3, *shape]).normal(size=shape).astype("float32")


@pytest.mark.parametrize("smoothing", [0.0, 0.1, 0.3])
def test_the_loss_is_the_cross_entropy_with_the_smoothed_distribution(smoothing):
    logits, labels = random(2, 3, 5), np.array([[1, 4, 0], [2, 2, 3]])
    weights = np.array([[1, 1, 0], [1, 0, 0]], "float32")
    log_p = logits - np.log(np.exp(logits).sum(-1, keepdims=True))
    smoothed = np.eye(5)[labels] * (1 - smoothing) + smoothing / 5
    expected = (-(smoothed * log_p).sum(-1) * weights).sum() / weights.sum()
    loss = ka.training.MaskedCrossEntropy(smoothing)(labels, logits, sample_weight=weights)
    np.testing.assert_allclose(float(loss), expected, rtol=1e-5)


@pytest.mark.parametrize("smoothing", [0.0, 0.3])
def test_the_gradient_of_the_loss_is_the_distribution_minus_the_smoothed_one(smoothing):
    logits, labels, weights = random(2, 3, 5), np.array([[1, 4, -1], [2, 2, 3]]), np.array([[2.0, 1, 0], [-3, 1, 1]])
    p = np.exp(logits) / np.exp(logits).sum(-1, keepdims=True)
    smoothed = np.eye(5)[labels] * (1 - smoothing) + smoothing / 5
    loss = ka.training.MaskedCrossEntropy(smoothing)
    actual = gradient(lambda x: loss(labels, x, sample_weight=weights.astype("float32")), logits)
    np.testing.assert_allclose(actual, (p - smoothed) * weights[:, :, None] / 8, atol=1e-6)


def test_adam_equals_that_of_keras():
    weights = [[keras.Variable(random(*shape)) for shape in ((3, 5), (7,))] for _ in range(2)]
    options = {"learning_rate": WarmUp(0.1, 2, 9), "beta_2": 0.98, "epsilon": 1e-9, "global_clipnorm": 1.0}
    for kind, variables in zip((keras.optimizers.Adam, Adam), weights, strict=True):
        optimizer = kind(**options)
        for step in range(3):
            optimizer.apply([keras.ops.array(random(step + 1, *v.shape)[step]) for v in variables], variables)
    for one, two in zip(*weights, strict=True):
        np.testing.assert_allclose(np.array(one), np.array(two), atol=1e-6)


def test_logits_of_a_mixed_policy_are_computed_in_half_precision():
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy("mixed_bfloat16")
    try:
        sizes = {"width": 14, "num_layers": 1, "num_heads": 2, "intermediate_dim": 5, "vocabulary_size": 11}
        embedding = ka.CausalLM.from_preset("gpt2_small", **sizes).embedding
    finally:
        keras.config.set_dtype_policy(before)
    logits = embedding(keras.ops.ones((2, 3, 14)), reverse=True)
    assert keras.backend.standardize_dtype(logits.dtype) == "bfloat16"


def test_a_negative_weight_makes_a_token_less_likely():
    logits, labels, weights = random(1, 3, 5), np.array([[1, 4, 0]]), np.array([[2.0, -1.0, 0.0]], "float32")
    cost = -(logits - np.log(np.exp(logits).sum(-1, keepdims=True)))[0, [0, 1, 2], labels[0]]
    loss = ka.training.MaskedCrossEntropy()(labels, logits, sample_weight=weights)
    np.testing.assert_allclose(float(loss), (2 * cost[0] - cost[1]) / 3, rtol=1e-5)


def test_the_loss_agrees_with_keras():
    logits, labels = random(7, 5), np.array([1, 4, 0, 2, 2, 3, 1])
    theirs = keras.losses.CategoricalCrossentropy(from_logits=True, label_smoothing=0.2)
    ours = ka.training.MaskedCrossEntropy(0.2)
    np.testing.assert_allclose(float(ours(labels, logits)), float(theirs(np.eye(5)[labels], logits)), rtol=1e-5)


def test_the_loss_of_half_precision_logits_is_float32():
    loss = ka.training.MaskedCrossEntropy()(np.array([[1]]), keras.ops.cast(random(1, 1, 5), "bfloat16"))
    assert keras.backend.standardize_dtype(loss.dtype) == "float32"


def test_metrics_by_hand():
    logits = np.log(np.array([[[0.25, 0.75], [0.5, 0.5]]], "float32"))
    accuracy, perplexity = MaskedAccuracy(), Perplexity()
    for metric in (accuracy, perplexity):
        metric.update_state([[1, 0]], logits, sample_weight=[[1.0, 0.0]])
    assert float(accuracy.result()) == 1.0
    np.testing.assert_allclose(float(perplexity.result()), 4 / 3, rtol=1e-5)


@pytest.mark.parametrize(
    ("schedule", "at_55"),
    [("constant", 1.0), ("linear", 0.5), ("cosine", 0.5), ("inverse_sqrt", math.sqrt(10 / 55))],
)
def test_schedule_by_hand(schedule, at_55):
    schedule = WarmUp(2.0, warmup_steps=10, total_steps=100, schedule=schedule)
    np.testing.assert_allclose([float(schedule(s)) for s in (0, 4, 55)], [0.2, 1.0, 2 * at_55], rtol=1e-5)
    again = WarmUp.from_config(schedule.get_config())
    assert float(again(37)) == float(schedule(37))


TEXTS = [text for pair in PAIRS[:4] for text in pair]


def small_model(tokenizer, **sizes):
    keras.utils.set_random_seed(5)
    sizes = {"units": 12, "embedding_dim": 7, "dropout": 0.3, "cell": "simple", **sizes}
    return ka.CausalLM.from_preset("char_rnn", tokenizer=tokenizer, **sizes)


def run(model, directory, callbacks=(), **options):
    plan = {"epochs": 4, "learning_rate": 0.02, "warmup_steps": 3, "monitor": "val_loss", **options}
    batches = ka.data.language_batches(TEXTS, model, max_tokens=37, seed=13)
    valid = ka.data.language_batches(TEXTS[:3], model, shuffle=False)
    plan = ka.training.TrainingPlan(**plan)
    return ka.train(model, batches, directory, plan, validation=valid, callbacks=callbacks)


class Stop(keras.callbacks.Callback):
    """Interrupt a run in the middle of an epoch."""

    def __init__(self, epoch: int) -> None:
        super().__init__()
        self.at, self.epoch = epoch, 0

    def on_epoch_begin(self, epoch, logs=None):
        self.epoch = epoch

    def on_train_batch_end(self, batch, logs=None):
        if self.epoch == self.at and batch == 1:
            raise KeyboardInterrupt


@pytest.mark.slow
def test_a_resumed_run_has_the_weights_of_an_uninterrupted_one(tokenizer, tmp_path):
    whole = small_model(tokenizer)
    history = run(whole, tmp_path / "whole", average_checkpoints=2)
    broken = small_model(tokenizer)
    with pytest.raises(KeyboardInterrupt):
        run(broken, tmp_path / "broken", average_checkpoints=2, callbacks=[Stop(2)])
    keras.utils.set_random_seed(99)  # a new process has another random state
    resumed = keras.saving.load_model(tmp_path / "broken" / "model.keras", compile=False)
    again = run(resumed, tmp_path / "broken", average_checkpoints=2)
    for one, two in zip(whole.get_weights(), resumed.get_weights(), strict=True):
        np.testing.assert_array_equal(one, two)
    assert again["loss"] == history["loss"]


PROGRAM = """
import sys
for name in ("sklearn", "tensorflow", "tensorflow_text"):  # JAX starts faster, and has a compilation cache
    sys.modules[name] = None
import keras
import keras_attention as ka
import itertools, os, pathlib, signal
from keras_attention.training.checkpoints import load_arrays
class Kill(keras.callbacks.Callback):  # kill the process in an epoch
    def __init__(self, in_epoch):
        super().__init__()
        self.in_epoch = in_epoch
    def on_epoch_begin(self, epoch, logs=None):
        self.epoch = epoch
    def on_train_batch_end(self, batch, logs=None):
        if self.epoch == self.in_epoch:
            os.kill(os.getpid(), signal.SIGKILL)
def run(path, killed_in):
    keras.utils.set_random_seed(3)
    texts = [" ".join(words) for words in itertools.permutations(("we", "eat", "red"))]  # one length: one program
    if (path / "model.keras").exists():
        model = keras.saving.load_model(path / "model.keras", compile=False)
    else:
        tokenizer = ka.data.train_tokenizer(texts, "characters")
        model = ka.CausalLM.from_preset("char_rnn", tokenizer=tokenizer,
                                        units=12, embedding_dim=7, dropout=0.2, cell="simple")
    batches = ka.data.language_batches(texts, model, max_tokens=32)
    assert len(batches) == 3
    ka.train(model, batches, path, ka.training.TrainingPlan(epochs=5, monitor="loss"), callbacks=[Kill(killed_in)])
    model.save_weights(path / "final.weights.h5")
for name, epoch in ("whole", -1), ("killed", 0), ("killed", 3), ("killed", -1):
    path = pathlib.Path(sys.argv[1], name)
    if not os.fork():  # each run is a process of its own, but they share the time for imports
        run(path, epoch)
        os._exit(0)
    code = os.waitstatus_to_exitcode(os.wait()[1])
    epoch = load_arrays(path / "checkpoint.npz")[1]["epoch"]
    print("run", code, epoch, (path / "final.weights.h5").exists(), flush=True)
"""


@pytest.mark.slow
@pytest.mark.skipif(keras.backend.backend() != "tensorflow", reason="slow: once, on one backend")
def test_a_killed_and_resumed_run_has_the_same_weights(tmp_path):
    command = [sys.executable, "-c", PROGRAM, str(tmp_path)]
    done = subprocess.run(command, env=jax_environment(tmp_path / "programs"), capture_output=True, text=True)
    runs = [line for line in done.stdout.splitlines() if line.startswith("run ")]
    # killed in the first epoch, with only the initial state stored, and in a later one
    killed = [f"run {-signal.SIGKILL} {epoch} False" for epoch in (0, 3)]
    assert [runs[0].split()[1], *runs[1:3], runs[3].split()[1]] == ["0", *killed, "0"], done.stderr[-4000:]
    import h5py

    weights = []
    for name in ("whole", "killed"):
        arrays = {}
        with h5py.File(tmp_path / name / "final.weights.h5") as file:
            file.visititems(
                lambda key, item, arrays=arrays: arrays.update({key: item[()]} if hasattr(item, "shape") else {})
            )
        weights.append(arrays)
    assert weights[0].keys() == weights[1].keys()
    assert len(weights[0]) > 5
    for key, value in weights[0].items():
        np.testing.assert_array_equal(value, weights[1][key], err_msg=key)


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


def test_a_file_is_written_completely_or_not_at_all(tmp_path):
    path = tmp_path / "model.keras"
    path.write_text("the old one")

    def fail(name):
        with open(name, "w") as file:
            file.write("half of the new")
        raise OSError(28, "No space left on device")

    with pytest.raises(OSError, match="No space left"):
        atomic_write(path, fail)
    assert path.read_text() == "the old one"
    assert list(tmp_path.iterdir()) == [path]


def test_a_directory_is_written_completely_or_not_at_all(tmp_path):
    def fill(path, broken):
        with atomic_directory(path) as partial:
            (partial / "a.txt").write_text("half")
            if broken:
                raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fill(tmp_path / "1", broken=True)
    assert not list(tmp_path.iterdir())
    fill(tmp_path / "1", broken=False)
    assert (tmp_path / "1" / "a.txt").read_text() == "half"
    assert list(tmp_path.iterdir()) == [tmp_path / "1"]


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


def test_a_checkpoint_of_another_model_is_an_error(tokenizer):
    with pytest.raises(ValueError, match="do not fit the model"):
        assign(small_model(tokenizer).variables, [np.zeros(3)])


@pytest.mark.slow
def test_mixed_precision_computes_in_bfloat16_with_float32_weights(tokenizer, tmp_path):
    keras.config.set_dtype_policy("mixed_bfloat16")
    try:
        model = small_model(tokenizer)
        history = run(model, tmp_path)
    finally:
        keras.config.set_dtype_policy("float32")
    assert model.decoder.compute_dtype == "bfloat16"
    assert all(str(w.dtype) == "float32" for w in model.trainable_weights)
    assert history["loss"][-1] < history["loss"][0]


@pytest.mark.slow
@pytest.mark.usefixtures("untraced")
def test_a_run_in_bfloat16_is_resumed(tokenizer, tmp_path):
    keras.config.set_dtype_policy("bfloat16")
    try:
        model, again = (
            ka.CausalLM.from_preset(
                "gpt2_small", tokenizer=tokenizer, width=14, num_heads=7, num_layers=1, intermediate_dim=11
            )
            for _ in range(2)
        )
        run(model, tmp_path, epochs=2, average_checkpoints=2)
        before = [np.array(w, "float32") for w in model.weights]
        run(again, tmp_path, epochs=3, average_checkpoints=2)
    finally:
        keras.config.set_dtype_policy("float32")
    assert {str(w.dtype) for w in again.trainable_weights} == {"bfloat16"}
    assert any(not np.array_equal(a, np.array(b, "float32")) for a, b in zip(before, again.weights, strict=True))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: ka.training.TrainingPlan(epochs=0), "`epochs` is 0; expected a finite number above 0"),
        (
            lambda: ka.training.TrainingPlan(learning_rate=float("nan")),
            "`learning_rate` is nan; expected a finite number above 0",
        ),
        (lambda: ka.training.TrainingPlan(label_smoothing=1.5), "`label_smoothing` is 1.5"),
        (lambda: ka.training.TrainingPlan(layer_decay=0.0), "`layer_decay` is 0.0"),
        (lambda: ka.training.TrainingPlan(weight_decay=-1.0), "`weight_decay` is -1.0"),
        (lambda: ka.training.TrainingPlan(seed=-1), "`seed` is -1"),
        (
            lambda: ka.training.TrainingPlan(monitor="reward", average_checkpoints=2),
            "computed on captions that are sampled in training",
        ),
        (lambda: ka.training.TrainingPlan(schedule="cosin"), "expected one of constant, linear, cosine"),
        (lambda: WarmUp(1.0, 0, 10), "`warmup_steps` is 0"),
        (lambda: ka.training.MaskedCrossEntropy(1.0), "expected a number in"),
        (lambda: evaluate_texts(["a"], []), "translations is 1 and that of references 0"),
        (lambda: evaluate_texts(["a b", "c"], [["a b"], []]), "Line 2 has no reference"),
    ],
)
def test_invalid_arguments_are_errors(make, message):
    with pytest.raises(ValueError, match=message):
        make()


@pytest.mark.usefixtures("untraced")
def test_an_unknown_monitor_is_an_error(tokenizer, tmp_path):
    with pytest.raises(
        ValueError, match=r"The monitor 'val_blue' is not computed in this run\. Expected one of accuracy, loss"
    ):
        run(small_model(tokenizer), tmp_path, monitor="val_blue", epochs=1)


def test_bleu_by_hand():
    """One sentence without a brevity penalty: the modified precisions are 6/7, 4/6, 3/5 and 2/4."""
    hypothesis, reference = "the cat sat on the red mat", "the cat sat on the blue mat"
    expected = 100 * math.exp(sum(map(math.log, (6 / 7, 4 / 6, 3 / 5, 2 / 4))) / 4)
    scores = evaluate_texts([hypothesis], [reference])
    np.testing.assert_allclose(scores.bleu, expected, rtol=1e-4)
    assert "tok:13a" in scores.bleu_signature
    assert "case:mixed" in scores.bleu_signature


def test_scores_are_case_sensitive_unless_lowercase_is_true():
    hypothesis, reference = ["We Eat Fresh Bread Today"], ["we eat fresh bread today"]
    assert evaluate_texts(hypothesis, reference).bleu < 1
    np.testing.assert_allclose(evaluate_texts(hypothesis, reference, lowercase=True).bleu, 100)


def test_scores_by_length_counts_words():
    sources = ["a b c", "a b c d e f g h i", "x y"]
    bins = evaluate_by_length(sources, ["same words in here"] * 3, ["same words in here"] * 3, edges=(3, 9))
    assert {name: count for name, (count, _) in bins.items()} == {"1-2": 1, "3-8": 1, "9+": 1}


@pytest.mark.usefixtures("untraced")
def test_without_validation_the_training_loss_is_the_monitor(tokenizer, tmp_path):
    model = small_model(tokenizer)
    plan = ka.training.TrainingPlan(epochs=2, average_checkpoints=2)
    history = ka.train(model, ka.data.language_batches(TEXTS, model), tmp_path, plan)
    assert len(history["loss"]) == 2


@pytest.mark.parametrize("monitor", ["loss", pytest.param("val_loss", marks=pytest.mark.slow)])
def test_the_average_is_used_if_it_is_better(tokenizer, tmp_path, monitor):
    """The average and the best epoch (here the last) are compared on the same loss, without dropout."""
    model = small_model(tokenizer, dropout=0.1)
    run(model, tmp_path, monitor=monitor, average_checkpoints=4)
    valid = ka.data.language_batches(TEXTS if monitor == "loss" else TEXTS[:3], model, shuffle=False)
    final = model.evaluate(valid, verbose=0, return_dict=True)["loss"]
    arrays, metadata = load_arrays(tmp_path / "checkpoint.npz")
    assign(model.variables[: len(model.get_weights())], arrays[: len(model.get_weights())])
    last = model.evaluate(valid, verbose=0, return_dict=True)["loss"]
    average_weights(model, sorted(tmp_path.glob("weights-*.npz")))
    averaged = model.evaluate(valid, verbose=0, return_dict=True)["loss"]
    assert metadata["best_epoch"] == ("average_checkpoints" if averaged < last else 4)
    if averaged < last:
        np.testing.assert_allclose(metadata["best"], averaged, rtol=1e-4)
    np.testing.assert_allclose(final, min(last, averaged), rtol=1e-4)


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


@pytest.mark.usefixtures("untraced")
def test_a_damaged_checkpoint_is_an_error(tokenizer, tmp_path):
    run(small_model(tokenizer), tmp_path, epochs=1)
    whole = (tmp_path / "checkpoint.npz").read_bytes()
    (tmp_path / "checkpoint.npz").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(ValueError, match=r"checkpoint\.npz is damaged"):
        run(small_model(tokenizer), tmp_path, epochs=2)


def test_a_monitor_that_cannot_be_computed_is_an_error_before_training(tokenizer, tmp_path):
    model = small_model(tokenizer)
    with pytest.raises(ValueError, match="names with val_ need validation data"):
        ka.train(
            model,
            ka.data.language_batches(TEXTS, model),
            tmp_path / "r",
            ka.training.TrainingPlan(monitor="val_loss"),
        )
    assert not (tmp_path / "r").exists()


@pytest.mark.usefixtures("untraced")
def test_resuming_another_models_run_is_an_error_and_a_finished_run_a_warning(tokenizer, tmp_path):
    run(small_model(tokenizer), tmp_path, epochs=1)
    with pytest.warns(UserWarning, match="is finished; its best model is used"):
        run(small_model(tokenizer), tmp_path, epochs=1)
    with pytest.raises(ValueError, match="another config or vocabulary"):
        run(small_model(tokenizer, units=14), tmp_path, epochs=1)


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
