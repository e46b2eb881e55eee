"""Tracks which clients read the answers of Gradio events; events without a reader are not started, or are cancelled.

Gradio starts an event when it is submitted and runs it to its end, even if the stream that carries its answer was
closed or never opened. Here the open streams are counted by name: the client's session hash or the event's id.
"""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager

FIRST_READER_SECONDS = 30  # that an event waits for its first reader
NEXT_READER_SECONDS = 5  # that an event runs without a reader: a client closes one stream before it opens the next

DIRECT = "live_nets.direct"  # scope key of a request that carries its own answer: the stream name made up for it


class AbandonedError(RuntimeError):
    """No client reads the answer."""


class _Event:
    """A running event. Any stream with one of its names carries its answer; without names, it counts as read."""

    def __init__(self, names: frozenset[str]) -> None:
        self._names = names
        self.has_reader = asyncio.Event()
        self.deadline = asyncio.timeout(None)  # without a reader

    def check(self, seconds: float) -> None:
        """End the event in `seconds` unless a stream with one of its names is open then."""
        if self.deadline.expired():
            return
        if not self._names or any(_readers[name] for name in self._names):
            self.has_reader.set()
            self.deadline.reschedule(None)
        elif self.deadline.when() is None:
            self.end(seconds)

    def end(self, seconds: float) -> None:
        """Cancel the event in `seconds`."""
        self.deadline.reschedule(asyncio.get_running_loop().time() + seconds)


_events: set[_Event] = set()
_readers: Counter[str] = Counter()


@asynccontextmanager
async def answering(names: frozenset[str]) -> AsyncIterator[None]:
    """Start the block when a stream with one of these names is open, and cancel it when none is open any more.

    Raises AbandonedError.
    """
    event = _Event(names)
    try:
        async with event.deadline:
            _events.add(event)
            event.check(FIRST_READER_SECONDS)
            await event.has_reader.wait()
            yield
    except TimeoutError as error:
        if not event.deadline.expired():
            raise
        raise AbandonedError from error
    finally:
        _events.discard(event)


def end_all() -> None:
    """Cancel all events, since the server is shutting down."""
    for event in _events:
        if not event.deadline.expired():
            event.end(0)


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
        event.check(NEXT_READER_SECONDS)
