"""The only training loop: step() takes the steps of a recipe, snapshot() looks and changes nothing."""

from collections import deque
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
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
from lab.recipe import Change, Recipe, checked, in_order
from lab.settings import Config, SettingError

NO_FILES: Mapping[str, Mapping[str, Restored]] = {}

# What an optimizer calls the settings that can change while a run is on.
TUNED = {"learning_rate": "lr", "momentum": "momentum", "weight_decay": "weight_decay"}


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


class Trainer:
    """A run of a lesson: owns its experiment and its random state, and replays the changes of its recipe.

    Raises SettingError for a recipe whose changes or stop its run does not have, and LessonError for a lesson whose
    setup lacks something.
    """

    def __init__(self, lesson: Training, recipe: Recipe) -> None:
        self.lesson = lesson
        self.step_number = 0
        self.diverged = False
        self.config = recipe.settings  # as it stands, with the changes so far
        self._settings = recipe.settings
        self._random = RandomState(recipe.settings.by_name()["seed"])
        with self._random:
            self.experiment = lesson.setup(recipe.settings)
        _refuse_incomplete(lesson, self.experiment)
        self.stop_at = _within("stop", recipe.stop, self.steps)
        for change in recipe.changes:
            _within("changes", change.step, self.steps)
            if change.of_weight:
                self._weight(change.name)
        self._made: list[Change] = []
        self._due = deque(in_order(recipe.changes))
        self._apply_due()

    @property
    def learners(self) -> list[Learner]:
        """The nets that learn."""
        return self.experiment.learners

    @property
    def steps(self) -> int:
        """The number of steps of a run that nobody stops."""
        return self.experiment.steps

    @property
    def recipe(self) -> Recipe:
        """The run so far as a recipe, and where it ends if that is before its last step."""
        return Recipe(self.lesson.key, self._settings, (*self._made, *self._due), self.stop_at)

    @property
    def done(self) -> bool:
        """Whether there is no step left to take."""
        last = self.steps if self.stop_at is None else self.stop_at
        return self.diverged or self.step_number >= last

    def step(self) -> None:
        """One step of the experiment. Raises RuntimeError once the run is done."""
        if self.done:
            raise RuntimeError(f"the run ended at step {self.step_number}")
        with self._random:
            losses = self.experiment.take_step(self.experiment)
        for learner, loss in zip(self.learners, losses, strict=True):
            learner.losses.append(loss)
        self.step_number += 1
        self._apply_due()
        self.diverged = not all_finite(losses)
        if self.step_number == self.steps and not self.diverged:  # what the last step did, no loss has seen
            self.diverged = not all(is_finite(learner.net) for learner in self.learners)

    def finish(self) -> Self:
        """Take all steps that are left."""
        while not self.done:
            self.step()
        return self

    def stop(self) -> None:
        """End the run here."""
        if not self.done:
            self.stop_at = self.step_number
            self._due.clear()

    def apply(self, name: str, value: object) -> None:
        """Change a setting or a weight from here on. Raises SettingError, and changes nothing then."""
        change = checked(self.step_number, name, value, self._settings)
        if change.of_weight:
            self._weight(change.name)
        self._carry_out(change)

    def _apply_due(self) -> None:
        while self._due and self._due[0].step <= self.step_number:
            self._carry_out(self._due.popleft())

    def _carry_out(self, change: Change) -> None:
        self._made.append(change)
        if change.of_weight:
            parameter, index = self._weight(change.name)
            with torch.no_grad():
                parameter[index] = change.value
            return
        self.config = self.config.changed(change.name, change.value)
        for learner in self.learners:
            learner.tune(TUNED[change.name], change.value)

    def _weight(self, name: str) -> tuple[nn.Parameter, tuple[int, ...]]:
        """The parameter that NET.PARAMETER.INDEX... names, and the place in it. Raises SettingError."""
        for learner in self.learners:
            for own, parameter in learner.net.named_parameters(prefix=learner.name):
                rest = name.removeprefix(f"{own}.")
                index = rest.split(".") if rest != name else []
                if len(index) == parameter.dim() and all(map(_is_index, index, parameter.shape)):
                    return parameter, tuple(map(int, index))
        first, weight = next(self.learners[0].net.named_parameters(prefix=self.learners[0].name))
        example = ".".join([first, *("0" for _ in weight.shape)])
        raise SettingError(
            "changes",
            Text(f"of a weight that this run has, such as {example}", f"对本次训练中的权重（如 {example}）的改动"),
            name,
        )

    @property
    def advice(self) -> Text:
        """Why the run diverged and what to try, in plain words."""
        return Text(
            "Diverged at step {step} of {steps}: the numbers grew past what float32 can hold."
            " Try a smaller learning rate.",
            "在第 {step} 步（共 {steps} 步）发散：数值超出了 float32 的范围。请减小学习率再试。",
        ).format(step=self.step_number, steps=self.steps)

    def snapshot(
        self, views: Config | None = None, restored: Mapping[str, Mapping[str, Restored]] = NO_FILES
    ) -> Snapshot:
        """Look now. Changes nothing: neither modes, buffers and gradients nor any random state.

        `views` has the settings that say how to look; the others are the run's own. `restored` has the files of each
        net, once they were written and read back. What the lesson draws at random comes from a copy of the run's own
        state, so that a look can be repeated.
        """
        nets = [learner.net for learner in self.learners]
        with self._random.copied(), torch.no_grad(), evaluating(*nets):
            evaluations = [evaluate(learner, self.experiment) for learner in self.learners]
            config = self.config if views is None else _looked_at(self.config, views)
            now = Now(config, self.step_number, self.done, self.diverged, evaluations, restored)
            view = self.lesson.show(self.experiment, now)
        nets_now = [(each.label, each.losses, one) for each, one in zip(self.learners, evaluations, strict=True)]
        return Snapshot(self.step_number, view, () if self.diverged else tuple(diagnose(nets_now)))


def _looked_at(config: Config, views: Config) -> Config:
    """The config with the views of another."""
    wanted = views.by_name()
    return replace(config, **{name: wanted[name] for name, control in config.controls().items() if control.view})


def _is_index(text: str, size: int) -> bool:
    return text.isascii() and text.isdecimal() and len(text) < 8 and int(text) < size


def _within(name: str, step: int | None, steps: int) -> int | None:
    if step is not None and step > steps:
        raise SettingError(name, Text(f"at most {steps}, the steps of this run", f"不超过本次训练的步数 {steps}"), step)
    return None if step == steps and name == "stop" else step


def _refuse_incomplete(lesson: Training, experiment: object) -> None:
    """Raise LessonError for what setup made, where something is missing."""
    told = f"The setup of the lesson {lesson.key!r} must"
    if not isinstance(experiment, Experiment):
        raise LessonError(f"{told} give an Experiment, not {type(experiment).__name__}.")
    names = [each.name for each in experiment.learners]
    if not names or len({*names}) != len(names):
        raise LessonError(f"{told} make learners with names of their own, not {', '.join(names) or 'none'}.")
    if type(experiment.steps) is not int or experiment.steps < 1:
        raise LessonError(f"{told} say how many steps there are, 1 or more, not {experiment.steps!r}.")
    for name, samples in (("train", experiment.train), ("test", experiment.test)):
        if not len(samples.x) or len(samples.x) != len(samples.y):
            raise LessonError(f"{told} give {name} samples, as many inputs as targets.")
