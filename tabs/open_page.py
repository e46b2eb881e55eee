"""One open page: executes the commands that it sends over the live channel, and sends it frames.

A command says everything that is needed to carry it out: the recipe of the run that the page shows, the step where it
stands, and the settings of the controls. A run that this server does not have is trained again first.
"""

import asyncio
import json
import logging
import secrets
from collections import defaultdict, deque
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Mapping
from contextlib import aclosing, suppress
from dataclasses import replace
from typing import Any

from charts import html
from charts.text import Language, Text, Words, both
from export.cases import ExportError, NonFiniteError
from lab.lesson import Idea, Lesson, Training
from lab.recipe import Change, Recipe, sort_changes
from lab.settings import Config, SettingError
from nets import LESSONS
from runs import pace, registry, turns
from runs.admission import COMPUTING, FULL, FullError, Place, SpentError
from runs.pool import LostError
from runs.run import FRAME_SECONDS, TOO_LONG, ChartSetup, Frame, Run, State, TooLongError, preview
from server.live_channel import Channel
from tabs import checkpoints_tab, controls, lesson_tab, links, live, run_files
from tabs.command import LARGEST_NUMBER, Command, NothingShownError
from tabs.run_files import BUSY, NOT_WRITTEN

HIDDEN_INTERVAL = 1.0  # seconds between frames of a page that nobody looks at
LINE_POLL_SECONDS = 1  # interval at which a run in the line checks whether it was paused
MOST_DONE = 1000  # numbers of commands that are remembered
MOST_LEFT_OUT = 5  # sentences about what was left out of a link

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
INTERNAL_ERROR = Text(
    "Something went wrong on our side, and this was not done. Please try again.",
    "我们这边出了问题，没有完成。请再试一次。",
)
WRITING = Text(
    "Writing the files, reading them back and comparing them with the net …", "正在写文件、读回，并与网络比较……"
)

REFUSED = (SettingError, LostError, FullError, SpentError, TooLongError)  # errors that are shown to the visitor

_log = logging.getLogger(__name__)


class OpenPage:
    """The runs of one page, and what it is sent. It lives while the page is connected, and a while longer."""

    def __init__(self, name: str, address: str) -> None:
        self.name = name
        self.key = secrets.token_hex(16)  # of its runs, and in URLs of figures: unlike the name, it gives no access
        self.address = address
        self._channel: Channel | None = None
        self._hidden = False
        self._pending: set[int] = set()  # numbers of commands that are being executed
        self._done: deque[int] = deque(maxlen=MOST_DONE)  # numbers of the last commands that were executed
        self._locks: defaultdict[str, asyncio.Lock] = defaultdict(asyncio.Lock)  # commands of a lesson run in order
        self._tasks: set[asyncio.Task[None]] = set()
        self._replays: dict[str, asyncio.Task[None]] = {}  # the command for which a run is trained again, by lesson
        self._streams: dict[str, asyncio.Task[None]] = {}  # the run that trains, by lesson
        self._charts: dict[str, int] = {}  # the chart that the page shows, by lesson
        self._structures: dict[str, str] = {}  # the chart structure that the page has, by lesson
        self._known: dict[str, Config] = {}  # settings of the run that trains, as the page knows them, by lesson
        self._notes: dict[str, Words] = {}  # in the status line of a run that does not train, by lesson
        self._offered: dict[str, Run] = {}  # the run whose files the page has, by lesson

    def attach(self, channel: Channel) -> None:
        """Send to this channel. The page sends its pending commands again."""
        self._channel = channel
        self._hidden = False
        for sent in (self._charts, self._structures, self._offered):
            sent.clear()

    def detach(self) -> None:
        """Pause all runs, since the connection is lost."""
        self._channel = None
        for key in list(self._streams):
            self._end_stream(key)
            run = registry.current(self.key, key)
            if run is not None:
                run.pause()  # now: the page may come back before the stream has ended

    def close(self) -> None:
        """Delete all runs, since the page was closed."""
        for task in self._tasks:
            task.cancel()
        registry.close(self.key)

    def receive(self, message: Mapping[str, Any]) -> asyncio.Task[None] | None:
        """Execute a command, and then acknowledge its number.

        The page sends it again if the acknowledgement was lost. All commands but `step` may be executed twice.
        """
        if "hidden" in message:
            self._hide(message["hidden"] is True)
            return None
        number = message.get("n")
        if type(number) is not int or not 0 < number < LARGEST_NUMBER:
            self._send({"problem": both(SettingError("n", Text("a whole number", "整数"), number).told("n"))})
        elif number not in self._pending:
            again = number in self._done
            self._pending.add(number)
            self._cancel_replay(message)
            return self._do_later(self._execute(number, message, again=again))
        return None

    def _cancel_replay(self, message: Mapping[str, Any]) -> None:
        """Give up training a run again if the page wants another one instead."""
        key = message.get("lesson")
        if message.get("fresh") is True and isinstance(key, str) and key in self._replays:
            self._replays[key].cancel()

    def _do_later(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    def _hide(self, hidden: bool) -> None:
        self._hidden = hidden
        for key in self._streams:
            run = registry.current(self.key, key)
            if run is not None:
                run.least_interval = self._interval

    @property
    def _interval(self) -> float:
        return HIDDEN_INTERVAL if self._hidden else FRAME_SECONDS

    async def _execute(self, number: int, message: Mapping[str, Any], *, again: bool) -> None:
        key = message.get("lesson")
        try:
            async with self._locks[key if isinstance(key, str) and key in LESSONS else ""]:
                if key == checkpoints_tab.KEY:
                    await self._checkpoints(message)
                else:
                    command = Command.read(message, again=again)
                    handler = HANDLERS.get(command.do)
                    if handler is None:
                        raise SettingError("do", f"one of {', '.join(HANDLERS)}", command.do)
                    await handler(self, command)
        except NothingShownError:
            pass  # there is nothing to pause, stop or continue
        except REFUSED as error:
            self._refuse(message, error)
        except Exception:  # noqa: BLE001  # the page goes on
            _log.exception("command failed lesson=%s do=%s", key, message.get("do"))
            self._send({"lesson": key, "run": message.get("run"), "problem": both(INTERNAL_ERROR)})
        finally:
            self._pending.discard(number)
            self._done.append(number)
            self._send({"lesson": key, "done": number})

    def _refuse(self, message: Mapping[str, Any], error: Exception) -> None:
        key = message.get("lesson")
        lesson = LESSONS.get(key) if isinstance(key, str) else None
        self._send({"lesson": key, "run": message.get("run"), "problem": both(problem(error, lesson))})

    def _send(self, message: Mapping[str, Any]) -> None:
        if self._channel is not None:
            self._channel.send(json.dumps(message))

    # Showing a lesson

    async def open(self, command: Command) -> None:
        """Show a lesson: the run that the page remembers, or the untrained net of its settings or of a link."""
        lesson = command.lesson
        if command.data.get("text") is not True:  # the page has none yet
            self._send({"lesson": lesson.key, "defaults": lesson.config().to_dict(), **lesson_tab.texts(lesson)})
        left_out: list[Text] = []  # of a link or of the browser's storage
        if isinstance(lesson, Training) and command.recipe is not None and command.step:
            try:
                run = await self._run(command)
            except (SettingError, TooLongError) as error:
                left_out.append(problem(error, lesson))
            else:
                await self._show_again(command, run)
                return
        recipe, errors = self._wanted_or_good(command)
        try:
            setup = await self._previewed(recipe)
        except SettingError as error:  # a weight that the net does not have, or a step beyond the end
            errors.append(error)
            recipe = Recipe(lesson.key, recipe.settings)
            setup = await self._previewed(recipe)
        left_out += [controls.error_message(error, lesson) for error in errors]
        if left_out:
            self._send({"lesson": lesson.key, "left_out": [both(each) for each in left_out[:MOST_LEFT_OUT]]})
        self._show_preview(command.run, recipe, setup)
        self._send_values(lesson, recipe.settings)

    async def _show_again(self, command: Command, run: Run) -> None:
        """Show a run as it stands, beside the settings that the visitor has chosen meanwhile."""
        try:
            config = command.config() if command.settings else run.config
        except SettingError:
            config = run.config
        same = _is_same(config, run)
        self._send_values(command.lesson, config, same=same)
        self._notes[command.lesson.key] = "" if same else CHANGED
        await self._send_final(command.run, run, command.language)
        self._send_recipe(command.run, run, config)

    def _wanted_or_good(self, command: Command) -> tuple[Recipe, list[SettingError]]:
        """The recipe of the page if it has not begun, else all that is good of a link or of the browser's storage."""
        if command.recipe is not None and command.step == 0:
            with suppress(SettingError):
                return command.wanted(), []
        return links.read_good(command.lesson, command.settings)

    async def settings(self, command: Command) -> None:
        """The controls have changed: change the run on the way, or show the untrained net of the new settings."""
        lesson = command.lesson
        self._judge(lesson, command.settings)
        current = registry.current(self.key, lesson.key, command.run)
        try:
            config = command.config()
        except SettingError:
            if current is not None and current.state in ACTIVE:
                return  # a number that is being typed: the run goes on without it, and its verdict is sent
            raise
        if not isinstance(lesson, Training):
            await self._preview(command.run, Recipe(lesson.key, config))
        elif command.step or current is not None:
            run = await self._run(command)
            await self._apply_settings(command, run, config)
            same = _is_same(config, run)
            self._judge(lesson, command.settings, same=same)
            self._notes[lesson.key] = "" if same else CHANGED
            self._send_recipe(command.run, run, config)
            if lesson.key not in self._streams:
                self._send_frame(command.run, run)
        else:
            await self._preview(command.run, command.wanted())

    async def idea(self, command: Command) -> None:
        """Show an idea's settings, and start a run with them."""
        lesson, number = command.lesson, command.data.get("idea")
        ideas = lesson_tab.ideas(lesson)
        if type(number) is not int or number not in range(len(ideas)):
            raise SettingError("idea", Text("the number of an idea of this lesson", "本课里的编号"), number)
        idea: Idea = ideas[number]
        recipe = Recipe(lesson.key, lesson.config.parse(idea.settings))
        if isinstance(lesson, Training):
            run = await self._begin(command, recipe)
            self._send_values(lesson, recipe.settings)
            self._train(command, run)
        else:
            await self._preview(command.run, recipe)
            self._send_values(lesson, recipe.settings)

    async def _preview(self, number: int, recipe: Recipe) -> None:
        """Show the untrained net of a recipe, or the result of a lesson without training."""
        self._show_preview(number, recipe, await self._previewed(recipe))

    async def _previewed(self, recipe: Recipe) -> ChartSetup:
        async with COMPUTING.of(self.address):
            return await preview(recipe)

    def _show_preview(self, number: int, recipe: Recipe, setup: ChartSetup) -> None:
        self._end_stream(recipe.lesson)
        registry.discard(self.key, recipe.lesson)
        self._send_start(number, recipe, setup)

    # Commands for a run

    async def train(self, command: Command) -> None:
        """Start a new run, or continue the one that the page shows."""
        run = await self._current_or_new(command)
        self._train(command, run)

    async def step(self, command: Command) -> None:
        """Take one step of a new run, or of the one that the page shows."""
        taken = registry.current(self.key, command.lesson.key, command.run) if command.again else None
        run = taken or await self._current_or_new(command)
        if run.state is State.RUNNING:
            return
        if taken is None:
            await run.step()
        await self._send_final(command.run, run, command.language)

    async def pause(self, command: Command) -> None:
        """Pause the run."""
        run = await self._run(command)
        run.pause()
        if command.lesson.key not in self._streams:
            await self._send_final(command.run, run, command.language)

    async def stop(self, command: Command) -> None:
        """End the run at its current step."""
        run = await self._run(command)
        await run.stop()
        await self._send_final(command.run, run, command.language)

    async def reset(self, command: Command) -> None:
        """Discard the run and show the untrained net of the settings; invalid settings keep the run."""
        await self._preview(command.run, Recipe(command.training.key, command.config()))

    async def speed(self, command: Command) -> None:
        """Set the number of steps a frame."""
        run = registry.current(self.key, command.lesson.key, command.run)
        if run is not None:
            run.speed = command.speed

    async def _current_or_new(self, command: Command) -> Run:
        if command.fresh:
            return await self._begin(command, command.wanted())
        run = await self._run(command)
        try:
            config = command.config()
        except SettingError:  # a number that is being typed: the run goes on without it
            return run
        await self._apply_settings(command, run, config)
        return run

    async def _begin(self, command: Command, recipe: Recipe) -> Run:
        """A new run, on show."""
        lesson = command.training
        run = registry.current(self.key, lesson.key, command.run)
        if run is None:
            async with COMPUTING.of(self.address):
                run = await Run.create(recipe)
            self._register(command, run)
        self._show(command.run, run)
        return run

    async def _run(self, command: Command) -> Run:
        """The run that the page shows, trained again to its step if it is not here. Raises the errors of Run.create."""
        lesson = command.training
        run = registry.current(self.key, lesson.key, command.run)
        if run is None:
            run = await self._replayed(command)
            self._register(command, run)
        self._show(command.run, run)
        return run

    async def _replayed(self, command: Command) -> Run:
        key, task = command.lesson.key, asyncio.current_task()
        assert task is not None
        self._replays[key] = task
        try:
            return await Run.create(command.shown(), command.step)
        except TooLongError:
            if command.do != "open":  # which shows the untrained net itself
                await self._preview(command.run, Recipe(key, command.shown().settings))
            raise
        finally:
            del self._replays[key]

    def _register(self, command: Command, run: Run) -> None:
        self._end_stream(command.lesson.key)
        self._notes.pop(command.lesson.key, None)
        registry.put(self.key, command.run, run, self.address)
        run.speed = command.speed

    async def _apply_settings(self, command: Command, run: Run, config: Config) -> None:
        """Apply what has changed among the settings of views and, if it trains, those that can change on the way.

        A paused run is changed when it goes on, so that not every value that a slider passes is a change.
        """
        wanted, now = config.by_name(), run.config.by_name()
        known = config.controls()
        goes_on = command.do in ("train", "step") and run.state in (State.IDLE, State.PAUSED)
        if run.state is State.RUNNING or goes_on:
            for name, control in known.items():
                if control.live and wanted[name] != now[name]:
                    await run.change(name, wanted[name])
                    self._send_recipe(command.run, run)  # before any frame of a later step
        if any(known[name].view and wanted[name] != run.config.by_name()[name] for name in known):
            await run.change_view(run.config.with_views(config))
        self._known[command.lesson.key] = run.config
        self._show(command.run, run)
        self._send_recipe(command.run, run)

    def _train(self, command: Command, run: Run) -> None:
        """Start streaming. An earlier stream of the same run ends by itself."""
        run.speed = command.speed
        if self._channel is None or not run.start():
            return
        self._streams[command.lesson.key] = self._do_later(self._stream(command, run))

    def _end_stream(self, key: str) -> None:
        stream = self._streams.pop(key, None)
        if stream is not None:
            stream.cancel()

    async def _stream(self, command: Command, run: Run) -> None:
        """Train, and send frames until the run pauses or ends."""
        key = command.lesson.key
        refused: Exception | None = None
        self._known[key] = run.config
        run.watchers += 1
        run.least_interval = self._interval
        try:
            with Place(self.address) as place:
                async for rank in _in_line(run, place):
                    self._send_in_order(live.waiting(command.run, command.training, run.frame, rank))
                async with aclosing(run.frames()) as frames:
                    async for frame in frames:
                        self._show(command.run, run)
                        if run.recipe.changes and run.config != self._known[key]:  # a change of a link takes effect
                            self._known[key] = run.config
                            self._send_values(command.lesson, run.config)
                        if frame.state is State.RUNNING and self._channel is not None:
                            note = _note(frame, self.address)
                            self._channel.send_frame(key, live.frame(command.run, command.training, frame, note))
        except REFUSED as error:
            refused = error
        finally:
            run.watchers -= 1
            is_latest = self._streams.get(key) is asyncio.current_task()
            if is_latest:
                del self._streams[key]
                run.pause()  # it may have been waiting in the line
        if is_latest:
            await self._send_final(command.run, run, command.language)
        if refused is not None:
            self._refuse(command.data, refused)

    async def _send_final(self, number: int, run: Run, language: Language) -> None:
        """Send the last frame and, if the run is done, offer its files."""
        if registry.current(self.key, run.lesson.key) is not run:
            return  # a later command has replaced it
        self._show(number, run)
        self._send_recipe(number, run)
        self._send_frame(number, run)
        if run.state is State.DONE and self._offered.get(run.lesson.key) is not run:
            self._offered[run.lesson.key] = run
            self._do_later(self._export(number, run, language))

    async def _export(self, number: int, run: Run, language: Language) -> None:
        """Write the files of a run that is done, load and compare them, and offer them."""
        head = {"lesson": run.lesson.key, "run": number}
        self._send({**head, "files": f"<p role=status>{html.words(WRITING)}</p>"})
        try:
            found = await run_files.of_run(run, language)
            files = run_files.offer(run.recipe, language, found)
        except (NonFiniteError, ExportError) as error:
            files = _failed(error.told)
        except Exception:  # noqa: BLE001  # a full disk, a failed export: show a message instead of waiting forever
            if not run.is_over:
                _log.exception("export failed lesson=%s", run.lesson.key)
            files = _failed(NOT_WRITTEN)
        if registry.current(self.key, run.lesson.key) is run:
            self._send({**head, "files": files})
            self._send_frame(number, run)  # a lesson may show the loaded nets

    # Messages

    def _show(self, number: int, run: Run) -> None:
        """Send the run's chart unless the page shows it already."""
        setup = run.chart_setup
        if self._charts.get(run.lesson.key) != setup.frame.chart:
            self._send_start(number, run.recipe, setup, run.frame)

    def _send_start(self, number: int, recipe: Recipe, setup: ChartSetup, now: Frame | None = None) -> None:
        key, lesson = recipe.lesson, LESSONS[recipe.lesson]
        has_structure = self._structures.get(key) == setup.structure
        training = lesson if isinstance(lesson, Training) else None
        if self._channel is not None:
            self._structures[key], self._charts[key] = setup.structure, setup.frame.chart
            self._channel.send(live.start(self.key, number, recipe, setup, training, now, structure=not has_structure))

    def _send_frame(self, number: int, run: Run) -> None:
        self._send_in_order(live.frame(number, run.lesson, run.frame, self._notes.get(run.lesson.key, "")))

    def _send_in_order(self, message: str) -> None:
        if self._channel is not None:
            self._channel.send(message)

    def _send_recipe(self, number: int, run: Run, config: Config | None = None) -> None:
        """Send the run's recipe; given the settings of the controls, also the changes that a paused run will have."""
        recipe = run.recipe
        if config is not None and run.state is State.PAUSED:
            wanted, now = config.by_name(), run.config.by_name()
            names = [name for name, control in config.controls().items() if control.live and wanted[name] != now[name]]
            coming = [Change(run.frame.encoded.step, name, wanted[name]) for name in names]
            recipe = replace(recipe, changes=sort_changes([*recipe.changes, *coming]))
        self._send({"lesson": run.lesson.key, "run": number, "recipe": recipe.to_dict()})

    def _send_values(self, lesson: Lesson, config: Config, *, same: bool = True) -> None:
        """Send the values of the controls."""
        values = controls.values(lesson, config)
        self._send({"lesson": lesson.key, "values": values})
        self._judge(lesson, values, same=same)

    def _judge(self, lesson: Lesson, values: Mapping[str, object], *, same: bool = True) -> None:
        """Send the verdicts on typed numbers, and whether the settings are those of the run on show."""
        self._send({"lesson": lesson.key, "judged": controls.verdicts(lesson, values), "same": same})

    async def _checkpoints(self, message: Mapping[str, Any]) -> None:
        """Show the shipped nets, or the details of one."""
        if message.get("do") == "open":
            async for cards in checkpoints_tab.cards():
                self._send({"lesson": checkpoints_tab.KEY, "cards": cards})
        else:
            async with COMPUTING.of(self.address):
                detail = await checkpoints_tab.detail(message.get("checkpoint"))
            self._send({"lesson": checkpoints_tab.KEY, "detail": detail})


def _is_same(config: Config, run: Run) -> bool:
    """Whether these settings need no new run; those that can change on the way do not, until the run is done."""
    live = {name for name, control in config.controls().items() if control.live and run.state in ACTIVE}
    changed = {name: value for name, value in config.by_name().items() if name in live}
    return config.same_run(run.config.parse({**run.config.by_name(), **changed}))


async def _in_line(run: Run, place: Place) -> AsyncIterator[int]:
    """The run's position in the line, whenever it changes, until it may train, or is paused or ended."""
    while place.rank and run.state is State.RUNNING:
        yield place.rank
        place.moved.clear()
        with suppress(TimeoutError):
            async with asyncio.timeout(LINE_POLL_SECONDS):
                await place.moved.wait()


def _note(frame: Frame, address: str) -> Words:
    """Note for the status line if frames are less frequent or training is slower, or an empty text."""
    if turns.training.is_spent(address):
        return SLOWED.format(limit=f"{turns.training.rate:g}")
    return BUSY_PACE if pace.is_busy(address) else ""


def problem(error: Exception, lesson: Lesson | None) -> Text:
    """The message for a visitor about one of the errors in REFUSED."""
    match error:
        case SettingError():
            return error.told(error.name) if lesson is None else controls.error_message(error, lesson)
        case FullError():
            return FULL
        case SpentError():
            return error.told
        case TooLongError():
            return TOO_LONG
        case _:
            return BUSY


def _failed(message: Words) -> str:
    return f'<p class="verdict failed" role="status">{html.words(message)}</p>'


Handler = Callable[[OpenPage, Command], Awaitable[None]]

HANDLERS: dict[str, Handler] = {
    "open": OpenPage.open,
    "settings": OpenPage.settings,
    "idea": OpenPage.idea,
    "train": OpenPage.train,
    "step": OpenPage.step,
    "pause": OpenPage.pause,
    "stop": OpenPage.stop,
    "reset": OpenPage.reset,
    "speed": OpenPage.speed,
}
