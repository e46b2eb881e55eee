"""Fair shares of processor time: first among addresses, then among the runs of an address."""

import asyncio
import time
from collections import deque
from collections.abc import Callable, Hashable, Iterable
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

AHEAD = 0.01  # seconds of work sent to a thread in advance, so that it does not wait for this process
FIRST_ESTIMATE = 0.02  # seconds; of the first call of a method
DECAY = 0.8  # of the exponential moving average of a method's duration
MAX_KEYS = 1000  # of a _VirtualClock or an Allowance
TRAINING_RATE = 45  # seconds of processor time a minute that an address may train, for each worker

# Client address of the request that is being handled; empty outside of requests.
address: ContextVar[str] = ContextVar("address", default="")

Owner = tuple[str, int]  # client address and number of the run, 0 for calls without a run

Key = TypeVar("Key", bound=Hashable)


@dataclass(eq=False)
class Call:
    """A call that waits for a worker thread, and the future for its result."""

    number: int
    method: str
    owner: Owner
    content: bytes
    future: "asyncio.Future[Any]"
    created: float = field(default_factory=time.monotonic)
    estimate: float = 0.0  # seconds charged in advance


class _VirtualClock(Generic[Key]):
    """Processor time used by each key. A new or returning key starts at the time of the key served last."""

    def __init__(self) -> None:
        self._used: dict[Key, float] = {}  # seconds
        self._now = 0.0

    def enter(self, key: Key) -> None:
        self._used[key] = max(self._used.get(key, 0.0), self._now)
        if len(self._used) > MAX_KEYS:  # earlier keys are equivalent to new ones
            self._used = {key: used for key, used in self._used.items() if used > self._now}

    def first(self, keys: Iterable[Key]) -> Key:
        """The key that has used the least time."""
        key = min(keys, key=lambda each: self._used.get(each, self._now))
        self._now = self._used.get(key, self._now)
        return key

    def charge(self, key: Key, seconds: float) -> None:
        self._used[key] = self._used.get(key, self._now) + seconds


class _Runs:
    """The waiting calls of one address, by run."""

    def __init__(self) -> None:
        self.clock: _VirtualClock[int] = _VirtualClock()
        self.waiting: dict[int, deque[Call]] = {}


class Turns:
    """Queue of the calls for one worker thread: start-time fair queueing with measured durations.

    P. Goyal, H. M. Vin, H. Cheng, "Start-time fair queueing", IEEE/ACM Transactions on Networking 5(5), 1997.
    """

    def __init__(self, ahead: float) -> None:
        self._ahead = ahead
        self._addresses: _VirtualClock[str] = _VirtualClock()
        self._waiting: dict[str, _Runs] = {}
        self._sent: dict[int, Call] = {}
        self._durations: dict[str, float] = {}  # seconds, by method

    def put(self, call: Call) -> None:
        """Add a call."""
        address, run = call.owner
        if address not in self._waiting:
            self._waiting[address] = _Runs()
            self._addresses.enter(address)
        runs = self._waiting[address]
        if run not in runs.waiting:
            runs.waiting[run] = deque()
            runs.clock.enter(run)
        runs.waiting[run].append(call)

    def take(self) -> Call | None:
        """The next call for the thread; None if none waits or enough work was sent in advance."""
        while self._waiting:
            ahead = sum(call.estimate for call in self._sent.values())
            if self._sent and ahead >= self._ahead:
                return None
            address = self._addresses.first(self._waiting)
            runs = self._waiting[address]
            run = runs.clock.first(runs.waiting)
            call = runs.waiting[run].popleft()
            if not runs.waiting[run]:
                del runs.waiting[run]
            if not runs.waiting:
                del self._waiting[address]
            if call.future.done():  # the caller has given up
                continue
            call.estimate = self._durations.get(call.method, FIRST_ESTIMATE)
            self._charge(call, call.estimate)
            self._sent[call.number] = call
            return call
        return None

    def done(self, number: int, seconds: float) -> None:
        """Record that the call with that number took so many seconds of processor time."""
        call = self._sent.pop(number, None)
        if call is not None:
            self._charge(call, seconds - call.estimate)
            before = self._durations.get(call.method, seconds)
            self._durations[call.method] = DECAY * before + (1 - DECAY) * seconds

    def _charge(self, call: Call, seconds: float) -> None:
        address, run = call.owner
        self._addresses.charge(address, seconds)
        if address in self._waiting:
            self._waiting[address].clock.charge(run, seconds)

    def delays(self, now: float) -> dict[str, float]:
        """Seconds that the oldest call of each waiting address has waited at `now` (time.monotonic)."""
        return {
            address: now - min(calls[0].created for calls in runs.waiting.values())
            for address, runs in self._waiting.items()
        }


class Allowance:
    """A token bucket for each address: `rate` a minute, and `most` (by default `rate`) at once."""

    def __init__(self, rate: float, clock: Callable[[], float] = time.monotonic, most: float | None = None) -> None:
        self.rate = rate
        self._most = rate if most is None else most
        self._clock = clock
        self._used: dict[str, tuple[float, float]] = {}  # used tokens, and the time of the entry

    def used(self, address: str) -> float:
        """Used tokens that have not been refilled."""
        used, then = self._used.get(address, (0.0, 0.0))
        return max(0.0, used - (self._clock() - then) * self.rate / 60)

    def spend(self, address: str, amount: float) -> None:
        """Use tokens of an address; work outside of requests, with an empty address, is free."""
        if not address:
            return
        self._used[address] = self.used(address) + amount, self._clock()
        if len(self._used) > MAX_KEYS:
            self._used = {each: used for each, used in self._used.items() if self.used(each)}

    def is_spent(self, address: str) -> bool:
        """Whether no token is left."""
        return self.used(address) >= self._most

    def wait(self, address: str) -> float:
        """Seconds until a token is left."""
        return max(0.0, self.used(address) - self._most) * 60 / self.rate


# Tokens are seconds of processor time; `pool.opened` sets the rate for its number of workers.
training = Allowance(TRAINING_RATE * 2)
