"""Regression: a line bends itself into a parabola. Tutorial, 回归Regression."""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from charts.chart import Chart, Line, Panel, Points, as_array
from nets.data import noisy_square
from nets.lesson import Config, Lesson, Port, seed_setting, setting
from nets.training import Learner, Trainer

SUMMARY = """
**Ten bent lines learn a parabola.** Each hidden unit is a straight line that ReLU cuts off at zero; the output
layer adds them up. Training moves the bends until their sum follows the points.
"""

TEXT = """
- **Press Train** and watch the red line; the loss is the mean squared distance from the points.
- **Look closely** at the fit: it is made of straight pieces. How many do 3 hidden units give? And 100?
- **Try a learning rate** of 0.05, then 3. Too small is slow; too large leaps over the valley and never lands.
- **Try seed 1.** At this learning rate the first leaps can kill units: their inputs turn negative everywhere, ReLU
  gives 0, and no gradient comes back. Here all ten die, and the fit is a flat line; one seed in four ends much like
  it. A learning rate of 0.1 spares most of them.
- **Noise sets a floor**: no net does better than the spread of the points themselves, noise² / 12.

*Then and now.* The old notes wrap tensors in `Variable` and read them by `.data.numpy()`. `Variable` has done
nothing since torch 0.4: every tensor can record gradients. `prediction.numpy()` on a tensor that records them
raises RuntimeError; `.detach().numpy()`, or `torch.no_grad()` around the evaluation as here, is the way now.
"""


@dataclass(frozen=True, kw_only=True)
class RegressionConfig(Config):
    """The tutorial's settings."""

    learning_rate: float = setting(0.5, "Learning rate", 0.0001, 10.0, info="How far each step goes")
    steps: int = setting(100, "Steps", 1, 2000, step=1)
    hidden_units: int = setting(10, "Hidden units", 1, 100, step=1)
    points: int = setting(100, "Points", 2, 1000, step=1)
    noise: float = setting(0.2, "Noise", 0.0, 1.0, step=0.01)
    seed: int = seed_setting()


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

    def show(self) -> tuple[dict[str, float], Chart]:
        learner = self.learners[0]
        prediction = learner.net(self.x)
        loss = self.loss_func(prediction, self.y).item()
        x = as_array(self.x[:, 0])
        fit = Panel(
            "Data and fit",
            "x",
            "y",
            (
                Points("data", x, as_array(self.y[:, 0])),
                Line("prediction", x, as_array(prediction[:, 0]), color=1),
            ),
            x_range=(-1.05, 1.05),
            y_range=(-0.1, 1.1 + self.config.noise),
        )
        return {"loss": loss}, Chart((fit, self.loss_panel("mean squared error", [loss])))


LESSON = Lesson(
    key="regression",
    title="Regression",
    summary=SUMMARY,
    text=TEXT,
    task="regression",
    config=RegressionConfig,
    trainer=RegressionTrainer,
    inputs=Port(("x",), "number, trained on -1 to 1"),
    outputs=Port(("y",), "number, the prediction of x²"),
)
