"""Tracks which clients read the answers of Gradio events; events without a reader are not started, or are cancelled.

Gradio starts an event when it is submitted and runs it to its end, even if the stream that carries its answer was
closed or never opened. Here the open streams are counted by name: the page's session hash or the event's id.
"""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager

FIRST_READER_SECONDS = 30  # that an event waits for its first reader
NEXT_READER_SECONDS = 5  # that an event runs without a reader: a page closes one stream before it opens the next

DIRECT = "live_nets.direct"  # scope key of a request that carries its own answer: the stream name made up for it


class AbandonedError(RuntimeError):
    """No client reads the answer."""


class Event:
    """A running event. Any stream with one of its names carries its answer; without names, it counts as read."""

    def __init__(self, names: frozenset[str]) -> None:
        self._names = names
        self._has_reader = asyncio.Event()
        self._abandoned = False
        self._timer: asyncio.TimerHandle | None = None
        self._work: asyncio.Timeout | None = None

    def check_readers(self, seconds: float) -> None:
        """Abandon the event in `seconds` unless a stream with one of its names is open then."""
        if not self._names or any(_readers[name] for name in self._names):
            self._has_reader.set()
            self.cancel_timer()
        elif self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(seconds, self._abandon)

    def cancel_timer(self) -> None:
        """Do not abandon the event."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _abandon(self) -> None:
        self._abandoned = True
        if self._work is not None:
            self._work.reschedule(asyncio.get_running_loop().time())

    async def first_reader(self) -> None:
        """Wait for the first reader."""
        await self._has_reader.wait()

    @asynccontextmanager
    async def cancelled_if_abandoned(self) -> AsyncIterator[None]:
        """Cancel the block and raise AbandonedError when the event is abandoned."""
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
    """The event with these stream names, while it runs."""
    event = Event(names)
    _events.add(event)
    event.check_readers(FIRST_READER_SECONDS)
    try:
        yield event
    finally:
        _events.discard(event)
        event.cancel_timer()


@contextmanager
def reading(name: str) -> Iterator[None]:
    """Count an open stream of that name."""
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
        event.check_readers(NEXT_READER_SECONDS)
