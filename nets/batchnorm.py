"""Batch norm: activations with inputs of mean 0 and standard deviation 1. Tutorial, Batch Normalization."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.func import functional_call

from charts.blocks import Block, Note, PythonSession, Table
from charts.chart import Band, Chart, Line, Mark, Panel, Points, as_array
from charts.text import Text, Words
from lab import plots, prose
from lab.data import shuffled_batches, wide_square
from lab.evaluation import Now, evaluating
from lab.experiment import Experiment, Learner, set_learning_rates
from lab.lesson import FeatureSpec, Training, View
from lab.settings import Config, choice, learning_rate, number, seed, steps, vector
from lab.transcript import Prompt

POINTS = 2000  # leaves no batch of one sample for batch sizes 2 to 500; batch norm would raise ValueError
TEST_POINTS = 200
NOISE = 2.0
HIDDEN_LAYERS, UNITS = 8, 10

BINS = 80  # per histogram
REACH = 5.0  # histograms cover [-REACH, REACH]; the outermost bins include all values beyond
SATURATED = 2.0  # the derivative of tanh is below 0.071 for larger absolute inputs


PROSE = prose.read(__file__)

IDEAS: dict[str, dict[str, Any]] = {
    "relu_instead_of_tanh": {"activation": "relu"},
    "statistics_that_lag_behind": {"momentum": 0.01, "mode": "eval"},
    "batches_of_4": {"batch_size": 4},
}


_MODES = {"train": PROSE.notes["train_mode"], "eval": PROSE.notes["eval_mode"]}

WITHOUT = Text("without batch norm", "不用批标准化")
WITH = Text("with batch norm", "用批标准化")


@dataclass(frozen=True, kw_only=True)
class BatchNormConfig(Config):
    """Settings of the nets, and of the single layer shown below them."""

    activation: str = choice(
        "tanh",
        Text("Activation", "激励函数"),
        {"tanh": "tanh", "relu": "ReLU"},
        info=Text("After each hidden layer", "放在每个隐藏层之后"),
    )
    learning_rate: float = learning_rate(0.03)
    steps: int = steps(384)  # 12 epochs of 32 batches
    batch_size: int = number(
        64, Text("Batch size", "批大小"), 2, 500, step=1, info=Text("Number of samples per step", "每一步用的样本数")
    )
    momentum: float = number(
        0.5,
        Text("Momentum in the net", "网络中的动量"),
        0.01,
        1.0,
        step=0.01,
        info=Text("Weight of a new batch in the running statistics", "新的一批在滑动统计量里占的权重"),
        live=True,
    )
    seed: int = seed()
    mode: str = choice(
        "train",
        Text("Look in", "查看模式"),
        {"train": Text("train mode", "训练模式"), "eval": Text("eval mode", "评估模式")},
        info=Text(
            "Normalize with the batch's statistics or with the running ones", "用这批数据的统计量，还是滑动统计量"
        ),
        view=True,
    )
    values: tuple[float, ...] = vector(
        (0, 1, 2, 3, 4),
        Text("x of the single layer", "单层的 x"),
        info=Text("A batch with one feature", "只有一个特征的一批数据"),
        least=2,
        longest=8,
        view=True,
    )
    layer_momentum: float = number(
        0.1,
        Text("Momentum of the single layer", "单层的动量"),
        0.01,
        1.0,
        step=0.01,
        info=Text("PyTorch's default is 0.1", "PyTorch 默认 0.1"),
        view=True,
    )
    passes: int = number(
        0,
        Text("Batches seen before", "之前见过的批数"),
        0,
        100,
        step=1,
        info=Text(
            "Number of earlier passes of x through the single layer in train mode", "单层在训练模式下已经见过几次 x"
        ),
        view=True,
    )


class Net(nn.Module):
    """Eight hidden layers: (N, 1) -> (N, 1). With batch norm, one stands before every activation and at the input."""

    def __init__(self, activation: str, batch_norm: bool, momentum: float, n_hidden: int, n_layers: int) -> None:
        super().__init__()

        def norm(features: int) -> nn.Module:
            return nn.BatchNorm1d(features, momentum=momentum) if batch_norm else nn.Identity()

        self.activation = nn.Tanh() if activation == "tanh" else nn.ReLU()
        self.norm_input = norm(1)
        self.layers = nn.ModuleList(nn.Linear(n_hidden if i else 1, n_hidden) for i in range(n_layers))
        self.norms = nn.ModuleList(norm(n_hidden) for _ in range(n_layers))
        self.predict = nn.Linear(n_hidden, 1)
        for layer in (*self.layers, self.predict):  # a bad start, on purpose
            nn.init.normal_(layer.weight, mean=0.0, std=0.1)
            nn.init.constant_(layer.bias, -0.2)

    def forward(self, x: Tensor) -> Tensor:
        x = self.norm_input(x)
        for layer, norm in zip(self.layers, self.norms, strict=True):
            x = self.activation(norm(layer(x)))  # (N, n_hidden): linear layer -> batch norm -> activation
        x = self.predict(x)  # (N, 1)
        return x


def setup(config: BatchNormConfig) -> Experiment:
    """Both nets train on the same mini-batches."""
    train, test = wide_square(POINTS, NOISE), wide_square(TEST_POINTS, NOISE)
    learners = []
    for name, label, batch_norm in (("plain", WITHOUT, False), ("batch_norm", WITH, True)):
        arguments: dict[str, Any] = {
            "activation": config.activation,
            "batch_norm": batch_norm,
            "momentum": config.momentum,
            "n_hidden": UNITS,
            "n_layers": HIDDEN_LAYERS,
        }
        net = Net(**arguments)
        optimizer = torch.optim.Adam(net.parameters(), lr=config.learning_rate, fused=True)
        learners.append(Learner(name, net, optimizer, nn.MSELoss(), arguments, label))
    return Experiment(learners, train, test, config.steps, shuffled_batches(train, config.batch_size))


def retune(experiment: Experiment, config: BatchNormConfig) -> None:
    """Apply the learning rate, and the momentum to the batch norm layers."""
    set_learning_rates(experiment, config)
    for learner in experiment.learners:
        learner.arguments = {**learner.arguments, "momentum": config.momentum}
        for module in learner.net.modules():
            if isinstance(module, nn.BatchNorm1d):
                module.momentum = config.momentum


def show(experiment: Experiment, now: Now) -> View:
    """Plot both fits, the losses, and histograms of the inputs of each layer's activation."""
    training = now.config.mode == "train"
    passes = [activation_inputs(each.net, experiment.test.x, training) for each in experiment.learners]
    loss = plots.losses(experiment, now, y_range=(1.0, 1e4), y_scale="log", smoothed=True)
    ridges = (
        _ridges(Text("Layers without batch norm", "各层：不用批标准化"), passes[0].inputs, 1),
        _ridges(Text("Layers with batch norm", "各层：用批标准化"), passes[1].inputs, 2),
    )
    blocks = (
        Note(_MODES[now.config.mode].format(points=TEST_POINTS)),
        _statistics(passes, now.config.activation),
        _momentum_note(now.config.momentum),
        *one_layer(now.config.values, now.config.layer_momentum, now.config.passes, training),
    )
    return View(Chart((_fits(experiment, passes), loss, *ridges)), now.losses(experiment), blocks)


def _fits(experiment: Experiment, passes: "Sequence[ForwardPass]") -> Panel:
    train, x = experiment.train, plots.column(experiment.test.x)
    every_fourth = plots.column(train.x[::4]), plots.column(train.y[::4])
    fits = (
        Line(learner.label, x, plots.column(each.prediction), color=number)
        for number, (learner, each) in enumerate(zip(experiment.learners, passes, strict=True), 1)
    )
    marks: tuple[Mark, ...] = (Points(Text("data, every fourth", "数据（每四个取一个）"), *every_fourth, size=4), *fits)
    title = Text("Data and fits", "数据与拟合")
    return Panel(title, "x", "y", marks, x_range=(-7.5, 10.5), y_range=(-25, 110))


@dataclass(frozen=True, eq=False)
class ForwardPass:
    """Outputs of all norms, (N, units) each, starting with the norm of the net's input, and the prediction."""

    inputs: tuple[Tensor, ...]
    prediction: Tensor


def activation_inputs(net: nn.Module, x: Tensor, training: bool) -> ForwardPass:
    """Run the net in train or eval mode and record the outputs of its norms. Does not change the net's state."""
    inputs: list[Tensor] = []
    norms = [net.get_submodule("norm_input"), *net.get_submodule("norms").children()]
    hooks = [norm.register_forward_hook(lambda module, given, made: inputs.append(made)) for norm in norms]
    # A pass in train mode updates the running statistics, so it runs with copies of them.
    copies = {name: buffer.clone() for name, buffer in net.named_buffers()}
    try:
        with evaluating(net):  # restores the modes
            prediction = functional_call(net.train(training), copies, (x,))
    finally:
        for hook in hooks:
            hook.remove()
    return ForwardPass(tuple(inputs), prediction)


def batch_norm_by_hand(layer: nn.BatchNorm1d, x: Tensor) -> Tensor:
    """The layer's output for x (N, features), computed step by step."""
    if layer.training:
        mean, var = x.mean(dim=0), x.var(dim=0, correction=0)  # of the batch; biased variance, divided by N
    else:
        mean, var = layer.get_buffer("running_mean"), layer.get_buffer("running_var")
    normal = (x - mean) / torch.sqrt(var + layer.eps)  # mean 0, standard deviation 1
    return normal * layer.weight + layer.bias  # initially 1 and 0; learned, one pair per feature


def _ridges(title: Words, inputs: Sequence[Tensor], color: int) -> Panel:
    """Panel with a histogram for each layer, with the layer's number as its baseline."""
    edges = np.linspace(-REACH, REACH, BINS + 1)
    x = as_array(edges.repeat(2)[1:-1])  # both ends of each bin
    bands = []
    for layer, values in enumerate(inputs):
        counts = torch.histc(values.clamp(-REACH, REACH), BINS, -REACH, REACH)
        heights = as_array(layer + 0.9 * counts / counts.max().clamp(min=1)).repeat(2)
        bands.append(Band("", x, np.full_like(x, layer), heights, color=color))
    label, layers = Text("input of the activation", "激励函数的输入"), Text("layer", "层")
    return Panel(title, label, layers, tuple(bands), x_range=(-REACH, REACH), y_range=(-0.1, HIDDEN_LAYERS + 1))


def _statistics(passes: Sequence[ForwardPass], activation: str) -> Table:
    """Table of mean, standard deviation and share of saturated or dead units by layer, without and with batch norm."""
    stuck = Text("saturated", "饱和") if activation == "tanh" else Text("dead", "死亡")
    layers, mean, deviation = Text("Layer", "层"), Text("mean", "均值"), Text("deviation", "标准差")
    columns: list[Words] = [
        Text("{what}, {which}", "{which}：{what}").format(what=what, which=which)
        for which in (Text("without", "不用"), Text("with", "用"))
        for what in (mean, deviation, stuck)
    ]
    rows = []
    for layer, pair in enumerate(zip(*(each.inputs for each in passes), strict=True)):
        cells: list[Words] = []
        for values in pair:
            unit = values.std(dim=0, correction=0).mean().item()  # std over the batch, averaged over the units
            share = f"{stuck_share(values, activation):.0%}" if layer else "–"  # the net's input has no activation
            cells += [_number(round(values.mean().item(), 2)), f"{unit:.2g}", share]
        rows.append((str(layer), *cells))
    title = Text("Inputs of the activations, without and with batch norm", "激励函数的输入：不用和用批标准化")
    return Table((layers, *columns), tuple(rows), title)


def stuck_share(values: Tensor, activation: str) -> float:
    """Share of inputs (N, units) at which tanh is saturated, or of units whose ReLU returns 0 for all samples."""
    stuck = values.abs() > SATURATED if activation == "tanh" else (values <= 0).all(dim=0)
    return stuck.double().mean().item()


def _momentum_note(momentum: float) -> Note:
    """Note with the number of batches after which older statistics have a weight below 5 %."""
    batches = math.ceil(math.log(0.05) / math.log(1 - momentum)) if momentum < 1 else 1
    name = "fast" if batches <= 10 else "slow"
    share = f"{1 - (1 - momentum) ** batches:.0%}"
    return Note(PROSE.notes[name].format(momentum=f"{momentum:g}", share=share, batches=batches))


@lru_cache(maxsize=64)  # every frame shows it, but it depends only on the settings
def one_layer(values: tuple[float, ...], momentum: float, passes: int, training: bool) -> tuple[Block, ...]:
    """The tutorial's single layer for the given values: session, statistics, and the formula step by step."""
    with torch.enable_grad():
        return tuple(_one_layer(values, momentum, passes, training))


def _one_layer(values: tuple[float, ...], momentum: float, passes: int, training: bool) -> Iterator[Block]:
    typed = list(map(float, values))
    prompt = Prompt(nn=nn, torch=torch, batch_norm_by_hand=batch_norm_by_hand)
    before = f"for _ in range({passes}):\n    _ = layer(x)" if passes else ""
    source = "\n".join(
        (
            f"x = torch.tensor({typed}).unsqueeze(1)  # ({len(typed)}, 1)",
            f"layer = nn.BatchNorm1d(1, momentum={momentum})  # 1 feature: x has one column",
            before,
            "" if training else "_ = layer.eval()",
            "out = layer(x)",
            "out",
            "layer.running_mean, layer.running_var",
            "(out - batch_norm_by_hand(layer, x)).abs().max().item()  # equal up to rounding",
        )
    )
    lines = prompt.session(source).lines
    x, layer, out = (prompt.names[name] for name in ("x", "layer", "out"))
    assert isinstance(x, Tensor)
    assert isinstance(layer, nn.BatchNorm1d)
    assert isinstance(out, Tensor)
    running = layer.get_buffer("running_mean").item(), layer.get_buffer("running_var").item()
    refused = prompt.session("layer.train()(x[:1])  # one sample has no variance", errors=(ValueError,))
    yield PythonSession((*lines, *refused.lines), Text("A single layer", "单看一层"))

    mean, var, unbiased = x.mean().item(), x.var(correction=0).item(), x.var().item()
    biased_label = Text("this batch, variance divided by N: for train mode", "这批数据，方差除以 N：训练模式用它")
    unbiased_label = Text(
        "this batch, variance divided by N - 1: for `running_var`", "这批数据，方差除以 N - 1：计入 `running_var`"
    )
    seen = Text("running, batches seen in train mode: {n}", "滑动统计量，训练模式下见过的批数：{n}")
    rows = (
        (Text("running, initial", "滑动统计量，新建时"), 0.0, 1.0),
        (seen.format(n=passes + training), *running),
        (biased_label, mean, var),
        (unbiased_label, mean, unbiased),
    )
    yield Table(
        ("", Text("mean", "均值"), Text("variance", "方差")),
        tuple((label, _number(m), _number(v)) for label, m, v in rows),
        Text("Its statistics", "它的统计量"),
    )

    used_mean, used_var = (mean, var) if training else running
    root = math.sqrt(used_var + layer.eps)
    weight, bias = layer.weight.item(), layer.bias.item()
    centered = x - used_mean
    normal = centered / root
    parts = torch.cat((x, centered, normal, normal * weight + bias, out), dim=1)  # (N, 5)
    head = (
        "x",
        f"x - {_number(used_mean)}",
        f"/ sqrt({_number(used_var)} + {layer.eps:g}) = {_number(root)}",
        f"· {weight:g} + {bias:g}",
        "layer(x)",
    )
    title = Text(
        "Its formula, step by step: (x - mean) / sqrt(var + eps) · weight + bias",
        "公式逐步展开：(x - mean) / sqrt(var + eps) · weight + bias",
    )
    yield Table(head, tuple(tuple(map(_number, row)) for row in parts.tolist()), title)


def _number(value: float) -> str:
    return f"{value + 0.0:.5g}"  # adding 0.0 turns -0.0 into 0.0


LESSON = Training(
    key="batchnorm",
    group="better",
    prose=PROSE,
    config=BatchNormConfig,
    ideas=IDEAS,
    sources=(Net, setup, shuffled_batches, activation_inputs, batch_norm_by_hand),
    setup=setup,
    show=show,
    task="regression",
    inputs=FeatureSpec(("x",), Text("a number", "一个数")),
    outputs=FeatureSpec(("y",), Text("a number, the prediction of y", "一个数，对 y 的预测")),
    metrics={
        "plain loss": Text("loss without batch norm", "不用批标准化的损失"),
        "plain test loss": Text("test loss without batch norm", "不用批标准化的测试损失"),
        "batch_norm loss": Text("loss with batch norm", "用批标准化的损失"),
        "batch_norm test loss": Text("test loss with batch norm", "用批标准化的测试损失"),
    },
    retune=retune,
    pace=5,
)
