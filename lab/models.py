"""Networks shared by lessons. A lesson about a particular network defines its own."""

from itertools import pairwise

from torch import nn

ACTIVATIONS: dict[str, type[nn.Module]] = {
    "relu": nn.ReLU,
    "tanh": nn.Tanh,
    "sigmoid": nn.Sigmoid,
    "linear": nn.Identity,
}


def mlp(*sizes: int, activation: str = "relu", dropout: float | None = None) -> nn.Sequential:
    """Multilayer perceptron, (N, sizes[0]) -> (N, sizes[-1]): linear layers with an activation in between.

    `dropout` is the probability of zeroing a hidden unit in train mode, before the activation.
    """
    layers: list[nn.Module] = []
    for number, (inputs, outputs) in enumerate(pairwise(sizes), 1):
        layers.append(nn.Linear(inputs, outputs))
        if number < len(sizes) - 1:
            if dropout is not None:
                layers.append(nn.Dropout(dropout))
            layers.append(ACTIVATIONS[activation]())
    return nn.Sequential(*layers)
