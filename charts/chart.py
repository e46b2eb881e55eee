"""Declarative charts: panels of marks, where each mark holds a few arrays. `charts.marks` defines the marks.

All frames of a lesson share one structure (panels, marks, names, colors) and differ only in their arrays.
The page therefore builds its drawing once and then receives only arrays, and a file drawn from the same Chart
matches the page.
"""

from dataclasses import dataclass
from typing import Literal

from charts.marks import PALETTE, Array, Band, Heatmap, Line, Mark, Marker, Points, VerticalLines, as_array
from charts.text import Words

__all__ = [
    "PALETTE",
    "Array",
    "Band",
    "Chart",
    "Heatmap",
    "Line",
    "Mark",
    "Marker",
    "Panel",
    "Points",
    "Scale",
    "VerticalLines",
    "as_array",
]

Scale = Literal["linear", "log"]


@dataclass(frozen=True, eq=False)
class Panel:
    """A pair of axes. A range of None follows the data."""

    title: Words
    x_label: Words
    y_label: Words
    marks: tuple[Mark, ...]
    x_range: tuple[float, float] | None = None
    y_range: tuple[float, float] | None = None
    y_scale: Scale = "linear"


@dataclass(frozen=True, eq=False)
class Chart:
    """Panels side by side, in order of importance."""

    panels: tuple[Panel, ...]
