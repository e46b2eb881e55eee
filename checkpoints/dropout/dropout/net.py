"""The architecture of this bundle's net."""

from torch import nn


def build() -> nn.Module:
    """The net with fresh weights."""
    return nn.Sequential(
        nn.Linear(in_features=1, out_features=300, bias=True),
        nn.Dropout(p=0.5, inplace=False),
        nn.ReLU(),
        nn.Linear(in_features=300, out_features=300, bias=True),
        nn.Dropout(p=0.5, inplace=False),
        nn.ReLU(),
        nn.Linear(in_features=300, out_features=1, bias=True),
    )
