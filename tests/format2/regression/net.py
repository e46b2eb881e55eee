"""The architecture of this bundle's net."""

import torch.nn.functional as F
from torch import Tensor, nn


class Net(nn.Module):
    """One hidden layer: (N, n_features) -> (N, n_output)."""

    def __init__(self, n_features: int, n_hidden: int, n_output: int) -> None:
        super().__init__()
        self.hidden = nn.Linear(n_features, n_hidden)
        self.predict = nn.Linear(n_hidden, n_output)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.hidden(x))  # (N, n_hidden)
        x = self.predict(x)  # (N, n_output), linear: a prediction may be any number
        return x


def build() -> nn.Module:
    """The net with fresh weights."""
    return Net(n_features=1, n_hidden=10, n_output=1)
