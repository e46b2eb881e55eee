"""The tutorial's data sets, sampled from torch's global generator: the same seed reproduces them.

Functions draw samples. A class with a `make` method holds the settings of one function, as a group for a Config.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from charts.text import Text
from lab.experiment import Samples
from lab.settings import NOISE, POINTS, Config, number

TRAINING_SAMPLES = Text("Number of training samples", "用来学习的样本")


def evenly(points: int, low: float, high: float) -> Tensor:
    """Evenly spaced x from low to high, of shape (points, 1)."""
    return torch.unsqueeze(torch.linspace(low, high, points), dim=1)


def noisy_square(points: int, noise: float) -> Samples:
    """y = x² + noise·rand for evenly spaced x in [-1, 1]: x (points, 1), y (points, 1). Tutorial, 回归."""
    x = evenly(points, -1, 1)
    y = x.pow(2) + noise * torch.rand(x.size())
    return Samples(x, y)


@dataclass(frozen=True, kw_only=True)
class NoisySquare(Config):
    """Settings of `noisy_square`."""

    points: int = number(100, POINTS, 2, 1000, step=1, info=TRAINING_SAMPLES)
    noise: float = number(
        0.2,
        NOISE,
        0.0,
        1.0,
        step=0.01,
        info=Text("Maximum height of points above the parabola", "数据点最多高出抛物线多少"),
    )

    def make(self) -> Samples:
        """Draw samples."""
        return noisy_square(self.points, self.noise)

    @property
    def y_range(self) -> tuple[float, float]:
        """Limits of a y axis that contains all samples."""
        return -0.1, 1.1 + self.noise


def two_blobs(points: int, noise: float) -> Samples:
    """Two Gaussian clouds of standard deviation `noise`, centered at (2, 2) for class 0 and (-2, -2) for class 1.

    x (2·points, 2) float32, y (2·points,) int64 class indices, as CrossEntropyLoss expects. Tutorial, 分类.
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

    points: int = number(100, Text("Points of each class", "每类点数"), 2, 500, step=1, info=TRAINING_SAMPLES)
    noise: float = number(
        1.0, NOISE, 0.0, 4.0, step=0.05, info=Text("Standard deviation of each cloud", "一团点的标准差")
    )

    def make(self) -> Samples:
        """Draw samples."""
        return two_blobs(self.points, self.noise)

    def make_test(self) -> Samples:
        """Draw 500 samples per class: fewer would estimate a small error rate poorly."""
        return two_blobs(500, self.noise)


def noisy_line(points: int, noise: float) -> Samples:
    """y = x + noise·normal for evenly spaced x in [-1, 1]: x (points, 1), y (points, 1). Tutorial, Dropout."""
    x = evenly(points, -1, 1)
    y = x + noise * torch.normal(torch.zeros(points, 1), torch.ones(points, 1))
    return Samples(x, y)


def normal_square(points: int, noise: float) -> Samples:
    """y = x² + noise·normal for evenly spaced x in [-1, 1]: x (points, 1), y (points, 1). Tutorial, 优化器."""
    x = evenly(points, -1, 1)
    y = x.pow(2) + noise * torch.normal(torch.zeros(x.size()))
    return Samples(x, y)


def wide_square(points: int, noise: float) -> Samples:
    """y = x² - 5 + noise·normal for evenly spaced x in [-7, 10]: x (points, 1), y (points, 1). Not standardized."""
    x = evenly(points, -7, 10)
    y = x.pow(2) - 5 + noise * torch.normal(torch.zeros(x.size()))
    return Samples(x, y)


def shuffled_batches(samples: Samples, size: int) -> Iterator[Samples]:
    """Infinite iterator over batches of `size` samples. Each epoch is reshuffled; its last batch may be smaller."""
    while True:
        order = torch.randperm(len(samples.x))
        for x, y in zip(samples.x[order].split(size), samples.y[order].split(size), strict=True):
            yield Samples(x, y)
