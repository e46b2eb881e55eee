"""A live run: its states, its pace, and what becomes of it when its visitor leaves."""

import asyncio
import io
import threading
import time
import zipfile
from collections.abc import Awaitable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace
from typing import Any, TypeVar

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from export import bundle, graph
from export.bundle import Draft
from lab.experiment import Learner
from lab.lesson import Computation, Snapshot
from lab.recipe import Recipe
from lab.training import Trainer
from nets import LESSONS, TRAININGS
from runs import pool, registry
from runs import run as run_module
from runs.engine import Engine
from runs.pool import Runner
from runs.run import FULL_SPEED, Frame, Run, State, preview

T = TypeVar("T")
LESSON = TRAININGS["regression"]


def go(work: Awaitable[T]) -> T:
    async def awaited() -> T:
        return await work

    # In a thread of its own: in this one, Playwright keeps an event loop running between tests.
    with ThreadPoolExecutor(1) as thread:
        return thread.submit(lambda: asyncio.run(awaited())).result()


async def make(speed: int = FULL_SPEED, **settings: float) -> Run:
    run = await Run.create(LESSON.recipe(settings))
    run.speed = speed
    return run


def runner_of(run: Run) -> Runner:
    """The runner that has the run's nets."""
    assert run._client is not None
    return run._client.runner


def trainer_of(run: Run) -> Trainer:
    """A run of these tests trains in this process."""
    runner = runner_of(run)
    assert isinstance(runner, pool.InProcessRunner)
    return runner.engine._runs[run._number].trainer


async def watch(run: Run) -> list[Frame]:
    run.start()
    return [frame async for frame in run.frames()]


def test_a_run_is_idle_then_running_then_done() -> None:
    async def states() -> list[State]:
        run = await make(speed=1, steps=3)
        return [run.state, *(frame.state for frame in await watch(run))]

    assert go(states()) == [State.IDLE, State.RUNNING, State.RUNNING, State.DONE]


@pytest.mark.parametrize(("speed", "frames"), [(1, 20), (5, 4), (20, 1)])
def test_the_speed_is_the_steps_of_a_frame(speed: int, frames: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run_module, "FRAME_SECONDS", 0.1)  # a frame on a busy machine may be cut short

    async def steps() -> list[int]:
        return [frame.encoded.step for frame in await watch(await make(speed=speed, steps=20))]

    assert go(steps()) == [speed * (i + 1) for i in range(frames)]


class Clock:
    """Time that passes only while somebody sleeps or trains: a slice takes `training` seconds."""

    def __init__(self, training: float, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 0.0
        sleep, train = asyncio.sleep, Engine.advance

        async def slept(seconds: float) -> None:
            self.now += max(0.0, seconds)
            await sleep(0)

        def advance(engine: Engine, number: int, most: int, seconds: float, due: float) -> Any:
            self.now += training
            return train(engine, number, most, 60, due)

        monkeypatch.setattr(asyncio, "sleep", slept)
        monkeypatch.setattr(Engine, "advance", advance)
        monkeypatch.setattr(run_module, "time", SimpleNamespace(monotonic=lambda: self.now, time_ns=time.time_ns))


@pytest.mark.parametrize(("training", "interval"), [(0.0, 1 / 25), (0.03, 1 / 25), (0.1, 0.1)])
def test_frames_come_25_times_a_second_or_as_fast_as_the_net_trains(
    training: float, interval: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = Clock(training, monkeypatch)

    async def times() -> list[float]:
        run = await make(speed=1, steps=25)
        run.start()
        return [clock.now async for _ in run.frames()]

    seen = go(times())
    assert len(seen) == 25
    assert np.diff(seen) == pytest.approx([interval] * 24)


def test_pausing_holds_the_run_and_going_on_ends_it() -> None:
    async def story() -> None:
        run = await make(speed=1, steps=10)
        seen = []
        run.start()
        async for frame in run.frames():
            seen.append(frame.state)
            if frame.encoded.step == 4:
                run.pause()
        assert seen[-1] is State.PAUSED
        assert run.frame.encoded.step == 4
        assert (await run.step()).encoded.step == 5
        assert (await watch(run))[-1].state is State.DONE

    go(story())


def test_stopping_counts_as_done() -> None:
    async def story() -> None:
        run = await make(speed=1, steps=10)
        await run.step()
        frame = await run.stop()
        assert (frame.state, frame.encoded.step, frame.steps) == (State.DONE, 1, 10)

    go(story())


def test_a_run_that_is_over_stays_as_it_is() -> None:
    async def story() -> None:
        run = await make(steps=2)
        await watch(run)
        assert (await run.step()).encoded.step == 2
        assert await watch(run) == []
        run.pause()
        assert (await run.stop()).state is State.DONE

    go(story())


def test_commands_that_come_at_once_do_not_disturb_each_other() -> None:
    async def story() -> None:
        run = await make(speed=1, steps=8)
        await asyncio.gather(watch(run), run.step(), watch(run), run.step())
        await watch(run)  # a step among them may have left it paused
        assert run.state is State.DONE
        assert run.frame.encoded.step == 8

    go(story())


def test_a_diverging_run_ends_so_with_advice() -> None:
    frame = go(watch_one(learning_rate=10))[-1]
    assert frame.state is State.DIVERGED
    assert "Try a smaller learning rate" in frame.message.en


async def watch_one(**settings: float) -> list[Frame]:
    return await watch(await make(FULL_SPEED, **settings))


def test_a_run_stopped_when_its_loss_had_overflowed_counts_as_diverged() -> None:
    async def story() -> State:
        run = await make(learning_rate=10)
        while trainer_of(run).step_number < 14:
            await run.step()
        return (await run.stop()).state

    assert go(story()) is State.DIVERGED


def test_a_run_too_slow_for_the_pace_still_moves_on_with_every_frame(monkeypatch: pytest.MonkeyPatch) -> None:
    async def steps() -> list[int]:
        run = await make(speed=1, steps=6)
        look = trainer_of(run).snapshot

        def slow_look(*asked: Any) -> Snapshot:
            time.sleep(0.06)  # longer than a frame may take
            return look(*asked)

        monkeypatch.setattr(trainer_of(run), "snapshot", slow_look)
        return [frame.encoded.step for frame in await watch(run)]

    assert go(steps()) == [1, 2, 3, 4, 5, 6]


def test_an_abandoned_run_does_not_come_back() -> None:
    async def story() -> None:
        run = await make(steps=5)
        run.abandon()
        assert await watch(run) == []
        assert (await run.step()).encoded.step == 0

    go(story())


def test_steps_asked_for_at_once_past_the_last_end_the_run_well() -> None:
    async def story() -> State:
        run = await make(steps=1)
        await run.step()
        run.state = State.PAUSED  # as a second click would have found it
        return (await run.step()).state

    assert go(story()) is State.DONE


@pytest.mark.parametrize("at_hand", [True, False])
def test_a_graph_that_is_missing_is_exported_before_and_not_where_nets_train(
    at_hand: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    threads: list[str] = []

    def noted(*_: object) -> None:
        threads.append(threading.current_thread().name)

    monkeypatch.setattr(bundle, "is_prepared", lambda trainer: at_hand)
    monkeypatch.setattr(bundle, "prepare", noted)
    checked = Draft.check

    def check(self: Draft, learner: Learner) -> None:
        noted()
        checked(self, learner)

    monkeypatch.setattr(Draft, "check", check)

    async def story() -> None:
        run = await make(steps=2)
        await watch(run)
        await run.export(tmp_path)

    go(story())
    assert [name.startswith("trainer") for name in threads] == ([True] if at_hand else [False, True])


def test_only_one_is_told_to_export() -> None:
    async def story() -> list[bool]:
        run = await make(steps=1)
        early = run.claim_export()
        await watch(run)
        return [early, run.claim_export(), run.claim_export()]

    assert go(story()) == [False, True, False]


def test_an_error_ends_this_run_and_is_told_without_its_insides(monkeypatch: pytest.MonkeyPatch) -> None:
    async def story() -> Frame:
        run = await make()
        monkeypatch.setattr(trainer_of(run), "step", lambda: 1 / 0)
        return (await watch(run))[-1]

    frame = go(story())
    assert frame.state is State.ERROR
    assert "division" not in frame.message.en
    assert "Press Train" in frame.message.en


def test_leaving_the_frames_pauses_the_run() -> None:
    async def story() -> State:
        run = await make(speed=1)
        run.start()
        frames = run.frames()
        await anext(frames)
        await frames.aclose()
        return run.state

    assert go(story()) is State.PAUSED


def test_only_the_latest_iterator_drives_a_run() -> None:
    async def story() -> None:
        run = await make(speed=1, steps=30)
        run.start()
        first = run.frames()
        await anext(first)
        run.pause()
        run.start()
        second = run.frames()
        await anext(second)
        assert [frame async for frame in first] == []
        assert run.state is State.RUNNING
        assert [frame async for frame in second][-1].state is State.DONE

    go(story())


def test_runs_side_by_side_end_with_the_weights_of_each_alone() -> None:
    async def together() -> list[Frame]:
        runs = [await make(speed=7, seed=seed) for seed in (1, 2, 3)]
        return [frames[-1] for frames in await asyncio.gather(*map(watch, runs))]

    for frame, seed in zip(go(together()), (1, 2, 3), strict=True):
        alone = Trainer(LESSON, LESSON.recipe({"seed": seed}))
        while not alone.done:
            alone.step()
        assert frame.encoded.metrics == alone.snapshot().metrics


def test_a_long_run_leaves_others_their_turn() -> None:
    async def story() -> bool:
        long, short = await make(steps=2000, hidden_units=100, points=1000), await make(steps=10)
        working = asyncio.create_task(watch(long))
        await watch(short)
        done_first = long.state is State.RUNNING
        long.pause()
        await working
        return done_first

    assert go(story())


def test_a_run_exports_what_it_learned(tmp_path: Path) -> None:
    async def story() -> None:
        run = await make(steps=5)
        await watch(run)
        (made,), archive = await run.export(tmp_path)
        assert zipfile.is_zipfile(io.BytesIO(archive))
        assert made.parity.passed
        net = torch.load(made.folder / "net_params.pkl")
        assert torch.equal(net["hidden.weight"], trainer_of(run).learners[0].net.state_dict()["hidden.weight"])

    go(story())


def test_first_exports_at_once_hold_up_neither_training_nor_the_page_and_each_graph_is_exported_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    free, exported = threading.Event(), list[str]()
    shipped = graph._shipped()

    def export(net: nn.Module, x: Tensor) -> Any:
        exported.append(graph._cache_key(net, x))
        if len(exported) > 1:
            assert free.wait(60)
        return shipped[graph.architecture(net)]

    monkeypatch.setattr(bundle, "_plot", lambda *_: b"")  # which takes longer than all the rest
    monkeypatch.setattr(graph, "_shipped", dict)
    monkeypatch.setattr(graph, "_exported", {})
    monkeypatch.setattr(graph, "_export_in_subprocess", export)

    async def story() -> None:
        runs = [await make(steps=2, hidden_units=2 + number // 2) for number in range(8)]
        other = await make(speed=1, steps=2)
        for run in runs:
            await watch(run)
        exports = [asyncio.create_task(run.export(tmp_path / str(number))) for number, run in enumerate(runs)]
        try:
            async with asyncio.timeout(60):  # the first of them, another's training, and what else is done in threads
                await asyncio.wait(exports, return_when=asyncio.FIRST_COMPLETED)
                assert (await watch(other))[-1].state is State.DONE
                assert await asyncio.to_thread(lambda: "page") == "page"
        finally:
            free.set()
        await asyncio.gather(*exports)

    go(story())
    assert len(exported) == len(set(exported)) == 4


async def make_race(**settings: Any) -> Run:
    lesson = TRAININGS["optimizers"]
    run = await Run.create(lesson.recipe(settings))
    run.speed = 1
    return run


def test_looking_in_another_way_goes_on_with_the_same_run_as_another_picture() -> None:
    async def story() -> None:
        run = await make_race(epochs=1)
        before = await run.step()
        after = await run.change_view(run.lesson.config.parse({"epochs": 1, "scale": "log"}))
        assert after is run.chart_setup
        assert after.frame.chart != before.chart  # frames of the old chart are too late
        assert after.frame.encoded.step == 1
        assert '"LogScale"' in after.structure
        frames = await watch(run)
        assert {frame.chart for frame in frames} == {after.frame.chart}
        assert frames[-1].state is State.DONE

    go(story())


def test_another_view_changes_nothing_of_what_is_learned() -> None:
    async def losses(*, looked: bool) -> list[float]:
        run = await make_race(epochs=1)
        run.start()
        async for frame in run.frames():
            if looked and frame.encoded.step == 3:
                await run.change_view(run.lesson.config.parse({"epochs": 1, "smoothed": True}))
        return trainer_of(run).learners[0].losses

    assert go(losses(looked=True)) == go(losses(looked=False))


def test_settings_of_another_run_are_no_other_view_of_this_one() -> None:
    async def story() -> None:
        run = await make(steps=5)
        with pytest.raises(ValueError, match="only views can change"):
            await run.change_view(LESSON.config.parse({"steps": 6}))

    go(story())


def test_what_is_computed_leaves_the_random_numbers_of_the_process_alone() -> None:
    lesson = LESSONS["random"]
    assert isinstance(lesson, Computation)
    before = torch.get_rng_state()
    one, two = (go(preview(Recipe(lesson.key, lesson.config()))) for _ in range(2))
    assert torch.equal(torch.get_rng_state(), before)
    assert one.frame.encoded.body == two.frame.encoded.body


@pytest.fixture
def runs() -> list[Run]:
    return [go(make(steps=3)) for _ in range(3)]


def test_a_visitor_has_one_run_of_a_lesson(runs: list[Run]) -> None:
    registry.put("me", 1, runs[0])
    registry.put("me", 2, runs[1])
    assert registry.current("me", "regression") is runs[1]
    assert registry.current("me", "regression", 2) is runs[1]
    assert registry.current("me", "regression", 1) is None
    assert runs[0].is_over
    assert registry.current("you", "regression") is None
    assert registry.current("me", "classification") is None
    registry.close("me")
    assert registry.current("me", "regression") is None


def test_closing_the_page_ends_its_runs_and_no_others() -> None:
    async def story() -> None:
        mine, yours = await make(speed=1), await make(speed=1, steps=5)
        registry.put("me", 1, mine)
        registry.put("you", 1, yours)
        watching = asyncio.create_task(watch(mine))
        yours.start()
        await anext(yours.frames())
        registry.close("me")
        assert State.IDLE not in [frame.state for frame in await watching]
        assert mine.frame.encoded.step < 100
        assert registry.current("you", "regression") is yours
        registry.close("you")

    go(story())


def test_beyond_the_limit_the_run_that_was_used_least_recently_is_deleted_unless_it_is_watched(
    runs: list[Run], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(registry, "MOST_RUNS", 2)
    runs[0].watchers = 1
    for name, run in zip("abc", runs, strict=True):
        registry.put(name, 1, run)
    assert [registry.current(name, "regression") for name in "abc"] == [runs[0], None, runs[2]]
    assert [run.is_over for run in runs] == [False, True, False]
    assert registry.count() == 2
    for name in "abc":
        registry.close(name)
    assert registry.count() == 0
