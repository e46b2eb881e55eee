"""Worker processes: what they answer, and what becomes of runs and calls when one is lost."""

import asyncio
import os
import pickle
import signal
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from charts.chart import Chart
from charts.text import Text
from export.cases import BrokenFileError, ExportError, NonFiniteError
from lab.settings import SettingError
from lab.training import Trainer
from nets import TRAININGS
from runs import pool
from runs.engine import Engine
from runs.pool import Client, LostError, Pool, Worker
from runs.run import Run, State, preview
from runs.worker import LENGTH
from tests.client import until
from tests.test_runs import go, runner_of, watch

LESSON = TRAININGS["regression"]

Story = Callable[[Pool], Awaitable[None]]


@pytest.fixture(autouse=True)
def prompt_workers(monkeypatch: pytest.MonkeyPatch) -> None:
    """Workers that need not warm up, so that these tests need not wait for it."""
    monkeypatch.setattr(pool, "WARM_UP_ORDER", [])


def with_workers(size: int, story: Story) -> None:
    async def told() -> None:
        async with pool.opened(size) as opened:
            assert opened is not None
            while len(opened.workers) < size:
                await opened.least_busy()
                await asyncio.sleep(0.01)
            await story(opened)

    go(told())


async def replaced(opened: Pool, lost: Worker) -> Worker:
    """The worker that has come for the one that was lost."""
    async with asyncio.timeout(30):
        while True:
            worker = await opened.least_busy()
            if worker is not lost:
                return worker
            await asyncio.sleep(0.01)


def test_a_run_learns_the_same_in_a_worker_as_anywhere() -> None:
    async def story(opened: Pool) -> None:
        run = await Run.create(LESSON.recipe({"steps": 30}))
        assert isinstance(runner_of(run), Worker)
        frame = (await watch(run))[-1]
        alone = Trainer(LESSON, LESSON.recipe({"steps": 30}))
        while not alone.done:
            alone.step()
        assert frame.encoded.metrics == alone.snapshot().metrics

    with_workers(1, story)


def test_runs_are_spread_over_the_workers_and_stay_where_they_are() -> None:
    async def story(opened: Pool) -> None:
        runs = await asyncio.gather(*(Run.create(LESSON.recipe({"steps": 5})) for _ in range(6)))
        assert [worker.runs for worker in opened.workers] == [3, 3]
        homes = [runner_of(run) for run in runs]
        await asyncio.gather(*map(watch, runs))
        assert [runner_of(run) for run in runs] == homes
        for run in runs:
            run.abandon()
        assert [worker.runs for worker in opened.workers] == [0, 0]

    with_workers(2, story)


def test_what_a_method_raises_is_raised_where_it_was_called() -> None:
    async def story(opened: Pool) -> None:
        worker = await opened.least_busy()
        with pytest.raises(KeyError, match="7"):
            await Client(worker).call(Engine.frame, 7)
        with pytest.raises(SettingError, match="steps must be a whole number"):
            await Client(worker).call(Engine.begin, 1, {"lesson": "regression", "settings": {"steps": 0}})
        await worker.ping(10)

    with_workers(1, story)


@pytest.mark.parametrize(
    "error",
    [
        BrokenFileError("net.onnx", "is no model"),
        NonFiniteError(Text("no", "不")),
        ExportError("Net holds a lambda"),
        SettingError("steps", Text("a number", "数"), [3]),
    ],
    ids=lambda error: type(error).__name__,
)
def test_what_an_engine_raises_for_visitors_comes_whole_out_of_a_worker(error: Exception) -> None:
    come = pickle.loads(pickle.dumps(error))
    assert (type(come), str(come)) == (type(error), str(error))
    assert vars(come) == vars(error)


def test_an_answer_that_cannot_be_read_costs_a_worker_and_not_its_place(caplog: pytest.LogCaptureFixture) -> None:
    async def story(opened: Pool) -> None:
        worker = await opened.least_busy()
        asked = asyncio.create_task(Client(worker).call(Engine.ping))
        await asyncio.sleep(0)
        worker._answers.feed_data(LENGTH.pack(3) + b"bad")
        with pytest.raises(LostError):
            await asked
        await replaced(opened, worker)
        assert "answer not read" in caplog.text

    with_workers(1, story)


def test_runs_go_on_when_a_worker_is_killed_and_it_is_replaced() -> None:
    async def story(opened: Pool) -> None:
        runs = [await Run.create(LESSON.recipe({"steps": 60})) for _ in range(2)]
        for run in runs:
            run.speed = 1
        lost = opened.workers[0]
        watching = [asyncio.create_task(watch(run)) for run in runs]
        while min(run.frame.encoded.step for run in runs) < 5:
            await asyncio.sleep(0.01)
        os.kill(lost.pid, signal.SIGKILL)
        frames = [(await each)[-1] for each in watching]
        assert [(frame.state, frame.encoded.step) for frame in frames] == [(State.DONE, 60)] * 2
        assert frames[0].encoded.metrics == frames[1].encoded.metrics
        async with asyncio.timeout(60):
            while len(opened.workers) < 2:
                await asyncio.sleep(0.01)

    with_workers(2, story)


def test_a_worker_that_hangs_is_found_out_and_replaced(monkeypatch: pytest.MonkeyPatch) -> None:
    async def story(opened: Pool) -> None:
        run = await Run.create(LESSON.recipe({"steps": 20}))
        run.speed = 1
        hung = await opened.least_busy()
        watching = asyncio.create_task(watch(run))
        os.kill(hung.pid, signal.SIGSTOP)
        assert (await watching)[-1].state is State.DONE
        assert (await replaced(opened, hung)).pid != hung.pid
        with pytest.raises(LostError):
            await Client(hung).call(Engine.ping)

    monkeypatch.setattr(pool, "ANSWER_TIMEOUT", 2)
    with_workers(1, story)


def test_what_needs_no_run_is_asked_of_another_worker() -> None:
    async def story(opened: Pool) -> None:
        worker = await opened.least_busy()
        os.kill(worker.pid, signal.SIGSTOP)  # the call is on its way, and is never answered
        asked = asyncio.create_task(preview(LESSON.recipe()))
        await asyncio.sleep(0)
        os.kill(worker.pid, signal.SIGKILL)
        assert (await asked).frame.encoded.step == 0

    with_workers(1, story)


def test_a_worker_that_takes_too_long_aside_is_replaced(monkeypatch: pytest.MonkeyPatch) -> None:
    async def story(opened: Pool) -> None:
        worker = await opened.least_busy()
        with monkeypatch.context() as patched:
            patched.setattr(pool, "BACKGROUND_TIMEOUT", 0)
            with pytest.raises(LostError, match="draw did not end"):
                await Client(worker).call(Engine.draw, Chart(()), "en")
        assert not worker.alive
        assert (await replaced(opened, worker)).alive

    with_workers(1, story)


def test_a_call_aside_that_never_ends_costs_its_worker_though_its_caller_has_gone(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def story(opened: Pool) -> None:
        worker = await opened.least_busy()
        await Client(worker).call(Engine.draw, Chart(()), "en")  # after the one that warms it up
        monkeypatch.setattr(pool, "BACKGROUND_TIMEOUT", 0.2)
        os.kill(worker.pid, signal.SIGSTOP)
        gone = asyncio.create_task(Client(worker).call(Engine.draw, Chart(()), "en"))
        await asyncio.sleep(0)
        gone.cancel()
        with pytest.raises(LostError):  # and whoever waits for its thread is told
            await asyncio.wait_for(Client(worker).call(Engine.draw, Chart(()), "en"), 10)
        assert not worker.alive

    with_workers(1, story)


def test_nothing_is_kept_of_a_call_aside_that_is_answered() -> None:
    async def story(opened: Pool) -> None:
        worker = await opened.least_busy()
        await Client(worker).call(Engine.draw, Chart(()), "en")
        assert not worker._deadlines
        assert not worker._waiting

    with_workers(1, story)


def test_workers_end_with_the_pool() -> None:
    pids: list[int] = []

    async def story(opened: Pool) -> None:
        pids.extend(worker.pid for worker in opened.workers)

    with_workers(2, story)
    assert len(pids) == 2
    until(lambda: not any(Path(f"/proc/{pid}").exists() for pid in pids))


def test_without_a_pool_runs_train_in_this_process() -> None:
    async def story() -> None:
        async with pool.opened(0) as opened:
            assert opened is None
            assert isinstance(await pool.runner(), pool.InProcessRunner)
            assert pool.workers() == []

    go(story())
