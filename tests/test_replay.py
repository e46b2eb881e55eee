"""Runs that are trained again from their recipe, because their worker died or another server had them."""

import asyncio
import json
import os
import signal
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from lab.recipe import MAX_CHANGES, Change, Recipe
from lab.settings import SettingError
from lab.training import Trainer
from nets import TRAININGS, read_recipe
from runs import admission, pool, turns
from runs import run as run_module
from runs.admission import FullError, Place
from runs.engine import Engine
from runs.pool import InProcessRunner, LostError, NoWorkerError, Pool, Worker
from runs.run import LOST, TOO_LONG, Run, State, TooLongError
from runs.turns import Allowance, Owner
from tests.conftest import lessons_with, short
from tests.test_pool import with_workers
from tests.test_runs import go, runner_of, trainer_of, watch

LESSON = TRAININGS["regression"]
STEPS = 20

Losses = dict[str, list[float]]


def losses_alone(recipe: Recipe) -> Losses:
    """The losses of a run that nothing happens to."""
    trainer = Trainer(TRAININGS[recipe.lesson], recipe)
    trainer.finish()
    return {learner.name: learner.losses for learner in trainer.learners}


def losses_of(run: Run) -> Losses:
    return {learner.name: learner.losses for learner in trainer_of(run).learners}


class Mortal(InProcessRunner):
    """A worker in this process that dies at the n-th call of a method."""

    def __init__(self, deaths: list[tuple[str, int]]) -> None:
        super().__init__()
        self.alive = True
        self._deaths = deaths
        self._calls: Counter[str] = Counter()

    def die(self) -> None:
        self.alive = False
        for run in list(self.engine._runs.values()):
            run.cancel()  # a process would leave its files

    async def execute(self, method: str, arguments: pool.Arguments, owner: Owner) -> Any:
        self._calls[method] += 1
        if self._deaths and self._deaths[0] == (method, self._calls[method]):
            del self._deaths[0]
            self.die()
        if not self.alive:
            raise LostError("the worker has died")
        return await super().execute(method, arguments, owner)

    def execute_later(self, method: str, arguments: pool.Arguments) -> None:
        if self.alive:
            super().execute_later(method, arguments)


class Mortals:
    """A worker at a time; a dead one is replaced by the next."""

    def __init__(self) -> None:
        self._deaths: list[tuple[str, int]] = []
        self.started: list[Mortal] = []

    async def runner(self) -> Mortal:
        if not self.started or not self.started[-1].alive:
            self.started.append(Mortal(self._deaths))
        return self.started[-1]

    def kill(self) -> None:
        self.started[-1].die()

    def die_at(self, *deaths: tuple[str, int]) -> None:
        """Let the worker die at the n-th call of a method, counted from its start, then the next, and so on."""
        self._deaths[:] = deaths

    @property
    def all_died(self) -> bool:
        """Whether all of `die_at` have."""
        return not self._deaths

    async def idle(self) -> bool:
        """Whether no run is counted, and the living worker has none."""
        living = await self.runner()
        await pool.Client(living).call(Engine.ping)
        return not living.engine._runs and not any(each.runs or each.active for each in self.started)


@pytest.fixture
def mortals(monkeypatch: pytest.MonkeyPatch) -> Iterator[Mortals]:
    made = Mortals()
    monkeypatch.setattr(pool, "runner", made.runner)
    yield made
    assert made.all_died
    assert admission.training_count() == admission.waiting_count() == 0


async def make(recipe: Recipe | None = None, step: int = 0, speed: int = 1) -> Run:
    run = await Run.create(recipe or LESSON.recipe({"steps": STEPS}), step)
    run.speed = speed
    return run


# A worker that dies.


@pytest.mark.parametrize("key", lessons_with("regression", "dropout", "batches"))
def test_a_running_run_whose_worker_dies_ends_with_the_same_losses(key: str, mortals: Mortals) -> None:
    recipe = TRAININGS[key].recipe(short(key))
    mortals.die_at(("advance", 7), ("advance", 4))

    async def story() -> None:
        run = await make(recipe)
        assert (await watch(run))[-1].state is State.DONE
        assert losses_of(run) == losses_alone(recipe)
        assert len(mortals.started) == 3
        run.abandon()
        assert await mortals.idle()

    go(story())


def test_a_paused_run_whose_worker_dies_goes_on_where_it_stood(mortals: Mortals) -> None:
    async def story() -> None:
        run = await make()
        for _ in range(5):
            await run.step()
        mortals.kill()
        assert (await run.step()).encoded.step == 6
        assert run.state is State.PAUSED
        mortals.kill()
        assert (await watch(run))[-1].state is State.DONE
        assert losses_of(run) == losses_alone(run.recipe)

    go(story())


@pytest.mark.parametrize("method", ["is_prepared", "check", "frame", "seal"])
def test_an_export_whose_worker_dies_has_the_same_bytes(method: str, mortals: Mortals, tmp_path: Path) -> None:
    async def story() -> None:
        run, other = await make(speed=0), await make(speed=0)
        await watch(run)
        await watch(other)
        _, undisturbed = await other.export(tmp_path / "other")
        other.abandon()
        mortals.kill()
        mortals.die_at((method, 1))
        bundles, archive = await run.export(tmp_path / "run")
        assert archive == undisturbed
        assert bundles[0].parity.passed
        assert run.state is State.DONE

    go(story())


@pytest.mark.parametrize("method", ["chart", "draw"])
def test_a_figure_whose_worker_dies_is_the_same(method: str, mortals: Mortals) -> None:
    async def story() -> None:
        run = await make()
        for _ in range(5):
            await run.step()
        undisturbed = await run.draw("en")
        mortals.kill()
        mortals.die_at((method, 1))
        assert await run.draw("en") == undisturbed
        assert (run.state, run.frame.encoded.step) == (State.PAUSED, 5)

    go(story())


def test_a_stop_whose_worker_dies_ends_the_run_where_it_stood(mortals: Mortals) -> None:
    async def story() -> None:
        run = await make()
        for _ in range(5):
            await run.step()
        mortals.die_at(("stop", 1))
        frame = await run.stop()
        assert (frame.state, frame.encoded.step, run.recipe.stop) == (State.DONE, 5, 5)
        assert losses_of(run) == losses_alone(run.recipe)

    go(story())


def test_a_stop_that_cannot_be_done_now_leaves_the_run_paused(
    mortals: Mortals, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def story() -> None:
        run = await make()
        await run.step()
        mortals.kill()

        async def none() -> Mortal:
            raise NoWorkerError("no worker has started")

        with monkeypatch.context() as patched:
            patched.setattr(pool, "runner", none)
            with pytest.raises(NoWorkerError):
                await run.stop()
        assert (run.state, run.recipe.stop) == (State.PAUSED, None)
        assert (await run.stop()).state is State.DONE
        assert run.recipe.stop == 1

    go(story())


def test_three_deaths_in_a_row_end_a_run_in_a_sentence(mortals: Mortals) -> None:
    async def story() -> None:
        run = await make()
        mortals.die_at(("advance", 3), ("advance", 1), ("begin", 1))
        frame = (await watch(run))[-1]
        assert (frame.state, frame.message) == (State.ERROR, LOST)
        assert mortals.all_died
        assert await watch(run) == []
        mortals.kill()
        mortals.die_at(*[("begin", 1)] * 3)
        with pytest.raises(LostError):
            await make()
        await make()  # by the next worker
        assert mortals.started[-1].runs == 1

    go(story())


def test_deaths_with_frames_between_them_end_no_run(mortals: Mortals) -> None:
    async def story() -> None:
        mortals.die_at(*[("advance", 3)] * 4)
        run = await make()
        assert (await watch(run))[-1].state is State.DONE

    go(story())


Story = Callable[[Run, Worker], Awaitable[None]]


async def _running(run: Run, worker: Worker) -> None:
    watching = asyncio.create_task(watch(run))
    while run.frame.encoded.step < 5:
        await asyncio.sleep(0)
    os.kill(worker.pid, signal.SIGKILL)
    await watching


async def _paused(run: Run, worker: Worker) -> None:
    for _ in range(5):
        await run.step()
    os.kill(worker.pid, signal.SIGKILL)
    await watch(run)


async def _drawing(run: Run, worker: Worker) -> None:
    for _ in range(5):
        await run.step()
    drawing = asyncio.create_task(run.draw("en"))
    while not worker._queues["draw"]._sent:
        await asyncio.sleep(0)
    os.kill(worker.pid, signal.SIGKILL)
    assert (await drawing)["png"]
    await watch(run)


@pytest.mark.parametrize(
    "killed", [_running, *(pytest.param(each, marks=pytest.mark.long) for each in (_paused, _drawing))]
)
def test_a_run_in_a_process_that_is_killed_ends_with_the_same_loss(killed: Story) -> None:
    async def story(opened: Pool) -> None:
        recipe = TRAININGS["dropout"].recipe({"steps": 30})
        run = await make(recipe)
        worker = runner_of(run)
        assert isinstance(worker, Worker)
        await killed(run, worker)
        assert not worker.alive
        assert run.state is State.DONE
        alone = Trainer(TRAININGS["dropout"], recipe)
        alone.finish()
        assert run.frame.encoded.metrics == alone.snapshot().metrics
        run.abandon()
        assert {(each.runs, each.active) for each in opened.workers} == {(0, 0)}

    with_workers(2, story)


@pytest.mark.long
def test_an_export_in_a_process_that_is_killed_has_the_same_bytes(tmp_path: Path) -> None:
    async def story(opened: Pool) -> None:
        run = await make(speed=0)
        await watch(run)
        _, undisturbed = await run.export(tmp_path / "before")
        worker = runner_of(run)
        assert isinstance(worker, Worker)
        exporting = asyncio.create_task(run.export(tmp_path / "killed"))
        while not worker._queues["draw"]._sent:  # `seal`
            await asyncio.sleep(0)
        os.kill(worker.pid, signal.SIGKILL)
        _, archive = await exporting
        assert archive == undisturbed

    with_workers(2, story)


def test_a_recipe_that_a_worker_refuses_is_refused_in_the_same_words() -> None:
    async def story(opened: Pool) -> None:
        with pytest.raises(SettingError, match=r"step must be at most 20, the steps of this run, not 21\."):
            await make(step=21)
        recipe = Recipe("regression", LESSON.config(), (Change(0, "net.none.weight.0", 0.5),))
        with pytest.raises(SettingError, match=r"changes must be a weight of this run, such as net\.hidden\.weight"):
            await make(recipe)
        assert [worker.runs for worker in opened.workers] == [0]

    with_workers(1, story)


# A run that is created at a step.

CHANGES = (Change(3, "learning_rate", 0.1), Change(7, "net.hidden.weight.3.0", 0.8), Change(7, "learning_rate", 0.3))


@pytest.mark.parametrize(
    ("settings", "stop", "step", "state"),
    [
        ({"steps": STEPS}, None, 5, State.PAUSED),
        ({"steps": STEPS}, None, 7, State.PAUSED),
        ({"steps": STEPS}, None, STEPS, State.DONE),
        ({"steps": STEPS}, 9, 9, State.DONE),
        ({"steps": STEPS, "learning_rate": 10}, None, 3, State.PAUSED),
    ],
)
def test_a_run_created_at_a_step_is_as_the_one_that_was_trained_to_it(
    settings: Mapping[str, Any], stop: int | None, step: int, state: State, mortals: Mortals
) -> None:
    recipe = Recipe("regression", LESSON.config.parse(settings), CHANGES, stop)

    async def story() -> None:
        run, trained = await make(recipe, step), await make(recipe)
        while trained.frame.encoded.step < step:
            await trained.step()
        assert run.state is state
        assert run.frame.encoded == trained.frame.encoded
        assert losses_of(run) == losses_of(trained)
        assert run.recipe == recipe
        await watch(run)
        assert losses_of(run) == losses_alone(recipe)

    go(story())


def test_a_diverged_run_is_created_as_such(mortals: Mortals) -> None:
    async def story() -> None:
        recipe = LESSON.recipe({"learning_rate": 10})
        run = await make(recipe)
        last = (await watch(run))[-1]
        assert last.state is State.DIVERGED
        again = await make(recipe, last.encoded.step)
        assert (again.state, again.frame.message) == (State.DIVERGED, last.message)
        assert (await make(recipe, last.encoded.step - 1)).state is State.PAUSED

    go(story())


def test_a_run_stopped_at_once_is_done(mortals: Mortals) -> None:
    async def story() -> None:
        run = await make(Recipe("regression", LESSON.config(), (), 0))
        assert [(frame.state, frame.encoded.step) for frame in await watch(run)] == [(State.DONE, 0)]

    go(story())


@pytest.mark.parametrize(
    ("recipe", "step", "told"),
    [
        (LESSON.recipe({"steps": 5}), 6, "step must be at most 5, the steps of this run, not 6."),
        (
            Recipe("regression", LESSON.config.parse({"steps": 5}), (), 6),
            0,
            "stop must be at most 5, the steps of this run",
        ),
        (
            Recipe("regression", LESSON.config.parse({"steps": 5}), CHANGES),
            0,
            "changes must be at most 5, the steps of this run",
        ),
    ],
)
def test_what_lies_beyond_the_end_of_a_run_is_refused(recipe: Recipe, step: int, told: str, mortals: Mortals) -> None:
    async def story() -> None:
        with pytest.raises(SettingError, match=told):
            await make(recipe, step)
        assert await mortals.idle()

    go(story())


# What training again may cost.


def test_training_again_takes_a_place_and_waits_for_it(mortals: Mortals, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(admission, "MOST_TRAINING", 1)

    async def story() -> None:
        with Place("other"):
            creating = asyncio.create_task(make(step=5))
            while not admission.waiting_count():
                await asyncio.sleep(0)
            assert not creating.done()
        run = await creating
        assert admission.training_count() == 0
        mortals.kill()
        with Place("other"):
            stepping = asyncio.create_task(run.step())  # a step alone takes no place, but training again does
            while not admission.waiting_count():
                await asyncio.sleep(0)
        assert (await stepping).encoded.step == 6
        mortals.kill()
        with Place("other"), monkeypatch.context() as patched:
            patched.setattr(admission, "LONGEST_LINE", 0)
            with pytest.raises(FullError):
                await run.step()
        assert run.state is State.PAUSED
        assert (await run.step()).encoded.step == 7

    go(story())


def test_a_run_that_has_a_place_is_trained_again_in_it(mortals: Mortals, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(admission, "MOST_TRAINING", 1)
    mortals.die_at(("advance", 5))

    async def story() -> None:
        run = await make()
        with Place("mine"):
            assert (await watch(run))[-1].state is State.DONE

    go(story())


def test_training_again_is_charged_to_the_address(mortals: Mortals, monkeypatch: pytest.MonkeyPatch) -> None:
    allowance = Allowance(60, lambda: 0.0)
    monkeypatch.setattr(turns, "training", allowance)

    async def story() -> None:
        turns.address.set("192.0.2.1")
        await make(step=5)

    go(story())
    assert 0 < allowance.used("192.0.2.1") < 10


@pytest.fixture
def long(monkeypatch: pytest.MonkeyPatch) -> None:
    """Slices of one step, and no processor time for training again."""
    monkeypatch.setattr(run_module, "SLICE_SECONDS", 0.0)
    monkeypatch.setattr(run_module, "SHORTEST_SLICE", 0.0)
    monkeypatch.setattr(run_module, "REPLAY_SECONDS", 0.0)


@pytest.mark.usefixtures("long")
def test_training_again_for_too_long_is_given_up(mortals: Mortals) -> None:
    async def story() -> None:
        with pytest.raises(TooLongError):
            await make(step=5)
        assert await mortals.idle()
        run = await make()
        mortals.die_at(("advance", 9))
        frame = (await watch(run))[-1]
        assert (frame.state, frame.message) == (State.ERROR, TOO_LONG)
        assert await mortals.idle()

    go(story())


@pytest.mark.parametrize("turns_of_the_loop", range(0, 12, 2))
def test_whoever_leaves_while_a_run_is_trained_again_leaves_nothing_behind(
    turns_of_the_loop: int, mortals: Mortals, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(run_module, "SLICE_SECONDS", 0.0)
    monkeypatch.setattr(run_module, "SHORTEST_SLICE", 0.0)

    async def story() -> None:
        creating = asyncio.create_task(make(step=STEPS))
        for _ in range(turns_of_the_loop):
            await asyncio.sleep(0)
        creating.cancel()
        with pytest.raises(asyncio.CancelledError):
            await creating
        assert await mortals.idle()

    go(story())


@pytest.mark.parametrize("turns_of_the_loop", range(0, 12, 2))
def test_a_run_that_is_abandoned_while_it_is_trained_again_leaves_nothing_behind(
    turns_of_the_loop: int, mortals: Mortals, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(run_module, "SLICE_SECONDS", 0.0)
    monkeypatch.setattr(run_module, "SHORTEST_SLICE", 0.0)

    async def story() -> None:
        run = await make(step=10)
        mortals.kill()
        stepping, drawing = asyncio.create_task(run.step()), asyncio.create_task(run.draw("en"))
        for _ in range(turns_of_the_loop):
            await asyncio.sleep(0)
        run.abandon()
        assert (await stepping).encoded.step == 10
        with pytest.raises(LostError, match="the run is over"):
            await drawing
        assert await mortals.idle()

    go(story())
    assert "run failed" not in caplog.text


# Changes.


def test_a_change_while_a_run_trains_is_recorded_at_its_step_and_trained_again_with_equal_losses(
    mortals: Mortals,
) -> None:
    async def story() -> None:
        run = await make()
        run.start()
        async for frame in run.frames():
            if frame.encoded.step == 5:
                await run.change("learning_rate", 0.05)
            if frame.encoded.step == 9:
                await run.change("net.hidden.weight.3.0", 0.8)
                mortals.kill()
        assert run.recipe.changes == (Change(5, "learning_rate", 0.05), Change(9, "net.hidden.weight.3.0", 0.8))
        assert run.config == LESSON.config.parse({"steps": STEPS, "learning_rate": 0.05})
        assert run.recipe.settings == LESSON.config.parse({"steps": STEPS})  # those at the start
        assert losses_of(run) == losses_alone(run.recipe) != losses_alone(LESSON.recipe({"steps": STEPS}))
        assert read_recipe(json.loads(json.dumps(run.recipe.to_dict()))) == run.recipe

    go(story())


def test_a_run_stopped_before_a_change_of_its_recipe_has_none(mortals: Mortals) -> None:
    async def story() -> None:
        run = await make(Recipe("regression", LESSON.config(), CHANGES))
        for _ in range(5):
            await run.step()
        await run.stop()
        assert run.recipe == Recipe("regression", LESSON.config(), CHANGES[:1], 5) == trainer_of(run).recipe

    go(story())


def test_a_run_that_is_done_is_not_changed(mortals: Mortals) -> None:
    async def story() -> None:
        run = await make(speed=0)
        await watch(run)
        await run.change("learning_rate", 0.1)
        assert run.recipe == LESSON.recipe({"steps": STEPS})
        run.state = State.RUNNING  # as if its last step was just being taken
        await run.change("net.hidden.weight.0.0", 100.0)
        assert run.recipe == trainer_of(run).recipe == LESSON.recipe({"steps": STEPS})

    go(story())


def test_a_bad_change_and_one_too_many_are_refused_and_the_run_goes_on(mortals: Mortals) -> None:
    async def story() -> None:
        run = await make()
        await run.step()
        for name, value in (("steps", 5), ("learning_rate", float("nan")), ("net.none.0", 1.0), ("seed", 3)):
            with pytest.raises(SettingError):
                await run.change(name, value)
        for number in range(MAX_CHANGES):
            await run.change("learning_rate", 0.1 + number / 1000)
        assert MAX_CHANGES == 100
        with pytest.raises(SettingError, match="changes must be at most 100 in a run, not 101"):
            await run.change("learning_rate", 0.1)
        assert len(run.recipe.changes) == 100
        mortals.kill()
        assert (await watch(run))[-1].state is State.DONE
        assert losses_of(run) == losses_alone(run.recipe)

    go(story())


def test_another_view_outlives_the_worker(mortals: Mortals) -> None:
    lesson = TRAININGS["optimizers"]

    async def story() -> None:
        run = await make(lesson.recipe({"epochs": 1}))
        await run.step()
        viewed = lesson.config.parse({"epochs": 1, "scale": "log"})
        before = await run.change_view(viewed)
        mortals.kill()
        await run.step()
        assert run.config == run.recipe.settings == viewed
        assert run.chart_setup.structure == before.structure
        assert '"LogScale"' in before.structure
        assert run.frame.chart == run.chart_setup.frame.chart != before.frame.chart

    go(story())
