"""Plans, schedules and losses with impossible values are an error."""

import math

import pytest

import keras_attention as ka
from keras_attention.training import WarmUp

PLANS = [  # options, error
    ({"epochs": 0}, "`epochs` is 0; expected a positive integer"),
    ({"learning_rate": math.nan}, "`learning_rate` is nan; expected a finite number above 0"),
    ({"label_smoothing": 1.5}, "`label_smoothing` is 1.5"),
    ({"layer_decay": 0.0}, "`layer_decay` is 0.0"),
    ({"weight_decay": -1.0}, "`weight_decay` is -1.0"),
    ({"seed": -1}, "`seed` is -1"),
    ({"monitor": "reward", "average_checkpoints": 2}, "computed on captions that are sampled in training"),
    ({"schedule": "cosin"}, "expected one of constant, linear, cosine"),
]


@pytest.mark.parametrize(("options", "message"), PLANS)
def test_a_plan_with_impossible_values_is_an_error(options, message):
    with pytest.raises(ValueError, match=message):
        ka.training.TrainingPlan(**options)


def test_a_schedule_without_warm_up_and_a_loss_of_smoothing_1_are_errors():
    with pytest.raises(ValueError, match="`warmup_steps` is 0"):
        WarmUp(1.0, 0, 10)
    with pytest.raises(ValueError, match="expected a number in"):
        ka.training.MaskedCrossEntropy(1.0)


@pytest.mark.parametrize("options", [{"epochs": 1.5}, {"epochs": "3"}, {"learning_rate": "1e-3"}, {"seed": None}])
def test_a_value_of_a_plan_of_another_type_is_an_error(options):
    with pytest.raises(TypeError, match=r"`.*` is .*; expected (an integer|a number)"):
        ka.training.TrainingPlan(**options)
