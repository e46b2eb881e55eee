"""Classification: a boundary turns itself between two clouds. Tutorial, 分类."""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from charts.chart import Chart, Heatmap, Panel, Points, as_array
from nets.data import two_blobs
from nets.lesson import Config, Lesson, Port, seed_setting, setting
from nets.training import Learner, Trainer

GRID = 64  # squares along each side of the map of probabilities

SUMMARY = """
**A net draws the border between two clouds.** It gives every point of the plane two scores, one for each class, and
the function softmax turns them into probabilities: the colors behind the points. Where they fade, the net is undecided.
"""

TEXT = """
### Try this

- **Press Train** and watch the border turn until each cloud lies on its own side.
- **The loss falls on** after the accuracy has reached 100 %. Accuracy counts who wins; the loss, cross entropy, asks
  how sure the net was of the right class, and the net grows surer.
- **Raise the noise** to 2 or 3 until the clouds overlap. Which points does the net give up on, and is it wrong to?
- **Learning rate 5** is far too large for regression, and here it learns in a few steps: well-separated clouds forgive
  it. Give it noise 3 as well, and it diverges.
- **1 hidden unit** can only draw a straight border. Does it need more for two clouds?

### Then and now

`CrossEntropyLoss` takes scores, not probabilities, and labels as int64 class numbers. Older PyTorch tutorials cast
with `.type(torch.LongTensor)`; `.long()` says the same. Without it `torch.zeros(100)` is float32, and the loss raises
*RuntimeError: expected target dtype to be Long or Byte, but got Float*.
"""


@dataclass(frozen=True, kw_only=True)
class ClassificationConfig(Config):
    """The tutorial's settings."""

    learning_rate: float = setting(0.02, "Learning rate", 0.0001, 10.0, info="How far a step goes")
    steps: int = setting(100, "Steps", 1, 2000, step=1, info="How often the weights are updated")
    hidden_units: int = setting(10, "Hidden units", 1, 100, step=1, info="Bends that the border may have")
    points: int = setting(100, "Points of each class", 2, 500, step=1, info="Samples to learn from")
    noise: float = setting(1.0, "Noise", 0.0, 4.0, step=0.05, info="Standard deviation of a cloud")
    seed: int = seed_setting()


class Net(nn.Module):
    """One hidden layer: (N, n_feature) -> (N, n_output) scores, one for each class."""

    def __init__(self, n_feature: int, n_hidden: int, n_output: int) -> None:
        super().__init__()
        self.hidden = nn.Linear(n_feature, n_hidden)
        self.out = nn.Linear(n_hidden, n_output)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.hidden(x))  # (N, n_hidden)
        x = self.out(x)  # (N, n_output), scores: CrossEntropyLoss applies the softmax itself
        return x


class ClassificationTrainer(Trainer[ClassificationConfig]):
    """Every step sees the whole training set."""

    def setup(self) -> None:
        self.x, self.y = two_blobs(self.config.points, self.config.noise)
        sizes = {"n_feature": 2, "n_hidden": self.config.hidden_units, "n_output": 2}
        net = Net(**sizes)
        optimizer = torch.optim.SGD(net.parameters(), lr=self.config.learning_rate)
        self.learners = [Learner("net", net, sizes, optimizer)]
        self.loss_func = nn.CrossEntropyLoss()
        self.steps = self.config.steps

        reach = self.x.abs().max().item() * 1.05  # a square about the origin that holds every point
        self.extent = (-reach, reach)
        axis = torch.linspace(-reach, reach, GRID)
        rows, columns = torch.meshgrid(axis, axis, indexing="ij")
        self.grid = torch.stack((columns.flatten(), rows.flatten()), dim=1)  # (GRID², 2)

    def show(self) -> tuple[dict[str, float], Chart]:
        net = self.learners[0].net
        out = net(self.x)
        loss = self.loss_func(out, self.y).item()
        accuracy = (out.argmax(dim=1) == self.y).double().mean().item()
        probability = F.softmax(net(self.grid), dim=1)[:, 1].reshape(GRID, GRID)
        x, n = as_array(self.x), self.config.points
        extent = as_array(self.extent)
        plane = Panel(
            "Points and decision boundary",
            "x₁",
            "x₂",
            (
                Heatmap("probability of class 1", extent, extent, as_array(probability)),
                Points("class 0", x[:n, 0], x[:n, 1], color=0),
                Points("class 1", x[n:, 0], x[n:, 1], color=1, marker="triangle"),
            ),
            x_range=self.extent,
            y_range=self.extent,
        )
        metrics = {"loss": loss, "accuracy": accuracy}
        return metrics, Chart((plane, self.loss_panel("cross entropy", [loss])))


LESSON = Lesson(
    key="classification",
    title="Classification",
    summary=SUMMARY,
    text=TEXT,
    task="classification",
    config=ClassificationConfig,
    trainer=ClassificationTrainer,
    inputs=Port(("x₁", "x₂"), "numbers, a point of the plane"),
    outputs=Port(("class 0", "class 1"), "scores; softmax makes them probabilities"),
    classes=("class 0", "class 1"),
)
