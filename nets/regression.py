"""Regression: a net fits a noisy parabola. Tutorial, 回归Regression."""

from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from charts.chart import Chart
from charts.text import Text
from lab import plots, prose
from lab.data import NoisySquare
from lab.evaluation import Now
from lab.experiment import Experiment, Learner
from lab.lesson import FeatureSpec, Training, View
from lab.settings import Config, group, hidden_units, learning_rate, seed, steps

IDEAS: dict[str, dict[str, Any]] = {
    "kill_the_relus": {"seed": 1},
    "leap_across_the_valley": {"learning_rate": 3.0},
    "learn_noise_by_heart": {
        "points": 10,
        "noise": 1.0,
        "hidden_units": 100,
        "learning_rate": 0.1,
        "steps": 2000,
    },
}


@dataclass(frozen=True, kw_only=True)
class RegressionConfig(Config):
    """Defaults: the tutorial's settings."""

    learning_rate: float = learning_rate(0.5)
    steps: int = steps(100)
    hidden_units: int = hidden_units(10)
    data: NoisySquare = group(NoisySquare)
    seed: int = seed()


class Net(nn.Module):
    """One hidden layer: (N, n_features) -> (N, n_output)."""

    def __init__(self, n_features: int, n_hidden: int, n_output: int) -> None:
        super().__init__()
        self.hidden = nn.Linear(n_features, n_hidden)
        self.predict = nn.Linear(n_hidden, n_output)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.hidden(x))  # (N, n_hidden)
        x = self.predict(x)  # (N, n_output), linear: a prediction may be any number
        return x


def setup(config: RegressionConfig) -> Experiment:
    """Each step trains on the whole training set."""
    train = config.data.make()
    sizes = {"n_features": 1, "n_hidden": config.hidden_units, "n_output": 1}
    net = Net(**sizes)
    optimizer = torch.optim.SGD(net.parameters(), lr=config.learning_rate)
    learner = Learner("net", net, optimizer, nn.MSELoss(), sizes)
    return Experiment([learner], train, test=config.data.make(), steps=config.steps)


def show(experiment: Experiment, now: Now) -> View:
    """Plot the fit and the loss."""
    y_range = now.config.data.y_range
    fit = plots.fit(plots.DATA_AND_FIT, experiment.train, now.net.prediction, y_range=y_range)
    return View(Chart((fit, plots.losses(experiment, now))), now.losses(experiment))


LESSON = Training(
    key="regression",
    group="first",
    prose=prose.read(__file__),
    config=RegressionConfig,
    ideas=IDEAS,
    sources=(Net, setup),
    setup=setup,
    show=show,
    task="regression",
    inputs=FeatureSpec(("x",), Text("a number", "一个数")),
    outputs=FeatureSpec(("y",), Text("a number, the prediction of y", "一个数，对 y 的预测")),
    metrics={"loss": plots.LOSS, "test loss": plots.TEST_LOSS},
)
