"""The tab of a lesson that trains: buttons, live chart and downloads."""

import asyncio
import inspect
import logging
from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from contextlib import aclosing, suppress
from dataclasses import dataclass
from typing import Any

import gradio as gr

from charts.text import Language, Text, Words
from export.cases import ExportError, NonFiniteError
from lab.experiment import supervised_step
from lab.lesson import Training
from lab.recipe import Recipe
from lab.settings import Config, SettingError
from runs import pace, registry, turns
from runs.admission import COMPUTING, DRAWING, FullError, Place
from runs.pool import LostError
from runs.run import Frame, Run, State, draw, preview
from server import gradio_adapter, temporary_files
from server.event_limits import address_of, limited, session_of
from tabs import controls, downloads, live
from tabs.language import SEND_LANGUAGE, label, language_of
from tabs.lesson_tab import CHECKED, EVENT, REFUSED, GoneError, LessonTab, Updates

_log = logging.getLogger(__name__)

ACTIVE = (State.RUNNING, State.PAUSED)
CHANGED = Text("· Settings have changed since: press Train for a new run.", "· 设置已改动：按“训练”开始新一轮训练。")
BUSY_PACE = Text(
    "· The server is busy: fewer frames a second, the same number of steps.",
    "· 服务器繁忙：每秒帧数减少，总步数不变。",
)
SLOWED = Text(
    "· Training from your address has used its {limit} seconds of processor time a minute: it continues more slowly.",
    "· 来自你这个地址的训练已用完每分钟 {limit} 秒的处理器时间：训练会继续，但会变慢。",
)
LINE_POLL_SECONDS = 1  # interval at which a run in the line checks whether it was paused

NOT_WRITTEN = Text(
    "The files could not be written. Please train again.", "文件没有写成，因此不提供下载。请再训练一次。"
)

# Registered as translated labels at import: the application needs all of them when it is created.
TRAIN, CONTINUE = label(Text("Train", "训练")), label(Text("Continue", "继续"))
PAUSE, STEP = label(Text("Pause", "暂停")), label(Text("Step", "单步"))
STOP, RESET = label(Text("Stop", "停止")), label(Text("Reset", "重置"))


@dataclass(frozen=True)
class Buttons:
    """The buttons that control a run."""

    train: gr.Button
    pause: gr.Button
    step: gr.Button
    stop: gr.Button
    reset: gr.Button

    def all(self) -> list[gr.Button]:
        return [self.train, self.pause, self.step, self.stop, self.reset]


class TrainingTab(LessonTab):
    """Handlers look up their visitor's run in `registry`; the tab itself keeps no run."""

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
        return [*super()._sources(), inspect.getsource(supervised_step)]

    def _listen(self) -> None:
        files = [self.figures, *self.downloads.components]
        outputs = [self.chart, *self.buttons.all(), *self.controls, *files]
        settings = self._inputs()

        # Frames have a single output, and are strings: Gradio takes a millisecond for each updated component, even an
        # unchanged one, and a tab has twenty.
        trained = self._follow(
            self.buttons.train.click(limited(self.train, COMPUTING), settings, outputs, **CHECKED), outputs
        )
        tried = self._follow(
            self.ideas.click(limited(self.try_idea, COMPUTING), self.speed, outputs, **CHECKED), outputs
        )
        stepped = self.buttons.step.click(limited(self.step, COMPUTING), settings, outputs, **CHECKED)
        stopped = self.buttons.stop.click(limited(self.stop), None, outputs, **EVENT)
        for event in (trained, tried, stepped, stopped):
            event.then(
                limited(self.take_away),
                self.language,
                [self.chart, *self.downloads.components],
                js=SEND_LANGUAGE,
                **EVENT,
            )
        self.buttons.pause.click(limited(self.pause), None, None, **EVENT)
        self.buttons.reset.click(limited(self.reset, COMPUTING), settings, outputs, **CHECKED)
        self.ideas.submit(limited(self.open_with, COMPUTING), None, outputs, **EVENT)
        self.speed.change(limited(self.change_speed), self.speed, self.chart, **CHECKED)
        changes = [control.change for control in self.controls]
        gr.on(changes, limited(self.changed, COMPUTING), settings, self.chart, trigger_mode="always_last", **CHECKED)

    def _follow(self, event: Any, outputs: list[Any]) -> Any:
        """After an event that may have started a run: stream its frames, then update the buttons."""
        return event.then(limited(self.stream), None, self.chart, **EVENT).then(
            limited(self.rest), None, outputs, **EVENT
        )

    async def train(self, request: gr.Request, speed: object, *values: object) -> Updates:
        """Start a new run or continue a paused one; `stream` shows it."""
        try:
            chosen = controls.speed_of(speed)
            run, new = await self._current_or_new_run(request, values)
        except REFUSED as error:
            return self._updates(self._problem(error))
        if not run.start():
            return self._updates(gr.skip())
        run.speed = chosen
        return self._updates(live.start(self.lesson, run.chart_setup) if new else gr.skip(), State.RUNNING, clear=new)

    async def stream(self, request: gr.Request) -> AsyncIterator[Any]:
        """Stream the frames of the running run until it pauses or ends."""
        run = self._current(request)
        update: Any = gr.skip()  # a generator that ends without a yield would blank its outputs
        if run is not None and run.state is State.RUNNING:
            try:
                # Closed when the client disconnects, which pauses the run.
                async with aclosing(self._frames(run, address_of(request))) as frames:
                    async for update in frames:
                        yield update
            except FullError as error:
                run.pause()
                update = self._problem(error)
                yield update
        if update == gr.skip():
            yield update

    async def _in_line(self, run: Run, place: Place) -> AsyncIterator[Any]:
        """Stream the run's position in the line until it may train, or is paused or ended."""
        while place.rank and run.state is State.RUNNING:
            yield gr.update(value=live.waiting(run.frame, place.rank))
            place.moved.clear()
            with suppress(TimeoutError):
                async with asyncio.timeout(LINE_POLL_SECONDS):
                    await place.moved.wait()
        if run.state is State.PAUSED:
            yield gr.update(value=live.frame(self.lesson, run.frame))

    async def _frames(self, run: Run, address: str) -> AsyncGenerator[Any, None]:
        run.watchers += 1
        try:
            with Place(address) as place:
                async for update in self._in_line(run, place):
                    yield update
                shown_run = run.chart_setup.frame.run
                async with aclosing(run.frames()) as frames:
                    async for frame in frames:
                        if frame.run != shown_run:  # the view was changed
                            shown_run = frame.run
                            yield live.start(self.lesson, run.chart_setup)
                        yield gr.update(value=live.frame(self.lesson, frame, note(frame, address)))
        finally:
            run.watchers -= 1
            if not run.watchers:
                run.pause()  # the client may have disconnected while it was in the line

    async def rest(self, request: gr.Request) -> Updates:
        """Update buttons and controls to the state of the run."""
        run = self._current(request)
        return self._updates(gr.skip(), None if run is None else run.state)

    async def step(self, request: gr.Request, speed: object, *values: object) -> Updates:
        """Take one step, of a new run if none can be continued."""
        try:
            run, new = await self._current_or_new_run(request, values)
        except REFUSED as error:
            return self._updates(self._problem(error))
        if run.state is State.RUNNING:
            return self._updates(gr.skip())
        frame = await run.step()
        if run is not self._current(request) or frame.state is State.RUNNING:
            return self._updates(gr.skip())  # a later click has changed the run and shows it
        chart = live.start(self.lesson, run.chart_setup) if new else {}
        return self._updates({**chart, **gr.update(value=live.frame(self.lesson, frame))}, frame.state, clear=new)

    async def pause(self, request: gr.Request) -> None:
        """Pause the run; `stream` sends its last frame."""
        run = self._current(request)
        if run is not None:
            run.pause()

    async def stop(self, request: gr.Request) -> Updates:
        """End the run at its current step."""
        run = self._current(request)
        if run is None:
            return self._updates(gr.skip())
        frame = await run.stop()
        if run is not self._current(request):
            return self._updates(gr.skip())
        return self._updates(live.frame(self.lesson, frame), frame.state)

    async def reset(self, request: gr.Request, speed: object, *values: object) -> Updates:
        """Discard the run and show the untrained net of the current settings; invalid settings keep the run."""
        try:
            return await self._restart(request, self._config(values))
        except REFUSED as error:
            return self._updates(self._problem(error))

    async def open_with(self, request: gr.Request, event: gr.EventData) -> Updates:
        """Discard the run and show the untrained net of the settings in the page's URL, and these settings."""
        try:
            config = self.lesson.config.read(gradio_adapter.sent_with(event, "settings"))
            return await self._restart(request, config, self._values(config))
        except REFUSED as error:
            return self._updates(self._problem(error))

    async def _restart(self, request: gr.Request, config: Config, values: Updates | None = None) -> Updates:
        async with registry.lock(session_of(request), self.lesson.key):
            untrained = await preview(self.lesson, config)
            registry.discard(session_of(request), self.lesson.key)
            return self._updates(live.start(self.lesson, untrained), State.IDLE, clear=True, values=values)

    async def changed(self, request: gr.Request, speed: object, *values: object) -> dict[str, Any]:
        """`preview`, with the server's verdicts on typed numbers."""
        return self._with_verdicts(await self.preview(request, speed, *values), values)

    async def preview(self, request: gr.Request, speed: object, *values: object) -> Any:
        """Show the untrained net of the new settings; if a run is shown, only say that settings have changed."""
        run = self._current(request)
        if run is None:
            untrained = await self._untrained(values)
            if self._current(request) is None:  # no run was started meanwhile
                return untrained
            return gr.skip()
        try:
            config = self._config(values)
        except SettingError as error:
            return gr.skip() if run.state in ACTIVE else self._problem(error)
        if config.same_run(run.config):
            if config != run.config and run.is_kept:
                setup = await run.change_view(config)
                if run.is_kept:
                    return live.start(self.lesson, setup)
        elif run.state in ACTIVE:
            return gr.skip()
        note = "" if config.same_run(run.config) else CHANGED
        return live.frame(self.lesson, run.frame, note=note)

    async def change_speed(self, request: gr.Request, speed: object) -> Any:
        """Set the speed of the current run."""
        run = self._current(request)
        try:
            chosen = controls.speed_of(speed)
        except SettingError as error:
            return self._problem(error)
        if run is not None:
            run.speed = chosen
        return gr.skip()

    async def take_away(self, request: gr.Request, language: object) -> AsyncIterator[Updates]:
        """When the run is done: write its files in the page's language, load and compare them, and offer them."""
        try:
            page_language = language_of(language)
        except SettingError as error:
            yield [self._problem(error), *self.downloads.skipped()]
            return
        run = self._current(request)
        if run is None or not run.claim_export():
            yield [gr.skip(), *self.downloads.skipped()]
            return
        yield [gr.skip(), *self.downloads.busy()]
        try:
            async with DRAWING.of(address_of(request)):
                with temporary_files.new_folder() as (folder, work):
                    bundles, archive = await run.export(work, page_language)
                    updates = await asyncio.to_thread(self.downloads.offered, bundles, archive, folder)
        except (NonFiniteError, ExportError) as error:
            updates = self.downloads.refused(error.told)
        except Exception:  # noqa: BLE001  # a full disk, a dead worker, a failed export: show a message instead of waiting forever
            if run is self._current(request):
                _log.exception("export failed lesson=%s", self.lesson.key)
            updates = self.downloads.refused(NOT_WRITTEN)
        # Files of a run that was discarded meanwhile are not offered.
        if run is self._current(request):
            yield [gr.update(value=live.frame(self.lesson, run.frame)), *updates]
        else:
            yield [gr.skip(), *self.downloads.skipped()]

    async def _draw(self, request: gr.Request, values: tuple[object, ...], language: Language) -> Mapping[str, bytes]:
        run = self._current(request)
        if run is None:
            return await draw(self.lesson, self._config(values), language)
        if not run.is_kept:
            raise GoneError(run.frame.message)
        try:
            return await run.draw(language)
        except LostError as error:
            raise GoneError(run.frame.message) from error

    async def try_idea(self, request: gr.Request, event: gr.EventData, speed: object) -> Updates:
        """Start a run with an idea's settings, and show these settings."""
        try:
            chosen = controls.speed_of(speed)
            config, values = self._idea_settings(event)
            async with registry.lock(session_of(request), self.lesson.key):
                run = await Run.create(Recipe(self.lesson.key, config))
                registry.put(session_of(request), run, address_of(request))
        except REFUSED as error:
            return self._updates(self._problem(error))
        run.start()
        run.speed = chosen
        return self._updates(live.start(self.lesson, run.chart_setup), State.RUNNING, clear=True, values=values)

    def _current(self, request: gr.Request) -> Run | None:
        return registry.current(session_of(request), self.lesson.key)

    async def _current_or_new_run(self, request: gr.Request, values: tuple[object, ...]) -> tuple[Run, bool]:
        """The visitor's unfinished run or a new one, and whether it is new. Raises the errors in REFUSED."""
        async with registry.lock(session_of(request), self.lesson.key):
            run = self._current(request)
            if run is not None and run.state in (State.IDLE, *ACTIVE):
                return run, False
            run = await Run.create(Recipe(self.lesson.key, self._config(values)))
            registry.put(session_of(request), run, address_of(request))
            return run, True

    async def _untrained(self, values: tuple[object, ...]) -> Any:
        try:
            return live.start(self.lesson, await preview(self.lesson, self._config(values)))
        except REFUSED as error:
            return self._problem(error)

    def _updates(
        self, chart: Any, state: State | None = None, *, clear: bool = False, values: Updates | None = None
    ) -> Updates:
        """Updates of the chart and, if a state is given, of buttons and controls."""
        buttons = [gr.skip()] * 5 if state is None else _buttons(state)
        settings = [gr.skip()] * len(self.controls) if state is None else self._settings(state, values)
        files = gr.update(visible=False) if clear else gr.skip()
        file_updates = [files] * (1 + len(self.downloads.components))
        if isinstance(chart, str):
            chart = gr.update(value=chart)
        return [chart, *buttons, *settings, *file_updates]

    def _settings(self, state: State, values: Updates | None) -> Updates:
        """Updates of the controls: during a run, only views can be changed."""
        updates = []
        for number, control in enumerate(self.lesson.config.controls().values()):
            update = controls.enabled(self.controls[number], control.view or state not in ACTIVE)
            if values is not None:
                update["value"] = values[number]
            updates.append(gr.update(**update))
        return updates


def note(frame: Frame, address: str) -> Words:
    """Note for the status line if frames are less frequent or training is slower, or an empty text."""
    if frame.state is not State.RUNNING:
        return ""
    if turns.training.is_spent(address):
        return SLOWED.format(limit=f"{turns.training.rate:g}")
    return BUSY_PACE if pace.is_busy(address) else ""


def _buttons(state: State) -> Updates:
    running, paused = state is State.RUNNING, state is State.PAUSED
    return [
        gr.update(interactive=not running, value=CONTINUE if paused else TRAIN),
        gr.update(interactive=running),
        gr.update(interactive=not running),
        gr.update(interactive=running or paused),
        gr.update(interactive=True),
    ]
