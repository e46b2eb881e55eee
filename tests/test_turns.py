"""Whose turn it is: processor time by address, then by run, and what an address may train in a minute."""

import asyncio
from types import SimpleNamespace

import pytest

from nets import TRAININGS
from runs import admission, pace, pool, turns
from runs.admission import SpentError
from runs.turns import Allowance, Call, Owner, Turns
from server import settings
from tabs import open_page
from tests.test_runs import go, make


def served(owners: list[Owner], seconds: dict[Owner, float], times: int, ahead: float = 0.0) -> list[Owner]:
    """Who is served, one after the other, where each asks anew as soon as it is answered."""

    async def story() -> list[Owner]:
        waiting, served, numbers = Turns(ahead), list[Owner](), iter(range(10**6))

        def ask(owner: Owner) -> None:
            future = asyncio.get_running_loop().create_future()
            waiting.put(Call(next(numbers), "advance", owner, b"", future))

        for owner in owners:
            ask(owner)
        while len(served) < times:
            call = waiting.take()
            assert call is not None
            served.append(call.owner)
            waiting.done(call.number, seconds.get(call.owner, 0.01))
            ask(call.owner)
        return served

    return go(story())


def test_addresses_share_a_thread_however_many_runs_each_has() -> None:
    many: list[Owner] = [("many", run) for run in range(20)]
    order = served([*many, ("one", 99)], {}, 200)
    assert order.count(("one", 99)) == pytest.approx(100, abs=3)
    assert {order.count(each) for each in many} == {5}


def test_the_runs_of_an_address_share_what_it_has_by_time_and_not_by_calls() -> None:
    heavy, light = ("class", 1), ("class", 2)
    order = served([heavy, light], {heavy: 0.03, light: 0.01}, 200)
    assert order.count(light) == pytest.approx(3 * order.count(heavy), abs=4)


def test_who_comes_late_starts_level_with_the_others_and_has_nothing_saved() -> None:
    async def story() -> list[str]:
        waiting, order = Turns(0.0), []

        def ask(number: int, address: str) -> None:
            waiting.put(Call(number, "frame", (address, 1), b"", asyncio.get_running_loop().create_future()))

        ask(0, "early")
        for number in range(1, 101):
            ask(number, "early")
            if number >= 90:
                ask(1000 + number, "late")
            call = waiting.take()
            assert call is not None
            order.append(call.owner[0])
            waiting.done(call.number, 0.01)
        return order[90:]

    assert go(story()).count("late") == pytest.approx(5, abs=1)


def test_a_thread_has_no_more_to_do_in_advance_than_little_time_and_nothing_that_nobody_waits_for() -> None:
    async def story() -> None:
        waiting = Turns(0.01)
        calls = [Call(n, "frame", ("a", n), b"", asyncio.get_running_loop().create_future()) for n in range(8)]
        for call in calls:
            waiting.put(call)
        calls[1].future.cancel()
        assert waiting.take() is calls[0]
        assert waiting.take() is None  # how long it takes is unknown
        waiting.done(0, 0.004)
        assert [waiting.take() for _ in range(4)] == [*calls[2:5], None]

    go(story())


def test_an_address_may_train_so_many_seconds_a_minute_and_gets_them_back() -> None:
    now = 1000.0
    allowance = Allowance(90, lambda: now)
    allowance.spend("a", 89)
    assert not allowance.is_spent("a")
    allowance.spend("a", 4)
    assert allowance.is_spent("a")
    assert not allowance.is_spent("b")
    assert allowance.wait("a") == 2  # seconds, at a second and a half each
    now += 2.1
    assert not allowance.is_spent("a")
    allowance.spend("", 1000)  # no visitor's
    assert not allowance.is_spent("")


def test_an_address_that_has_used_its_minute_is_told_what_the_limit_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(turns, "training", Allowance(90, lambda: 0.0))
    admission.refuse_spent("a")
    turns.training.spend("a", 93)
    with pytest.raises(
        SpentError, match=r"its 90 seconds of processor time a minute. Please try again in 7 s\."
    ) as told:
        admission.refuse_spent("a")
    assert "每分钟 90 秒" in told.value.told.zh
    frame = go(make(steps=3)).frame
    assert open_page._note(frame, "a") == open_page.SLOWED.format(limit="90")
    assert open_page._note(frame, "b") == ""


def test_training_is_counted_to_the_address_that_asked_for_it_and_waits_where_nothing_is_left(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    now = 0.0
    allowance = Allowance(60, lambda: now)
    monkeypatch.setattr(turns, "training", allowance)

    async def story() -> None:
        nonlocal now
        turns.address.set("a")
        run = await make(steps=20)
        await run.step()
        assert 0 < allowance.used("a") < 10
        allowance.spend("a", 60)
        stepping = asyncio.create_task(run.step())
        for _ in range(3):
            await asyncio.sleep(0)
        assert run.frame.encoded.step == 1
        run.pause()  # which is not kept waiting
        now = 3600.0
        await stepping
        assert (await run.step()).encoded.step == 2

    go(story())


def test_frames_become_fewer_for_an_address_whose_runs_wait_and_recover(monkeypatch: pytest.MonkeyPatch) -> None:
    waits = {"attacker": 0.2, "learner": 0.01}
    monkeypatch.setattr(pool, "workers", lambda: [SimpleNamespace(delays=lambda: waits)])
    monkeypatch.setattr(pace, "_stretches", {})
    for _ in range(8):
        pace._adjust()
    assert pace.is_busy("attacker")
    assert (pace.is_busy("learner"), pace.stretch("learner")) == (False, 1.0)
    for _ in range(50):
        pace._adjust()
    assert pace.stretch("attacker") == pace.largest_stretch() == pace.SLOWEST
    waits.clear()
    for _ in range(100):
        pace._adjust()
    assert pace.largest_stretch() == 1.0
    assert not pace._stretches  # nothing is kept of an address that has recovered


def test_a_class_behind_one_address_may_train_the_tutorials_runs_all_at_once() -> None:
    assert len(TRAININGS) == 8
    assert (
        turns.TRAINING_RATE * settings.DEFAULT_WORKERS == 90
    )  # seconds; the longest of them takes one, and a class is thirty
