"""The marks of a chart, one file each: its data, its Bokeh drawing, its matplotlib drawing and its legend sign.

A new mark is one file here. The page's script draws whatever arrays a mark sends.
"""

from charts.marks.band import Band
from charts.marks.heatmap import Heatmap
from charts.marks.line import Line
from charts.marks.mark import PALETTE, Array, Mark, as_array
from charts.marks.points import Marker, Points

__all__ = ["PALETTE", "Array", "Band", "Heatmap", "Line", "Mark", "Marker", "Points", "as_array"]
