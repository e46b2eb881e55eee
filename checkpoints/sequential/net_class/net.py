"""The architecture of this bundle's net."""

import torch.nn.functional as F
from torch import Tensor, nn


class Net(nn.Module):
    """One hidden layer: (N, n_feature) -> (N, n_output) scores, one for each class."""

    def __init__(self, n_feature: int, n_hidden: int, n_output: int) -> None:
        super().__init__()
        self.hidden = nn.Linear(n_feature, n_hidden)
        self.out = nn.Linear(n_hidden, n_output)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.hidden(x))  # (N, n_hidden)
        x = self.out(x)  # (N, n_output), scores: CrossEntropyLoss applies the softmax itself
        return x


def build() -> nn.Module:
    """The net with fresh weights."""
    return Net(n_feature=2, n_hidden=10, n_output=2)
