"""A live run: its state, its commands, and its frames at a steady rate.

All state is written on the event loop. The net trains in a Runner, in slices short enough that all runs advance and
commands take effect at once. A run whose worker dies is built again from its recipe.
"""

import asyncio
import itertools
import logging
import math
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from enum import StrEnum
from pathlib import Path
from typing import Concatenate, ParamSpec, TypeVar

from charts.text import Language, Text
from export.bundle import Bundle
from lab.lesson import Training
from lab.recipe import Recipe
from lab.settings import Config, SettingError
from nets import TRAININGS
from runs import pace, pool, turns
from runs.admission import FullError, Place
from runs.engine import EncodedFrame, Engine, InitialState, Progress
from runs.pool import Client, LostError, NoWorkerError, Runner

FRAME_SECONDS = 1 / 25  # on a server that is not busy; `pace` stretches it
SLICE_SECONDS = 0.02  # at most; divided among the runs that train on one runner
SHORTEST_SLICE = 0.002
REPLAY_SECONDS = 20  # of processor time that training a run again may take
MOST_LOSSES = 3  # workers that a run may lose in a row
FULL_SPEED = 0  # the speed without a fixed number of steps a frame

SILENT = Text("", "")
BROKEN = Text(
    "Something went wrong on our side, and this run was stopped. Press Train to start a new one.",
    "我们这边出了问题，这次训练已停止。请按“训练”重新开始。",
)
LOST = Text(
    f"The process that trains this net has exited {MOST_LOSSES} times, so this run was stopped. Press Train to"
    " start a new one.",
    f"训练这个网络的进程已意外结束 {MOST_LOSSES} 次，这次训练已停止。请按“训练”重新开始。",
)
TOO_LONG = Text(
    f"This run takes more than {REPLAY_SECONDS} seconds of processor time to train again, so it was stopped. Press"
    " Train to start a new one.",
    f"重新训练到这一步需要超过 {REPLAY_SECONDS} 秒的处理器时间，这次训练已停止。请按“训练”重新开始。",
)

P = ParamSpec("P")
T = TypeVar("T")

_log = logging.getLogger(__name__)
_numbers = itertools.count(1)  # of runs in workers
_charts = itertools.count(1)


class TooLongError(RuntimeError):
    """Training a run again takes more than REPLAY_SECONDS."""


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
    """A run as the page shows it at one moment; `message` is the error message of a failed run.

    `chart` is the number of the ChartSetup whose first frame it refers to.
    """

    chart: int
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
    """A run from its recipe to its bundle; `await Run.create(recipe)` creates one.

    The nets in a worker are a cache of the recipe: if the worker dies, the run is trained again to the step where it
    stood, and goes on.
    """

    def __init__(self, recipe: Recipe) -> None:
        self.lesson: Training = TRAININGS[recipe.lesson]
        self.recipe = recipe  # with the changes so far, the stop, and the current views
        self.speed = FULL_SPEED
        self.state = State.IDLE
        self.least_interval = FRAME_SECONDS  # between frames; longer while nobody looks at the page
        self.chart_setup: ChartSetup  # of step 0, or of the last change of view
        self._address = turns.address.get()
        self._client: Client | None = None  # of the worker that has the nets
        self._number = 0  # of the run in that worker
        self._building = asyncio.Lock()
        self._message = SILENT
        self._turn = 0
        self._abandoned = False
        self._over = False  # abandoned, or ended by an error
        self._export_claimed = False
        self._trainings = 0  # iterators and replays that train it now
        self._changed_at = 0  # step of the last change on the way
        self.seconds = 0.0  # of processor time that training has taken
        self._losses = 0  # workers that have died since the last frame
        self.watchers = 0  # pages that wait for its frames or for a place to train

    @classmethod
    async def create(cls, recipe: Recipe, step: int = 0) -> "Run":
        """A run that stands at `step`: idle at step 0, else paused or, at its end, done or diverged.

        Raises SettingError for a step beyond the end and for changes that the run cannot make, LostError if workers
        keep dying, TooLongError if training to `step` takes more than REPLAY_SECONDS, and FullError.
        """
        run = cls(recipe)
        try:
            await run._build(step)
        except BaseException:
            run.abandon()
            raise
        return run

    async def _build(self, step: int) -> None:
        """Create the nets on a worker and train to `step`; retried if a worker dies."""
        while True:
            try:
                await self._build_once(step)
            except Exception as error:
                if self._over:  # abandoned meanwhile
                    raise LostError("the run is over") from error
                if not isinstance(error, LostError) or isinstance(error, NoWorkerError):
                    raise
                self._count_loss()
            else:
                return

    async def _build_once(self, step: int) -> None:
        client = self._join(await pool.runner())
        number = self._number
        try:
            initial = await client.call(Engine.begin, number, self.recipe.to_dict())
            if step > initial.steps:
                rule = Text(f"at most {initial.steps}, the steps of this run", f"不超过本次训练的步数 {initial.steps}")
                raise SettingError("step", rule, step)
            reached = await self._replay(client, step) if step else None
            if self._over:  # abandoned meanwhile
                raise LostError("the run is over")
        except BaseException:
            self._leave()
            client.send(Engine.forget, number)  # again: the engine may have created the run only now
            raise
        self._show(initial)
        if reached is not None:
            self._encoded = reached.frame or initial.frame
            if reached.done:
                self._finish(self._encoded)
            elif self.state is State.IDLE:
                self.state = State.PAUSED

    async def _replay(self, client: Client, step: int) -> Progress:
        """Train from step 0 to `step` at full speed, in slices like any run. `frames` has its place already."""
        if self._trainings:
            return await self._advance_to(client, step)
        with Place(self._address) as place:
            await place.ready()
            with self._training():
                return await self._advance_to(client, step)

    async def _advance_to(self, client: Client, step: int) -> Progress:
        used = 0.0
        while True:
            await self._wait_for_allowance()
            progress = await client.call(Engine.advance, self._number, step, self._slice(client), math.inf)
            self._spend(progress)
            used += progress.seconds
            step -= progress.taken
            if progress.frame is not None or self._over:
                return progress
            if used > REPLAY_SECONDS:
                raise TooLongError(TOO_LONG.en)

    def _join(self, runner: Runner) -> Client:
        """Count the run as one of the runner's, and return its client."""
        self._number = next(_numbers)
        self._client = Client(runner, (self._address, self._number))
        runner.runs += 1  # before any await, so that concurrent calls see it
        runner.active += self._trainings
        return self._client

    @contextmanager
    def _training(self) -> Iterator[None]:
        """Count the run as training, on whichever worker has it."""
        self._trainings += 1
        if self._client is not None:
            self._client.runner.active += 1
        try:
            yield
        finally:
            self._trainings -= 1
            if self._client is not None:
                self._client.runner.active -= 1

    def _count_loss(self) -> None:
        self._losses += 1
        _log.warning("worker of a run died lesson=%s losses=%d", self.lesson.key, self._losses)
        if self._losses >= MOST_LOSSES:
            raise LostError(f"{self._losses} workers died with this run")

    def _show(self, initial: InitialState) -> None:
        self._steps, self._nets = initial.steps, initial.nets
        self._chart, self._encoded = next(_charts), initial.frame
        self.chart_setup = ChartSetup(Frame(self._chart, State.IDLE, self._steps, initial.frame), initial.structure)

    @property
    def config(self) -> Config:
        """Current settings: with the changes so far, and the current views."""
        step, now = max(self._encoded.step, self._changed_at), self.recipe.settings
        for change in self.recipe.changes:
            if change.step <= step and not change.of_weight:
                now = now.changed(change.name, change.value)
        return now

    @property
    def frame(self) -> Frame:
        """The latest frame."""
        return Frame(self._chart, self.state, self._steps, self._encoded, self._message)

    def start(self) -> bool:
        """Start or continue the run; False if it is running, over or abandoned."""
        if self._abandoned or self.state not in (State.IDLE, State.PAUSED):
            return False
        self.state = State.RUNNING
        self._turn += 1  # an iterator that has not noticed the pause neither trains nor pauses
        return True

    async def frames(self) -> AsyncGenerator[Frame, None]:
        """Train while the run is running, and yield a frame every FRAME_SECONDS; the last one shows the final state.

        If `pace` or `least_interval` stretches the frames, each has more steps, and the run takes no longer. A run that
        is too slow for the rate yields fewer frames and never waits. Only the latest iterator trains: an earlier one
        ends without a last frame, as does that of an abandoned run. Closing the iterator pauses the run.
        """
        self._turn += 1
        turn, due = self._turn, time.monotonic()
        trained = False
        owed = 0.0  # steps, with fractions
        with self._training():
            try:
                while self.state is State.RUNNING and turn == self._turn:
                    trained = True
                    stretch = max(pace.stretch(self._address), self.least_interval / FRAME_SECONDS)
                    due = max(due + FRAME_SECONDS * stretch, time.monotonic())
                    owed += self.speed * stretch
                    steps = self._steps if self.speed == FULL_SPEED else max(1, int(owed))
                    owed = max(0.0, owed - steps)
                    await self._train(steps, due)
                    if self.state is State.RUNNING and turn == self._turn:
                        yield self.frame
                        await asyncio.sleep(due - time.monotonic())
            finally:
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
            try:
                await self._update(Engine.stop)
            except BaseException:
                self.state = State.PAUSED
                raise
            if not self._over and self._encoded.step < self._steps:
                self.recipe = self.recipe.until(self._encoded.step)
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
        self._over = True
        self._leave()

    def _leave(self) -> None:
        """Free the run's memory in its worker."""
        client, self._client = self._client, None
        if client is not None:
            client.runner.runs -= 1
            client.runner.active -= self._trainings
            client.send(Engine.forget, self._number)

    async def change_view(self, config: Config) -> ChartSetup:
        """Change the view settings, and draw the chart anew from the current step.

        Raises ValueError if `config` differs from the run's settings in more than views.
        """
        if not config.same_run(self.config):
            raise ValueError("only views can change during a run")
        initial = await self._attempt(Engine.change_view, config.to_dict())
        if initial is not None:
            self.recipe = replace(self.recipe, settings=self.recipe.settings.with_views(config))
            self._show(initial)
        return self.chart_setup

    async def change(self, name: str, value: object) -> None:
        """Change a setting or a weight after the steps taken so far; it takes effect at the next step.

        Raises SettingError for an invalid change and for one too many. A run that is done is not changed.
        """
        if self.state not in (State.IDLE, State.RUNNING, State.PAUSED):
            return
        changed = await self._attempt(Engine.change, name, value)
        if changed is not None:
            self._changed_at, changes = changed
            self.recipe = replace(self.recipe, changes=changes)
            if self.state is not State.RUNNING:
                await self._update(Engine.frame)  # shows the mark of the change

    @property
    def is_over(self) -> bool:
        """Whether it was abandoned or ended by an error."""
        return self._over

    def claim_export(self) -> bool:
        """True once, when the run is done; the caller that gets True must export."""
        claimed = self.state is State.DONE and not self._export_claimed
        self._export_claimed |= claimed
        return claimed

    async def export(self, out: Path, language: Language = "en") -> tuple[list[Bundle], bytes]:
        """Write the run's bundles under `out`, with texts in `language`, and update the frame. Returns a zip too.

        Raises the errors of `bundle.prepare` and `bundle.Draft`, and LostError.
        """

        async def write(client: Client, number: int) -> tuple[list[Bundle], bytes]:
            try:
                if not await client.call(Engine.is_prepared, number):
                    await client.call(Engine.prepare, number)
                for net in range(self._nets):
                    await client.call(Engine.check, number, net, str(out), language)
                self._encoded = await client.call(Engine.frame, number)  # a lesson may show the loaded nets
                return await client.call(Engine.seal, number)
            finally:
                client.send(Engine.cancel, number)

        made = await self._with_nets(write)
        self._losses = 0
        return made

    async def draw(self, language: Language) -> Mapping[str, bytes]:
        """The current chart as image files, by format; empty if there is none. Raises LostError."""

        async def draw(client: Client, number: int) -> Mapping[str, bytes]:
            return await client.call(Engine.draw, await client.call(Engine.chart, number), language)

        images = await self._with_nets(draw)
        self._losses = 0
        return images

    @staticmethod
    def _slice(client: Client | None) -> float:
        """Seconds that a call may train, so that all runs of the worker advance."""
        return max(SHORTEST_SLICE, SLICE_SECONDS / max(1, client.runner.active if client else 1))

    def _spend(self, progress: Progress) -> None:
        turns.training.spend(self._address, progress.seconds)
        self.seconds += progress.seconds

    async def _wait_for_allowance(self) -> None:
        if turns.training.is_spent(self._address):
            await asyncio.sleep(turns.training.wait(self._address))

    def _finish(self, frame: EncodedFrame) -> None:
        self.state = State.DONE if frame.advice is None else State.DIVERGED
        self._message = frame.advice or SILENT

    async def _train(self, steps: int, due: float) -> None:
        """Take up to `steps` steps while the run is running, until `due` (time.monotonic); then update the frame."""
        while self.state is State.RUNNING:
            if turns.training.is_spent(self._address):
                await self._wait_for_allowance()
                continue  # the run may have been paused meanwhile
            progress = await self._attempt(Engine.advance, steps, self._slice(self._client), due - time.monotonic())
            if progress is None:
                return
            self._spend(progress)
            steps -= progress.taken
            if progress.frame is not None:
                self._set_frame(progress.frame)
                if progress.done and self.state in (State.RUNNING, State.PAUSED):
                    self._finish(progress.frame)
                return
        if not self._over:  # paused during a frame
            await self._update(Engine.frame)

    async def _update(self, method: Callable[[Engine, int], EncodedFrame]) -> None:
        frame = await self._attempt(method)
        if frame is not None:
            self._set_frame(frame)
            if self.state is State.DONE and frame.advice is not None:
                self._finish(frame)

    def _set_frame(self, frame: EncodedFrame) -> None:
        self._losses = 0
        if frame.step >= self._encoded.step:  # answers may arrive out of order
            self._encoded = frame

    async def _built(self) -> tuple[Client, int]:
        """The client of the worker that has the nets, and the run's number there; they are built again if lost.

        Raises the errors of `create`.
        """
        async with self._building:
            if self._over:
                raise LostError("the run is over")
            if self._client is None:
                await self._build(self._encoded.step)
            assert self._client is not None
            return self._client, self._number

    def _lose(self, client: Client) -> None:
        """Note that the worker has died. Raises LostError after MOST_LOSSES of them."""
        if self._client is client:
            self._leave()
            self._count_loss()

    async def _with_nets(self, work: Callable[[Client, int], Awaitable[T]]) -> T:
        """Result of `work`, called with the worker that has the nets and the run's number; again if the worker dies.

        Raises LostError if the run is over, also if it was abandoned meanwhile, and the errors of `create` and `work`.
        """
        while True:
            client, number = await self._built()
            try:
                return await work(client, number)
            except LostError:
                self._lose(client)
            except Exception as error:
                if self._over:
                    raise LostError("the run is over") from error
                raise

    async def _attempt(
        self, method: Callable[Concatenate[Engine, int, P], T], *args: P.args, **kwargs: P.kwargs
    ) -> T | None:
        """Result of the method for this run; None if the run is over, also if an exception has just ended it.

        Raises SettingError, and NoWorkerError and FullError if it cannot be built again at the moment.
        """
        try:
            return await self._with_nets(lambda client, number: client.call(method, number, *args, **kwargs))
        except (SettingError, NoWorkerError, FullError):
            raise
        except TooLongError:
            self.end(TOO_LONG)
        except LostError:
            if not self._over:
                self.end(LOST)
        except Exception:  # noqa: BLE001  # an error of a net's code ends this run only
            _log.exception("run failed lesson=%s method=%s", self.lesson.key, method.__name__)
            self.end(BROKEN)
        return None


async def preview(recipe: Recipe) -> ChartSetup:
    """The chart of a run at step 0, or of a lesson without training. Raises SettingError and LostError."""
    initial = await pool.call(Engine.preview, recipe.to_dict())
    return ChartSetup(Frame(next(_charts), State.IDLE, initial.steps, initial.frame), initial.structure)


async def draw(recipe: Recipe, language: Language) -> Mapping[str, bytes]:
    """The chart of `preview` as image files, by format; empty if there is none. Raises SettingError and LostError."""
    chart = await pool.call(Engine.chart_of, recipe.to_dict())
    return await pool.call(Engine.draw, chart, language)


async def verified(folder: Path) -> Bundle:
    """Verify the bundle in that folder. Raises the errors of `export.verify.verify`, and LostError."""
    return await pool.call(Engine.verify, str(folder))
