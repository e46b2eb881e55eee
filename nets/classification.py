"""Classification: a decision boundary between two clouds of points. Tutorial, 分类."""

from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from charts.chart import Chart
from charts.text import Text
from lab import plots, prose
from lab.data import TwoBlobs
from lab.evaluation import Now
from lab.experiment import Experiment, Learner
from lab.lesson import FeatureSpec, Training, View
from lab.settings import Config, group, hidden_units, learning_rate, seed, steps

IDEAS: dict[str, dict[str, Any]] = {
    "let_the_clouds_overlap": {"noise": 3.0},
    "hurry": {"learning_rate": 1.0},
    "too_fast": {"learning_rate": 5.0, "noise": 3.0},
}

POINT_OF_THE_PLANE = FeatureSpec(("x₁", "x₂"), Text("numbers, a point of the plane", "两个数，平面上的一个点"))
SCORES = FeatureSpec(
    ("class 0", "class 1"), Text("scores; softmax makes them probabilities", "得分；softmax 把得分变成概率")
)


@dataclass(frozen=True, kw_only=True)
class ClassificationConfig(Config):
    """Defaults: the tutorial's settings."""

    learning_rate: float = learning_rate(0.02)
    steps: int = steps(100)
    hidden_units: int = hidden_units(10)
    data: TwoBlobs = group(TwoBlobs)
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


def setup(config: ClassificationConfig) -> Experiment:
    """Each step trains on the whole training set."""
    train = config.data.make()
    sizes = {"n_feature": 2, "n_hidden": config.hidden_units, "n_output": 2}
    net = Net(**sizes)
    optimizer = torch.optim.SGD(net.parameters(), lr=config.learning_rate)
    learner = Learner("net", net, optimizer, nn.CrossEntropyLoss(), sizes)
    return Experiment([learner], train, test=config.data.make_test(), steps=config.steps)


def show(experiment: Experiment, now: Now) -> View:
    """Plot the points with the decision boundary, and the loss."""
    title = Text("Points and decision boundary", "数据点与分界线")
    plane = plots.plane(title, experiment.learners[0].net, experiment.train)
    loss = plots.losses(experiment, now, plots.CROSS_ENTROPY)
    accuracy = (now.net.prediction.argmax(dim=1) == experiment.train.y).double().mean().item()
    return View(Chart((plane, loss)), {**now.losses(experiment), "accuracy": accuracy})


LESSON = Training(
    key="classification",
    group="first",
    prose=prose.read(__file__),
    config=ClassificationConfig,
    ideas=IDEAS,
    sources=(Net, setup),
    setup=setup,
    show=show,
    task="classification",
    inputs=POINT_OF_THE_PLANE,
    outputs=SCORES,
    metrics={"loss": plots.LOSS, "test loss": plots.TEST_LOSS, "accuracy": Text("accuracy", "准确率")},
    classes=SCORES.features,
)
