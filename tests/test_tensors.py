"""The lesson on tensors: what shares memory, how it is laid out, and which type it has."""

import numpy as np
import pytest
import torch
from torch import nn

from charts import browser
from charts.blocks import Note, Table
from charts.chart import Line, Points
from charts.text import Text, said
from lab.lesson import View
from nets.tensors import LESSON, TensorsConfig, change, places, shares_memory, through_a_layer
from tests.sessions import replayed, shown

MATRICES = [[[0, 1, 2], [3, 4, 5]], [[0, 1], [2, 3], [4, 5]], [[7]], [[1, 2, 3, 4]], [[0.5, 1, 2], [3, 4, 5]]]


def viewed(**settings: object) -> View:
    with torch.random.fork_rng(devices=[]):
        return LESSON.compute(LESSON.config.parse(settings))


@pytest.mark.parametrize("side", ["numpy", "torch"])
@pytest.mark.parametrize("array", MATRICES)
def test_sessions_show_what_python_prints(array: list[list[float]], side: str) -> None:
    view = viewed(array=array, side=side, data=[0.5, 3])
    assert replayed(shown(view.blocks), np=np, torch=torch, nn=nn) == shown(view.blocks)


def test_the_defaults_are_the_tutorials() -> None:
    lines = dict(shown(viewed().blocks))
    assert "np_data = np.arange(6).reshape((2, 3))" in lines
    assert TensorsConfig().array == tuple(map(tuple, np.arange(6).reshape((2, 3)).tolist()))
    assert lines["data"] == repr(torch.FloatTensor([-1, -2, 1, 2]))


@pytest.mark.parametrize("side", ["numpy", "torch"])
def test_a_change_on_either_side_shows_on_the_other_and_not_in_the_copy(side: str) -> None:
    np_data = np.arange(6).reshape((2, 3))
    torch_data, copied = change(np_data, side, 10)
    assert np_data[0, 0] == torch_data[0, 0] == 10
    assert copied[0, 0] == 0
    assert shares_memory(torch_data, np_data)
    assert not shares_memory(copied, np_data)


@pytest.mark.parametrize("side", ["numpy", "torch"])
def test_the_table_shows_before_and_after(side: str) -> None:
    (table,) = (block for block in viewed(side=side, value=-7).blocks if isinstance(block, Table))
    cells = [tuple(said(cell, "en") for cell in row) for row in table.rows]
    assert cells == [
        ("`np_data`", "0", "-7", "yes"),
        ("`torch_data`", "0", "-7", "yes"),
        ("`copied`", "0", "0", "no"),
    ]


def test_the_triangle_of_the_copy_stays_behind() -> None:
    array, shared, copied = viewed(side="torch").chart.panels[0].marks
    assert isinstance(array, Points)
    assert isinstance(shared, Points)
    assert isinstance(copied, Points)
    assert array.y.tolist() == shared.y.tolist() == [10, 1, 2, 3, 4, 5]
    assert copied.y.tolist() == [0, 1, 2, 3, 4, 5]


@pytest.mark.parametrize("array", MATRICES)
def test_places_are_where_the_elements_are(array: list[list[float]]) -> None:
    matrix = torch.tensor(array)
    memory = matrix.flatten()
    assert torch.equal(memory[places(matrix)], matrix.flatten())
    assert torch.equal(memory[places(matrix.T)], matrix.T.flatten())
    assert torch.equal(places(matrix.T.contiguous()), torch.arange(matrix.numel()))


def test_reading_the_transpose_jumps_back_and_forth() -> None:
    straight, jumping, written_anew = viewed().chart.panels[1].marks
    assert isinstance(straight, Line)
    assert isinstance(jumping, Line)
    assert isinstance(written_anew, Line)
    assert straight.y.tolist() == written_anew.y.tolist() == [0, 1, 2, 3, 4, 5]
    assert jumping.y.tolist() == [0, 3, 1, 4, 2, 5]


def test_a_layer_refuses_float64_with_the_message_told() -> None:
    message = "mat1 and mat2 must have the same dtype, but got Double and Float"
    with torch.random.fork_rng(devices=[]):
        with pytest.raises(RuntimeError, match=f"^{message}$"):
            through_a_layer(torch.ones(1, 4, dtype=torch.float64))
        assert through_a_layer(torch.ones(1, 4)).dtype == torch.float32
    assert f"RuntimeError: {message}" in LESSON.prose.text.en
    assert f"RuntimeError: {message}" in LESSON.prose.text.zh
    assert dict(shown(viewed().blocks))["layer(x)"] == f"RuntimeError: {message}"


def test_a_number_of_the_old_classes_is_a_size() -> None:
    assert torch.Tensor(3).shape == torch.FloatTensor(3).shape == (3,)
    assert torch.tensor(3).shape == ()


def test_types_are_as_the_text_says() -> None:
    lines = dict(shown(viewed().blocks))
    assert lines["torch_data.dtype"] == lines["torch.tensor([-1, -2, 1, 2]).dtype"] == "torch.int64"
    assert lines["x.dtype"] == lines["(x + torch.ones(4)).dtype"] == "torch.float64"
    assert lines["layer.weight.dtype"] == lines["layer(x.float()).dtype"] == "torch.float32"


def test_the_chart_keeps_its_structure_whatever_the_settings() -> None:
    charts = [viewed(array=array, side=side).chart for array in MATRICES for side in ("numpy", "torch")]
    assert len({browser.structure(chart) for chart in charts}) == 1


def test_ideas_show_what_they_promise() -> None:
    tensor, point, tall = (viewed(**idea.settings) for idea in LESSON.suggestions)
    changed = dict(shown(tensor.blocks))
    assert "torch_data[0, 0] = 10" in changed
    assert changed["np_data"] == repr(np.array([[10, 1, 2], [3, 4, 5]]))
    assert dict(shown(point.blocks))["torch_data.dtype"] == "torch.float64"
    assert dict(shown(tall.blocks))["torch_data.stride()  # in elements"] == "(2, 1)"
    tall_walk, walk = (view.chart.panels[1].marks[1] for view in (tall, tensor))
    assert isinstance(tall_walk, Line)
    assert isinstance(walk, Line)
    assert tall_walk.y.tolist() != walk.y.tolist()


def test_the_note_tells_the_change_in_both_languages() -> None:
    (note,) = (block for block in viewed(array=[[0.5]], value=3).blocks if isinstance(block, Note))
    assert isinstance(note.text, Text)
    for words in (note.text.en, note.text.zh):
        assert all(part in words for part in ("`np_data[0, 0] = 3`", "`torch_data[0, 0]`", "3.0", "0.5"))
