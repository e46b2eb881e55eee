"""What a lesson sets up to be trained: nets that learn, the samples, and what one step is."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from charts.text import Words

Loss = Callable[[Tensor, Tensor], Tensor]


class Samples(NamedTuple):
    """Inputs and targets, one sample a row: x (N, features), and y as the loss wants it."""

    x: Tensor
    y: Tensor


@dataclass(frozen=True)
class Scaling:
    """How data were scaled before a net saw them: scaled = (value - mean) / std."""

    mean: float
    std: float


@dataclass(eq=False)
class Learner:
    """A net that learns.

    `name` is for folders and programs, `label` for people. `arguments` are those that the net's class was called with,
    so that its source can make another. `losses` has the loss of every step, before the step was taken.
    """

    name: str
    net: nn.Module
    optimizer: torch.optim.Optimizer
    loss_func: Loss
    arguments: Mapping[str, Any] = field(default_factory=dict)
    label: Words = ""
    schedule: torch.optim.lr_scheduler.LRScheduler | None = None
    penalty: Callable[[nn.Module], Tensor] | None = None  # added to the loss that is minimized, not to the one shown
    clip: float | None = None  # the largest norm of the gradient, all parameters together
    losses: list[float] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.label = self.label or self.name

    def objective(self, loss: Tensor) -> Tensor:
        """What a step minimizes: the loss, and the penalty if there is one."""
        return loss if self.penalty is None else loss + self.penalty(self.net)

    def tune(self, name: str, value: float) -> None:
        """Give the optimizer another value of what it calls by that name, where it has it."""
        for group in self.optimizer.param_groups:
            if name in group:
                group[name] = value

    def update(self) -> None:
        """Move the weights along the gradients that they have."""
        if self.clip is not None:
            nn.utils.clip_grad_norm_(self.net.parameters(), self.clip)
        self.optimizer.step()
        if self.schedule is not None:
            self.schedule.step()


def supervised_step(experiment: "Experiment") -> list[float]:
    """One step of every net on one batch: predict, compare, follow the gradient. Returns the losses."""
    x, y = experiment.batch()
    losses = [learner.loss_func(learner.net(x), y) for learner in experiment.learners]
    for learner in experiment.learners:
        learner.optimizer.zero_grad()
    # loss.backward() of every net, in one pass and half the time
    torch.autograd.backward([each.objective(loss) for each, loss in zip(experiment.learners, losses, strict=True)])
    for learner in experiment.learners:
        learner.update()
    return [loss.item() for loss in losses]


@dataclass(eq=False)
class Experiment:
    """What `setup` of a lesson makes: the nets, the samples that they learn from, and how many steps there are.

    `test` holds samples of the same kind that are not learned from. `batches` gives what each step sees, the whole
    training set unless a lesson has mini-batches. `take_step` is the step itself and returns each learner's loss: a
    lesson whose step is more than one input, one target and one loss has its own. `x_scaling` and `y_scaling` say how
    the samples came from the data as they are. `extra` is the lesson's own, for its `show`.
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
