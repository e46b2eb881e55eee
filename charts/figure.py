"""A Chart for files: the matplotlib figure of what the page shows, as PNG, SVG or PDF."""

import io
import math
from typing import Literal

from matplotlib import font_manager, rcParams
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure

from charts.chart import PALETTE, Band, Chart, Heatmap, Line, Mark, Panel, Points
from charts.text import Language, said

Format = Literal["png", "svg", "pdf"]
FORMATS: tuple[Format, ...] = ("png", "svg", "pdf")

PANEL_SIZE = (5.2, 4.0)  # inches
MARKERS = {"circle": "o", "square": "s", "triangle": "^"}

# The same chart gives the same bytes: no dates, no version of the writer, no random ids.
METADATA: dict[str, dict[str, None]] = {
    "png": {"Software": None},
    "svg": {"Date": None, "Creator": None},
    "pdf": {"CreationDate": None, "Producer": None, "Creator": None},
}

# DejaVu Sans comes with matplotlib and has no Chinese; these are fonts of Linux, macOS and Windows that have.
CHINESE_FONTS = ("Noto Sans CJK SC", "Noto Sans SC", "WenQuanYi Micro Hei", "PingFang SC", "Microsoft YaHei", "SimHei")
_KNOWN = {font.name for font in font_manager.fontManager.ttflist}
CHINESE_FONT = next((name for name in CHINESE_FONTS if name in _KNOWN), None)

# Set once and for the whole process, since figures are drawn on several threads.
rcParams.update({"svg.hashsalt": "live-nets", "svg.fonttype": "none", "pdf.fonttype": 42})
rcParams["font.family"] = ["DejaVu Sans", *([CHINESE_FONT] if CHINESE_FONT else [])]


def draw(chart: Chart, language: Language = "en") -> Figure:
    """The chart as a matplotlib figure, its panels side by side; in English where no font has Chinese."""
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
    """The chart as a file of that kind. Raises ValueError for a chart without panels."""
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
    for mark in panel.marks:
        _draw_mark(axis, mark, language)
    if panel.x_range is not None:
        axis.set_xlim(panel.x_range)
    if panel.y_range is not None:
        axis.set_ylim(panel.y_range)
    named = [mark for mark in panel.marks if mark.name and not isinstance(mark, Heatmap) and _is_filled(mark)]
    if len(panel.marks) > 1 and named:
        axis.legend(
            loc="upper center",
            bbox_to_anchor=(0.5, -0.15),
            ncols=min(len(named), 4),
            frameon=False,
        )


def _is_filled(mark: Points | Line | Band) -> bool:
    return bool(len(mark.x))


def _draw_mark(axis: Axes, mark: Mark, language: Language) -> None:
    # matplotlib keeps names that begin with an underscore out of the legend, and so do we those without marks.
    label = said(mark.name, language) or "_"
    match mark:
        case Heatmap():
            _draw_heatmap(axis, mark, language)
        case _ if not _is_filled(mark):
            return
        case Points():
            axis.scatter(
                mark.x,
                mark.y,
                s=(mark.size * 0.8) ** 2,
                c=PALETTE[mark.color],
                marker=MARKERS[mark.marker],
                edgecolors="white",
                linewidths=0.5 if mark.size > 4 else 0,
                zorder=2,
                label=label,
            )
        case Line():
            style = "--" if mark.dashed else "-"
            axis.plot(mark.x, mark.y, style, color=PALETTE[mark.color], linewidth=2.5, label=label)
        case Band():
            axis.fill_between(mark.x, mark.low, mark.high, color=PALETTE[mark.color], alpha=0.25, label=label)


def _draw_heatmap(axis: Axes, mark: Heatmap, language: Language) -> None:
    ends = (PALETTE[mark.colors[0]], "#f7f7f7", PALETTE[mark.colors[1]])
    low, high = mark.span
    (left, right), (bottom, top) = mark.x.tolist(), mark.y.tolist()
    image = axis.imshow(
        mark.values,
        cmap=LinearSegmentedColormap.from_list("between", ends),
        vmin=low,
        vmax=high,
        extent=(left, right, bottom, top),
        origin="lower",
        aspect="auto",
        alpha=0.7,
    )
    axis.figure.colorbar(image, ax=axis, label=said(mark.name, language))
