"""Band mark: the area between two curves."""

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
class Band(Mark):
    """The area between `low` and `high`, both of shape (N,), along `x` of shape (N,)."""

    columns = ("x", "low", "high")
    hover = None

    low: Array
    high: Array
    color: int = 0

    def __post_init__(self) -> None:
        check_same_length(self.name, x=self.x, low=self.low, high=self.high)

    def draw_bokeh(self, plot: "figure", source: "ColumnDataSource") -> "GlyphRenderer[Any]":
        return plot.varea(source=source, y1="low", y2="high", fill_color=PALETTE[self.color], fill_alpha=0.35)

    def draw_matplotlib(self, axis: "Axes", language: Language) -> None:
        color, label = PALETTE[self.color], self.label(language)
        axis.fill_between(self.x, self.low, self.high, color=color, alpha=0.25, label=label)

    def sign(self) -> str:
        return f"height: 10px; background: {PALETTE[self.color]}; opacity: 0.35"
