"""What each lesson shows of the tutorial, lesson by lesson."""

import numpy as np
import pytest
import torch

from charts import browser
from nets import LESSONS
from tests.conftest import Train


@pytest.mark.parametrize("key", ["regression", "classification"])
@pytest.mark.parametrize("seed", [2, 6, 7])
def test_the_tutorials_settings_learn(key: str, seed: int) -> None:
    trainer = LESSONS[key].trainer(LESSONS[key].config.parse({"seed": seed}))
    before = trainer.snapshot().metrics["loss"]
    while not trainer.done:
        trainer.step()
    assert trainer.snapshot().metrics["loss"] < before / 5


def test_all_units_die_with_seed_1_as_the_text_says(train: Train) -> None:
    trainer = train("regression", seed=1, steps=100)
    hidden = trainer.learners[0].net.get_submodule("hidden")
    assert not (hidden(trainer.x) > 0).any()


def test_a_net_can_learn_noise_by_heart_as_the_text_says(train: Train) -> None:
    settings = {"points": 10, "noise": 1.0, "hidden_units": 100, "learning_rate": 0.1, "steps": 2000}
    assert train("regression", **settings).snapshot().metrics["loss"] < 1 / 12 / 2


@pytest.mark.parametrize(
    ("key", "settings"),
    [("regression", {"learning_rate": 3.0}), ("classification", {"learning_rate": 5.0, "noise": 3.0})],
)
def test_settings_that_the_text_calls_diverging_diverge(key: str, settings: dict[str, float], train: Train) -> None:
    assert train(key, **{"steps": 100, **settings}).diverged


@pytest.mark.parametrize("key", ["regression", "classification"])
def test_the_chart_keeps_its_structure_whatever_the_settings(key: str, train: Train) -> None:
    one, two = train(key).snapshot().chart, train(key, hidden_units=3, points=9).snapshot().chart
    assert browser.structure(one) == browser.structure(two)


def test_regression_draws_the_tutorials_data() -> None:
    trainer = LESSONS["regression"].trainer(LESSONS["regression"].config())
    torch.testing.assert_close(trainer.x, torch.unsqueeze(torch.linspace(-1, 1, 100), dim=1))
    rest = trainer.y - trainer.x.pow(2)
    assert 0 <= rest.min() < rest.max() <= 0.2


def test_classification_draws_two_clouds_about_2_and_minus_2() -> None:
    trainer = LESSONS["classification"].trainer(LESSONS["classification"].config())
    assert trainer.x.shape == (200, 2)
    assert trainer.y.tolist() == [0] * 100 + [1] * 100
    np.testing.assert_allclose(trainer.x[:100].mean(dim=0), 2, atol=0.4)
    np.testing.assert_allclose(trainer.x[100:].mean(dim=0), -2, atol=0.4)


def test_the_nets_have_the_tutorials_layers() -> None:
    names = {key: list(LESSONS[key].trainer(LESSONS[key].config()).learners[0].net._modules) for key in LESSONS}
    assert names == {"regression": ["hidden", "predict"], "classification": ["hidden", "out"]}
