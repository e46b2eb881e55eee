"""Dropout: regularization by zeroing random units during training. Tutorial, Dropout."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from charts.blocks import Block, Note, PythonSession
from charts.chart import Array, Band, Chart, Line, Panel, Points, as_array
from charts.text import Text
from lab import plots, prose
from lab.data import evenly, noisy_line
from lab.evaluation import Now, evaluating
from lab.experiment import Experiment, Learner, set_learning_rates
from lab.lesson import FeatureSpec, Training, View
from lab.models import mlp
from lab.settings import NOISE, POINTS, Config, choice, hidden_units, learning_rate, number, seed, steps
from lab.transcript import Prompt

GRID = 101  # points along x at which a fit is drawn
PASS_GRID = 15  # points along x for repeated passes; fewer, to keep frames fast
PASSES = 15

EMPTY: Array = as_array([])


PROSE = prose.read(__file__)

IDEAS: dict[str, dict[str, Any]] = {
    "forget_eval": {"mode": "train"},
    "drop_nearly_everything": {"p": 0.9},
    "more_data_instead": {"points": 100},
}


WITHOUT = Text("without dropout", "不用 dropout")
WITH = Text("with dropout", "用 dropout")


@dataclass(frozen=True, kw_only=True)
class DropoutConfig(Config):
    """Defaults: the tutorial's settings."""

    learning_rate: float = learning_rate(0.01)
    steps: int = steps(500)
    hidden_units: int = hidden_units(300, most=300)
    p: float = number(
        0.5,
        Text("Dropout p", "丢弃概率 p"),
        0.0,
        0.9,
        step=0.05,
        info=Text("Probability that a unit is zeroed in a step", "每一步中一个单元被关掉的概率"),
        live=True,
    )
    points: int = number(
        20,
        POINTS,
        2,
        100,
        step=1,
        info=Text("Number of training samples, and of test samples", "训练样本数，测试样本也这么多"),
    )
    noise: float = number(
        0.3, NOISE, 0.0, 1.0, step=0.01, info=Text("Standard deviation around the line", "相对直线的标准差")
    )
    mode: str = choice(
        "eval",
        Text("Look in", "查看模式"),
        {"eval": Text("eval mode", "评估模式"), "train": Text("train mode", "训练模式")},
        info=Text("Whether dropout is off or on for the predictions shown", "查看时 dropout 是关还是开"),
        view=True,
    )
    seed: int = seed(0)


def setup(config: DropoutConfig) -> Experiment:
    """Each step trains on the whole training set."""
    train, test = noisy_line(config.points, config.noise), noisy_line(config.points, config.noise)
    n = config.hidden_units
    net_overfitting = mlp(1, n, n, 1)
    net_dropped = mlp(1, n, n, 1, dropout=config.p)
    # fused: the same arithmetic as the default implementation, in one pass over the weights
    optimizer_ofit = torch.optim.Adam(net_overfitting.parameters(), lr=config.learning_rate, fused=True)
    optimizer_drop = torch.optim.Adam(net_dropped.parameters(), lr=config.learning_rate, fused=True)
    learners = [
        Learner("overfitting", net_overfitting, optimizer_ofit, nn.MSELoss(), label=WITHOUT),
        Learner("dropout", net_dropped, optimizer_drop, nn.MSELoss(), label=WITH),
    ]
    return Experiment(learners, train, test, steps=config.steps)


def retune(experiment: Experiment, config: DropoutConfig) -> None:
    """Apply the learning rate, and p to the dropout layers."""
    set_learning_rates(experiment, config)
    for learner in experiment.learners:
        for module in learner.net.modules():
            if isinstance(module, nn.Dropout):
                module.p = config.p


def show(experiment: Experiment, now: Now) -> View:
    """Plot both fits and the losses; in train mode, repeated passes of the net with dropout."""
    _, dropped = experiment.learners
    passes = _passes(dropped.net) if now.config.mode == "train" else None
    loss = plots.losses(experiment, now, y_range=(1e-3, 2.0), y_scale="log")
    gaps = {
        f"{learner.name} gap": e.test_loss - e.loss for learner, e in zip(experiment.learners, now.nets, strict=True)
    }
    blocks: tuple[Block, ...] = (
        _remark(experiment, now, passes),
        _layer_alone(now.config.p),
        _repeated_calls(dropped.net),
    )
    return View(Chart((_fits(experiment, passes), loss)), {**now.losses(experiment), **gaps}, blocks)


def _passes(net: nn.Module) -> Tensor:
    """Predictions along x in train mode: (PASSES, PASS_GRID)."""
    return dropout_passes(net, evenly(PASS_GRID, -1, 1), PASSES)


def _fits(experiment: Experiment, passes: Tensor | None) -> Panel:
    overfitting, dropped = experiment.learners
    train, test = experiment.train, experiment.test
    grid = evenly(GRID, -1, 1)
    if passes is None:
        x, fit, spread, one = plots.column(grid), plots.column(dropped.net(grid)), EMPTY, EMPTY
    else:
        x = plots.column(evenly(PASS_GRID, -1, 1))
        fit, spread, one = (as_array(each) for each in (passes.mean(dim=0), passes.std(dim=0), passes[0]))
    shown, mean = x[: len(spread)], fit[: len(spread)]  # all of them, or none
    marks = (
        Points(Text("training set", "训练集"), plots.column(train.x), plots.column(train.y), color=3),
        Points(Text("test set", "测试集"), plots.column(test.x), plots.column(test.y), color=5, marker="triangle"),
        Band(
            Text("passes: mean ± standard deviation", "多次预测：均值 ± 标准差"),
            shown,
            mean - spread,
            mean + spread,
            color=2,
        ),
        Line(Text("one pass", "一次预测"), shown, one, color=6, dashed=True),
        Line(overfitting.label, plots.column(grid), plots.column(overfitting.net(grid)), color=1),
        Line(dropped.label, x, fit, color=2),
    )
    title = Text("Data and fits", "数据与拟合")
    return Panel(title, "x", "y", marks, x_range=(-1.05, 1.05), y_range=(-2.5, 2.5))


def _remark(experiment: Experiment, now: Now, passes: Tensor | None) -> Note:
    if passes is None:
        return Note(PROSE.notes["eval_mode"])
    dropped = experiment.learners[1]
    test = experiment.test
    loss = dropped.loss_func(dropout_passes(dropped.net, test.x, 1)[0], test.y[:, 0]).item()
    spread = passes.std(dim=0).mean().item()
    remark = PROSE.notes["train_mode"]
    text = remark.format(passes=PASSES, spread=f"{spread:.3f}", loss=f"{loss:.4f}", now=f"{now.nets[1].test_loss:.4f}")
    return Note(text, "warning")


def dropout_passes(net: nn.Module, x: Tensor, passes: int) -> Tensor:
    """Predictions for x (N, 1) with different units zeroed in each pass: (passes, N)."""
    with dropping(net):
        repeated: Tensor = net(x.repeat(passes, 1))  # one forward pass, since each row has its own dropout mask
    return repeated.reshape(passes, len(x))


@contextmanager
def dropping(net: nn.Module) -> Iterator[None]:
    """Context manager that sets the dropout layers to train mode, and restores their modes on exit."""
    modes = [(module, module.training) for module in net.modules() if isinstance(module, nn.Dropout)]
    for module, _ in modes:
        module.train()
    try:
        yield
    finally:
        for module, training in modes:
            module.train(training)


def _layer_alone(p: float) -> PythonSession:
    source = f"""
        dropout = nn.Dropout(p={p})
        dropout(torch.ones(8))
        dropout.eval()(torch.ones(8))
    """
    title = Text("The layer alone: remaining values are multiplied by 1/(1-p)", "单看这一层：留下的乘以 1/(1-p)")
    return Prompt(nn=nn, torch=torch).session(source, title)


def _repeated_calls(net: nn.Module) -> PythonSession:
    source = """
        x = torch.tensor([[0.5]])
        _ = net.train()
        net(x).item(), net(x).item()
        _ = net.eval()
        net(x).item(), net(x).item()
        net(x).requires_grad  # eval() does not stop autograd
        with torch.no_grad():
            print(net(x).requires_grad)
    """
    title = Text("The net with dropout, called twice in each mode", "用 dropout 的网络，每种模式下各问两次")
    with evaluating(net), torch.enable_grad():
        return Prompt(net=net, torch=torch).session(source, title)


LESSON = Training(
    key="dropout",
    group="better",
    prose=PROSE,
    config=DropoutConfig,
    ideas=IDEAS,
    sources=(setup, mlp, dropout_passes, dropping),
    setup=setup,
    show=show,
    task="regression",
    inputs=FeatureSpec(("x",), Text("a number", "一个数")),
    outputs=FeatureSpec(("y",), Text("a number, the prediction of y", "一个数，对 y 的预测")),
    metrics={
        "overfitting loss": Text("loss without dropout", "不用 dropout 的损失"),
        "overfitting test loss": Text("test loss without dropout", "不用 dropout 的测试损失"),
        "dropout loss": Text("loss with dropout", "用 dropout 的损失"),
        "dropout test loss": Text("test loss with dropout", "用 dropout 的测试损失"),
        "overfitting gap": Text("gap without dropout", "不用 dropout 的差距"),
        "dropout gap": Text("gap with dropout", "用 dropout 的差距"),
    },
    retune=retune,
    pace=5,
)
