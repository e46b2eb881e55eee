"""Operations: torch beside numpy, and what is refused is explained."""

import inspect
import itertools
import math
import re
from typing import Any

import numpy as np
import pytest
import torch

from charts.blocks import Note, PythonSession, Table
from charts.text import Text, said
from lab.lesson import View
from nets.operations import LESSON, NUMPY_CODE, OPERATIONS, TORCH_CODE, OperationsConfig, Pair, in_numpy, in_torch
from tests.sessions import replayed

SHAPES = [((2, 2), (2, 2)), ((1, 1), (1, 1)), ((6, 6), (6, 6)), ((2, 3), (3, 2)), ((3, 2), (1, 2)), ((1, 4), (4, 1))]
CLASHES = [((2, 3), (2, 2)), ((2, 2), (3, 3)), ((4, 2), (3, 2)), ((3, 4), (2, 3)), ((1, 5), (6, 2))]
EXTREMES = [0.0, -1.0, 1e6, -1e6, 1e-30]

operations = pytest.mark.parametrize("operation", OPERATIONS)


def shown(**settings: Any) -> View:
    return LESSON.compute(LESSON.config.parse(settings))


def matrices(first: tuple[int, int], second: tuple[int, int], seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(first, generator=generator) * 100, torch.randn(second, generator=generator) * 100


def blocks(view: View, kind: type) -> list[Any]:
    return [block for block in view.blocks if isinstance(block, kind)]


def test_the_defaults_are_the_tutorials_mm_of_a_matrix_with_itself() -> None:
    assert OperationsConfig().to_dict() == {"operation": "mm", "a": [[1, 2], [3, 4]], "b": [[1, 2], [3, 4]]}
    with_torch, with_numpy, _ = blocks(shown(), PythonSession)
    assert with_torch.lines[-1] == ("torch.mm(a, b)", "tensor([[ 7., 10.],\n        [15., 22.]])")
    assert with_numpy.lines[-1] == ("np.matmul(a, b)", "array([[ 7., 10.],\n       [15., 22.]], dtype=float32)")


@operations
def test_torch_equals_numpy_wherever_both_give_a_result(operation: str) -> None:
    for (first, second), seed in itertools.product(SHAPES + CLASHES, range(5)):
        pair = Pair.of(operation, *matrices(first, second, seed))
        if pair.torch.error:
            assert pair.numpy.error or operation == "dot"
        else:
            torch.testing.assert_close(pair.torch.result, torch.as_tensor(pair.numpy.result), rtol=1e-5, atol=0.1)
            assert said(pair.equal, "en").startswith("yes")


@operations
def test_whole_numbers_agree_to_the_last_digit(operation: str) -> None:
    for first, second in SHAPES:
        a, b = (each.round() for each in matrices(first, second, seed=1))
        pair = Pair.of(operation, a, b)
        if operation != "mean_columns" and not pair.torch.error and not pair.numpy.error:
            assert pair.equal == Text("yes", "是")


def test_a_wrong_result_is_not_called_equal() -> None:
    a, b = matrices((3, 3), (3, 3), seed=1)
    right = Pair.of("mm", a, b)
    wrong = Pair("mm", a, b, right.torch, Pair.of("mul", a, b).numpy)
    assert right.equal != Text("no", "否")
    assert wrong.equal == Text("no", "否")


@operations
def test_what_is_refused_is_explained_and_nothing_raises(operation: str) -> None:
    for first, second in SHAPES + CLASHES:
        a, b = matrices(first, second, seed=3)
        view = shown(operation=operation, a=a.tolist(), b=b.tolist())
        refused = "Error: " in blocks(view, PythonSession)[0].lines[-1][1]
        warnings = [note.text.en for note in blocks(view, Note) if note.kind == "warning"]
        assert len(warnings) == refused
        assert all(re.search(r"here \d|\d do not fit|Both must be equally long", text) for text in warnings)


@pytest.mark.parametrize(
    ("operation", "a", "b", "sizes"),
    [
        ("mm", (2, 3), (2, 2), "columns of `a`, here 3, must be as many as the rows of `b`, here 2"),
        ("matmul", (4, 2), (3, 2), "columns of `a`, here 2, must be as many as the rows of `b`, here 3"),
        ("add", (2, 3), (2, 2), "3 and 2 do not fit"),
        ("mul", (4, 2), (3, 2), "4 and 3 do not fit"),
        ("add_row", (2, 3), (2, 2), "`b[0]` is (2,)"),
        ("add_column", (4, 2), (3, 2), "`b[:, :1]` is (3, 1)"),
        ("matvec", (2, 3), (2, 2), "3 numbers and the vector `b[0]` has 2"),
        ("dot_rows", (2, 3), (2, 2), "3 numbers and the vector `b[0]` has 2"),
        ("dot", (2, 3), (2, 2), "here 3, must be as many as the rows of `b`, here 2"),
    ],
)
def test_an_explanation_names_the_sizes_that_clash(
    operation: str, a: tuple[int, int], b: tuple[int, int], sizes: str
) -> None:
    view = shown(operation=operation, a=np.ones(a).tolist(), b=np.ones(b).tolist())
    assert sizes in blocks(view, Note)[0].text.en


@operations
def test_extreme_settings_are_computed_and_equal(operation: str) -> None:
    for value, shape in itertools.product(EXTREMES, [(1, 1), (6, 6), (1, 6), (6, 1)]):
        rows = np.full(shape, value).tolist()
        view = shown(operation=operation, a=rows, b=rows)
        assert view.chart.panels == ()
        cells = [cell for table in blocks(view, Table) for row in table.rows for cell in row]
        assert Text("no", "否") not in cells


@operations
def test_every_session_gives_what_it_shows_when_run_again(operation: str) -> None:
    for first, second in [*SHAPES, *CLASHES[:2]]:
        a, b = matrices(first, second, seed=7)
        for session in blocks(shown(operation=operation, a=a.tolist(), b=b.tolist()), PythonSession):
            assert replayed(session.lines, torch=torch, np=np) == list(session.lines)


def test_every_operation_is_written_once_and_shown_as_written() -> None:
    assert list(TORCH_CODE) == list(NUMPY_CODE) == list(OPERATIONS)
    for function, codes in ((in_torch, TORCH_CODE), (in_numpy, NUMPY_CODE)):
        source = inspect.getsource(function)
        assert all(f"return {code}" in source for code in codes.values())


def test_dot_of_matrices_is_a_product_in_numpy_and_refused_in_torch() -> None:
    pair = Pair.of("dot", *matrices((2, 2), (2, 2), seed=1))
    assert pair.torch.error == "RuntimeError: 1D tensors expected, but got 2D and 2D tensors"
    np.testing.assert_array_equal(pair.numpy.result, in_numpy("mm", pair.a.numpy(), pair.b.numpy()))


def test_mm_takes_two_matrices_and_nothing_else() -> None:
    a, stack = torch.ones(2, 2), torch.ones(3, 2, 2)
    for refused in (a[0], stack):
        with pytest.raises(RuntimeError):
            torch.mm(refused, a)
        assert torch.matmul(refused, a).shape == refused.shape
    assert not hasattr(np, "mm")


def test_broadcasting_is_told_where_it_happens_and_only_there() -> None:
    wide = [[1, 2], [3, 4], [5, 6]]
    assert "until both are (3, 2)" in blocks(shown(operation="add", a=wide, b=[[10, 20]]), Note)[0].text.en
    assert blocks(shown(operation="add"), Note) == []
    assert "stack of two" in blocks(shown(operation="batch"), Note)[0].text.en


def test_rows_and_columns_are_never_broadcast_in_a_product() -> None:
    with pytest.raises(RuntimeError, match="cannot be multiplied"):
        torch.ones(2, 3) @ torch.ones(1, 2)


def test_the_ideas_show_what_they_say() -> None:
    clash, row, dot = (shown(**idea.settings) for idea in LESSON.suggestions)
    assert all("Error: " in session.lines[-1][1] for session in blocks(clash, PythonSession)[:2])
    assert blocks(row, PythonSession)[0].lines[-1][1] == repr(torch.tensor([[11.0, 22], [13, 24], [15, 26]]))
    with_torch, with_numpy = blocks(dot, PythonSession)[:2]
    assert with_torch.lines[-1][1].startswith("RuntimeError: 1D tensors expected")
    assert with_numpy.lines[-1][1] == repr(np.array([[7, 10], [15, 22]], dtype=np.float32))


def test_the_old_lines_still_work_and_whole_numbers_do_not_mix_with_floats() -> None:
    old = dict(blocks(shown(), PythonSession)[-1].lines)
    assert old["torch.abs(data)"] == "tensor([1., 2., 1., 2.])"
    assert old["torch.mm(data, data)"] == repr(torch.tensor([[7.0, 10], [15, 22]]))
    assert old["whole.dtype"] == "torch.int64"
    assert "same dtype" in old["torch.mm(whole, data)"]
    assert torch.FloatTensor(2, 2).shape == (2, 2)


def test_the_family_table_has_a_row_for_each_operation() -> None:
    family = blocks(shown(a=[[1, math.pi]], b=[[3], [4]]), Table)[-1]
    assert [row[0] for row in family.rows] == list(OPERATIONS.values())
