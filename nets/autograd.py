"""Autograd: torch records a graph of operations and computes gradients by traversing it backwards.

Tutorial, 变量Variable.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from charts.blocks import Block, Graph, Node, Note, PythonSession, Table
from charts.chart import Chart, Line, Panel, Points, as_array
from charts.text import Text, Words
from lab import prose
from lab.lesson import Computation, View
from lab.settings import Config, choice, matrix, number, switch
from lab.transcript import Prompt

STEP = 1e-4  # of the finite difference: far above float64's rounding error, and its square is negligible
TOLERANCE = 1e-4  # relative to the gradient, absolute if the gradient is below 1
CURVE_POINTS = 201


PROSE = prose.read(__file__)

IDEAS: dict[str, dict[str, Any]] = {
    "forget_to_zero": {"passes": 3},
    "stand_on_the_kink": {"expression": "sum_relu", "values": [[-1, 0, 1]]},
    "follow_two_ways_back": {"expression": "sum_product"},
}


@dataclass(frozen=True)
class Expression:
    """An elementwise function of v, reduced by mean or sum. `slope` is the code of its analytic derivative."""

    term_code: str
    term: Callable[[Tensor], Tensor]
    slope: str
    mean: bool = False
    kinked: bool = False  # not differentiable at 0

    @property
    def code(self) -> str:
        """Python code of the expression, including the reduction."""
        return f"torch.{'mean' if self.mean else 'sum'}({self.term_code})"

    def __call__(self, v: Tensor) -> Tensor:
        return torch.mean(self.term(v)) if self.mean else torch.sum(self.term(v))


EXPRESSIONS = {
    "mean_square": Expression("v * v", lambda v: v * v, "2 * v / v.numel()", mean=True),
    "sum_cube": Expression("v**3", lambda v: v**3, "3 * v**2"),
    "sum_sin": Expression("torch.sin(v)", lambda v: torch.sin(v), "torch.cos(v)"),
    "sum_bell": Expression("torch.exp(-v**2)", lambda v: torch.exp(-(v**2)), "-2 * v * torch.exp(-v**2)"),
    "sum_relu": Expression("torch.relu(v)", lambda v: torch.relu(v), "(v > 0).float()", kinked=True),
    "sum_product": Expression(
        "torch.sin(v) * torch.sigmoid(v)",
        lambda v: torch.sin(v) * torch.sigmoid(v),
        "torch.sigmoid(v) * (torch.cos(v) + torch.sin(v) * torch.sigmoid(-v))",
    ),
}


@dataclass(frozen=True, kw_only=True)
class AutogradConfig(Config):
    """Defaults: the tutorial's mean(v * v), differentiated once."""

    expression: str = choice(
        "mean_square",
        Text("v_out", "v_out"),
        {key: expression.code for key, expression in EXPRESSIONS.items()},
        info=Text("Scalar computed from v", "由 v 算出的数"),
    )
    values: tuple[tuple[float, ...], ...] = matrix(
        ((1, 2), (3, 4)),
        Text("Values of v", "v 的值"),
        info=Text("Point at which the gradient is computed", "在哪里求导"),
    )
    passes: int = number(
        1,
        Text("Backward passes", "反向传播次数"),
        1,
        3,
        step=1,
        info=Text("Number of times v_out is computed and backward is called", "计算 v_out 并调用 backward 多少次"),
    )
    zero_grad: bool = switch(
        False,
        Text("Zero between passes", "每次之前清零"),
        info=Text("Set v.grad to None before each pass", "每次之前把 v.grad 设为 None"),
    )


def backward_passes(function: Callable[[Tensor], Tensor], v: Tensor, passes: int, zero_grad: bool) -> Iterator[Tensor]:
    """Yield v.grad after each pass. v is a leaf that requires grad."""
    for _ in range(passes):
        if zero_grad:
            v.grad = None  # what optimizer.zero_grad() does
        v_out = function(v)  # a scalar; each pass records a new graph
        v_out.backward()  # accumulates into v.grad
        assert v.grad is not None
        yield v.grad.clone()


def finite_difference(function: Callable[[Tensor], Tensor], v: Tensor) -> Tensor:
    """Central differences (f(v + h) - f(v - h)) / 2h for each element of v, as a float64 tensor of the same shape."""
    v = v.detach().double()  # in float32 the difference of nearly equal values would be mostly rounding error
    slope = torch.zeros_like(v)
    for place in np.ndindex(*v.shape):
        step = torch.zeros_like(v)
        step[place] = STEP
        slope[place] = (function(v + step) - function(v - step)) / (2 * STEP)
    return slope


def recorded(v_out: Tensor) -> tuple[list[Any], list[tuple[int, int]]]:
    """The graph recorded for v_out: its nodes in topological order, inputs first, and edges as pairs of indices."""
    nodes: list[Any] = []
    arrows: list[tuple[int, int]] = []

    def visit(node: Any) -> int:
        if node in nodes:  # already visited on another path
            return nodes.index(node)
        sources = [visit(source) for source, _ in node.next_functions if source is not None]
        nodes.append(node)
        arrows.extend((source, len(nodes) - 1) for source in sources)
        return len(nodes) - 1

    visit(v_out.grad_fn)
    return nodes, arrows


def compute(config: AutogradConfig) -> View:
    """Gradient, finite difference and graph of the chosen expression; effects of detach, no_grad and Variable."""
    expression = EXPRESSIONS[config.expression]
    v = _leaf(config)
    (gradient,) = backward_passes(expression, v, 1, zero_grad=False)
    measured = finite_difference(expression, v)
    grads = list(backward_passes(expression, _leaf(config), config.passes, config.zero_grad))
    chart = Chart((_share(expression, v, gradient), _slopes(gradient, measured, grads[-1])))
    blocks: tuple[Block, ...] = (
        _verdict(expression, v, gradient, measured),
        *_accumulation(config),
        _passes(config, expression),
        _table(v, gradient, measured, grads),
        _graph(expression(v), v),
        _without_graph(config, expression),
        _variable(config),
        _data_and_detach(config),
    )
    return View(chart, {}, blocks)


def _leaf(config: AutogradConfig) -> Tensor:
    return torch.tensor(config.values, dtype=torch.float32, requires_grad=True)


def _code(config: AutogradConfig) -> str:
    return str([[float(value) for value in row] for row in config.values])


def _verdict(expression: Expression, v: Tensor, gradient: Tensor, measured: Tensor) -> Note:
    gap = (gradient - measured).abs()
    largest = f"{gap.max().item():.1e}"
    if bool((gap <= TOLERANCE * gradient.abs().clamp(min=1)).all()):
        said = PROSE.notes["agrees"]
        return Note(said.format(slope=expression.slope, largest=largest), "good")
    if expression.kinked and bool((v.abs() < STEP).any()):
        said = PROSE.notes["on_the_kink"]
        return Note(said.format(largest=largest), "warning")
    terms = expression.term(v.detach().double()).abs().max().item()
    said = PROSE.notes["rounding"]
    return Note(said.format(largest=largest, terms=f"{terms:.0e}"), "warning")


def _accumulation(config: AutogradConfig) -> Iterator[Note]:
    if config.passes == 1:
        return
    said = PROSE.notes["emptied" if config.zero_grad else "added_up"]
    yield Note(said.format(n=config.passes), "good" if config.zero_grad else "warning")


def _passes(config: AutogradConfig, expression: Expression) -> PythonSession:
    lines = [f"v = torch.tensor({_code(config)}, requires_grad=True)"]
    for _ in range(config.passes):
        emptied = ["v.grad = None"] if config.zero_grad else []
        lines += [*emptied, f"v_out = {expression.code}", "v_out", "v_out.backward()", "v.grad"]
    lines.append("v_out.backward()  # a second time on the same graph")
    title = Text("Forward and backward", "前向传播与反向传播")
    return _prompt().session("\n".join(lines), title, errors=(RuntimeError,))


def _table(v: Tensor, gradient: Tensor, measured: Tensor, grads: list[Tensor]) -> Table:
    rows = tuple(
        (
            f"`v[{row}, {column}]`",
            f"{v[row, column].item():g}",
            f"{gradient[row, column].item():.6g}",
            f"{measured[row, column].item():.6g}",
            f"{gradient[row, column].item() - measured[row, column].item():.1e}",
            f"{grads[-1][row, column].item():.6g}",
        )
        for row, column in np.ndindex(*v.shape)
    )
    head: tuple[Words, ...] = (
        Text("element", "元素"),
        Text("value", "值"),
        Text("gradient", "梯度"),
        Text("finite difference", "有限差分"),
        Text("difference", "相差"),
        Text("final `v.grad`", "最后的 `v.grad`"),
    )
    return Table(head, rows, Text("Gradient and finite difference", "梯度与有限差分"))


def _graph(v_out: Tensor, v: Tensor) -> Graph:
    nodes, arrows = recorded(v_out)
    leaf = Node(f"v {tuple(v.shape)}", "leaf")
    operations = [Node(type(node).__name__) for node in nodes]
    ends = [(0, 1 + place) for place, node in enumerate(nodes) if getattr(node, "variable", None) is v]
    shifted = [(start + 1, end + 1) for start, end in arrows]
    return Graph(
        (leaf, *operations, Node("v_out", "result")),
        (*ends, *shifted, (len(nodes), len(nodes) + 1)),
        Text("The graph that v_out recorded", "v_out 记录的计算图"),
    )


def _without_graph(config: AutogradConfig, expression: Expression) -> PythonSession:
    source = f"""
        v = torch.tensor({_code(config)}, requires_grad=True)
        {expression.code}
        with torch.no_grad():
            v_out = {expression.code}
        v_out
        v_out.requires_grad, v_out.grad_fn
        v = v.detach()  # the same values, without a graph
        v.requires_grad
        v_out = {expression.code}
        v_out.backward()
    """
    title = Text("Without a graph: no_grad and detach", "不记录计算图：no_grad 与 detach")
    return _prompt().session(source, title, errors=(RuntimeError,))


def _variable(config: AutogradConfig) -> PythonSession:
    source = f"""
        from torch.autograd import Variable
        tensor = torch.FloatTensor({_code(config)})
        variable = Variable(tensor, requires_grad=True)
        type(variable)
        variable.numpy()
        variable.data.numpy()
        variable.detach().numpy()  # today
    """
    return _prompt().session(source, Text("What Variable was", "Variable 是什么"), errors=(RuntimeError,))


def _data_and_detach(config: AutogradConfig) -> PythonSession:
    source = f"""
        v = torch.tensor({_code(config)}, requires_grad=True)
        torch.exp(v).detach()  # the slope of exp is exp: this is the gradient of exp(v).sum()
        out = torch.exp(v)
        out.data.zero_()
        out.sum().backward()  # no error
        v.grad  # wrong
        out = torch.exp(v)
        out.detach().zero_()
        out.sum().backward()
    """
    title = Text("Changed behind autograd's back: .data and .detach()", "绕过自动求导改数值：.data 与 .detach()")
    return _prompt().session(source, title, errors=(RuntimeError,))


def _prompt() -> Prompt:
    return Prompt(torch=torch)


def _share(expression: Expression, v: Tensor, gradient: Tensor) -> Panel:
    values = v.detach().flatten()
    low, high = values.min().item() - 1, values.max().item() + 1
    x = torch.linspace(low, high, CURVE_POINTS, dtype=torch.float64, requires_grad=True)
    share = expression.term(x) / (v.numel() if expression.mean else 1)
    (slope,) = torch.autograd.grad(share.sum(), x)
    return Panel(
        Text("Contribution of one element", "一个元素的贡献"),
        Text("value of the element", "元素的值"),
        Text("contribution to v_out, and its slope", "对 v_out 的贡献及其导数"),
        (
            Line(Text("contribution", "贡献"), as_array(x.detach()), as_array(share.detach())),
            Line(Text("its slope", "导数"), as_array(x.detach()), as_array(slope.detach()), color=1),
            Points(
                Text("gradient at v", "v 处的梯度"), as_array(values), as_array(gradient.flatten()), color=1, size=9
            ),
        ),
        x_range=(low, high),
    )


def _slopes(gradient: Tensor, measured: Tensor, grad: Tensor) -> Panel:
    element = as_array(range(gradient.numel()))
    grown = element[: 0 if torch.equal(grad, gradient) else None]  # hidden while equal to the gradient
    return Panel(
        Text("Gradient, element by element", "逐元素的梯度"),
        Text("element of v, row by row", "v 的元素，逐行编号"),
        Text("slope", "导数"),
        (
            Points(Text("finite difference", "有限差分"), element, as_array(measured.flatten()), 2, "square", 12),
            Points(Text("gradient", "梯度"), element, as_array(gradient.flatten()), 1),
            Points(Text("accumulated", "累加后"), grown, as_array(grad.flatten())[: len(grown)], 0, "triangle", 9),
        ),
        x_range=(-0.5, len(element) - 0.5),
    )


LESSON = Computation(
    key="autograd",
    group="basics",
    prose=PROSE,
    config=AutogradConfig,
    ideas=IDEAS,
    sources=(backward_passes, finite_difference, recorded),
    compute=compute,
)
