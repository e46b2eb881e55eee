"""Who runs what: at most one run to a visitor's page and lesson, none once the page is closed or left alone for long.

And who trains when: so many runs at once, of one address no more than it has a share of, and the others in a line.
"""

import asyncio
import logging
import math
import time
from collections import Counter, OrderedDict
from weakref import WeakValueDictionary

from charts.text import Text
from runs import turns
from runs.run import Run, State

MOST_RUNS = 512  # kept in memory; beyond it one is ended, that was touched longest ago
IDLE_SECONDS = 15 * 60  # that a run may stand without a click
MOST_TRAINING = 64  # at once
MOST_OF_ADDRESS = 40  # of these; a class shares an address
MARGIN_SECONDS = 5  # after which an address that had used up its training has some again
LONGEST_LINE = 200  # of those who wait
LONGEST_LINE_OF_ADDRESS = 100

CROWDED = Text(
    "So many visitors are here that this run had to end. Press Train again.",
    "访客太多，这次训练只好结束。请再按一次“训练”。",
)
PUT_AWAY = Text(
    "This run was put away after 15 minutes without a click. Press Train to start anew.",
    "这次训练 15 分钟没有操作，已被清理。请按“训练”重新开始。",
)
FULL = Text(
    "Too many runs are waiting already. Please press Train again in a minute.",
    "排队的训练已经太多。请过一分钟再按“训练”。",
)
SPENT = Text(
    "Training from your address has used its {limit} seconds of processor time a minute. Please try again in {wait} s.",
    "来自你这个地址的训练已用完每分钟 {limit} 秒的处理器时间。请过 {wait} 秒再试。",
)

_log = logging.getLogger(__name__)
_runs: OrderedDict[tuple[str, str], Run] = OrderedDict()
_touched: dict[tuple[str, str], float] = {}
_from: dict[tuple[str, str], str] = {}  # the address

_turns: WeakValueDictionary[tuple[str, str], asyncio.Lock] = WeakValueDictionary()  # each lives while it is held


class FullError(RuntimeError):
    """Neither a place to train nor one in the line is free."""


class SpentError(RuntimeError):
    """An address has had the training that it may have in a minute; `told` says so, and what the limit is."""

    def __init__(self, told: Text) -> None:
        super().__init__(told.en)
        self.told = told


def refuse_spent(address: str) -> None:
    """Raise SpentError if the address has none of its training left for now."""
    if turns.training.is_spent(address):
        wait = math.ceil(turns.training.wait(address) + MARGIN_SECONDS)
        raise SpentError(SPENT.format(limit=f"{turns.training.rate:g}", wait=wait))


class Shares:
    """What one address may have done at once; what it asks for beyond that waits, and keeps nobody else waiting."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._of: WeakValueDictionary[str, asyncio.Semaphore] = WeakValueDictionary()  # each lives while it is held

    def of(self, address: str) -> asyncio.Semaphore:
        """Hold this while something is done for the address."""
        return self._of.setdefault(address, asyncio.Semaphore(self._most))


COMPUTING = Shares(24)  # a run that begins, or a look at other settings: milliseconds
DRAWING = Shares(6)  # figures and files: tenths of a second


def turn(session: str, lesson: str) -> asyncio.Lock:
    """Hold this from looking at the visitor's run to putting another: two clicks may come at once."""
    return _turns.setdefault((session, lesson), asyncio.Lock())


def current(session: str, lesson: str) -> Run | None:
    """The visitor's run of that lesson, if there is one."""
    key = (session, lesson)
    if key in _runs:
        _runs.move_to_end(key)
        _touched[key] = time.monotonic()
    return _runs.get(key)


def put(session: str, run: Run, address: str = "") -> None:
    """Make it the visitor's run of its lesson; a former one ends. With too many, one of the address that has most."""
    discard(session, run.lesson.key)
    key = (session, run.lesson.key)
    _runs[key], _touched[key], _from[key] = run, time.monotonic(), address
    if len(_runs) > MOST_RUNS:
        ((most, _),) = Counter(_from[each] for each in _runs).most_common(1)
        oldest = next(each for each in _runs if _from[each] == most)
        crowded_out = _runs.pop(oldest)
        del _touched[oldest], _from[oldest]
        crowded_out.end(CROWDED)


def discard(session: str, lesson: str) -> None:
    """End the visitor's run of that lesson and forget it."""
    run = _runs.pop((session, lesson), None)
    _touched.pop((session, lesson), None)
    _from.pop((session, lesson), None)
    if run is not None:
        run.abandon()


def close(session: str) -> None:
    """The visitor's page is closed: end all its runs."""
    for owner, lesson in list(_runs):
        if owner == session:
            discard(owner, lesson)


def end_all(message: Text) -> None:
    """End every run that is on, for a reason that its visitor is told."""
    for run in _runs.values():
        if run.state is State.RUNNING:
            run.end(message)


def put_away_idle() -> None:
    """End the runs that have stood without a click for IDLE_SECONDS; visitors who come back are told."""
    before = time.monotonic() - IDLE_SECONDS
    for key, run in list(_runs.items()):
        if run.state is State.ERROR and _touched[key] < before - IDLE_SECONDS:  # nobody came back to be told
            discard(*key)
        elif run.state is not State.ERROR and not run.watchers and _touched[key] < before:
            run.end(PUT_AWAY)
            _log.info("run put away lesson=%s", run.lesson.key)


def kept() -> int:
    """How many runs are kept in memory."""
    return len(_runs)


class Place:
    """A place to train, or for now one in the line for it: `with Place(address) as place:`.

    Entering raises FullError. `rank` is how many wait before this one, itself included; 0 means go.
    """

    def __init__(self, address: str) -> None:
        self.address = address
        self.rank = 0
        self.moved = asyncio.Event()  # whenever the rank has changed; whoever waits for it clears it

    def __enter__(self) -> "Place":
        waiting = [place for place in _places if place.rank]
        of_address = sum(place.address == self.address for place in waiting)
        if len(waiting) >= LONGEST_LINE or of_address >= LONGEST_LINE_OF_ADDRESS:
            raise FullError(FULL.en)
        self.rank = len(waiting) + 1
        _places.append(self)
        _move_up()
        return self

    def __exit__(self, *error: object) -> None:
        _places.remove(self)
        _move_up()

    async def ready(self) -> None:
        """Wait until it is a place to train."""
        while self.rank:
            await self.moved.wait()
            self.moved.clear()


_places: list[Place] = []  # in the order in which they were asked for


def _move_up() -> None:
    """Give free places to those who wait longest, passing over addresses that have their share."""
    training = Counter(place.address for place in _places if not place.rank)
    rank = 0
    for place in _places:
        if not place.rank:
            continue
        if training.total() < MOST_TRAINING and training[place.address] < MOST_OF_ADDRESS:
            training[place.address] += 1
            now = 0
        else:
            rank += 1
            now = rank
        if now != place.rank:
            place.rank = now
            place.moved.set()


def training() -> int:
    """How many runs train now."""
    return sum(not place.rank for place in _places)


def waiting() -> int:
    """How many wait for a place."""
    return sum(bool(place.rank) for place in _places)
