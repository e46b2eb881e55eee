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
import numpy.typing as npt

from charts.chart import Array, Chart, Mark, Panel, as_array
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
        "legend": [{"mark": m, "html": words(mark.name), "sign": mark.sign()} for m, mark in marks if mark.name],
        "tooltips": tooltips,
        "document": plot.document(index, panel, {m: tooltip["en"] for m, tooltip in tooltips.items()}),
        "scales": {m: palettes for m, mark in marks if (palettes := mark.palettes())},
    }


def arrays(chart: Chart) -> dict[str, str]:
    """Every array of the chart by name: little-endian float32 or bytes, in base64."""
    encoded = {}
    for p, panel in enumerate(chart.panels):
        for axis, limits in (("x_range", panel.x_range), ("y_range", panel.y_range)):
            if limits is not None:
                encoded[f"{p}.{axis}"] = _base64(as_array(limits))
        for m, mark in enumerate(panel.marks):
            for name, values in mark.sent().items():
                encoded[f"{p}.{m}.{name}"] = _base64(values)
    return encoded


def changed(base: dict[str, str], now: dict[str, str]) -> dict[str, str]:
    """The arrays of `now` that differ from `base`: what a frame has to carry to a page that holds `base`."""
    return {name: text for name, text in now.items() if base.get(name) != text}


def _base64(values: Array | npt.NDArray[np.uint8]) -> str:
    kind = "u1" if values.dtype == np.uint8 else "<f4"  # the page reads nothing else
    return base64.b64encode(values.astype(kind).tobytes()).decode()


def _tooltip(panel: Panel, mark: Mark) -> dict[Language, str]:
    """In each language, since a tooltip lies beyond the reach of the page's style sheet."""
    made = {}
    for language in LANGUAGES:
        name = said(mark.name or panel.title, language)
        values = mark.tooltip(said(panel.x_label, language), said(panel.y_label, language))
        made[language] = TOOLTIP.format(name=words(name), values=words(values))
    return made
