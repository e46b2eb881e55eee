"""Base class of marks: a name, arrays, two renderings and a legend sign."""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import numpy as np
import numpy.typing as npt

from charts.text import Language, Words, said

if TYPE_CHECKING:  # lessons create marks without importing a renderer
    from bokeh.models import ColumnDataSource
    from bokeh.models.renderers import GlyphRenderer
    from bokeh.plotting import figure
    from matplotlib.axes import Axes

Array = npt.NDArray[np.float32]

# Okabe and Ito's palette, distinguishable with any kind of color vision (jfly.uni-koeln.de/color), ordered so that
# data is blue and the fit red, as in the tutorial. Gray replaces its black, which is invisible in dark mode.
PALETTE = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#8c8c8c")


@dataclass(frozen=True, eq=False)
class Mark(ABC):
    """Base class of marks: a few arrays and how to draw them. A mark without a name has no legend entry."""

    columns: ClassVar[tuple[str, ...]]  # of the Bokeh data source; field names unless `sent` is overridden
    hover: ClassVar[Literal["mouse", "vline"] | None] = "mouse"  # Bokeh's HoverTool.mode, or None for no tooltip

    name: Words
    x: Array

    def sent(self) -> dict[str, Array | npt.NDArray[np.uint8]]:
        """Arrays sent to the page, by column."""
        return {name: getattr(self, name) for name in self.columns}

    @abstractmethod
    def draw_bokeh(self, plot: "figure", source: "ColumnDataSource") -> "GlyphRenderer[Any]":
        """Add the glyph to the plot, bound to the source's columns, which are still empty."""

    @abstractmethod
    def draw_matplotlib(self, axis: "Axes", language: Language) -> None:
        """Draw the mark's arrays with `label` as its legend label."""

    @abstractmethod
    def sign(self) -> str:
        """CSS declarations of the mark's sign in the page's legend, a box 18 pixels wide."""

    def tooltip(self, x_label: str, y_label: str) -> str:
        """Bokeh tooltip template for the values under the pointer."""
        return f"{x_label} @x{{0.[000]}}, {y_label} @y{{0.[0000]}}"

    def palettes(self) -> dict[str, list[str]] | None:
        """Palettes of the glyph's color mapper by color scheme, "light" and "dark", or None without a color mapper."""
        return None

    def label(self, language: Language) -> str:
        """Label in matplotlib's legend; an unnamed mark gets an underscore, which matplotlib omits."""
        return said(self.name, language) or "_"


def as_array(values: npt.ArrayLike) -> Array:
    """`values` as a float32 array."""
    return np.asarray(values, dtype=np.float32)


def check_same_length(name: Words, **arrays: Array) -> None:
    """Raise ValueError unless all arrays have the same shape (N,)."""
    shapes = {key: array.shape for key, array in arrays.items()}
    if len(set(shapes.values())) != 1 or any(len(shape) != 1 for shape in shapes.values()):
        raise ValueError(f"{said(name, 'en')}: {', '.join(shapes)} must have the same shape (N,), not {shapes}")
