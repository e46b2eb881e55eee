"""All runs in memory: one for each visitor's page and lesson, until the page is closed or left idle."""

import asyncio
import logging
import time
from collections import Counter, OrderedDict
from weakref import WeakValueDictionary

from charts.text import Text
from runs.run import Run, State

MOST_RUNS = 512  # in memory; one more ends the one that was used longest ago
IDLE_SECONDS = 15 * 60  # without a click, after which a run is ended

CROWDED = Text(
    "So many visitors are here that this run had to end. Press Train again.",
    "访客太多，这次训练只好结束。请再按一次“训练”。",
)
PUT_AWAY = Text(
    "This run was ended after 15 minutes without a click. Press Train to start a new one.",
    "这次训练 15 分钟没有操作，已被清理。请按“训练”重新开始。",
)

_log = logging.getLogger(__name__)
_runs: OrderedDict[tuple[str, str], Run] = OrderedDict()
_used: dict[tuple[str, str], float] = {}
_addresses: dict[tuple[str, str], str] = {}

_locks: WeakValueDictionary[tuple[str, str], asyncio.Lock] = WeakValueDictionary()  # each lives while it is held


def lock(session: str, lesson: str) -> asyncio.Lock:
    """Hold this from reading the visitor's run to replacing it: two clicks may arrive at once."""
    return _locks.setdefault((session, lesson), asyncio.Lock())


def current(session: str, lesson: str) -> Run | None:
    """The visitor's run of that lesson, or None."""
    key = (session, lesson)
    if key in _runs:
        _runs.move_to_end(key)
        _used[key] = time.monotonic()
    return _runs.get(key)


def put(session: str, run: Run, address: str = "") -> None:
    """Make it the visitor's run of its lesson, and end the former one.

    Beyond MOST_RUNS, the oldest run of the address with the most runs ends.
    """
    discard(session, run.lesson.key)
    key = (session, run.lesson.key)
    _runs[key], _used[key], _addresses[key] = run, time.monotonic(), address
    if len(_runs) > MOST_RUNS:
        ((most, _),) = Counter(_addresses[each] for each in _runs).most_common(1)
        oldest = next(each for each in _runs if _addresses[each] == most)
        crowded_out = _runs.pop(oldest)
        del _used[oldest], _addresses[oldest]
        crowded_out.end(CROWDED)


def discard(session: str, lesson: str) -> None:
    """End the visitor's run of that lesson and forget it."""
    run = _runs.pop((session, lesson), None)
    _used.pop((session, lesson), None)
    _addresses.pop((session, lesson), None)
    if run is not None:
        run.abandon()


def close(session: str) -> None:
    """End all runs of a page that was closed."""
    for owner, lesson in list(_runs):
        if owner == session:
            discard(owner, lesson)


def end_all(message: Text) -> None:
    """End every running run, and show its visitor the message."""
    for run in _runs.values():
        if run.state is State.RUNNING:
            run.end(message)


def end_idle() -> None:
    """End the runs without a click for IDLE_SECONDS; forget them once their visitor had as long to see the message."""
    before = time.monotonic() - IDLE_SECONDS
    for key, run in list(_runs.items()):
        if run.state is State.ERROR and _used[key] < before - IDLE_SECONDS:
            discard(*key)
        elif run.state is not State.ERROR and not run.watchers and _used[key] < before:
            run.end(PUT_AWAY)
            _log.info("idle run ended lesson=%s", run.lesson.key)


def count() -> int:
    """Number of runs in memory."""
    return len(_runs)
