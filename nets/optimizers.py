"""Optimizers: the same task with several optimizers, side by side. Tutorial, 优化器."""

from copy import deepcopy
from dataclasses import dataclass, replace
from itertools import product
from typing import Any

import torch.nn.functional as F
from torch import Tensor, nn

from charts.blocks import Table
from charts.chart import Chart, Line, Mark, Panel, Points, Scale, as_array
from charts.text import Text, Words, joined
from lab import plots, prose
from lab.data import normal_square, shuffled_batches
from lab.evaluation import Now
from lab.experiment import Experiment, Learner, set_learning_rates
from lab.lesson import FeatureSpec, Training, View
from lab.optim import OPTIMIZERS, make_optimizer, optimizer_options
from lab.settings import Config, choice, choices, hidden_units, learning_rate, number, seed, switch

POINTS, NOISE = 1000, 0.1
STRIDE = 9  # fits are drawn through every ninth of the 1000 points, including the first and the last
DATA = 6  # gray, which no optimizer uses
RANGES: dict[Scale, tuple[float, float]] = {"linear": (0.0, 0.2), "log": (0.005, 1.0)}  # of the loss axis


@dataclass(frozen=True)
class Racer:
    """Line style of an optimizer. `kept` is the number of state values that it keeps per weight."""

    kept: int
    color: int
    dashed: bool = False


RACERS = {
    "sgd": Racer(0, 0),
    "momentum": Racer(1, 1),
    "rmsprop": Racer(1, 2),
    "adam": Racer(2, 3),
    "nesterov": Racer(1, 4),
    "adagrad": Racer(1, 5),
    "adamw": Racer(2, 0, dashed=True),
}


PROSE = prose.read(__file__)

IDEAS: dict[str, dict[str, Any]] = {
    "a_tenth_of_the_learning_rate": {"learning_rate": 0.001},
    "all_seven_at_0_5": {"learning_rate": 0.5, "optimizers": list(RACERS), "seed": 4},
    "luck_at_the_start": {"same_start": False},
}


@dataclass(frozen=True, kw_only=True)
class OptimizersConfig(Config):
    """Defaults: the tutorial's settings, except for `same_start`."""

    optimizers: tuple[str, ...] = choices(
        ("sgd", "momentum", "rmsprop", "adam"),
        Text("Optimizers", "优化器"),
        OPTIMIZERS,
        info=Text("Optimizers to compare", "谁来参加"),
        least=1,
    )
    learning_rate: float = learning_rate(0.01)
    momentum: float = number(
        0.8,
        Text("Momentum", "动量"),
        0.05,
        0.99,
        step=0.01,
        info=Text("Decay rate of the previous step, for Momentum and Nesterov", "上一步保留多少：Momentum 和 Nesterov"),
        live=True,
        when={"optimizers": ("momentum", "nesterov")},
    )
    alpha: float = number(
        0.9,
        Text("Alpha", "alpha"),
        0.0,
        0.99,
        step=0.01,
        info=Text("Decay rate of the mean square, for RMSprop", "平方的均值保留多少：RMSprop"),
        live=True,
        when={"optimizers": ("rmsprop",)},
    )
    beta1: float = number(
        0.9,
        Text("Beta 1", "beta 1"),
        0.0,
        0.99,
        step=0.01,
        info=Text("Decay rate of the mean, for Adam and AdamW", "均值保留多少：Adam 和 AdamW"),
        live=True,
        when={"optimizers": ("adam", "adamw")},
    )
    beta2: float = number(
        0.99,
        Text("Beta 2", "beta 2"),
        0.0,
        0.999,
        step=0.001,
        info=Text("Decay rate of the mean square, for Adam and AdamW", "平方的均值保留多少：Adam 和 AdamW"),
        live=True,
        when={"optimizers": ("adam", "adamw")},
    )
    batch_size: int = number(
        32,
        Text("Batch size", "批大小"),
        10,
        POINTS,
        step=1,
        info=Text("Number of samples per step", "每一步用多少个样本"),
    )
    epochs: int = number(
        12,
        Text("Epochs", "epoch 数"),
        1,
        40,
        step=1,
        info=Text("Number of passes over all samples", "全部样本训练多少遍"),
    )
    hidden_units: int = hidden_units(20)
    same_start: bool = switch(
        True,
        Text("Same start", "相同起点"),
        info=Text("Initialize all nets with the same weights", "所有网络的初始权重相同"),
    )
    scale: str = choice(
        "linear",
        Text("Loss axis", "损失坐标轴"),
        {"linear": Text("linear", "线性"), "log": Text("logarithmic", "对数")},
        info=Text("Scale of the loss axis", "怎样画损失"),
        view=True,
    )
    smoothed: bool = switch(
        False,
        Text("Smoothed", "平滑"),
        info=Text("Show the mean of the last 20 losses", "最近 20 个损失的平均值"),
        view=True,
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


def setup(config: OptimizersConfig) -> Experiment:
    """In each step all nets train on the same batch."""
    train = normal_square(POINTS, NOISE)
    size = {"n_hidden": config.hidden_units}
    if config.same_start:  # a net's run does not depend on which other optimizers are selected
        start = Net(**size)
        nets = [deepcopy(start) for _ in config.optimizers]
    else:  # as in the tutorial
        nets = [Net(**size) for _ in config.optimizers]
    learners = []
    for name, net in zip(config.optimizers, nets, strict=True):
        optimizer = make_optimizer(
            name,
            net.parameters(),
            learning_rate=config.learning_rate,
            momentum=config.momentum,
            alpha=config.alpha,
            betas=(config.beta1, config.beta2),
        )
        learners.append(Learner(name, net, optimizer, nn.MSELoss(), size, OPTIMIZERS[name]))
    return Experiment(
        learners,
        train,
        test=normal_square(POINTS, NOISE),
        steps=config.epochs * -(-POINTS // config.batch_size),  # rounded up: the last batch may be smaller
        batches=shuffled_batches(train, config.batch_size),
    )


def retune(experiment: Experiment, config: OptimizersConfig) -> None:
    """Apply the learning rate, and to each optimizer the options that it has."""
    set_learning_rates(experiment, config)
    betas = config.beta1, config.beta2
    for learner in experiment.learners:
        options = optimizer_options(learner.name, momentum=config.momentum, alpha=config.alpha, betas=betas)
        learner.set_options(**options)


def show(experiment: Experiment, now: Now) -> View:
    """Plot the losses and the fits, and rank the optimizers."""
    chart = Chart((_race(experiment, now), _fits(experiment, now)))
    return View(chart, now.losses(experiment), (_ranking(experiment, now),))


def _race(experiment: Experiment, now: Now) -> Panel:
    scale: Scale = "log" if now.config.scale == "log" else "linear"
    panel = plots.losses(experiment, now, y_range=RANGES[scale], y_scale=scale, smoothed=now.config.smoothed)
    *lines, changes = panel.marks
    curves = []
    for learner, curve in zip(experiment.learners, lines, strict=True):
        assert isinstance(curve, Line)
        curves.append(_styled(learner, curve))
    whole_run = as_array([0, experiment.steps])
    noise = Line(Text("noise", "噪声"), whole_run, as_array([NOISE**2] * 2), color=DATA, dashed=True)
    return replace(panel, title=Text("Race", "比赛"), marks=(*curves, noise, changes))


def _fits(experiment: Experiment, now: Now) -> Panel:
    x, y = plots.column(experiment.train.x), plots.column(experiment.train.y)
    fits = [
        _styled(learner, Line("", x[::STRIDE], plots.column(each.prediction[::STRIDE])))
        for learner, each in zip(experiment.learners, now.nets, strict=True)
    ]
    marks: tuple[Mark, ...] = (Points(plots.DATA, x, y, color=DATA, size=3), *fits)
    title = Text("Data and fits", "数据与拟合")
    return Panel(title, "x", "y", marks, x_range=(-1.05, 1.05), y_range=(-0.4, 1.4))


def _styled(learner: Learner, line: Line) -> Line:
    """The line in the optimizer's style, which does not depend on the selection."""
    racer = RACERS[learner.name]
    return replace(line, name=learner.label, color=racer.color, dashed=racer.dashed)


def _ranking(experiment: Experiment, now: Now) -> Table:
    order = sorted(zip(experiment.learners, now.nets, strict=True), key=lambda pair: pair[1].loss)
    rows = tuple(
        (str(rank), str(each.label), f"{e.loss:.4f}", f"{e.test_loss:.4f}", str(RACERS[each.name].kept))
        for rank, (each, e) in enumerate(order, 1)
    )
    head = (
        Text("rank", "名次"),
        Text("optimizer", "优化器"),
        plots.LOSS,
        plots.TEST_LOSS,
        Text("state values per weight", "每个权重要记几个数"),
    )
    return Table(head, rows, Text("Ranking", "排名"))


def _metrics() -> dict[str, Words]:
    """Labels of all metrics that `Now.losses` returns, for one optimizer and for several."""
    kinds = {"loss": plots.LOSS, "test loss": plots.TEST_LOSS}
    several: dict[str, Words] = {
        f"{name} {kind}": joined([OPTIMIZERS[name], label], " ")
        for name, (kind, label) in product(RACERS, kinds.items())
    }
    return {**kinds, **several}


LESSON = Training(
    key="optimizers",
    group="better",
    prose=PROSE,
    config=OptimizersConfig,
    ideas=IDEAS,
    sources=(Net, make_optimizer, setup, shuffled_batches),
    setup=setup,
    show=show,
    task="regression",
    inputs=FeatureSpec(("x",), Text("a number", "一个数")),
    outputs=FeatureSpec(("y",), Text("a number, the prediction of y", "一个数，对 y 的预测")),
    metrics=_metrics(),
    headline=("loss", "test loss", *(f"{name} loss" for name in RACERS)),
    retune=retune,
    pace=5,
)
