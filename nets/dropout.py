"""Dropout: a net that cannot rely on any one of its units learns less by heart. Tutorial, Dropout."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from charts.blocks import Block, Note, Session
from charts.chart import Array, Band, Chart, Line, Panel, Points, as_array
from charts.text import Text
from lab import prose
from lab.data import noisy_line
from lab.diagnosis import Evaluation
from lab.lesson import Port, Training, View
from lab.settings import NOISE, POINTS, Config, choice, hidden_units, learning_rate, number, seed, steps
from lab.training import Learner, Trainer, evaluating

GRID = 101  # places along x where a fit is drawn
PLACES = 15  # along x, fewer, where passes are repeated: a frame has to be quick
PASSES = 15

NOTHING: Array = as_array([])


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
    """The tutorial's settings."""

    learning_rate: float = learning_rate(0.01)
    steps: int = steps(500)
    hidden_units: int = hidden_units(300, most=300)
    p: float = number(
        0.5,
        Text("Dropout p", "丢弃概率 p"),
        0.0,
        0.9,
        step=0.05,
        info=Text("Probability that a unit is switched off at a step", "每一步中一个单元被关掉的概率"),
    )
    points: int = number(
        20,
        POINTS,
        2,
        100,
        step=1,
        info=Text("Samples to learn from, and as many to test", "训练样本数，测试样本也这么多"),
    )
    noise: float = number(
        0.3, NOISE, 0.0, 1.0, step=0.01, info=Text("Standard deviation about the line", "相对直线的标准差")
    )
    mode: str = choice(
        "eval",
        Text("Look in", "查看模式"),
        {"eval": Text("eval mode", "评估模式"), "train": Text("train mode", "训练模式")},
        info=Text("Whether dropout is off or on while we look", "查看时 dropout 是关还是开"),
        view=True,
    )
    seed: int = seed(0)


class DropoutTrainer(Trainer[DropoutConfig]):
    """Every step sees the whole training set."""

    def setup(self) -> None:
        self.x, self.y = noisy_line(self.config.points, self.config.noise)
        self.test_x, self.test_y = noisy_line(self.config.points, self.config.noise)

        n, p = self.config.hidden_units, self.config.p
        net_overfitting = nn.Sequential(
            nn.Linear(1, n),
            nn.ReLU(),
            nn.Linear(n, n),
            nn.ReLU(),
            nn.Linear(n, 1),
        )
        net_dropped = nn.Sequential(
            nn.Linear(1, n),
            nn.Dropout(p),  # in train mode: switches each unit off with probability p
            nn.ReLU(),
            nn.Linear(n, n),
            nn.Dropout(p),
            nn.ReLU(),
            nn.Linear(n, 1),
        )
        # fused: the same arithmetic as plain Adam in one pass over the weights
        optimizer_ofit = torch.optim.Adam(net_overfitting.parameters(), lr=self.config.learning_rate, fused=True)
        optimizer_drop = torch.optim.Adam(net_dropped.parameters(), lr=self.config.learning_rate, fused=True)
        self.learners = [
            Learner("overfitting", net_overfitting, {}, optimizer_ofit, WITHOUT),
            Learner("dropout", net_dropped, {}, optimizer_drop, WITH),
        ]
        self.loss_func = nn.MSELoss()
        self.steps = self.config.steps

    def show(self, now: Sequence[Evaluation]) -> View:
        overfitting, dropped = (learner.net for learner in self.learners)
        grid = torch.linspace(-1, 1, GRID).unsqueeze(1)
        places, fit = grid, dropped(grid)[:, 0]
        spread, one = torch.empty(0), torch.empty(0)
        if self.config.mode == "train":
            places = torch.linspace(-1, 1, PLACES).unsqueeze(1)
            passes = dropout_passes(dropped, places, PASSES)  # (PASSES, PLACES)
            fit, spread, one = passes.mean(dim=0), passes.std(dim=0), passes[0]
        x = as_array(places[:, 0])
        shown = x[: len(spread)]  # all of them, or none
        mean = as_array(fit)[: len(spread)]
        panel = Panel(
            Text("Data and fits", "数据与拟合"),
            "x",
            "y",
            (
                Points(Text("training set", "训练集"), as_array(self.x[:, 0]), as_array(self.y[:, 0]), color=3),
                Points(
                    Text("test set", "测试集"),
                    as_array(self.test_x[:, 0]),
                    as_array(self.test_y[:, 0]),
                    color=5,
                    marker="triangle",
                ),
                Band(
                    Text("passes: mean ± standard deviation", "多次预测：均值 ± 标准差"),
                    shown,
                    mean - as_array(spread),
                    mean + as_array(spread),
                    color=2,
                ),
                Line(Text("one pass", "一次预测"), shown, as_array(one), color=6, dashed=True),
                Line(self.learners[0].label, as_array(grid[:, 0]), as_array(overfitting(grid)[:, 0]), color=1),
                Line(self.learners[1].label, x, as_array(fit), color=2),
            ),
            x_range=(-1.05, 1.05),
            y_range=(-2.5, 2.5),
        )
        loss = self.loss_panel(Text("mean squared error", "均方误差"), now, y_range=(1e-3, 2.0), y_scale="log")
        gaps = {f"{learner.name} gap": e.test_loss - e.loss for learner, e in zip(self.learners, now, strict=True)}
        blocks = (self._remark(dropped, now[1], spread), *_sessions(dropped, self.config.p))
        return View(Chart((panel, loss)), {**self.figures(now), **gaps}, blocks)

    def _remark(self, net: nn.Module, now: Evaluation, spread: Tensor) -> Block:
        if self.config.mode == "eval":
            return Note(
                Text(
                    "Looked at in **eval mode**: dropout is off, and the net gives one answer for each x.",
                    "现在以**评估模式**查看：dropout 关闭，对每个 x 只有一个答案。",
                )
            )
        loss = self.loss_func(dropout_passes(net, self.test_x, 1)[0], self.test_y[:, 0]).item()
        remark = Text(
            "Looked at in **train mode**: the mean of {passes} passes, which lie {spread:.3f} from it (standard"
            " deviation, over all x). One pass alone has a test loss of {loss:.4f}; in eval mode it is {now:.4f}.",
            "现在以**训练模式**查看：画的是 {passes} 次预测的均值，各次与它相差 {spread:.3f}（标准差，对所有 x 平均）。"
            "单独一次预测的测试损失是 {loss:.4f}，评估模式下是 {now:.4f}。",
        )
        return Note(
            remark.format(passes=PASSES, spread=spread.mean().item(), loss=loss, now=now.test_loss),
            "warning",
        )


def dropout_passes(net: nn.Module, x: Tensor, passes: int) -> Tensor:
    """Predictions for x (N, 1) with other units switched off in each pass: (passes, N)."""
    with dropping(net):
        repeated: Tensor = net(x.repeat(passes, 1))  # in one forward: each row draws units of its own
    return repeated.reshape(passes, len(x))


@contextmanager
def dropping(net: nn.Module) -> Iterator[None]:
    """Dropout on within, whatever mode the net is in, and as it was after it."""
    modes = [(module, module.training) for module in net.modules() if isinstance(module, nn.Dropout)]
    for module, _ in modes:
        module.train()
    try:
        yield
    finally:
        for module, training in modes:
            module.train(training)


def _sessions(net: nn.Module, p: float) -> Iterator[Session]:
    """What a layer of dropout does, and what the net that has one answers in each mode: run now, as shown."""
    dropout, ones = nn.Dropout(p), torch.ones(8)
    layer = (
        (f"dropout = nn.Dropout(p={p})", ""),
        ("dropout(torch.ones(8))", repr(dropout(ones))),
        ("dropout.eval()(torch.ones(8))", repr(dropout.eval()(ones))),
    )
    yield Session(layer, Text("The layer alone: the rest is multiplied by 1/(1-p)", "单看这一层：留下的乘以 1/(1-p)"))

    x = torch.tensor([[0.5]])
    with evaluating(net), torch.enable_grad():
        net.train()
        training = net(x).item(), net(x).item()
        net.eval()
        evaluated = net(x).item(), net(x).item()
        recorded = net(x).requires_grad
        with torch.no_grad():
            unrecorded = net(x).requires_grad
    lines = (
        ("x = torch.tensor([[0.5]])", ""),
        ("_ = net.train()", ""),
        ("net(x).item(), net(x).item()", repr(training)),
        ("_ = net.eval()", ""),
        ("net(x).item(), net(x).item()", repr(evaluated)),
        ("net(x).requires_grad  # eval() does not stop autograd", repr(recorded)),
        ("with torch.no_grad():\n    print(net(x).requires_grad)", str(unrecorded)),
    )
    yield Session(
        lines, Text("The net with dropout, asked twice in each mode", "用 dropout 的网络，每种模式下各问两次")
    )


LESSON = Training(
    key="dropout",
    group="better",
    prose=PROSE,
    config=DropoutConfig,
    ideas=IDEAS,
    sources=(DropoutTrainer.setup, dropout_passes, dropping),
    trainer=DropoutTrainer,
    task="regression",
    inputs=Port(("x",), Text("a number", "一个数")),
    outputs=Port(("y",), Text("a number, the prediction of y", "一个数，对 y 的预测")),
    metrics={
        "overfitting loss": Text("loss without dropout", "不用 dropout 的损失"),
        "overfitting test loss": Text("test loss without dropout", "不用 dropout 的测试损失"),
        "dropout loss": Text("loss with dropout", "用 dropout 的损失"),
        "dropout test loss": Text("test loss with dropout", "用 dropout 的测试损失"),
        "overfitting gap": Text("gap without dropout", "不用 dropout 的差距"),
        "dropout gap": Text("gap with dropout", "用 dropout 的差距"),
    },
    pace=5,
)
