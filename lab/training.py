"""The only training loop: step() as the tutorial writes it, snapshot() that changes nothing."""

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Generic, Protocol, TypeVar

import numpy as np
import torch
from torch import Tensor, nn

from charts.chart import PALETTE, Array, Line, Panel, Scale, as_array
from charts.text import Text, Words
from lab.diagnosis import Evaluation, diagnose, evaluate
from lab.lesson import Scaling, Snapshot, View
from lab.prose import LessonError


class Settings(Protocol):
    """The settings that every trainer asks for; its lesson's own Config has more."""

    @property
    def seed(self) -> int: ...

    def to_dict(self) -> dict[str, Any]: ...


C = TypeVar("C", bound=Settings)

SET_UP = ("steps", "learners", "loss_func", "x", "y", "test_x", "test_y")  # what a trainer's setup has to set
CURVE_POINTS = 400  # of a loss curve: as many as a panel has pixels to show them
SMOOTHED_OVER = 20  # steps

LOSS = Text("loss", "损失")
TEST_LOSS = Text("test loss", "测试损失")
STEPS_TAKEN = Text("steps taken", "已训练步数")
LOSS_TITLE = Text("Loss", "损失曲线")


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

    `name` is for folders and programs, `label` for people. `arguments` are those that its class was called with,
    so that its source can make another.
    """

    name: str
    net: nn.Module
    arguments: Mapping[str, Any]
    optimizer: torch.optim.Optimizer
    label: Words = ""
    losses: list[float] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.label = self.label or self.name


@dataclass(frozen=True, eq=False)
class Restored:
    """A model file that was written and read back: `predict` takes and gives (N, features) arrays of float32."""

    size: int  # bytes
    write_seconds: float
    read_seconds: float
    predict: Callable[[Array], Array]


class Trainer(ABC, Generic[C]):
    """One run: owns its nets, its data and its random state.

    A lesson's trainer says in `setup` what is trained and in `show` what there is to see. `setup` sets
    `learners`, `loss_func`, `steps`, how many there are to take, `x` and `y`, the whole training set, one sample
    a row, and `test_x` and `test_y`, samples of the same kind that are not learned from.

    `x_scaling` and `y_scaling` say how x and y came from the data as they are, where a lesson scales them.
    `restored` holds the files of each net by name and file, once they have been written.
    """

    steps: int
    learners: list[Learner]
    loss_func: Callable[[Tensor, Tensor], Tensor]
    x: Tensor
    y: Tensor
    test_x: Tensor
    test_y: Tensor
    x_scaling: Scaling | None = None
    y_scaling: Scaling | None = None

    def __init__(self, config: C) -> None:
        self.config = config
        self.step_number = 0
        self.diverged = False
        self.restored: dict[str, dict[str, Restored]] = {}
        self._random = RandomState(config.seed)
        with self._random:
            self.setup()
        missing = [name for name in SET_UP if not hasattr(self, name)]
        if missing:
            raise LessonError(f"{type(self).__qualname__}.setup must set {', '.join(missing)}.")
        if not self.learners:
            raise LessonError(f"{type(self).__qualname__}.setup must make at least one learner.")

    @abstractmethod
    def setup(self) -> None:
        """Make data, nets and optimizers, drawing from torch's generator as the tutorial does."""

    @abstractmethod
    def show(self, now: Sequence[Evaluation]) -> View:
        """What there is to see; `now` is each learner's evaluation. Called in eval mode and without gradients."""

    def batch(self) -> tuple[Tensor, Tensor]:
        """The samples of the next step: all of them, unless a lesson has mini-batches."""
        return self.x, self.y

    def step(self) -> None:
        """One step of every learner on one batch. Raises RuntimeError once the run is done."""
        if self.done:
            raise RuntimeError(f"the run ended at step {self.step_number}")
        with self._random:
            x, y = self.batch()
            predictions = [learner.net(x) for learner in self.learners]
            losses = [self.loss_func(prediction, y) for prediction in predictions]
            for learner in self.learners:
                learner.optimizer.zero_grad()
            torch.autograd.backward(losses)  # loss.backward() of every net, in one pass and half the time
            for learner, loss in zip(self.learners, losses, strict=True):
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
    def advice(self) -> Text:
        """Why the run diverged and what to try, in plain words."""
        return Text(
            "Diverged at step {step} of {steps}: the numbers grew past what float32 can hold."
            " Try a smaller learning rate.",
            "在第 {step} 步（共 {steps} 步）发散：数值超出了 float32 的范围。请减小学习率再试。",
        ).format(step=self.step_number, steps=self.steps)

    def snapshot(self) -> Snapshot:
        """Evaluate now. Changes nothing: neither modes, buffers and gradients nor any random state.

        What `show` draws at random comes from a copy of the run's own state, so that a look can be repeated.
        """
        nets = [learner.net for learner in self.learners]
        with self._random.copied(), torch.no_grad(), evaluating(*nets):
            now = [evaluate(net, self.loss_func, (self.x, self.y), (self.test_x, self.test_y)) for net in nets]
            view = self.show(now)
        nets_now = [(each.label, each.losses, now_of) for each, now_of in zip(self.learners, now, strict=True)]
        return Snapshot(self.step_number, view, () if self.diverged else tuple(diagnose(nets_now)))

    def figures(self, now: Sequence[Evaluation]) -> dict[str, float]:
        """Both losses of each learner by name, as metrics."""
        made = {}
        for learner, evaluation in zip(self.learners, now, strict=True):
            prefix = f"{learner.name} " if len(self.learners) > 1 else ""
            made[f"{prefix}loss"], made[f"{prefix}test loss"] = evaluation.loss, evaluation.test_loss
        return made

    def loss_panel(
        self,
        name: Words,
        now: Sequence[Evaluation],
        *,
        y_range: tuple[float, float] | None = None,
        y_scale: Scale = "linear",
        smoothed: bool = False,
    ) -> Panel:
        """Each learner's loss by steps taken, up to the loss of this moment."""
        # Thinned by a stride that doubles, so that the points of a long run stay put from frame to frame.
        stride = 2 ** max(0, math.ceil(math.log2((self.step_number + 1) / CURVE_POINTS)))
        steps = as_array([*range(0, self.step_number, stride), self.step_number])
        curves = []
        for index, (learner, evaluation) in enumerate(zip(self.learners, now, strict=True)):
            losses = _finite([*learner.losses, evaluation.loss])
            if smoothed:
                losses = _smoothed(losses)
            shown = np.append(losses[:-1:stride], losses[-1])
            curves.append(Line(learner.label, steps, shown, color=(index + 1) % len(PALETTE)))
        if y_range is None:
            # The axes stand still through a run, and a loss that explodes leaves them, so that the rest stays legible.
            first = max(each.losses[0] if each.losses else e.loss for each, e in zip(self.learners, now, strict=True))
            top = 2 * first if 0 < first < math.inf else 1.0
            if self.diverged:  # then the explosion is what there is to see
                top = max([top, *(loss for each in self.learners for loss in each.losses if math.isfinite(loss))])
            y_range = (top / 1e4 if y_scale == "log" else 0.0, top)
        marks = tuple(curves)
        return Panel(LOSS_TITLE, STEPS_TAKEN, name, marks, x_range=(0, self.steps), y_range=y_range, y_scale=y_scale)


def _finite(losses: list[float]) -> Array:
    """The losses with a gap where a diverged run has none to show."""
    values = as_array(losses)
    return np.where(np.isfinite(values), values, np.float32("nan"))


def _smoothed(losses: Array) -> Array:
    """The mean of each loss and those before it, SMOOTHED_OVER of them at most."""
    sums = np.cumsum(np.insert(losses.astype(np.float64), 0, 0.0))
    ends = np.arange(1, len(losses) + 1)
    starts = np.maximum(ends - SMOOTHED_OVER, 0)
    return as_array((sums[ends] - sums[starts]) / (ends - starts))


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
