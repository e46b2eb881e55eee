"""One live run: its state, its commands, and its frames at a steady pace.

All state is written on the event loop; training happens on one thread of its own, in slices short enough
that every run gets its turn and a command takes effect at once. One thread, because small nets under
Python's lock train slower on two, and because a run's turn at torch's random numbers must not overlap another's.
"""

import asyncio
import logging
import math
import time
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from enum import StrEnum
from functools import partial
from pathlib import Path
from typing import TypeVar

import torch

from charts.text import Text
from export import bundle
from export.bundle import Bundle
from export.verify import verify
from nets.lesson import Computation, Snapshot, Training, View
from nets.settings import Config

FRAME_SECONDS = 1 / 25
SLICE_SECONDS = 0.02
FULL_SPEED = 0  # the speed that sets no number of steps to a frame

SILENT = Text("", "")
BROKEN = Text(
    "Something went wrong on our side, and this run is lost. Press Train to start anew.",
    "我们这边出了问题，这次训练没有了。请按“训练”重新开始。",
)

_log = logging.getLogger(__name__)
_trainer_thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="trainer")

T = TypeVar("T")


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
    snapshot: Snapshot
    message: Text = SILENT


class Run:
    """A run from its settings to its bundle. Beside other runs, make one with `await Run.create(...)`."""

    def __init__(self, lesson: Training, config: Config) -> None:
        self.lesson = lesson
        self.config = config
        self.speed = FULL_SPEED
        self.state = State.IDLE
        self._trainer = lesson.trainer(config)
        self._shown = _new_id(), self._trainer.snapshot()  # as one, since two threads read and write them
        self._message = SILENT
        self._turn = 0
        self._abandoned = False
        self._export_claimed = False
        self.beginning = self.frame  # at step 0, or when it was last looked at in another way

    @classmethod
    async def create(cls, lesson: Training, config: Config) -> "Run":
        """A run at step 0, in state idle, made where all training happens."""
        return await _on_trainer_thread(lambda: cls(lesson, config))

    @property
    def frame(self) -> Frame:
        """The latest frame; makes no new one."""
        number, snapshot = self._shown
        return Frame(number, self.state, self._trainer.steps, snapshot, self._message)

    def start(self) -> bool:
        """Let the run go on, if it can: one that is on or over, or abandoned, stays as it is."""
        if self._abandoned or self.state not in (State.IDLE, State.PAUSED):
            return False
        self.state = State.RUNNING
        return True

    async def frames(self) -> AsyncIterator[Frame]:
        """Train while the run is on, and give a frame every FRAME_SECONDS; the last frame shows how it rests.

        A run that cannot keep that pace gives fewer frames, each after training on, and never waits. Only the
        latest iterator drives a run: an earlier one ends, and gives no last frame. Nor does one of a run that is
        abandoned. Closing the iterator pauses the run.
        """
        self._turn += 1
        turn, due = self._turn, time.monotonic()
        moved = False
        try:
            while self.state is State.RUNNING and turn == self._turn:
                moved = True
                due = max(due + FRAME_SECONDS, time.monotonic())
                await self._train_until(due)
                await self._look()
                if self.state is State.RUNNING:
                    yield self.frame
                    await asyncio.sleep(due - time.monotonic())
        finally:
            if turn == self._turn:
                self.pause()
        if moved and turn == self._turn and not self._abandoned:
            yield self.frame

    async def step(self) -> Frame:
        """Take one step and pause; a run that is on or over stays as it is."""
        if self.start():
            await self._attempt(lambda: self._slice(1))
            self._settle()
            self.pause()
            await self._look()
        return self.frame

    def pause(self) -> None:
        """Hold the run where it is; `frames` and `step` go on from there."""
        if self.state is State.RUNNING:
            self.state = State.PAUSED

    async def stop(self) -> Frame:
        """End the run early; what it has learned counts."""
        if self.state in (State.RUNNING, State.PAUSED):
            self.state = State.DONE  # ends a slice that is on, so that the look comes after its last step
            await self._look()
        return self.frame

    def abandon(self) -> None:
        """End the run for good, and show nothing more of it."""
        self.state = State.IDLE
        self._abandoned = True

    async def show_as(self, config: Config) -> Frame:
        """Look at the run in another way, from now on: `config` differs from its own in views alone.

        To a page it is another run, which begins at this moment. Raises ValueError for settings of another run.
        """
        if not config.same_run(self.config):
            raise ValueError("only views can change while a run stands")
        self.config = config
        await self._attempt(lambda: self._look_as(config))
        self.beginning = self.frame
        return self.beginning

    def end(self, message: Text) -> None:
        """End the run for a reason that its visitor is told."""
        self.state = State.ERROR
        self._message = message

    def claim_export(self) -> bool:
        """Whether there is something to export and nobody has begun to. Whoever is told so has to do it."""
        claimed = self.state is State.DONE and not self._export_claimed
        self._export_claimed |= claimed
        return claimed

    async def export(self, out: Path) -> list[Bundle]:
        """Write the run's bundles under `out`, and look again. Raises what `bundle.prepare` and `bundle.Draft` raise.

        The nets are computed with where all training happens, one after the other; the rest is done beside it.
        """
        await asyncio.to_thread(bundle.prepare, self._trainer)
        with bundle.Draft(self.lesson, self._trainer, self.frame.snapshot, out) as draft:
            for learner in self._trainer.learners:
                await _on_trainer_thread(partial(draft.check, learner))
            await _on_trainer_thread(self._take_snapshot)  # a lesson may show what was read back
            return await asyncio.to_thread(draft.seal, self.frame.snapshot)

    async def _train_until(self, due: float) -> None:
        left = self.speed or self._trainer.steps
        while self.state is State.RUNNING and left > 0:
            before = self._trainer.step_number
            await self._attempt(lambda left=left: self._slice(left))  # type: ignore[misc]
            left -= self._trainer.step_number - before
            self._settle()
            if time.monotonic() >= due:  # asked last, so that every frame has moved on, however late it is
                return

    def _slice(self, most: int) -> None:
        end = time.monotonic() + SLICE_SECONDS
        for _ in range(most):
            if self._trainer.done or self.state is not State.RUNNING:
                return
            self._trainer.step()
            if time.monotonic() > end:
                return

    async def _attempt(self, work: Callable[[], None]) -> None:
        try:
            await _on_trainer_thread(work)
        except Exception:  # noqa: BLE001  # whatever a net's code raises ends this run, is told, and stays out of others
            _log.exception("run of %s failed", self.lesson.key)
            self.end(BROKEN)

    def _settle(self) -> None:
        if self._trainer.done and self.state in (State.RUNNING, State.PAUSED):
            self.state = State.DIVERGED if self._trainer.diverged else State.DONE
            self._message = self._trainer.advice if self._trainer.diverged else SILENT

    async def _look(self) -> None:
        await self._attempt(self._take_snapshot)
        if self.state is State.DONE and not all(map(math.isfinite, self._shown[1].metrics.values())):
            self.state = State.DIVERGED
            self._message = self._trainer.advice

    def _take_snapshot(self) -> None:
        self._shown = self._shown[0], self._trainer.snapshot()

    def _look_as(self, config: Config) -> None:
        self._trainer.config = config
        self._shown = _new_id(), self._trainer.snapshot()


async def compute(lesson: Computation, config: Config) -> View:
    """What a lesson that trains nothing shows for these settings. Raises what its `compute` raises."""

    def work() -> View:
        with torch.random.fork_rng(devices=[]):
            return lesson.compute(config)

    return await _on_trainer_thread(work)


async def verified(folder: Path) -> Bundle:
    """The bundle in that folder, checked anew. Raises what `export.verify.verify` raises."""
    return await _on_trainer_thread(partial(verify, folder))


def _new_id() -> int:
    """Of two runs on a page, the later has the larger."""
    return time.time_ns() // 1000


async def _on_trainer_thread(work: Callable[[], T]) -> T:
    return await asyncio.get_running_loop().run_in_executor(_trainer_thread, work)
