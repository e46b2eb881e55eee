"""Marks of a chart, one module each: data, Bokeh glyph, matplotlib artist and legend sign.

To add a mark, add a module here. The page's script draws the arrays that a mark sends and needs no change.
"""

from charts.marks.band import Band
from charts.marks.heatmap import Heatmap
from charts.marks.line import Line
from charts.marks.mark import PALETTE, Array, Mark, as_array
from charts.marks.points import Marker, Points
from charts.marks.vertical_lines import VerticalLines

__all__ = ["PALETTE", "Array", "Band", "Heatmap", "Line", "Mark", "Marker", "Points", "VerticalLines", "as_array"]
