"""The tutorial's data sets, drawn from torch's generator: seed it, and they repeat. With settings where lessons share.

Functions draw samples; a class with a `make` holds the settings of one, as a group for a lesson's Config.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from charts.text import Text
from lab.experiment import Samples
from lab.settings import NOISE, POINTS, Config, number

TO_LEARN_FROM = Text("Samples to learn from", "用来学习的样本")


def evenly(points: int, low: float, high: float) -> Tensor:
    """x evenly from low to high: (points, 1), one sample a row."""
    return torch.unsqueeze(torch.linspace(low, high, points), dim=1)


def noisy_square(points: int, noise: float) -> Samples:
    """y = x² + noise·rand for x evenly on [-1, 1]: x (points, 1), y (points, 1). Tutorial, 回归."""
    x = evenly(points, -1, 1)
    y = x.pow(2) + noise * torch.rand(x.size())
    return Samples(x, y)


@dataclass(frozen=True, kw_only=True)
class NoisySquare(Config):
    """Settings of `noisy_square`."""

    points: int = number(100, POINTS, 2, 1000, step=1, info=TO_LEARN_FROM)
    noise: float = number(
        0.2,
        NOISE,
        0.0,
        1.0,
        step=0.01,
        info=Text("How far points lie above the parabola, at most", "数据点最多高出抛物线多少"),
    )

    def make(self) -> Samples:
        """Draw samples."""
        return noisy_square(self.points, self.noise)

    @property
    def y_range(self) -> tuple[float, float]:
        """Limits of a y axis on which all of them lie."""
        return -0.1, 1.1 + self.noise


def two_blobs(points: int, noise: float) -> Samples:
    """Two normal clouds of standard deviation `noise` about (2, 2), class 0, and (-2, -2), class 1.

    x (2·points, 2) float32, y (2·points,) int64, as CrossEntropyLoss wants its labels. Tutorial, 分类.
    """
    center = torch.full((points, 2), 2.0)
    x0 = torch.normal(center, noise)  # (points, 2)
    x1 = torch.normal(-center, noise)
    x = torch.cat((x0, x1))
    y = torch.cat((torch.zeros(points), torch.ones(points))).long()
    return Samples(x, y)


@dataclass(frozen=True, kw_only=True)
class TwoBlobs(Config):
    """Settings of `two_blobs`."""

    points: int = number(100, Text("Points of each class", "每类点数"), 2, 500, step=1, info=TO_LEARN_FROM)
    noise: float = number(1.0, NOISE, 0.0, 4.0, step=0.05, info=Text("Standard deviation of a cloud", "一团点的标准差"))

    def make(self) -> Samples:
        """Draw samples."""
        return two_blobs(self.points, self.noise)

    def make_test(self) -> Samples:
        """Draw 500 samples of each class: few would misjudge a net that is rarely wrong."""
        return two_blobs(500, self.noise)


def noisy_line(points: int, noise: float) -> Samples:
    """y = x + noise·normal for x evenly on [-1, 1]: x (points, 1), y (points, 1). Tutorial, Dropout."""
    x = evenly(points, -1, 1)
    y = x + noise * torch.normal(torch.zeros(points, 1), torch.ones(points, 1))
    return Samples(x, y)


def normal_square(points: int, noise: float) -> Samples:
    """y = x² + noise·normal for x evenly on [-1, 1]: x (points, 1), y (points, 1). Tutorial, 优化器."""
    x = evenly(points, -1, 1)
    y = x.pow(2) + noise * torch.normal(torch.zeros(x.size()))
    return Samples(x, y)


def wide_square(points: int, noise: float) -> Samples:
    """y = x² - 5 + noise·normal for x evenly on [-7, 10]: x (points, 1), y (points, 1). Neither is scaled for a net."""
    x = evenly(points, -7, 10)
    y = x.pow(2) - 5 + noise * torch.normal(torch.zeros(x.size()))
    return Samples(x, y)


def shuffled_batches(samples: Samples, size: int) -> Iterator[Samples]:
    """Batches of `size` samples without end: each epoch has every sample once, in a new order, and a smaller rest."""
    while True:
        order = torch.randperm(len(samples.x))
        for x, y in zip(samples.x[order].split(size), samples.y[order].split(size), strict=True):
            yield Samples(x, y)
