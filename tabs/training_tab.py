"""The tab of a lesson that trains: the buttons that drive a run, its live chart, and what there is to take away."""

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

from charts.chart import Chart
from charts.text import Text
from export.bundle import NonFiniteError
from export.graph import ExportError
from nets.lesson import Training
from nets.settings import Config, SettingError
from nets.training import Trainer
from runs import visitors
from runs.run import Run, State
from tabs import controls, downloads, live
from tabs.language import label
from tabs.lesson_tab import CHECKED, EVENT, LessonTab, Updates, sent

_log = logging.getLogger(__name__)

ACTIVE = (State.RUNNING, State.PAUSED)
CHANGED = Text("· Settings have changed since: press Train for a new run.", "· 设置已改动：按“训练”开始新一轮训练。")
NOT_WRITTEN = Text(
    "The files could not be written, so none is offered. Train again.", "文件没有写成，因此不提供下载。请再训练一次。"
)

# As labels already: Gradio is given all of them at launch.
TRAIN, CONTINUE = label(Text("Train", "训练")), label(Text("Continue", "继续"))
PAUSE, STEP = label(Text("Pause", "暂停")), label(Text("Step", "单步"))
STOP, RESET = label(Text("Stop", "停止")), label(Text("Reset", "重置"))


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


class TrainingTab(LessonTab):
    """Every handler asks `visitors` for the run of its own visitor; nothing about a run is kept here."""

    lesson: Training

    def __init__(self, lesson: Training, language: gr.Textbox) -> None:
        super().__init__(lesson, language)
        self._listen()

    def _build_run(self) -> None:
        with gr.Row(elem_classes="lesson-buttons"):
            self.buttons = Buttons(
                train=gr.Button(TRAIN, variant="primary", min_width=60),
                pause=gr.Button(PAUSE, interactive=False, min_width=60),
                step=gr.Button(STEP, min_width=60),
                stop=gr.Button(STOP, interactive=False, min_width=60),
                reset=gr.Button(RESET, min_width=60),
            )
        self.speed = controls.speed(self.lesson.pace)
        self._build_chart(self.speed)
        self.downloads = downloads.Downloads(self.lesson)

    def _inputs(self) -> list[Any]:
        return [self.speed, *self.controls]

    def _sources(self) -> list[str]:
        return [*super()._sources(), textwrap.dedent(inspect.getsource(Trainer.step))]

    def _listen(self) -> None:
        files = [self.figures, *self.downloads.components]
        outputs = [self.chart, *self.buttons.all(), *self.controls, *files]
        settings = self._inputs()

        # Frames go out through one output alone, and as strings: Gradio spends a millisecond on every update of a
        # component, even one that changes nothing, and a tab has twenty.
        trained = self._follow(self.buttons.train.click(self.train, settings, outputs, **CHECKED), outputs)
        tried = self._follow(self.ideas.click(self.try_idea, self.speed, outputs, **CHECKED), outputs)
        stepped = self.buttons.step.click(self.step, settings, outputs, **CHECKED)
        stopped = self.buttons.stop.click(self.stop, None, outputs, **EVENT)
        for event in (trained, tried, stepped, stopped):
            event.then(self.take_away, None, [self.chart, *self.downloads.components], **EVENT)
        self.buttons.pause.click(self.pause, None, None, **EVENT)
        self.buttons.reset.click(self.reset, settings, outputs, **CHECKED)
        self.ideas.submit(self.open_with, None, outputs, **EVENT)
        self.speed.change(self.change_speed, self.speed, self.chart, **CHECKED)
        changes = [control.change for control in self.controls]
        gr.on(changes, self.preview, settings, self.chart, trigger_mode="always_last", **CHECKED)

    def _follow(self, event: Any, outputs: list[Any]) -> Any:
        """After an event that may have started a run: show its frames, and then how it rests."""
        return event.then(self.stream, None, self.chart, **EVENT).then(self.rest, None, outputs, **EVENT)

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
        return self._shown(live.start(self.lesson, run.beginning) if new else gr.skip(), State.RUNNING, clear=new)

    async def stream(self, request: gr.Request) -> AsyncIterator[Any]:
        """The frames of the run that is on, until it rests."""
        run = self._current(request)
        shown = False
        if run is not None and run.state is State.RUNNING:
            encoder = live.Encoder(self.lesson, run.beginning)
            async for frame in run.frames():
                shown = True
                if frame.run != encoder.run:  # it is looked at in another way since
                    encoder = live.Encoder(self.lesson, run.beginning)
                    yield live.start(self.lesson, run.beginning)
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
        chart = live.start(self.lesson, run.beginning) if new else {}
        return self._shown(
            {**chart, **gr.update(value=live.Encoder(self.lesson, run.beginning).frame(frame))}, frame.state, clear=new
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
        return self._shown(live.Encoder(self.lesson, run.beginning).frame(frame), frame.state)

    async def reset(self, request: gr.Request, speed: object, *values: object) -> Updates:
        """Forget the run, and show the untrained net of the settings as they stand; bad settings keep the run."""
        try:
            return await self._begin_anew(request, self._config(values))
        except SettingError as error:
            return self._shown(live.problem(controls.told(error, self.lesson)))

    async def open_with(self, request: gr.Request, event: gr.EventData) -> Updates:
        """Forget the run, and show the untrained net of the settings that the page's address asks for, and these."""
        try:
            config = self.lesson.config.parse(sent(event, "settings"))
        except SettingError as error:
            return self._shown(live.problem(controls.told(error, self.lesson)))
        return await self._begin_anew(request, config, self._values(config))

    async def _begin_anew(self, request: gr.Request, config: Config, values: Updates | None = None) -> Updates:
        async with visitors.turn(_session(request), self.lesson.key):
            untrained = await Run.create(self.lesson, config)
            visitors.discard(_session(request), self.lesson.key)
            return self._shown(live.start(self.lesson, untrained.frame), State.IDLE, clear=True, values=values)

    async def preview(self, request: gr.Request, speed: object, *values: object) -> Any:
        """Show the untrained net of other settings; beside a run that is over, only say that they are others."""
        run = self._current(request)
        if run is None:
            untrained = await self._untrained(values)
            if self._current(request) is None:  # and none has begun meanwhile
                return untrained
            return gr.skip()
        try:
            config = self._config(values)
        except SettingError as error:
            return gr.skip() if run.state in ACTIVE else live.problem(controls.told(error, self.lesson))
        if config.same_run(run.config):
            if config != run.config:
                return live.start(self.lesson, await run.show_as(config))
        elif run.state in ACTIVE:
            return gr.skip()
        note = "" if config.same_run(run.config) else CHANGED
        return live.Encoder(self.lesson, run.beginning).frame(run.frame, note=note)

    async def change_speed(self, request: gr.Request, speed: object) -> Any:
        """Set the pace of the run that is on."""
        run = self._current(request)
        try:
            pace = controls.speed_of(speed)
        except SettingError as error:
            return live.problem(controls.told(error, self.lesson))
        if run is not None:
            run.speed = pace
        return gr.skip()

    async def take_away(self, request: gr.Request) -> AsyncIterator[Updates]:
        """Once a run is done: write its files, read them back, compare, and offer them."""
        run = self._current(request)
        if run is None or not run.claim_export():
            yield [gr.skip(), *self.downloads.skipped()]
            return
        yield [gr.skip(), *self.downloads.busy()]
        with tempfile.TemporaryDirectory(prefix="live-nets-") as folder:
            try:
                bundles = await run.export(Path(folder))
                shown = await asyncio.to_thread(self.downloads.offered, bundles, Path(folder))
            except (NonFiniteError, ExportError) as error:
                shown = self.downloads.refused(error.told)
            except Exception:  # noqa: BLE001  # a full disk, an export that torch refuses: told, logged, and no hang
                _log.exception("export of %s failed", self.lesson.key)
                shown = self.downloads.refused(NOT_WRITTEN)
            # Gradio copies the files before it goes on. The files of a run that was reset meanwhile are not shown.
            if run is self._current(request):
                yield [live.Encoder(self.lesson, run.beginning).frame(run.frame), *shown]
            else:
                yield [gr.skip(), *self.downloads.skipped()]

    async def _chart_on_show(self, request: gr.Request, values: tuple[object, ...]) -> Chart:
        run = self._current(request) or await Run.create(self.lesson, self._config(values))
        return run.frame.snapshot.chart

    async def try_idea(self, request: gr.Request, event: gr.EventData, speed: object) -> Updates:
        """Start a run with the settings of an idea, and show them."""
        try:
            pace = controls.speed_of(speed)
            config, values = self._tried(event)
        except SettingError as error:
            return self._shown(live.problem(controls.told(error, self.lesson)))
        async with visitors.turn(_session(request), self.lesson.key):
            run = await Run.create(self.lesson, config)
            visitors.put(_session(request), run)
        run.start()
        run.speed = pace
        return self._shown(live.start(self.lesson, run.beginning), State.RUNNING, clear=True, values=values)

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
            return live.start(self.lesson, (await Run.create(self.lesson, self._config(values))).frame)
        except SettingError as error:
            return live.problem(controls.told(error, self.lesson))

    def _shown(
        self, chart: Any, state: State | None = None, *, clear: bool = False, values: Updates | None = None
    ) -> Updates:
        """Updates of all that a run changes: the chart, and with a state the buttons and controls too."""
        buttons = [gr.skip()] * 5 if state is None else _buttons(state)
        settings = [gr.skip()] * len(self.controls) if state is None else self._settings(state, values)
        files = gr.update(visible=False) if clear else gr.skip()
        files_of_all = [files] * (1 + len(self.downloads.components))
        return [chart, *buttons, *settings, *files_of_all]

    def _settings(self, state: State, values: Updates | None) -> Updates:
        """Updates of the controls: while a run is on, only views can be changed."""
        made = []
        for number, control in enumerate(self.lesson.config.controls().values()):
            update: dict[str, Any] = {"interactive": control.view or state not in ACTIVE}
            if values is not None:
                update["value"] = values[number]
            made.append(gr.update(**update))
        return made


def _buttons(state: State) -> Updates:
    running, paused = state is State.RUNNING, state is State.PAUSED
    return [
        gr.update(interactive=not running, value=CONTINUE if paused else TRAIN),
        gr.update(interactive=running),
        gr.update(interactive=not running),
        gr.update(interactive=running or paused),
        gr.update(interactive=True),
    ]


def _session(request: gr.Request) -> str:
    """The visitor's page, by the name that Gradio gave it. Raises gr.Error for a caller that has none."""
    if not request.session_hash:
        raise gr.Error("This belongs to an open page; use /train instead.", print_exception=False)
    return str(request.session_hash)
