"""Regression: what it shows of the tutorial, and what its ideas claim."""

import pytest
import torch

from charts import browser
from charts.text import said
from lab.training import Trainer
from nets.regression import LESSON
from tests.conftest import Train


@pytest.mark.parametrize("seed", [2, 6, 7])
def test_the_tutorials_settings_learn(seed: int) -> None:
    trainer = Trainer(LESSON, LESSON.recipe({"seed": seed}))
    before = trainer.snapshot().metrics["loss"]
    trainer.finish()
    assert trainer.snapshot().metrics["loss"] < before / 5


def test_all_units_die_with_seed_1_as_the_first_idea_says(train: Train) -> None:
    trainer = train("regression", **{"steps": 100, **LESSON.suggestions[0].settings})
    hidden = trainer.learners[0].net.get_submodule("hidden")
    assert not (hidden(trainer.experiment.train.x) > 0).any()
    assert "All ReLUs are dead, 10 of 10" in said(trainer.snapshot().diagnosis[0].text, "en")


def test_a_learning_rate_of_3_diverges_as_the_second_idea_says(train: Train) -> None:
    assert train("regression", **{"steps": 100, **LESSON.suggestions[1].settings}).diverged


@pytest.mark.parametrize("seed", [2, 3, 4])
def test_a_net_can_learn_noise_by_heart_as_the_third_idea_says(seed: int, train: Train) -> None:
    snapshot = train("regression", **{**LESSON.suggestions[2].settings, "seed": seed}).snapshot()
    assert snapshot.metrics["loss"] < 1 / 12 / 2
    assert snapshot.metrics["test loss"] > 1 / 12
    assert any("Overfitting" in said(note.text, "en") for note in snapshot.diagnosis)


def test_the_chart_keeps_its_structure_whatever_the_settings(train: Train) -> None:
    one, two = (train("regression", **each).snapshot().chart for each in ({}, {"hidden_units": 3, "points": 9}))
    assert browser.structure(one) == browser.structure(two)


def test_regression_draws_the_tutorials_data() -> None:
    trainer = Trainer(LESSON, LESSON.recipe())
    torch.testing.assert_close(trainer.experiment.train.x, torch.unsqueeze(torch.linspace(-1, 1, 100), dim=1))
    rest = trainer.experiment.train.y - trainer.experiment.train.x.pow(2)
    assert 0 <= rest.min() < rest.max() <= 0.2


def test_the_net_has_the_tutorials_layers() -> None:
    assert list(Trainer(LESSON, LESSON.recipe()).learners[0].net._modules) == ["hidden", "predict"]
