"""Saving: a trained net goes to files and comes back. Tutorial, 保存和提取."""

import functools
import io
import pickle
import sys
import types
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import nn

from charts.blocks import Block, Note, Session, Table
from charts.chart import Array, Chart, Line, Panel, Points, as_array
from charts.text import Text, Words
from lab.data import noisy_square
from lab.diagnosis import Evaluation
from lab.lesson import Idea, Port, Training, View
from lab.settings import NOISE, POINTS, Config, hidden_units, learning_rate, number, seed, steps
from lab.training import LOSS, TEST_LOSS, Learner, Restored, Trainer

SUMMARY = Text(
    """
**A trained net is a handful of numbers: keep them.** When training ends, net1 is saved as a whole, as its parameters
alone, and as ONNX. Net2, net3 and net4 are read back from these files and predict what net1 predicts.
""",
    """
**训练好的网络就是一些数，把它们存下来**。训练结束后，net1 以三种方式保存：整个网络、只有参数、ONNX。
net2、net3、net4 从这些文件中提取出来，预测结果与 net1 一样。
""",
)

TEXT = Text(
    """
### What you see

Once training has ended, the files are written and read back, and each panel draws what the net of its file predicts.
The torch files give net1's outputs exactly. ONNX runs elsewhere than in torch, and may round the last digit otherwise.

- `net.pkl` is the whole net, made by `torch.save(net1, ...)`. It holds the weights, but its classes only by name, such
  as `torch.nn.modules.linear.Linear`. If your own class is renamed or moves, the file no longer loads.
- `net_params.pkl` holds `net1.state_dict()`: tensors by name, no classes. Build the same net anew, then
  `load_state_dict` fills it in. This is the way to keep a net.
- `net.safetensors` holds the same tensors without pickle: nothing in it can run.
- `net.onnx` holds the weights and the computation, and needs neither torch nor your code.

Call `net.eval()` after loading. A net built anew is in training mode, and a whole net comes back in the mode in which
it was saved; dropout and batch norm then behave as in training. This net has neither, so here it makes no difference.

### Then and now

The old notes' `torch.load('net.pkl')` raises *UnpicklingError* today. A pickle can run any code while it is loaded,
so since torch 2.6 `torch.load` takes only tensors and simple values (`weights_only=True`) unless told otherwise. There
are three ways: allow the classes by `torch.serialization.safe_globals` (`add_safe_globals` allows them for the rest of
the program); pass `weights_only=False` for a file that you trust as you trust a program; or save the `state_dict`, best
of all.

`safe_globals` is no protection against a file that is made to do harm. Below, a file of nothing but allowed classes
brings a `forward` of its own: its weights are those of net1 to the last bit, and its outputs are not. A file can go
further. With a class allowed, the functions that `weights_only=True` always allows can set attributes of torch's own
unpickler, and end in code of the file's choice; in torch 2.5 no class had to be allowed for that (CVE-2025-32434). So
load a whole net only from people whose programs you would run; from anybody else take its `net.safetensors`, and the
class from your own code.

The notes warn that restoring the whole net may be slow. For a net of this size both ways take a few milliseconds at
most: see the table. For a large one, what takes time is the weights, and both ways read them. And the notes draw net1
by the `prediction` made before the last step, so there net1 is one step behind net2 and net3.
""",
    """
### 看什么

训练一结束，文件就写好并读回来，每张图画出从对应文件提取的网络的预测。两个 torch 文件给出的输出与 net1 完全相同。
ONNX 不在 torch 里运行，最后一位的舍入可能不同。

- `net.pkl` 是整个网络，由 `torch.save(net1, ...)` 保存。权重都在里面，类却只记了名字，例如
  `torch.nn.modules.linear.Linear`。如果你自己的类改了名或换了地方，这个文件就读不出来了。
- `net_params.pkl` 保存 `net1.state_dict()`：带名字的张量，没有类。先重新搭建同样的网络，再用
  `load_state_dict` 填入参数。长期保存网络就用这种方式。
- `net.safetensors` 保存同样的张量，但不用 pickle：里面没有任何能运行的东西。
- `net.onnx` 保存权重和计算过程，既不需要 torch，也不需要你的代码。

加载之后要调用 `net.eval()`。新搭建的网络处于训练模式；整个网络读回来时，保存时是什么模式就是什么模式。
在训练模式下，dropout 和批标准化会按训练时的方式计算。这里的网络两者都没有，所以没有区别。

### 过去与现在

旧笔记的 `torch.load('net.pkl')` 今天会报错 *UnpicklingError*。读取 pickle 时可以运行任何代码，
所以从 torch 2.6 起，`torch.load` 默认只读张量和简单的值（`weights_only=True`）。有三种办法：
用 `torch.serialization.safe_globals` 允许这几个类（`add_safe_globals` 则在整个程序里一直允许）；
对于像程序一样信得过的文件，传入 `weights_only=False`；或者只保存 `state_dict`，这是最好的办法。

对于蓄意制作的文件，`safe_globals` 起不到保护作用。下面的文件只用到允许的类，却自带一个 `forward`：权重与 net1
逐位相同，输出却不同。文件还可以做得更多：一旦允许了某个类，`weights_only=True` 始终允许的那些函数就能修改 torch
自己的反序列化器的属性，最终运行文件指定的代码；在 torch 2.5 里，甚至不需要允许任何类（CVE-2025-32434）。
所以，只有当你愿意运行对方的程序时，才加载对方的整个网络；否则只取 `net.safetensors`，类用你自己的代码。

旧笔记提醒提取整个网络可能较慢。这么小的网络，两种方式最多只要几毫秒，见表。网络很大时，花时间的是读权重，
而两种方式都要读。另外，旧笔记画 net1 用的 `prediction` 是最后一步之前算的，所以那里的 net1 比 net2、net3 落后一步。
""",
)

IDEAS = (
    Idea(
        Text("A wider net", "更宽的网络"),
        Text(
            "100 hidden units have 301 numbers instead of 31, and each file grows by about 12 bytes a unit: three"
            " float32 numbers.",
            "100 个隐藏单元有 301 个数，而不是 31 个；每多一个单元，每个文件大约增加 12 个字节，也就是三个 float32。",
        ),
        {"hidden_units": 100, "learning_rate": 0.1},
    ),
    Idea(
        Text("One hidden unit", "一个隐藏单元"),
        Text(
            "4 numbers, 16 bytes, and yet the .pkl files are no smaller than with 10 units: torch.save begins every"
            " tensor at a multiple of 64 bytes. net.safetensors does shrink.",
            "只有 4 个数、16 个字节，但两个 .pkl 文件并不比 10 个单元时小：torch.save 让每个张量都从"
            " 64 字节的整数倍处开始。net.safetensors 则变小了。",
        ),
        {"hidden_units": 1},
    ),
    Idea(
        Text("Save too early", "保存得太早"),
        Text(
            "After 3 steps the net fits badly. The files restore it just as bad, and are as large as those of a net"
            " that has learned: they keep numbers, good or not.",
            "只训练 3 步，网络拟合得很差。文件提取出来的网络也一样差，文件却和学好的网络一样大："
            "它们只管保存数值，不管好坏。",
        ),
        {"steps": 3},
    ),
)

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
    title=Text("Saving", "保存和提取"),
    group="practice",
    summary=SUMMARY,
    text=TEXT,
    config=SavingConfig,
    ideas=IDEAS,
    sources=(SavingTrainer.setup, save, restore_net, restore_params),
    trainer=SavingTrainer,
    task="regression",
    inputs=Port(("x",), Text("a number", "一个数")),
    outputs=Port(("y",), Text("a number, the prediction of y", "一个数，对 y 的预测")),
    metrics={"loss": LOSS, "test loss": TEST_LOSS},
)
