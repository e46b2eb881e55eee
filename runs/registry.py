"""Runs of open pages: one for each page and lesson, until the page is closed or left idle.

They are a cache: a page sends the recipe and the step of its run with each command, so a run that is not here is
trained again. Runs of the API's /train are not registered; they end with their request.
"""

import logging
import time
from collections import Counter, OrderedDict
from dataclasses import dataclass, field

from runs.run import Run

MOST_RUNS = 512  # in memory; see `put`
IDLE_SECONDS = 15 * 60  # without a command, after which a run is deleted

_log = logging.getLogger(__name__)

Key = tuple[str, str]  # page and lesson


@dataclass(eq=False)
class _Entry:
    number: int  # given by the page
    run: Run
    address: str
    used: float = field(default_factory=time.monotonic)


_runs: OrderedDict[Key, _Entry] = OrderedDict()


def current(page: str, lesson: str, number: int | None = None) -> Run | None:
    """The page's run of that lesson, or None; with `number`, only if the run has that number."""
    entry = _runs.get((page, lesson))
    if entry is None or number not in (None, entry.number):
        return None
    _runs.move_to_end((page, lesson))
    entry.used = time.monotonic()
    return entry.run


def put(page: str, number: int, run: Run, address: str = "") -> None:
    """Register the page's run of its lesson, and delete the previous one.

    Beyond MOST_RUNS, the least recently used run that nobody watches is deleted, of the address with the most runs.
    """
    discard(page, run.lesson.key)
    _runs[page, run.lesson.key] = _Entry(number, run, address)
    if len(_runs) > MOST_RUNS:
        unwatched = [key for key, entry in _runs.items() if not entry.run.watchers and entry.run is not run]
        if unwatched:
            ((most, _),) = Counter(_runs[key].address for key in unwatched).most_common(1)
            discard(*next(key for key in unwatched if _runs[key].address == most))


def discard(page: str, lesson: str) -> None:
    """Delete the page's run of that lesson."""
    entry = _runs.pop((page, lesson), None)
    if entry is not None:
        entry.run.abandon()


def close(page: str) -> None:
    """Delete all runs of a page."""
    for owner, lesson in list(_runs):
        if owner == page:
            discard(owner, lesson)


def delete_idle() -> None:
    """Delete the runs that nobody watches, without a command for IDLE_SECONDS."""
    before = time.monotonic() - IDLE_SECONDS
    for key, entry in list(_runs.items()):
        if not entry.run.watchers and entry.used < before:
            discard(*key)
            _log.info("idle run deleted lesson=%s", key[1])


def count() -> int:
    """Number of runs in memory."""
    return len(_runs)
