"""Optimizers: ways down the same hill, side by side. Tutorial, 优化器."""

from collections.abc import Iterable, Sequence
from copy import deepcopy
from dataclasses import dataclass, replace
from itertools import product
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from charts.blocks import Table
from charts.chart import Chart, Line, Panel, Points, as_array
from charts.text import Text, Words, joined
from lab import prose
from lab.data import normal_square, shuffled_batches
from lab.diagnosis import Evaluation
from lab.lesson import Port, Training, View
from lab.settings import Config, choice, choices, hidden_units, learning_rate, number, seed, switch
from lab.training import LOSS, TEST_LOSS, Learner, Trainer

POINTS, NOISE = 1000, 0.1
THINNED = 9  # every ninth of 1000 points draws a fit as well, from the first to the last
DATA = 6  # gray, so that every racer has a color of its own
RANGES = {"linear": (0.0, 0.2), "log": (0.005, 1.0)}  # of the loss


@dataclass(frozen=True)
class Racer:
    """How an optimizer is called and drawn, and how many numbers it keeps for each weight."""

    label: str
    kept: int
    color: int
    dashed: bool = False


RACERS = {
    "sgd": Racer("SGD", 0, 0),
    "momentum": Racer("Momentum", 1, 1),
    "rmsprop": Racer("RMSprop", 1, 2),
    "adam": Racer("Adam", 2, 3),
    "nesterov": Racer("Nesterov", 1, 4),
    "adagrad": Racer("Adagrad", 1, 5),
    "adamw": Racer("AdamW", 2, 0, dashed=True),
}
LABELS = {name: racer.label for name, racer in RACERS.items()}


PROSE = prose.read(__file__)

IDEAS: dict[str, dict[str, Any]] = {
    "a_tenth_of_the_learning_rate": {"learning_rate": 0.001},
    "all_seven_at_0_5": {"learning_rate": 0.5, "optimizers": list(RACERS), "seed": 4},
    "luck_at_the_start": {"same_start": False},
}


@dataclass(frozen=True, kw_only=True)
class OptimizersConfig(Config):
    """The tutorial's settings, but for the same start."""

    optimizers: tuple[str, ...] = choices(
        ("sgd", "momentum", "rmsprop", "adam"),
        Text("Optimizers", "优化器"),
        LABELS,
        info=Text("Who takes part", "谁来参加"),
        least=1,
    )
    learning_rate: float = learning_rate(0.01)
    momentum: float = number(
        0.8,
        Text("Momentum", "动量"),
        0.05,
        0.99,
        step=0.01,
        info=Text("What is left of the last step, for Momentum and Nesterov", "上一步保留多少：Momentum 和 Nesterov"),
    )
    alpha: float = number(
        0.9,
        Text("Alpha", "alpha"),
        0.0,
        0.99,
        step=0.01,
        info=Text("What is left of the mean square, for RMSprop", "平方的均值保留多少：RMSprop"),
    )
    beta1: float = number(
        0.9,
        Text("Beta 1", "beta 1"),
        0.0,
        0.99,
        step=0.01,
        info=Text("What is left of the mean, for Adam and AdamW", "均值保留多少：Adam 和 AdamW"),
    )
    beta2: float = number(
        0.99,
        Text("Beta 2", "beta 2"),
        0.0,
        0.999,
        step=0.001,
        info=Text("What is left of the mean square, for Adam and AdamW", "平方的均值保留多少：Adam 和 AdamW"),
    )
    batch_size: int = number(
        32,
        Text("Batch size", "批大小"),
        10,
        POINTS,
        step=1,
        info=Text("Samples that each step learns from", "每一步用多少个样本"),
    )
    epochs: int = number(
        12,
        Text("Epochs", "epoch 数"),
        1,
        40,
        step=1,
        info=Text("How often all samples are gone through", "全部样本训练多少遍"),
    )
    hidden_units: int = hidden_units(20)
    same_start: bool = switch(
        True,
        Text("Same start", "相同起点"),
        info=Text("All nets begin with the same weights", "所有网络的初始权重相同"),
    )
    scale: str = choice(
        "linear",
        Text("Loss axis", "损失坐标轴"),
        {"linear": Text("linear", "线性"), "log": Text("logarithmic", "对数")},
        info=Text("How the loss is drawn", "怎样画损失"),
        view=True,
    )
    smoothed: bool = switch(
        False, Text("Smoothed", "平滑"), info=Text("Mean of the last 20 losses", "最近 20 个损失的平均值"), view=True
    )
    seed: int = seed(1)


class Net(nn.Module):
    """One hidden layer: (N, 1) -> (N, 1)."""

    def __init__(self, n_hidden: int) -> None:
        super().__init__()
        self.hidden = nn.Linear(1, n_hidden)
        self.predict = nn.Linear(n_hidden, 1)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.hidden(x))  # (N, n_hidden)
        x = self.predict(x)  # (N, 1)
        return x


def make_optimizer(name: str, weights: Iterable[nn.Parameter], config: OptimizersConfig) -> torch.optim.Optimizer:
    """The optimizer of that name. `fused` makes the whole update in one call; RMSprop has no such version."""
    lr, momentum, betas = config.learning_rate, config.momentum, (config.beta1, config.beta2)
    match name:
        case "sgd":
            return torch.optim.SGD(weights, lr=lr, fused=True)
        case "momentum":
            return torch.optim.SGD(weights, lr=lr, momentum=momentum, fused=True)
        case "rmsprop":
            return torch.optim.RMSprop(weights, lr=lr, alpha=config.alpha)
        case "adam":
            return torch.optim.Adam(weights, lr=lr, betas=betas, fused=True)
        case "nesterov":
            return torch.optim.SGD(weights, lr=lr, momentum=momentum, nesterov=True, fused=True)
        case "adagrad":
            return torch.optim.Adagrad(weights, lr=lr, fused=True)
        case "adamw":
            return torch.optim.AdamW(weights, lr=lr, betas=betas, fused=True)
        case _:
            raise ValueError(f"no optimizer is called {name!r}")


class OptimizersTrainer(Trainer[OptimizersConfig]):
    """Every step gives the same batch to every net."""

    def setup(self) -> None:
        self.x, self.y = normal_square(POINTS, NOISE)
        size = {"n_hidden": self.config.hidden_units}
        names = self.config.optimizers
        if self.config.same_start:  # a fair race, and the same one whoever else takes part
            start = Net(**size)
            nets = [deepcopy(start) for _ in names]
        else:  # the tutorial's
            nets = [Net(**size) for _ in names]
        self.learners = [
            Learner(name, net, size, make_optimizer(name, net.parameters(), self.config), RACERS[name].label)
            for name, net in zip(names, nets, strict=True)
        ]
        self.loss_func = nn.MSELoss()
        self.batches = shuffled_batches(self.x, self.y, self.config.batch_size)
        self.steps = self.config.epochs * -(-POINTS // self.config.batch_size)  # rounded up: the rest is a batch too
        self.test_x, self.test_y = normal_square(POINTS, NOISE)

    def batch(self) -> tuple[Tensor, Tensor]:
        """The next slice of the shuffled data."""
        return next(self.batches)

    def show(self, now: Sequence[Evaluation]) -> View:
        return View(Chart((self._race(now), self._fits(now))), self.figures(now), (self._ranking(now),))

    def _race(self, now: Sequence[Evaluation]) -> Panel:
        log, smoothed = self.config.scale == "log", self.config.smoothed
        panel = self.loss_panel(
            Text("mean squared error", "均方误差"),
            now,
            y_range=RANGES[self.config.scale],
            y_scale="log" if log else "linear",
            smoothed=smoothed,
        )
        curves = []
        for learner, curve in zip(self.learners, panel.marks, strict=True):
            assert isinstance(curve, Line)
            curves.append(self._drawn_as(learner, curve))
        noise = Line(
            Text("noise", "噪声"),
            as_array([0, self.steps]),
            as_array([NOISE**2] * 2),
            color=DATA,
            dashed=True,
        )
        return replace(panel, title=Text("Race", "比赛"), marks=(*curves, noise))

    def _fits(self, now: Sequence[Evaluation]) -> Panel:
        x = as_array(self.x[:, 0])
        fits = [
            self._drawn_as(learner, Line("", x[::THINNED], as_array(each.prediction[::THINNED, 0])))
            for learner, each in zip(self.learners, now, strict=True)
        ]
        return Panel(
            Text("Data and fits", "数据与拟合"),
            "x",
            "y",
            (Points(Text("data", "数据"), x, as_array(self.y[:, 0]), color=DATA, size=3), *fits),
            x_range=(-1.05, 1.05),
            y_range=(-0.4, 1.4),
        )

    @staticmethod
    def _drawn_as(learner: Learner, line: Line) -> Line:
        """The line in the learner's own color, whoever else takes part."""
        racer = RACERS[learner.name]
        return replace(line, name=racer.label, color=racer.color, dashed=racer.dashed)

    def _ranking(self, now: Sequence[Evaluation]) -> Table:
        order = sorted(zip(self.learners, now, strict=True), key=lambda pair: pair[1].loss)
        rows = tuple(
            (
                str(place),
                str(RACERS[each.name].label),
                f"{e.loss:.4f}",
                f"{e.test_loss:.4f}",
                str(RACERS[each.name].kept),
            )
            for place, (each, e) in enumerate(order, 1)
        )
        head = (
            Text("place", "名次"),
            Text("optimizer", "优化器"),
            LOSS,
            TEST_LOSS,
            Text("numbers kept for each weight", "每个权重要记几个数"),
        )
        return Table(head, rows, Text("Ranking", "排名"))


def _metrics() -> dict[str, Words]:
    """What `figures` may name, of one racer alone and of several."""
    kinds = {"loss": LOSS, "test loss": TEST_LOSS}
    several: dict[str, Words] = {
        f"{name} {kind}": joined([RACERS[name].label, said], " ")
        for name, (kind, said) in product(RACERS, kinds.items())
    }
    return {**kinds, **several}


LESSON = Training(
    key="optimizers",
    group="better",
    prose=PROSE,
    config=OptimizersConfig,
    ideas=IDEAS,
    sources=(Net, make_optimizer, OptimizersTrainer.setup, OptimizersTrainer.batch, shuffled_batches),
    trainer=OptimizersTrainer,
    task="regression",
    inputs=Port(("x",), Text("a number", "一个数")),
    outputs=Port(("y",), Text("a number, the prediction of y", "一个数，对 y 的预测")),
    metrics=_metrics(),
    headline=("loss", "test loss", *(f"{name} loss" for name in RACERS)),
    pace=5,
)
