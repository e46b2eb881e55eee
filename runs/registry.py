"""Runs of open pages: one for each page and lesson, until the page is closed or left idle.

Runs of the API's /train are not registered; they end with their request.
"""

import asyncio
import logging
import time
from collections import Counter, OrderedDict
from weakref import WeakValueDictionary

from charts.text import Text
from runs.run import Run, State

MOST_RUNS = 512  # in memory; see `put`
IDLE_SECONDS = 15 * 60  # without a click, after which a run is ended

CROWDED = Text(
    "There are too many visitors, so this run was ended. Press Train again.",
    "访客太多，这次训练只好结束。请再按一次“训练”。",
)
PUT_AWAY = Text(
    "This run was ended after 15 minutes without a click. Press Train to start a new one.",
    "这次训练 15 分钟没有操作，已被清理。请按“训练”重新开始。",
)

_log = logging.getLogger(__name__)
_runs: OrderedDict[tuple[str, str], Run] = OrderedDict()
_last_used: dict[tuple[str, str], float] = {}
_addresses: dict[tuple[str, str], str] = {}

_locks: WeakValueDictionary[tuple[str, str], asyncio.Lock] = WeakValueDictionary()  # entries live while held


def lock(session: str, lesson: str) -> asyncio.Lock:
    """The lock for reading and replacing a visitor's run: two clicks may arrive at once."""
    return _locks.setdefault((session, lesson), asyncio.Lock())


def current(session: str, lesson: str) -> Run | None:
    """The visitor's run of that lesson, or None."""
    key = (session, lesson)
    if key in _runs:
        _runs.move_to_end(key)
        _last_used[key] = time.monotonic()
    return _runs.get(key)


def put(session: str, run: Run, address: str = "") -> None:
    """Register the visitor's run of its lesson, and end the previous one.

    Beyond MOST_RUNS, the least recently used run of the address with the most runs is ended.
    """
    discard(session, run.lesson.key)
    key = (session, run.lesson.key)
    _runs[key], _last_used[key], _addresses[key] = run, time.monotonic(), address
    if len(_runs) > MOST_RUNS:
        ((most, _),) = Counter(_addresses[each] for each in _runs).most_common(1)
        oldest = next(each for each in _runs if _addresses[each] == most)
        evicted = _runs.pop(oldest)
        del _last_used[oldest], _addresses[oldest]
        evicted.end(CROWDED)


def discard(session: str, lesson: str) -> None:
    """End the visitor's run of that lesson and delete it."""
    run = _runs.pop((session, lesson), None)
    _last_used.pop((session, lesson), None)
    _addresses.pop((session, lesson), None)
    if run is not None:
        run.abandon()


def close(session: str) -> None:
    """End all runs of a page that was closed."""
    for owner, lesson in list(_runs):
        if owner == session:
            discard(owner, lesson)


def end_all(message: Text) -> None:
    """End all running runs, and show the message to their visitors."""
    for run in _runs.values():
        if run.state is State.RUNNING:
            run.end(message)


def end_idle() -> None:
    """End the runs without a click for IDLE_SECONDS; delete them after as long again, so that visitors see why."""
    before = time.monotonic() - IDLE_SECONDS
    for key, run in list(_runs.items()):
        if run.state is State.ERROR and _last_used[key] < before - IDLE_SECONDS:
            discard(*key)
        elif run.state is not State.ERROR and not run.watchers and _last_used[key] < before:
            run.end(PUT_AWAY)
            _log.info("idle run ended lesson=%s", run.lesson.key)


def count() -> int:
    """Number of runs in memory."""
    return len(_runs)
