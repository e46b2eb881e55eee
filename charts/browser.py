"""A Chart for the page: Bokeh documents once, then arrays alone.

`structure` describes a chart's panels to BokehJS and holds no data. `arrays` is the data, each array under the
name "panel.mark.field" (or "panel.x_range"), as base64 text: a queue that compares a list number by number
takes a string in one. The page joins the two.
"""

import base64
import json
from dataclasses import fields
from typing import Any

import numpy as np

from charts.chart import PALETTE, Array, Band, Chart, Heatmap, Line, Mark, Panel, Points
from charts.html import words
from charts.text import LANGUAGES, Language, both, said

# In the page's own colors, which a tooltip would not follow by itself.
TOOLTIP = (
    '<div style="margin: -6px; padding: 4px 8px; font-size: 12px; background: var(--background-fill-primary);'
    ' color: var(--body-text-color)"><b>{name}</b><br>{values}</div>'
)


def structure(chart: Chart) -> str:
    """The chart without its arrays, as JSON: each panel's words in both languages, legend, Bokeh document and scales.

    Charts of the same structure give the same text, so that a page can keep the drawing it has.
    """
    key = _key(chart)
    if key not in _drawn:
        _drawn[key] = json.dumps([_described(index, panel) for index, panel in enumerate(chart.panels)])
    return _drawn[key]


# Bokeh numbers its models anew at every call, and takes 20 ms: each structure is drawn up once.
# Few settings change a structure (a choice of axes, which nets race), so this stays small.
_drawn: dict[str, str] = {}


def _key(chart: Chart) -> str:
    """All of a chart that is not an array, as text."""
    return repr(
        [
            (
                *(panel.title, panel.x_label, panel.y_label),
                *(panel.x_range is None, panel.y_range is None, panel.y_scale),
                *((type(mark).__name__, *_settings(mark)) for mark in panel.marks),
            )
            for panel in chart.panels
        ]
    )


def _settings(mark: Mark) -> list[object]:
    values = [getattr(mark, f.name) for f in fields(mark)]
    return [value for value in values if not isinstance(value, np.ndarray)]


def _described(index: int, panel: Panel) -> dict[str, Any]:
    from charts import plot  # Bokeh takes half a second to import, which the start of the page need not wait for

    marks = list(enumerate(panel.marks))
    tooltips = {m: _tooltip(panel, mark) for m, mark in marks}
    return {
        "title": words(panel.title),
        "labels": [both(panel.x_label), both(panel.y_label)],
        "legend": [{"mark": m, "html": words(mark.name), **_sign(mark)} for m, mark in marks if mark.name],
        "tooltips": tooltips,
        "document": plot.document(index, panel, {m: tooltip["en"] for m, tooltip in tooltips.items()}),
        "scales": {m: plot.scales(mark) for m, mark in marks if isinstance(mark, Heatmap)},
    }


def _sign(mark: Mark) -> dict[str, Any]:
    """What stands for the mark in a legend."""
    match mark:
        case Points():
            return {"sign": mark.marker, "colors": [PALETTE[mark.color]]}
        case Line():
            return {"sign": "dashed" if mark.dashed else "line", "colors": [PALETTE[mark.color]]}
        case Band():
            return {"sign": "band", "colors": [PALETTE[mark.color]]}
        case Heatmap():
            return {"sign": "scale", "colors": [PALETTE[color] for color in mark.colors]}


def arrays(chart: Chart) -> dict[str, str]:
    """Every array of the chart by name: little-endian float32 in base64, heat maps one byte a square."""
    encoded = {}
    for p, panel in enumerate(chart.panels):
        for axis, limits in (("x_range", panel.x_range), ("y_range", panel.y_range)):
            if limits is not None:
                encoded[f"{p}.{axis}"] = _float32(np.asarray(limits))
        for m, mark in enumerate(panel.marks):
            for name, values in _fields(mark).items():
                encoded[f"{p}.{m}.{name}"] = _float32(values)
            if isinstance(mark, Heatmap):
                encoded[f"{p}.{m}.bytes"] = _bytes(mark)
    return encoded


def changed(base: dict[str, str], now: dict[str, str]) -> dict[str, str]:
    """The arrays of `now` that differ from `base`: what a frame has to carry to a page that holds `base`."""
    return {name: text for name, text in now.items() if base.get(name) != text}


def _fields(mark: Mark) -> dict[str, Array]:
    match mark:
        case Points() | Line():
            return {"x": mark.x, "y": mark.y}
        case Band():
            return {"x": mark.x, "low": mark.low, "high": mark.high}
        case Heatmap():
            width, height = mark.x[1:] - mark.x[:1], mark.y[1:] - mark.y[:1]
            size = np.asarray(mark.values.shape, dtype=np.float32)  # rows, columns
            return {"x": mark.x[:1], "y": mark.y[:1], "dw": width, "dh": height, "size": size}


def _float32(values: Array) -> str:
    return base64.b64encode(values.astype("<f4").tobytes()).decode()


def _bytes(mark: Heatmap) -> str:
    # A quarter of the size of float32, and finer than the scale of colors: hover reads it to 1/255 of the span.
    low, high = mark.span
    scaled = np.clip((mark.values - low) / (high - low), 0, 1) * 255
    return base64.b64encode(np.nan_to_num(scaled).round().astype(np.uint8).tobytes()).decode()


def _tooltip(panel: Panel, mark: Mark) -> dict[Language, str]:
    """In each language, since a tooltip lies beyond the reach of the page's style sheet."""
    made = {}
    for language in LANGUAGES:
        name = said(mark.name or panel.title, language)
        x, y = said(panel.x_label, language), said(panel.y_label, language)
        values = f"{x} @x{{0.[000]}}, {y} @y{{0.[0000]}}"
        if isinstance(mark, Heatmap):
            values = f"{x} $x{{0.00}}, {y} $y{{0.00}}: @image{{0.00}}"
        made[language] = TOOLTIP.format(name=words(name), values=words(values))
    return made
