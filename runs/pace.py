"""The frame rate: 25 a second, and down to 10 while the server's process or a worker is busy.

Frames are the cost of a crowd: each takes Gradio's queue a millisecond or more of the server's process. With fewer
frames, clicks are still answered at once, and runs take no longer, since each frame has more steps. The addresses with
the most runs get fewer frames first; others only if that is not enough.
"""

import asyncio
import time
from collections import Counter

from runs import pool

SLOWEST = 2.5  # largest stretch of the interval between frames
BUSY = 1.25  # stretch from which on the page says so
LATE_LOOP = 0.01  # seconds of delay of the event loop that count as late
LATE_WORKER = 0.04  # seconds of waiting for a worker that count as late: the interval between frames
PROBE_SECONDS = 0.02
MEMORY = 0.9  # weight of earlier probes in the moving average

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
            asked = time.monotonic()
            await asyncio.sleep(PROBE_SECONDS)
            late = MEMORY * late + (1 - MEMORY) * (time.monotonic() - asked - PROBE_SECONDS)
            is_late = late > LATE_LOOP
            _stretch_of_others = _moved(_stretch_of_others, up=is_late and _stretch >= SLOWEST)
            _stretch = _moved(_stretch, up=is_late)
            _see_to_turns()
    finally:
        _stretch = _stretch_of_others = 1.0
        _stretches.clear()


def _see_to_turns() -> None:
    slow = {each for worker in pool.workers() for each, seconds in worker.delays().items() if seconds > LATE_WORKER}
    for address in {*slow, *_stretches}:
        _stretches[address] = _moved(_stretches.get(address, 1.0), up=address in slow)
        if _stretches[address] == 1:
            del _stretches[address]


def _moved(value: float, *, up: bool) -> float:
    """The factor after one probe: it reaches SLOWEST within a second, and falls more slowly to avoid oscillation."""
    return min(SLOWEST, value * 1.03) if up else max(1.0, value * 0.985)
