"""Saving: a trained net is saved to files and loaded again. Tutorial, 保存和提取."""

import functools
import io
import pickle
import sys
import types
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import nn

from charts.blocks import Block, Note, PythonSession, Table
from charts.chart import Chart, as_array
from charts.text import Text, Words
from lab import plots, prose
from lab.data import evenly
from lab.evaluation import Now, Restored
from lab.experiment import Experiment, Learner
from lab.lesson import FeatureSpec, Training, View
from lab.transcript import Prompt, first_line
from nets.regression import RegressionConfig

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


def build(n_hidden: int) -> nn.Sequential:
    """The tutorial's net: (N, 1) -> (N, 1)."""
    return nn.Sequential(
        nn.Linear(1, n_hidden),
        nn.ReLU(),
        nn.Linear(n_hidden, 1),
    )


def setup(config: RegressionConfig) -> Experiment:
    """Each step trains on the whole training set."""
    train = config.data.make()
    net1 = build(config.hidden_units)
    optimizer = torch.optim.SGD(net1.parameters(), lr=config.learning_rate)
    learner = Learner("net", net1, optimizer, nn.MSELoss(), label="net1")
    return Experiment([learner], train, test=config.data.make(), steps=config.steps)


def save(net1: nn.Module) -> tuple[bytes, bytes]:
    """Save a net in two ways, here to memory. A path works as well: torch.save(net1, "net.pkl")."""
    net_pkl, net_params_pkl = io.BytesIO(), io.BytesIO()
    torch.save(net1, net_pkl)  # the whole net
    torch.save(net1.state_dict(), net_params_pkl)  # only the parameters
    return net_pkl.getvalue(), net_params_pkl.getvalue()


def restore_net(net_pkl: bytes) -> nn.Module:
    """Restore the whole net. Its classes must be importable and allowed."""
    with torch.serialization.safe_globals([nn.Sequential, nn.Linear, nn.ReLU]):
        net2: nn.Module = torch.load(io.BytesIO(net_pkl))
    return net2.eval()  # for inference


def restore_params(net_params_pkl: bytes, n_hidden: int) -> nn.Module:
    """Restore the parameters: build a net of the same architecture and load them into it."""
    net3 = build(n_hidden)
    net3.load_state_dict(torch.load(io.BytesIO(net_params_pkl)))
    return net3.eval()


def show(experiment: Experiment, now: Now) -> View:
    """Plot the net and the nets loaded from its files, and list the files' contents."""
    restored = now.restored.get("net", {})
    prediction = as_array(now.net.prediction)  # (N, 1)
    predicted = {file: each.predict(as_array(experiment.train.x)) for file, each in restored.items()}
    shown = {"Net1": prediction, **{f"{name}: {file}": predicted.get(file) for file, name in PANELS.items()}}
    panels = [
        plots.fit(title, experiment.train, each, y_range=now.config.data.y_range) for title, each in shown.items()
    ]
    remark = "read_back" if restored else "unsaved" if now.diverged else "waiting"
    kind = {"read_back": "good", "unsaved": "warning"}.get(remark, "info")
    blocks: tuple[Block, ...] = (
        Note(PROSE.notes[remark], kind),  # type: ignore[arg-type]
        _files(restored, {file: float(np.abs(each - prediction).max()) for file, each in predicted.items()}),
        _parameters(experiment.learners[0].net),
        *_sessions(now.config.hidden_units),
    )
    return View(Chart(tuple(panels)), now.losses(experiment), blocks)


def _files(restored: Mapping[str, Restored], differences: Mapping[str, float]) -> Table:
    """Table of the files: content and, once written, size, times and largest difference."""
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
    """Table of the entries of the state_dict."""
    state = net1.state_dict()
    rows: list[tuple[Words, ...]] = [
        (f"`{name}`", f"{tuple(tensor.shape)}", f"{tensor.numel()}", f"{tensor.nbytes}")
        for name, tensor in state.items()
    ]
    numbers, size = (sum(values) for values in zip(*((t.numel(), t.nbytes) for t in state.values()), strict=True))
    rows.append((Text("total", "合计"), "", f"{numbers}", f"{size}"))
    head = (Text("name", "名字"), Text("shape", "形状"), Text("numbers", "个数"), Text("bytes", "字节"))
    return Table(head, tuple(rows), "net1.state_dict()")


@functools.lru_cache(maxsize=64)  # every frame shows them, but they depend only on the net's architecture
def _sessions(n_hidden: int) -> tuple[PythonSession, ...]:
    with torch.enable_grad():
        return _alternatives(n_hidden), _pickled_code(), _moved_class(), _replaced_forward(n_hidden)


def _prompt(n_hidden: int) -> Prompt:
    return Prompt(
        net1=build(n_hidden).eval(),
        x=evenly(100, -1, 1),
        save=save,
        restore_net=restore_net,
        restore_params=restore_params,
        io=io,
        nn=nn,
        sys=sys,
        torch=torch,
        types=types,
    )


def _alternatives(n_hidden: int) -> PythonSession:
    """torch.load refuses a whole net; three alternatives."""
    source = f"""
        net_pkl, net_params_pkl = save(net1)
        torch.load(io.BytesIO(net_pkl))  # as in the old notes
        sorted(torch.serialization.get_unsafe_globals_in_checkpoint(io.BytesIO(net_pkl)))
        net2 = restore_net(net_pkl)  # 1: allow these classes by safe_globals
        trusted = torch.load(io.BytesIO(net_pkl), weights_only=False)  # 2: allow everything
        net3 = restore_params(net_params_pkl, {n_hidden})  # 3: a file without classes
        [torch.equal(net(x), net1(x)) for net in (net2, trusted, net3)]
    """
    title = Text("torch.load refuses, and three alternatives", "torch.load 拒绝加载，以及三种办法")
    return _prompt(n_hidden).session(source, title, errors=(pickle.UnpicklingError,), told=_refusal)


def _pickled_code() -> PythonSession:
    """A file that runs code while it is loaded."""
    source = """
        class Surprise:
            def __reduce__(self):  # returns the call that recreates the object
                return eval, ("6 * 7",)
        file = io.BytesIO()
        torch.save(Surprise(), file)
        torch.load(io.BytesIO(file.getvalue()), weights_only=False)  # runs the call in the file
        torch.load(io.BytesIO(file.getvalue()))
    """
    title = Text("Why it refuses: a pickle can run code", "为什么拒绝：pickle 可以运行代码")
    return _prompt(1).session(source, title, errors=(pickle.UnpicklingError,), told=_refusal)


def _moved_class() -> PythonSession:
    """A whole net whose class was moved after the net was saved."""
    source = """
        my_nets = sys.modules["my_nets"] = types.ModuleType("my_nets")  # instead of a file my_nets.py
        class Net(nn.Sequential):
            __module__ = "my_nets"
        my_nets.Net = Net
        file = io.BytesIO()
        torch.save(Net(nn.Linear(1, 1)), file)
        del my_nets.Net  # the class is renamed
        torch.load(io.BytesIO(file.getvalue()), weights_only=False)
        del sys.modules["my_nets"]  # the module is renamed
        torch.load(io.BytesIO(file.getvalue()), weights_only=False)
    """
    title = Text("A saved net cannot be loaded after its class has moved", "类一搬家，整个保存的网络就读不出来")
    try:
        return _prompt(1).session(source, title, errors=(AttributeError, ImportError), told=first_line)
    finally:
        sys.modules.pop("my_nets", None)


def _replaced_forward(n_hidden: int) -> PythonSession:
    """A net whose pickle contains only allowed classes, but whose forward was replaced."""
    source = """
        net = restore_net(save(net1)[0])
        vars(net)["forward"] = nn.ReLU()  # replaces the forward of its class
        net2 = restore_net(save(net)[0])  # allows only Sequential, Linear and ReLU
        [torch.equal(a, b) for a, b in zip(net2.parameters(), net1.parameters())]
        torch.equal(net2(x), net1(x))
    """
    return _prompt(n_hidden).session(source, Text("What safe_globals does not detect", "safe_globals 看不出的问题"))


def _refusal(error: Exception) -> str:
    """The first sentence of a long message with terminal codes, and the sentence that names the class."""
    lines = [line.strip().split(". ")[0] for line in str(error).splitlines()]
    sentences = [lines[0], *(line for line in lines if "Unsupported global" in line)]
    return "UnpicklingError: " + "\n".join(f"{sentence}. [...]" for sentence in sentences)


LESSON = Training(
    key="saving",
    group="practice",
    prose=PROSE,
    config=RegressionConfig,
    ideas=IDEAS,
    sources=(build, setup, save, restore_net, restore_params),
    setup=setup,
    show=show,
    task="regression",
    inputs=FeatureSpec(("x",), Text("a number", "一个数")),
    outputs=FeatureSpec(("y",), Text("a number, the prediction of y", "一个数，对 y 的预测")),
    metrics={"loss": plots.LOSS, "test loss": plots.TEST_LOSS},
)
