"""Activations: nonlinear functions, and how much of the gradient passes through them. Tutorial, 激励函数."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor

from charts.blocks import PythonSession, Table
from charts.chart import Array, Band, Chart, Line, Mark, Panel, as_array
from charts.text import Text, Words
from lab import prose
from lab.lesson import Computation, View
from lab.settings import Config, choices, number
from lab.transcript import Prompt

POINTS = 200  # points per curve, as in the tutorial
TABLE_POINTS = 10_001  # spacing below the width of any saturated interval
VANISHED, EXPLODED = 0.01, 100.0  # thresholds for the remaining fraction of a gradient


PROSE = prose.read(__file__)

IDEAS: dict[str, dict[str, Any]] = {
    "stack_twenty_layers": {"which": ["relu", "sigmoid"], "depth": 20},
    "step_back": {"which": ["relu", "softplus"], "low": -20.0, "high": 20.0},
    "dip_below_zero": {"which": ["relu", "gelu", "silu"]},
}

FUNCTION = Text("function", "函数")
NOWHERE = Text("nowhere", "无")

FORMULAS = {
    "relu": "max(0, x)",
    "sigmoid": "1 / (1 + exp(-x))",
    "tanh": "(exp(x) - exp(-x)) / (exp(x) + exp(-x))",
    "softplus": "log(1 + exp(x))",
    "leaky_relu": "max(0.01 * x, x)",
    "gelu": "x * Φ(x)",
    "silu": "x * sigmoid(x)",
}
CODE = {name: f"torch.{name}(x)" if name in ("sigmoid", "tanh") else f"F.{name}(x)" for name in FORMULAS}


@dataclass(frozen=True, kw_only=True)
class ActivationsConfig(Config):
    """Defaults: the tutorial's four functions on linspace(-5, 5, 200)."""

    which: tuple[str, ...] = choices(
        ("relu", "sigmoid", "tanh", "softplus"),
        Text("Functions", "函数"),
        {name: name for name in FORMULAS},
        info=Text("Functions to plot", "画哪几个"),
        least=1,
    )
    low: float = number(-5.0, Text("From", "从"), -20.0, -1.0, step=0.5, info=Text("Left end of x", "x 的左端"))
    high: float = number(5.0, Text("To", "到"), 1.0, 20.0, step=0.5, info=Text("Right end of x", "x 的右端"))
    threshold: float = number(
        0.05,
        Text("Saturated below", "饱和阈值"),
        0.005,
        0.5,
        step=0.005,
        info=Text("A slope smaller than this counts as flat", "导数的绝对值比它小就算饱和"),
    )
    depth: int = number(
        10,
        Text("Layers", "层数"),
        1,
        50,
        step=1,
        info=Text("Number of layers that the gradient passes through", "梯度要往回穿过多少层"),
    )


def activations(x: Tensor) -> dict[str, Tensor]:
    """Each function applied elementwise to x: the tutorial's four, and three newer ones."""
    return {
        "relu": F.relu(x),
        "sigmoid": torch.sigmoid(x),
        "tanh": torch.tanh(x),
        "softplus": F.softplus(x),
        "leaky_relu": F.leaky_relu(x),
        "gelu": F.gelu(x),
        "silu": F.silu(x),
    }


def derivative(y: Tensor, x: Tensor) -> Tensor:
    """Derivative of y with respect to each element of x, (N,), by autograd."""
    (gradient,) = torch.autograd.grad(y.sum(), x)  # each y depends on a single x, so the gradient of the sum suffices
    return gradient


def saturated(x: Tensor, slope: Tensor, threshold: float) -> list[tuple[float, float]]:
    """Intervals of x, in ascending order, in which the absolute slope is below the threshold."""
    flat = (slope.abs() < threshold).int()
    outside = torch.zeros(1, dtype=torch.int)
    steps = torch.diff(flat, prepend=outside, append=outside)  # 1 where an interval begins, -1 just after its end
    starts, ends = (steps == 1).nonzero().flatten(), (steps == -1).nonzero().flatten() - 1
    return list(zip(x[starts].tolist(), x[ends].tolist(), strict=True))


def compute(config: ActivationsConfig) -> View:
    """Plot the chosen functions and their slopes; list saturated intervals and the gradient after many layers."""
    sessions = _slope_session(config), _old_lines(config)
    return View(Chart(_panels(config)), {}, (*_tables(config), *sessions))


def _panels(config: ActivationsConfig) -> tuple[Panel, Panel]:
    x = torch.linspace(config.low, config.high, POINTS, requires_grad=True)
    at, x_range = as_array(x.detach()), (config.low, config.high)
    edge = np.full(POINTS, config.threshold, np.float32)
    curves: list[Mark] = []
    slopes: list[Mark] = [Band("", at, -edge, edge, color=6)]
    for color, (name, y) in enumerate(activations(x).items()):
        on = slice(POINTS if name in config.which else 0)  # functions that are not selected have no points
        slope = as_array(derivative(y, x))
        steep, flat = _split(as_array(y.detach()), np.abs(slope) < config.threshold)
        curves += [Line(name, at[on], steep[on], color=color), Line("", at[on], flat[on], color=color, dashed=True)]
        slopes.append(Line(name, at[on], slope[on], color=color))
    return (
        Panel(Text("Functions", "函数"), "x", "y", tuple(curves), x_range=x_range),
        Panel(Text("Slopes", "导数"), "x", "dy/dx", tuple(slopes), x_range=x_range, y_range=(-0.2, 1.2)),
    )


def _split(values: Array, flat: npt.NDArray[np.bool_]) -> tuple[Array, Array]:
    """The curve outside and inside its flat intervals, which overlap by one point so that the lines connect."""
    near = flat.copy()
    near[1:] |= flat[:-1]
    near[:-1] |= flat[1:]
    gap = np.float32("nan")
    return np.where(flat, gap, values), np.where(near, values, gap)


def _tables(config: ActivationsConfig) -> tuple[Table, Table]:
    x = torch.linspace(config.low, config.high, TABLE_POINTS, dtype=torch.float64, requires_grad=True)
    functions: list[tuple[Words, ...]] = []
    depths: list[tuple[Words, ...]] = []
    for name, y in activations(x).items():
        if name not in config.which:
            continue
        slope = derivative(y, x)
        largest = slope.abs().max().item()
        flat = [f"`[{_rounded(start)}, {_rounded(end)}]`" for start, end in saturated(x, slope, config.threshold)]
        values = f"`[{y.min().item():.3g}, {y.max().item():.3g}]`"
        functions.append((name, f"`{FORMULAS[name]}`", values, f"{largest:.3g}", ", ".join(flat) or NOWHERE))
        left = largest**config.depth
        depths.append((name, f"{largest:.3g}", f"{left:.2g}", _fate(left)))
    largest_slope = Text("largest slope", "最大导数")
    below = Text("saturated: slope below {t}", "饱和区：导数小于 {t}").format(t=f"{config.threshold:g}")
    after = Text("through {n} layers", "穿过 {n} 层").format(n=config.depth)
    return (
        Table(
            (FUNCTION, Text("formula", "公式"), Text("values", "取值"), largest_slope, below),
            tuple(functions),
            Text("From {low} to {high}", "从 {low} 到 {high}").format(low=f"{config.low:g}", high=f"{config.high:g}"),
        ),
        Table((FUNCTION, largest_slope, after, ""), tuple(depths), Text("Remaining gradient", "梯度还剩多少")),
    )


def _rounded(x: float) -> str:
    return f"{round(x, 2) + 0.0:.2f}"  # adding 0.0 turns -0.0 into 0.0


def _fate(left: float) -> Words:
    if left < VANISHED:
        return Text("vanishes", "消失")
    return Text("explodes", "爆炸") if left > EXPLODED else Text("survives", "保留")


def _slope_session(config: ActivationsConfig) -> PythonSession:
    source = f"""
        x = torch.linspace({config.low}, {config.high}, {POINTS}, requires_grad=True)
        y = {CODE[config.which[0]]}
        y.sum().backward()
        x.grad.min(), x.grad.max()
        y.numpy()
        y.detach().numpy().max()
    """
    title = Text("Slopes by autograd", "用自动求导得到导数")
    return Prompt(F=F, torch=torch).session(source, title, errors=(RuntimeError,))


def _old_lines(config: ActivationsConfig) -> PythonSession:
    source = f"""
        from torch.autograd import Variable
        x = Variable(torch.linspace({config.low}, {config.high}, {POINTS}))
        y_sigmoid = F.sigmoid(x).data.numpy()
        y_sigmoid.min(), y_sigmoid.max()
        torch.equal(F.sigmoid(x), torch.sigmoid(x))
        torch.equal(F.tanh(x), torch.tanh(x))
        x.requires_grad
        torch.sigmoid(x).numpy().max()
    """
    return Prompt(F=F, torch=torch).session(
        source, Text("Code of the old notes, run today", "旧笔记里的代码，今天运行")
    )


LESSON = Computation(
    key="activations",
    group="basics",
    prose=PROSE,
    config=ActivationsConfig,
    ideas=IDEAS,
    sources=(activations, derivative, saturated),
    compute=compute,
)
