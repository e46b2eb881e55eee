"""Sequential: the same net twice, as a class and as a row of layers. Tutorial, 快速搭建法."""

import dataclasses
import math
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn

from charts.blocks import Block, Note, Session, Table
from charts.chart import Chart, Heatmap, Line, Panel, Points, as_array
from charts.text import Text, Words
from lab import prose
from lab.data import two_blobs
from lab.diagnosis import Evaluation
from lab.lesson import Port, Training, View
from lab.settings import NOISE, Config, hidden_units, learning_rate, number, seed, steps, switch
from lab.training import Learner, Trainer
from nets.classification import GRID, TEST_POINTS, Net

PROSE = prose.read(__file__)

IDEAS: dict[str, dict[str, Any]] = {
    "start_apart": {"same_start": False},
    "a_rough_ride": {"noise": 3.0, "hidden_units": 100, "learning_rate": 1.0, "steps": 300},
    "one_unit_two_fates": {"same_start": False, "hidden_units": 1, "learning_rate": 0.1, "seed": 15},
}

SAME = Text(
    "**The difference is exactly 0:** same weights and same steps of arithmetic give the same bits.",
    "**差恰好是 0**：权重相同，计算步骤相同，结果逐比特相同。",
)
DIFFERENT = Text(
    "**The outputs differ by up to {difference}:** the nets are built alike, but their weights are not the same.",
    "**输出最多相差 {difference}**：两个网络结构一样，但权重不同。",
)


@dataclass(frozen=True, kw_only=True)
class SequentialConfig(Config):
    """The settings of the tutorial's classification, whose net this is."""

    same_start: bool = switch(
        True,
        Text("Same start", "相同起点"),
        info=Text("Both nets begin with the same weights", "两个网络从相同的权重出发"),
    )
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


def copy_weights(source: nn.Module, target: nn.Module) -> None:
    """Give `target` the weights of `source`: the same shapes in the same order, under other names."""
    names = target.state_dict().keys()  # 0.weight, 0.bias, 2.weight, 2.bias
    values = source.state_dict().values()  # of hidden.weight, hidden.bias, out.weight, out.bias
    target.load_state_dict(dict(zip(names, values, strict=True)))


class SequentialTrainer(Trainer[SequentialConfig]):
    """Every step sees the whole training set, and both nets take it."""

    def setup(self) -> None:
        self.x, self.y = two_blobs(self.config.points, self.config.noise)
        n_hidden = self.config.hidden_units
        sizes = {"n_feature": 2, "n_hidden": n_hidden, "n_output": 2}
        net_class = Net(**sizes)
        net_sequential = nn.Sequential(
            nn.Linear(2, n_hidden),
            nn.ReLU(),
            nn.Linear(n_hidden, 2),
        )
        if self.config.same_start:
            copy_weights(net_class, net_sequential)

        lr = self.config.learning_rate
        self.learners = [
            Learner("net_class", net_class, sizes, torch.optim.SGD(net_class.parameters(), lr=lr), "class Net"),
            Learner(
                "net_sequential",
                net_sequential,
                {},
                torch.optim.SGD(net_sequential.parameters(), lr=lr),
                "nn.Sequential",
            ),
        ]
        self.loss_func = nn.CrossEntropyLoss()
        self.steps = self.config.steps
        self.test_x, self.test_y = two_blobs(TEST_POINTS, self.config.noise)

        reach = self.x.abs().max().item() * 1.05  # a square about the origin that holds every point
        self.extent = (-reach, reach)
        axis = torch.linspace(-reach, reach, GRID)
        rows, columns = torch.meshgrid(axis, axis, indexing="ij")
        self.grid = torch.stack((columns.flatten(), rows.flatten()), dim=1)  # (GRID², 2)

    def show(self, now: Sequence[Evaluation]) -> View:
        difference = (now[0].prediction - now[1].prediction).abs().max().item()
        loss = self.loss_panel(Text("cross entropy", "交叉熵"), now)
        # The second curve may lie on the first: dashes let it through.
        marks = (loss.marks[0], *(dataclasses.replace(m, dashed=True) for m in loss.marks[1:] if isinstance(m, Line)))
        panels = (*(self._plane(each) for each in self.learners), dataclasses.replace(loss, marks=marks))
        blocks: tuple[Block, ...] = (*_remark(difference), self._weights(), self._session())
        return View(Chart(panels), {**self.figures(now), "difference": difference}, blocks)

    def _plane(self, learner: Learner) -> Panel:
        probability = F.softmax(learner.net(self.grid), dim=1)[:, 1].reshape(GRID, GRID)
        x, n = as_array(self.x), self.config.points
        extent = as_array(self.extent)
        return Panel(
            learner.label,
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

    def _weights(self) -> Table:
        """The parameters of both nets side by side."""
        ours, theirs = (each.net.state_dict() for each in self.learners)
        rows: list[tuple[Words, ...]] = []
        for (name, one), (other_name, other) in zip(ours.items(), theirs.items(), strict=True):
            difference = f"{(one - other).abs().max().item():.3g}"
            rows.append((f"`{name}`", f"`{other_name}`", f"{tuple(one.shape)}", f"{one.numel()}", difference))
        total = sum(tensor.numel() for tensor in ours.values())
        rows.append((Text("together", "合计"), "", "", f"{total}", ""))
        head = (
            Text("in `class Net`", "在 `class Net` 中"),
            Text("in `nn.Sequential`", "在 `nn.Sequential` 中"),
            Text("shape", "形状"),
            Text("numbers", "个数"),
            Text("largest difference", "最大差"),
        )
        return Table(head, tuple(rows), Text("Weights", "权重"))

    def _session(self) -> Session:
        """Both nets printed, and the ways to carry weights from one to a net like the other."""
        net_class, net_sequential = (each.net for each in self.learners)
        x, n = self.x, self.config.hidden_units
        net = nn.Sequential(nn.Linear(2, n), nn.ReLU(), nn.Linear(n, 2))
        refused = _outcome(lambda: net.load_state_dict(net_class.state_dict()))
        copy_weights(net_class, net)
        copied = _outcome(lambda: (net(x) - net_class(x)).abs().max().item())
        layers = OrderedDict(hidden=nn.Linear(2, n), relu=nn.ReLU(), out=nn.Linear(n, 2))
        named = nn.Sequential(layers)
        lines = (
            ("print(net_class)", str(net_class)),
            ("print(net_sequential)", str(net_sequential)),
            (f"net = nn.Sequential(nn.Linear(2, {n}), nn.ReLU(), nn.Linear({n}, 2))", ""),
            ("net.load_state_dict(net_class.state_dict())", refused),
            ("copy_weights(net_class, net)", ""),
            ("(net(x) - net_class(x)).abs().max().item()", copied),
            (f"layers = OrderedDict(hidden=nn.Linear(2, {n}), relu=nn.ReLU(), out=nn.Linear({n}, 2))", ""),
            ("named = nn.Sequential(layers)", ""),
            (
                "named.load_state_dict(net_class.state_dict())",
                _outcome(lambda: named.load_state_dict(net_class.state_dict())),
            ),
            (
                f"nn.Sequential(nn.Linear(2, {n}), F.relu)",
                _outcome(lambda: nn.Sequential(nn.Linear(2, n), F.relu)),  # type: ignore[call-overload]
            ),
        )
        return Session(lines, Text("The same weights under other names", "相同的权重，不同的名字"))


def _remark(difference: float) -> tuple[Note, ...]:
    if math.isnan(difference):  # a diverged run has overflowed on both sides
        return ()
    if difference == 0:
        return (Note(SAME, "good"),)
    return (Note(DIFFERENT.format(difference=f"{difference:.3g}")),)


def _outcome(call: Callable[[], object]) -> str:
    """What Python's prompt says to a call: its value, or its error."""
    try:
        return repr(call())
    except (RuntimeError, TypeError) as error:
        return f"{type(error).__name__}: {str(error).expandtabs(4)}"


LESSON = Training(
    key="sequential",
    group="first",
    prose=PROSE,
    config=SequentialConfig,
    ideas=IDEAS,
    sources=(Net, copy_weights, SequentialTrainer.setup),
    trainer=SequentialTrainer,
    task="classification",
    inputs=Port(("x₁", "x₂"), Text("numbers, a point of the plane", "两个数，平面上的一个点")),
    outputs=Port(
        ("class 0", "class 1"), Text("scores; softmax makes them probabilities", "得分；softmax 把得分变成概率")
    ),
    metrics={
        "net_class loss": Text("class Net: loss", "class Net：损失"),
        "net_class test loss": Text("class Net: test loss", "class Net：测试损失"),
        "net_sequential loss": Text("nn.Sequential: loss", "nn.Sequential：损失"),
        "net_sequential test loss": Text("nn.Sequential: test loss", "nn.Sequential：测试损失"),
        "difference": Text("largest difference", "最大差"),
    },
    classes=("class 0", "class 1"),
)
