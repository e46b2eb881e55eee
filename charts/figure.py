"""Render a Chart with matplotlib to PNG, SVG or PDF."""

import io
import math
from typing import Literal

from matplotlib import font_manager, rcParams
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from charts.chart import Chart, Panel
from charts.text import Language, said

Format = Literal["png", "svg", "pdf"]
FORMATS: tuple[Format, ...] = ("png", "svg", "pdf")

PANEL_SIZE = (5.2, 4.0)  # inches

# Reproducible bytes: omit dates, library versions and random ids.
METADATA: dict[str, dict[str, None]] = {
    "png": {"Software": None},
    "svg": {"Date": None, "Creator": None},
    "pdf": {"CreationDate": None, "Producer": None, "Creator": None},
}

# Matplotlib's DejaVu Sans has no Chinese glyphs; these fonts of Linux, macOS and Windows do.
CHINESE_FONTS = ("Noto Sans CJK SC", "Noto Sans SC", "WenQuanYi Micro Hei", "PingFang SC", "Microsoft YaHei", "SimHei")
_KNOWN = {font.name for font in font_manager.fontManager.ttflist}
CHINESE_FONT = next((name for name in CHINESE_FONTS if name in _KNOWN), None)

# rcParams are global and figures are drawn in several threads, so they are set once at import.
rcParams.update({"svg.hashsalt": "live-nets", "svg.fonttype": "none", "pdf.fonttype": 42})
rcParams["font.family"] = ["DejaVu Sans", *([CHINESE_FONT] if CHINESE_FONT else [])]


def draw(chart: Chart, language: Language = "en") -> Figure:
    """Matplotlib figure of the chart, its panels side by side. Falls back to English without a Chinese font."""
    width, height = PANEL_SIZE
    count = len(chart.panels)
    columns = count if count <= 3 else math.ceil(count / 2)
    rows = math.ceil(count / columns)
    figure = Figure(figsize=(width * columns, height * rows), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots(rows, columns, squeeze=False).flatten()
    for panel, axis in zip(chart.panels, axes, strict=False):
        _draw_panel(axis, panel, language if CHINESE_FONT else "en")
    for axis in axes[count:]:
        axis.remove()
    return figure


def save(chart: Chart, kind: Format, language: Language = "en") -> bytes:
    """Contents of the chart as a file of format `kind`. Raises ValueError for a chart without panels."""
    if not chart.panels:
        raise ValueError("a chart must have a panel to be saved")
    file = io.BytesIO()
    draw(chart, language).savefig(file, format=kind, dpi=150, metadata=METADATA[kind])
    return file.getvalue()


def _draw_panel(axis: Axes, panel: Panel, language: Language) -> None:
    axis.set_title(said(panel.title, language))
    axis.set_xlabel(said(panel.x_label, language))
    axis.set_ylabel(said(panel.y_label, language))
    axis.grid(alpha=0.3)
    axis.spines[["top", "right"]].set_visible(False)
    axis.set_yscale(panel.y_scale)
    drawn = [mark for mark in panel.marks if len(mark.x)]
    for mark in drawn:
        mark.draw_matplotlib(axis, language)
    if panel.x_range is not None:
        axis.set_xlim(panel.x_range)
    if panel.y_range is not None:
        axis.set_ylim(panel.y_range)
    named, _ = axis.get_legend_handles_labels()
    if len(drawn) > 1 and named:  # the title names a single mark
        axis.legend(
            loc="upper center",
            bbox_to_anchor=(0.5, -0.15),
            ncols=min(len(named), 4),
            frameon=False,
        )
