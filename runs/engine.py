"""Where nets train: the trainers of many runs in one process, and what can be asked of them.

One call at a time, but for those of ASIDE: torch draws random numbers from one generator for the whole process, and a
run's turn at it must not overlap another's. All that goes in and out is plain data, so that a pipe can lie between.
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
from lab.recipe import Recipe
from lab.settings import Config
from lab.training import Trainer
from nets import LESSONS, TRAININGS, read_recipe

# These take long, leave torch's random numbers alone, and run beside the rest. An export of a new architecture waits
# for a process of its own, which no picture need wait for.
ASIDE = {"prepare": "export", "seal": "draw", "draw": "draw"}  # the method, and the thread that it runs on

Settings = Mapping[str, Any]


@dataclass(frozen=True)
class Look:
    """A look at a run, ready for the page.

    `body` is the JSON of the arrays, notes and blocks that differ from the run's beginning; see `charts.browser`.
    `advice` says why the numbers are no longer finite, where they are not.
    """

    step: int
    metrics: Mapping[str, float]
    body: str
    advice: Text | None


@dataclass(frozen=True)
class Beginning:
    """What a page is given first: the chart's structure, and a look that is whole. `steps` is how many a run takes."""

    structure: str
    look: Look
    steps: int
    nets: int


@dataclass(frozen=True)
class Progress:
    """How far a run has come: the steps that were taken now, whether any is left, and a look if one was due.

    `seconds` is the processor time that the steps and the look took.
    """

    taken: int
    done: bool
    look: Look | None
    seconds: float


class Engine:
    """Runs by number. All methods raise KeyError for the number of none."""

    def __init__(self) -> None:
        self._runs: dict[int, _Run] = {}

    def ping(self) -> None:
        """Answer, which proves that calls are being answered."""

    def warm(self, key: str) -> None:
        """Have ready what the first run of a lesson waits for: most of a second, then nothing."""
        self.preview(key, {})

    def begin(self, number: int, recipe: Mapping[str, Any]) -> Beginning:
        """Make a run at step 0, under that number, of a recipe as `Recipe.to_dict` gives it. Raises SettingError."""
        run = _Run(read_recipe(recipe))
        self._runs[number] = run
        return run.begin()

    def preview(self, key: str, settings: Settings) -> Beginning:
        """The beginning of a run that is not kept, or what a lesson that trains nothing computes."""
        lesson = LESSONS[key]
        if not isinstance(lesson, Computation):
            return _Run(TRAININGS[key].recipe(settings)).begin()
        view = _computed(lesson, lesson.config.parse(settings))
        body = {"arrays": browser.arrays(view.chart), "blocks": html.blocks(view.blocks), "notes": ""}
        look = Look(0, view.metrics, json.dumps(body), None)
        return Beginning(browser.structure(view.chart), look, 0, 0)

    def forget(self, number: int) -> None:
        """Free the run, if there is one of that number."""
        self._runs.pop(number, None)

    def advance(self, number: int, most: int, seconds: float, due: float) -> Progress:
        """Take up to `most` steps for about `seconds`; then look, if these were all, or `due` seconds are over."""
        return self._runs[number].advance(most, seconds, due)

    def look(self, number: int) -> Look:
        """Look now."""
        return self._runs[number].look()

    def stop(self, number: int) -> Look:
        """End the run where it is, and look."""
        run = self._runs[number]
        run.trainer.stop()
        return run.look()

    def look_as(self, number: int, settings: Settings) -> Beginning:
        """Look from now on in another way: the settings differ from the run's own in views alone."""
        run = self._runs[number]
        run.views = run.trainer.lesson.config.parse(settings)
        return run.begin()

    def is_prepared(self, number: int) -> bool:
        """Whether `prepare` would have nothing to do."""
        return bundle.is_prepared(self._runs[number].trainer)

    def prepare(self, number: int) -> None:
        """Have at hand what an export needs. Raises ExportError."""
        bundle.prepare(self._runs[number].trainer)

    def check(self, number: int, net: int, out: str, language: Language) -> None:
        """Write the model files of a net under `out`, read them back, compare. Raises what `bundle.Draft` raises."""
        self._runs[number].check(net, Path(out), language)

    def seal(self, number: int) -> tuple[list[Bundle], bytes]:
        """The bundles of the nets that were checked, put in their place, and a zip of them all."""
        return self._runs[number].seal()

    def cancel(self, number: int) -> None:
        """Remove what `check` has left of an export that will not be sealed."""
        run = self._runs.get(number)
        if run is not None:
            run.cancel()

    def chart(self, number: int) -> Chart:
        """The chart of the last look."""
        return self._runs[number].snapshot.chart

    def chart_of(self, key: str, settings: Settings) -> Chart:
        """The chart of `preview`."""
        lesson = LESSONS[key]
        if isinstance(lesson, Computation):
            return _computed(lesson, lesson.config.parse(settings)).chart
        return _Run(TRAININGS[key].recipe(settings)).snapshot.chart

    def draw(self, chart: Chart, language: Language) -> dict[str, bytes]:
        """The chart as files, by their kind; empty if it has no panel."""
        from charts import figure  # matplotlib takes half a second to import, which a start need not wait for

        return {kind: figure.save(chart, kind, language) for kind in figure.FORMATS} if chart.panels else {}

    def verify(self, folder: str) -> Bundle:
        """The bundle in that folder, checked anew. Raises what `export.verify.verify` raises."""
        return verify(Path(folder))


class _Run:
    """One run: its trainer, its last look, and what its page was given first."""

    def __init__(self, recipe: Recipe) -> None:
        self.trainer = Trainer(TRAININGS[recipe.lesson], recipe)
        self.views: Config = recipe.settings  # of which those that are views say how it is looked at
        self._restored: Mapping[str, Mapping[str, Restored]] = {}
        self.snapshot: Snapshot = self._look()
        self._base: dict[str, str] = {}
        self._base_blocks = ""
        self._draft: Draft | None = None
        self._open = ExitStack()  # of the draft

    def _look(self) -> Snapshot:
        return self.trainer.snapshot(self.views, self._restored)

    def begin(self) -> Beginning:
        self.snapshot = self._look()
        self._base, self._base_blocks = {}, ""
        look = self._encoded()
        view = self.snapshot.view
        self._base, self._base_blocks = browser.arrays(view.chart), html.blocks(view.blocks)
        return Beginning(browser.structure(view.chart), look, self.trainer.steps, len(self.trainer.learners))

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
        look = self.look() if wanted else None
        return Progress(taken, done, look, time.thread_time() - used)

    def look(self) -> Look:
        self.snapshot = self._look()
        return self._encoded()

    def _encoded(self) -> Look:
        view = self.snapshot.view
        blocks = html.blocks(view.blocks)
        body: dict[str, Any] = {
            "arrays": browser.changed(self._base, browser.arrays(view.chart)),
            "notes": html.blocks(self.snapshot.diagnosis),
        }
        if not self._base or blocks != self._base_blocks:
            body["blocks"] = blocks
        ill = self.trainer.diverged or not all(map(math.isfinite, view.metrics.values()))
        return Look(self.snapshot.step, dict(view.metrics), json.dumps(body), self.trainer.advice if ill else None)

    def check(self, net: int, out: Path, language: Language) -> None:
        if self._draft is None:
            self._draft = self._open.enter_context(Draft(self.trainer, self.snapshot, out, language))
        self._draft.check(self.trainer.learners[net])
        self._restored = self._draft.restored

    def seal(self) -> tuple[list[Bundle], bytes]:
        if self._draft is None:
            raise ValueError("nothing has been checked")
        made = self._draft.seal(self.snapshot)
        return made, bundle.archive(made)

    def cancel(self) -> None:
        self._draft = None
        self._open.close()


def _computed(lesson: Computation, config: Config) -> View:
    with torch.random.fork_rng(devices=[]):
        return lesson.compute(config)
