"""A Chart for files: the matplotlib figure of what the page shows, as PNG, SVG or PDF."""

import io
from typing import Literal

from matplotlib import rcParams
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure

from charts.chart import PALETTE, Band, Chart, Heatmap, Line, Mark, Panel, Points

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

# Set once and for the whole process, since figures are drawn on several threads.
rcParams.update({"svg.hashsalt": "live-nets", "svg.fonttype": "none", "pdf.fonttype": 42})


def draw(chart: Chart) -> Figure:
    """The chart as a matplotlib figure, its panels side by side."""
    width, height = PANEL_SIZE
    figure = Figure(figsize=(width * len(chart.panels), height), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots(1, len(chart.panels), squeeze=False)
    for panel, axis in zip(chart.panels, axes[0], strict=True):
        _draw_panel(axis, panel)
    return figure


def save(chart: Chart, kind: Format) -> bytes:
    """The chart as a file of that kind."""
    file = io.BytesIO()
    draw(chart).savefig(file, format=kind, dpi=150, metadata=METADATA[kind])
    return file.getvalue()


def _draw_panel(axis: Axes, panel: Panel) -> None:
    axis.set_title(panel.title)
    axis.set_xlabel(panel.x_label)
    axis.set_ylabel(panel.y_label)
    axis.grid(alpha=0.3)
    axis.spines[["top", "right"]].set_visible(False)
    for mark in panel.marks:
        _draw_mark(axis, mark)
    if panel.x_range is not None:
        axis.set_xlim(panel.x_range)
    if panel.y_range is not None:
        axis.set_ylim(panel.y_range)
    if len(panel.marks) > 1:
        columns = len(panel.marks)
        axis.legend(loc="upper center", bbox_to_anchor=(0.5, -0.15), ncols=columns, frameon=False)


def _draw_mark(axis: Axes, mark: Mark) -> None:
    match mark:
        case Points():
            color, marker = PALETTE[mark.color], MARKERS[mark.marker]
            axis.scatter(
                mark.x,
                mark.y,
                s=32,
                c=color,
                marker=marker,
                edgecolors="white",
                linewidths=0.5,
                zorder=2,
                label=mark.name,
            )
        case Line():
            axis.plot(mark.x, mark.y, color=PALETTE[mark.color], linewidth=2.5, label=mark.name)
        case Band():
            color = PALETTE[mark.color]
            axis.fill_between(mark.x, mark.low, mark.high, color=color, alpha=0.25, label=mark.name)
        case Heatmap():
            _draw_heatmap(axis, mark)


def _draw_heatmap(axis: Axes, mark: Heatmap) -> None:
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
    axis.figure.colorbar(image, ax=axis, label=mark.name)
