"""The tutorial's data sets, drawn from torch's generator: seed it, and they repeat."""

from collections.abc import Iterator

import torch
from torch import Tensor


def noisy_square(points: int, noise: float) -> tuple[Tensor, Tensor]:
    """y = x² + noise·rand for x evenly on [-1, 1]: x (points, 1), y (points, 1). Tutorial, 回归."""
    x = torch.unsqueeze(torch.linspace(-1, 1, points), dim=1)  # (N, 1): a column, one sample a row
    y = x.pow(2) + noise * torch.rand(x.size())
    return x, y


def two_blobs(points: int, noise: float) -> tuple[Tensor, Tensor]:
    """Two normal clouds of standard deviation `noise` about (2, 2), class 0, and (-2, -2), class 1.

    x (2·points, 2) float32, y (2·points,) int64, as CrossEntropyLoss wants its labels. Tutorial, 分类.
    """
    center = torch.full((points, 2), 2.0)
    x0 = torch.normal(center, noise)  # (points, 2)
    x1 = torch.normal(-center, noise)
    x = torch.cat((x0, x1))
    y = torch.cat((torch.zeros(points), torch.ones(points))).long()
    return x, y


def noisy_line(points: int, noise: float) -> tuple[Tensor, Tensor]:
    """y = x + noise·normal for x evenly on [-1, 1]: x (points, 1), y (points, 1). Tutorial, Dropout."""
    x = torch.unsqueeze(torch.linspace(-1, 1, points), dim=1)
    y = x + noise * torch.normal(torch.zeros(points, 1), torch.ones(points, 1))
    return x, y


def normal_square(points: int, noise: float) -> tuple[Tensor, Tensor]:
    """y = x² + noise·normal for x evenly on [-1, 1]: x (points, 1), y (points, 1). Tutorial, 优化器."""
    x = torch.unsqueeze(torch.linspace(-1, 1, points), dim=1)
    y = x.pow(2) + noise * torch.normal(torch.zeros(x.size()))
    return x, y


def shuffled_batches(x: Tensor, y: Tensor, size: int) -> Iterator[tuple[Tensor, Tensor]]:
    """Batches of `size` samples without end: each epoch has every sample once, in a new order, and a smaller rest."""
    while True:
        order = torch.randperm(len(x))
        yield from zip(x[order].split(size), y[order].split(size), strict=True)


def wide_square(points: int, noise: float) -> tuple[Tensor, Tensor]:
    """y = x² - 5 + noise·normal for x evenly on [-7, 10]: x (points, 1), y (points, 1). Neither is scaled for a net."""
    x = torch.unsqueeze(torch.linspace(-7, 10, points), dim=1)
    y = x.pow(2) - 5 + noise * torch.normal(torch.zeros(x.size()))
    return x, y
