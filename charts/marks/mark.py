"""What every mark has: a name, arrays, two drawings and a sign for the legend."""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import numpy as np
import numpy.typing as npt

from charts.text import Language, Words, said

if TYPE_CHECKING:  # lessons make marks without importing either of the two that draw them
    from bokeh.models import ColumnDataSource
    from bokeh.models.renderers import GlyphRenderer
    from bokeh.plotting import figure
    from matplotlib.axes import Axes

Array = npt.NDArray[np.float32]

# Okabe and Ito's palette, told apart with any kind of color vision (jfly.uni-koeln.de/color),
# in an order that gives the tutorial its blue data and red fit; gray stands for its black, which dark mode would hide.
PALETTE = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#8c8c8c")


@dataclass(frozen=True, eq=False)
class Mark(ABC):
    """A mark: a few arrays, and how they are drawn. One without a name is not in the legend."""

    columns: ClassVar[tuple[str, ...]]  # of its Bokeh data source; fields of the mark, unless it overrides `sent`
    hover: ClassVar[Literal["mouse", "vline"] | None] = "mouse"  # Bokeh's HoverTool.mode, or None for no tooltip

    name: Words
    x: Array

    def sent(self) -> dict[str, Array | npt.NDArray[np.uint8]]:
        """The arrays that the page receives, by their columns."""
        return {name: getattr(self, name) for name in self.columns}

    @abstractmethod
    def draw_bokeh(self, plot: "figure", source: "ColumnDataSource") -> "GlyphRenderer[Any]":
        """Draw the mark with the source's columns, which are still empty."""

    @abstractmethod
    def draw_matplotlib(self, axis: "Axes", language: Language) -> None:
        """Draw the mark with its own arrays, labelled by `label` so that matplotlib puts it into the legend."""

    @abstractmethod
    def sign(self) -> str:
        """What stands for the mark in the page's legend: CSS declarations of a box that is 18 pixels wide."""

    def tooltip(self, x_label: str, y_label: str) -> str:
        """Bokeh's template of the values under the pointer."""
        return f"{x_label} @x{{0.[000]}}, {y_label} @y{{0.[0000]}}"

    def palettes(self) -> dict[str, list[str]] | None:
        """The colors of the glyph's color mapper in the page's two schemes, "light" and "dark", if it has one."""
        return None

    def label(self, language: Language) -> str:
        """The name in matplotlib's legend, which leaves out labels that begin with an underscore."""
        return said(self.name, language) or "_"


def as_array(values: npt.ArrayLike) -> Array:
    """`values` as the float32 array that marks hold."""
    return np.asarray(values, dtype=np.float32)


def check_same_length(name: Words, **arrays: Array) -> None:
    """Raises ValueError unless all arrays have one shape (N,)."""
    shapes = {key: array.shape for key, array in arrays.items()}
    if len(set(shapes.values())) != 1 or any(len(shape) != 1 for shape in shapes.values()):
        raise ValueError(f"{said(name, 'en')}: {', '.join(shapes)} must be of one shape (N,), not {shapes}")
