"""The engine: holds the trainers of many runs in one process and executes calls for them.

Calls run one at a time, except BACKGROUND_METHODS: torch has one random number generator for the whole process, and
two runs must not draw from it alternately. Arguments and results are plain data, so that they can go over a pipe.
"""

import json
import math
import time
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from charts import browser, html
from charts.chart import Chart
from charts.text import Language, Text
from export import bundle
from export.bundle import Bundle, Draft
from export.verify import verify
from lab.evaluation import Restored
from lab.lesson import Computation, Snapshot, View
from lab.recipe import Change, Recipe
from lab.settings import Config
from lab.training import Trainer
from nets import LESSONS, TRAININGS, read_recipe

# Slow methods that draw no random numbers, and the background thread of each. Figures have another thread than exports:
# an export of a new architecture waits for a child process.
BACKGROUND_METHODS = {"prepare": "export", "seal": "draw", "draw": "draw"}

Settings = Mapping[str, Any]


@dataclass(frozen=True)
class EncodedFrame:
    """The state of a run at one step, encoded for the page.

    `body` is a JSON object with the arrays, notes and blocks that differ from the run's first frame; see
    `charts.browser`. `advice` says why the numbers are no longer finite; None if they are.
    """

    step: int
    metrics: Mapping[str, float]
    body: str
    advice: Text | None


@dataclass(frozen=True)
class InitialState:
    """The initial data of a page: the chart's structure, a complete frame, and the run's numbers of steps and nets."""

    structure: str
    frame: EncodedFrame
    steps: int
    nets: int


@dataclass(frozen=True)
class Progress:
    """Result of `advance`: number of steps taken, whether the run is at its end, and a frame if one was due.

    `seconds` is the processor time used.
    """

    taken: int
    done: bool
    frame: EncodedFrame | None
    seconds: float


class Engine:
    """Runs by number. Methods that take the number of a run raise KeyError if there is none."""

    def __init__(self) -> None:
        self._runs: dict[int, _Run] = {}

    def ping(self) -> None:
        """Do nothing; the answer proves that calls are executed."""

    def warm(self, key: str) -> None:
        """Do the one-time work of the first run of a lesson, which takes most of a second."""
        self.preview({"lesson": key})

    def begin(self, number: int, recipe: Mapping[str, Any]) -> InitialState:
        """Create a run at step 0 from the output of `Recipe.to_dict`. Raises SettingError."""
        run = _Run(read_recipe(recipe))
        self._runs[number] = run
        return run.begin()

    def preview(self, recipe: Mapping[str, Any]) -> InitialState:
        """The initial state of a run that is not kept, or the result of a lesson without training.

        `recipe` is the output of `Recipe.to_dict`. Raises SettingError.
        """
        lesson = LESSONS[recipe["lesson"]]
        if not isinstance(lesson, Computation):
            return _Run(read_recipe(recipe)).begin()
        view = _computed(lesson, lesson.config.parse(recipe["settings"]))
        body = {"arrays": browser.arrays(view.chart), "blocks": html.blocks(view.blocks), "notes": ""}
        frame = EncodedFrame(0, view.metrics, json.dumps(body), None)
        return InitialState(browser.structure(view.chart), frame, 0, 0)

    def forget(self, number: int) -> None:
        """Delete the run, if there is one with that number."""
        self._runs.pop(number, None)

    def advance(self, number: int, most: int, seconds: float, due: float) -> Progress:
        """Take up to `most` steps for about `seconds`, with a frame after the last step or after `due` seconds."""
        return self._runs[number].advance(most, seconds, due)

    def frame(self, number: int) -> EncodedFrame:
        """The current frame."""
        return self._runs[number].frame()

    def change(self, number: int, name: str, value: object) -> tuple[int, tuple[Change, ...]]:
        """Change a setting or a weight of the run unless it is done; return its step and all its changes.

        Raises SettingError.
        """
        trainer = self._runs[number].trainer
        if not trainer.done:
            trainer.apply(name, value)
        return trainer.step_number, trainer.recipe.changes

    def stop(self, number: int) -> EncodedFrame:
        """End the run at its current step, and return its last frame."""
        run = self._runs[number]
        run.trainer.stop()
        return run.frame()

    def change_view(self, number: int, settings: Settings) -> InitialState:
        """Change the view settings of the run, and return its new initial state; other settings must not differ."""
        run = self._runs[number]
        run.views = run.trainer.lesson.config.parse(settings)
        return run.begin()

    def is_prepared(self, number: int) -> bool:
        """Whether the ONNX graph of the run's architecture is cached."""
        return bundle.is_prepared(self._runs[number].trainer)

    def prepare(self, number: int) -> None:
        """Export and cache the ONNX graph of the run's architecture. Raises ExportError."""
        bundle.prepare(self._runs[number].trainer)

    def check(self, number: int, net: int, out: str, language: Language) -> None:
        """Write one net's files under `out`, load them and compare outputs. Raises the errors of `bundle.Draft`."""
        self._runs[number].check(net, Path(out), language)

    def seal(self, number: int) -> tuple[list[Bundle], bytes]:
        """The finished bundles of the checked nets, and a zip of them."""
        return self._runs[number].seal()

    def cancel(self, number: int) -> None:
        """Delete the files of an export that `seal` has not finished."""
        run = self._runs.get(number)
        if run is not None:
            run.cancel()

    def chart(self, number: int) -> Chart:
        """The chart of the last frame."""
        return self._runs[number].snapshot.chart

    def chart_of(self, recipe: Mapping[str, Any]) -> Chart:
        """The chart of `preview`. Raises SettingError."""
        lesson = LESSONS[recipe["lesson"]]
        if isinstance(lesson, Computation):
            return _computed(lesson, lesson.config.parse(recipe["settings"])).chart
        return _Run(read_recipe(recipe)).snapshot.chart

    def draw(self, chart: Chart, language: Language) -> dict[str, bytes]:
        """The chart as image files, by format; empty if it has no panel."""
        from charts import figure  # matplotlib takes half a second to import, which startup need not wait for

        return {kind: figure.save(chart, kind, language) for kind in figure.FORMATS} if chart.panels else {}

    def verify(self, folder: str) -> Bundle:
        """Verify the bundle in that folder. Raises the errors of `export.verify.verify`."""
        return verify(Path(folder))


class _Run:
    """One run: its trainer, its last snapshot, and the arrays of its first frame."""

    def __init__(self, recipe: Recipe) -> None:
        self.trainer = Trainer(TRAININGS[recipe.lesson], recipe)
        self.views: Config = recipe.settings  # its view settings determine the display
        self._restored: Mapping[str, Mapping[str, Restored]] = {}
        self.snapshot: Snapshot = self._take_snapshot()
        self._base: dict[str, str] = {}
        self._base_blocks = ""
        self._draft: Draft | None = None
        self._stack = ExitStack()  # closes the draft

    def _take_snapshot(self) -> Snapshot:
        return self.trainer.snapshot(self.views, self._restored)

    def begin(self) -> InitialState:
        self.snapshot = self._take_snapshot()
        self._base, self._base_blocks = {}, ""
        frame = self._encoded()
        view = self.snapshot.view
        self._base, self._base_blocks = browser.arrays(view.chart), html.blocks(view.blocks)
        return InitialState(browser.structure(view.chart), frame, self.trainer.steps, len(self.trainer.learners))

    def advance(self, most: int, seconds: float, due: float) -> Progress:
        start, used = time.monotonic(), time.thread_time()
        taken = 0
        while taken < most and not self.trainer.done:
            self.trainer.step()
            taken += 1
            if time.monotonic() - start > seconds:
                break
        done = self.trainer.done
        wanted = done or taken == most or time.monotonic() - start >= due
        frame = self.frame() if wanted else None
        return Progress(taken, done, frame, time.thread_time() - used)

    def frame(self) -> EncodedFrame:
        self.snapshot = self._take_snapshot()
        return self._encoded()

    def _encoded(self) -> EncodedFrame:
        view = self.snapshot.view
        blocks = html.blocks(view.blocks)
        body: dict[str, Any] = {
            "arrays": browser.changed(self._base, browser.arrays(view.chart)),
            "notes": html.blocks(self.snapshot.diagnosis),
        }
        if not self._base or blocks != self._base_blocks:
            body["blocks"] = blocks
        failed = self.trainer.diverged or not all(map(math.isfinite, view.metrics.values()))
        return EncodedFrame(
            self.snapshot.step, dict(view.metrics), json.dumps(body), self.trainer.advice if failed else None
        )

    def check(self, net: int, out: Path, language: Language) -> None:
        if self._draft is None:
            self._draft = self._stack.enter_context(Draft(self.trainer, self.snapshot, out, language))
        self._draft.check(self.trainer.learners[net])
        self._restored = self._draft.restored

    def seal(self) -> tuple[list[Bundle], bytes]:
        if self._draft is None:
            raise ValueError("nothing has been checked")
        bundles = self._draft.seal(self.snapshot)
        return bundles, bundle.archive(bundles)

    def cancel(self) -> None:
        self._draft = None
        self._stack.close()


def _computed(lesson: Computation, config: Config) -> View:
    with torch.random.fork_rng(devices=[]):
        return lesson.compute(config)
