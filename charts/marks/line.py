"""Line mark."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from charts.marks.mark import PALETTE, Array, Mark, check_same_length
from charts.text import Language

if TYPE_CHECKING:
    from bokeh.models import ColumnDataSource
    from bokeh.models.renderers import GlyphRenderer
    from bokeh.plotting import figure
    from matplotlib.axes import Axes


@dataclass(frozen=True, eq=False)
class Line(Mark):
    """A curve through the points (x, y), both of shape (N,), in the given order."""

    columns = ("x", "y")
    hover = "vline"

    y: Array
    color: int = 0
    dashed: bool = False

    def __post_init__(self) -> None:
        check_same_length(self.name, x=self.x, y=self.y)

    def draw_bokeh(self, plot: "figure", source: "ColumnDataSource") -> "GlyphRenderer[Any]":
        dash = "dashed" if self.dashed else "solid"
        return plot.line(source=source, line_width=3, line_dash=dash, color=PALETTE[self.color])

    def draw_matplotlib(self, axis: "Axes", language: Language) -> None:
        style = "--" if self.dashed else "-"
        axis.plot(self.x, self.y, style, color=PALETTE[self.color], linewidth=2.5, label=self.label(language))

    def sign(self) -> str:
        return f"border-top: 3px {'dashed' if self.dashed else 'solid'} {PALETTE[self.color]}"
