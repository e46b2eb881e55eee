"""Serialize a Chart for the page: Bokeh documents once, then only arrays.

`structure` describes a chart's panels to BokehJS and holds no data. `arrays` holds the data: each array is base64
text under the key "panel.mark.field" (or "panel.x_range"). Gradio's queue compares lists element by element, but a
string in one comparison. The page joins the two.
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

# Bokeh's tooltips do not inherit the page's theme, so the colors are set explicitly.
TOOLTIP = (
    '<div style="margin: -6px; padding: 4px 8px; font-size: 12px; background: var(--background-fill-primary);'
    ' color: var(--body-text-color)"><b>{name}</b><br>{values}</div>'
)


def structure(chart: Chart) -> str:
    """JSON of the chart without its arrays: each panel's text in both languages, legend, Bokeh document and palettes.

    Charts with the same structure give identical text, so the page can reuse its drawing.
    """
    key = _key(chart)
    if key not in _structures:
        _structures[key] = json.dumps([_describe_panel(index, panel) for index, panel in enumerate(chart.panels)])
    return _structures[key]


# Cache of structures by key: Bokeh assigns new model ids at every call and takes 20 ms.
# Few settings change the structure (axes, selected nets), so the cache stays small.
_structures: dict[str, str] = {}


def _key(chart: Chart) -> str:
    """Cache key: everything in the chart except its arrays."""
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


def _describe_panel(index: int, panel: Panel) -> dict[str, Any]:
    from charts import plot  # importing Bokeh takes 0.5 s, which would delay startup

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
    """All arrays of the chart by key, as little-endian float32 or uint8 in base64."""
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
    """Arrays of `now` that differ from `base`, which are all that a page with `base` needs."""
    return {name: text for name, text in now.items() if base.get(name) != text}


def _base64(values: Array | npt.NDArray[np.uint8]) -> str:
    kind = "u1" if values.dtype == np.uint8 else "<f4"  # the only two types that the page decodes
    return base64.b64encode(values.astype(kind).tobytes()).decode()


def _tooltip(panel: Panel, mark: Mark) -> dict[Language, str]:
    """Tooltip HTML by language: the page's style sheet cannot hide one language inside a tooltip."""
    made = {}
    for language in LANGUAGES:
        name = said(mark.name or panel.title, language)
        values = mark.tooltip(said(panel.x_label, language), said(panel.y_label, language))
        made[language] = TOOLTIP.format(name=words(name), values=words(values))
    return made
