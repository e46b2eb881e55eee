"""What becomes of many at once: places to train, the line for them, the pace of frames, and runs that stand idle."""

import asyncio
from types import SimpleNamespace

import gradio as gr
import pytest
from gradio.context import LocalContext
from starlette.datastructures import Headers

from lab.settings import Choices
from lab.training import Trainer
from nets import TRAININGS
from runs import admission, pace, pool, registry
from runs import run as run_module
from runs.admission import FullError, Place
from runs.engine import Engine
from runs.run import Run, State
from server import event_limits
from tests.test_runs import go, make, trainer_of, watch

LESSON = TRAININGS["regression"]


@pytest.fixture
def three_places(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(admission, "MOST_TRAINING", 3)
    monkeypatch.setattr(admission, "MOST_TRAINING_OF_ADDRESS", 2)
    monkeypatch.setattr(admission, "LONGEST_LINE", 4)
    monkeypatch.setattr(admission, "LONGEST_LINE_OF_ADDRESS", 3)


def enter(addresses: str) -> list[Place]:
    return [Place(address).__enter__() for address in addresses]


def leave(*places: Place) -> None:
    for place in places:
        place.__exit__()


@pytest.mark.usefixtures("three_places")
def test_an_address_has_no_more_than_its_share_and_others_pass_it() -> None:
    places = enter("aaab")
    assert [place.rank for place in places] == [0, 0, 1, 0]
    leave(places[3])
    assert places[2].rank == 1  # a place is free, and not for this address
    leave(places[0])
    assert places[2].rank == 0
    leave(*places[1:3])
    assert admission.training_count() == admission.waiting_count() == 0


@pytest.mark.usefixtures("three_places")
def test_who_waits_sees_the_line_move() -> None:
    places = enter("aabcdd")
    assert [place.rank for place in places] == [0, 0, 0, 1, 2, 3]
    assert (admission.training_count(), admission.waiting_count()) == (3, 3)
    places[5].moved.clear()
    leave(places[2])
    assert [place.rank for place in places[3:]] == [0, 1, 2]
    assert places[5].moved.is_set()
    leave(places[4])  # gives up
    assert places[5].rank == 1
    leave(places[0], places[1], places[3], places[5])


@pytest.mark.usefixtures("three_places")
def test_a_line_that_is_full_refuses_the_next_and_one_address_cannot_fill_it() -> None:
    places = enter("aaaaa")
    with pytest.raises(FullError):
        Place("a").__enter__()
    places += enter("bc")
    with pytest.raises(FullError):
        Place("d").__enter__()
    leave(*places)


@pytest.mark.usefixtures("three_places")
def test_a_place_is_waited_for() -> None:
    async def story() -> None:
        first, second = enter("aa")
        with Place("a") as third:
            waiting = asyncio.create_task(third.ready())
            await asyncio.sleep(0)
            assert not waiting.done()
            leave(first)
            await asyncio.wait_for(waiting, 5)
        leave(second)

    go(story())


def test_a_slower_pace_has_fewer_frames_and_as_many_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run_module, "FRAME_SECONDS", 0.05)
    monkeypatch.setattr(pace, "_stretches", {"": 2.5})

    async def steps(speed: int) -> list[int]:
        return [frame.encoded.step for frame in await watch(await make(speed=speed, steps=20))]

    assert go(steps(1)) == [2, 5, 7, 10, 12, 15, 17, 20]
    assert go(steps(5)) == [12, 20]


def test_the_pace_is_kept_until_it_is_cancelled(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pace, "PROBE_SECONDS", 0.0)
    monkeypatch.setattr(pool, "workers", lambda: [SimpleNamespace(delays=lambda: {"a": 1.0})])

    async def story() -> None:
        keeping = asyncio.create_task(pace.keep())
        async with asyncio.timeout(30):
            while not pace.is_busy("a"):
                await asyncio.sleep(0)
        keeping.cancel()
        await asyncio.wait([keeping])
        assert pace.largest_stretch() == 1.0

    go(story())


def test_a_run_left_alone_is_deleted_and_its_memory_is_free(monkeypatch: pytest.MonkeyPatch) -> None:
    async def story() -> None:
        run = await make()
        engine, number = pool._in_process.engine, run._number
        registry.put("idle", 1, run)
        await run.step()
        registry.delete_idle()
        assert registry.current("idle", "regression") is run  # it was used just now
        monkeypatch.setattr(registry, "IDLE_SECONDS", -1)
        registry.delete_idle()
        assert registry.current("idle", "regression") is None
        assert run.is_over
        await pool.Client(pool._in_process).call(Engine.ping)
        assert number not in engine._runs

    go(story())


def test_a_run_that_somebody_watches_is_never_deleted_and_one_that_nobody_does_is(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def story() -> None:
        watched, left = await make(speed=1, steps=5), await make(speed=1, steps=5)
        for name, run in (("busy", watched), ("left", left)):
            registry.put(name, 1, run)
            run.start()
        watched.watchers = 1
        monkeypatch.setattr(registry, "IDLE_SECONDS", -1)
        registry.delete_idle()
        assert left.is_over
        assert [frame async for frame in watched.frames()][-1].state is State.DONE
        registry.close("busy")
        assert registry.count() == 0

    go(story())


@pytest.mark.parametrize("key", TRAININGS)
def test_the_largest_run_of_a_lesson_has_a_ceiling(key: str) -> None:
    lesson = TRAININGS[key]
    controls = lesson.config.controls()
    numbers = {name: control.maximum for name, control in controls.items() if hasattr(control, "maximum")}
    several = {name: list(control.options) for name, control in controls.items() if isinstance(control, Choices)}
    trainer = Trainer(lesson, lesson.recipe({**numbers, **{n: o for n, o in several.items() if o}}))
    parameters = sum(each.numel() for learner in trainer.learners for each in learner.net.parameters())
    assert trainer.steps <= 2_000
    assert len(trainer.experiment.train.x) + len(trainer.experiment.test.x) <= 3_000
    assert parameters <= 200_000


def test_another_visitors_run_cannot_be_had_by_its_lesson() -> None:
    async def story() -> None:
        run = await make(steps=3)
        registry.put("one", 1, run)
        assert registry.current("two", "regression") is None
        assert trainer_of(run).step_number == 0
        registry.close("two")
        assert registry.current("one", "regression") is run
        registry.close("one")

    go(story())


def test_what_an_address_asks_for_beyond_its_share_waits_and_others_do_not() -> None:
    async def story() -> list[str]:
        shares, done = admission.Shares(1), []
        free = asyncio.Event()

        async def work(whose: str, *, waits: bool) -> None:
            async with shares.of(whose):
                if waits:
                    await free.wait()
                done.append(whose)

        first = asyncio.create_task(work("a", waits=True))
        await asyncio.sleep(0)
        second = asyncio.create_task(work("a", waits=False))
        await work("b", waits=False)
        free.set()
        await asyncio.gather(first, second)
        return done

    assert go(story()) == ["b", "a", "a"]


def request_of(host: str) -> gr.Request:
    return gr.Request(client=SimpleNamespace(host=host), headers=Headers())


def test_an_address_has_so_many_events_at_once_and_others_have_theirs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(event_limits, "EVENTS_PER_ADDRESS", 2)

    async def story() -> None:
        free = asyncio.Event()

        async def handler() -> str:
            await free.wait()
            return "done"

        async def ask(host: str) -> object:
            LocalContext.request.set(request_of(host))
            return await event_limits.limited(handler)()

        asked = [asyncio.create_task(ask(host)) for host in ("a", "a", "b")]
        await asyncio.sleep(0)
        with pytest.raises(gr.Error, match="Too many requests from your address"):
            await asyncio.create_task(ask("a"))
        free.set()
        assert await asyncio.gather(*asked) == ["done"] * 3
        assert await asyncio.create_task(ask("a")) == "done"
        assert not event_limits._running

    go(story())


@pytest.mark.parametrize(
    ("proxies", "forwarded", "told"),
    [
        ("0", "9.9.9.9", "10.0.0.1"),  # anybody may have written that
        ("1", "6.6.6.6, 9.9.9.9", "9.9.9.9"),
        ("2", "6.6.6.6, 9.9.9.9, 10.0.0.2", "9.9.9.9"),
        ("2", "9.9.9.9", "9.9.9.9"),
        ("1", "", "10.0.0.1"),
        ("1", "6.6.6.6|9.9.9.9", "9.9.9.9"),  # in lines of their own
        ("1", "2001:db8:1:2:3::4", "2001:db8:1:2::/64"),  # one machine has all of these
        ("1", "::ffff:9.9.9.9", "9.9.9.9"),
        ("1", "_hidden", "_hidden"),
    ],
)
def test_an_address_is_what_our_own_outermost_proxy_says(
    proxies: str, forwarded: str, told: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LIVE_NETS_PROXIES", proxies)
    request = gr.Request(
        client=SimpleNamespace(host="10.0.0.1"),
        headers=Headers(raw=[(b"x-forwarded-for", line.encode()) for line in forwarded.split("|")]),
    )
    assert event_limits.address_of(request) == told


def test_too_many_runs_are_ended_where_most_of_them_come_from(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(registry, "MOST_RUNS", 3)

    async def story() -> None:
        runs = {name: await make(steps=3) for name in ("learner", "bot1", "bot2", "bot3")}
        for name, run in runs.items():
            registry.put(name, 1, run, "mine" if name == "learner" else "theirs")
        assert [name for name, run in runs.items() if run.is_over] == ["bot1"]
        assert registry.current("learner", "regression") is runs["learner"]
        for name in runs:
            registry.close(name)

    go(story())


def test_whoever_leaves_while_a_run_begins_leaves_none_behind() -> None:
    async def story() -> None:
        engine = pool._in_process.engine
        await pool.Client(pool._in_process).call(Engine.ping)  # runs of earlier tests are deleted by now
        before = len(engine._runs), pool._in_process.runs
        for _ in range(5):
            beginning = asyncio.create_task(Run.create(LESSON.recipe()))
            await asyncio.sleep(0)
            beginning.cancel()
            with pytest.raises(asyncio.CancelledError):
                await beginning
        await pool.Client(pool._in_process).call(Engine.ping)
        assert (len(engine._runs), pool._in_process.runs) == before

    go(story())
