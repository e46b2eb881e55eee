"""The training setup of a lesson: learners, samples and the training step."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from charts.text import Words

Loss = Callable[[Tensor, Tensor], Tensor]


class Samples(NamedTuple):
    """Inputs x of shape (N, features) and targets y as the loss function expects them."""

    x: Tensor
    y: Tensor


@dataclass(frozen=True)
class Scaling:
    """Standardization of the data: scaled = (value - mean) / std."""

    mean: float
    std: float


@dataclass(eq=False)
class Learner:
    """A net with its optimizer and loss function.

    `name` identifies it in folders and in the API, `label` on the page. `arguments` are the constructor arguments of
    the net's class, with which its source can rebuild the net. `losses` has the loss before each step.
    """

    name: str
    net: nn.Module
    optimizer: torch.optim.Optimizer
    loss_func: Loss
    arguments: Mapping[str, Any] = field(default_factory=dict)
    label: Words = ""
    schedule: torch.optim.lr_scheduler.LRScheduler | None = None
    penalty: Callable[[nn.Module], Tensor] | None = None  # added to the objective, not to the recorded loss
    clip: float | None = None  # maximum norm of the gradients of all parameters together
    losses: list[float] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.label = self.label or self.name

    def objective(self, loss: Tensor) -> Tensor:
        """The objective that a step minimizes: the loss plus the penalty, if any."""
        return loss if self.penalty is None else loss + self.penalty(self.net)

    def set_learning_rate(self, value: float) -> None:
        """Set the learning rate from which the schedule starts.

        The current rate becomes `value` times the factor that the schedule has reached, and later steps continue from
        there. Without a schedule it becomes `value`.
        """
        for group in self.optimizer.param_groups:
            base = group.get("initial_lr", group["lr"])  # a schedule stores its start as initial_lr
            if value != base:
                group["lr"] = value * (group["lr"] / base)
                if self.schedule is not None:
                    group["initial_lr"] = value
        if self.schedule is not None:
            self.schedule.base_lrs = [value for _ in self.optimizer.param_groups]

    def set_options(self, **options: object) -> None:
        """Set options of the optimizer, such as momentum, in all parameter groups."""
        for group in self.optimizer.param_groups:
            group.update(options)

    def update(self) -> None:
        """Clip the gradients if requested, then step the optimizer and the schedule."""
        if self.clip is not None:
            nn.utils.clip_grad_norm_(self.net.parameters(), self.clip)
        self.optimizer.step()
        if self.schedule is not None:
            self.schedule.step()


def set_learning_rates(experiment: "Experiment", config: Any) -> None:
    """Set the learning rate of every learner to that of the settings."""
    for learner in experiment.learners:
        learner.set_learning_rate(config.learning_rate)


def supervised_step(experiment: "Experiment") -> list[float]:
    """Train every net on one batch (forward, backward, update) and return the losses."""
    x, y = experiment.batch()
    losses = [learner.loss_func(learner.net(x), y) for learner in experiment.learners]
    for learner in experiment.learners:
        learner.optimizer.zero_grad()
    # loss.backward() for all nets in one pass, which takes half the time
    torch.autograd.backward([each.objective(loss) for each, loss in zip(experiment.learners, losses, strict=True)])
    for learner in experiment.learners:
        learner.update()
    return [loss.item() for loss in losses]


@dataclass(eq=False)
class Experiment:
    """Result of a lesson's `setup`: the learners, their samples and the number of steps.

    `test` holds held-out samples from the same distribution. `batches` yields the samples of each step; without it, a
    step uses the whole training set. `take_step` performs one step and returns each learner's loss; a lesson overrides
    it if its step is not one input, one target and one loss. `x_scaling` and `y_scaling` describe how the samples were
    standardized. `extra` is arbitrary data of the lesson for its `show`.
    """

    learners: list[Learner]
    train: Samples
    test: Samples
    steps: int
    batches: Iterator[Samples] | None = None
    take_step: "Callable[[Experiment], Sequence[float]]" = supervised_step
    x_scaling: Scaling | None = None
    y_scaling: Scaling | None = None
    extra: Any = None

    def batch(self) -> Samples:
        """The samples of the next step."""
        return self.train if self.batches is None else next(self.batches)
