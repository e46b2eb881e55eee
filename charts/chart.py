"""A chart as data: panels of marks, each mark a few arrays, and nothing about how it is drawn.

A lesson describes every frame with the same structure (panels, marks, names, colors) and new arrays.
So a page builds its drawing once and then receives arrays alone, and a file drawn from the same Chart
shows what the page shows.
"""

from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

from charts.text import Words, said

Array = npt.NDArray[np.float32]

# Okabe and Ito's palette, told apart with any kind of color vision (jfly.uni-koeln.de/color),
# in an order that gives the tutorial its blue data and red fit; gray stands for its black, which dark mode would hide.
PALETTE = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#8c8c8c")

Marker = Literal["circle", "square", "triangle"]
Scale = Literal["linear", "log"]


@dataclass(frozen=True, eq=False)
class Points:
    """A scatter: `x` and `y` of shape (N,). `size` is in pixels. A mark without a name is not in the legend."""

    name: Words
    x: Array
    y: Array
    color: int = 0
    marker: Marker = "circle"
    size: int = 7

    def __post_init__(self) -> None:
        _same_length(self.name, x=self.x, y=self.y)


@dataclass(frozen=True, eq=False)
class Line:
    """A curve through `x` and `y` of shape (N,), in the order given."""

    name: Words
    x: Array
    y: Array
    color: int = 0
    dashed: bool = False

    def __post_init__(self) -> None:
        _same_length(self.name, x=self.x, y=self.y)


@dataclass(frozen=True, eq=False)
class Band:
    """The area between `low` and `high`, both of shape (N,), along `x` of shape (N,)."""

    name: Words
    x: Array
    low: Array
    high: Array
    color: int = 0

    def __post_init__(self) -> None:
        _same_length(self.name, x=self.x, low=self.low, high=self.high)


@dataclass(frozen=True, eq=False)
class Heatmap:
    """`values` of shape (rows, columns) over the rectangle `x` by `y`, each a (2,) pair low, high.

    Row 0 lies at the bottom. `span` is the pair of values painted in the pure `colors`.
    """

    name: Words
    x: Array
    y: Array
    values: Array
    span: tuple[float, float] = (0.0, 1.0)
    colors: tuple[int, int] = (0, 1)

    def __post_init__(self) -> None:
        if self.x.shape != (2,) or self.y.shape != (2,) or self.values.ndim != 2:
            raise ValueError(
                f"{said(self.name, 'en')}: a heat map needs x (2,), y (2,) and values (rows, columns),"
                f" not {self.x.shape}, {self.y.shape} and {self.values.shape}"
            )


Mark = Points | Line | Band | Heatmap


@dataclass(frozen=True, eq=False)
class Panel:
    """One pair of axes. A range left at None follows the data."""

    title: Words
    x_label: Words
    y_label: Words
    marks: tuple[Mark, ...]
    x_range: tuple[float, float] | None = None
    y_range: tuple[float, float] | None = None
    y_scale: Scale = "linear"


@dataclass(frozen=True, eq=False)
class Chart:
    """Panels side by side, the first the most important."""

    panels: tuple[Panel, ...]


def as_array(values: npt.ArrayLike) -> Array:
    """`values` as the float32 array that marks hold."""
    return np.asarray(values, dtype=np.float32)


def _same_length(name: Words, **arrays: Array) -> None:
    shapes = {key: array.shape for key, array in arrays.items()}
    if len(set(shapes.values())) != 1 or any(len(shape) != 1 for shape in shapes.values()):
        raise ValueError(f"{said(name, 'en')}: {', '.join(shapes)} must be of one shape (N,), not {shapes}")
