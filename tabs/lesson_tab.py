"""A lesson's tab: its text, controls and buttons, the live chart, and what there is to take away."""

import asyncio
import inspect
import logging
import tempfile
import textwrap
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gradio as gr

from charts import figure
from export.bundle import NonFiniteError
from nets.lesson import Config, Lesson, SettingError
from nets.training import Trainer
from runs import visitors
from runs.run import Frame, Run, State
from tabs import controls, downloads, live

_log = logging.getLogger(__name__)

ACTIVE = (State.RUNNING, State.PAUSED)
CHANGED = "· Settings have changed since: press Train for a new run."

Updates = list[Any]


@dataclass(frozen=True)
class Buttons:
    """The buttons that drive a run."""

    train: gr.Button
    pause: gr.Button
    step: gr.Button
    stop: gr.Button
    reset: gr.Button

    def all(self) -> list[gr.Button]:
        return [self.train, self.pause, self.step, self.stop, self.reset]


class LessonTab:
    """Builds the tab in the Blocks it is made in, and handles its events.

    Every handler asks `visitors` for the run of its own visitor; nothing about a run is kept here.
    """

    def __init__(self, lesson: Lesson, first: Frame) -> None:
        self.lesson = lesson
        gr.Markdown(lesson.summary, elem_classes="lesson-summary")
        with gr.Row(elem_classes="lesson"):
            with gr.Column(scale=2, min_width=280, elem_classes="lesson-settings"):
                self.controls = [
                    controls.component(name, control) for name, control in lesson.config.controls().items()
                ]
            with gr.Column(scale=5, min_width=320, elem_classes="lesson-run"):
                with gr.Row(elem_classes="lesson-buttons"):
                    self.buttons = Buttons(
                        train=gr.Button("Train", variant="primary", min_width=60),
                        pause=gr.Button("Pause", interactive=False, min_width=60),
                        step=gr.Button("Step", min_width=60),
                        stop=gr.Button("Stop", interactive=False, min_width=60),
                        reset=gr.Button("Reset", min_width=60),
                    )
                self.chart = live.component(lesson, first)
                with gr.Row(elem_classes="lesson-pace"):
                    self.speed = gr.Radio(
                        controls.SPEEDS,
                        value=controls.DEFAULT_SPEED,
                        label="Speed, in steps a frame",
                        info="There are 25 frames a second; at full speed, each takes as many steps as it can",
                        scale=5,
                    )
                    self.save = gr.Button("Save figure", min_width=120, scale=1, elem_classes="save-figure")
                self.figures = gr.File(label="Figure", file_count="multiple", interactive=False, visible=False)
        self.downloads = downloads.Downloads(lesson)
        gr.Markdown(lesson.text, elem_classes="lesson-text")
        with gr.Accordion("The code that runs here", open=False):
            gr.Markdown(_code(lesson), elem_classes="lesson-code")
        self._listen()

    def _listen(self) -> None:
        # preprocess=False: values arrive as they were sent, and Config alone judges them, in its own words.
        common: dict[str, Any] = {"show_progress": "hidden", "api_visibility": "private"}
        checked = {**common, "preprocess": False}
        files = [self.figures, *self.downloads.components]
        outputs = [self.chart, *self.buttons.all(), *self.controls, *files]
        settings = [self.speed, *self.controls]

        # Frames go out through one output alone, and as strings: Gradio spends a millisecond on every update of a
        # component, even one that changes nothing, and a tab has seventeen.
        trained = (
            self.buttons.train.click(self.train, settings, outputs, **checked)
            .then(self.stream, None, self.chart, **common)
            .then(self.rest, None, outputs, **common)
        )
        stepped = self.buttons.step.click(self.step, settings, outputs, **checked)
        stopped = self.buttons.stop.click(self.stop, None, outputs, **common)
        for event in (trained, stepped, stopped):
            event.then(self.take_away, None, self.downloads.components, **common)
        self.buttons.pause.click(self.pause, None, None, **common)
        self.buttons.reset.click(self.reset, settings, outputs, **checked)
        self.speed.change(self.change_speed, self.speed, None, **checked)
        for control in self.controls:
            control.change(self.preview, settings, self.chart, trigger_mode="always_last", **checked)
        self.save.click(self.save_figure, settings, self.figures, **checked)

    async def train(self, request: gr.Request, speed: object, *values: object) -> Updates:
        """Start a run, or go on with one that is paused; `stream` shows it."""
        try:
            pace = controls.speed_of(speed)
            run, new = await self._run_to_go_on(request, values)
        except SettingError as error:
            return self._shown(live.problem(controls.told(error, self.lesson)))
        if not run.start():
            return self._shown(gr.skip())
        run.speed = pace
        return self._shown(live.start(run.beginning) if new else gr.skip(), State.RUNNING, clear=new)

    async def stream(self, request: gr.Request) -> AsyncIterator[Any]:
        """The frames of the run that is on, until it rests."""
        run = self._current(request)
        shown = False
        if run is not None and run.state is State.RUNNING:
            encoder = live.Encoder(run.beginning)
            async for frame in run.frames():
                shown = True
                yield encoder.frame(frame)
        if not shown:
            yield gr.skip()  # a generator that ends without a yield would blank its outputs

    async def rest(self, request: gr.Request) -> Updates:
        """The buttons and controls that go with the state that the run has come to."""
        run = self._current(request)
        return self._shown(gr.skip(), None if run is None else run.state)

    async def step(self, request: gr.Request, speed: object, *values: object) -> Updates:
        """Take one step, of a new run if there is none to go on with."""
        try:
            run, new = await self._run_to_go_on(request, values)
        except SettingError as error:
            return self._shown(live.problem(controls.told(error, self.lesson)))
        if run.state is State.RUNNING:
            return self._shown(gr.skip())
        frame = await run.step()
        if run is not self._current(request) or frame.state is State.RUNNING:
            return self._shown(gr.skip())  # another click has overtaken this one, and shows what came of it
        chart = live.start(run.beginning) if new else {}
        return self._shown(
            {**chart, **gr.update(value=live.Encoder(run.beginning).frame(frame))}, frame.state, clear=new
        )

    async def pause(self, request: gr.Request) -> None:
        """Hold the run; whoever shows its frames sees it and shows the last."""
        run = self._current(request)
        if run is not None:
            run.pause()

    async def stop(self, request: gr.Request) -> Updates:
        """End the run with what it has learned."""
        run = self._current(request)
        if run is None:
            return self._shown(gr.skip())
        frame = await run.stop()
        if run is not self._current(request):
            return self._shown(gr.skip())
        return self._shown(live.Encoder(run.beginning).frame(frame), frame.state)

    async def reset(self, request: gr.Request, speed: object, *values: object) -> Updates:
        """Forget the run, and show the untrained net of the settings as they stand; bad settings keep the run."""
        async with visitors.turn(_session(request), self.lesson.key):
            try:
                untrained = await Run.create(self.lesson, self._config(values))
            except SettingError as error:
                return self._shown(live.problem(controls.told(error, self.lesson)))
            visitors.discard(_session(request), self.lesson.key)
            return self._shown(live.start(untrained.frame), State.IDLE, clear=True)

    async def preview(self, request: gr.Request, speed: object, *values: object) -> Any:
        """Show the untrained net of other settings; beside a run that is over, only say that they are others."""
        run = self._current(request)
        if run is None:
            untrained = await self._untrained(values)
            if self._current(request) is None:  # and none has begun meanwhile
                return untrained
            return gr.skip()
        if run.state in ACTIVE:
            return gr.skip()
        try:
            changed = self._config(values) != run.config
        except SettingError as error:
            return live.problem(controls.told(error, self.lesson))
        return live.Encoder(run.beginning).frame(run.frame, note=CHANGED if changed else "")

    async def change_speed(self, request: gr.Request, speed: object) -> None:
        """Set the pace of the run that is on."""
        run = self._current(request)
        if run is not None:
            try:
                run.speed = controls.speed_of(speed)
            except SettingError as error:
                raise gr.Error(controls.told(error, self.lesson), print_exception=False) from error

    async def take_away(self, request: gr.Request) -> AsyncIterator[Updates]:
        """Once a run is done: write its files, read them back, compare, and offer them."""
        run = self._current(request)
        if run is None or not run.claim_export():
            yield self.downloads.skipped()
            return
        yield self.downloads.busy()
        with tempfile.TemporaryDirectory(prefix="live-nets-") as folder:
            try:
                bundles = await run.export(Path(folder))
                shown = self.downloads.offered(bundles, Path(folder))
            except NonFiniteError as error:
                shown = self.downloads.refused(str(error))
            except Exception:  # noqa: BLE001  # a full disk, an export that torch refuses: told, logged, and no hang
                _log.exception("export of %s failed", self.lesson.key)
                shown = self.downloads.refused("The files could not be written, so none is offered. Train again.")
            # Gradio copies the files before it goes on. The files of a run that was reset meanwhile are not shown.
            yield shown if run is self._current(request) else self.downloads.skipped()

    async def save_figure(self, request: gr.Request, speed: object, *values: object) -> AsyncIterator[Any]:
        """The chart on show as files."""
        shown = self._current(request)
        try:
            run = shown or await Run.create(self.lesson, self._config(values))
        except SettingError as error:
            raise gr.Error(controls.told(error, self.lesson), print_exception=False) from error
        chart = run.frame.snapshot.chart
        with tempfile.TemporaryDirectory(prefix="live-nets-") as folder:
            files = [Path(folder) / f"{self.lesson.key}.{kind}" for kind in figure.FORMATS]
            for file, kind in zip(files, figure.FORMATS, strict=True):
                file.write_bytes(await asyncio.to_thread(figure.save, chart, kind))
            if shown is self._current(request):
                yield gr.update(value=[str(file) for file in files], visible=True)
            else:  # the page shows something else by now
                yield gr.skip()

    def _current(self, request: gr.Request) -> Run | None:
        return visitors.current(_session(request), self.lesson.key)

    async def _run_to_go_on(self, request: gr.Request, values: tuple[object, ...]) -> tuple[Run, bool]:
        """The visitor's run if it is not over, or else a new one, and whether it is new. Raises SettingError."""
        async with visitors.turn(_session(request), self.lesson.key):
            run = self._current(request)
            if run is not None and run.state in (State.IDLE, *ACTIVE):
                return run, False
            run = await Run.create(self.lesson, self._config(values))
            visitors.put(_session(request), run)
            return run, True

    async def _untrained(self, values: tuple[object, ...]) -> Any:
        try:
            return live.start((await Run.create(self.lesson, self._config(values))).frame)
        except SettingError as error:
            return live.problem(controls.told(error, self.lesson))

    def _config(self, values: tuple[object, ...]) -> Config:
        return self.lesson.config.parse(dict(zip(self.lesson.config.controls(), values, strict=True)))

    def _shown(self, chart: Any, state: State | None = None, *, clear: bool = False) -> Updates:
        """Updates of all that a run changes: the chart, and with a state the buttons and controls too."""
        buttons = [gr.skip()] * 5 if state is None else _buttons(state)
        free = gr.skip() if state is None else gr.update(interactive=state not in ACTIVE)
        files = gr.update(visible=False) if clear else gr.skip()
        files_of_all = [files] * (1 + len(self.downloads.components))
        return [chart, *buttons, *([free] * len(self.controls)), *files_of_all]


def _buttons(state: State) -> Updates:
    running, paused = state is State.RUNNING, state is State.PAUSED
    return [
        gr.update(interactive=not running, value="Continue" if paused else "Train"),
        gr.update(interactive=running),
        gr.update(interactive=not running),
        gr.update(interactive=running or paused),
        gr.update(interactive=True),
    ]


def _code(lesson: Lesson) -> str:
    """The lesson's net and trainer, and the step that all trainers share, as they run."""
    net = type(lesson.trainer(lesson.config()).learners[0].net)
    sources = (net, lesson.trainer, Trainer.step)
    return "\n\n".join(f"```python\n{textwrap.dedent(inspect.getsource(source))}```" for source in sources)


def _session(request: gr.Request) -> str:
    """The visitor's page, by the name that Gradio gave it. Raises gr.Error for a caller that has none."""
    if not request.session_hash:
        raise gr.Error("This belongs to an open page; use /train instead.", print_exception=False)
    return str(request.session_hash)
