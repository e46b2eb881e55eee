"""Who waits for the answer to an event: what nobody waits for is not begun, or is ended.

Gradio starts an event when it is sent, and goes on with it when the stream that its answer is read from is gone, or
was never opened. Here the streams that are open are counted, by the name of the page or event that they read for.
"""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager

FIRST_SECONDS = 30  # that an event waits for a reader
AGAIN_SECONDS = 5  # that it goes on without one, since a page closes one stream and opens the next

DIRECT = "live_nets.direct"  # in the scope of a request that is answered itself: the name that it reads for


class AbandonedError(RuntimeError):
    """Nobody waits for this any more."""


class Event:
    """An event that is being answered, to the streams for any of its names; one without names, to its caller."""

    def __init__(self, names: frozenset[str]) -> None:
        self._names = names
        self._read = asyncio.Event()
        self._abandoned = False
        self._timer: asyncio.TimerHandle | None = None
        self._work: asyncio.Timeout | None = None

    def look(self, seconds: float) -> None:
        """Take note of whether anybody reads; if not, somebody has to within so many seconds."""
        if not self._names or any(_readers[name] for name in self._names):
            self._read.set()
            self.close()
        elif self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(seconds, self._abandon)

    def close(self) -> None:
        """Wait for no reader."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _abandon(self) -> None:
        self._abandoned = True
        if self._work is not None:
            self._work.reschedule(asyncio.get_running_loop().time())

    async def read(self) -> None:
        """Wait until there is a first reader."""
        await self._read.wait()

    @asynccontextmanager
    async def awaited(self) -> AsyncIterator[None]:
        """Cancel what is done within, and raise AbandonedError, when nobody waits for it."""
        if self._abandoned:
            raise AbandonedError
        try:
            async with asyncio.timeout(None) as self._work:
                yield
        except TimeoutError as error:
            if not self._abandoned:
                raise
            raise AbandonedError from error
        finally:
            self._work = None


_events: set[Event] = set()
_readers: Counter[str] = Counter()


@contextmanager
def answering(names: frozenset[str]) -> Iterator[Event]:
    """An event for as long as it is being answered."""
    event = Event(names)
    _events.add(event)
    event.look(FIRST_SECONDS)
    try:
        yield event
    finally:
        _events.discard(event)
        event.close()


@contextmanager
def reading(name: str) -> Iterator[None]:
    """A stream for that name, for as long as it is open."""
    _count(name, 1)
    try:
        yield
    finally:
        _count(name, -1)


def _count(name: str, change: int) -> None:
    _readers[name] += change
    if not _readers[name]:
        del _readers[name]
    for event in _events:
        event.look(AGAIN_SECONDS)
