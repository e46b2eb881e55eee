"""Points mark."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from charts.marks.mark import PALETTE, Array, Mark, check_same_length
from charts.text import Language

if TYPE_CHECKING:
    from bokeh.models import ColumnDataSource
    from bokeh.models.renderers import GlyphRenderer
    from bokeh.plotting import figure
    from matplotlib.axes import Axes

Marker = Literal["circle", "square", "triangle"]

MATPLOTLIB_MARKERS = {"circle": "o", "square": "s", "triangle": "^"}
SIGNS = {
    "circle": "width: 9px; height: 9px; border-radius: 50%; background: {color}",
    "square": "width: 9px; height: 9px; background: {color}",
    "triangle": "width: 0; border: 5px solid transparent; border-top: 0; border-bottom: 9px solid {color}",
}


@dataclass(frozen=True, eq=False)
class Points(Mark):
    """A scatter plot of `x` and `y`, both of shape (N,). `size` is the marker size in pixels."""

    columns = ("x", "y")

    y: Array
    color: int = 0
    marker: Marker = "circle"
    size: int = 7

    def __post_init__(self) -> None:
        check_same_length(self.name, x=self.x, y=self.y)

    def draw_bokeh(self, plot: "figure", source: "ColumnDataSource") -> "GlyphRenderer[Any]":
        return plot.scatter(
            source=source,
            marker=self.marker,
            size=self.size,
            fill_color=PALETTE[self.color],
            line_color="white",
            line_width=0.5,
        )

    def draw_matplotlib(self, axis: "Axes", language: Language) -> None:
        axis.scatter(
            self.x,
            self.y,
            s=(self.size * 0.8) ** 2,
            c=PALETTE[self.color],
            marker=MATPLOTLIB_MARKERS[self.marker],
            edgecolors="white",
            linewidths=0.5 if self.size > 4 else 0,
            zorder=2,
            label=self.label(language),
        )

    def sign(self) -> str:
        return SIGNS[self.marker].format(color=PALETTE[self.color])
