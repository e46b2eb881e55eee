"""Vertical lines mark."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from charts.marks.mark import PALETTE, Mark, check_same_length
from charts.text import Language

if TYPE_CHECKING:
    from bokeh.models import ColumnDataSource
    from bokeh.models.renderers import GlyphRenderer
    from bokeh.plotting import figure
    from matplotlib.axes import Axes


@dataclass(frozen=True, eq=False)
class VerticalLines(Mark):
    """A line over the whole height of the panel at each `x`, of shape (N,), beneath the other marks."""

    columns = ("x",)

    color: int = 6

    def __post_init__(self) -> None:
        check_same_length(self.name, x=self.x)

    def draw_bokeh(self, plot: "figure", source: "ColumnDataSource") -> "GlyphRenderer[Any]":
        return plot.vspan(source=source, x="x", line_width=2, line_color=PALETTE[self.color], level="underlay")

    def draw_matplotlib(self, axis: "Axes", language: Language) -> None:
        full_height = axis.get_xaxis_transform()  # x in data coordinates, y from 0 to 1
        axis.vlines(
            self.x,
            0,
            1,
            colors=PALETTE[self.color],
            linewidth=1.5,
            transform=full_height,
            zorder=1,
            label=self.label(language),
        )

    def sign(self) -> str:
        return f"width: 0; height: 12px; border-left: 2px solid {PALETTE[self.color]}"

    def tooltip(self, x_label: str, y_label: str) -> str:
        return f"{x_label} @x{{0.[000]}}"
