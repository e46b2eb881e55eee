"""How nets do, measured: their predictions and losses in eval mode, and the ReLUs that are dead."""

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


@dataclass(frozen=True, eq=False)
class Evaluation:
    """A net in eval mode: what it predicts for the training set, and its losses there and on unseen samples.

    `dead` of its `relus` give 0 for every sample of the training set.
    """

    prediction: Tensor
    loss: float
    test_loss: float
    relus: int
    dead: int


@dataclass(frozen=True, eq=False)
class Restored:
    """A model file that was written and read back: `predict` takes and gives (N, features) arrays of float32."""

    size: int  # bytes
    write_seconds: float
    read_seconds: float
    predict: Callable[[Array], Array]


@dataclass(frozen=True, eq=False)
class Now:
    """A moment of a run, for a lesson's `show`.

    `config` has the settings as they stand, with the views that were asked for. `nets` has the evaluation of each
    learner, in order. `restored` has the files of each net, by its name and theirs, once they were written.
    """

    config: Any
    step: int
    done: bool
    diverged: bool
    nets: Sequence[Evaluation]
    restored: Mapping[str, Mapping[str, Restored]] = field(default_factory=dict)

    @property
    def net(self) -> Evaluation:
        """The evaluation of the first learner."""
        return self.nets[0]

    def losses(self, experiment: Experiment) -> dict[str, float]:
        """Both losses of each learner, by name if there are several: metrics of every lesson."""
        made = {}
        for learner, evaluation in zip(experiment.learners, self.nets, strict=True):
            prefix = f"{learner.name} " if len(experiment.learners) > 1 else ""
            made[f"{prefix}loss"], made[f"{prefix}test loss"] = evaluation.loss, evaluation.test_loss
        return made


def evaluate(learner: Learner, experiment: Experiment) -> Evaluation:
    """Evaluate a net, which is in eval mode, on its training set and on unseen samples. Call without gradients."""
    net, loss_func = learner.net, learner.loss_func
    with _ReLUs() as relus:
        prediction = net(experiment.train.x)
    loss = loss_func(prediction, experiment.train.y).item()
    test_loss = loss_func(net(experiment.test.x), experiment.test.y).item()
    return Evaluation(prediction, loss, test_loss, relus.units, relus.dead)


@contextmanager
def evaluating(*nets: nn.Module) -> Iterator[None]:
    """Eval mode within, and after it each module's own mode again: a net may hold frozen parts."""
    modes = [(module, module.training) for net in nets for module in net.modules()]
    for net in nets:
        net.eval()
    try:
        yield
    finally:
        for module, training in modes:
            module.training = training


def is_finite(net: nn.Module) -> bool:
    """Whether every number that the net holds, weights and buffers, is finite."""
    return all(bool(torch.isfinite(tensor).all()) for tensor in net.state_dict().values())


def all_finite(values: Sequence[float]) -> bool:
    """Whether no number is NaN or infinite."""
    return all(map(math.isfinite, values))


class _ReLUs(TorchFunctionMode):
    """Counts, while it is on, the units that go through a ReLU and those that give 0 for every sample."""

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
