"""A chart as data: panels of marks, each mark a few arrays. `charts.marks` has the marks.

A lesson describes every frame with the same structure (panels, marks, names, colors) and new arrays.
So a page builds its drawing once and then receives arrays alone, and a file drawn from the same Chart
shows what the page shows.
"""

from dataclasses import dataclass
from typing import Literal

from charts.marks import PALETTE, Array, Band, Heatmap, Line, Mark, Marker, Points, as_array
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
    "as_array",
]

Scale = Literal["linear", "log"]


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
