"""Plans, schedules and losses with impossible values are an error."""

import pytest

import keras_attention as ka
from keras_attention.metrics import evaluate_texts
from keras_attention.training import WarmUp


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


def test_an_unknown_field_of_a_plan_has_a_suggestion():
    with pytest.raises(
        TypeError, match=r"A TrainingPlan has no `epoch`\. Did you mean epochs\? Fields: epochs, passes"
    ):
        ka.training.TrainingPlan(epoch=2)


@pytest.mark.parametrize("options", [{"epochs": 1.5}, {"epochs": "3"}, {"learning_rate": "1e-3"}, {"seed": None}])
def test_a_value_of_a_plan_of_another_type_is_an_error(options):
    with pytest.raises(TypeError, match=r"`.*` is .*; expected (an integer|a number)"):
        ka.training.TrainingPlan(**options)
