"""A live run: its state, its commands, and its frames at a steady rate.

All state is written on the event loop. The net trains in a Runner, in slices short enough that all runs advance and
commands take effect at once.
"""

import asyncio
import itertools
import logging
import time
from collections.abc import AsyncGenerator, Callable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Concatenate, ParamSpec, TypeVar

from charts.text import Language, Text
from export.bundle import Bundle
from lab.lesson import Lesson, Training
from lab.recipe import Recipe
from lab.settings import Config
from nets import TRAININGS
from runs import pace, pool, turns
from runs.engine import EncodedFrame, Engine, InitialState
from runs.pool import Client, LostError, Runner

FRAME_SECONDS = 1 / 25  # on a server that is not busy; `pace` stretches it
SLICE_SECONDS = 0.02  # at most; divided among the runs that train on one runner
SHORTEST_SLICE = 0.002
FULL_SPEED = 0  # the speed without a fixed number of steps a frame

SILENT = Text("", "")
BROKEN = Text(
    "Something went wrong on our side, and this run is lost. Press Train to start a new one.",
    "我们这边出了问题，这次训练没有了。请按“训练”重新开始。",
)
LOST = Text(
    "The process that trained this net exited unexpectedly, and this run is lost. Your settings are kept: press Train"
    " again.",
    "训练这个网络的进程意外结束，这次训练没有了。设置都还在：请再按一次“训练”。",
)

P = ParamSpec("P")
T = TypeVar("T")

_log = logging.getLogger(__name__)
_numbers = itertools.count(1)


class State(StrEnum):
    """The state of a run; the page shows it as data-state."""

    IDLE = "idle"
    RUNNING = "running"
    PAUSED = "paused"
    DONE = "done"
    DIVERGED = "diverged"
    ERROR = "error"


@dataclass(frozen=True, eq=False)
class Frame:
    """A run as the page shows it at one moment; `message` is the error message of a failed run."""

    run: int
    state: State
    steps: int
    encoded: EncodedFrame
    message: Text = SILENT


@dataclass(frozen=True, eq=False)
class ChartSetup:
    """The chart's structure and a run's first frame, which later frames refer to."""

    frame: Frame
    structure: str


class Run:
    """A run from its recipe to its bundle; `await Run.create(recipe)` creates one."""

    def __init__(self, recipe: Recipe, runner: Runner, number: int) -> None:
        self.lesson: Training = TRAININGS[recipe.lesson]
        self.config = recipe.settings  # with the current views
        self.speed = FULL_SPEED
        self.state = State.IDLE
        self.chart_setup: ChartSetup  # of step 0, or of the last change of view
        self._number = number
        self._client = Client(runner, (turns.address.get(), number))
        self._message = SILENT
        self._turn = 0
        self._abandoned = False
        self._freed = False
        self._export_claimed = False
        self.watchers = 0  # pages that wait for its frames or for a place to train

    @classmethod
    async def create(cls, recipe: Recipe) -> "Run":
        """A run at step 0, in state idle. Raises LostError, and SettingError for changes that the run cannot make."""
        try:
            return await cls._create_once(recipe)
        except LostError:
            return await cls._create_once(recipe)

    @classmethod
    async def _create_once(cls, recipe: Recipe) -> "Run":
        runner = await pool.runner()
        run = cls(recipe, runner, next(_numbers))
        runner.runs += 1  # before any await, so that concurrent calls see it
        try:
            run._show(await run._client.call(Engine.begin, run._number, recipe.to_dict()))
        except BaseException:  # also if cancelled: the engine may still create the run
            run._free()
            raise
        return run

    def _show(self, initial: InitialState) -> None:
        self._steps, self._nets = initial.steps, initial.nets
        self._id, self._encoded = _new_id(), initial.frame
        self.chart_setup = ChartSetup(self.frame, initial.structure)

    @property
    def frame(self) -> Frame:
        """The latest frame."""
        return Frame(self._id, self.state, self._steps, self._encoded, self._message)

    def start(self) -> bool:
        """Start or continue the run; False if it is running, over or abandoned."""
        if self._abandoned or self.state not in (State.IDLE, State.PAUSED):
            return False
        self.state = State.RUNNING
        return True

    async def frames(self) -> AsyncGenerator[Frame, None]:
        """Train while the run is running, and yield a frame every FRAME_SECONDS; the last one shows the final state.

        If `pace` stretches the frames, each has more steps, and the run takes no longer. A run that is too slow for the
        rate yields fewer frames and never waits. Only the latest iterator trains: an earlier one ends without a last
        frame, as does that of an abandoned run. Closing the iterator pauses the run.
        """
        self._turn += 1
        turn, due = self._turn, time.monotonic()
        trained = False
        owed = 0.0  # steps, with fractions
        address, _ = self._client.owner
        self._client.runner.active += 1
        pace.watched[address] += 1
        try:
            while self.state is State.RUNNING and turn == self._turn:
                trained = True
                stretch = pace.stretch(address)
                due = max(due + FRAME_SECONDS * stretch, time.monotonic())
                owed += self.speed * stretch
                steps = self._steps if self.speed == FULL_SPEED else max(1, int(owed))
                owed = max(0.0, owed - steps)
                await self._train(steps, due)
                if self.state is State.RUNNING and turn == self._turn:
                    yield self.frame
                    await asyncio.sleep(due - time.monotonic())
        finally:
            self._client.runner.active -= 1
            pace.watched[address] -= 1
            if not pace.watched[address]:
                del pace.watched[address]
            if turn == self._turn:
                self.pause()
        if trained and turn == self._turn and not self._abandoned:
            yield self.frame

    async def step(self) -> Frame:
        """Take one step and pause; a run that is running or over is not changed."""
        if self.start():
            try:
                await self._train(1, due=0.0)
            finally:
                self.pause()
        return self.frame

    def pause(self) -> None:
        """Pause the run; `frames` and `step` continue it."""
        if self.state is State.RUNNING:
            self.state = State.PAUSED

    async def stop(self) -> Frame:
        """End the run at its current step, as done."""
        if self.state in (State.RUNNING, State.PAUSED):
            # No slice follows the current one, and the engine executes the call after it.
            self.state = State.DONE
            await self._update(Engine.stop)
        return self.frame

    def abandon(self) -> None:
        """End the run, yield no more frames, and free its memory."""
        self.state = State.IDLE
        self._abandoned = True
        self._free()

    def end(self, message: Text) -> None:
        """End the run in state error with a message for its visitor, and free its memory."""
        self.state = State.ERROR
        self._message = message
        self._free()

    def _free(self) -> None:
        if not self._freed:
            self._freed = True
            self._client.runner.runs -= 1
            self._client.send(Engine.forget, self._number)

    async def change_view(self, config: Config) -> ChartSetup:
        """Change the view settings; to the page it is a new run that begins at this step.

        Raises ValueError if `config` differs from the run's settings in more than views.
        """
        if not config.same_run(self.config):
            raise ValueError("only views can change during a run")
        initial = await self._attempt(Engine.change_view, config.to_dict())
        if initial is not None:
            self.config = config
            self._show(initial)
        return self.chart_setup

    @property
    def is_kept(self) -> bool:
        """Whether its nets are still in memory."""
        return not self._freed

    def claim_export(self) -> bool:
        """True once, when the run is done; the caller that gets True must export."""
        claimed = self.state is State.DONE and not self._export_claimed
        self._export_claimed |= claimed
        return claimed

    async def export(self, out: Path, language: Language = "en") -> tuple[list[Bundle], bytes]:
        """Write the run's bundles under `out`, with texts in `language`, and update the frame. Returns a zip too.

        Raises the errors of `bundle.prepare` and `bundle.Draft`, and LostError.
        """
        call, number = self._client.call, self._number
        try:
            if not await call(Engine.is_prepared, number):
                await call(Engine.prepare, number)
            for net in range(self._nets):
                await call(Engine.check, number, net, str(out), language)
            self._encoded = await call(Engine.frame, number)  # a lesson may show the loaded nets
            return await call(Engine.seal, number)
        except LostError:
            self.end(LOST)
            raise
        finally:
            self._client.send(Engine.cancel, number)

    async def draw(self, language: Language) -> Mapping[str, bytes]:
        """The current chart as image files, by format; empty if there is none. Raises LostError."""
        try:
            chart = await self._client.call(Engine.chart, self._number)
            return await self._client.call(Engine.draw, chart, language)
        except LostError:
            self.end(LOST)
            raise

    async def _train(self, steps: int, due: float) -> None:
        """Take up to `steps` steps while the run is running, until `due` (time.monotonic); then update the frame."""
        address, _ = self._client.owner
        while self.state is State.RUNNING:
            if turns.training.is_spent(address):
                await asyncio.sleep(turns.training.wait(address))
                continue  # the run may have been paused meanwhile
            length = max(SHORTEST_SLICE, SLICE_SECONDS / max(1, self._client.runner.active))
            progress = await self._attempt(Engine.advance, steps, length, due - time.monotonic())
            if progress is None:
                return
            turns.training.spend(address, progress.seconds)
            steps -= progress.taken
            if progress.frame is not None:
                self._set_frame(progress.frame)
                if progress.done and self.state in (State.RUNNING, State.PAUSED):
                    self.state = State.DONE if progress.frame.advice is None else State.DIVERGED
                    self._message = progress.frame.advice or SILENT
                return
        if not self._abandoned and self.state is not State.ERROR:  # paused during a frame
            await self._update(Engine.frame)

    async def _update(self, method: Callable[[Engine, int], EncodedFrame]) -> None:
        frame = await self._attempt(method)
        if frame is not None:
            self._set_frame(frame)
            if self.state is State.DONE and frame.advice is not None:
                self.state = State.DIVERGED
                self._message = frame.advice

    def _set_frame(self, frame: EncodedFrame) -> None:
        if frame.step >= self._encoded.step:  # answers may arrive out of order
            self._encoded = frame

    async def _attempt(
        self, method: Callable[Concatenate[Engine, int, P], T], *args: P.args, **kwargs: P.kwargs
    ) -> T | None:
        """Result of the method for this run; None if an exception has ended the run."""
        try:
            return await self._client.call(method, self._number, *args, **kwargs)
        except LostError:
            self.end(LOST)
        except Exception:  # noqa: BLE001  # an error of a net's code ends this run only
            if self._freed:  # the run was ended meanwhile
                return None
            _log.exception("run failed lesson=%s method=%s", self.lesson.key, method.__name__)
            self.end(BROKEN)
        return None


async def preview(lesson: Lesson, config: Config) -> ChartSetup:
    """The chart of a run with these settings at step 0, or of a lesson without training. Raises LostError."""
    initial = await pool.call(Engine.preview, lesson.key, config.to_dict())
    return ChartSetup(Frame(_new_id(), State.IDLE, initial.steps, initial.frame), initial.structure)


async def draw(lesson: Lesson, config: Config, language: Language) -> Mapping[str, bytes]:
    """The chart of `preview` as image files, by format; empty if there is none. Raises LostError."""
    chart = await pool.call(Engine.chart_of, lesson.key, config.to_dict())
    return await pool.call(Engine.draw, chart, language)


async def verified(folder: Path) -> Bundle:
    """Verify the bundle in that folder. Raises the errors of `export.verify.verify`, and LostError."""
    return await pool.call(Engine.verify, str(folder))


def _new_id() -> int:
    """A run id that increases with time, so that the page can tell outdated frames."""
    return time.time_ns() // 1000
