"""Networks that lessons share; a lesson whose subject is a network writes its own."""

from itertools import pairwise

from torch import nn

ACTIVATIONS: dict[str, type[nn.Module]] = {
    "relu": nn.ReLU,
    "tanh": nn.Tanh,
    "sigmoid": nn.Sigmoid,
    "linear": nn.Identity,
}


def mlp(*sizes: int, activation: str = "relu", dropout: float | None = None) -> nn.Sequential:
    """A multilayer perceptron: (N, sizes[0]) -> (N, sizes[-1]), linear layers with an activation between two.

    With `dropout`, each hidden unit is switched off with that probability in train mode, before the activation.
    """
    layers: list[nn.Module] = []
    for number, (inputs, outputs) in enumerate(pairwise(sizes), 1):
        layers.append(nn.Linear(inputs, outputs))
        if number < len(sizes) - 1:
            if dropout is not None:
                layers.append(nn.Dropout(dropout))
            layers.append(ACTIVATIONS[activation]())
    return nn.Sequential(*layers)
