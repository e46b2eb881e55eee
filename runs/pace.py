"""The frame rate: 25 a second, and down to 10 while the server's process or a worker is busy.

With many visitors, frames are the main cost: each takes at least a millisecond of the server's process in Gradio's
queue. With fewer frames, clicks still take effect at once, and runs take no longer, since each frame has more steps.
The addresses with the most runs get fewer frames first; others only if that is not enough.
"""

import asyncio
import time
from collections import Counter

from runs import pool

SLOWEST = 2.5  # largest stretch of the interval between frames
BUSY = 1.25  # stretch from which the page shows a note
LATE_LOOP = 0.01  # seconds of delay of the event loop that count as late
LATE_WORKER = 0.04  # seconds of waiting for a worker that count as late: the interval between frames
PROBE_SECONDS = 0.02
DECAY = 0.9  # of the exponential moving average of delays

watched: Counter[str] = Counter()  # runs that send frames, by address

# Factors of the interval between frames: for the addresses with the most runs, for the others, and for addresses whose
# runs wait for a worker.
_stretch = 1.0
_stretch_of_others = 1.0
_stretches: dict[str, float] = {}


def stretch(address: str = "") -> float:
    """Factor of the interval between frames for an address, from 1 to SLOWEST."""
    # An address with fewer runs than the mean does not cause the delay.
    many = watched[address] * len(watched) >= watched.total()
    return max(_stretch if many else _stretch_of_others, _stretches.get(address, 1.0))


def is_busy(address: str = "") -> bool:
    """Whether frames are noticeably less frequent than usual."""
    return stretch(address) >= BUSY


async def keep() -> None:
    """Adjust the frame rate until cancelled."""
    global _stretch, _stretch_of_others
    late = 0.0
    try:
        while True:
            start = time.monotonic()
            await asyncio.sleep(PROBE_SECONDS)
            late = DECAY * late + (1 - DECAY) * (time.monotonic() - start - PROBE_SECONDS)
            is_late = late > LATE_LOOP
            _stretch_of_others = _adjusted(_stretch_of_others, up=is_late and _stretch >= SLOWEST)
            _stretch = _adjusted(_stretch, up=is_late)
            _adjust_for_workers()
    finally:
        _stretch = _stretch_of_others = 1.0
        _stretches.clear()


def _adjust_for_workers() -> None:
    slow = {each for worker in pool.workers() for each, seconds in worker.delays().items() if seconds > LATE_WORKER}
    for address in {*slow, *_stretches}:
        _stretches[address] = _adjusted(_stretches.get(address, 1.0), up=address in slow)
        if _stretches[address] == 1:
            del _stretches[address]


def _adjusted(value: float, *, up: bool) -> float:
    """The factor after one probe: it reaches SLOWEST within a second, and falls more slowly to avoid oscillation."""
    return min(SLOWEST, value * 1.03) if up else max(1.0, value * 0.985)
