"""Evaluation of nets: predictions and losses in eval mode, and dead ReLUs."""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from charts.chart import Array
from lab.experiment import Experiment, Learner
from lab.recipe import Change


@dataclass(frozen=True, eq=False)
class Evaluation:
    """Evaluation of a net in eval mode: its predictions for the training set and its training and test loss.

    `relus` counts the units with a ReLU, `dead` those that output 0 for every training sample.
    """

    prediction: Tensor
    loss: float
    test_loss: float
    relus: int
    dead: int


@dataclass(frozen=True, eq=False)
class Restored:
    """A model file after a round trip to disk. `predict` maps (N, features) to (N, outputs), both float32."""

    size: int  # bytes
    write_seconds: float
    read_seconds: float
    predict: Callable[[Array], Array]


@dataclass(frozen=True, eq=False)
class Now:
    """State of a run at one step, passed to a lesson's `show`.

    `config` has the current settings, including the requested view settings. `nets` has the evaluation of each
    learner, in order. `restored` maps net name and file name to the restored files, once they have been written.
    `changes` are those made during the run so far.
    """

    config: Any
    step: int
    done: bool
    diverged: bool
    nets: Sequence[Evaluation]
    restored: Mapping[str, Mapping[str, Restored]] = field(default_factory=dict)
    changes: Sequence[Change] = ()

    @property
    def net(self) -> Evaluation:
        """The evaluation of the first learner."""
        return self.nets[0]

    def losses(self, experiment: Experiment) -> dict[str, float]:
        """Metrics of every lesson: both losses of each learner, prefixed by its name if there are several."""
        made = {}
        for learner, evaluation in zip(experiment.learners, self.nets, strict=True):
            prefix = f"{learner.name} " if len(experiment.learners) > 1 else ""
            made[f"{prefix}loss"], made[f"{prefix}test loss"] = evaluation.loss, evaluation.test_loss
        return made


def evaluate(learner: Learner, experiment: Experiment) -> Evaluation:
    """Evaluate a net on the training and test sets. Requires eval mode and torch.no_grad()."""
    net, loss_func = learner.net, learner.loss_func
    with _ReLUCounter() as relus:
        prediction = net(experiment.train.x)
    loss = loss_func(prediction, experiment.train.y).item()
    test_loss = loss_func(net(experiment.test.x), experiment.test.y).item()
    return Evaluation(prediction, loss, test_loss, relus.units, relus.dead)


@contextmanager
def evaluating(*nets: nn.Module) -> Iterator[None]:
    """Switch to eval mode, then restore each module's own mode, as parts of a net may be frozen."""
    modes = [(module, module.training) for net in nets for module in net.modules()]
    for net in nets:
        net.eval()
    try:
        yield
    finally:
        for module, training in modes:
            module.training = training


def is_finite(net: nn.Module) -> bool:
    """Whether all parameters and buffers of the net are finite."""
    return all(bool(torch.isfinite(tensor).all()) for tensor in net.state_dict().values())


def all_finite(values: Sequence[float]) -> bool:
    """Whether all values are finite."""
    return all(map(math.isfinite, values))


class _ReLUCounter(TorchFunctionMode):
    """Count the units that pass through a ReLU and those that output 0 for every sample."""

    def __init__(self) -> None:
        super().__init__()
        self.units = self.dead = 0

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        result = func(*args, **(kwargs or {}))
        if func is F.relu:
            active = (result > 0).any(dim=0)
            self.units += active.numel()
            self.dead += int((~active).sum())
        return result
