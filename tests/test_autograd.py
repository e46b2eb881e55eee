"""Autograd: gradients equal finite differences, accumulate, and are cut where the lesson says so."""

import itertools
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.autograd import Variable

from charts.blocks import Graph, Note, PythonSession, Table
from charts.chart import Chart, Line, Points
from lab.lesson import View
from nets.autograd import EXPRESSIONS, LESSON, AutogradConfig, backward_passes, finite_difference, recorded
from tests.sessions import replayed

VALUES: list[list[list[float]]] = [
    [[1, 2], [3, 4]],
    [[0]],
    [[-2.5, 0.3, 7]],
    [[0.1], [-0.1]],
    np.linspace(-5, 5, 36).reshape(6, 6).tolist(),
]
CORNERS: list[list[list[float]]] = [
    np.full(shape, value).tolist() for shape in [(1, 1), (6, 6)] for value in (0, 1e6, -1e6, 88.8, 1e-6)
]
MIXED: list[list[float]] = [[1e6, 1e-6, -1e6], [0, 1, -3]]

expressions = pytest.mark.parametrize("expression", EXPRESSIONS)


def shown(**settings: Any) -> View:
    return LESSON.compute(LESSON.config.parse(settings))


def blocks(view: View, kind: type) -> list[Any]:
    return [block for block in view.blocks if isinstance(block, kind)]


def leaf(values: list[list[float]]) -> Tensor:
    return torch.tensor(values, dtype=torch.float32, requires_grad=True)


def passes(expression: str, values: list[list[float]], times: int, zero_grad: bool) -> list[Tensor]:
    return list(backward_passes(EXPRESSIONS[expression], leaf(values), times, zero_grad))


def structure(chart: Chart) -> list[object]:
    marks = [
        [(type(m), m.name, getattr(m, "color", 0), getattr(m, "marker", "")) for m in panel.marks]
        for panel in chart.panels
    ]
    return [marks, [(p.title, p.x_label, p.y_label, p.x_range is None, p.y_range is None) for p in chart.panels]]


def test_the_defaults_give_the_tutorials_gradient() -> None:
    defaults = {"expression": "mean_square", "values": [[1, 2], [3, 4]], "passes": 1, "zero_grad": False}
    assert AutogradConfig().to_dict() == defaults
    lines = dict(blocks(shown(), PythonSession)[0].lines)
    assert lines["v_out = torch.mean(v * v)"] == ""
    assert lines["v_out"] == "tensor(7.5000, grad_fn=<MeanBackward0>)"
    assert lines["v.grad"] == repr(torch.tensor([[0.5, 1.0], [1.5, 2.0]]))


@expressions
def test_the_gradient_equals_the_finite_difference(expression: str) -> None:
    for values in VALUES:
        if expression == "sum_relu" and values == [[0]]:
            continue  # the kink, which has a test of its own
        (gradient,) = passes(expression, values, 1, zero_grad=False)
        measured = finite_difference(EXPRESSIONS[expression], leaf(values))
        torch.testing.assert_close(gradient.double(), measured, rtol=1e-5, atol=1e-6)
        assert blocks(shown(expression=expression, values=values), Note)[0].kind == "good"


@expressions
def test_expressions_and_slopes_do_what_is_written(expression: str) -> None:
    for values in VALUES:
        v = leaf(values)
        torch.testing.assert_close(EXPRESSIONS[expression](v), eval(EXPRESSIONS[expression].code))
        slope = eval(EXPRESSIONS[expression].slope)
        torch.testing.assert_close(passes(expression, values, 1, zero_grad=False)[0], slope, rtol=1e-5, atol=1e-6)


@expressions
def test_extreme_values_are_computed_and_agree_but_for_the_kink(expression: str) -> None:
    for values in CORNERS:
        view = shown(expression=expression, values=values, passes=3)
        kink = expression == "sum_relu" and (np.abs(values) < 1e-4).any()
        assert ("kink" in blocks(view, Note)[0].text.en) == kink
        assert blocks(view, Note)[0].kind == ("warning" if kink else "good")
        for mark in (mark for panel in view.chart.panels for mark in panel.marks):
            assert isinstance(mark, Line | Points)
            assert np.isfinite(mark.y).all()


def test_a_finite_difference_that_lost_its_digits_is_told_apart_from_a_kink() -> None:
    note = blocks(shown(expression="sum_cube", values=MIXED), Note)[0]
    assert note.kind == "warning"
    assert "reach 1e+18" in note.text.en
    (gradient,) = passes("sum_cube", MIXED, 1, zero_grad=False)
    torch.testing.assert_close(gradient, 3 * torch.tensor(MIXED) ** 2)  # torch's own is right
    for expression in ("sum_sin", "sum_bell", "sum_product"):
        assert blocks(shown(expression=expression, values=MIXED), Note)[0].kind == "good"


def test_a_wrong_gradient_is_not_called_right(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("nets.autograd.finite_difference", lambda function, v: 1.01 * finite_difference(function, v))
    for expression in EXPRESSIONS:
        assert blocks(shown(expression=expression), Note)[0].kind == "warning"


@expressions
@pytest.mark.parametrize("times", [1, 2, 3])
def test_passes_add_up_unless_the_gradient_is_zeroed_between(expression: str, times: int) -> None:
    (once,) = passes(expression, [[1, 2], [3, 4]], 1, zero_grad=False)
    added = passes(expression, [[1, 2], [3, 4]], times, zero_grad=False)
    zeroed = passes(expression, [[1, 2], [3, 4]], times, zero_grad=True)
    assert len(added) == len(zeroed) == times
    for number, (grown, same) in enumerate(zip(added, zeroed, strict=True), start=1):
        torch.testing.assert_close(grown, number * once)
        assert torch.equal(same, once)


@pytest.mark.parametrize(("times", "zero_grad", "factor"), [(2, False, 2), (3, False, 3), (3, True, 1)])
def test_the_page_shows_the_accumulated_gradient(times: int, zero_grad: bool, factor: int) -> None:
    view = shown(passes=times, zero_grad=zero_grad)
    (table,) = blocks(view, Table)
    assert [float(row[-1]) for row in table.rows] == [0.5 * factor, 1.0 * factor, 1.5 * factor, 2.0 * factor]
    accumulated = view.chart.panels[1].marks[2]
    assert isinstance(accumulated, Points)
    np.testing.assert_array_equal(accumulated.y, [0.5 * factor, factor, 1.5 * factor, 2 * factor][: 4 * (factor > 1)])
    assert ("3 times" in blocks(view, Note)[1].text.en) == (factor == 3)


def test_zero_grad_of_an_optimizer_sets_grad_to_none() -> None:
    v = leaf([[1, 2]])
    EXPRESSIONS["mean_square"](v).backward()
    torch.optim.SGD([v], lr=0.1).zero_grad()
    assert v.grad is None


@expressions
def test_a_graph_serves_once(expression: str) -> None:
    v_out = EXPRESSIONS[expression](leaf([[1, 2], [3, 4]]))
    v_out.backward()
    with pytest.raises(RuntimeError, match="backward through the graph a second time"):
        v_out.backward()


@expressions
def test_every_session_gives_what_it_shows_when_run_again(expression: str) -> None:
    for values, (times, zero_grad) in itertools.product([*VALUES, MIXED], [(1, False), (3, False), (2, True)]):
        view = shown(expression=expression, values=values, passes=times, zero_grad=zero_grad)
        for session in blocks(view, PythonSession):
            assert replayed(session.lines, torch=torch) == list(session.lines)


@expressions
def test_the_graph_is_the_one_that_torch_recorded(expression: str) -> None:
    (graph,) = blocks(shown(expression=expression, values=[[1, 2, 3]]), Graph)
    v = leaf([[1, 2, 3]])
    v_out = EXPRESSIONS[expression](v)
    assert [node.kind for node in graph.nodes] == ["leaf", *["operation"] * (len(graph.nodes) - 2), "result"]
    labels = [node.label for node in graph.nodes]
    assert labels[:2] == ["v (1, 3)", "AccumulateGrad"]
    assert labels[-2:] == [type(v_out.grad_fn).__name__, "v_out"]
    assert all(start < end for start, end in graph.arrows)  # no cycle, inputs first
    assert {place for arrow in graph.arrows for place in arrow} == set(range(len(labels)))  # nothing hangs loose
    nodes, arrows = recorded(v_out)
    assert len(graph.arrows) == len(arrows) + 2
    assert sum(len([n for n, _ in node.next_functions if n]) for node in nodes) == len(arrows)


def test_the_graphs_of_the_seed_and_of_the_fork() -> None:
    (seed,) = blocks(shown(), Graph)
    names = ["v (2, 2)", "AccumulateGrad", "MulBackward0", "MeanBackward0", "v_out"]
    assert [node.label for node in seed.nodes] == names
    assert seed.arrows == ((0, 1), (1, 2), (1, 2), (2, 3), (3, 4))  # v * v takes v twice
    (fork,) = blocks(shown(**LESSON.suggestions[2].settings), Graph)
    ways = [fork.nodes[end].label for start, end in fork.arrows if fork.nodes[start].label == "AccumulateGrad"]
    assert ways == ["SinBackward0", "SigmoidBackward0"]


def test_the_idea_of_the_kink_shows_a_half_against_a_zero() -> None:
    view = shown(**LESSON.suggestions[1].settings)
    (table,) = blocks(view, Table)
    assert [row[2:4] for row in table.rows] == [("0", "0"), ("0", "0.5"), ("1", "1")]
    assert "kink" in blocks(view, Note)[0].text.en


def test_the_idea_of_forgetting_to_zero_shows_three_times_the_gradient() -> None:
    (table,) = blocks(shown(**LESSON.suggestions[0].settings), Table)
    assert [float(row[-1]) for row in table.rows] == [1.5, 3.0, 4.5, 6.0]
    (table,) = blocks(shown(**LESSON.suggestions[0].settings, zero_grad=True), Table)
    assert [float(row[-1]) for row in table.rows] == [0.5, 1.0, 1.5, 2.0]


def test_variable_gives_a_plain_tensor() -> None:
    variable = Variable(torch.FloatTensor([[1, 2]]), requires_grad=True)
    assert type(variable) is torch.Tensor
    assert variable.requires_grad
    lines = dict(blocks(shown(), PythonSession)[2].lines)
    assert lines["type(variable)"] == "<class 'torch.Tensor'>"
    assert lines["variable.numpy()"].startswith("RuntimeError: Can't call numpy() on Tensor that requires grad")


def test_data_spoils_gradients_silently_where_detach_raises() -> None:
    v = leaf([[1, 2], [3, 4]])
    out = torch.exp(v)
    out.data.zero_()
    out.sum().backward()
    assert v.grad is not None
    assert (v.grad == 0).all()
    assert not torch.allclose(v.grad, torch.exp(v))  # what it should be
    out = torch.exp(v)
    out.detach().zero_()
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        out.sum().backward()


def test_detach_and_no_grad_cut_the_graph() -> None:
    lines = blocks(shown(), PythonSession)[1].lines
    assert ("v_out.requires_grad, v_out.grad_fn", "(False, None)") in lines
    error = "RuntimeError: element 0 of tensors does not require grad and does not have a grad_fn"
    assert lines[-1] == ("v_out.backward()", error)


def test_the_chart_keeps_its_structure_whatever_the_settings() -> None:
    first = structure(shown().chart)
    for expression, values, times in itertools.product(EXPRESSIONS, [*VALUES[:3], MIXED], (1, 3)):
        assert structure(shown(expression=expression, values=values, passes=times).chart) == first
