"""Sequential: the same net as a class and as nn.Sequential. Tutorial, 快速搭建法."""

import math
from collections import OrderedDict
from dataclasses import dataclass, replace
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn

from charts.blocks import Block, Note, PythonSession, Table
from charts.chart import Chart, Line
from charts.text import Text, Words
from lab import plots, prose
from lab.data import TwoBlobs
from lab.evaluation import Now
from lab.experiment import Experiment, Learner
from lab.lesson import Training, View
from lab.settings import Config, group, hidden_units, learning_rate, seed, steps, switch
from lab.transcript import Prompt
from nets.classification import POINT_OF_THE_PLANE, SCORES, Net

PROSE = prose.read(__file__)

IDEAS: dict[str, dict[str, Any]] = {
    "start_apart": {"same_start": False},
    "a_rough_ride": {"noise": 3.0, "hidden_units": 100, "learning_rate": 1.0, "steps": 300},
    "one_unit_two_fates": {"same_start": False, "hidden_units": 1, "learning_rate": 0.1, "seed": 15},
}


@dataclass(frozen=True, kw_only=True)
class SequentialConfig(Config):
    """Defaults: the settings of the tutorial's classification, which trains the same net."""

    same_start: bool = switch(
        True,
        Text("Same start", "相同起点"),
        info=Text("Initialize both nets with the same weights", "两个网络从相同的权重出发"),
    )
    learning_rate: float = learning_rate(0.02)
    steps: int = steps(100)
    hidden_units: int = hidden_units(10)
    data: TwoBlobs = group(TwoBlobs)
    seed: int = seed()


def copy_weights(source: nn.Module, target: nn.Module) -> None:
    """Copy the weights of `source` to `target`, which has the same shapes in the same order under other names."""
    names = target.state_dict().keys()  # 0.weight, 0.bias, 2.weight, 2.bias
    values = source.state_dict().values()  # of hidden.weight, hidden.bias, out.weight, out.bias
    target.load_state_dict(dict(zip(names, values, strict=True)))


def setup(config: SequentialConfig) -> Experiment:
    """In each step both nets train on the whole training set."""
    train = config.data.make()
    n_hidden = config.hidden_units
    sizes = {"n_feature": 2, "n_hidden": n_hidden, "n_output": 2}
    net_class = Net(**sizes)
    net_sequential = nn.Sequential(
        nn.Linear(2, n_hidden),
        nn.ReLU(),
        nn.Linear(n_hidden, 2),
    )
    if config.same_start:
        copy_weights(net_class, net_sequential)

    loss_func = nn.CrossEntropyLoss()
    optimizer_class, optimizer_sequential = (
        torch.optim.SGD(net.parameters(), lr=config.learning_rate) for net in (net_class, net_sequential)
    )
    learners = [
        Learner("net_class", net_class, optimizer_class, loss_func, sizes, "class Net"),
        Learner("net_sequential", net_sequential, optimizer_sequential, loss_func, label="nn.Sequential"),
    ]
    return Experiment(learners, train, test=config.data.make_test(), steps=config.steps)


def show(experiment: Experiment, now: Now) -> View:
    """Plot both decision boundaries and losses, and compare the nets' outputs and weights."""
    planes = (plots.plane(each.label, each.net, experiment.train) for each in experiment.learners)
    loss = plots.losses(experiment, now, plots.CROSS_ENTROPY)
    # The second curve may cover the first, so it is dashed.
    first, second, changes = loss.marks
    assert isinstance(second, Line)
    difference = (now.nets[0].prediction - now.nets[1].prediction).abs().max().item()
    blocks: tuple[Block, ...] = (
        *_remark(difference),
        _weights(experiment),
        _other_names(experiment, now.config.hidden_units),
    )
    metrics = {**now.losses(experiment), "difference": difference}
    return View(Chart((*planes, replace(loss, marks=(first, replace(second, dashed=True), changes)))), metrics, blocks)


def _remark(difference: float) -> tuple[Note, ...]:
    if math.isnan(difference):  # both nets have overflowed in a diverged run
        return ()
    if difference == 0:
        return (Note(PROSE.notes["same"], "good"),)
    return (Note(PROSE.notes["different"].format(difference=f"{difference:.3g}")),)


def _weights(experiment: Experiment) -> Table:
    """Table of the parameters of both nets, side by side."""
    ours, theirs = (each.net.state_dict() for each in experiment.learners)
    rows: list[tuple[Words, ...]] = []
    for (name, one), (other_name, other) in zip(ours.items(), theirs.items(), strict=True):
        difference = f"{(one - other).abs().max().item():.3g}"
        rows.append((f"`{name}`", f"`{other_name}`", f"{tuple(one.shape)}", f"{one.numel()}", difference))
    total = sum(tensor.numel() for tensor in ours.values())
    rows.append((Text("total", "合计"), "", "", f"{total}", ""))
    head = (
        Text("in `class Net`", "在 `class Net` 中"),
        Text("in `nn.Sequential`", "在 `nn.Sequential` 中"),
        Text("shape", "形状"),
        Text("numbers", "个数"),
        Text("largest difference", "最大差"),
    )
    return Table(head, tuple(rows), Text("Weights", "权重"))


def _other_names(experiment: Experiment, n: int) -> PythonSession:
    """A session that prints both nets, and copies weights between nets of the same shapes."""
    net_class, net_sequential = (each.net for each in experiment.learners)
    prompt = Prompt(
        net_class=net_class,
        net_sequential=net_sequential,
        x=experiment.train.x,
        copy_weights=copy_weights,
        OrderedDict=OrderedDict,
        F=F,
        nn=nn,
    )
    source = f"""
        print(net_class)
        print(net_sequential)
        net = nn.Sequential(nn.Linear(2, {n}), nn.ReLU(), nn.Linear({n}, 2))
        net.load_state_dict(net_class.state_dict())
        copy_weights(net_class, net)
        (net(x) - net_class(x)).abs().max().item()
        layers = OrderedDict(hidden=nn.Linear(2, {n}), relu=nn.ReLU(), out=nn.Linear({n}, 2))
        named = nn.Sequential(layers)
        named.load_state_dict(net_class.state_dict())
        nn.Sequential(nn.Linear(2, {n}), F.relu)
    """
    title = Text("The same weights under other names", "相同的权重，不同的名字")
    return prompt.session(source, title, errors=(RuntimeError, TypeError), told=_whole_message)


def _whole_message(error: Exception) -> str:
    return f"{type(error).__name__}: {str(error).expandtabs(4)}"


LESSON = Training(
    key="sequential",
    group="first",
    prose=PROSE,
    config=SequentialConfig,
    ideas=IDEAS,
    sources=(Net, copy_weights, setup),
    setup=setup,
    show=show,
    task="classification",
    inputs=POINT_OF_THE_PLANE,
    outputs=SCORES,
    metrics={
        "net_class loss": Text("class Net: loss", "class Net：损失"),
        "net_class test loss": Text("class Net: test loss", "class Net：测试损失"),
        "net_sequential loss": Text("nn.Sequential: loss", "nn.Sequential：损失"),
        "net_sequential test loss": Text("nn.Sequential: test loss", "nn.Sequential：测试损失"),
        "difference": Text("largest difference", "最大差"),
    },
    classes=SCORES.features,
)
