"""Classification: what it shows of the tutorial, and what its ideas claim."""

import numpy as np
import pytest

from charts import browser
from lab.training import Trainer
from nets.classification import LESSON
from tests.conftest import Train


@pytest.mark.parametrize("seed", [2, 6, 7])
def test_the_tutorials_settings_learn(seed: int) -> None:
    trainer = Trainer(LESSON, LESSON.recipe({"seed": seed}))
    before = trainer.snapshot().metrics["loss"]
    trainer.finish()
    assert trainer.snapshot().metrics["loss"] < before / 5
    assert trainer.snapshot().metrics["accuracy"] > 0.98


@pytest.mark.parametrize("seed", [2, 3, 4])
def test_no_border_is_right_for_all_points_of_overlapping_clouds(seed: int, train: Train) -> None:
    metrics = (
        train("classification", **{"steps": 100, **LESSON.suggestions[0].settings, "seed": seed}).snapshot().metrics
    )
    assert 0.6 < metrics["accuracy"] < 1


@pytest.mark.parametrize("seed", [2, 3, 4])
def test_a_learning_rate_of_1_learns_in_a_few_steps(seed: int, train: Train) -> None:
    metrics = (
        train("classification", **{"steps": 10, **LESSON.suggestions[1].settings, "seed": seed}).snapshot().metrics
    )
    assert metrics["accuracy"] > 0.97


def test_a_learning_rate_of_5_diverges_on_overlapping_clouds(train: Train) -> None:
    assert train("classification", **{"steps": 100, **LESSON.suggestions[2].settings}).diverged


def test_the_chart_keeps_its_structure_whatever_the_settings(train: Train) -> None:
    one, two = (train("classification", **each).snapshot().chart for each in ({}, {"hidden_units": 3, "points": 9}))
    assert browser.structure(one) == browser.structure(two)


def test_classification_draws_two_clouds_about_2_and_minus_2() -> None:
    trainer = Trainer(LESSON, LESSON.recipe())
    assert trainer.experiment.train.x.shape == (200, 2)
    assert trainer.experiment.train.y.tolist() == [0] * 100 + [1] * 100
    np.testing.assert_allclose(trainer.experiment.train.x[:100].mean(dim=0), 2, atol=0.4)
    np.testing.assert_allclose(trainer.experiment.train.x[100:].mean(dim=0), -2, atol=0.4)


def test_the_net_has_the_tutorials_layers() -> None:
    assert list(Trainer(LESSON, LESSON.recipe()).learners[0].net._modules) == ["hidden", "out"]
