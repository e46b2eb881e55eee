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
**Bent lines add up to a parabola.** Each of the net's hidden units is a straight line that the function ReLU cuts off
at zero; the output layer adds them up. Training moves the bends, step by step, until the sum follows the points.
"""

TEXT = """
### Try this

- **Press Train** and watch the red line. The loss is the mean squared vertical distance between line and points;
  each step moves every weight a little downhill.
- **Look closely at the fit:** it is made of straight pieces, at most one more than there are hidden units. Try 1 unit,
  then 3, then 20.
- **Learning rate 0.05** gets there slowly. **Learning rate 3** leaps across the valley, lands higher each time, and
  the run ends as soon as a number overflows: it diverged.
- **Seed 1** is bad luck: the first leaps kill units. Their inputs turn negative everywhere, ReLU gives 0, and no
  gradient comes back to mend it. Here all ten die, and the line stays flat. With the tutorial's learning rate about
  one seed in four ends like this; 0.1 with 500 steps spares nearly all.
- **Learn noise by heart:** 10 points, noise 1, 100 units, learning rate 0.1, 2000 steps. The loss falls below the
  variance of the noise, noise² / 12, which no net can beat on points that it has not seen. That is overfitting.

### Then and now

Older PyTorch tutorials wrap tensors in `Variable` and read results by `.data.numpy()`. `Variable` has done nothing
since torch 0.4: every tensor can record gradients. Calling `prediction.numpy()` on one that does raises
*RuntimeError: Can't call numpy() on Tensor that requires grad*; `.detach().numpy()`, or `torch.no_grad()` around the
evaluation as here, is the way today.
"""


@dataclass(frozen=True, kw_only=True)
class RegressionConfig(Config):
    """The tutorial's settings."""

    learning_rate: float = setting(0.5, "Learning rate", 0.0001, 10.0, info="How far a step goes")
    steps: int = setting(100, "Steps", 1, 2000, step=1, info="How often the weights are updated")
    hidden_units: int = setting(10, "Hidden units", 1, 100, step=1, info="Bent lines to add up")
    points: int = setting(100, "Points", 2, 1000, step=1, info="Samples to learn from")
    noise: float = setting(0.2, "Noise", 0.0, 1.0, step=0.01, info="How far points lie above the parabola, at most")
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
    inputs=Port(("x",), "a number"),
    outputs=Port(("y",), "a number, the prediction of y"),
)
