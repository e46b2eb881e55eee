"""The frame rate: 25 a second, and down to 10 for an address whose runs wait for a worker.

With fewer frames, clicks still take effect at once, and runs take no longer, since each frame has more steps.
"""

import asyncio

from runs import pool

SLOWEST = 2.5  # largest stretch of the interval between frames
BUSY = 1.25  # stretch from which the page shows a note
LATE_WORKER = 0.04  # seconds of waiting for a worker that count as late: the interval between frames
PROBE_SECONDS = 0.02

_stretches: dict[str, float] = {}  # factors of the interval between frames, by address


def stretch(address: str) -> float:
    """Factor of the interval between frames for an address, from 1 to SLOWEST."""
    return _stretches.get(address, 1.0)


def largest_stretch() -> float:
    """The factor of the address whose runs wait longest."""
    return max(_stretches.values(), default=1.0)


def is_busy(address: str) -> bool:
    """Whether frames are noticeably less frequent than usual."""
    return stretch(address) >= BUSY


async def keep() -> None:
    """Adjust the frame rates until cancelled."""
    try:
        while True:
            await asyncio.sleep(PROBE_SECONDS)
            _adjust()
    finally:
        _stretches.clear()


def _adjust() -> None:
    slow = {each for worker in pool.workers() for each, seconds in worker.delays().items() if seconds > LATE_WORKER}
    for address in {*slow, *_stretches}:
        _stretches[address] = _adjusted(_stretches.get(address, 1.0), up=address in slow)
        if _stretches[address] == 1:
            del _stretches[address]


def _adjusted(value: float, *, up: bool) -> float:
    """The factor after one probe: it reaches SLOWEST within a second, and falls more slowly to avoid oscillation."""
    return min(SLOWEST, value * 1.03) if up else max(1.0, value * 0.985)
