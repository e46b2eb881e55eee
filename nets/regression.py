"""Regression: a line bends itself into a parabola. Tutorial, 回归Regression."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from charts.chart import Chart, Line, Panel, Points, as_array
from charts.text import Text
from lab import prose
from lab.data import noisy_square
from lab.diagnosis import Evaluation
from lab.lesson import Port, Training, View
from lab.settings import NOISE, POINTS, Config, hidden_units, learning_rate, number, seed, steps
from lab.training import LOSS, TEST_LOSS, Learner, Trainer

PROSE = prose.read(__file__)

IDEAS: dict[str, dict[str, Any]] = {
    "kill_the_relus": {"seed": 1},
    "leap_across_the_valley": {"learning_rate": 3.0},
    "learn_noise_by_heart": {"points": 10, "noise": 1.0, "hidden_units": 100, "learning_rate": 0.1, "steps": 2000},
}


@dataclass(frozen=True, kw_only=True)
class RegressionConfig(Config):
    """The tutorial's settings."""

    learning_rate: float = learning_rate(0.5)
    steps: int = steps(100)
    hidden_units: int = hidden_units(10)
    points: int = number(100, POINTS, 2, 1000, step=1, info=Text("Samples to learn from", "用来学习的样本"))
    noise: float = number(
        0.2,
        NOISE,
        0.0,
        1.0,
        step=0.01,
        info=Text("How far points lie above the parabola, at most", "数据点最多高出抛物线多少"),
    )
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


class RegressionTrainer(Trainer[RegressionConfig]):
    """Every step sees the whole training set."""

    def setup(self) -> None:
        self.x, self.y = noisy_square(self.config.points, self.config.noise)
        sizes = {"n_features": 1, "n_hidden": self.config.hidden_units, "n_output": 1}
        net = Net(**sizes)
        optimizer = torch.optim.SGD(net.parameters(), lr=self.config.learning_rate)
        self.learners = [Learner("net", net, sizes, optimizer)]
        self.loss_func = nn.MSELoss()
        self.steps = self.config.steps
        self.test_x, self.test_y = noisy_square(self.config.points, self.config.noise)

    def show(self, now: Sequence[Evaluation]) -> View:
        x = as_array(self.x[:, 0])
        fit = Panel(
            Text("Data and fit", "数据与拟合"),
            "x",
            "y",
            (
                Points(Text("data", "数据"), x, as_array(self.y[:, 0])),
                Line(Text("prediction", "预测"), x, as_array(now[0].prediction[:, 0]), color=1),
            ),
            x_range=(-1.05, 1.05),
            y_range=(-0.1, 1.1 + self.config.noise),
        )
        loss = self.loss_panel(Text("mean squared error", "均方误差"), now)
        return View(Chart((fit, loss)), self.figures(now))


LESSON = Training(
    key="regression",
    group="first",
    prose=PROSE,
    config=RegressionConfig,
    ideas=IDEAS,
    sources=(Net, RegressionTrainer.setup),
    trainer=RegressionTrainer,
    task="regression",
    inputs=Port(("x",), Text("a number", "一个数")),
    outputs=Port(("y",), Text("a number, the prediction of y", "一个数，对 y 的预测")),
    metrics={"loss": LOSS, "test loss": TEST_LOSS},
)
