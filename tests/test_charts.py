"""The Chart and its two renderers."""

import base64
import json
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
from bokeh.models import ColumnDataSource
from bokeh.models.renderers import GlyphRenderer
from bokeh.plotting import figure as BokehFigure
from matplotlib.axes import Axes

from charts import browser, figure
from charts.chart import Array, Band, Chart, Heatmap, Line, Mark, Panel, Points, Scale, VerticalLines, as_array
from charts.text import Language, Text

X = as_array([0, 1, 2])
SCALES: tuple[Scale, Scale] = ("linear", "log")


def chart(values: float = 0.5, x_range: tuple[float, float] | None = None) -> Chart:
    heat = Heatmap("heat", as_array([0, 4]), as_array([-1, 1]), np.full((2, 3), values, np.float32))
    marks = (heat, Band("band", X, X, X + 1), Line("line", X, X, color=1), Points("dots", X, X, marker="square"))
    return Chart((Panel("all marks", "x", "y", marks, x_range=x_range), Panel("one", "a", "b", (marks[2],))))


def decode(text: str) -> list[float]:
    values: list[float] = np.frombuffer(base64.b64decode(text), "<f4").tolist()
    return values


def test_arrays_arrive_as_little_endian_float32() -> None:
    arrays = browser.arrays(chart(x_range=(-1, 3)))
    assert decode(arrays["0.2.x"]) == [0, 1, 2]
    assert decode(arrays["0.1.high"]) == [1, 2, 3]
    assert decode(arrays["0.x_range"]) == [-1, 3]
    assert "0.y_range" not in arrays
    wide = Line("line", X.astype(">f8"), X.astype(">f8"))
    assert decode(browser.arrays(Chart((Panel("p", "x", "y", (wide,)),)))["0.0.x"]) == [0, 1, 2]


def test_a_heat_map_arrives_in_bytes_over_its_span() -> None:
    for value, byte in ((0, 0), (0.5, 128), (1, 255), (9, 255), (-9, 0), (np.nan, 0)):
        arrays = browser.arrays(chart(value))
        assert base64.b64decode(arrays["0.0.bytes"]) == bytes([byte] * 6)
    assert [decode(arrays[f"0.0.{name}"]) for name in ("x", "y", "dw", "dh", "size")] == [[0], [-1], [4], [2], [2, 3]]


def test_a_frame_carries_what_differs_from_the_base() -> None:
    base, now = browser.arrays(chart(0)), browser.arrays(chart(1))
    assert browser.changed(base, now) == {"0.0.bytes": now["0.0.bytes"]}
    assert {**base, **browser.changed(base, now)} == now


def test_structure_holds_no_data_and_changes_only_with_it() -> None:
    text = browser.structure(chart(0.1, x_range=(0, 1)))
    assert text == browser.structure(chart(0.9, x_range=(5, 6)))
    assert text != browser.structure(chart())  # a range that follows the data is another drawing
    panels = json.loads(text)
    assert [panel["title"] for panel in panels] == ["all marks", "one"]
    assert [entry["html"] for entry in panels[0]["legend"]] == ["heat", "band", "line", "dots"]
    assert set(panels[0]["scales"]["0"]) == {"light", "dark"}


def test_a_logarithmic_axis_is_another_drawing() -> None:
    linear, log = (Panel("p", "x", "y", (Line("l", X, X + 1),), y_range=(1, 9), y_scale=scale) for scale in SCALES)
    assert browser.structure(Chart((linear,))) != browser.structure(Chart((log,)))
    assert figure.save(Chart((linear,)), "png") != figure.save(Chart((log,)), "png")


WORDS = Panel(Text("Loss", "损失"), Text("steps", "步数"), "y", (Line(Text("fit", "拟合"), X, X), Line("SGD", X, X)))


def test_a_structure_carries_the_words_of_both_languages() -> None:
    (panel,) = json.loads(browser.structure(Chart((WORDS,))))
    assert panel["title"] == '<span lang="en">Loss</span><span lang="zh">损失</span>'
    assert panel["labels"] == [{"en": "steps", "zh": "步数"}, {"en": "y", "zh": "y"}]
    assert "步数 @x" in panel["tooltips"]["0"]["zh"]


@pytest.mark.skipif(figure.CHINESE_FONT is None, reason="no font with Chinese on this machine")
def test_a_file_is_drawn_in_the_language_that_was_asked_for() -> None:
    drawn = figure.save(Chart((WORDS,)), "svg", "zh").decode()
    for text in ("损失", "步数", "拟合", "SGD"):
        assert f">{text}<" in drawn
    assert "Loss" not in drawn


def test_without_a_chinese_font_a_file_is_in_english(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(figure, "CHINESE_FONT", None)
    assert ">Loss<" in figure.save(Chart((WORDS,)), "svg", "zh").decode()


@pytest.mark.parametrize("count", [1, 2, 3, 4, 5])
def test_any_number_of_panels_is_drawn(count: int) -> None:
    assert figure.save(Chart((WORDS,) * count), "svg").decode().count(">Loss<") == count


MARKS: dict[str, tuple[Mark, Mark]] = {
    "points": (Points("m", X, X), Points("m", X, X + 1)),
    "line": (Line("m", X, X), Line("m", X, X + 1)),
    "band": (Band("m", X, X, X + 1), Band("m", X, X, X + 2)),
    "vertical lines": (VerticalLines("m", X), VerticalLines("m", X + 1)),
    "heat map": tuple(Heatmap("m", X[:2], X[:2], np.full((2, 2), v, np.float32)) for v in (0, 1)),  # type: ignore[dict-item]
}


@pytest.mark.parametrize("kind", figure.FORMATS)
@pytest.mark.parametrize("name", MARKS)
def test_every_mark_is_drawn_to_files(kind: figure.Format, name: str) -> None:
    axes = (0.0, 4.0)  # so that they stay the same
    one, two = (Chart((Panel("p", "x", "y", (mark,), axes, axes),)) for mark in MARKS[name])
    assert figure.save(one, kind) != figure.save(two, kind)


def test_a_file_shows_the_titles_labels_and_names_of_the_page() -> None:
    drawn = figure.save(chart(), "svg").decode()
    for text in ("all marks", "one", "line", "dots", "band", "heat"):
        assert f">{text}<" in drawn


def test_a_mark_without_data_is_neither_drawn_nor_in_a_legend() -> None:
    alone = Line("line", X, X)
    with_empty = Chart((Panel("p", "x", "y", (alone, VerticalLines("lines", X[:0]))),))
    assert figure.save(with_empty, "svg") == figure.save(Chart((Panel("p", "x", "y", (alone,)),)), "svg")
    both = figure.save(Chart((Panel("p", "x", "y", (alone, VerticalLines("lines", X))),)), "svg").decode()
    assert all(f">{name}<" in both for name in ("line", "lines"))


@dataclass(frozen=True, eq=False)
class Steps(Mark):
    """A mark that only this file knows."""

    columns = ("x", "top")

    top: Array

    def draw_bokeh(self, plot: BokehFigure, source: ColumnDataSource) -> "GlyphRenderer[Any]":
        return plot.vbar(source=source, x="x", top="top", width=1)

    def draw_matplotlib(self, axis: Axes, language: Language) -> None:
        axis.bar(self.x, self.top, label=self.label(language))

    def sign(self) -> str:
        return "height: 10px; background: gray"


def test_a_new_mark_needs_no_other_file() -> None:
    drawn = Chart((Panel("p", "x", "y", (Steps(Text("steps", "台阶"), X, X + 1), Line("line", X, X))),))
    assert decode(browser.arrays(drawn)["0.0.top"]) == [1, 2, 3]
    (panel,) = json.loads(browser.structure(drawn))
    assert panel["legend"][0]["sign"] == "height: 10px; background: gray"
    assert panel["tooltips"]["0"]["en"].count("steps") == 1
    assert '"VBar"' in json.dumps(panel["document"])
    assert ">steps<" in figure.save(drawn, "svg").decode()


def test_marks_refuse_arrays_that_do_not_fit() -> None:
    with pytest.raises(ValueError, match="dots: x, y must have the same shape"):
        Points("dots", X, X[:2])
    with pytest.raises(ValueError, match="line: x, y must have the same shape"):
        Line("line", X[:, None], X[:, None])
    with pytest.raises(ValueError, match="band: x, low, high must have the same shape"):
        Band("band", X, X[:1], X)
    with pytest.raises(ValueError, match="lines: x must have the same shape"):
        VerticalLines("lines", X[:, None])
    with pytest.raises(ValueError, match="heat: a heat map needs"):
        Heatmap("heat", X, X, X)
