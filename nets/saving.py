"""Saving: a trained net goes to files and comes back. Tutorial, 保存和提取."""

import functools
import io
import pickle
import sys
import types
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import nn

from charts.blocks import Block, Note, Session, Table
from charts.chart import Array, Chart, Line, Panel, Points, as_array
from charts.text import Text, Words
from lab import prose
from lab.data import noisy_square
from lab.diagnosis import Evaluation
from lab.lesson import Port, Training, View
from lab.settings import NOISE, POINTS, Config, hidden_units, learning_rate, number, seed, steps
from lab.training import LOSS, TEST_LOSS, Learner, Restored, Trainer

PROSE = prose.read(__file__)

IDEAS: dict[str, dict[str, Any]] = {
    "a_wider_net": {"hidden_units": 100, "learning_rate": 0.1},
    "one_hidden_unit": {"hidden_units": 1},
    "save_too_early": {"steps": 3},
}

HOLDS: Mapping[str, Words] = {
    "net.pkl": Text("the whole net: classes by name, and weights", "整个网络：类的名字和权重"),
    "net_params.pkl": Text("the `state_dict`: weights by name", "`state_dict`：带名字的权重"),
    "net.safetensors": Text("the same weights, without pickle", "同样的权重，不用 pickle"),
    "net.onnx": Text("the weights and the computation", "权重和计算过程"),
}
PANELS = {"net.pkl": "Net2", "net_params.pkl": "Net3", "net.onnx": "Net4"}

WAITING = Text(
    "**The files are written when training ends.** Until then, net2, net3 and net4 have nothing to show.",
    "**训练结束时才写文件**。在那之前，net2、net3、net4 没有什么可画的。",
)
READ_BACK = Text(
    "**Saved and read back:** net2 from `net.pkl`, net3 from `net_params.pkl`, net4 from `net.onnx`. The table says how"
    " far each is from net1.",
    "**已保存并读回**：net2 来自 `net.pkl`，net3 来自 `net_params.pkl`，net4 来自 `net.onnx`。"
    "表中是它们与 net1 的差别。",
)
UNSAVED = Text(
    "**Nothing is saved:** this net's weights are no longer finite numbers.",
    "**没有保存**：这个网络的权重已经不是有限的数。",
)


@dataclass(frozen=True, kw_only=True)
class SavingConfig(Config):
    """The tutorial's settings."""

    learning_rate: float = learning_rate(0.5)
    steps: int = steps(100)
    hidden_units: int = hidden_units(10)
    points: int = number(100, POINTS, 2, 1000, step=1, info=Text("Samples to learn from", "用来学习的样本"))
    noise: float = number(
        0.2,
        NOISE,
        0.0,
        1.0,
        step=0.01,
        info=Text("How far points lie above the parabola, at most", "数据点最多高出抛物线多少"),
    )
    seed: int = seed()


def save(net1: nn.Module) -> tuple[bytes, bytes]:
    """Save a net in two ways. Here to memory; a path does as well: torch.save(net1, "net.pkl")."""
    net_pkl, net_params_pkl = io.BytesIO(), io.BytesIO()
    torch.save(net1, net_pkl)  # the whole net
    torch.save(net1.state_dict(), net_params_pkl)  # the parameters alone
    return net_pkl.getvalue(), net_params_pkl.getvalue()


def restore_net(net_pkl: bytes) -> nn.Module:
    """Restore the whole net: its classes must be importable, and allowed."""
    with torch.serialization.safe_globals([nn.Sequential, nn.Linear, nn.ReLU]):
        net2: nn.Module = torch.load(io.BytesIO(net_pkl))
    return net2.eval()  # from here on it is used, not trained


def restore_params(net_params_pkl: bytes, n_hidden: int) -> nn.Module:
    """Restore the parameters: build the same net anew, and fill them in."""
    net3 = nn.Sequential(
        nn.Linear(1, n_hidden),
        nn.ReLU(),
        nn.Linear(n_hidden, 1),
    )
    net3.load_state_dict(torch.load(io.BytesIO(net_params_pkl)))
    return net3.eval()


class SavingTrainer(Trainer[SavingConfig]):
    """Every step sees the whole training set."""

    def setup(self) -> None:
        self.x, self.y = noisy_square(self.config.points, self.config.noise)
        net1 = nn.Sequential(
            nn.Linear(1, self.config.hidden_units),
            nn.ReLU(),
            nn.Linear(self.config.hidden_units, 1),
        )
        optimizer = torch.optim.SGD(net1.parameters(), lr=self.config.learning_rate)
        self.learners = [Learner("net", net1, {}, optimizer, "net1")]
        self.loss_func = nn.MSELoss()
        self.steps = self.config.steps
        self.test_x, self.test_y = noisy_square(self.config.points, self.config.noise)

    def show(self, now: Sequence[Evaluation]) -> View:
        restored = self.restored.get("net", {})
        prediction = as_array(now[0].prediction)  # (N, 1)
        predicted = {file: each.predict(as_array(self.x)) for file, each in restored.items()}
        panels = [self._panel("Net1", prediction)]
        for file, name in PANELS.items():
            panels.append(self._panel(f"{name}: {file}", predicted.get(file)))
        remark = Note(READ_BACK, "good") if restored else Note(UNSAVED, "warning") if self.diverged else Note(WAITING)
        differences = {file: float(np.abs(each - prediction).max()) for file, each in predicted.items()}
        blocks: tuple[Block, ...] = (
            remark,
            _files(restored, differences),
            _parameters(self.learners[0].net),
            self._ways,
            _surprise(),
            _moved(),
            self._own_forward,
        )
        return View(Chart(tuple(panels)), self.figures(now), blocks)

    def _panel(self, title: str, prediction: Array | None) -> Panel:
        """The data, and the prediction (N, 1) of one of the nets, once there is one."""
        x, nothing = as_array(self.x[:, 0]), as_array([])
        line = (nothing, nothing) if prediction is None else (x, prediction[:, 0])
        return Panel(
            title,
            "x",
            "y",
            (
                Points(Text("data", "数据"), x, as_array(self.y[:, 0])),
                Line(Text("prediction", "预测"), *line, color=1),
            ),
            x_range=(-1.05, 1.05),
            y_range=(-0.1, 1.1 + self.config.noise),
        )

    @functools.cached_property
    def _ways(self) -> Session:
        """The refusal of a whole net and the ways to go, tried on this run's net when it is first looked at."""
        net1, n = self.learners[0].net, self.config.hidden_units
        net_pkl, net_params_pkl = save(net1)
        classes = sorted(torch.serialization.get_unsafe_globals_in_checkpoint(io.BytesIO(net_pkl)))
        net2 = restore_net(net_pkl)
        trusted = torch.load(io.BytesIO(net_pkl), weights_only=False)  # written a moment ago, right here
        net3 = restore_params(net_params_pkl, n)
        same = [torch.equal(net(self.x), net1(self.x)) for net in (net2, trusted, net3)]
        lines = (
            ("net_pkl, net_params_pkl = save(net1)", ""),
            ("torch.load(io.BytesIO(net_pkl))  # as in the old notes", _outcome(lambda: _load(net_pkl))),
            ("sorted(torch.serialization.get_unsafe_globals_in_checkpoint(io.BytesIO(net_pkl)))", f"{classes}"),
            ("net2 = restore_net(net_pkl)  # first way: allow these classes by safe_globals", ""),
            ("trusted = torch.load(io.BytesIO(net_pkl), weights_only=False)  # second way: allow anything", ""),
            (f"net3 = restore_params(net_params_pkl, {n})  # third way: no classes in the file", ""),
            ("[torch.equal(net(x), net1(x)) for net in (net2, trusted, net3)]", f"{same}"),
        )
        return Session(lines, Text("torch.load refuses, and three ways to go", "torch.load 拒绝加载，以及三种办法"))

    @functools.cached_property
    def _own_forward(self) -> Session:
        """A net whose pickle consists of allowed classes alone, and which computes something else than its weights."""
        net1 = self.learners[0].net
        net = restore_net(save(net1)[0])
        vars(net)["forward"] = nn.ReLU()
        net2 = restore_net(save(net)[0])
        same = [torch.equal(a, b) for a, b in zip(net2.parameters(), net1.parameters(), strict=True)]
        lines = (
            ("net = restore_net(save(net1)[0])", ""),
            ('vars(net)["forward"] = nn.ReLU()  # instead of what its class computes', ""),
            ("net2 = restore_net(save(net)[0])  # allows Sequential, Linear and ReLU, and no more", ""),
            ("[torch.equal(a, b) for a, b in zip(net2.parameters(), net1.parameters())]", f"{same}"),
            ("torch.equal(net2(x), net1(x))", f"{torch.equal(net2(self.x), net1(self.x))}"),
        )
        return Session(lines, Text("What safe_globals does not see", "safe_globals 看不出的问题"))


def _files(restored: Mapping[str, Restored], differences: Mapping[str, float]) -> Table:
    """What each file holds and, once it is written, what it takes."""
    head = (
        Text("file", "文件"),
        Text("holds", "内容"),
        Text("bytes", "字节"),
        Text("write, ms", "写入，毫秒"),
        Text("read, ms", "读取，毫秒"),
        Text("largest difference from net1", "与 net1 的最大差"),
    )
    rows: list[tuple[Words, ...]] = []
    for file, holds in HOLDS.items():
        each = restored.get(file)
        measured: tuple[str, ...] = ("–", "–", "–", "–")
        if each:
            milliseconds = (f"{1000 * seconds:.2f}" for seconds in (each.write_seconds, each.read_seconds))
            measured = (f"{each.size}", *milliseconds, f"{differences[file]:.1g}")
        rows.append((f"`{file}`", holds, *measured))
    return Table(head, tuple(rows), Text("The files", "文件"))


def _parameters(net1: nn.Module) -> Table:
    """What a state_dict holds."""
    state = net1.state_dict()
    rows: list[tuple[Words, ...]] = [
        (f"`{name}`", f"{tuple(tensor.shape)}", f"{tensor.numel()}", f"{tensor.nbytes}")
        for name, tensor in state.items()
    ]
    numbers, size = (sum(values) for values in zip(*((t.numel(), t.nbytes) for t in state.values()), strict=True))
    rows.append((Text("together", "合计"), "", f"{numbers}", f"{size}"))
    head = (Text("name", "名字"), Text("shape", "形状"), Text("numbers", "个数"), Text("bytes", "字节"))
    return Table(head, tuple(rows), "net1.state_dict()")


@functools.cache
def _surprise() -> Session:
    """A file that computes while it is loaded."""

    class Surprise:
        def __reduce__(self) -> tuple[Callable[[str], object], tuple[str]]:
            return eval, ("6 * 7",)

    file = io.BytesIO()
    torch.save(Surprise(), file)
    surprise = file.getvalue()
    lines = (
        (
            "class Surprise:\n"
            "    def __reduce__(self):  # says how to make the object again: by which call\n"
            '        return eval, ("6 * 7",)',
            "",
        ),
        ("file = io.BytesIO()", ""),
        ("torch.save(Surprise(), file)", ""),
        (
            "torch.load(io.BytesIO(file.getvalue()), weights_only=False)  # runs what the file says",
            _outcome(lambda: torch.load(io.BytesIO(surprise), weights_only=False)),
        ),
        ("torch.load(io.BytesIO(file.getvalue()))", _outcome(lambda: _load(surprise))),
    )
    return Session(lines, Text("Why it refuses: a pickle can run code", "为什么拒绝：pickle 可以运行代码"))


@functools.cache
def _moved() -> Session:
    """A whole net whose class is no longer where it was when the net was saved."""
    my_nets = sys.modules["my_nets"] = types.ModuleType("my_nets")
    try:
        net_class = type("Net", (nn.Sequential,), {"__module__": "my_nets"})
        vars(my_nets)["Net"] = net_class
        file = io.BytesIO()
        torch.save(net_class(nn.Linear(1, 1)), file)
        saved = file.getvalue()
        del vars(my_nets)["Net"]
        renamed = _outcome(lambda: torch.load(io.BytesIO(saved), weights_only=False))
    finally:
        del sys.modules["my_nets"]
    moved = _outcome(lambda: torch.load(io.BytesIO(saved), weights_only=False))
    load = "torch.load(io.BytesIO(file.getvalue()), weights_only=False)"
    lines = (
        ('my_nets = sys.modules["my_nets"] = types.ModuleType("my_nets")  # in place of a file my_nets.py', ""),
        ('class Net(nn.Sequential):\n    __module__ = "my_nets"', ""),
        ("my_nets.Net = Net", ""),
        ("file = io.BytesIO()", ""),
        ("torch.save(Net(nn.Linear(1, 1)), file)", ""),
        ("del my_nets.Net  # the class gets another name", ""),
        (load, renamed),
        ('del sys.modules["my_nets"]  # or its file does', ""),
        (load, moved),
    )
    return Session(lines, Text("A class that moves takes its nets away", "类一搬家，整个保存的网络就读不出来"))


def _load(pickled: bytes) -> object:
    return torch.load(io.BytesIO(pickled))


def _outcome(call: Callable[[], object]) -> str:
    """What Python's prompt says to a call: its value, or its error."""
    try:
        return repr(call())
    except pickle.UnpicklingError as error:
        # A long message, with codes that make a terminal bold: what happened, and to which class.
        lines = [line.strip().split(". ")[0] for line in str(error).splitlines()]
        told = [lines[0], *(line for line in lines if "Unsupported global" in line)]
        return "UnpicklingError: " + "\n".join(f"{sentence}. [...]" for sentence in told)
    except (AttributeError, ImportError) as error:
        return f"{type(error).__name__}: {error}"


LESSON = Training(
    key="saving",
    group="practice",
    prose=PROSE,
    config=SavingConfig,
    ideas=IDEAS,
    sources=(SavingTrainer.setup, save, restore_net, restore_params),
    trainer=SavingTrainer,
    task="regression",
    inputs=Port(("x",), Text("a number", "一个数")),
    outputs=Port(("y",), Text("a number, the prediction of y", "一个数，对 y 的预测")),
    metrics={"loss": LOSS, "test loss": TEST_LOSS},
)
