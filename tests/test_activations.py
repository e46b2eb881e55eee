"""Activations: slopes equal the known formulas, and saturation and vanishing are as the lesson says."""

import inspect
import itertools
import math
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from charts.blocks import PythonSession, Table
from charts.chart import PALETTE, Band, Chart, Line
from charts.text import Text, said
from lab.lesson import View
from nets.activations import CODE, FORMULAS, LESSON, ActivationsConfig, activations, derivative, saturated
from tests.sessions import replayed

KNOWN: dict[str, Callable[[Tensor], Tensor]] = {
    "relu": lambda x: (x > 0).to(x.dtype),
    "sigmoid": lambda x: torch.sigmoid(x) * (1 - torch.sigmoid(x)),
    "tanh": lambda x: 1 - torch.tanh(x) ** 2,
    "softplus": torch.sigmoid,
    "leaky_relu": lambda x: torch.where(x > 0, 1.0, 0.01).to(x.dtype),
    "gelu": lambda x: torch.special.ndtr(x) + x * torch.exp(-(x**2) / 2) / math.sqrt(2 * math.pi),
    "silu": lambda x: torch.sigmoid(x) * (1 + x * (1 - torch.sigmoid(x))),
}
CORNERS = {"low": (-20.0, -1.0), "high": (1.0, 20.0), "threshold": (0.005, 0.5), "depth": (1, 50)}

names = pytest.mark.parametrize("name", FORMULAS)


def shown(**settings: Any) -> View:
    return LESSON.compute(LESSON.config.parse(settings))


def tables(view: View) -> dict[str, dict[str, tuple[Any, ...]]]:
    """Each table's rows by the name of their function."""
    found = [block for block in view.blocks if isinstance(block, Table)]
    return dict(
        zip(("functions", "depths"), [{str(row[0]): row for row in table.rows} for table in found], strict=True)
    )


def axis(low: float = -5, high: float = 5, points: int = 10_001) -> Tensor:
    return torch.linspace(low, high, points, dtype=torch.float64, requires_grad=True)


def structure(chart: Chart) -> list[object]:
    marks = [
        [(type(m), m.name, m.color, getattr(m, "dashed", False)) for m in panel.marks if isinstance(m, Line | Band)]
        for panel in chart.panels
    ]
    return [marks, [(p.title, p.x_label, p.y_label, p.x_range is None, p.y_range is None) for p in chart.panels]]


def test_the_defaults_are_the_tutorials_four_functions_and_axis() -> None:
    four = ["relu", "sigmoid", "tanh", "softplus"]
    defaults = {"which": four, "low": -5.0, "high": 5.0, "threshold": 0.05, "depth": 10}
    assert ActivationsConfig().to_dict() == defaults
    x = torch.linspace(-5, 5, 200)
    drawn = [mark for mark in shown(threshold=0.005).chart.panels[0].marks if mark.name and len(mark.x)]
    assert [mark.name for mark in drawn] == four
    for mark in drawn:
        assert isinstance(mark, Line)
        np.testing.assert_array_equal(mark.x, x)
        steep = np.isfinite(mark.y)
        np.testing.assert_allclose(mark.y[steep], activations(x)[str(mark.name)].numpy()[steep])
        assert steep.any()


@names
def test_the_slope_by_autograd_equals_the_known_formula(name: str) -> None:
    for low, high in [(-5, 5), (-20, 20), (-1, 1)]:
        x = axis(low, high)
        torch.testing.assert_close(derivative(activations(x)[name], x), KNOWN[name](x.detach()))


@names
def test_the_functions_are_the_formulas_and_the_code_shown(name: str) -> None:
    x = axis().detach()
    assert f'"{name}": {CODE[name]}' in inspect.getsource(activations)
    torch.testing.assert_close(activations(x)[name], eval(CODE[name]))
    scope = {"max": lambda a, b: torch.maximum(torch.as_tensor(a), b), "exp": torch.exp, "log": torch.log, "x": x}
    formula = FORMULAS[name].replace("Φ(x)", "ndtr(x)")
    value = eval(formula, {**scope, "sigmoid": torch.sigmoid, "ndtr": torch.special.ndtr})
    torch.testing.assert_close(activations(x)[name], value)


@names
def test_the_saturated_stretches_are_those_of_a_small_slope(name: str) -> None:
    for threshold, reach in itertools.product((0.005, 0.05, 0.3), (1, 5, 20)):
        x = axis(-reach, reach)
        stretches = saturated(x, derivative(activations(x)[name], x), threshold)
        inside = torch.zeros_like(x, dtype=torch.bool)
        for start, end in stretches:
            assert start <= end
            inside |= (x >= start) & (x <= end)
        assert torch.equal(inside, KNOWN[name](x.detach()).abs() < threshold)
        assert stretches == sorted(stretches)


@pytest.mark.parametrize("threshold", [0.005, 0.05, 0.2])
def test_saturation_begins_where_algebra_says(threshold: float) -> None:
    s = (1 + math.sqrt(1 - 4 * threshold)) / 2
    begins = {"sigmoid": math.log(s / (1 - s)), "tanh": math.atanh(math.sqrt(1 - threshold))}
    for name, at in begins.items():
        x = axis(-20, 20)
        (left, right) = saturated(x, derivative(activations(x)[name], x), threshold)
        assert left == pytest.approx((-20, -at), abs=0.01)
        assert right == pytest.approx((at, 20), abs=0.01)
    x = axis(-20, 20)
    (only,) = saturated(x, derivative(activations(x)["softplus"], x), threshold)
    assert only == pytest.approx((-20, math.log(threshold / (1 - threshold))), abs=0.01)


def test_the_narrowest_flat_stretch_is_not_missed() -> None:
    rows = tables(shown(which=["gelu", "silu"], low=-20.0, high=20.0, threshold=0.005))["functions"]
    assert rows["gelu"][-1].count("[") == rows["silu"][-1].count("[") == 2  # the tail, and the bottom of the dip


def test_the_table_says_what_the_text_says() -> None:
    rows = tables(shown(which=list(FORMULAS)))["functions"]
    assert rows["sigmoid"][2:] == ("`[0.00669, 0.993]`", "0.25", "`[-5.00, -2.89]`, `[2.89, 5.00]`")
    assert rows["relu"][2:] == ("`[0, 5]`", "1", "`[-5.00, 0.00]`")
    assert rows["leaky_relu"][-1] == "`[-5.00, 0.00]`"
    assert tables(shown(which=["leaky_relu"], threshold=0.01))["functions"]["leaky_relu"][-1] == Text("nowhere", "无")


def test_ten_sigmoids_leave_a_millionth_of_the_gradient() -> None:
    rows = tables(shown())["depths"]
    assert float(rows["sigmoid"][2]) == pytest.approx(0.25**10, rel=0.05)
    assert 0.25**10 < 1e-6
    assert [said(rows[name][3], "en") for name in ("relu", "sigmoid", "tanh")] == ["survives", "vanishes", "survives"]
    assert said(tables(shown(which=["gelu"], depth=50))["depths"]["gelu"][3], "en") == "explodes"


@pytest.mark.parametrize("name", ["relu", "sigmoid", "tanh"])
def test_what_is_left_of_a_gradient_is_what_a_stack_of_layers_leaves(name: str) -> None:
    x = torch.tensor([1e-9], dtype=torch.float64, requires_grad=True)
    y = x
    for _ in range(10):
        y = activations(y - y.detach() + 1e-9)[name]  # every layer at its steepest
    assert derivative(y, x).item() == pytest.approx(float(tables(shown())["depths"][name][2]), rel=0.05)


def test_dashes_lie_where_the_slope_is_small_and_meet_the_solid_line() -> None:
    view = shown(which=list(FORMULAS))
    functions, slopes = view.chart.panels
    for solid, dashed, slope in zip(functions.marks[::2], functions.marks[1::2], slopes.marks[1:], strict=True):
        assert isinstance(solid, Line)
        assert isinstance(dashed, Line)
        assert isinstance(slope, Line)
        assert dashed.dashed
        steep, flat = np.isfinite(solid.y), np.isfinite(dashed.y)
        np.testing.assert_array_equal(steep, np.abs(slope.y) >= 0.05)
        assert (steep | flat).all()  # no hole between them
        assert (steep & flat).sum() == np.abs(np.diff(steep.astype(int))).sum()  # they share a point at each end


def test_a_function_that_is_off_has_no_points_and_the_structure_stays() -> None:
    first = structure(shown().chart)
    for name in FORMULAS:
        chart = shown(which=[name], low=-20.0, threshold=0.5).chart
        assert structure(chart) == first
        drawn = {mark.name for panel in chart.panels for mark in panel.marks if len(mark.x) and mark.name}
        assert drawn == {name}
    assert len(FORMULAS) == len(PALETTE)


def test_corner_settings_are_computed() -> None:
    for values in itertools.product(*CORNERS.values()):
        view = shown(which=list(FORMULAS), **dict(zip(CORNERS, values, strict=True)))
        assert len(tables(view)["functions"]) == len(FORMULAS)
        for session in (block for block in view.blocks if isinstance(block, PythonSession)):
            assert replayed(session.lines, torch=torch, F=F) == list(session.lines)


@names
def test_every_session_gives_what_it_shows_when_run_again(name: str) -> None:
    for session in (block for block in shown(which=[name]).blocks if isinstance(block, PythonSession)):
        assert replayed(session.lines, torch=torch, F=F) == list(session.lines)


def test_f_sigmoid_and_f_tanh_work_without_a_warning_as_the_text_says() -> None:
    x = axis().detach()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert torch.equal(F.sigmoid(x), torch.sigmoid(x))
        assert torch.equal(F.tanh(x), torch.tanh(x))


def test_the_idea_of_twenty_layers_shows_what_it_says() -> None:
    rows = tables(shown(**LESSON.suggestions[0].settings))["depths"]
    assert 0 < float(rows["sigmoid"][2]) <= 1e-12
    assert float(rows["relu"][2]) == 1


def test_the_idea_of_stepping_back_shows_what_it_says() -> None:
    x = axis(-20, 20).detach()
    gap = activations(x)["softplus"] - activations(x)["relu"]
    assert gap.max().item() == pytest.approx(math.log(2))
    assert x[gap.argmax()].item() == pytest.approx(0, abs=1e-9)
    drawn = {m.name for m in shown(**LESSON.suggestions[1].settings).chart.panels[1].marks if m.name and len(m.x)}
    assert drawn == {"relu", "softplus"}


def test_the_idea_of_the_dip_shows_what_it_says() -> None:
    rows = tables(shown(**LESSON.suggestions[2].settings))["functions"]
    assert rows["gelu"][2].startswith("`[-0.17,")
    assert rows["silu"][2].startswith("`[-0.278,")
    assert float(rows["gelu"][3]) > 1
    assert float(rows["silu"][3]) > 1
