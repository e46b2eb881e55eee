"""A panel as Bokeh draws it: its document without data, and the colors of its heat maps."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from bokeh.embed import json_item
from bokeh.models import BasicTicker, ColumnDataSource, DataRange1d, HoverTool, LinearColorMapper, Range1d
from bokeh.models.renderers import GlyphRenderer
from bokeh.plotting import figure

from charts.chart import PALETTE, Band, Heatmap, Line, Mark, Panel, Points
from charts.text import said

SHADES = 64  # colors in a heat map's scale
FIELDS = {
    Points: ("x", "y"),
    Line: ("x", "y"),
    Band: ("x", "low", "high"),
    Heatmap: ("x", "y", "dw", "dh", "image"),
}
LIGHT, DARK = (247, 247, 247), (28, 33, 43)  # the middle of a scale, near the page's own background


def document(index: int, panel: Panel, tooltips: Mapping[int, str]) -> Any:
    """The panel as JSON for BokehJS: its sources are empty and named "panel.mark", its tools by their mark."""
    return json_item(_figure(index, panel, tooltips))


def scales(mark: Heatmap) -> dict[str, list[str]]:
    """A heat map's colors in the page's two color schemes."""
    return {"light": _shades(mark.colors), "dark": _shades(mark.colors, DARK)}


def _figure(index: int, panel: Panel, tooltips: Mapping[int, str]) -> figure:
    plot = figure(
        name=f"{index}",
        sizing_mode="stretch_both",
        x_range=DataRange1d() if panel.x_range is None else Range1d(),
        y_range=DataRange1d() if panel.y_range is None else Range1d(),
        x_axis_label=said(panel.x_label, "en"),
        y_axis_label=said(panel.y_label, "en"),
        y_axis_type=panel.y_scale,
        tools="",
        toolbar_location=None,  # a finger on a phone scrolls the page, and the tab has its own way to save a figure
        output_backend="canvas",
        lod_threshold=None,
    )
    for m, mark in enumerate(panel.marks):
        renderer = _draw(plot, f"{index}.{m}", mark)
        if not isinstance(mark, Band):
            plot.add_tools(_hover(renderer, f"{m}", tooltips[m], mark))
    # More ticks would run into each other on a phone.
    plot.xaxis.ticker = BasicTicker(desired_num_ticks=5)
    if panel.y_scale == "linear":
        plot.yaxis.ticker = BasicTicker(desired_num_ticks=5)
    return plot


def _draw(plot: figure, name: str, mark: Mark) -> "GlyphRenderer[Any]":
    empty: list[float] = []
    source = ColumnDataSource(data=dict.fromkeys(FIELDS[type(mark)], empty), name=name)
    match mark:
        case Points():
            return plot.scatter(
                source=source,
                marker=mark.marker,
                size=mark.size,
                fill_color=PALETTE[mark.color],
                line_color="white",
                line_width=0.5,
            )
        case Line():
            dash = "dashed" if mark.dashed else "solid"
            return plot.line(source=source, line_width=3, line_dash=dash, color=PALETTE[mark.color])
        case Band():
            return plot.varea(source=source, y1="low", y2="high", fill_color=PALETTE[mark.color], fill_alpha=0.35)
        case Heatmap():
            low, high = mark.span
            mapper = LinearColorMapper(palette=_shades(mark.colors), low=low, high=high)
            return plot.image(source=source, image="image", color_mapper=mapper, level="image")  # type: ignore[call-arg]


def _hover(renderer: "GlyphRenderer[Any]", name: str, tooltip: str, mark: Mark) -> HoverTool:
    hover = HoverTool(name=name, renderers=[renderer], tooltips=tooltip)
    if isinstance(mark, Line):
        hover.mode = "vline"
    return hover


def _shades(colors: tuple[int, int], middle: tuple[int, int, int] = LIGHT) -> list[str]:
    """A scale of SHADES colors, from the first of PALETTE over the middle to the second, softened."""
    ends = np.array([_rgb(PALETTE[colors[0]]), middle, _rgb(PALETTE[colors[1]])], dtype=float)
    ends[[0, 2]] = ends[[0, 2]] * 0.7 + np.array(middle) * 0.3  # the points must stand out against it
    at = np.linspace(0, 2, SHADES)
    channels = np.stack([np.interp(at, [0, 1, 2], ends[:, c]) for c in range(3)], axis=1)
    return ["#{:02x}{:02x}{:02x}".format(*color) for color in channels.round().astype(int)]


def _rgb(color: str) -> tuple[int, ...]:
    return tuple(bytes.fromhex(color[1:]))
