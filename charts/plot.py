"""Bokeh document of a panel, without data."""

from collections.abc import Mapping
from typing import Any

from bokeh.embed import json_item
from bokeh.models import BasicTicker, ColumnDataSource, DataRange1d, HoverTool, Range1d
from bokeh.plotting import figure

from charts.chart import Mark, Panel
from charts.text import said


def document(index: int, panel: Panel, tooltips: Mapping[int, str]) -> Any:
    """JSON of the panel for BokehJS. Its data sources are empty and named "panel.mark", its hover tools "mark"."""
    return json_item(_figure(index, panel, tooltips))


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
        toolbar_location=None,  # dragging on a phone must scroll the page; the tab has its own download
        output_backend="canvas",
        lod_threshold=None,
    )
    for m, mark in enumerate(panel.marks):
        renderer = mark.draw_bokeh(plot, _empty_source(f"{index}.{m}", mark))
        if mark.hover:
            plot.add_tools(HoverTool(name=f"{m}", renderers=[renderer], tooltips=tooltips[m], mode=mark.hover))
    # More tick labels would overlap on a phone.
    plot.xaxis.ticker = BasicTicker(desired_num_ticks=5)
    if panel.y_scale == "linear":
        plot.yaxis.ticker = BasicTicker(desired_num_ticks=5)
    return plot


def _empty_source(name: str, mark: Mark) -> ColumnDataSource:
    empty: list[float] = []
    return ColumnDataSource(data=dict.fromkeys(mark.columns, empty), name=name)
