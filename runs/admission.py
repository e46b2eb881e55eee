"""Admission control: how many runs train at once, who waits in line, and what one client address may use."""

import asyncio
import math
from collections import Counter
from weakref import WeakValueDictionary

from charts.text import Text
from runs import turns

MOST_TRAINING = 64  # runs at once
MOST_TRAINING_OF_ADDRESS = 40  # of these; a class shares an address
RETRY_MARGIN_SECONDS = 5  # added to the wait in the error message, so that a retry succeeds
LONGEST_LINE = 200  # runs that wait
LONGEST_LINE_OF_ADDRESS = 100

FULL = Text(
    "Too many runs are waiting already. Please press Train again in a minute.",
    "排队的训练已经太多。请过一分钟再按“训练”。",
)
SPENT = Text(
    "Training from your address has used its {limit} seconds of processor time a minute. Please try again in {wait} s.",
    "来自你这个地址的训练已用完每分钟 {limit} 秒的处理器时间。请过 {wait} 秒再试。",
)


class FullError(RuntimeError):
    """The line is full."""


class SpentError(RuntimeError):
    """An address has used up its processor time; `told` is the message in both languages."""

    def __init__(self, message: Text) -> None:
        super().__init__(message.en)
        self.told = message


def refuse_spent(address: str) -> None:
    """Raise SpentError if the address has used up its processor time."""
    if turns.training.is_spent(address):
        wait = math.ceil(turns.training.wait(address) + RETRY_MARGIN_SECONDS)
        raise SpentError(SPENT.format(limit=f"{turns.training.rate:g}", wait=wait))


class Shares:
    """A semaphore for each address: one address never uses the slots of another."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._semaphores: WeakValueDictionary[str, asyncio.Semaphore] = WeakValueDictionary()  # entries live while held

    def of(self, address: str) -> asyncio.Semaphore:
        """The semaphore of an address."""
        return self._semaphores.setdefault(address, asyncio.Semaphore(self._most))


COMPUTING = Shares(24)  # starting a run or a preview: milliseconds
DRAWING = Shares(6)  # writing figures and files: tenths of a second


class Place:
    """A place to train or, until one is free, in the line: `with Place(address) as place:`.

    Entering raises FullError. `rank` is the position in the line, from 1; 0 means that the run may train.
    """

    def __init__(self, address: str) -> None:
        self.address = address
        self.rank = 0
        self.moved = asyncio.Event()  # set when the rank changes; the waiter clears it

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
        """Wait until the run may train."""
        while self.rank:
            await self.moved.wait()
            self.moved.clear()


_places: list[Place] = []  # in order of arrival


def _move_up() -> None:
    """Give free places to the runs that have waited longest, except those of addresses that have used their share."""
    training = Counter(place.address for place in _places if not place.rank)
    rank = 0
    for place in _places:
        if not place.rank:
            continue
        if training.total() < MOST_TRAINING and training[place.address] < MOST_TRAINING_OF_ADDRESS:
            training[place.address] += 1
            new_rank = 0
        else:
            rank += 1
            new_rank = rank
        if new_rank != place.rank:
            place.rank = new_rank
            place.moved.set()


def training_count() -> int:
    """Number of runs that train now."""
    return sum(not place.rank for place in _places)


def waiting_count() -> int:
    """Number of runs in the line."""
    return sum(bool(place.rank) for place in _places)
