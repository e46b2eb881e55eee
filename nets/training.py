"""The only training loop: step() as the tutorial writes it, snapshot() that changes nothing."""

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from types import TracebackType
from typing import Generic, Protocol, TypeVar

import numpy as np
import torch
from torch import Tensor, nn

from charts.chart import PALETTE, Array, Chart, Line, Panel, as_array
from nets.lesson import Snapshot


class Settings(Protocol):
    """The settings that every trainer asks for; its lesson's own Config has more."""

    @property
    def seed(self) -> int: ...

    def to_dict(self) -> dict[str, int | float]: ...


C = TypeVar("C", bound=Settings)

CURVE_POINTS = 400  # of a loss curve: as many as a panel has pixels to show them


class RandomState:
    """torch's process-wide random numbers as one run sees them: `with random_state:` is that run's turn.

    Initialisation and dropout draw from the process-wide generator and take no other. Swapping the run's
    own state in for its turn, and the former one back after it, costs two microseconds and makes a run
    repeat exactly whoever else draws in between. Turns neither nest nor overlap between threads.
    """

    def __init__(self, seed: int) -> None:
        self._own = torch.Generator().manual_seed(seed).get_state()
        self._outer = self._own

    def __enter__(self) -> None:
        self._outer = torch.get_rng_state()
        torch.set_rng_state(self._own)

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._own = torch.get_rng_state()
        torch.set_rng_state(self._outer)

    @contextmanager
    def copied(self) -> Iterator[None]:
        """A turn that the run does not remember."""
        with torch.random.fork_rng(devices=[]):
            torch.set_rng_state(self._own)
            yield


@dataclass
class Learner:
    """One net that learns: its optimizer, and its loss at every step before the step was taken.

    `arguments` are those that its class was called with, so that its source can make another.
    """

    name: str
    net: nn.Module
    arguments: dict[str, int]
    optimizer: torch.optim.Optimizer
    losses: list[float] = field(default_factory=list)


class Trainer(ABC, Generic[C]):
    """One run: owns its nets, its data and its random state.

    A lesson's trainer says in `setup` what is trained and in `show` what there is to see. `setup` sets
    `learners`, `loss_func`, `steps`, how many there are to take, and `x` and `y`, the whole training set,
    one sample a row.
    """

    steps: int
    learners: list[Learner]
    loss_func: Callable[[Tensor, Tensor], Tensor]
    x: Tensor
    y: Tensor

    def __init__(self, config: C) -> None:
        self.config = config
        self.step_number = 0
        self.diverged = False
        self._random = RandomState(config.seed)
        with self._random:
            self.setup()

    @abstractmethod
    def setup(self) -> None:
        """Make data, nets and optimizers, drawing from torch's generator as the tutorial does."""

    @abstractmethod
    def show(self) -> tuple[dict[str, float], Chart]:
        """The metrics and the chart of this moment; called with the nets in eval mode and without gradients."""

    def batch(self) -> tuple[Tensor, Tensor]:
        """The samples of the next step: all of them, unless a lesson has mini-batches."""
        return self.x, self.y

    def step(self) -> None:
        """One step of every learner on one batch. Raises RuntimeError once the run is done."""
        if self.done:
            raise RuntimeError(f"the run ended at step {self.step_number}")
        with self._random:
            x, y = self.batch()
            for learner in self.learners:
                prediction = learner.net(x)
                loss = self.loss_func(prediction, y)
                learner.optimizer.zero_grad()
                loss.backward()
                learner.optimizer.step()
                learner.losses.append(loss.item())
        self.step_number += 1
        self.diverged = not all(math.isfinite(learner.losses[-1]) for learner in self.learners)
        if self.step_number == self.steps and not self.diverged:  # what the last step did, no loss has seen
            self.diverged = not all(is_finite(learner.net) for learner in self.learners)

    @property
    def done(self) -> bool:
        """Whether there is no step left to take."""
        return self.diverged or self.step_number >= self.steps

    @property
    def advice(self) -> str:
        """Why the run diverged and what to try, in plain words."""
        return (
            f"Diverged at step {self.step_number} of {self.steps}: the numbers grew past what float32 can hold."
            " Try a smaller learning rate."
        )

    def snapshot(self) -> Snapshot:
        """Evaluate now. Changes nothing: neither modes, buffers and gradients nor any random state.

        What `show` draws at random comes from a copy of the run's own state, so that a look can be repeated.
        """
        nets = [learner.net for learner in self.learners]
        with self._random.copied(), torch.no_grad(), evaluating(*nets):
            metrics, chart = self.show()
        return Snapshot(self.step_number, metrics, chart)

    def loss_panel(self, name: str, now: list[float]) -> Panel:
        """Each learner's loss by steps taken, up to `now`, the losses of this moment."""
        # Thinned by a stride that doubles, so that the points of a long run stay put from frame to frame.
        stride = 2 ** max(0, math.ceil(math.log2((self.step_number + 1) / CURVE_POINTS)))
        steps = as_array([*range(0, self.step_number, stride), self.step_number])
        curves = [
            Line(learner.name, steps, _finite([*learner.losses[::stride], loss]), color=(index + 1) % len(PALETTE))
            for index, (learner, loss) in enumerate(zip(self.learners, now, strict=True))
        ]
        # The axes stand still through a run, and a loss that explodes leaves them, so that the rest stays legible.
        first = max((each.losses[0] if each.losses else loss) for each, loss in zip(self.learners, now, strict=True))
        top = 2 * first if 0 < first < math.inf else 1.0
        return Panel("Loss", "steps taken", name, tuple(curves), x_range=(0, self.steps), y_range=(0, top))


def _finite(losses: list[float]) -> Array:
    """The losses with a gap where a diverged run has none to show."""
    values = as_array(losses)
    return np.where(np.isfinite(values), values, np.float32("nan"))


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
