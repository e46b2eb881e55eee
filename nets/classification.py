"""Classification: a boundary turns itself between two clouds. Tutorial, 分类."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from charts.chart import Chart, Heatmap, Panel, Points, as_array
from charts.text import Text
from lab import prose
from lab.data import two_blobs
from lab.diagnosis import Evaluation
from lab.lesson import Port, Training, View
from lab.settings import NOISE, Config, hidden_units, learning_rate, number, seed, steps
from lab.training import LOSS, TEST_LOSS, Learner, Trainer

TEST_POINTS = 500  # of each class: few would misjudge a net that is rarely wrong
GRID = 64  # squares along each side of the map of probabilities


PROSE = prose.read(__file__)

IDEAS: dict[str, dict[str, Any]] = {
    "let_the_clouds_overlap": {"noise": 3.0},
    "hurry": {"learning_rate": 1.0},
    "too_fast": {"learning_rate": 5.0, "noise": 3.0},
}


@dataclass(frozen=True, kw_only=True)
class ClassificationConfig(Config):
    """The tutorial's settings."""

    learning_rate: float = learning_rate(0.02)
    steps: int = steps(100)
    hidden_units: int = hidden_units(10)
    points: int = number(
        100,
        Text("Points of each class", "每类点数"),
        2,
        500,
        step=1,
        info=Text("Samples to learn from", "用来学习的样本"),
    )
    noise: float = number(1.0, NOISE, 0.0, 4.0, step=0.05, info=Text("Standard deviation of a cloud", "一团点的标准差"))
    seed: int = seed()


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
        self.test_x, self.test_y = two_blobs(TEST_POINTS, self.config.noise)

        reach = self.x.abs().max().item() * 1.05  # a square about the origin that holds every point
        self.extent = (-reach, reach)
        axis = torch.linspace(-reach, reach, GRID)
        rows, columns = torch.meshgrid(axis, axis, indexing="ij")
        self.grid = torch.stack((columns.flatten(), rows.flatten()), dim=1)  # (GRID², 2)

    def show(self, now: Sequence[Evaluation]) -> View:
        accuracy = (now[0].prediction.argmax(dim=1) == self.y).double().mean().item()
        probability = F.softmax(self.learners[0].net(self.grid), dim=1)[:, 1].reshape(GRID, GRID)
        x, n = as_array(self.x), self.config.points
        extent = as_array(self.extent)
        plane = Panel(
            Text("Points and decision boundary", "数据点与分界线"),
            "x₁",
            "x₂",
            (
                Heatmap(Text("probability of class 1", "属于类别 1 的概率"), extent, extent, as_array(probability)),
                Points(Text("class 0", "类别 0"), x[:n, 0], x[:n, 1], color=0),
                Points(Text("class 1", "类别 1"), x[n:, 0], x[n:, 1], color=1, marker="triangle"),
            ),
            x_range=self.extent,
            y_range=self.extent,
        )
        loss = self.loss_panel(Text("cross entropy", "交叉熵"), now)
        return View(Chart((plane, loss)), {**self.figures(now), "accuracy": accuracy})


LESSON = Training(
    key="classification",
    group="first",
    prose=PROSE,
    config=ClassificationConfig,
    ideas=IDEAS,
    sources=(Net, ClassificationTrainer.setup),
    trainer=ClassificationTrainer,
    task="classification",
    inputs=Port(("x₁", "x₂"), Text("numbers, a point of the plane", "两个数，平面上的一个点")),
    outputs=Port(
        ("class 0", "class 1"), Text("scores; softmax makes them probabilities", "得分；softmax 把得分变成概率")
    ),
    metrics={"loss": LOSS, "test loss": TEST_LOSS, "accuracy": Text("accuracy", "准确率")},
    classes=("class 0", "class 1"),
)
