"""The training loop: step() advances a run, snapshot() evaluates it without side effects."""

from collections import deque
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from types import TracebackType
from typing import Self

import torch
from torch import nn

from charts.text import Text
from lab.diagnosis import diagnose
from lab.evaluation import Now, Restored, all_finite, evaluate, evaluating, is_finite
from lab.experiment import Experiment, Learner
from lab.lesson import Snapshot, Training
from lab.prose import LessonError
from lab.recipe import MAX_CHANGES, Change, Recipe, sort_changes, validate_change
from lab.settings import Config, SettingError

NO_FILES: Mapping[str, Mapping[str, Restored]] = {}


class RandomState:
    """A run's state of torch's global generator, active within `with random_state:`.

    Layer initialization and dropout always draw from the global generator. Swapping the run's state in and the
    previous one back costs two microseconds and makes a run reproducible, regardless of other draws in between. The
    blocks must not nest or overlap between threads.
    """

    def __init__(self, seed: int) -> None:
        self._state = torch.Generator().manual_seed(seed).get_state()
        self._previous_state = self._state

    def __enter__(self) -> None:
        self._previous_state = torch.get_rng_state()
        torch.set_rng_state(self._state)

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._state = torch.get_rng_state()
        torch.set_rng_state(self._previous_state)

    @contextmanager
    def copied(self) -> Iterator[None]:
        """Activate a copy of the state; the run's own state does not advance."""
        with torch.random.fork_rng(devices=[]):
            torch.set_rng_state(self._state)
            yield


class Trainer:
    """A run of a lesson. Owns the experiment and its random state, and replays the changes of its recipe.

    Raises SettingError if the recipe's changes or stop are out of range, and LessonError if the lesson's setup is
    invalid.
    """

    def __init__(self, lesson: Training, recipe: Recipe) -> None:
        self.lesson = lesson
        self.step_number = 0
        self.diverged = False
        self.config = recipe.settings  # current settings, including changes so far
        self._settings = recipe.settings
        self._random = RandomState(recipe.settings.by_name()["seed"])
        with self._random:
            self.experiment = lesson.setup(recipe.settings)
        _check_experiment(lesson, self.experiment)
        self.stop_at = _check_step("stop", recipe.stop, self.steps)
        for change in recipe.changes:
            _check_step("changes", change.step, self.steps)
            if change.of_weight:
                self._weight(change.name)
        self._applied: list[Change] = []
        self._pending = deque(sort_changes(recipe.changes))
        self._apply_pending(0)

    @property
    def learners(self) -> list[Learner]:
        """Learners of the experiment."""
        return self.experiment.learners

    @property
    def steps(self) -> int:
        """Number of steps of the full run."""
        return self.experiment.steps

    @property
    def recipe(self) -> Recipe:
        """Recipe of the run, including the changes and the stop so far."""
        return Recipe(self.lesson.key, self._settings, (*self._applied, *self._pending), self.stop_at)

    @property
    def done(self) -> bool:
        """Whether the run has ended or diverged."""
        last = self.steps if self.stop_at is None else self.stop_at
        return self.diverged or self.step_number >= last

    def step(self) -> None:
        """Take one training step. Raises RuntimeError if the run is done."""
        if self.done:
            raise RuntimeError(f"the run ended at step {self.step_number}")
        with self._random:
            losses = self.experiment.take_step(self.experiment)
        for learner, loss in zip(self.learners, losses, strict=True):
            learner.losses.append(loss)
        self.step_number += 1
        self._apply_pending(self.step_number)
        self.diverged = not all_finite(losses)
        if self.step_number == self.steps and not self.diverged:  # no loss covers the last update
            self.diverged = not all(is_finite(learner.net) for learner in self.learners)

    def finish(self) -> Self:
        """Take all remaining steps."""
        while not self.done:
            self.step()
        return self

    def stop(self) -> None:
        """Stop the run at the current step."""
        if not self.done:
            self.stop_at = self.step_number
            self._pending.clear()

    def apply(self, name: str, value: object) -> None:
        """Change a setting or a weight at the current step. Raises SettingError and leaves the run unchanged."""
        count = len(self._applied) + len(self._pending) + 1
        if count > MAX_CHANGES:
            raise SettingError(
                "changes", Text(f"at most {MAX_CHANGES} in a run", f"每次训练最多 {MAX_CHANGES} 项"), count
            )
        change = validate_change(self.step_number, name, value, self._settings)
        if change.of_weight:
            self._weight(change.name)
        self._apply(change)

    def apply_all(self) -> None:
        """Apply all changes of the run now, instead of training: for nets whose weights are then loaded from a file."""
        self._apply_pending(self.steps if self.stop_at is None else self.stop_at)

    def _apply_pending(self, step: int) -> None:
        while self._pending and self._pending[0].step <= step:
            self._apply(self._pending.popleft())

    def _apply(self, change: Change) -> None:
        self._applied.append(change)
        if change.of_weight:
            parameter, index = self._weight(change.name)
            with torch.no_grad():
                parameter[index] = change.value
            return
        self.config = self.config.changed(change.name, change.value)
        self.lesson.retune(self.experiment, self.config)

    def _weight(self, name: str) -> tuple[nn.Parameter, tuple[int, ...]]:
        """Parameter and index named by NET.PARAMETER.INDEX.... Raises SettingError."""
        for learner in self.learners:
            for path, parameter in learner.net.named_parameters(prefix=learner.name):
                rest = name.removeprefix(f"{path}.")
                index = rest.split(".") if rest != name else []
                if len(index) == parameter.dim() and all(map(_is_index, index, parameter.shape)):
                    return parameter, tuple(map(int, index))
        first, weight = next(self.learners[0].net.named_parameters(prefix=self.learners[0].name))
        example = ".".join([first, *("0" for _ in weight.shape)])
        raise SettingError(
            "changes",
            Text(f"a weight of this run, such as {example}", f"对本次训练中的权重（如 {example}）的改动"),
            name,
        )

    @property
    def advice(self) -> Text:
        """Explanation of the divergence and what to try."""
        return Text(
            "Diverged at step {step} of {steps}: values exceeded the range of float32. Try a smaller learning rate.",
            "在第 {step} 步（共 {steps} 步）发散：数值超出了 float32 的范围。请减小学习率再试。",
        ).format(step=self.step_number, steps=self.steps)

    def snapshot(
        self, views: Config | None = None, restored: Mapping[str, Mapping[str, Restored]] = NO_FILES
    ) -> Snapshot:
        """Evaluate the run without side effects on modes, buffers, gradients or random state.

        `views` provides the view settings; the others are the run's. `restored` has the restored files of each net.
        Random draws of the lesson use a copy of the run's random state, so a snapshot is reproducible.
        """
        nets = [learner.net for learner in self.learners]
        with self._random.copied(), torch.no_grad(), evaluating(*nets):
            evaluations = [evaluate(learner, self.experiment) for learner in self.learners]
            config = self.config if views is None else self.config.with_views(views)
            now = Now(config, self.step_number, self.done, self.diverged, evaluations, restored, tuple(self._applied))
            view = self.lesson.show(self.experiment, now)
        evaluated = [(each.label, each.losses, one) for each, one in zip(self.learners, evaluations, strict=True)]
        return Snapshot(self.step_number, view, () if self.diverged else tuple(diagnose(evaluated)))


def _is_index(text: str, size: int) -> bool:
    return text.isascii() and text.isdecimal() and len(text) < 8 and int(text) < size


def _check_step(name: str, step: int | None, steps: int) -> int | None:
    if step is not None and step > steps:
        raise SettingError(name, Text(f"at most {steps}, the steps of this run", f"不超过本次训练的步数 {steps}"), step)
    return None if step == steps and name == "stop" else step


def _check_experiment(lesson: Training, experiment: object) -> None:
    """Raise LessonError if the result of setup is invalid."""
    subject = f"The setup of the lesson {lesson.key!r} must"
    if not isinstance(experiment, Experiment):
        raise LessonError(f"{subject} return an Experiment, not {type(experiment).__name__}.")
    names = [each.name for each in experiment.learners]
    if not names or len({*names}) != len(names):
        raise LessonError(f"{subject} create learners with unique names, not {', '.join(names) or 'none'}.")
    if type(experiment.steps) is not int or experiment.steps < 1:
        raise LessonError(f"{subject} set steps to an integer of at least 1, not {experiment.steps!r}.")
    for name, samples in (("train", experiment.train), ("test", experiment.test)):
        if not len(samples.x) or len(samples.x) != len(samples.y):
            raise LessonError(f"{subject} return {name} samples with as many inputs as targets.")
