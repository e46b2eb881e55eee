"""One live run: its state, its commands, and its frames at a steady pace.

All state is written on the event loop; the net trains where a Runner has it, in slices short enough that every run
gets its turn and a command takes effect at once.
"""

import asyncio
import itertools
import logging
import time
from collections.abc import AsyncGenerator, Mapping
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any

from charts.text import Language, Text
from export.bundle import Bundle
from lab.lesson import Lesson, Training
from lab.recipe import Recipe
from lab.settings import Config
from nets import TRAININGS
from runs import pace, pool, turns
from runs.engine import Beginning, Look, Progress
from runs.pool import LostError, Runner

FRAME_SECONDS = 1 / 25  # when nobody else is about; `pace` has it last longer
SLICE_SECONDS = 0.02  # at most; runs that train beside each other share it
SHORTEST_SLICE = 0.002
FULL_SPEED = 0  # the speed that sets no number of steps to a frame
AT_ONCE = 0.0

SILENT = Text("", "")
BROKEN = Text(
    "Something went wrong on our side, and this run is lost. Press Train to start anew.",
    "我们这边出了问题，这次训练没有了。请按“训练”重新开始。",
)
LOST = Text(
    "The process that trained this net has ended, and this run is lost. Your settings are kept: press Train again.",
    "训练这个网络的进程意外结束，这次训练没有了。设置都还在：请再按一次“训练”。",
)

_log = logging.getLogger(__name__)
_numbers = itertools.count(1)


class State(StrEnum):
    """What a run is at; the page shows it as data-state."""

    IDLE = "idle"
    RUNNING = "running"
    PAUSED = "paused"
    DONE = "done"
    DIVERGED = "diverged"
    ERROR = "error"


@dataclass(frozen=True, eq=False)
class Frame:
    """What there is to show of a run at one moment; `message` says in plain words why it ended badly, if it did."""

    run: int
    state: State
    steps: int
    look: Look
    message: Text = SILENT


@dataclass(frozen=True, eq=False)
class Opening:
    """What brings a run onto a page: its chart's structure and its first frame, which later ones build on."""

    frame: Frame
    structure: str


class Run:
    """A run from its settings to its bundle; `await Run.create(...)` makes one, and `free` gives its memory back."""

    def __init__(self, recipe: Recipe, runner: Runner, number: int) -> None:
        self.lesson: Training = TRAININGS[recipe.lesson]
        self.config = recipe.settings  # with the views that it is looked at with
        self.speed = FULL_SPEED
        self.state = State.IDLE
        self.beginning: Opening  # at step 0, or when it was last looked at in another way
        self._runner = runner
        self._number = number
        self._owner = turns.address.get(), number
        self._message = SILENT
        self._turn = 0
        self._abandoned = False
        self._freed = False
        self._export_claimed = False
        self.watchers = 0  # who wait for its frames, or for its turn

    @classmethod
    async def create(cls, recipe: Recipe) -> "Run":
        """A run at step 0, in state idle. Raises LostError, and SettingError for changes that the run does not have."""
        try:
            return await cls._created(recipe)
        except LostError:
            return await cls._created(recipe)

    @classmethod
    async def _created(cls, recipe: Recipe) -> "Run":
        runner = await pool.runner()
        run = cls(recipe, runner, next(_numbers))
        runner.runs += 1  # at once, for the next of a crowd to see it
        try:
            run._begin(await run._call("begin", run._number, recipe.to_dict()))
        except BaseException:  # whoever asked for it may have gone, and it may be made all the same
            run._free()
            raise
        return run

    def _begin(self, begun: Beginning) -> None:
        self._steps, self._nets = begun.steps, begun.nets
        self._id, self._look = _new_id(), begun.look
        self.beginning = Opening(self.frame, begun.structure)

    @property
    def frame(self) -> Frame:
        """The latest frame; makes no new one."""
        return Frame(self._id, self.state, self._steps, self._look, self._message)

    def start(self) -> bool:
        """Let the run go on, if it can: one that is on or over, or abandoned, stays as it is."""
        if self._abandoned or self.state not in (State.IDLE, State.PAUSED):
            return False
        self.state = State.RUNNING
        return True

    async def frames(self) -> AsyncGenerator[Frame, None]:
        """Train while the run is on, and give a frame every FRAME_SECONDS; the last frame shows how it rests.

        Where `pace` has frames come less often, each has more steps, and the run takes no longer. A run that cannot
        keep that pace gives fewer frames, each after training on, and never waits. Only the latest iterator drives a
        run: an earlier one ends, and gives no last frame. Nor does one of a run that is abandoned. Closing the
        iterator pauses the run.
        """
        self._turn += 1
        turn, due = self._turn, time.monotonic()
        moved = False
        owed = 0.0  # steps
        address, _ = self._owner
        self._runner.active += 1
        pace.watched[address] += 1
        try:
            while self.state is State.RUNNING and turn == self._turn:
                moved = True
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
            self._runner.active -= 1
            pace.watched[address] -= 1
            if not pace.watched[address]:
                del pace.watched[address]
            if turn == self._turn:
                self.pause()
        if moved and turn == self._turn and not self._abandoned:
            yield self.frame

    async def step(self) -> Frame:
        """Take one step and pause; a run that is on or over stays as it is."""
        if self.start():
            try:
                await self._train(1, AT_ONCE)
            finally:
                self.pause()
        return self.frame

    def pause(self) -> None:
        """Hold the run where it is; `frames` and `step` go on from there."""
        if self.state is State.RUNNING:
            self.state = State.PAUSED

    async def stop(self) -> Frame:
        """End the run early; what it has learned counts."""
        if self.state in (State.RUNNING, State.PAUSED):
            # No slice follows the one that is on, and the look comes after that one's last step.
            self.state = State.DONE
            await self._look_again("stop")
        return self.frame

    def abandon(self) -> None:
        """End the run for good, show nothing more of it, and free what it holds."""
        self.state = State.IDLE
        self._abandoned = True
        self._free()

    def end(self, message: Text) -> None:
        """End the run for a reason that its visitor is told, and free what it holds."""
        self.state = State.ERROR
        self._message = message
        self._free()

    def _free(self) -> None:
        if not self._freed:
            self._freed = True
            self._runner.runs -= 1
            self._runner.tell("forget", self._number)

    async def show_as(self, config: Config) -> Opening:
        """Look at the run in another way, from now on: `config` differs from its own in views alone.

        To a page it is another run, which begins at this moment. Raises ValueError for settings of another run.
        """
        if not config.same_run(self.config):
            raise ValueError("only views can change while a run stands")
        begun = await self._attempt("look_as", config.to_dict())
        if begun is not None:
            self.config = config
            self._begin(begun)
        return self.beginning

    @property
    def is_kept(self) -> bool:
        """Whether its net is still in memory."""
        return not self._freed

    def claim_export(self) -> bool:
        """Whether there is something to export and nobody has begun to. Whoever is told so has to do it."""
        claimed = self.state is State.DONE and not self._export_claimed
        self._export_claimed |= claimed
        return claimed

    async def export(self, out: Path, language: Language = "en") -> tuple[list[Bundle], bytes]:
        """Write the run's bundles under `out`, their texts in `language`, look again, and give a zip of them too.

        Raises what `bundle.prepare` and `bundle.Draft` raise, and LostError.
        """
        call, number = self._call, self._number
        try:
            if not await call("is_prepared", number):
                await call("prepare", number)
            for net in range(self._nets):
                await call("check", number, net, str(out), language)
            self._look = await call("look", number)  # a lesson may show what was read back
            made: tuple[list[Bundle], bytes] = await call("seal", number)
        except LostError:
            self.end(LOST)
            raise
        finally:
            self._runner.tell("cancel", number)
        return made

    async def draw(self, language: Language) -> Mapping[str, bytes]:
        """The chart on show as files, by their kind; empty if there is none. Raises LostError."""
        try:
            chart = await self._call("chart", self._number)
            drawn: Mapping[str, bytes] = await self._call("draw", chart, language)
        except LostError:
            self.end(LOST)
            raise
        return drawn

    async def _call(self, method: str, *arguments: object) -> Any:
        return await self._runner.call(method, *arguments, owner=self._owner)

    async def _train(self, steps: int, due: float) -> None:
        """Up to that many steps in slices, as long as the run is on and nothing is due, and a look at the end."""
        address, _ = self._owner
        while self.state is State.RUNNING:
            if turns.training.is_spent(address):
                await asyncio.sleep(turns.training.wait(address))
                continue  # the run may have been held meanwhile
            length = max(SHORTEST_SLICE, SLICE_SECONDS / max(1, self._runner.active))
            made: Progress | None = await self._attempt("advance", steps, length, due - time.monotonic())
            if made is None:
                return
            turns.training.spend(address, made.seconds)
            steps -= made.taken
            if made.look is not None:
                self._see(made.look)
                if made.done and self.state in (State.RUNNING, State.PAUSED):
                    self.state = State.DONE if made.look.advice is None else State.DIVERGED
                    self._message = made.look.advice or SILENT
                return
        if not self._abandoned and self.state is not State.ERROR:  # held in the middle of a frame
            await self._look_again()

    async def _look_again(self, method: str = "look") -> None:
        look: Look | None = await self._attempt(method)
        if look is not None:
            self._see(look)
            if self.state is State.DONE and look.advice is not None:
                self.state = State.DIVERGED
                self._message = look.advice

    def _see(self, look: Look) -> None:
        if look.step >= self._look.step:  # an answer that was overtaken shows less
            self._look = look

    async def _attempt(self, method: str, *arguments: object) -> Any:
        """What the method gives for this run; None where that has ended it."""
        try:
            return await self._call(method, self._number, *arguments)
        except LostError:
            self.end(LOST)
        except Exception:  # noqa: BLE001  # whatever a net's code raises ends this run, is told, and stays out of others
            if self._freed:  # it is asked of a run that was put away meanwhile
                return None
            _log.exception("run failed lesson=%s method=%s", self.lesson.key, method)
            self.end(BROKEN)
        return None


async def preview(lesson: Lesson, config: Config) -> Opening:
    """What these settings begin with, or, where nothing trains, compute. Raises LostError."""
    begun: Beginning = await pool.call("preview", lesson.key, config.to_dict())
    return Opening(Frame(_new_id(), State.IDLE, begun.steps, begun.look), begun.structure)


async def draw(lesson: Lesson, config: Config, language: Language) -> Mapping[str, bytes]:
    """The chart of `preview` as files, by their kind; empty if there is none. Raises LostError."""
    chart = await pool.call("chart_of", lesson.key, config.to_dict())
    drawn: Mapping[str, bytes] = await pool.call("draw", chart, language)
    return drawn


async def verified(folder: Path) -> Bundle:
    """The bundle in that folder, checked anew. Raises what `export.verify.verify` raises, and LostError."""
    checked: Bundle = await pool.call("verify", str(folder))
    return checked


def _new_id() -> int:
    """Of two runs on a page, the later has the larger."""
    return time.time_ns() // 1000
