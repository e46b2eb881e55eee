"""Heatmap mark: a grid of values as colors."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from charts.marks.mark import PALETTE, Array, Mark
from charts.text import Language, said

if TYPE_CHECKING:
    from bokeh.models import ColumnDataSource
    from bokeh.models.renderers import GlyphRenderer
    from bokeh.plotting import figure
    from matplotlib.axes import Axes

SHADES = 64  # colors in the page's palette
LIGHT, DARK = (247, 247, 247), (28, 33, 43)  # middle of a palette, close to the page's background


@dataclass(frozen=True, eq=False)
class Heatmap(Mark):
    """`values` of shape (rows, columns) over the rectangle `x` by `y`, each of shape (2,): (low, high).

    Row 0 is at the bottom. `span` is the pair of values that map to the two `colors`.
    """

    columns = ("x", "y", "dw", "dh", "image")

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

    def sent(self) -> dict[str, Array | npt.NDArray[np.uint8]]:
        width, height = self.x[1:] - self.x[:1], self.y[1:] - self.y[:1]
        size = np.asarray(self.values.shape, dtype=np.float32)  # rows, columns
        return {"x": self.x[:1], "y": self.y[:1], "dw": width, "dh": height, "size": size, "bytes": self._bytes()}

    def _bytes(self) -> npt.NDArray[np.uint8]:
        # uint8 is a quarter the size of float32 and is finer than the palette; the tooltip is exact to span / 255.
        low, high = self.span
        scaled = np.clip((self.values - low) / (high - low), 0, 1) * 255
        quantized: npt.NDArray[np.uint8] = np.nan_to_num(scaled).round().astype(np.uint8)
        return quantized

    def draw_bokeh(self, plot: "figure", source: "ColumnDataSource") -> "GlyphRenderer[Any]":
        from bokeh.models import LinearColorMapper

        low, high = self.span
        mapper = LinearColorMapper(palette=_shades(self.colors, LIGHT), low=low, high=high)
        return plot.image(source=source, image="image", color_mapper=mapper, level="image")  # type: ignore[call-arg]

    def draw_matplotlib(self, axis: "Axes", language: Language) -> None:
        from matplotlib.colors import LinearSegmentedColormap

        ends = (PALETTE[self.colors[0]], "#f7f7f7", PALETTE[self.colors[1]])
        low, high = self.span
        (left, right), (bottom, top) = self.x.tolist(), self.y.tolist()
        image = axis.imshow(
            self.values,
            cmap=LinearSegmentedColormap.from_list("between", ends),
            vmin=low,
            vmax=high,
            extent=(left, right, bottom, top),
            origin="lower",
            aspect="auto",
            alpha=0.7,
        )
        axis.figure.colorbar(image, ax=axis, label=said(self.name, language))  # replaces the legend entry

    def sign(self) -> str:
        low, high = (PALETTE[color] for color in self.colors)
        return f"height: 10px; background: linear-gradient(90deg, {low}, var(--background-fill-primary), {high})"

    def tooltip(self, x_label: str, y_label: str) -> str:
        return f"{x_label} $x{{0.00}}, {y_label} $y{{0.00}}: @image{{0.00}}"

    def palettes(self) -> dict[str, list[str]]:
        return {"light": _shades(self.colors, LIGHT), "dark": _shades(self.colors, DARK)}


def _shades(colors: tuple[int, int], middle: tuple[int, int, int]) -> list[str]:
    """Palette of SHADES softened colors, from the first PALETTE index through `middle` to the second."""
    ends = np.array([_rgb(PALETTE[colors[0]]), middle, _rgb(PALETTE[colors[1]])], dtype=float)
    ends[[0, 2]] = ends[[0, 2]] * 0.7 + np.array(middle) * 0.3  # so that points stand out
    at = np.linspace(0, 2, SHADES)
    channels = np.stack([np.interp(at, [0, 1, 2], ends[:, c]) for c in range(3)], axis=1)
    return ["#{:02x}{:02x}{:02x}".format(*color) for color in channels.round().astype(int)]


def _rgb(color: str) -> tuple[int, ...]:
    return tuple(bytes.fromhex(color[1:]))
