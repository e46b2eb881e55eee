"""Who runs what: at most one run to a visitor's page and lesson, and none once the page is closed."""

import asyncio
from collections import OrderedDict
from weakref import WeakValueDictionary

from charts.text import Text
from runs.run import Run

MOST_RUNS = 512  # kept in memory; beyond it the run that was touched longest ago is ended

CROWDED = Text(
    "So many visitors are here that this run had to end. Press Train again.",
    "访客太多，这次训练只好结束。请再按一次“训练”。",
)

_runs: OrderedDict[tuple[str, str], Run] = OrderedDict()

_turns: WeakValueDictionary[tuple[str, str], asyncio.Lock] = WeakValueDictionary()  # each lives while it is held


def turn(session: str, lesson: str) -> asyncio.Lock:
    """Hold this from looking at the visitor's run to putting another: two clicks may come at once."""
    return _turns.setdefault((session, lesson), asyncio.Lock())


def current(session: str, lesson: str) -> Run | None:
    """The visitor's run of that lesson, if there is one."""
    key = (session, lesson)
    if key in _runs:
        _runs.move_to_end(key)
    return _runs.get(key)


def put(session: str, run: Run) -> None:
    """Make it the visitor's run of its lesson; a former one ends."""
    discard(session, run.lesson.key)
    _runs[session, run.lesson.key] = run
    if len(_runs) > MOST_RUNS:
        _runs.popitem(last=False)[1].end(CROWDED)


def discard(session: str, lesson: str) -> None:
    """End the visitor's run of that lesson and forget it."""
    run = _runs.pop((session, lesson), None)
    if run is not None:
        run.abandon()


def close(session: str) -> None:
    """The visitor's page is closed: end all its runs."""
    for owner, lesson in list(_runs):
        if owner == session:
            discard(owner, lesson)
