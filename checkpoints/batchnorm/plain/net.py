"""The architecture of this bundle's net."""

import torch.nn.functional as F
from torch import Tensor, nn


class Net(nn.Module):
    """Eight hidden layers: (N, 1) -> (N, 1). With batch norm, one stands before every activation and at the input."""

    def __init__(self, activation: str, batch_norm: bool, momentum: float, n_hidden: int, n_layers: int) -> None:
        super().__init__()

        def norm(features: int) -> nn.Module:
            return nn.BatchNorm1d(features, momentum=momentum) if batch_norm else nn.Identity()

        self.activation = nn.Tanh() if activation == "tanh" else nn.ReLU()
        self.norm_input = norm(1)
        self.layers = nn.ModuleList(nn.Linear(n_hidden if i else 1, n_hidden) for i in range(n_layers))
        self.norms = nn.ModuleList(norm(n_hidden) for _ in range(n_layers))
        self.predict = nn.Linear(n_hidden, 1)
        for layer in (*self.layers, self.predict):  # a bad start, on purpose
            nn.init.normal_(layer.weight, mean=0.0, std=0.1)
            nn.init.constant_(layer.bias, -0.2)

    def forward(self, x: Tensor) -> Tensor:
        x = self.norm_input(x)
        for layer, norm in zip(self.layers, self.norms, strict=True):
            x = self.activation(norm(layer(x)))  # (N, n_hidden): linear layer -> batch norm -> activation
        x = self.predict(x)  # (N, 1)
        return x


def build() -> nn.Module:
    """The net with fresh weights."""
    return Net(activation='tanh', batch_norm=False, momentum=0.5, n_hidden=10, n_layers=8)
