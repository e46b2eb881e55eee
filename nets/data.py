"""The tutorial's data sets, drawn from torch's generator: seed it, and they repeat."""

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
